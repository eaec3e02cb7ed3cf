import pytest
from data_root import make_data_root

from benchmark.data import sources


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A data root of invented rows, set."""
    folder = make_data_root(tmp_path / "data")
    monkeypatch.setenv(sources.DATA_ROOT, str(folder))
    return folder
