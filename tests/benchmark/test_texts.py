"""Texts without a run: the numbers are those of a run of the same texts, and a wrong line is named."""

import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_nli import make_checkpoint

from benchmark import cli
from benchmark.errors import UserError
from benchmark.metrics import compression, distinct_k, distinct_n, ead, ngram_cosine, nli, self_bleu, vendi
from benchmark.metrics.encoder import Encoder
from benchmark.metrics.ngrams import count_sets
from benchmark.metrics.nli import CrossEncoderNLI
from benchmark.metrics.repeats import repeats_of
from benchmark.quantities import range_of
from benchmark.statistics.intervals import plus4_t
from benchmark.texts import TextRow, read_texts, score_texts

ROWS = [
    {"prompt": "an animal", "outputs": ["a dog", "the blue whale , the largest", "a dog"]},
    {"prompt": "a city", "outputs": ["Paris", "Lagos in Nigeria", "Quito"]},
    {"outputs": ["hello there", "good morning to you", ""], "id": 7},
    {"prompt": "x", "outputs": ["x", "one two three", "three two one"]},
]


def written(tmp_path, text):
    path = tmp_path / "texts.jsonl"
    path.write_text(text if isinstance(text, str) else "".join(json.dumps(row) + "\n" for row in text))
    return path


@pytest.fixture(scope="module")
def estimates(tmp_path_factory):
    rows = read_texts(written(tmp_path_factory.mktemp("texts"), ROWS))
    return {estimate.metric: estimate for estimate in score_texts(rows)}


def test_every_metric_is_that_of_its_own_function(estimates):
    sets = [row["outputs"] for row in ROWS]
    assert estimates["ead_per_input"].value == pytest.approx(np.nanmean(ead.per_input(count_sets(sets))))
    assert estimates["distinct_per_input"].value == pytest.approx(np.nanmean(distinct_n.per_input(count_sets(sets))))
    repeated = repeats_of(sets)
    assert estimates["self_bleu_per_input"].value == pytest.approx(np.nanmean(self_bleu.per_input(repeated)))
    assert estimates["ngram_cosine_per_input"].value == pytest.approx(np.nanmean(ngram_cosine.per_input(repeated)))
    assert estimates["compression_per_input"].value == pytest.approx(np.nanmean(compression.per_input(sets)))
    vectors = np.array([Encoder().encode(texts) for texts in sets])
    assert estimates["vendi_per_input"].value == pytest.approx(vendi.per_input(vectors).mean(), abs=1e-2)
    kinds = distinct_k.per_input(distinct_k.classes(distinct_k.cosine_relation(vectors)))
    assert estimates["distinct_k_per_input"].value == pytest.approx(kinds.mean())
    slots = [list(slot) for slot in zip(*sets, strict=True)]
    for metric, module in (("self_bleu", self_bleu), ("ngram_cosine", ngram_cosine)):
        across = np.mean([module.across_input(repeats_of([slot]))[0][0] for slot in slots])
        assert estimates[f"{metric}_across_input"].value == pytest.approx(across)
    across = vendi.across_input(vectors.swapaxes(0, 1))[0].mean()
    assert estimates["vendi_across_input"].value == pytest.approx(across, abs=1e-2)
    assert estimates["empty_share"].value == pytest.approx(1 / 12)
    assert estimates["valid_share_text"].value == pytest.approx(10 / 12), "an empty one, and one that is the prompt"
    for metric in ("sbert_per_input", "sbert_across_input", "effective_per_input_text"):
        assert 0 < estimates[metric].value < 1.5


def test_nothing_is_said_of_a_judge(estimates):
    assert not [metric for metric in estimates if "win" in metric]


def test_one_output_a_prompt_gives_what_needs_no_second(tmp_path):
    rows = read_texts(written(tmp_path, [row | {"outputs": row["outputs"][:1]} for row in ROWS]))
    metrics = {estimate.metric for estimate in score_texts(rows)}
    assert "sbert_across_input" in metrics
    assert not [metric for metric in metrics if "per_input" in metric]


