"""What every number of a board means, told by the code's own docstrings, its catalog of metrics and the suites' files.

The page says nothing of its own: what is wrong on it is wrong in the code, and is mended there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.judging.config import JudgeConfig, load_judge_configs
from benchmark.metrics.catalog import GATE, METRICS, OWN, VALID_SHARE, Metric
from benchmark.records import Sampling
from benchmark.suites import Axis, Suite, load_suites
from leaderboard import docstrings, ink
from leaderboard.anchors import ALL_METRICS, OWN_METRICS, metric_anchor
from leaderboard.docstrings import Member, Module, read_module
from leaderboard.names import METHODS, role_title, upper_first
from leaderboard.templating import environment

PLANE = ("benchmark.statistics.plane",)
METRIC_MODULES: dict[str, tuple[str, ...]] = {
    "benchmark.statistics.win_rate": ("win_rate",),
    "benchmark.statistics.length_control": ("win_rate_lc",),
    "benchmark.metrics.sentence_bert": ("sbert_", "effective_", "conditional_"),
    "benchmark.metrics.vendi": ("vendi_",),
    "benchmark.metrics.distinct_k": ("distinct_k_",),
    "benchmark.metrics.ead": ("ead_",),
    "benchmark.metrics.distinct_n": ("distinct_per_", "distinct_across_"),
    "benchmark.metrics.self_bleu": ("self_bleu_",),
    "benchmark.metrics.ngram_cosine": ("ngram_cosine_",),
    "benchmark.metrics.compression": ("compression_",),
    "benchmark.metrics.nli": ("nli_",),
    "benchmark.metrics.token_entropy": ("token_entropy_",),
    "benchmark.metrics.tokenise": ("length_words",),
    "benchmark.preference_scoring": ("length_characters", "reference_length_characters"),
}
"""Module → the beginnings of the ids of its metrics; a whole id stands for itself and no longer one."""
GATES: dict[str, tuple[str, ...]] = {
    "benchmark.metrics.validity": (VALID_SHARE, "empty_share", "cut_off_share"),
    "benchmark.judging.gate": (),
}
OWN_MODULES: dict[str, tuple[str, ...]] = {"benchmark.metrics.own": (OWN,)}
STATISTICS = (
    "benchmark.statistics.intervals",
    "benchmark.statistics.bootstrap",
    "benchmark.statistics.jackknife",
    "benchmark.statistics.ranks",
    "benchmark.statistics.dominance",
    "benchmark.statistics.two_way",
)
JUDGES = (
    "benchmark.judging",
    "benchmark.judging.judge",
    "benchmark.judging.question",
    "benchmark.judging.replies",
    "benchmark.judging.oracle",
    "benchmark.judging.reward_model",
    "benchmark.judging.chat",
    "benchmark.judging.audit",
    "benchmark.judging.config",
)
SUBMISSIONS = (
    "benchmark.submission.validate",
    "benchmark.flags",
    "benchmark.submission.anomalies",
    "benchmark.submission.floors",
    "benchmark.submission.rejudge",
    "benchmark.submission.reproduce",
    "leaderboard.families",
)
"""Tiers, flags, and what is asked of verdicts."""


def methods_page(suites: Mapping[str, Suite] | None = None) -> str:
    """Render ``methods.html``.

    Parameters
    ----------
    suites
        Suites by ``name@vN``; by default those under ``tasks/``.

    Returns
    -------
    str
        A page with an element for every metric of a board, whose id is `leaderboard.anchors.metric_anchor` of it, and
        for the metrics of these suites' gates one with the whole id as well.
    """
    suites = load_suites() if suites is None else suites
    gates = sorted({suite.gate.name for suite in suites.values()})
    gate = next(member for member in read_module("benchmark.suites").members if member.name == "Gate")
    return (
        environment()
        .get_template("methods.html.j2")
        .render(
            ink=ink,
            all_metrics=ALL_METRICS,
            suites=[_suite(suite) for suite in sorted(suites.values(), key=_order)],
            plane=[_module(name) for name in PLANE],
            metrics=[_module(name, gates) for name in METRIC_MODULES],
            own_metrics=OWN_METRICS,
            own=[_module(name, gates) for name in OWN_MODULES],
            methods=METHODS,
            statistics=[_module(name) for name in STATISTICS],
            gate=_member("benchmark.suites", gate),
            gates=[_module(name, gates) for name in GATES],
            judges=[_module(name) for name in JUDGES],
            submissions=[_module(name) for name in SUBMISSIONS],
            configs=[_config(config) for config in load_judge_configs().values()],
        )
    )


def home_of(metric: str) -> str | None:
    """The module that tells of a metric; None where no page of ours does."""
    return next(
        (
            module
            for module, beginnings in (METRIC_MODULES | GATES | OWN_MODULES).items()
            if metric in beginnings or metric.startswith(tuple(start for start in beginnings if start.endswith("_")))
        ),
        None,
    )


def _order(suite: Suite) -> tuple[bool, str, int]:
    return suite.imported, suite.suite, suite.version


def _module(name: str, gates: Sequence[str] = ()) -> dict[str, Any]:
    module = read_module(name)
    return {
        "anchor": _anchor(module),
        "name": name,
        "title": module.title,
        "doc": docstrings.html(module.doc),
        "metrics": [_metric(metric, found, gates) for metric, found in METRICS.items() if home_of(metric) == name],
        "members": [_member(name, member) for member in module.members],
    }


def _anchor(module: Module) -> str:
    return module.name.removeprefix("benchmark.").replace(".", "-")


def _member(module: str, member: Member) -> dict[str, Any]:
    return {
        "anchor": f"{_anchor(read_module(module))}.{member.name}",
        "signature": member.signature,
        "summary": docstrings.summary(member.doc),
        "doc": docstrings.html(member.doc, skip_summary=True),
        "fields": [(name, docstrings.inline(" ".join(doc.split()))) for name, doc in member.fields],
    }


def _metric(name: str, metric: Metric, gates: Sequence[str]) -> dict[str, Any]:
    return {
        "id": name,
        "anchor": metric_anchor(name),
        "more": [name.replace(GATE, gate) for gate in gates] if GATE in name else [],
        "title": metric.title,
        "facts": [
            (term, value)
            for term, value in (
                ("range", metric.range),
                ("direction", metric.direction),
                ("floor", metric.floor),
                ("ceiling", metric.ceiling),
            )
            if value is not None
        ],
        "meaning": upper_first(metric.meaning),
    }


def _suite(suite: Suite) -> dict[str, Any]:
    """A suite's file in words and numbers of its own."""
    gate = suite.gate
    facts = [
        ("judge", suite.judge or "none yet"),
        ("encoder", suite.encoder),
        ("sampling", _sampling(suite.sampling) if suite.sampling else "made elsewhere"),
    ]
    asked = [f"{task}: {least:g}" for task, least in gate.minimum_score.items()]
    facts.append(("gate", "; ".join([gate.name, *([f"least score of {gate.judge}"] if asked else []), *asked])))
    facts.append(("a cut-off output is valid", "yes" if gate.cut_off_is_valid else "no"))
    if suite.length_control:
        facts.append(("length control", f"penalty {suite.length_control.penalty:g}"))
    if suite.length_range:
        low, high = suite.length_range
        facts.append(("mean length of a ranked row", f"{low:g} to {high:g} times the references'"))
    axes = (("x", suite.plane.x), ("y", suite.plane.y), ("second panel", suite.plane.y2))
    return {
        "anchor": f"suite-{suite.suite}-v{suite.version}",
        "id": suite.id,
        "title": suite.title,
        "description": suite.description,
        "tasks": [(role_title(task.role), f"{task.title} ({task.task})") for task in suite.tasks],
        "role": role_title(suite.plane.role),
        "axes": [(name, _axis(axis)) for name, axis in axes if axis],
        "facts": facts,
    }


def _axis(axis: Axis) -> dict[str, str]:
    reference = f"divided by {axis.reference:g} and clipped to [0, 1]" if axis.reference else ""
    return {"metric": axis.metric, "anchor": metric_anchor(axis.metric), "title": axis.title, "reference": reference}


def _sampling(sampling: Sampling) -> str:
    fields = sampling.model_dump(mode="json", exclude={"seed"})
    said = {name: ", ".join(map(str, value)) if isinstance(value, list) else value for name, value in fields.items()}
    return "; ".join(f"{name} {value}" for name, value in said.items() if value not in ("", None))


def _config(config: JudgeConfig) -> dict[str, Any]:
    fields = config.model_dump(mode="json", exclude={"judge", "description", "tasks", "price"})
    return {
        "judge": config.judge,
        "description": upper_first(config.description),
        "fields": [(name.replace("_", " "), _value(value)) for name, value in fields.items() if value is not None]
        + [("SHA-256", config.sha256)],
    }


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value(part)}" for name, part in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
