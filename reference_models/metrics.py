"""What a training run tells while it runs and keeps afterwards: a JSONL log, a live view on the terminal, curves."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import UserError

if TYPE_CHECKING:
    import altair as alt
    from rich.console import RenderableType
    from rich.live import Live

Floats = NDArray[np.float64]

LABELS = {
    "accuracy": "pairs ranked right (share)",
    "approx_kl": "KL of an update (nats a token)",
    "best_reward": "reward of the best",
    "chosen_reward": "implicit reward of the chosen",
    "clip_fraction": "clipped ratios (share)",
    "entropy": "entropy (nats a token)",
    "eos_share": "finished completions (share)",
    "explained_variance": "explained variance of returns",
    "grad_norm": "gradient norm",
    "kl": "KL to the reference (nats)",
    "learning_rate": "learning rate",
    "length": "length (tokens)",
    "loss": "loss (nats)",
    "margin": "margin",
    "policy_loss": "policy loss",
    "rejected_reward": "implicit reward of the rejected",
    "reward": "reward",
    "value_loss": "value loss",
}
"""Metric → title with its unit; a metric that is not here is shown by its name."""
SECONDS = "seconds_"

# The inks of the board's figures, written again because the trainers import nothing of the leaderboard.
PAPER, INK, MUTED, GRID, RULE = "#ffffff", "#1c2128", "#5d6673", "#e9ecf0", "#aab2bd"
LINE, ALARM, ALARM_TEXT = "#0072b2", "#d55e00", "#a84800"
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
PNG_SCALE = 2.0


class MetricsLog:
    """A context manager that appends every step's metrics to a file, and shows them on a terminal.

    Nothing is ever printed on the standard output, and on a pipe nothing at all unless ``plain`` asks for it.

    Parameters
    ----------
    path
        The JSONL file, one line a step: ``{"step": 7, "loss": 0.31, …}``. Its folder has to be there.
    title
        What is trained, for the live view.
    steps
        Steps of the whole run.
    shown
        Metrics of the live view; others are logged alone. Times, ``seconds_WHAT``, are always shown, as shares.
    view
        Draw the live view, if the error stream is a terminal and rich is installed.
    plain
        Print ten plain lines a run on the error stream where there is no live view.
    """

    def __init__(
        self, path: Path, *, title: str, steps: int, shown: Sequence[str], view: bool = True, plain: bool = False
    ) -> None:
        self.path, self.title, self.steps, self.shown = path, title, steps, tuple(shown)
        self._wants_view, self._plain = view, plain
        self._file: IO[str] | None = None
        self._live: Live | None = None
        self.first = self.step = 0
        self._begin(0)

    def __enter__(self) -> MetricsLog:
        if self._wants_view and (view := _view(self)) is not None:
            self._live = view
            view.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        self._close()

    def resume(self, step: int) -> None:
        """Continue after a step: drop the lines of later ones, and a last line that was cut off.

        The file is replaced as a whole or not at all; the lines that stay keep their bytes.

        Raises
        ------
        UserError
            If a line is not one of ours.
        """
        self._close()
        data = self.path.read_bytes() if self.path.exists() else b""
        lines = data.splitlines(keepends=True)
        rows = _rows(data, self.path)
        kept = [(line, row) for line, row in zip(lines, rows, strict=False) if row["step"] <= step]
        if (left := b"".join(line for line, _ in kept)) != data:
            _write_atomically(self.path, left)
        self._begin(step)
        for _, row in kept:
            self._take({name: value for name, value in row.items() if name != "step"})

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one step; it is in the file when this returns.

        A number that is not finite is written as null, which is JSON where NaN is not. Stopping the run is up to the
        caller.

        Raises
        ------
        ValueError
            If the step is not after the last one, or a metric is called ``step``.
        """
        if step <= self.step or "step" in metrics:
            raise ValueError(f"step {step} does not follow step {self.step}, or has a metric called 'step'")
        if self._file is None:
            self._file = self.path.open("a", encoding="utf-8", newline="\n")
        found = {name: _finite(value) for name, value in metrics.items()}
        self._file.write(json.dumps({"step": step, **found}, allow_nan=False) + "\n")
        self._file.flush()
        self.step = step
        self._take(found)
        if self._plain and self._live is None and (step % max(1, self.steps // 10) == 0 or step == self.steps):
            print(self._line(), file=sys.stderr, flush=True)

    def _begin(self, step: int) -> None:
        self.first = self.step = step
        self.series = {name: Series(max(10.0, self.steps / 20)) for name in self.shown}
        self.seconds: dict[str, float] = {}

    def _take(self, metrics: Mapping[str, float | None]) -> None:
        for name, value in metrics.items():
            if name in self.series:
                self.series[name].add(value)
            elif name.startswith(SECONDS) and value is not None:
                what = name.removeprefix(SECONDS).replace("_", " ")
                self.seconds[what] = self.seconds.get(what, 0.0) + value

    def _line(self) -> str:
        shown = [f"{name} {number(series.last)}" for name, series in self.series.items() if series.count]
        return "  ".join([f"{self.title}  {self.step}/{self.steps}", *shown, *time_split(self.seconds)])

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class Series:
    """One metric of the run so far, in a space that does not grow with it.

    Parameters
    ----------
    horizon
        Steps over which the mean looks back.
    """

    CELLS = 24
    BLOCKS = "▁▂▃▄▅▆▇█"

    def __init__(self, horizon: float) -> None:
        self.count = 0
        self.last: float | None = None
        self._keep = 1 - 1 / horizon
        self._sum = self._weight = 0.0
        self._cells: list[tuple[float, int]] = []
        self._steps_a_cell = 1

    def add(self, value: float | None) -> None:
        """Take the next value; None stands for one that is not finite."""
        if self.count % self._steps_a_cell == 0:
            if len(self._cells) == self.CELLS:
                pairs = zip(self._cells[::2], self._cells[1::2], strict=True)
                self._cells = [(a + b, m + n) for (a, m), (b, n) in pairs]
                self._steps_a_cell *= 2
            self._cells.append((0.0, 0))
        self.count += 1
        self.last = value
        if value is not None:
            total, n = self._cells[-1]
            self._cells[-1] = (total + value, n + 1)
            self._sum = self._keep * self._sum + value
            self._weight = self._keep * self._weight + 1

    @property
    def mean(self) -> float | None:
        """Exponentially weighted mean of the finite values, without the usual pull towards 0 at the start."""
        return self._sum / self._weight if self._weight else None

    def sparkline(self) -> str:
        """Draw the run so far in at most 24 characters, from its lowest mean of a cell to its highest."""
        means = [total / n if n else None for total, n in list(self._cells)]
        finite = [mean for mean in means if mean is not None]
        if not finite:
            return " " * len(means)
        low, span = min(finite), max(finite) - min(finite)
        # The last bits of sums are no ups and downs.
        span = span if span > 1e-9 * max(abs(mean) for mean in finite) else 0.0
        top = len(self.BLOCKS) - 1
        return "".join(
            " " if mean is None else self.BLOCKS[round((mean - low) / span * top) if span else top // 2]
            for mean in means
        )


def number(value: float | None) -> str:
    """Print a number in about four digits that keep their width while it changes."""
    if value is None:
        return "NaN"
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.2e}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.4g}".rstrip(".")


def time_split(seconds: Mapping[str, float]) -> list[str]:
    """Return one line about where the time goes, or none if no time was taken."""
    total = sum(seconds.values())
    if total <= 0:
        return []
    return ["time: " + ", ".join(f"{what} {100 * value / total:.0f} %" for what, value in seconds.items())]


def _view(log: MetricsLog) -> Live | None:
    """Make the live view of a log, not yet started; None where it cannot be drawn."""
    # A log file with FORCE_COLOR set is a terminal for rich, and none for the reader of the log.
    if not sys.stderr.isatty():
        return None
    try:
        from rich.console import Console, Group
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.progress import TimeRemainingColumn as TimeLeftColumn
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return None
    console = Console(stderr=True)
    if console.is_dumb_terminal:
        return None
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeLeftColumn(),
        console=console,
        speed_estimate_period=600,
    )
    first = -1

    def draw() -> RenderableType:
        nonlocal first
        if log.first != first:
            # A new bar, because the steps done before a resumption took none of this process's time.
            first = log.first
            for task in bar.task_ids:
                bar.remove_task(task)
            bar.add_task(log.title, total=log.steps, completed=first, rate="")
        (bar_task,) = bar.tasks
        speed = bar_task.speed
        rate = "" if not speed else f"{speed:.1f} steps/s" if speed >= 1 else f"{1 / speed:.1f} s/step"
        bar.update(bar_task.id, completed=log.step, rate=rate)
        table = Table.grid(padding=(0, 2))
        for justify in ("left", "right", "right", "left"):
            table.add_column(justify=justify, no_wrap=True)
        rows = [(name, series) for name, series in log.series.items() if series.count]
        if rows:
            table.add_row("", Text("last", "dim"), Text("mean", "dim"), "")
        for name, series in rows:
            last = Text(number(series.last), "" if series.last is not None else "bold red")
            table.add_row(LABELS.get(name, name), last, number(series.mean), Text(series.sparkline(), "cyan"))
        return Group(bar.get_renderable(), table, *(Text(line, "dim") for line in time_split(dict(log.seconds))))

    # What the caller prints goes above the view where both are on one terminal, and stays on its pipe where it is not.
    return Live(get_renderable=draw, console=console, redirect_stdout=sys.stdout.isatty())


