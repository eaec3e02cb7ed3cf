"""What metrics, roles and interval methods are called where people read them."""

from __future__ import annotations

from collections.abc import Mapping

from benchmark.metrics import catalog

ROLES = {"id": "ID", "ood": "OOD", "ood_hard": "OOD-hard", "gap": "gap"}
METHODS = {
    "logit_t": "t on the logit scale",
    "bca": "BCa bootstrap over prompts",
    "percentile": "percentile bootstrap over prompts",
    "plus4_t": "plus-4 t over prompts",
    "plus4": "plus-4 t over prompts",
    "t": "t over prompts",
    "welch": "Welch's t",
    "plus4_welch": "Welch's t with a loss and a win more on each side",
    "jackknife_t": "delete-one-prompt jackknife",
    "guarded_t": "guarded t over prompts",
    "guarded_jackknife_t": "guarded delete-one-prompt jackknife",
}


def metric_title(metric: str) -> str:
    """A metric's name in words; one that the catalog does not know keeps its own, with spaces."""
    try:
        return catalog.metric(metric).title
    except KeyError:
        return metric.replace("_", " ")


def role_title(role: str) -> str:
    """A role as a column heading says it."""
    return ROLES.get(role, role)


def method_title(method: str) -> str:
    """An interval's method in words."""
    return METHODS.get(method, method.replace("_", " "))


def upper_first(text: str) -> str:
    """Text with its first letter upper-case and the rest as it is."""
    return text[:1].upper() + text[1:]


def why_absent(absent: Mapping[str, str], metric: str) -> str | None:
    """Reason a run gives for having no such metric: under its id, or under a part of it such as ``per_input``."""
    if metric in absent:
        return absent[metric]
    return next((absent[part] for part in sorted(absent) if part in metric), None)
