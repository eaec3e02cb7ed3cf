"""What every test may use: the shared data folder, and a hypothesis profile that gives the same examples every time."""

import os
from collections.abc import Iterator
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that have slow tests, so that none of them is left to one process at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """``data`` in the shared folder: GENDIV_SHARED, or `shared` beside the repository."""
    shared = Path(os.environ.get("GENDIV_SHARED") or Path(__file__).parents[2] / "shared")
    if not (shared / "data").is_dir():
        pytest.skip(f"no real data: {shared / 'data'} is no folder; set GENDIV_SHARED to the folder that holds `data`")
    return shared / "data"


def _data_root_again(before: str | None) -> None:
    if before is None:
        os.environ.pop("GENDIV_DATA", None)
    else:
        os.environ["GENDIV_DATA"] = before


@pytest.fixture(autouse=True, scope="module")
def data_root_of_the_module() -> Iterator[None]:
    """Forget after a module what `benchmark.pipeline.use_data` told the process: files are run in any order."""
    before = os.environ.get("GENDIV_DATA")
    yield
    _data_root_again(before)


@pytest.fixture(autouse=True)
def data_root_of_the_test(data_root_of_the_module: None) -> Iterator[None]:
    """Forget it after a test as well."""
    before = os.environ.get("GENDIV_DATA")
    yield
    _data_root_again(before)