# -- the file ----------------------------------------------------------------------------------------------------


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read a log, one mapping a step, with None for a number that was not finite.

    A last line without its end is left out: the run may be writing it.

    Raises
    ------
    UserError
        If there is no such file, or a line of it is not one of ours.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=path) from None
    return _rows(data, path)


def _rows(data: bytes, path: Path) -> list[dict[str, Any]]:
    rows = []
    for number_, line in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            row = json.loads(line, parse_constant=lambda _: None)
        except ValueError:
            row = None
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            raise UserError("not a line of metrics: it needs JSON with a step", where=f"{path}:{number_}")
        rows.append(row)
    return rows


def _finite(value: float) -> float | None:
    value = value if isinstance(value, int) else float(value)
    return value if math.isfinite(value) else None


def _write_atomically(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


# -- the curves --------------------------------------------------------------------------------------------------


def draw_curves(metrics: Path, png: Path, *, title: str, shown: Sequence[str]) -> bool:
    """Draw a log as small multiples: a panel a metric, the values thin and their trend thick, its end written out.

    A few values far outside the others are cut off at the panel's edge, where the farthest is written; a value that
    was not finite is marked. The same log gives the same bytes.

    Parameters
    ----------
    metrics
        The log.
    png
        The picture; it appears whole.
    title
        What was trained.
    shown
        Metrics in the order of the panels; those that the log lacks are left out.

    Returns
    -------
    bool
        False, and nothing is written, where altair is not installed or there is nothing to draw.

    Raises
    ------
    UserError
        If the log cannot be read.
    """
    try:
        import altair  # noqa: F401
        import vl_convert
    except ImportError:
        return False
    rows = read_metrics(metrics)
    curves = [curve for name in dict.fromkeys(shown) if (curve := Curve.of(name, rows)) is not None]
    if not curves:
        return False
    described = _figure(curves, title, span=(rows[0]["step"], rows[-1]["step"]))
    _write_atomically(png, bytes(vl_convert.vegalite_to_png(json.dumps(described, sort_keys=True), scale=PNG_SCALE)))
    return True


@dataclass(frozen=True)
class Curve:
    """What one panel shows."""

    title: str
    raw: tuple[Floats, Floats]
    """Steps and values; of a long run the lowest and the highest of every few steps."""
    trend: tuple[Floats, Floats]
    span: tuple[float, float]
    """Range of the panel."""
    faults: list[float]
    """Steps whose value was not finite."""

    MOST = 300
    """Cells that a long run is cut into; about as many as a panel has pixels."""

    @classmethod
    def of(cls, name: str, rows: Sequence[Mapping[str, Any]]) -> Curve | None:
        """Take one metric from a log; None if it has no finite value of it."""
        there = [(row["step"], row[name]) for row in rows if name in row]
        faults = [float(step) for step, value in there if value is None]
        finite = [(step, value) for step, value in there if value is not None]
        if not finite:
            return None
        x, y = np.array(finite, dtype=np.float64).T
        unit = _power(float(np.abs(y).max()))
        y = y / 10.0**unit
        span = y_range(y)
        # What lies outside of the panel must not bend the trend inside.
        kept = np.clip(y, *span)
        middles, means = x, kept
        if len(x) > 2 * cls.MOST:
            cells = np.array_split(np.arange(len(x)), cls.MOST)
            ends = np.concatenate([sorted((cell[y[cell].argmin()], cell[y[cell].argmax()])) for cell in cells])
            middles, means = (np.array([values[cell].mean() for cell in cells]) for values in (x, kept))
            x, y = x[ends], y[ends]
        smooth = (middles, trend(middles, means))
        return cls(_titled(name, unit), (x, y), smooth, span, faults)


def y_range(y: Floats) -> tuple[float, float]:
    """Range of a panel: all values, unless a few are so far outside that they would flatten the others."""
    low, high = (float(q) for q in np.quantile(y, (0.02, 0.98)))
    far = (high - low) or math.inf
    least, most = float(y.min()), float(y.max())
    low = least if least >= low - far else low - far / 4
    high = most if most <= high + far else high + far / 4
    # What differs in its last bits is one number.
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        room = abs(high) / 10 or 0.5
        return low - room, high + room
    room = 0.08 * (high - low)
    # Near zero, zero is the honest floor; and a share has nothing above one.
    return 0.0 if least >= 0 and low < 0.4 * high else low - room, 1.0 if most <= 1 < high + room else high + room


def trend(x: Floats, y: Floats) -> Floats:
    """Smooth a series by local straight lines, shape [n].

    The window is 8 % of the run to either side, but at the start not much wider than what lies behind: the first
    steps of a run are its steepest, and a fixed window would smear them.
    """
    if len(x) < 3:
        return y
    far = x - x[0]
    gap = far[-1] / (len(x) - 1)
    half = np.maximum(np.minimum(0.5 * far, 0.08 * far[-1]), 4 * gap)
    d = (x[None, :] - x[:, None]) / half[:, None]
    w = np.clip(1 - np.abs(d) ** 3, 0, None) ** 3
    s0, s1, t0, t1 = w.sum(axis=1), (w * d).sum(axis=1), w @ y, (w * d) @ y
    # The ridge pulls the slope to 0. It does nothing in the middle, and keeps noise from swinging the loose ends.
    s2 = (w * d * d).sum(axis=1) + 0.03 * s0
    fitted: Floats = (s2 * t0 - s1 * t1) / (s0 * s2 - s1 * s1)
    return fitted


def ticks(low: float, high: float, most: int, *, finest: float = 0.0) -> tuple[list[float], str]:
    """Round numbers within a range, at most ``most`` of them, and the d3 format that writes them."""
    exponent = math.floor(math.log10((high - low) / most))
    for power, factor in ((p, f) for p in range(exponent, exponent + 3) for f in (1, 2, 2.5, 5)):
        step = factor * 10.0**power
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most and step >= finest:
            break
    digits = max(0, -power + (factor == 2.5))
    # Adding 0 turns -0 into 0.
    return [round(count * step, digits) + 0.0 for count in range(first, last + 1)], f",.{digits}f"


WIDTH, HEIGHT = 214, 118


def _figure(curves: Sequence[Curve], title: str, span: tuple[int, int]) -> dict[str, Any]:
    """Vega-Lite specification of the panels."""
    import altair as alt

    n = len(curves)
    columns = n if n <= 3 else 2 if n == 4 else 3 if n in (5, 6, 9) else 4
    # Steps are counted from 1, and the axis from 0 unless the log begins late.
    across = (0.0 if span[0] <= 0.1 * span[1] else float(span[0]), max(float(span[1]), span[0] + 1.0))
    # The rows of data go round the chart objects: Altair would check every one of them against its schema.
    data: dict[str, list[dict[str, Any]]] = {}
    panels = [_panel(curve, across, data, is_lowest=place + columns >= n) for place, curve in enumerate(curves)]
    # Flush: panels stand in line whatever is written around them.
    figure = (
        alt.concat(
            *panels,
            columns=columns,
            bounds="flush",
            spacing={"column": 92, "row": 76 if n % columns else 46},
            title=alt.TitleParams(title, fontSize=14, color=INK, offset=18),
        )
        .configure(background=PAPER, font=FONT, padding=10)
        .configure_view(stroke=None)
        .configure_axis(
            domainColor=RULE,
            gridColor=GRID,
            gridWidth=1,
            ticks=False,
            labelColor=MUTED,
            labelFontSize=10,
            labelPadding=5,
            titleColor=MUTED,
            titleFontSize=10.5,
            titleFontWeight="normal",
            titlePadding=4,
            labelFlush=False,
        )
        .configure_title(font=FONT, fontWeight="bold", anchor="start", frame="group")
    )
    described: dict[str, Any] = figure.to_dict(validate=False)
    return described | {"datasets": data}


def _panel(
    curve: Curve, across: tuple[float, float], data: dict[str, list[dict[str, Any]]], *, is_lowest: bool
) -> alt.LayerChart:
    import altair as alt

    def points(xs: Sequence[float] | Floats, ys: Sequence[float] | Floats, **more: Any) -> alt.Chart:
        # Six digits are far below a pixel, and the same wherever the last bits of a sum differ.
        rows = [{"x": float(f"{a:.6g}"), "y": float(f"{b:.6g}"), **more} for a, b in zip(xs, ys, strict=True)]
        data[name := f"data-{len(data)}"] = rows
        return alt.Chart(alt.NamedData(name))

    def written(x: float, y: float, text: str, **style: Any) -> alt.Chart:
        label: alt.Chart = points([x], [y], text=text).encode(text="text:N").mark_text(**style)
        return label

    def beside(x: float) -> dict[str, Any]:
        """Write to the side of x where there is more room."""
        is_late = x > sum(across) / 2
        return {"fontSize": 9, "align": "right" if is_late else "left", "dx": -6 if is_late else 6}

    (x, y), (low, high) = curve.raw, curve.span
    if len(x) < 10:
        end = (float(x[-1]), float(y[-1]))
        layers = [points(x, y).mark_line(stroke=LINE, strokeWidth=1.9, point=alt.OverlayMarkDef(fill=LINE, size=14))]
    else:
        end = (float(curve.trend[0][-1]), float(curve.trend[1][-1]))
        layers = [
            points(x, y).mark_line(clip=True, stroke=LINE, strokeWidth=0.8, strokeOpacity=0.38),
            points(*curve.trend).mark_line(clip=True, stroke=LINE, strokeWidth=1.9, strokeJoin="round"),
        ]
    for edge, baseline, place, arrow in ((high, "top", y.argmax(), "↑"), (low, "bottom", y.argmin(), "↓")):
        if not low <= y[place] <= high:
            told = f"{arrow} {_brief(y[place])}"
            layers.append(written(x[place], edge, told, fill=MUTED, baseline=baseline, **beside(x[place])))
    if curve.faults:
        edges = points(curve.faults, [high] * len(curve.faults), to=low).encode(y2="to:Q")
        layers.append(edges.mark_rule(stroke=ALARM, strokeDash=[3, 2]))
        edge, baseline = (high, "top") if end[1] < (low + high) / 2 else (low, "bottom")
        fault = curve.faults[0]
        layers.append(written(fault, edge, "not finite", fill=ALARM_TEXT, baseline=baseline, **beside(fault)))
    layers.append(points(*zip(end)).mark_point(shape="circle", size=20, fill=LINE, opacity=1, strokeWidth=0))
    style = {"fill": INK, "fontSize": 10, "fontWeight": "bold", "align": "left", "baseline": "middle", "dx": 7}
    layers.append(written(across[1], end[1], _brief(end[1]), **style))

    x_ticks, x_format = ticks(*across, most=5, finest=1)
    y_ticks, y_format = ticks(low, high, most=4)
    x_axis = alt.Axis(title="step" if is_lowest else None, values=x_ticks, format=x_format, labels=is_lowest)
    # A text of our own, because Vega moves its titles up and down with the labels of the axis.
    style = {"fill": INK, "fontSize": 11.5, "fontWeight": "bold", "align": "left", "baseline": "bottom", "dy": -9}
    layers.append(written(across[0], high, curve.title, **style))
    return alt.LayerChart(layer=layers, width=WIDTH, height=HEIGHT).encode(
        x=alt.X("x:Q", scale=alt.Scale(domain=list(across), nice=False, zero=False), axis=x_axis),
        y=alt.Y(
            "y:Q",
            scale=alt.Scale(domain=[low, high], nice=False, zero=False),
            axis=alt.Axis(title=None, values=y_ticks, format=y_format),
        ),
    )


def _power(largest: float) -> int:
    """Power of ten that a panel counts in: 0 unless its numbers would be long."""
    return 0 if largest == 0 or 1e-3 <= largest < 1e5 else math.floor(math.log10(largest))


def _titled(name: str, power: int) -> str:
    title = LABELS.get(name, name)
    if not power:
        return title
    unit = f"1e{power}".replace("-", "−")
    return title.replace("(", f"({unit} ", 1) if title.endswith(")") else f"{title} ({unit})"


def _brief(value: float) -> str:
    """Print a number in two or three digits."""
    if abs(value) < 1e-4:
        return "0"
    digits = 3 if abs(value) >= 0.01 else 2
    return (f"{value:,.0f}" if abs(value) >= 100 else f"{value:.{digits}g}").replace("-", "−")