def test_one_prompt_gives_what_needs_no_second(tmp_path):
    assert not [e for e in score_texts(read_texts(written(tmp_path, ROWS[:1]))) if "across" in e.metric]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ('{"outputs": ["a"]}\nnope\n', r"texts\.jsonl:2: not JSON"),
        ('{"outputs": []}\n', r"texts\.jsonl:1: outputs: must be a list of at least one text; a line is {"),
        ('{"outputs": "abc"}\n', r"texts\.jsonl:1: outputs: must be a list of at least one text; a line is {"),
        ('{"outputs": ["a", 3]}\n', r"texts\.jsonl:1: outputs\.1: must be a text; "),
        ('{"outputs": ["a"], "prompt": 3}\n', r"texts\.jsonl:1: prompt: must be a text; "),
        ('{"outputs": ["a"], "references": "b"}\n', r"texts\.jsonl:1: references: must be a list of texts; "),
        ("[1]\n", r"texts\.jsonl:1: must be an object; a line is {"),
        ('{"prompt": "x"}\n', r"texts\.jsonl:1: outputs: must be a list"),
        ('{"outputs": ["a"], "n": ' + "1" * 5000 + "}\n", r"texts\.jsonl:1: not JSON"),
        ('{"promt": "x", "outputs": ["a"]}\n', r"texts\.jsonl:1: unknown field 'promt'; write 'prompt', or leave"),
        ('{"pormpt": "x", "outputs": ["a"]}\n', r"texts\.jsonl:1: unknown field 'pormpt'; write 'prompt'"),
        ('{"Prompt": "x", "outputs": ["a"]}\n', r"texts\.jsonl:1: unknown field 'Prompt'; write 'prompt'"),
        ('{"prompt": "x", "output": ["a"]}\n', r"texts\.jsonl:1: unknown field 'output'; write 'outputs'"),
        ('{"prompt": "x", "outputs": ["a"], "prompt": "y"}\n', r"texts\.jsonl:1: field 'prompt' is there twice; keep"),
        (
            '{"prompt": "x", "outputs": ["a"]}\n\n{"prompt": "x ", "outputs": ["b"]}',
            r"texts\.jsonl:3: the prompt of line 1 again; put all outputs of a prompt into one line",
        ),
        (
            '{\n "prompt": "x",\n "outputs": ["a"]\n}\n',
            r"texts\.jsonl: is one JSON value over several lines; give JSONL",
        ),
        ('{"outputs": ["a", "b"]}\n{"outputs": ["a"]}', r"texts\.jsonl:2: 1 outputs, where the first line has 2"),
        ('{"outputs": ["\\ud800"]}\n', "half a character"),
    ],
)
def test_a_wrong_line_is_named_with_the_mend(tmp_path, text, says):
    with pytest.raises(UserError, match=says) as error:
        read_texts(written(tmp_path, text))
    assert "\n" not in str(error.value)


def test_a_last_line_without_an_end_and_a_byte_order_mark_are_fine(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"outputs": ["a", "b"]}\n{"outputs": ["c", "d"]}')
    assert [row.outputs for row in read_texts(path)] == [("a", "b"), ("c", "d")]


def test_fields_that_are_no_misspelling_are_not_read_and_prompts_that_are_not_told_are_no_repetition(tmp_path):
    rows = [
        {"outputs": ["a"], "prompt_id": 1, "n": {"model": "m"}},
        {"outputs": ["b"], "prompt": "", "id": 2},
        {"outputs": ["c"], "prompt": "x", "prompts": 3, "output": "c"},
    ]
    assert [row.prompt for row in read_texts(written(tmp_path, rows))] == ["", "", "x"]


def test_a_file_of_a_run_names_the_runs_folder(tmp_path):
    for name in ("run.json", "scores.json"):
        (tmp_path / name).write_text('{"name": "x"}\n')
    for name in ("run.json", "scores.json"):
        with pytest.raises(UserError, match=f"{name}: is a file of a run; give the folder: {tmp_path}$"):
            read_texts(tmp_path / name)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_texts(tmp_path / "none.jsonl")


