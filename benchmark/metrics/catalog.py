"""What each metric id means, for ``gendiv list metrics`` and the board's column titles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Direction = Literal["higher is better", "higher is more diverse", "lower is more diverse", "describes"]

VALID_SHARE = "valid_share_"
GATE = "<gate>"
"""Stands in an id for the name of a quality gate."""
OWN = "own_"
"""Begins the ids of metrics that came with another package."""


@dataclass(frozen=True)
class Metric:
    """One metric.

    Parameters
    ----------
    title
        Short name for a column.
    meaning
        One line.
    direction
        How to read a high value; ``"describes"`` where neither end is good.
    range
        Values it takes.
    floor
        What k identical outputs give, n of them across inputs; None where that tells nothing of them.
    ceiling
        What the greatest variety gives: no word, n-gram or meaning in common. For embeddings it is that of the formula;
        an encoder gives any two texts something in common.
    """

    title: str
    meaning: str
    direction: Direction
    range: str
    floor: str | None = None
    ceiling: str | None = None


_EAD = "[0, 1.58]"
_DIVERSE: Direction = "higher is more diverse"

METRICS: dict[str, Metric] = {
    "win_rate": Metric(
        "win rate", "mean preference of the judge for the output over the reference", "higher is better", "[0, 1]"
    ),
    "win_rate_lc": Metric(
        "length-controlled win rate",
        "the same where the output is as long as the reference, by a logistic model of length",
        "higher is better",
        "[0, 1]",
    ),
    "ead_per_input": Metric(
        "EAD per input",
        "expectation-adjusted distinct n-grams of one prompt's outputs, n = 1–5, drawn from V^n",
        _DIVERSE,
        _EAD,
        "≈ 1/k",
        "≈ 1.001 for 16 × 40 words",
    ),
    "ead_across_input": Metric(
        "EAD across inputs",
        "the same over one output a prompt",
        _DIVERSE,
        _EAD,
        "≈ 1.04/n for 500 × 40 words",
        "≈ 1.04 for 500 × 40 words",
    ),
    "ead_rlfh_per_input": Metric(
        "EAD per input, published",
        "EAD with the tokeniser, the one V for every n and the short-text rule of Kirk et al.",
        _DIVERSE,
        "[0, C/E(D)], about 1.006 at k = 16",
        "≈ 1/k",
        "≈ 1.006 for 16 × 40 words",
    ),
    "ead_rlfh_across_input": Metric(
        "EAD across inputs, published",
        "the same over one output a prompt",
        _DIVERSE,
        "[0, C/E(D)], grows with the set",
        "≈ 1.2/n for 500 × 40 words",
        "≈ 1.2 for 500 × 40 words",
    ),
    "distinct_per_input": Metric(
        "distinct-n per input",
        "share of different n-grams in one prompt's outputs, n = 1–5",
        _DIVERSE,
        "[0, 1]",
        "≤ 1/k",
        "1",
    ),
    "distinct_across_input": Metric(
        "distinct-n across inputs", "the same over one output a prompt", _DIVERSE, "[0, 1]", "≤ 1/n", "1"
    ),
    "self_bleu_per_input": Metric(
        "self-BLEU per input",
        "mean BLEU-4 of one prompt's outputs, each against the others",
        "lower is more diverse",
        "[0, 1]",
        "1",
        "0",
    ),
    "self_bleu_across_input": Metric(
        "self-BLEU across inputs", "the same over one output a prompt", "lower is more diverse", "[0, 1]", "1", "0"
    ),
    "ngram_cosine_per_input": Metric(
        "n-gram cosine per input",
        "1 minus the mean cosine of n-gram counts between one prompt's outputs, n = 1–5",
        _DIVERSE,
        "[0, 1]",
        "0",
        "1",
    ),
    "ngram_cosine_across_input": Metric(
        "n-gram cosine across inputs", "the same over one output a prompt", _DIVERSE, "[0, 1]", "0", "1"
    ),
    "compression_per_input": Metric(
        "compression ratio per input",
        "bytes of one prompt's outputs over their bytes after gzip",
        "lower is more diverse",
        "(0, ∞)",
        "none: rises with k and length, to 1,000",
        "≈ 1.2 for random letters and signs",
    ),
    "vendi_per_input": Metric(
        "Vendi score per input",
        "effective number of different outputs among one prompt's",
        _DIVERSE,
        "[1, k]",
        "1",
        "k",
    ),
    "vendi_across_input": Metric(
        "Vendi score across inputs", "the same over one output a prompt", _DIVERSE, "[1, min(n, d)]", "1", "min(n, d)"
    ),
    "distinct_k_per_input": Metric(
        "distinct classes per input",
        "classes that one prompt's outputs fall into, by a threshold on the cosine of their embeddings",
        _DIVERSE,
        "[1, k]",
        "1",
        "k",
    ),
    "sbert_per_input": Metric(
        "Sentence-BERT per input",
        "mean cosine distance between the embeddings of one prompt's outputs",
        _DIVERSE,
        "[0, k/(k-1)]",
        "0",
        "k/(k-1)",
    ),
    "sbert_across_input": Metric(
        "Sentence-BERT across inputs", "the same over one output a prompt", _DIVERSE, "[0, n/(n-1)]", "0", "n/(n-1)"
    ),
    f"effective_per_input_{GATE}": Metric(
        "effective diversity per input",
        "Sentence-BERT distance of one prompt's outputs; pairs with an output that fails the gate count 0",
        _DIVERSE,
        "[0, 1]",
        "0",
        "1",
    ),
    f"effective_across_input_{GATE}": Metric(
        "effective diversity across inputs", "the same over one output a prompt", _DIVERSE, "[0, 1]", "0", "1"
    ),
    f"conditional_per_input_{GATE}": Metric(
        "diversity of valid outputs",
        "Sentence-BERT distance between those of one prompt's outputs that pass the gate",
        _DIVERSE,
        "[0, 1]",
        "0",
        "1",
    ),
    "nli_per_input": Metric(
        "NLI per input",
        "P(contradiction) - P(entailment) between the sentences of one prompt's outputs",
        _DIVERSE,
        "[-1, 1]",
        "-1",
        "1",
    ),
    "nli_across_input": Metric(
        "NLI across inputs", "the same over one output a prompt", _DIVERSE, "[-1, 1]", "-1", "1"
    ),
    "nli_paper_table_per_input": Metric(
        "NLI per input, published table",
        "signed likeliest labels, both directions summed",
        _DIVERSE,
        "[-2, 2]",
        "-2",
        "2",
    ),
    "nli_paper_table_across_input": Metric(
        "NLI across inputs, published table", "the same over one output a prompt", _DIVERSE, "[-2, 2]", "-2", "2"
    ),
    "nli_released_code_per_input": Metric(
        "NLI per input, released code",
        "what the code of Kirk et al. prints: 1 minus that of the published table",
        "lower is more diverse",
        "[-1, 3]",
        "3",
        "-1",
    ),
    "nli_released_code_across_input": Metric(
        "NLI across inputs, released code",
        "the same over one output a prompt",
        "lower is more diverse",
        "[-1, 3]",
        "3",
        "-1",
    ),
    f"{VALID_SHARE}{GATE}": Metric(
        "valid share", "share of outputs that pass the quality gate", "higher is better", "[0, 1]"
    ),
    "length_words": Metric("length", "mean words an output", "describes", "[0, ∞)"),
    "length_characters": Metric(
        "characters", "mean characters an output, where only verdicts are published", "describes", "[0, ∞)"
    ),
    "reference_length_characters": Metric(
        "reference's characters", "mean characters of the reference, on the same prompts", "describes", "[0, ∞)"
    ),
    "empty_share": Metric("empty share", "share of outputs without text", "describes", "[0, 1]"),
    "token_entropy_per_input": Metric(
        "token entropy per input",
        "mean surprise of a generated token under the distribution it was drawn from; comparable within one tokenizer",
        _DIVERSE,
        "[0, ln V] nats a token, V tokens",
        floor="0",
        ceiling="ln V",
    ),
    "cut_off_share": Metric("cut-off share", "share of outputs ended by the token limit", "describes", "[0, 1]"),
}


def metric(metric_id: str) -> Metric:
    """Metric of an id, with or without a gate's name in it.

    Raises
    ------
    KeyError
        If there is none.
    """
    if metric_id in METRICS:
        return METRICS[metric_id]
    for pattern, found in METRICS.items():
        if pattern.endswith(GATE) and metric_id.startswith(pattern.removesuffix(GATE)):
            return found
    if metric_id.startswith(OWN):
        name = metric_id.removeprefix(OWN).replace("_", " ")
        unknown = "not said"
        return Metric(name, "a metric of another package", "describes", unknown)
    raise KeyError(metric_id)


def is_share(metric_id: str) -> bool:
    """Whether a metric is a share of outputs, whose interval is cut at 0 and 1."""
    return metric_id in ("empty_share", "cut_off_share") or metric_id.startswith(VALID_SHARE)
