"""The log of a training run: what is in the file, what the terminal shows, what the curves are made of."""

import json
import math
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from benchmark.errors import UserError
from reference_models import metrics as module
from reference_models.metrics import Curve, MetricsLog, Series, draw_curves, number, read_metrics, ticks, time_split
from reference_models.metrics import trend as smooth

ROOT = Path(__file__).parents[2]


def log_of(path, steps=10, shown=("loss",), **more):
    return MetricsLog(path, title="sft out", steps=steps, shown=shown, **more)


def steps_in(path):
    return [row["step"] for row in read_metrics(path)]


# -- the file ----------------------------------------------------------------------------------------------------


def test_each_step_is_in_the_file_when_write_returns(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with log_of(path) as log:
        log.write(1, {"loss": 0.5, "tokens": 100})
        assert path.read_bytes() == b'{"step": 1, "loss": 0.5, "tokens": 100}\n'
        log.write(2, {"loss": np.float32(0.25)})
        assert read_metrics(path) == [{"step": 1, "loss": 0.5, "tokens": 100}, {"step": 2, "loss": 0.25}]


@given(st.lists(st.floats(), min_size=1, max_size=8))
@example([math.nan, math.inf, -math.inf, 0.1, 5e-324])
def test_numbers_come_back_to_the_last_bit_and_none_for_what_is_not_finite(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("log") / "metrics.jsonl"
    with log_of(path) as log:
        for step, value in enumerate(values, start=1):
            log.write(step, {"loss": value})
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)
    assert [row["loss"] for row in read_metrics(path)] == [v if math.isfinite(v) else None for v in values]


@pytest.mark.parametrize(("step", "metrics"), [(2, {}), (1, {}), (3, {"step": 1.0})])
def test_steps_only_go_up(tmp_path, step, metrics):
    with log_of(tmp_path / "m.jsonl") as log:
        log.write(2, {"loss": 1.0})
        with pytest.raises(ValueError, match="does not follow step 2"):
            log.write(step, metrics)
    assert steps_in(tmp_path / "m.jsonl") == [2]


@pytest.mark.parametrize("cut", [b"", b'{"step": 6, "lo', b'{"step": 6, "loss": 1.0}'])
def test_resuming_drops_later_steps_and_a_line_that_was_cut_off_and_keeps_the_others_bytes(tmp_path, cut):
    path = tmp_path / "m.jsonl"
    with log_of(path) as log:
        for step in range(1, 6):
            log.write(step, {"loss": step / 3})
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines) + cut)
    assert steps_in(path) == [1, 2, 3, 4, 5]
    with log_of(path) as log:
        log.resume(3)
        assert path.read_bytes() == b"".join(lines[:3])
        log.write(4, {"loss": 7.0})
    assert path.read_bytes() == b"".join(lines[:3]) + b'{"step": 4, "loss": 7.0}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["m.jsonl"]


def test_who_reads_while_a_run_resumes_sees_the_old_file_or_the_new_one(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n')
    with path.open("rb") as reader:
        log_of(path).resume(1)
        assert reader.read() == b'{"step": 1}\n{"step": 2}\n'
    assert path.read_bytes() == b'{"step": 1}\n'


def test_resuming_in_the_middle_goes_on_in_the_new_file(tmp_path):
    path = tmp_path / "m.jsonl"
    with log_of(path) as log:
        for step in (1, 2, 3):
            log.write(step, {"loss": 1.0})
        log.resume(1)
        log.write(2, {"loss": 5.0})
        assert steps_in(path) == [1, 2]
        log.resume(0)
        assert steps_in(path) == []


def test_resuming_where_nothing_was_logged_begins_an_empty_log(tmp_path):
    with log_of(tmp_path / "m.jsonl") as log:
        log.resume(0)
        log.write(1, {"loss": 1.0})
    assert steps_in(tmp_path / "m.jsonl") == [1]


def test_a_resumed_log_shows_the_run_so_far(tmp_path):
    def state(log):
        return {name: vars(series) for name, series in log.series.items()}, log.seconds, log.step

    path, values = tmp_path / "m.jsonl", [3.0, math.nan, 1.0, 0.5, 0.1]
    with log_of(path) as whole:
        for step, value in enumerate(values, start=1):
            whole.write(step, {"loss": value, "seconds_training": 2.0})
    with log_of(path) as resumed:
        resumed.resume(5)
    assert state(resumed) == state(whole)


@pytest.mark.parametrize("line", [b"{", b"[]", b"7", b'{"loss": 1.0}', b'{"step": "3"}', b"", b"\xff"])
def test_a_line_that_is_not_ours_is_named_and_nothing_is_lost(tmp_path, line):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"step": 1}\n' + line + b"\n")
    with pytest.raises(UserError, match=r"m.jsonl:2: not a line of metrics"):
        read_metrics(path)
    before = path.read_bytes()
    with log_of(path) as log, pytest.raises(UserError, match=r"m.jsonl:2: not a line of metrics"):
        log.resume(0)
    assert path.read_bytes() == before