def test_nli_diversity_is_there_for_whoever_names_a_classifier(tmp_path, monkeypatch, capsys):
    classifier = make_checkpoint(tmp_path / "nli")
    path = written(tmp_path, ROWS)

    def gendiv(*arguments):
        monkeypatch.setattr(sys, "argv", ["gendiv", "score", str(path), *map(str, arguments)])
        try:
            cli.main()
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
        return status, capsys.readouterr()

    status, printed = gendiv("--metrics", "nli")
    assert status
    assert "give --nli MODEL" in printed.err
    status, printed = gendiv("--metrics", "nli", "--nli", classifier)
    assert not status
    cached = (tmp_path / "texts.jsonl.nli").read_bytes()
    assert cached.count(b"\n") > 0
    loaded = CrossEncoderNLI(str(classifier))
    value = np.nanmean(nli.per_input([row["outputs"] for row in ROWS], loaded, neighbours=1))
    assert f"{value:z.3f}" in next(line for line in printed.out.splitlines() if line.startswith("nli_per_input"))
    again = gendiv("--metrics", "nli", "--nli", classifier)
    assert again[1].out == printed.out
    assert (tmp_path / "texts.jsonl.nli").read_bytes() == cached, "nothing is asked twice"


def test_an_answer_in_the_script_of_its_reference_is_no_strange_one(tmp_path):
    rows = [{"prompt": f"Say {what} in Greek.", "outputs": ["καλημέρα", "γεια σου"]} for what in ("hello", "good day")]
    told = [row | {"references": ["καλή σας ημέρα"]} for row in rows]
    shares = []
    for given in (rows, told):
        found = {e.metric: e.value for e in score_texts(read_texts(written(tmp_path, given)))}
        shares.append(found["valid_share_text"])
    assert shares == [0.0, 1.0]


def told(capsys, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["gendiv", "score", *map(str, arguments)])
    try:
        cli.main()
        status = 0
    except SystemExit as stop:
        status = stop.code or 0
    return status, capsys.readouterr()


def test_the_first_command_of_the_readme_prints_a_table(tmp_path, monkeypatch, capsys):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    [lines] = re.findall(
        r"cat > texts\.jsonl <<'END'\n(.*?)END\n\.venv/bin/gendiv score texts\.jsonl", readme, re.DOTALL
    )
    monkeypatch.setenv("GENDIV_DATA", str(tmp_path))  # as whoever works with local data has it
    status, printed = told(capsys, monkeypatch, written(tmp_path, lines))
    assert not status
    for metric in ("ead_per_input", "sbert_per_input", "vendi_across_input"):
        [line] = [line for line in printed.out.splitlines() if line.startswith(metric)]
        assert re.search(r"\d\.\d{3} +\[\d+\.\d{3}, \d+\.\d{3}\]", line)
    assert "[-" not in printed.out, "no metric of texts is below 0"
    assert not re.search(r"\[(\d+\.\d{3}), \1\]", printed.out), "three prompts are never certain"


def test_one_prompt_has_values_and_no_interval(tmp_path, monkeypatch, capsys):
    path = written(tmp_path, ROWS[:1])
    found = {measured.metric: measured for measured in score_texts(read_texts(path))}
    sets = [ROWS[0]["outputs"]]
    assert found["distinct_per_input"].value == pytest.approx(distinct_n.per_input(count_sets(sets))[0])
    assert all(measured.interval is None for measured in found.values())
    status, printed = told(capsys, monkeypatch, path)
    assert not status
    assert "one prompt has no interval" in printed.out


def test_two_prompts_are_told_to_be_too_few_across_inputs(tmp_path, monkeypatch, capsys):
    for rows in (2, 3):
        _, printed = told(capsys, monkeypatch, written(tmp_path, ROWS[:rows]))
        assert ("note: two prompts are too few for diversity across inputs" in printed.out) == (rows == 2)
        assert ("vendi_across_input" in printed.out) == (rows == 3)


def test_lines_without_a_prompt_are_counted_in_a_note(tmp_path, monkeypatch, capsys):
    path = written(tmp_path, [*ROWS, {"prompt": " ", "outputs": ["a", "b", "c"]}])
    _, printed = told(capsys, monkeypatch, path)
    assert "note: 2 of 5 lines have no prompt; an output there that repeats it" in printed.out
    _, printed = told(capsys, monkeypatch, written(tmp_path, ROWS[:2]))
    assert "have no prompt" not in printed.out


