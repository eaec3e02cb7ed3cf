"""Every quantity of one task at one temperature, as one value a prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import UserError
from benchmark.metrics import (
    compression,
    distinct_k,
    distinct_n,
    ead,
    ngram_cosine,
    self_bleu,
    sentence_bert,
    token_entropy,
    vendi,
)
from benchmark.metrics.catalog import OWN, is_share, metric
from benchmark.metrics.ngrams import count, counts_of, tokens
from benchmark.metrics.own import OwnMetric
from benchmark.metrics.repeats import repeats
from benchmark.metrics.validity import invalid_reason
from benchmark.records import Prompt, Sample, Verdict
from benchmark.statistics.intervals import Interval
from benchmark.statistics.jackknife import pseudo_values
from benchmark.statistics.length_control import length_controlled
from benchmark.suites import Gate, LengthControl

Floats = NDArray[np.float64]
Statistic = Literal["rate", "controlled", "mean", "set"]
"""What a column's mean is: a rate of preferences, plain or length-controlled, a mean over prompts, or a statistic of
the whole set."""

_BETWEEN_0_AND_1 = ("self_bleu_per_", "ngram_cosine_per_", "effective_per_", "conditional_per_")
"""Beginnings of the ids of metrics that lie there, and that equal outputs put at the end; shares are too."""


@dataclass(frozen=True)
class Column:
    """One quantity of one task at one temperature."""

    metric: str
    task: str
    temperature: float
    statistic: Statistic
    values: Floats
    """[n], NaN = missing. For a set statistic its jackknife pseudo-values, and for a controlled rate the rate plus each
    prompt's influence, so that mean and variance serve alike."""
    interval: Interval | None = None
    """Where a column comes with its own: the interval of a controlled rate."""
    bounds: tuple[float, float] | None = None
    """What the quantity lies between, whatever the model, the upper end infinite where it has none; None where the
    interval is left as it is."""
    shares: Floats | None = None
    """Of a set statistic that counts pairs of valid outputs alone: share of each prompt's outputs that are valid."""
    absent: str | None = None
    """Why there are no values."""

    @property
    def present(self) -> Floats:
        """The values that are not missing."""
        return self.values[np.isfinite(self.values)]


