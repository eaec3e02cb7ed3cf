"""What ``--paper-protocol`` switches: the paper's choices, where a board's row can answer them and where none can."""

from __future__ import annotations

from typing import NamedTuple

from benchmark.suites import HEADLINE_TEMPERATURE
from leaderboard.paper_tables import PaperColumn
from leaderboard.row import Row

BEST_OF = "best-of-"
PAPER_BEST_OF_TEMPERATURE = 0.7
"""At which the paper drew the samples that best-of-N chooses from."""
PAPER_JUDGES = ("summaries-gpt-4-paper", "answers-gpt-4-paper")
"""Its judge as far as it is known: gpt-4, a reply that is parsed, the two texts in one drawn order."""
PAPER_ENCODER = "bert-large-nli-stsb-mean-tokens"


class Choice(NamedTuple):
    """One choice of the protocol."""

    what: str
    ours: str
    papers: str
    in_force: str


def choices(*, paper_protocol: bool) -> list[Choice]:
    """Every choice in which the protocols differ, with the one that is in force."""
    switched = [
        ("best-of-N is drawn at", f"T = {HEADLINE_TEMPERATURE:g}", f"T = {PAPER_BEST_OF_TEMPERATURE:g}"),
        ("judge of win rates", "the suite's own", f"gpt-4 alone ({', '.join(PAPER_JUDGES)})"),
        ("orders that it sees", "both", "one drawn order"),
        ("win rate", "length-controlled (win_rate_lc)", "plain (win_rate)"),
        ("EAD", "V and tokeniser of its own (ead)", "V = 50257, white space (ead_rlfh)"),
        ("NLI", "probabilities, −1 to 1 (nli)", "likeliest labels, −2 to 2 (nli_paper_table)"),
    ]
    fixed = [
        Choice(
            "encoder of Sentence-BERT",
            "all-minilm-l6-v2",
            PAPER_ENCODER,
            "ours: a cell of another encoder than the paper's is not comparable",
        ),
        Choice(
            "KL in the reward of PPO",
            "as the model was trained",
            "k2",
            "as trained: no card tells it; the recipes of TL;DR have k2",
        ),
    ]
    return [Choice(*line, "the paper's" if paper_protocol else "ours") for line in switched] + fixed


def metric_of(column: PaperColumn, *, paper_protocol: bool) -> str:
    """Metric of a column."""
    return (column.paper_metric if paper_protocol else None) or column.metric


def temperature_of(method: str, *, paper_protocol: bool) -> float:
    """Temperature at which a method's outputs are drawn."""
    chosen = paper_protocol and method.startswith(BEST_OF)
    return PAPER_BEST_OF_TEMPERATURE if chosen else HEADLINE_TEMPERATURE


def judged_as_in_the_paper(row: Row, metric: str) -> bool:
    """Whether a row's value of a metric comes from the paper's judge; true of a metric that no judge is asked for."""
    return not metric.startswith("win_rate") or row.scores.identity.judge in PAPER_JUDGES
