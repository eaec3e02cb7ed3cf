"""A package of somebody else's, installed as pip would leave it: a module and its entry points."""

from __future__ import annotations

from pathlib import Path

METRIC = '''
def questions(prompts, outputs):
    """Share of outputs that end in a question mark."""
    return [sum(text.rstrip().endswith("?") for text in texts) / len(texts) for texts in outputs]

questions.direction = "describes"
questions.range = "[0, 1]"
'''
JUDGE = '''
def shorter(prompts, outputs, references):
    """Prefer the shorter text."""
    return [float(len(output) < len(reference)) for output, reference in zip(outputs, references)]
'''


def install(site: Path, code: str, *, metrics: str = "", judges: str = "", name: str = "elsewhere") -> Path:
    """Write a package into a folder that is on the import path; ``metrics`` and ``judges`` are entry point lines."""
    site.mkdir(parents=True, exist_ok=True)
    (site / f"{name}.py").write_text(code, encoding="utf-8")
    info = site / f"{name}-1.2.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n", encoding="utf-8")
    groups = {"gendiv.metrics": metrics, "gendiv.judges": judges}
    text = "".join(f"[{group}]\n{lines}\n" for group, lines in groups.items() if lines)
    (info / "entry_points.txt").write_text(text, encoding="utf-8")
    return site
