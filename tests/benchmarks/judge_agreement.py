"""Judges of published verdicts against people, between both orders, and by the place a text is shown in.

    PYTHONPATH=. OMP_NUM_THREADS=1 python tests/benchmarks/judge_agreement.py > tests/benchmarks/judge_agreement.md

Reads the shared data: GENDIV_SHARED, or `shared` beside the repository.
"""

from __future__ import annotations

import gzip
import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from benchmark.judging.accuracy import Accuracy, against_people, table
from benchmark.judging.labelled import LabelledPair, read_labelled
from benchmark.records import Verdict
from benchmark.statistics.agreement import by_cluster, cohen_kappa, consistency, observed_agreement, position_bias
from benchmark.statistics.intervals import Interval, t_interval, welch

PROMPTS = ("Vanilla", "CoT", "Swap", "Metrics_Reference")
DATASETS = {"LLMBar/Natural": "Natural", "LLMBar/Adversarial/Neighbor": "Adversarial_Neighbor"}
HEAD = """# Published verdicts: agreement with people, between orders, and position bias

    PYTHONPATH=. OMP_NUM_THREADS=1 python tests/benchmarks/judge_agreement.py > tests/benchmarks/judge_agreement.md

Intervals are 95 %. Position bias is the mean preference for the text shown first, less 1/2: 0 is none, and at ±0.5 the
place decides alone.

## LLMBar: both orders of every pair

Verdicts of princeton-nlp/LLMBar (900616bf). "As is" counts correct verdicts with output 1 shown first, "swapped" with
output 2 first, "equal" the same winner in both; a verdict that could not be read is wrong, and equal to another such
one. The published counts are reproduced for all 96 combinations of judge, prompt and set, and so are the published
kappas (a test holds this): that between orders counts an unread verdict as "2"; that with the label is far lower,
because the label is coded 1 / 2 there and the verdict 1 / 0. κ here is Cohen's, on the pairs read in both orders.
Accuracy is over these as well: both orders averaged, a pair on which they disagree counting 1/2.
"""
PANDALM = """
## PandaLM: three annotators a pair

Verdicts and labels of WeOpenML/PandaLM (3871806e), 999 pairs over 170 prompts, which intervals draw whole. The label is
the majority of three; "people's" are each annotator against the majority of the other two, averaged. A verdict that
the judge's authors could not read ("garbage") is none. Each pair was shown in one order: position bias cannot be told.
"""
ALPACA = """
## AlpacaEval 2: one order a pair, drawn at random

Verdicts of tatsu-lab/alpaca_eval (cd543a14), GPT-4 turbo against gpt4_1106_preview. The reply's token is m for the
output listed first and M for the second, and the preference is for the model, so where the two are beside each other
the order can be told: M's probability is the preference, or 1 less it. That m is listed first is AlpacaEval's prompt
template, which is not in these files; and as it always is, a liking for the second place and one for the letter M are
the same thing here. Annotations without log-probabilities, as all of AlpacaEval 1's are, do not tell.

Bias is half the difference between the model's win rates shown first and shown second, by Welch. A prompt has one order
for all models, so the rows are not independent of each other; the last one is over prompts, each model less its mean.
"""


def jsonl(path: Path) -> list[dict[str, Any]]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in data.decode().split("\n") if line.strip()]


def verdict(pair: LabelledPair, preference: float, orders: tuple[float, ...] = ()) -> Verdict:
    return Verdict(
        task="labelled",
        doc_id=pair.id,
        temperature=0.0,
        index=0,
        key="published",
        preference=preference,
        orders=orders,
        length=len(pair.first),
        reference_length=len(pair.second),
    )


def orders_of(row: Mapping[str, Any]) -> tuple[float, ...] | None:
    """Preference for output 1 shown first and shown second; None where one was not read."""
    winners = [row[f"swap = {swap}.winner"] for swap in (False, True)]
    return None if None in winners else tuple(float(winner == "1") for winner in winners)