def test_a_log_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UserError, match=r"m.jsonl: cannot be read: No such file"):
        read_metrics(tmp_path / "m.jsonl")


# -- the view ----------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=200), st.floats(2, 50))
def test_the_mean_is_the_exponentially_weighted_one(values, horizon):
    series = Series(horizon)
    for value in values:
        series.add(value)
    weights = (1 - 1 / horizon) ** np.arange(len(values))[::-1]
    assert series.mean == pytest.approx(float(weights @ np.array(values) / weights.sum()), abs=1e-6)
    assert series.last == values[-1]


@given(st.integers(1, 2000))
def test_a_sparkline_covers_the_whole_run_in_bounded_space(n):
    series = Series(10)
    for value in range(n):
        series.add(float(value))
    line = series.sparkline()
    assert min(n, Series.CELLS // 2) <= len(line) <= Series.CELLS
    assert list(line) == sorted(line)
    if n > 1:
        assert (line[0], line[-1]) == ("▁", "█")
    assert sum(count for _, count in series._cells) == n


def test_a_sparkline_of_nothing_finite_is_blank_and_of_a_constant_is_flat():
    gaps, flat = Series(10), Series(10)
    for value in (None, 1.0, None, 2.0):
        gaps.add(value)
    for _ in range(90):
        flat.add(0.97)
    assert gaps.sparkline() == " ▁ █"
    assert set(flat.sparkline()) == {"▄"}
    nothing = Series(10)
    nothing.add(None)
    assert (nothing.sparkline(), nothing.mean, nothing.last) == (" ", None, None)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "NaN"),
        (0.0, "0.000"),
        (0.5, "0.5000"),
        (-12.3456, "-12.35"),
        (999.96, "1000"),
        (12345.6, "12,346"),
        (1e-5, "1.00e-05"),
        (2.5e7, "2.50e+07"),
    ],
)
def test_numbers_keep_their_width(value, text):
    assert number(value) == text


def test_the_time_is_told_in_shares():
    assert time_split({"generating": 1.2, "scoring": 0.9, "training": 7.9}) == [
        "time: generating 12 %, scoring 9 %, training 79 %"
    ]
    assert time_split({}) == time_split({"training": 0.0}) == []


RUN = """
import sys
from pathlib import Path
if {without_rich}:
    sys.modules["rich"] = None
from reference_models.metrics import MetricsLog
shown = ["loss", "kl", "absent"]
with MetricsLog(Path(sys.argv[1]), title="ppo out", steps=20, shown=shown, view={view}, plain={plain}) as log:
    log.resume(0)
    for step in range(1, 21):
        times = {{"seconds_training": 3.0, "seconds_first_scoring": 1.0}}
        log.write(step, {{"loss": 2 / step, "kl": float("nan") if step == 20 else 0.5, **times}})
    print("said by the caller")
"""


def run(tmp_path, *, view=True, plain=False, without_rich=False, terminal=True, **environment):
    """Log twenty steps in a process of its own; return its outputs, the error stream a terminal if asked."""
    code = RUN.format(view=view, plain=plain, without_rich=without_rich)
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24", "PYTHONPATH": str(ROOT), **environment}
    ours, theirs = pty.openpty() if terminal else os.pipe()
    command = [sys.executable, "-c", code, str(tmp_path / "m.jsonl")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=env) as process:
        os.close(theirs)
        err = b""
        try:
            while block := os.read(ours, 65536):
                err += block
        except OSError:  # what Linux answers when the last writer of a terminal is gone
            pass
        os.close(ours)
        out = process.stdout.read()
    assert process.returncode == 0, err.decode()
    assert steps_in(tmp_path / "m.jsonl") == list(range(1, 21))
    return out.decode(), err.decode()


def test_on_a_terminal_the_view_shows_the_bar_the_metrics_and_the_time(tmp_path):
    out, err = run(tmp_path)
    assert out == "said by the caller\n"
    for part in ("ppo out", "20/20", "loss (nats)", "0.1000", "KL to the reference (nats)", "NaN", "█"):
        assert part in err
    assert "time: training 75 %, first scoring 25 %" in err
    assert "absent" not in err
    assert err.rstrip().endswith("\x1b[?25h"), "the cursor is back"


