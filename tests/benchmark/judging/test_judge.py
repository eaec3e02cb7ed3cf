"""Verdicts: complete, keyed by everything that made them, never asked twice."""

import pytest

from benchmark.errors import UserError
from benchmark.judging.config import find_judge
from benchmark.judging.judge import Pair, check_verdicts, judge_pairs, load_judge, pairs_of, verdict_key
from benchmark.records import Prompt, Sample
from benchmark.runs import Run, appending
from tasks.pocket import world
from tasks.pocket.words import TOPICS

DOCS = [world.document("id", number) for number in range(3)]
PROMPTS = [
    Prompt(task="gendiv_pocket_id", doc_id=d["id"], text=d["prompt"], references=(d["reference"],), doc=d) for d in DOCS
]


def sample_of(prompt, text, index=0):
    return Sample(
        task=prompt.task,
        doc_id=prompt.doc_id,
        temperature=1.0,
        index=index,
        text=text,
        finish_reason="stop",
        n_tokens=3,
    )


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path)
    with appending(run.samples_path("gendiv_pocket_id")) as log:
        log.append([sample_of(p, text, i) for p in PROMPTS for i, text in enumerate(["", p.references[0], "dog"])])
    return run


def judge(run, samples=None):
    config = find_judge("oracle")
    pairs = pairs_of(config, PROMPTS, run.samples("gendiv_pocket_id") if samples is None else samples)
    return judge_pairs(load_judge(config), pairs, run.verdicts_path("gendiv_pocket_id", "oracle"))


def ask(prompt, text):
    """The oracle's word on one text."""
    found = []
    sample = sample_of(prompt, text)
    load_judge(find_judge("oracle")).judge([Pair(prompt, sample, prompt.references[0], "key")], found.extend)
    (verdict,) = found
    return verdict


def test_the_oracle_prefers_what_scores_higher_and_ties_equal_scores(run):
    judge(run)
    for verdict in run.verdicts("gendiv_pocket_id", "oracle"):
        doc = next(d for d in DOCS if d["id"] == verdict.doc_id)
        text = ["", doc["reference"], "dog"][verdict.index]
        mine, other = world.oracle(doc, text), world.oracle(doc, doc["reference"])
        assert (verdict.score, verdict.reference_score) == (mine, other)
        assert verdict.preference == (0.5 if mine == other else float(mine > other))
        assert (verdict.length, verdict.reference_length) == (len(text), len(doc["reference"]))


def test_a_little_worse_is_a_loss_and_a_little_better_a_win():
    right = " and ".join(TOPICS[topic][1][0] for topic in DOCS[0]["topics"])
    worse = f"honestly {right}"  # 0.05 less
    for reference, text, preference in ((right, worse, 0.0), (worse, right, 1.0), (right, right, 0.5)):
        prompt = PROMPTS[0].model_copy(update={"references": (reference,)})
        assert ask(prompt, text).preference == preference


def test_what_has_a_verdict_is_not_judged_again_and_the_file_is_left_alone(run):
    assert judge(run) == 9
    path = run.verdicts_path("gendiv_pocket_id", "oracle")
    before = path.read_bytes()
    assert judge(run) == 0
    assert path.read_bytes() == before


def test_a_judge_killed_in_the_middle_finishes_with_the_same_bytes(run):
    judge(run)
    path = run.verdicts_path("gendiv_pocket_id", "oracle")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    judge(run)
    assert path.read_bytes() == whole


def test_a_failed_verdict_is_asked_again(run):
    judge(run)
    path = run.verdicts_path("gendiv_pocket_id", "oracle")
    verdicts = run.verdicts("gendiv_pocket_id", "oracle")
    path.unlink()
    with appending(path) as log:
        log.append([verdicts[0].model_copy(update={"preference": None, "error": "time-out"}), *verdicts[1:]])
    assert judge(run) == 1
    assert run.verdicts("gendiv_pocket_id", "oracle")[-1] == verdicts[0]


def test_a_verdict_on_another_text_is_refused(run):
    judge(run)
    path = run.verdicts_path("gendiv_pocket_id", "oracle")
    path.write_text(path.read_text().replace('"key":"', '"key":"0', 1))
    with pytest.raises(UserError, match="is of another text or another version of the judge"):
        judge(run)


def test_a_log_with_a_missing_double_or_foreign_verdict_is_refused(run):
    judge(run)
    path = run.verdicts_path("gendiv_pocket_id", "oracle")
    verdicts = run.verdicts("gendiv_pocket_id", "oracle")
    cells = [verdict.cell for verdict in verdicts]
    assert check_verdicts(verdicts, cells, where=path) == set(cells)
    failed = verdicts[0].model_copy(update={"preference": None, "error": "x"})
    assert check_verdicts([failed, *verdicts], cells, where=path) == set(cells), "a failure may be asked again"
    assert check_verdicts([failed, *verdicts[1:]], cells, where=path) == set(cells[1:])
    for log, says in (
        (verdicts[1:], "has no verdict; run `gendiv judge`"),
        (verdicts[2:], "has no verdict, nor have 1 more"),
        ([*verdicts, verdicts[0]], "is there twice"),
        ([*verdicts, verdicts[0].model_copy(update={"doc_id": "z"})], "is of no sample"),
    ):
        with pytest.raises(UserError, match=says):
            check_verdicts(log, cells, where=path)


def test_the_key_holds_judge_prompt_reference_and_text():
    prompt = PROMPTS[0]
    keys = {
        verdict_key("j", prompt, "dog", "cow"),
        verdict_key("k", prompt, "dog", "cow"),
        verdict_key("j", prompt.model_copy(update={"text": "x"}), "dog", "cow"),
        verdict_key("j", prompt.model_copy(update={"chat": "x"}), "dog", "cow"),
        verdict_key("j", prompt.model_copy(update={"shortens": "x"}), "dog", "cow"),
        verdict_key("j", prompt, "dog", "hen"),
        verdict_key("j", prompt, "cat", "cow"),
        verdict_key("j", prompt, "cow", "dog"),
    }
    assert len(keys) == 8


def test_an_unknown_judge_lists_the_known_ones():
    with pytest.raises(UserError, match=r"no judge .gpt-9.; there are: .*, oracle, .* or give a .yaml file"):
        find_judge("gpt-9")
