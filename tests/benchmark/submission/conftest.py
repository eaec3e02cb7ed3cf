import functools
from pathlib import Path
from typing import Any

import pytest
from tiny_submissions import Tiny, make_chat_judged, make_imported, make_submission

import benchmark.judging.config
import benchmark.opened
import benchmark.suites


def _once(function: Any) -> Any:
    kept: dict[str, Any] = {}

    @functools.wraps(function)
    def read(*arguments: Any) -> Any:
        key = arguments[0].id if arguments else ""
        if key not in kept:
            kept[key] = function(*arguments)
        return kept[key]

    return read


OURS = [
    (module, name, _once(getattr(module, name)))
    for module, name in (
        (benchmark.suites, "load_suites"),
        (benchmark.opened, "load_prompts"),
        (benchmark.judging.config, "load_judge_configs"),
    )
]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read our own YAML and write the prompts once, and not with every submission."""
    for module, name, once in OURS:
        monkeypatch.setattr(module, name, once)


@pytest.fixture(scope="session")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A valid submission; not to be changed."""
    return make_submission(tmp_path_factory.mktemp("honest"))


@pytest.fixture(scope="session")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A valid submission of outputs made elsewhere; not to be changed."""
    return make_imported(tmp_path_factory.mktemp("imported"))


@pytest.fixture(scope="session")
def chatted(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A valid submission that is scored by a chat judge; not to be changed."""
    return make_chat_judged(tmp_path_factory.mktemp("chatted"))


@pytest.fixture
def tiny(honest: Tiny, tmp_path: Path) -> Tiny:
    """A copy of a valid submission, to be made another."""
    return honest.copy(tmp_path / "submissions")