@pytest.mark.parametrize(
    "how",
    [
        {"terminal": False},
        {"terminal": False, "FORCE_COLOR": "1"},
        {"view": False},
        {"without_rich": True},
        {"TERM": "dumb"},
    ],
    ids=str,
)
def test_where_there_is_no_view_nothing_is_printed_but_ten_plain_lines_if_asked(tmp_path, how):
    assert run(tmp_path, **how) == ("said by the caller\n", "")
    out, err = run(tmp_path, plain=True, **how)
    assert out == "said by the caller\n"
    lines = err.splitlines()
    assert len(lines) == 10
    assert lines[0] == "ppo out  2/20  loss 1.000  kl 0.5000  time: training 75 %, first scoring 25 %"
    assert lines[-1].startswith("ppo out  20/20  loss 0.1000  kl NaN")


@pytest.mark.parametrize(("steps", "told"), [(4, [1, 2, 3, 4]), (25, [*range(2, 25, 2), 25]), (30, [*range(3, 31, 3)])])
def test_plain_lines_are_about_ten_and_the_last_step_has_one(tmp_path, capsys, steps, told):
    with log_of(tmp_path / "m.jsonl", steps, view=False, plain=True) as log:
        for step in range(1, steps + 1):
            log.write(step, {"loss": 1.0})
    out, err = capsys.readouterr()
    assert (out, err) == ("", "".join(f"sft out  {step}/{steps}  loss 1.000\n" for step in told))


def test_a_view_leaves_no_plain_lines(tmp_path):
    _, err = run(tmp_path, plain=True)
    assert "loss 1.000" not in err


# -- the curves --------------------------------------------------------------------------------------------------


def ppo(path, n, *, broken_at=None, names=("reward", "kl", "value_loss")):
    rng = np.random.default_rng(0)
    with log_of(path, n) as log:
        for step in range(1, n + 1):
            t = step / n
            values = {"reward": t + rng.normal() / 9, "kl": 9 * t, "value_loss": 1 + 50 * math.exp(-90 * t)}
            if step == broken_at:
                values["reward"] = math.nan
            log.write(step, {name: values[name] for name in names})
    return path


def test_the_same_metrics_give_the_same_picture_whatever_was_drawn_before(tmp_path):
    path = ppo(tmp_path / "m.jsonl", 60)
    shown = ["reward", "absent", "kl", "value_loss"]
    assert draw_curves(path, tmp_path / "a.png", title="ppo", shown=shown)
    assert draw_curves(path, tmp_path / "other.png", title="ppo", shown=["kl"])
    assert draw_curves(path, tmp_path / "b.png", title="ppo", shown=shown)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "other.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("n", [1, 2, 3, 9, 10, 700])
@pytest.mark.parametrize("broken_at", [None, 1, 2])
def test_runs_of_any_length_are_drawn(tmp_path, n, broken_at):
    path = ppo(tmp_path / "m.jsonl", n, broken_at=broken_at)
    assert draw_curves(path, tmp_path / "m.png", title="ppo", shown=["reward", "kl"])


def test_nothing_is_written_where_there_is_nothing_to_draw(tmp_path):
    path = ppo(tmp_path / "m.jsonl", 1, broken_at=1)
    assert not draw_curves(path, tmp_path / "m.png", title="ppo", shown=["reward", "absent"])
    path.write_bytes(b"")
    assert not draw_curves(path, tmp_path / "m.png", title="ppo", shown=["reward"])
    assert not (tmp_path / "m.png").exists()


def test_the_log_needs_no_rich_and_the_curves_say_no_without_altair(tmp_path):
    path = ppo(tmp_path / "m.jsonl", 5)
    code = (
        "import sys\n"
        "for name in ('rich', 'altair', 'vl_convert', 'pandas', 'pydantic', 'yaml', 'torch', 'transformers'):\n"
        "    sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from reference_models.metrics import MetricsLog, draw_curves\n"
        f"path = Path({str(path)!r})\n"
        "with MetricsLog(path, title='t', steps=6, shown=['kl']) as log:\n"
        "    log.resume(5)\n"
        "    log.write(6, {'kl': 1.0})\n"
        "sys.exit(draw_curves(path, path.with_suffix('.png'), title='t', shown=['kl']))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.jsonl"]


def test_the_inks_and_the_font_are_the_board_s():
    from leaderboard import ink

    for name in ("PAPER", "INK", "MUTED", "GRID", "RULE", "FONT"):
        assert getattr(module, name) == getattr(ink, name)
    assert ink.PALETTE[0][0] == module.LINE
    assert ink.PALETTE[1] == (module.ALARM, module.ALARM_TEXT)


def test_every_metric_that_a_trainer_shows_has_a_title():
    import ast

    for path in sorted((ROOT / "reference_models").glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "SHOWN":
                assert set(ast.literal_eval(node.value)) <= module.LABELS.keys(), path.name


lines = st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=60)


