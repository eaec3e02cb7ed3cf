"""``gendiv reproduce plan``: every cell is planned for, every command exists, and sums are those of their parts."""

import itertools
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tiny_opt import make_opt
from tiny_runs import WORDS, write_jsonl
from typer.main import get_command

from benchmark import cli, judge_cost
from benchmark.errors import UserError
from benchmark.judging.chat import ChatJudge
from benchmark.judging.config import find_judge
from benchmark.judging.judge import Pair
from benchmark.paper_experiments import EXPERIMENTS, Experiment, Texts
from benchmark.records import Prompt, Sample
from benchmark.reproduction_plan import make_plan
from benchmark.reproduction_plan_text import line_of, markdown, shell, tables
from benchmark.suites import load_suite, tasks_folder
from leaderboard.paper_plan import open_cells
from leaderboard.paper_tables import paper_tables
from leaderboard.reproduction import reproduce
from reference_models.arguments import parse_overrides, read_recipe
from reference_models.flops import generation_flops
from reference_models.methods import METHODS
from reference_models.plan import Means, Measured

MEASURED = tuple(
    Measured(gpu, method, size, 1e14 * (1 + size / 1e9))
    for gpu in ("NVIDIA H200", "NVIDIA H100 80GB HBM3")
    for method in ("sft", "reward-model", "ppo", "generate")
    for size in (40e6, 160e6)
)


@pytest.fixture(scope="module")
def empty():
    return open_cells(list(paper_tables().values()), [])


@pytest.fixture(scope="module")
def plan(empty):
    return make_plan(empty, MEASURED, price=3.0)


