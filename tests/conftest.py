"""What every test may use: the shared data folder, and a hypothesis profile that gives the same examples every time."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("ci")

# One thread is the fastest for models this small, and many times faster than two where the cores are busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# Submissions of tests are of a few prompts and samples; who asks for whole ones takes this away.
os.environ.setdefault("GENDIV_TRIAL", "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """``data`` in the shared folder: GENDIV_SHARED, or `shared` beside the repository."""
    shared = Path(os.environ.get("GENDIV_SHARED") or Path(__file__).parents[2] / "shared")
    if not (shared / "data").is_dir():
        pytest.skip(f"no real data: {shared / 'data'} is no folder; set GENDIV_SHARED to the folder that holds `data`")
    return shared / "data"
