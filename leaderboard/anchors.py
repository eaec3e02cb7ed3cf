"""Where the methods page tells of a metric."""

from __future__ import annotations

from benchmark.metrics.catalog import GATE, METRICS, OWN

OWN_METRICS = "own-metrics"
ALL_METRICS = "metrics"


def metric_anchor(metric: str) -> str:
    """Id of the element of ``methods.html`` that tells of a metric, with or without a gate's name in the metric's id.

    Metrics of other packages share one, and what the catalog does not know leads to the list of all.
    """
    if metric in METRICS:
        return metric.removesuffix(f"_{GATE}")
    for pattern in METRICS:
        if pattern.endswith(GATE) and metric.startswith(pattern.removesuffix(GATE)):
            return pattern.removesuffix(f"_{GATE}")
    return OWN_METRICS if metric.startswith(OWN) else ALL_METRICS