@pytest.fixture
def gendiv(monkeypatch, capsys):
    """Run the command in this process: (status, standard output, error stream)."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["gendiv", *map(str, words)])
        status = 0
        try:
            cli.main()
        except SystemExit as stop:
            status = stop.code or 0
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def throughput(tmp_path):
    path = tmp_path / "throughput.yaml"
    rows = [{**row.__dict__, "tokens": 512} for row in MEASURED]
    path.write_text(yaml.safe_dump(rows), encoding="utf-8")
    return path


def steps(plan):
    return [*plan.exports, *(step for section in plan.sections for step in section.steps)]


# ---- Which cells ----


def test_every_cell_that_nothing_answers_is_planned_for_or_said_to_be_measured_otherwise(empty, plan):
    cells = [
        (table.name, cell.row.model, cell.row.method, cell.column.key)
        for table in paper_tables().values()
        for cell in reproduce(table, [])
    ]
    planned = [cell for section in plan.sections for run in section.runs for cell in run.cells]
    found = [(cell.table, cell.row.model, cell.row.method, cell.column.key) for cell in (*planned, *plan.others)]
    assert sorted(found) == sorted(cells)
    assert all(cell.column.measured_by for cell in plan.others)


def test_a_run_that_is_there_is_planned_no_more_but_what_others_need_of_it_is(empty):
    only = [run for run in empty.runs if run.model == "facebook/opt-125m" and run.method == "best-of-16"]
    found = make_plan(type(empty)(tuple(only), ()), MEASURED)
    [section] = found.sections
    assert [step.stage for step in section.steps] == [
        *("base model", "sft", "reward-model", "sampling", "judge", "score", "submit")
    ]
    assert not any("prompts" in step.command for step in found.exports), "without PPO there is nothing to draw for"


def test_without_an_empty_cell_nothing_is_planned(empty):
    found = make_plan(type(empty)((), ()), MEASURED)
    assert (found.sections, found.exports, found.hours.expected, found.dollars) == ((), (), 0.0, 0.0)
    assert "in all" in markdown(found)
    subprocess.run(["bash", "-n", "-c", shell(found)], check=True)


# ---- Commands ----


def test_the_script_parses_and_every_command_and_option_is_there(plan):
    script = shell(plan)
    subprocess.run(["bash", "-n", "-c", script], check=True)
    top = get_command(cli.app).commands
    seen = set()
    for line in script.splitlines():
        words = shlex.split(line.partition(" || ")[2] or line, comments=True)
        if not words or words[0] != "gendiv":
            continue
        command = top[words[1]]
        rest = words[2:]
        if hasattr(command, "commands"):
            command, rest = command.commands[rest[0]], rest[1:]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options, line
        seen.add(command.name)
    assert seen == {"export", "train", "run", "judge", "score", "submit"}


def test_every_training_has_the_arguments_that_its_method_takes(plan):
    found = 0
    for step in steps(plan):
        if step.stage in ("sft", "reward-model", "ppo"):
            place = step.command.index("--recipe")
            given = parse_overrides(step.command[place + 3 :])
            args = read_recipe(METHODS[step.stage].load(), Path(step.command[place + 1]), given)
            assert args.batch_size % step.gpus == 0
            launched = step.command[:2] == ("accelerate", "launch")
            assert launched == (step.gpus > 1)
            module = step.command[step.command.index("-m") + 1] if launched else None
            assert module in (None, f"reference_models.{METHODS[step.stage].module}")
            found += 1
    assert found == 3 * len(plan.sections)


def test_a_submission_declares_what_makes_its_row_answer_the_cells(plan):
    for section in plan.sections:
        for run in section.runs:
            [words] = [step.command for step in section.needed_by(run) if step.stage == "submit"]
            card = {name: words[place + 1] for place, name in enumerate(words) if name.startswith("--")}
            assert card["--base-model"] == run.model
            assert card.get("--decoding", card["--method"]) == run.method
            assert card["--trained-on"] == EXPERIMENTS[run.suite].task
            recipe = EXPERIMENTS[run.suite].recipe(section.model)
            optimised = None if run.method == "sft" else f"models/{recipe}/reward-model"
            assert card.get("--reward-model") == optimised


def test_each_command_reads_what_one_before_it_has_made(plan):
    there = set()
    for step in steps(plan):
        words = " ".join(step.command)
        made = {
            "data": re.findall(r"--out (\S+)", words),
            "base model": step.command[4:5],
            "sampling": re.findall(r"--out (\S+)", words),
        }.get(step.stage, re.findall(r"output=(\S+)", words))
        read = set(re.findall(r"(?:data|models|runs)/[^\s,]+", words)) - set(made)
        assert read <= there, step.command
        there |= set(made)


@pytest.mark.slow
def test_the_trainings_are_dry_run_on_a_stand_in_one_after_the_other(plan, gendiv, tmp_path, monkeypatch):
    """What the plan's commands would train passes its own check, with tiny models in the places of the real ones."""
    monkeypatch.chdir(tmp_path)
    rows = [
        {"prompt": " ".join(words), "completion": "warm", "chosen": "warm and wet", "rejected": "cold"}
        for words in itertools.product(WORDS[:7], repeat=3)
    ]
    for export in plan.exports:
        path = Path(export.command[-1])
        path.parent.mkdir(exist_ok=True)
        write_jsonl(path, rows)
    model = make_opt(tmp_path / "model", 16)
    scorer = tmp_path / "scorer"
    fields = [f"model={model}", f"data={path}", f"output={scorer}", "steps=1", "batch_size=4", "learning_rate=1e-3"]
    trained = gendiv("train", "reward-model", "--set", *fields)
    assert trained[0] == 0, trained
    section = plan.sections[0]
    assert section.model.name == "facebook/opt-125m"
    for step in section.steps:
        if step.command[:2] != ("gendiv", "train"):
            continue
        words = list(step.command[1:])
        for n, word in enumerate(words):
            field, equals, value = word.partition("=")
            if equals and field in ("model", "reward_model"):
                words[n] = f"{field}={scorer if 'reward' in value else model}"
        refused, _, err = gendiv(*step.command[1:], "--dry-run")
        assert refused == 1, "what is not there yet is a problem"
        assert "models/" in err
        status, out, err = gendiv(*words, "max_new_tokens=8" if step.stage == "ppo" else "seed=1", "--dry-run")
        assert (status, err) == (0, ""), step.command
        assert "steps of" in out
    assert not (tmp_path / "models").exists()


