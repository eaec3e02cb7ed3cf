"""What judging would cost is what the judge's own dry run says, and the judge is one that has a price."""

import pytest

from benchmark.errors import UserError
from benchmark.judging.chat import ChatJudge
from benchmark.judging.config import find_judge
from benchmark.judging.judge import Pair
from benchmark.records import Prompt, Sample
from benchmark.suites import load_suite
from reference_models import judge_cost
from reference_models.paper_experiments import EXPERIMENTS, Experiment, Texts
from reference_models.plan import Means


@pytest.mark.parametrize("judge", ["summaries-gpt-4.1", "summaries-gpt-4-paper"])
def test_the_judge_costs_what_its_own_dry_run_says_of_texts_of_that_length(judge):
    suite, config = load_suite("summarisation"), find_judge(judge)
    experiment = Experiment("gendiv_tldr", Means(1, 1), 2, EXPERIMENTS["summarisation"].longest, {
        "gendiv_tldr": Texts(3, 40, 12), "gendiv_cnn_dailymail": Texts(2, 100, 20),
    })  # fmt: skip
    pairs = []
    for task, texts in experiment.evaluated.items():
        for number in range(texts.prompts):
            document, reference = f"{number}" * texts.document, "r" * texts.reference
            prompt = Prompt(
                task=task, doc_id=str(number), text=document, references=(reference,), doc={}, shortens=document
            )  # fmt: skip
            sample = Sample(
                task=task, doc_id=str(number), temperature=1.0, index=0, text="s" * texts.reference,
                finish_reason="stop", n_tokens=None,
            )  # fmt: skip
            pairs.append(Pair(prompt, sample, reference, str(number)))
    told = ChatJudge(config).plan(pairs)
    assert told.calls == len(pairs) * (2 if config.orders == "both" else 1)
    assert judge_cost.judge_cost(suite, experiment, config) == pytest.approx(told.cost)


def test_the_judge_is_the_one_that_is_named_where_it_knows_the_tasks():
    summaries, answers = load_suite("summarisation"), load_suite("instructions")
    named = ("summaries-gpt-4-paper",)
    assert judge_cost.priced_judge(summaries, named).judge == "summaries-gpt-4-paper"
    assert judge_cost.priced_judge(answers, named).judge == "answers-gpt-4.1"
    with pytest.raises(UserError, match="costs nothing"):
        judge_cost.priced_judge(summaries, ("oracle",))
    with pytest.raises(UserError, match="no price in its file"):
        judge_cost.judge_cost(summaries, EXPERIMENTS["summarisation"], find_judge("summaries-local", model="m"))
