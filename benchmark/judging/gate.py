"""Quality gates by a judge's scores: a sample counts if it is about as good as most references are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml
from pydantic import ValidationError

from benchmark.errors import UserError
from benchmark.judging.runs import Judged, judged, judged_by_task
from benchmark.opened import Opened
from benchmark.records import Sample
from benchmark.runs import first_problem
from benchmark.suites import Gate

QUANTILE = 0.1
"""Nine of ten references pass."""


def freeze(opened: Opened, judge: str, name: str, quantile: float = QUANTILE) -> Gate:
    """Make a gate of what a judge that gives scores has told of the references of a run's prompts.

    Parameters
    ----------
    opened
        A run that the judge has judged; only the references' scores are read, so any run of the suite will do.
    judge
        A reward model or an oracle.
    name
        The gate's, part of every gated metric's name.
    quantile
        Of the references' scores, a task at a time, in [0, 1). The threshold is the score of one of the references
        (the lower one), so that at least ``1 - quantile`` of them pass.

    Returns
    -------
    Gate
        Bound to this very judge, weights included; what else is asked of a text is as in the suite's own gate.

    Raises
    ------
    UserError
        If the judge has not judged the run, gives no scores, or the name is taken or none.
    """
    if name == opened.suite.gate.name:
        raise UserError(f"--name: {name!r} is the gate of suite {opened.suite.id}; take another")
    found = judged(opened, judge)
    least = {}
    for task, verdicts in found.verdicts.items():
        scores = {verdict.doc_id: verdict.reference_score for verdict in verdicts}
        if any(score is None for score in scores.values()):
            raise UserError(f"judge {judge} gives no scores; a gate is of a reward model's or an oracle's")
        least[task] = float(np.quantile(np.array(list(scores.values()), dtype=np.float64), quantile, method="lower"))
    try:
        return Gate(
            name=name,
            cut_off_is_valid=opened.suite.gate.cut_off_is_valid,
            judge=found.judge,
            judge_sha256=found.sha256,
            minimum_score=least,
        )
    except ValidationError as error:
        raise UserError(f"--name: {first_problem(error)}") from None


def read_gate(path: Path) -> Gate:
    """Read a gate's YAML, as ``gendiv gate`` prints it.

    Raises
    ------
    UserError
        Names the file, and the field that is wrong.
    """
    try:
        return Gate.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")), strict=False)
    except FileNotFoundError:
        raise UserError("no such file; `gendiv gate RUN … --out FILE` makes one", where=path) from None
    except IsADirectoryError:
        raise UserError("is a folder; give the YAML file that `gendiv gate` has written", where=path) from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=path) from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"not a gate's YAML: {' '.join(str(error).split())}", where=path) from None
    except ValidationError as error:
        raise UserError(f"not a valid gate: {first_problem(error)}", where=path) from None


def scored_by(
    opened: Opened, gate: Gate, found: Judged, samples: Callable[[str], list[Sample]] | None = None
) -> Judged:
    """Verdicts whose scores a gate asks for: those that are scored, or another judge's, read task by task.

    ``samples`` gives those of a task; None = they are read from the run.

    Raises
    ------
    UserError
        If that judge has not judged the run, is another version than the gate's thresholds are of, or the gate has
        no threshold for a task of it.
    """
    if gate.judge is None:
        return found
    scores = found if found.judge == gate.judge else judged_by_task(opened, samples or opened.samples, gate.judge)
    if gate.judge_sha256 not in (None, scores.sha256):
        raise UserError(
            f"gate {gate.name}: its thresholds are of another version of judge {gate.judge}; make it anew with "
            "`gendiv gate`",
            where=opened.run.folder,
        )
    if missing := [task for task in scores.verdicts if task not in gate.minimum_score]:
        raise UserError(f"gate {gate.name}: minimum_score has no {missing[0]}; make it anew with `gendiv gate`")
    return scores