# ---- Sums ----


def test_sums_are_those_of_the_parts_and_dollars_are_hours_at_their_price(plan):
    hours = sum(step.hours.expected for step in steps(plan))
    dollars = sum(step.dollars for step in steps(plan))
    assert plan.hours.expected == pytest.approx(hours)
    assert plan.dollars == pytest.approx(dollars)
    _, header, rows = tables(plan)[0]
    total = dict(zip(header, rows[-1], strict=True))
    assert float(total["GPU and judge $"].replace(",", "")) == pytest.approx(3 * hours + dollars, abs=0.01)
    assert "GPU and judge $" not in tables(make_plan(open_cells([], []), MEASURED))[0][1]


def test_larger_models_take_longer_and_the_range_holds_what_is_expected(plan):
    opt = [section for section in plan.sections if section.model.name.startswith("facebook/")]
    assert len(opt) == 5
    for smaller, larger in itertools.pairwise(opt):
        assert smaller.model.parameters < larger.model.parameters
        assert smaller.hours.expected < larger.hours.expected
    for section in plan.sections:
        assert section.hours.low <= section.hours.expected <= section.hours.high


def test_a_run_costs_itself_and_the_training_before_it(plan):
    section = plan.sections[0]
    needed = {run.method: section.needed_by(run) for run in section.runs}
    stages = {method: {step.stage for step in found if step.hours.expected} for method, found in needed.items()}
    assert stages == {
        "sft": {"sft", "sampling"},
        "ppo": {"sft", "reward-model", "ppo", "sampling"},
        "best-of-16": {"sft", "reward-model", "sampling"},
    }
    shared = set(map(id, needed["ppo"])) & set(map(id, needed["best-of-16"]))
    assert {step.stage for step in section.steps if id(step) in shared} == {"sft", "reward-model"}
    drawn = {run.method: next(s for s in needed[run.method] if s.stage == "sampling") for run in section.runs}
    assert drawn["best-of-16"].hours.expected > 10 * drawn["sft"].hours.expected == 10 * drawn["ppo"].hours.expected


def test_ppo_takes_the_time_of_its_generation_and_longer_the_slower_that_is(empty, plan):
    def ppo(measured):
        found = make_plan(empty, measured)
        return next(step.hours.expected for step in found.sections[0].steps if step.stage == "ppo")

    rows = [row for row in MEASURED if row.method != "generate"]
    drawn = [ppo([*rows, Measured("NVIDIA H200", "generate", 160e6, speed)]) for speed in (1e12, 2e12)]
    model, args = plan.sections[0].model, {"model": "m", "data": "d", "output": "o", "reward_model": "r"}
    read = read_recipe(METHODS["ppo"].load(), Path("tldr-opt-125m"), args)
    needed = generation_flops(model.shape, read.steps * read.batch_size, EXPERIMENTS["summarisation"].means.prompt, 48)
    assert drawn[0] - drawn[1] == pytest.approx(needed / 2e12 / 3600)


def test_a_gpu_of_less_memory_shares_what_does_not_fit(empty):
    def gpus(name):
        found = make_plan(empty, MEASURED, gpu=name)
        return {section.title: max(step.gpus for step in section.steps) for section in found.sections}

    small = [run for run in empty.runs if run.model == "facebook/opt-6.7b" and run.method == "sft"]
    h200, h100 = (make_plan(type(empty)(tuple(small), ()), MEASURED, gpu=name) for name in ("H200", "H100"))
    assert [step.gpus for step in h200.sections[0].steps] == [1] * len(h200.sections[0].steps)
    assert h100.sections[0].hours == h200.sections[0].hours, "GPU hours, whatever their number"
    assert gpus("H200")["facebook/opt-125m, summarisation"] == 1
    with pytest.raises(UserError, match="does not fit 8 of NVIDIA H100"):
        gpus("H100")