@given(lines, st.floats(-10, 10), st.floats(-1e3, 1e3))
def test_a_trend_stays_among_the_values_and_moves_with_them(values, factor, shift):
    x, y = np.arange(1.0, len(values) + 1), np.array(values)
    found, room = smooth(x, y), 1e-9 + 0.6 * (max(values) - min(values))
    assert min(values) - room <= found.min() <= found.max() <= max(values) + room
    assert np.allclose(smooth(x, factor * y + shift), factor * found + shift, atol=1e-6 * (1 + np.abs(y).max()))


def test_a_trend_follows_a_line_takes_noise_away_and_keeps_a_steep_start():
    x, rng = np.arange(1.0, 401.0), np.random.default_rng(0)
    assert np.abs(smooth(x, x)[5:-40] - x[5:-40]).max() < 0.5
    noise = rng.normal(size=400)
    assert smooth(x, noise)[50:].std() < 0.3
    steep = 10 * np.exp(-x / 8)
    assert np.abs(smooth(x, steep) - steep).max() < 1.0


def test_a_lone_spike_is_cut_off_without_bending_the_trend_and_is_no_longer_in_range():
    rng = np.random.default_rng(0)
    rows = [{"step": step, "norm": 1 + rng.uniform()} for step in range(1, 201)]
    rows[99]["norm"] = 300.0
    curve = Curve.of("norm", rows)
    assert curve.span[1] < 4
    assert curve.raw[1].max() == 300
    assert curve.trend[1].max() < 1.8


def test_a_long_run_keeps_its_extremes_and_its_number_of_points_is_bounded():
    rng = np.random.default_rng(0)
    rows = [{"step": step, "kl": float(rng.normal())} for step in range(1, 5001)]
    curve = Curve.of("kl", rows)
    values = [row["kl"] for row in rows]
    assert len(curve.raw[0]) == 2 * Curve.MOST == 2 * len(curve.trend[0])
    assert (curve.raw[1].min(), curve.raw[1].max()) == (min(values), max(values))
    assert (np.diff(curve.raw[0]) >= 0).all()


def test_faults_are_kept_beside_the_curve_and_steps_without_the_metric_are_no_faults():
    rows = [{"step": 1, "loss": 1.0}, {"step": 2}, {"step": 3, "loss": None}, {"step": 4, "loss": 2.0}]
    curve = Curve.of("loss", rows)
    assert (curve.raw[0].tolist(), curve.faults) == ([1.0, 4.0], [3.0])


@pytest.mark.parametrize(
    ("name", "values", "title", "span"),
    [
        ("learning_rate", (2e-6, 4e-6), "learning rate (1e−6)", (2 - 0.16, 4 + 0.16)),
        ("length", (2e6, 4e6), "length (1e6 tokens)", (2 - 0.16, 4 + 0.16)),
        ("other", (0.0, 0.0), "other", (-0.5, 0.5)),
        ("other", (5.0, 5.0), "other", (4.5, 5.5)),
        ("other", (5.0, 5.0 + 1e-14), "other", (4.5, 5.5)),
        ("kl", (0.0, 10.0), "KL to the reference (nats)", (0.0, 10.8)),
        ("eos_share", (0.9, 1.0), "finished completions (share)", (0.892, 1.0)),
        ("reward", (-1.0, 0.5), "reward", (-1.12, 0.62)),
    ],
)
def test_panels_are_titled_with_units_and_fit_their_values(name, values, title, span):
    curve = Curve.of(name, [{"step": step, name: value} for step, value in enumerate(values, start=1)])
    assert curve.title == title
    assert curve.span == pytest.approx(span, abs=0.01 * (span[1] - span[0]) + 1e-9)


@given(st.floats(-1e5, 1e5), st.floats(1e-3, 1e5), st.integers(3, 6))
def test_ticks_are_few_round_numbers_of_the_range(low, width, most):
    values, written = ticks(low, low + width, most)
    assert 1 <= len(values) <= most
    assert all(low - 1e-6 * width <= value <= low + width * (1 + 1e-6) for value in values)
    assert len(set(np.diff(values).round(9))) <= 2
    digits = int(written[2:-1])
    assert [round(value, digits) for value in values] == values


def test_ticks_of_steps_are_whole_and_others_have_the_digits_they_need():
    assert ticks(1, 2, 5, finest=1) == ([1.0, 2.0], ",.0f")
    assert ticks(0, 1000, 5, finest=1)[0] == [0.0, 250.0, 500.0, 750.0, 1000.0]
    assert ticks(0, 1, 5) == ([0.0, 0.25, 0.5, 0.75, 1.0], ",.2f")
    assert ticks(0, 10, 5) == ([0.0, 2.5, 5.0, 7.5, 10.0], ",.1f")
    assert ticks(-0.03, 0.01, 4) == ([-0.02, 0.0], ",.2f")
