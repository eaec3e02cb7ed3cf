"""What is planned: every cell's run, commands that read what others make, and sums that are those of their parts."""

import itertools
import re
import subprocess
from pathlib import Path

import pytest
from measured_speeds import MEASURED

from benchmark.cli_plan import wanted
from benchmark.errors import UserError
from leaderboard.paper_plan import open_cells
from leaderboard.paper_tables import paper_tables
from leaderboard.reproduction import reproduce
from reference_models.arguments import parse_overrides, read_recipe
from reference_models.flops import generation_flops
from reference_models.methods import METHODS
from reference_models.paper_experiments import EXPERIMENTS
from reference_models.plan import Measured
from reference_models.reproduction_plan import Cell, Wanted, WantedRun, make_plan
from reference_models.reproduction_plan_text import markdown, shell, tables


@pytest.fixture(scope="module")
def empty():
    return wanted(open_cells(list(paper_tables().values()), []))


@pytest.fixture(scope="module")
def plan(empty):
    return make_plan(empty, MEASURED, price=3.0)


def steps(plan):
    return [*plan.exports, *(step for section in plan.sections for step in section.steps)]


# ---- Which cells ----


def test_every_cell_that_nothing_answers_is_planned_for_or_said_to_be_measured_otherwise(empty, plan):
    cells = [
        (table.name, cell.row.model, cell.row.method, cell.column.title)
        for table in paper_tables().values()
        for cell in reproduce(table, [])
    ]
    planned = [cell for section in plan.sections for run in section.runs for cell in run.cells]
    found = [(cell.table, cell.model, cell.method, cell.column) for cell in (*planned, *plan.others)]
    assert sorted(found) == sorted(cells)
    assert all(cell.measured_by for cell in plan.others)
    assert (len(planned), len(plan.others)) == (123, 47)


def test_what_no_row_can_hold_is_told_with_what_measures_it_and_costs_nothing(empty, plan):
    told = [(row[0], row[-1]) for row in tables(plan)[-1][2]]
    assert told.count(("figure-4", "gendiv judge --against")) == 6
    assert sum(how == "gendiv score --nli MODEL, on its run" for _, how in told) == 36
    assert not any({"--nli", "--against"} & set(step.command) for step in steps(plan))
    alone = make_plan(Wanted((), empty.others), MEASURED)
    assert (alone.sections, alone.hours.expected, alone.dollars) == ((), 0.0, 0.0)
    assert len(tables(alone)[-1][2]) == len(empty.others)


def test_a_run_that_is_there_is_planned_no_more_but_what_others_need_of_it_is(empty):
    only = [run for run in empty.runs if run.model == "facebook/opt-125m" and run.method == "best-of-16"]
    found = make_plan(Wanted(tuple(only), ()), MEASURED)
    [section] = found.sections
    assert [step.stage for step in section.steps] == [
        *("base model", "sft", "reward-model", "sampling", "judge", "score", "submit")
    ]
    assert not any("prompts" in step.command for step in found.exports), "without PPO there is nothing to draw for"


def test_without_an_empty_cell_nothing_is_planned(empty):
    found = make_plan(Wanted((), ()), MEASURED)
    assert (found.sections, found.exports, found.hours.expected, found.dollars) == ((), (), 0.0, 0.0)
    assert "in all" in markdown(found)
    subprocess.run(["bash", "-n", "-c", shell(found)], check=True)


# ---- Commands ----


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


def test_only_win_rates_are_judged(empty):
    for run in empty.runs:
        [section] = make_plan(Wanted((run,)), MEASURED).sections
        asked = [step for step in section.steps if step.stage == "judge"]
        assert len(asked) == run.is_judged
        assert bool(section.dollars) == bool(asked)


@pytest.mark.parametrize(("metric", "is_judged"), [("win_rate", True), ("win_rate_lc", True), ("ead_per_input", False)])
def test_a_run_is_judged_where_a_cell_holds_a_win_rate(metric, is_judged):
    cell = Cell("table-1", "m", "ppo", "a column", metric, 1.0)
    assert WantedRun("m", "ppo", "s", (cell,)).is_judged is is_judged


@pytest.mark.parametrize(("method", "n"), [("best-of-16", 16), ("best-of-4", 4), ("ppo", 1), ("sft", 1)])
def test_best_of_n_says_its_n(method, n):
    assert WantedRun("m", method, "s", ()).n == n


# ---- Sums ----


def test_sums_are_those_of_the_parts_and_dollars_are_hours_at_their_price(plan):
    hours = sum(step.hours.expected for step in steps(plan))
    dollars = sum(step.dollars for step in steps(plan))
    assert plan.hours.expected == pytest.approx(hours)
    assert plan.dollars == pytest.approx(dollars)
    _, header, rows = tables(plan)[0]
    total = dict(zip(header, rows[-1], strict=True))
    assert float(total["GPU and judge $"].replace(",", "")) == pytest.approx(3 * hours + dollars, abs=0.01)
    assert "GPU and judge $" not in tables(make_plan(Wanted(()), MEASURED))[0][1]


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
    h200, h100 = (make_plan(Wanted(tuple(small), ()), MEASURED, gpu=name) for name in ("H200", "H100"))
    assert [step.gpus for step in h200.sections[0].steps] == [1] * len(h200.sections[0].steps)
    assert h100.sections[0].hours == h200.sections[0].hours, "GPU hours, whatever their number"
    assert gpus("H200")["facebook/opt-125m, summarisation"] == 1
    with pytest.raises(UserError, match="does not fit 8 of NVIDIA H100"):
        gpus("H100")