# ---- The judge ----


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


def test_only_win_rates_are_judged_and_only_nli_needs_its_classifier(empty):
    for run in empty.runs:
        [section] = make_plan(type(empty)((run,), ()), MEASURED).sections
        asked = [step for step in section.steps if step.stage == "judge"]
        assert len(asked) == run.is_judged + run.is_judged_over_sft
        assert bool(section.dollars) == bool(asked)
        scored = next(step for step in section.steps if step.stage == "score")
        assert ("--nli" in scored.command) == any(cell.metric.startswith("nli") for cell in run.cells)


# ---- What is assumed ----


def test_the_prompts_are_as_many_as_the_tasks_have():
    for name, experiment in EXPERIMENTS.items():
        suite = load_suite(name)
        assert [entry.task for entry in suite.tasks] == list(experiment.evaluated)
        for task, texts in experiment.evaluated.items():
            [path] = tasks_folder().glob(f"*/{task}.yaml")
            text = path.read_text(encoding="utf-8")
            assert re.search(rf"prompts: {texts.prompts}\b", text), task


def test_what_it_rests_on_is_told(plan):
    told = " ".join(plan.notes)
    for said in (
        "extrapolated",
        "err either way",
        "2.2 times as long",
        "370 tokens a prompt",
        "4,300 bytes",
        "generate of 160 M",
    ):
        assert said in told
    page = markdown(plan)
    assert all(note in page for note in plan.notes)
    assert page.count("```") == 2 * (1 + len(plan.sections))
    for step in steps(plan):
        assert line_of(step) in page


# ---- The command ----


def test_the_command_prints_the_plan_and_writes_it(gendiv, throughput, tmp_path):
    (tmp_path / "none").mkdir()
    common = ["reproduce", "plan", "--submissions", tmp_path / "none", "--throughput", throughput]
    status, out, err = gendiv(*common, "--out", tmp_path / "out", "--price-per-gpu-hour", "2.5")
    assert status == 0, err
    assert "at $2.5 a GPU hour" in out
    page, script = (tmp_path / "out" / name for name in ("plan.md", "plan.sh"))
    subprocess.run(["bash", "-n", script], check=True)
    assert "facebook/opt-6.7b" in page.read_text(encoding="utf-8")
    first = page.read_bytes(), script.read_bytes()
    gendiv(*common, "--out", tmp_path / "out", "--price-per-gpu-hour", "2.5")
    assert (page.read_bytes(), script.read_bytes()) == first
    status, out, _ = gendiv(*common, "--paper-protocol", "--out", tmp_path / "papers")
    assert status == 0
    text = (tmp_path / "papers" / "plan.sh").read_text(encoding="utf-8")
    assert "--judge summaries-gpt-4-paper" in text
    assert "gpt-4.1" not in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--gpu", "B300"], "none such was measured; there are: NVIDIA H200, NVIDIA H100"),
        (["--gpu", "NVIDIA"], "several were measured"),
        (["--judge", "oracle"], "costs nothing"),
        (["--throughput", "none.yaml"], "none.yaml: no throughput was measured here"),
    ],
)
def test_a_mistake_is_one_line(gendiv, throughput, tmp_path, words, says):
    (tmp_path / "none").mkdir()
    status, _, err = gendiv("reproduce", "plan", "--submissions", tmp_path / "none", "--throughput", throughput, *words)
    assert status == 2
    assert says in err
    assert len(err.strip().splitlines()) == 1


def test_a_method_without_a_measured_speed_is_one_line(gendiv, throughput, tmp_path):
    rows = [row for row in yaml.safe_load(throughput.read_text()) if row["method"] not in ("ppo", "generate")]
    throughput.write_text(json.dumps(rows))
    (tmp_path / "none").mkdir()
    status, _, err = gendiv("reproduce", "plan", "--submissions", tmp_path / "none", "--throughput", throughput)
    assert status == 2
    assert "the speed of generate was not measured on NVIDIA H200; measured were: sft, reward-model" in err