def test_a_mean_over_fewer_prompts_says_over_how_many(tmp_path, monkeypatch, capsys):
    rows = [*ROWS[:3], {"prompt": "nothing", "outputs": ["", "", ""]}]
    _, printed = told(capsys, monkeypatch, written(tmp_path, rows), "--metrics", "EAD_per, ")
    [line] = [line for line in printed.out.splitlines() if line.startswith("ead_per_input")]
    assert "(n = 3 of 4)" in line
    assert "sbert" not in printed.out, "an empty part begins nothing"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metrics", "win_rate"], "texts alone give none of these"),
        (["--metrics", "own_typo"], "texts alone give none of these"),
        (["--judge", "oracle"], "--judge is for a run"),
        (["--gate", "x.yaml"], "--gate is for a run"),
        (["--allow-missing"], "--allow-missing is for a run"),
    ],
)
def test_what_texts_cannot_give_is_told(tmp_path, monkeypatch, capsys, arguments, message):
    status, printed = told(capsys, monkeypatch, written(tmp_path, ROWS), *arguments)
    assert status
    assert message in printed.err


def test_a_path_that_is_not_there_is_told(tmp_path, monkeypatch, capsys):
    status, printed = told(capsys, monkeypatch, tmp_path / "none.jsonl")
    assert status
    assert "no such file or run folder" in printed.err


@pytest.mark.parametrize(
    ("metric", "ends"),
    [
        ("distinct_per_input", (0.0, 1.0)),
        ("distinct_across_input", (0.0, 1.0)),
        ("effective_across_input_text", (0.0, 1.0)),
        ("sbert_across_input", (0.0, 12 / 11)),
        ("vendi_per_input", (1.0, 4.0)),
        ("vendi_across_input", (1.0, 12.0)),
        ("nli_per_input", (-1.0, 1.0)),
        ("nli_paper_table_across_input", (-2.0, 2.0)),
        ("length_words", (0.0, math.inf)),
        ("compression_per_input", (0.0, math.inf)),
        ("own_question_share", None),
    ],
)
def test_the_ends_of_a_metric_are_what_the_catalogue_says(metric, ends):
    assert range_of(metric, 4, 12) == ends


def measured(outputs, n):
    """What is measured of ``n`` prompts with the outputs that a function of the prompt's number gives."""
    rows = [TextRow(prompt=f"prompt {number}", outputs=tuple(outputs(number))) for number in range(n)]
    return {one.metric: one for one in score_texts(rows)}


@pytest.mark.parametrize("n", [3, 20])
def test_few_prompts_that_never_say_the_same_are_not_said_to_never_do(n):
    # Five words at least, for the published EAD of a shorter text is about its length.
    found = measured(lambda doc: [" ".join(f"w{doc}x{i}x{j}" for j in range(5 + doc % 3)) for i in range(2)], n)
    for name in ("ead", "ead_rlfh", "distinct", "self_bleu", "ngram_cosine"):
        one = found[f"{name}_across_input"]
        low, high = plus4_t([1.0] * n)
        if name == "self_bleu":
            low, high = 1 - high, 1 - low
        assert tuple(one.interval) == pytest.approx((low, high), abs=2e-3), name
        assert one.interval.low <= one.value <= one.interval.high, name


def test_few_prompts_of_one_answer_each_may_have_others():
    found = measured(lambda doc: [f"a b c d e w{doc}"] * 2, 5)
    for metric in ("ead_per_input", "ead_rlfh_per_input", "distinct_per_input"):
        assert tuple(found[metric].interval) == pytest.approx(tuple(plus4_t([0.5] * 5)), abs=1e-3), metric


def test_intervals_of_few_prompts_stay_in_the_range_of_their_metric():
    answers = [["a b c d e f"] * 2, ["a b c d e f", "p q r s t u v"], ["x", "y"]]
    for one in measured(lambda doc: answers[doc], 3).values():
        low, high = range_of(one.metric, 2, 3)
        assert low <= one.interval.low < one.interval.high <= (math.inf if one.metric.startswith("ead") else high)
        assert one.interval.low <= one.value <= one.interval.high, one.metric


def test_few_prompts_without_a_word_have_no_ead_to_be_guarded():
    found = measured(lambda doc: ["", ""], 3)
    assert "ead_per_input" not in found
    assert found["ead_rlfh_per_input"].value == 0.0