class TaskGrid:
    """A task's samples and verdicts as arrays [prompts, temperatures, k].

    Parameters
    ----------
    samples
        A complete grid.
    verdicts
        Of any of these samples; a later line of the log supersedes an earlier one.
    gate_verdicts
        Judge → its verdicts, for gates that ask for another judge's scores.

    Raises
    ------
    UserError
        If the samples are no full grid, or a verdict has no sample.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        verdicts: Sequence[Verdict],
        gate_verdicts: Mapping[str, Sequence[Verdict]] = MappingProxyType({}),
    ) -> None:
        self.doc_ids = sorted({sample.doc_id for sample in samples}, key=_natural)
        self.temperatures = sorted({sample.temperature for sample in samples})
        self.k = 1 + max(sample.index for sample in samples)
        shape = (len(self.doc_ids), len(self.temperatures), self.k)
        row = {doc_id: number for number, doc_id in enumerate(self.doc_ids)}
        level = {temperature: number for number, temperature in enumerate(self.temperatures)}
        self.samples = np.empty(shape, dtype=object)
        for sample in samples:
            self.samples[row[sample.doc_id], level[sample.temperature], sample.index] = sample
        if any(sample is None for sample in self.samples.flat):
            raise UserError(f"task {samples[0].task}: the grid of samples is not complete; run `gendiv sample` again")

        def placed(verdicts: Sequence[Verdict]) -> NDArray[Any]:
            found: NDArray[Any] = np.empty(shape, dtype=object)
            for verdict in verdicts:
                if verdict.doc_id not in row or verdict.temperature not in level or verdict.index >= self.k:
                    raise UserError(f"task {verdict.task}: the verdict on {verdict.cell} has no sample")
                found[row[verdict.doc_id], level[verdict.temperature], verdict.index] = verdict
            return found

        self.verdicts = placed(verdicts)
        self.gate_verdicts = {judge: placed(found) for judge, found in gate_verdicts.items()}


def columns(
    grid: TaskGrid,
    level: int,
    *,
    task: str,
    gates: Sequence[Gate],
    prompts: Mapping[str, Prompt],
    length_control: LengthControl | None,
    embeddings: NDArray[np.float32] | None,
    place: Mapping[str, int],
    own: Sequence[OwnMetric] = (),
) -> list[Column]:
    """Compute every quantity at one temperature.

    Parameters
    ----------
    grid, level
        The task's grid and the number of the temperature in it.
    task
        The task's name.
    gates
        Quality gates: the suite's, and those that the user adds.
    prompts
        Doc id → prompt, for the gates' tests of texts; empty where they are not ours to ship.
    length_control
        How the suite fits the length-controlled win rate; None = not at all.
    embeddings, place
        Unit rows of all different texts of the run, and the row of each; None leaves out what is made of them.
    own
        Metrics of other packages.
    """
    samples, verdicts = grid.samples[:, level], grid.verdicts[:, level]
    n, k = samples.shape
    texts = [sample.text for sample in samples.flat]
    vectors = None if embeddings is None else embeddings[[place[text] for text in texts]].reshape(n, k, -1)
    valid = {gate.name: _valid(grid, level, gate, prompts, task) for gate in gates}
    words, rlfh = tokens(texts, "words"), tokens(texts, "rlfh")

    means = {
        **{f"valid_share_{gate}": sentence_bert.valid_share(passed) for gate, passed in valid.items()},
        "length_words": words.lengths.reshape(n, k).mean(axis=1),
        "empty_share": np.array([not text.strip() for text in texts]).reshape(n, k).mean(axis=1),
        "cut_off_share": _cut_off_share(samples),
        "token_entropy_per_input": token_entropy.per_input(
            _numbers(samples, lambda sample: sample.log_prob), _numbers(samples, lambda sample: sample.n_tokens)
        ),
    }
    if k > 1:
        prompt = np.repeat(np.arange(n), k)
        repeated, counts_rlfh = repeats(words, prompt), count(rlfh, prompt)
        counts = counts_of(repeated)
        means |= {
            "ead_per_input": ead.per_input(counts),
            "ead_rlfh_per_input": ead.published_per_input(counts_rlfh),
            "distinct_per_input": distinct_n.per_input(counts),
            "self_bleu_per_input": self_bleu.per_input(repeated),
            "ngram_cosine_per_input": ngram_cosine.per_input(repeated),
            "compression_per_input": compression.per_input([[sample.text for sample in row] for row in samples]),
        }
        del repeated, counts, counts_rlfh  # they are as large as the texts
    if k > 1 and vectors is not None:
        means |= {
            "sbert_per_input": sentence_bert.per_input(vectors),
            "vendi_per_input": vendi.per_input(vectors),
            "distinct_k_per_input": distinct_k.per_input(distinct_k.classes(distinct_k.cosine_relation(vectors))),
        }
        for gate, passed in valid.items():
            means[f"effective_per_input_{gate}"] = sentence_bert.effective(vectors, passed)
            means[f"conditional_per_input_{gate}"] = sentence_bert.conditional(vectors, passed)
    asked = [prompts[doc_id].text if doc_id in prompts else "" for doc_id in grid.doc_ids]
    for brought in own:
        means[brought.metric] = brought.per_input(asked, [[sample.text for sample in row] for row in samples])
    sets: dict[str, Floats] = {}
    shares: dict[str, Floats] = {}
    if n > 2:
        slot = np.tile(np.arange(k), n)
        repeated, counts_rlfh = repeats(words, slot), count(rlfh, slot)
        counts = counts_of(repeated)
        sets = {
            "ead_across_input": over_slots(*ead.across_input(counts)),
            "ead_rlfh_across_input": over_slots(*ead.published_across_input(counts_rlfh)),
            "distinct_across_input": over_slots(*distinct_n.across_input(counts)),
            "self_bleu_across_input": over_slots(*self_bleu.across_input(repeated)),
            "ngram_cosine_across_input": over_slots(*ngram_cosine.across_input(repeated)),
        }
    if n > 2 and vectors is not None:
        sets |= {
            "sbert_across_input": over_slots(*sentence_bert.across_input(vectors.swapaxes(0, 1))),
            "vendi_across_input": over_slots(*vendi.across_input(vectors.swapaxes(0, 1))),
        }
        for gate, passed in valid.items():
            effective = [sentence_bert.effective_across_input(vectors[:, j], passed[:, j]) for j in range(k)]
            sets[f"effective_across_input_{gate}"] = over_slots(
                np.array([value for value, _ in effective]), np.array([without for _, without in effective])
            )
            shares[f"effective_across_input_{gate}"] = means[f"valid_share_{gate}"]
    temperature = grid.temperatures[level]
    return [
        *preference_columns(verdicts, task=task, temperature=temperature, length_control=length_control),
        *(Column(name, task, temperature, "mean", values, bounds=bounds_of(name, k)) for name, values in means.items()),
        *(Column(name, task, temperature, "set", values, shares=shares.get(name)) for name, values in sets.items()),
    ]


def preference_columns(
    verdicts: NDArray[np.object_], *, task: str, temperature: float, length_control: LengthControl | None
) -> list[Column]:
    """Compute what verdicts alone give: the win rate and, where the suite has it, the length-controlled one.

    Parameters
    ----------
    verdicts
        [prompts, k] of `Verdict`, or None where there is none.
    task, temperature
        What they are of.
    length_control
        How the suite fits the length-controlled win rate; None = not at all.
    """
    preferences = _means(verdicts, lambda verdict: cast(float, verdict.preference))
    found = [Column("win_rate", task, temperature, "rate", preferences)]
    if length_control:
        found.append(_controlled(task, temperature, verdicts, preferences, length_control))
    return found


def length_columns(verdicts: NDArray[np.object_], *, task: str, temperature: float) -> list[Column]:
    """Mean characters of the outputs and of the references, as verdicts tell them, over prompts with a preference.

    Parameters
    ----------
    verdicts, task, temperature
        See `preference_columns`.
    """
    return [
        Column("length_characters", task, temperature, "mean", _means(verdicts, lambda verdict: verdict.length)),
        Column(
            "reference_length_characters",
            task,
            temperature,
            "mean",
            _means(verdicts, lambda verdict: verdict.reference_length),
        ),
    ]


def bounds_of(metric: str, k: int) -> tuple[float, float] | None:
    """Bounds of what one prompt with k outputs may have, of metrics that are guarded for any number of prompts."""
    if metric.startswith(OWN):
        return None
    if is_share(metric) or metric.startswith(_BETWEEN_0_AND_1):
        return 0.0, 1.0
    if k > 1 and metric in ("distinct_k_per_input", "vendi_per_input"):
        return 1.0, float(k)
    if k > 1 and metric == "sbert_per_input":
        return 0.0, k / (k - 1)
    return None


def ranged(column: Column, k: int, n: int) -> Column:
    """Bound a column by what its metric lies between, where it is not bounded.

    Intervals of few prompts are then cut and guarded there. Scores of runs are not: their claims hold what they hold.
    """
    if column.bounds is not None:
        return column
    found = range_of(column.metric, k, n)
    if found and column.metric.startswith("ead_"):
        # Of V^n drawn from it is hardly above 1, and the published form of short texts has no ceiling at all.
        found = (found[0], max(1.0, float(np.nanmax(column.values, initial=1.0))))
    return replace(column, bounds=found)


def range_of(metric_id: str, k: int, n: int) -> tuple[float, float] | None:
    """What a metric of k outputs of each of n prompts lies between, by the catalogue; None where it does not say."""
    said = metric(metric_id).range
    ends = {
        "[0, 1]": (0.0, 1.0),
        "[1, k]": (1.0, float(k)),
        "[0, k/(k-1)]": (0.0, k / max(k - 1, 1)),
        "[1, min(n, d)]": (1.0, float(n)),
        "[0, n/(n-1)]": (0.0, n / max(n - 1, 1)),
        "[-1, 1]": (-1.0, 1.0),
        "[-2, 2]": (-2.0, 2.0),
        "[-1, 3]": (-1.0, 3.0),
    }
    return ends.get(said, (0.0, np.inf) if said.startswith(("[0, ", "(0, ")) else None)


def _natural(doc_id: str) -> tuple[int, int, str]:
    """Sort numbers as numbers: "10" after "9"."""
    return (0, int(doc_id), doc_id) if doc_id.isdecimal() else (1, 0, doc_id)


def _means(verdicts: NDArray[Any], of: Callable[[Verdict], float]) -> Floats:
    """Mean of each prompt over its samples with a preference; NaN where none has."""
    means = np.full(len(verdicts), np.nan)
    for row, group in enumerate(verdicts):
        judged = [verdict for verdict in group if verdict is not None and verdict.preference is not None]
        if judged:
            means[row] = np.mean([of(verdict) for verdict in judged])
    return means


def _controlled(
    task: str, temperature: float, verdicts: NDArray[Any], preferences: Floats, how: LengthControl
) -> Column:
    """Fit the length-controlled win rate; without an interval that covers there is no number either."""
    judged = np.isfinite(preferences)
    values = np.full(len(preferences), np.nan)
    if not judged.any():
        return Column("win_rate_lc", task, temperature, "controlled", values)
    fit = length_controlled(
        preferences[judged],
        _means(verdicts, lambda verdict: verdict.length)[judged],
        _means(verdicts, lambda verdict: verdict.reference_length)[judged],
        penalty=how.penalty,
    )
    if fit.interval is None:
        return Column("win_rate_lc", task, temperature, "controlled", values, absent=fit.reason)
    values[judged] = fit.rate + fit.influence
    return Column("win_rate_lc", task, temperature, "controlled", values, interval=fit.interval)


def _valid(grid: TaskGrid, level: int, gate: Gate, prompts: Mapping[str, Prompt], task: str) -> NDArray[np.bool_]:
    """Which samples pass a gate: an answer at all and, where the gate has a threshold, good enough."""
    minimum = gate.minimum_score.get(task)
    samples, verdicts = grid.samples[:, level], grid.gate_verdicts.get(gate.judge or "", grid.verdicts)[:, level]
    valid = np.empty(samples.shape, dtype=bool)
    for (row, slot), sample in np.ndenumerate(samples):
        prompt = prompts.get(grid.doc_ids[row])
        reason = invalid_reason(
            prompt.text if prompt else "",
            sample.text,
            sample.finish_reason,
            references=prompt.references if prompt else (),
            cut_off_is_valid=gate.cut_off_is_valid,
        )
        passes = reason is None
        if passes and minimum is not None:
            verdict = cast("Verdict | None", verdicts[row, slot])
            passes = verdict is not None and verdict.score is not None and verdict.score >= minimum
        valid[row, slot] = passes
    return valid


def _cut_off_share(samples: NDArray[np.object_]) -> Floats:
    """Share of each prompt's outputs that the budget cut off; NaN where the backend does not say how they ended."""
    reasons = np.array([[sample.finish_reason for sample in row] for row in samples])
    return np.asarray(np.where((reasons == "unknown").any(axis=1), np.nan, (reasons == "length").mean(axis=1)))


def _numbers(samples: NDArray[np.object_], of: Callable[[Sample], float | None]) -> Floats:
    """A number of every sample [n, k]; NaN where it has none."""
    return np.array([[np.nan if (value := of(sample)) is None else value for sample in row] for row in samples])


def over_slots(values: Floats, without: Floats) -> Floats:
    """Average a set statistic over the k slots and take pseudo-values.

    Each slot is a set of one output a prompt, so slots are k estimates of one quantity, and leaving a prompt out
    leaves it out of all of them. A slot whose statistic is missing, whole or without some prompt, is left out.

    Parameters
    ----------
    values
        [k].
    without
        [k, n], or [n · k] with texts numbered prompt by prompt.
    """
    left_out = without if without.ndim == 2 else without.reshape(-1, len(values)).T
    whole = np.isfinite(values) & np.isfinite(left_out).all(axis=1)
    if not whole.any():
        return np.full(left_out.shape[1], np.nan)
    return pseudo_values(float(values[whole].mean()), left_out[whole].mean(axis=0))
