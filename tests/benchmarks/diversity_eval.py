"""Diversity measures on sets of texts whose diversity is known: McDiv, conTest and decTest of Tevet and Berant.

    PYTHONPATH=. OMP_NUM_THREADS=1 python tests/benchmarks/diversity_eval.py > tests/benchmarks/diversity_eval.md

Needs ``GENDIV_SHARED_DATA/diversity_eval/with_metrics`` (default: ``../shared/data``), files of
fabriceyhc/diversity-eval (de683e4d, MIT), a fork of GuyTevet/diversity-eval. Some minutes: 60,000 texts are embedded.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from benchmark.metrics import compression, distinct_k, distinct_n, ead, ngram_cosine, self_bleu, sentence_bert, vendi
from benchmark.metrics.encoder import Encoder
from benchmark.metrics.ngrams import count_sets
from benchmark.metrics.repeats import repeats_of

DATA = Path(os.environ.get("GENDIV_SHARED_DATA", Path(__file__).resolve().parents[2] / "../shared/data"))
STORED = {
    "stored distinct-n": "metric_AveragedDistinctNgrams",
    "stored cos-sim": "metric_AveragedCosineSimilarity",
    "stored SentBERT": "metric_SentBert",
    "people": "metric_abs_hds_mean",
}
OURS = ("EAD", "distinct-n", "n-gram cosine", "self-BLEU", "compression", "Sentence-BERT", "Vendi", "distinct classes")

NOTES = """
No measure serves for all: n-grams tell temperatures apart (decTest) and not meanings (McDiv nuggets, where words are
controlled for); embeddings tell meanings apart. The packaged encoder reads stories less well than the stored column's.
Distinct classes, by a threshold on the cosine, mostly order worst of the three that read embeddings. EAD (of
V^n n-grams) and distinct-n order sets as small as these alike: the expectation matters at n = 1 alone."""


def measured(sets: list[list[str]], encoder: Encoder) -> dict[str, NDArray[np.float64]]:
    """Every measure of every set, turned so that higher is more diverse."""
    k = len(sets[0])
    texts = sorted({text for one in sets for text in one})
    place = {text: number for number, text in enumerate(texts)}
    rows = encoder.encode(texts)
    vectors = rows[[place[text] for one in sets for text in one]].reshape(len(sets), k, -1)
    counts, repeated = count_sets(sets), repeats_of(sets)
    return {
        "EAD": ead.per_input(counts),
        "distinct-n": distinct_n.per_input(counts),
        "n-gram cosine": ngram_cosine.per_input(repeated),
        "self-BLEU": -self_bleu.per_input(repeated),
        "compression": -compression.per_input(sets),
        "Sentence-BERT": sentence_bert.per_input(vectors),
        "Vendi": vendi.per_input(vectors),
        "distinct classes": distinct_k.per_input(distinct_k.classes(distinct_k.cosine_relation(vectors))),
    }


def spearman(values: NDArray[np.float64], labels: NDArray[np.float64]) -> str:
    """Spearman's correlation over the sets that have a value."""
    there = np.isfinite(values)
    return f"{stats.spearmanr(values[there], labels[there]).statistic:.3f}"


def main() -> None:
    """Print the table."""
    encoder = Encoder()
    title, _, rest = (__doc__ or "").partition("\n")
    print(f"# {title.rstrip('.')}\n{rest.rstrip()}")
    print(f"\nSpearman's correlation with the label; {encoder.name} ({encoder.precision}), tokeniser `words`.")
    print("Self-BLEU and compression are counted downwards. “People” is the stored mean of human scores.\n")
    header = ["set", "sets × texts", *OURS, *STORED]
    print("|", " | ".join(header), "|\n|" + "---|" * len(header))
    for path in sorted((DATA / "diversity_eval" / "with_metrics").glob("*/*.csv")):
        frame = pd.read_csv(path, keep_default_na=False)
        responses = [name for name in frame.columns if re.fullmatch(r"resp_\d+", name)]
        sets = frame[responses].astype(str).to_numpy().tolist()
        labels = frame["label_value"].to_numpy(np.float64)
        found = measured(sets, encoder)
        stored = [
            spearman(pd.to_numeric(frame[column], errors="coerce").to_numpy(np.float64), labels)
            if column in frame.columns
            else ""
            for column in STORED.values()
        ]
        cells = [path.stem, f"{len(sets)} × {len(responses)}", *(spearman(found[name], labels) for name in OURS)]
        print("|", " | ".join([*cells, *stored]), "|", flush=True)
    print(NOTES)


if __name__ == "__main__":
    main()
