"""Who may import whom: `benchmark` ← `reference_models`, `leaderboard`; only the command's files see all.

`tasks` is what the others read prompts and worlds from, and imports none of them.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("benchmark", "leaderboard", "reference_models", "tasks")
MAY_IMPORT = {
    "benchmark": {"tasks"},
    "leaderboard": {"benchmark"},
    "reference_models": {"benchmark", "tasks"},
    "tasks": set(),
}
"""Package → the others that it may import, anywhere in a file: a function's imports are imports too."""


def is_command(path: Path) -> bool:
    return path.parent == ROOT / "benchmark" and path.name.startswith("cli")


def imported(text: str) -> set[str]:
    """Full names of the modules that a file imports, and of what it takes from them."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here, so that this test can read them"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files(package: str) -> list[Path]:
    return [path for path in sorted((ROOT / package).rglob("*.py")) if not is_command(path)]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_those_below_it(package):
    found = files(package)
    assert found
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in found
        for name in sorted(imported(path.read_text(encoding="utf-8")))
        if name.partition(".")[0] in set(PACKAGES) - {package} - MAY_IMPORT[package]
    ]
    assert wrong == []


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_but_the_command_imports_the_command(package):
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files(package)
        for name in sorted(imported(path.read_text(encoding="utf-8")))
        if name.startswith("benchmark.cli")
    ]
    assert wrong == []


def test_every_way_of_importing_is_seen():
    text = """
import leaderboard.board as board, os
from leaderboard import row
if True:
    from reference_models.plan import (
        Hours,
    )
def later():
    import tasks
    from benchmark import cli_plan
"""
    assert imported(text) == {
        *("leaderboard.board", "os", "leaderboard.row", "reference_models.plan.Hours", "tasks", "benchmark.cli_plan")
    }
