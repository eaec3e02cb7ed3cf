"""Two halves of preference pairs that share nothing with each other, nor with what is evaluated."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path

import pytest
from data_root import make_data_root
from real_texts import NUMBER, dialogue, make_people, pandalm, read, thirteens, write

from benchmark.errors import UserError
from benchmark.suites import load_prompts, load_suite
from reference_models import real_text
from reference_models.real_text_preferences import DIALOGUES, OTHERS, PANDALM, half_of, prepare

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = make_data_root(tmp_path / "data")
    monkeypatch.setenv("GENDIV_DATA", str(folder))
    return folder


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write(tmp_path / "pairs.jsonl", [{"prompt": f"post {n}", "completion": f" sum {n}"} for n in range(NUMBER)])


def test_the_halves_share_no_prompt_and_hold_every_kind(root: Path, pairs: Path, tmp_path: Path) -> None:
    prepare(make_people(tmp_path / "people"), [pairs], tmp_path / "out")
    halves = [read(tmp_path / "out" / f"{half}-pairs.jsonl") for half in ("policy", "judge")]
    prompts = [{row["prompt"] for row in half} for half in halves]
    assert not prompts[0] & prompts[1]
    assert sum(map(len, prompts)) == 3 * NUMBER
    for half in halves:
        assert {row["kind"] for row in half} == {"pandalm", "hh-rlhf", "other-reference"}
        seen = [row["prompt"] for row in half]
        assert len(set(seen)) == 1 + sum(a != b for a, b in itertools.pairwise(seen)), "they stand together"


def test_a_cut_through_the_prompts_leaves_few_references_on_both_sides(root: Path, pairs: Path, tmp_path: Path) -> None:
    prepare(make_people(tmp_path / "people"), [pairs], tmp_path / "out")
    for half in ("policy", "judge"):
        rows = [row for row in read(tmp_path / "out" / f"{half}-pairs.jsonl") if row["kind"] == "other-reference"]
        prompts = list(dict.fromkeys(row["prompt"] for row in rows))
        for cut in range(1, len(prompts)):
            held = set(prompts[:cut])
            known = {row["chosen"] for row in rows if row["prompt"] in held}
            assert len(known & {row["rejected"] for row in rows if row["prompt"] not in held}) <= OTHERS


def test_the_majority_and_the_last_turn_decide(root: Path, pairs: Path, tmp_path: Path) -> None:
    people = make_people(tmp_path / "people")
    votes = {"first": (1, 1, 2), "second": (2, 0, 2), "tied": (0, 0, 1), "split": (0, 1, 2)}
    write(people / PANDALM, [pandalm(f"say {name}", *vote) for name, vote in votes.items()])
    counts = prepare(people, [pairs], tmp_path / "out")
    rows = [row for half in ("policy", "judge") for row in read(tmp_path / "out" / f"{half}-pairs.jsonl")]
    chosen = {row["chosen"]: row["rejected"] for row in rows if row["kind"] == "pandalm"}
    assert chosen == {"one of say first": "two of say first", "two of say second": "one of say second"}
    assert counts["pandalm: no answer is preferred"] == 2
    said = next(row for row in rows if row["kind"] == "hh-rlhf")
    assert said["prompt"].startswith("Human: what is ")
    assert said["prompt"].endswith("Human: Because.\n\nAssistant:")
    assert said["rejected"] == " go away"


def test_a_reference_is_better_than_another_texts_of_its_own_half(root: Path, pairs: Path, tmp_path: Path) -> None:
    prepare(make_people(tmp_path / "people"), [pairs], tmp_path / "out")
    for half in ("policy", "judge"):
        mine = {row["prompt"]: row["completion"] for row in read(tmp_path / "out" / f"{half}-references.jsonl")}
        rows = [row for row in read(tmp_path / "out" / f"{half}-pairs.jsonl") if row["kind"] == "other-reference"]
        assert {row["prompt"] for row in rows} == set(mine)
        for row in rows:
            assert row["chosen"] == mine[row["prompt"]] != row["rejected"]
            assert row["rejected"] in mine.values()


def test_what_shares_words_with_an_evaluated_text_is_left_out(root: Path, pairs: Path, tmp_path: Path) -> None:
    people = make_people(tmp_path / "people")
    asked = str(load_prompts(load_suite("instructions"))["gendiv_alpaca_eval"][0].chat)
    post = next(
        p.shortens for p in load_prompts(load_suite("summarisation"))["gendiv_tldr"] if len(p.text.split()) > 99
    )
    assert post is not None
    words = " ".join(post.split()[2:30])
    write(people / PANDALM, [pandalm(asked, 1, 1, 1), pandalm("say it", 1, 1, 1)])
    rows = [dialogue(words, "yes", "no"), dialogue("is it so?", words, "no"), dialogue("is it so?", "yes", words)]
    write(people / DIALOGUES, [*rows, *[dialogue(f"is it {n}?", "yes", "no") for n in range(9)]])
    write(pairs, [{"prompt": "post", "completion": words}, *map(json.loads, pairs.read_text().splitlines())])
    counts = prepare(people, [pairs], tmp_path / "out")
    assert counts["pandalm: overlaps with an evaluated text"] == 1
    assert counts["hh-rlhf: overlaps with an evaluated text"] == 3
    assert counts["references: overlaps with an evaluated text"] == 1
    for path in (tmp_path / "out").iterdir():
        assert not any(words in row["prompt"] + row.get("chosen", "") + row.get("completion", "") for row in read(path))


def test_near_copies_do_not_stand_in_both_halves(root: Path, pairs: Path, tmp_path: Path) -> None:
    people = make_people(tmp_path / "people")
    long = " ".join(f"w{number}" for number in range(20))
    same = [f"{long} {number}" for number in range(8)]
    assert {half_of(f"Human: {question}", 1) for question in same} == {"policy", "judge"}
    write(people / DIALOGUES, [dialogue(question, "yes", "no") for question in same])
    counts = prepare(people, [pairs], tmp_path / "out")
    assert not [row for row in read(tmp_path / "out" / "judge-pairs.jsonl") if long in row["prompt"]]
    assert counts["hh-rlhf: in both halves"] == sum(half_of(f"Human: {question}", 1) == "judge" for question in same)


def test_the_same_input_gives_the_same_bytes_and_another_seed_other_halves(
    root: Path, pairs: Path, tmp_path: Path
) -> None:
    people = make_people(tmp_path / "people")
    made = []
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        prepare(people, [pairs], tmp_path / name, seed=seed)
        made.append({path.name: path.read_bytes() for path in sorted((tmp_path / name).iterdir())})
    assert made[0] == made[1]
    assert made[0]["policy-pairs.jsonl"] != made[2]["policy-pairs.jsonl"]


def test_a_line_that_is_no_dialogue_is_refused_by_its_number(root: Path, pairs: Path, tmp_path: Path) -> None:
    people = make_people(tmp_path / "people")
    with gzip.open(people / DIALOGUES, "at") as file:
        file.write('{"chosen": "a"}\n')
    with pytest.raises(UserError, match=rf"jsonl\.gz:{NUMBER + 1}: needs a text under 'chosen'|'rejected'"):
        prepare(people, [pairs], tmp_path / "out")
    with pytest.raises(UserError, match="no such file"):
        prepare(tmp_path, [pairs], tmp_path / "out")


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "hh_rlhf").is_dir(), reason="needs ../shared/data, which a clone does not have")
def test_on_the_real_pairs_nothing_evaluated_is_in_either_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmark.data.adopt import adopt
    from benchmark.export import training_data
    from benchmark.export import write as write_rows

    adopt(SHARED, tmp_path / "data")
    monkeypatch.setenv("GENDIV_DATA", str(tmp_path / "data"))
    pairs = []
    for task in ("gendiv_tldr", "gendiv_alpaca_farm"):
        pairs.append(tmp_path / f"{task}.jsonl")
        write_rows(pairs[-1], training_data(task).rows)
    counts = prepare(SHARED, pairs, tmp_path / "out")
    assert "policy: pandalm" not in counts, "every pair that people agree on asks what AlpacaEval asks"
    assert (
        min(counts[f"{half}: {kind}"] for half in ("policy", "judge") for kind in ("hh-rlhf", "other-reference")) > 900
    )
    evaluated: set[str] = set()
    whole: set[str] = set()
    for suite in real_text.SUITES:
        for prompts in load_prompts(load_suite(suite)).values():
            for prompt in prompts:
                evaluated |= thirteens(prompt.shortens or prompt.chat or prompt.text)
                whole.add(" ".join(prompt.text.split()))
    halves = [read(tmp_path / "out" / f"{half}-pairs.jsonl") for half in ("policy", "judge")]
    for row in halves[0] + halves[1]:
        assert not evaluated & thirteens(" ".join((row["prompt"], row["chosen"], row["rejected"])))
        assert " ".join(row["prompt"].split()) not in whole
    people = [[row for row in half if row["kind"] == "hh-rlhf"] for half in halves]
    texts = [{run for row in half for run in thirteens(row["prompt"]) | thirteens(row["chosen"])} for half in people]
    assert len(texts[0] & texts[1]) < 0.001 * len(texts[0])