def llmbar(data: Path) -> list[list[str]]:
    groups = defaultdict(list)
    for row in jsonl(data / "evaluator_results.jsonl.gz"):
        groups[row["dataset"], row["evaluator"], row["prompt"]].append(row)
    rows = []
    for (dataset, judge, prompt), group in groups.items():
        if prompt not in PROMPTS:
            continue
        pairs = read_labelled(data / f"LLMBar_{DATASETS[dataset]}_dataset.jsonl")
        shown = [[row[f"swap = {swap}.winner"] for row in group] for swap in (False, True)]
        labels = [str(row["label"]) for row in group]
        read = {pair.id: orders for pair, row in zip(pairs, group, strict=True) if (orders := orders_of(row))}
        orders = np.array(list(read.values()))
        found = against_people(
            judge, dataset, pairs, {p.id: verdict(p, sum(read[p.id]) / 2, read[p.id]) for p in pairs if p.id in read}
        )
        bias, same = position_bias(orders), consistency(orders)
        assert (bias, same) == (found.position_bias, found.consistency)
        rows.append(
            [
                DATASETS[dataset].replace("_", " "),
                judge,
                prompt,
                *(f"{round((observed_agreement(one, labels) or 0) * len(one))} / {len(one)}" for one in shown),
                f"{round((observed_agreement(*shown) or 0) * len(group))} / {len(group)}",
                f"{cohen_kappa(*orders.T.tolist()) or 0:.2f}",
                with_interval(found.rate.rate, found.rate.interval),
                with_interval(bias.estimate, bias.interval, "+z") if bias else "",
            ]
        )
    return sorted(rows, key=lambda row: (row[0] != "Natural", PROMPTS.index(row[2])))


def pandalm(data: Path) -> list[Accuracy]:
    pairs = read_labelled(data / "testset-v1.jsonl")
    found = []
    for judge, field in (("gpt-3.5-turbo", "gpt_result"), ("pandalm-7b", "pandalm_result")):
        given = {"0": 0.5, "Tie": 0.5, "1": 1.0, "2": 0.0}
        words = [given.get(str(row[field])) for row in jsonl(data / f"{judge}-testset-v1.jsonl")]
        read = {p.id: verdict(p, word) for p, word in zip(pairs, words, strict=True) if word is not None}
        found.append(against_people(judge, "PandaLM test", pairs, read))
    return found


def alpaca(data: Path) -> list[list[str]]:
    frame = pd.read_csv(data / "preferences_v2.csv.gz").dropna(subset=["preference", "logprob_m", "logprob_M"])
    second = 1.0 / (1.0 + np.exp(frame.logprob_m - frame.logprob_M))  # preference for what is listed second
    wins = frame.preference - 1.0
    listed_second, listed_first = (np.isclose(wins, p, rtol=0, atol=1e-6) for p in (second, 1.0 - second))
    told = listed_second != listed_first
    assert (listed_second | listed_first).all(), "a preference that is neither token's"
    frame = frame.assign(wins=wins, first=listed_first)[told]
    rows = []
    for model, group in frame.groupby("model"):
        first, other = (group.wins[group["first"] == side] for side in (True, False))
        apart = welch(first, other)
        assert apart.interval is not None
        half = Interval(apart.interval.low / 2, apart.interval.high / 2)
        rows.append(
            [str(model), str(len(first)), str(len(other)), f"{first.mean():.3f}", f"{other.mean():.3f}",
             with_interval(apart.estimate / 2, half, "+z")]
        )  # fmt: skip
    centred = frame.wins - frame.groupby("model").wins.transform("mean")
    signed = np.where(frame["first"], centred, -centred)
    every = with_interval(float(signed.mean()), t_interval(by_cluster(signed, frame["index"].tolist())), "+z")
    sides = [frame.wins[frame["first"] == side] for side in (True, False)]
    rows.append(["all", *(str(len(side)) for side in sides), *(f"{side.mean():.3f}" for side in sides), every])
    return rows


def with_interval(value: float, interval: Interval | None, sign: str = "") -> str:
    return f"{value:{sign}.3f}" + (f" [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]" if interval else "")


def show(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print(tabulate(rows, header, tablefmt="github", disable_numparse=True))


def main() -> None:
    data = Path(os.environ.get("GENDIV_SHARED") or Path(__file__).parents[3] / "shared") / "data"
    print(HEAD)
    show(
        ["set", "judge", "prompt", "as is", "swapped", "equal", "κ of orders", "accuracy", "position bias"],
        llmbar(data / "llmbar"),
    )
    print(PANDALM)
    header, rows = table(pandalm(data / "pandalm"))
    keep = [place for place, _ in enumerate(header) if any(row[place] for row in rows)]
    show([header[place] for place in keep], [[row[place] for place in keep] for row in rows])
    print(ALPACA)
    show(
        ["model", "n first", "n second", "win rate first", "win rate second", "position bias"],
        alpaca(data / "alpaca_eval"),
    )


if __name__ == "__main__":
    main()
