"""What a chat judge costs a run that is not there yet."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.errors import UserError
from benchmark.judging.config import ChatConfig, find_judge
from benchmark.judging.judge import Pair
from benchmark.judging.question import Question, about_tokens, orders_asked
from benchmark.records import Prompt, Sample
from benchmark.suites import Suite
from reference_models.paper_experiments import BYTES_A_TOKEN, Experiment


def judge_cost(suite: Suite, experiment: Experiment, config: ChatConfig) -> float:
    """Dollars that a chat judge takes for a run: every prompt's pair, in every order it is asked in.

    Tokens are counted as ``gendiv judge --dry-run`` counts them, of texts as long as those of the data are assumed to
    be; no reply is longer than the judge allows.

    Raises
    ------
    UserError
        If the judge has no price.
    """
    if config.price is None:
        raise UserError(f"judge {config.judge} has no price in its file")
    assert suite.sampling is not None
    question, asked, replied = Question(config), 0.0, 0.0
    for task, texts in experiment.evaluated.items():
        document = "x" * texts.document
        output = "x" * round(min(texts.reference, BYTES_A_TOKEN * suite.sampling.max_new_tokens))
        prompt = Prompt(
            task=task, doc_id="0", text=document, references=("x" * texts.reference,), doc={}, shortens=document
        )
        sample = Sample(
            task=task, doc_id="0", temperature=1.0, index=0, text=output, finish_reason="stop", n_tokens=None
        )
        pair = Pair(prompt, sample, prompt.references[0], "0")
        samples = len(suite.sampling.temperatures) * suite.sampling.k if config.samples == "all" else 1
        calls = texts.prompts * samples * len(orders_asked(config, pair))
        asked += calls * about_tokens(question.messages(pair, 0))
        replied += calls * config.max_tokens
    return config.price.of(asked, replied)


def priced_judge(suite: Suite, names: Sequence[str]) -> ChatConfig:
    """Find the chat judge of a plan: the first named that knows the suite's tasks, else the suite's published one.

    Raises
    ------
    UserError
        If there is none, or one that is named is behind no server.
    """
    for name in (*names, suite.published_judge or suite.judge):
        if name is None:
            continue
        config = find_judge(name)
        if not isinstance(config, ChatConfig):
            raise UserError(f"judge {config.judge} costs nothing; --judge is for judges behind a server")
        if all(entry.task in config.tasks for entry in suite.tasks):
            return config
    raise UserError(f"no judge knows the tasks of suite {suite.id}; give --judge")
