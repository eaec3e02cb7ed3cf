"""Best-of-n: draw n outputs, keep the one that a reward model scores highest.

Two questions, two answers. *What does best-of-n do on average?* From one pool of m ≥ n scored outputs,
`best_of_n_weights` gives the exact probability that each is the best of n drawn from the pool, so that ``weights @ f``
is the unbiased estimate of the mean of any statistic of one output, for every n ≤ m and without drawing anything.

*How diverse are k outputs of best-of-n?* That needs k outputs that are independent, and so k disjoint pools. The
paper's published code draws n of the same M outputs again for each of the k instead: the draws overlap, the same
winners recur, and diversity comes out too low however often the drawing is repeated; with M = n all k outputs are one
and the same. `benchmark.sampling.best_of_n` therefore spends k·n outputs of the policy on k outputs of best-of-n.

The command draws one pool a prompt, and writes the expected score of best-of-N against its distance from the policy for
every N up to the pool's size, and the best of the first n as pairs that ``gendiv train sft`` can distil:

    gendiv train best-of-n --recipe pocket/best-of-n.yaml --set model=SFT reward_model=RM data=prompts.jsonl output=BEST
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from benchmark.errors import UserError
from benchmark.reward_model import compute_exactly, max_length, score_sequences
from reference_models.arguments import RunFolder, run_as_module
from reference_models.core import penalise_unfinished
from reference_models.data import encode, read_prompts, sha256_of
from reference_models.metrics import FONT, GRID, INK, LINE, MUTED, PAPER, PNG_SCALE, RULE, MetricsLog, ticks
from reference_models.models import load_judge, load_policy, load_tokenizer, warn_of_weak_judge
from reference_models.rollouts import InProcessSampler, RolloutArguments
from reference_models.training import Progress, silent

# ---- One pool, every n ----


def best_of_n_weights(scores: npt.ArrayLike, n: int) -> np.ndarray:
    """Probability that each output of a pool is the best of n drawn from it without replacement.

    Parameters
    ----------
    scores
        [m]; a tie for the best is broken at random.
    n
        Outputs drawn, 1 to m.

    Returns
    -------
    numpy.ndarray
        float64 [m], summing to 1; ``weights @ f`` is the minimum-variance unbiased estimate of the mean of ``f`` under
        best-of-n, if the pool was drawn independently.

    Notes
    -----
    Of C(m, n) draws, C(i − 1, n − 1) have the i-th smallest as their best. Ratios of neighbours are simple fractions,
    so no binomial is ever computed. Within a tie the order is arbitrary, so its members share their mass equally.
    """
    values = _checked(scores)
    order = np.argsort(values, kind="stable")
    weights = np.empty(len(values))
    weights[order] = _by_rank(len(values), n)
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.bincount(group, weights) / sizes)[group])


def expected_best(scores: npt.ArrayLike) -> np.ndarray:
    """Expected best score of n outputs drawn from a pool without replacement, for every n.

    Parameters
    ----------
    scores
        [m].

    Returns
    -------
    numpy.ndarray
        float64 [m]; entry n − 1 belongs to n. An unbiased estimate of the expected score of best-of-n.
    """
    ascending = np.sort(_checked(scores))
    return np.array([_by_rank(len(ascending), n) @ ascending for n in range(1, len(ascending) + 1)])


def _by_rank(m: int, n: int) -> np.ndarray:
    """C(i − 1, n − 1) / C(m, n) for i = 1..m: the probability that the i-th smallest of m is the best of n."""
    if not 1 <= n <= m:
        raise ValueError(f"n must be 1 to the pool's {m}, not {n}")
    # From the top: n / m for the best of all, and each next smaller one (i - n) / (i - 1) of the one before.
    i = np.arange(m, 1, -1)
    return np.cumprod([n / m, *(np.maximum(i - n, 0) / (i - 1))])[::-1]


def _checked(scores: npt.ArrayLike) -> np.ndarray:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not len(values) or np.isnan(values).any():
        raise ValueError("scores must be one row of numbers")
    return values


# ---- The exact law, and how far it is from the base model ----


def best_of_n_law(probabilities: npt.ArrayLike, scores: npt.ArrayLike, n: int) -> np.ndarray:
    """Distribution of the best of n independent draws from a known distribution.

    Parameters
    ----------
    probabilities
        [outcomes], summing to 1.
    scores
        [outcomes].
    n
        Draws.

    Returns
    -------
    numpy.ndarray
        float64 [outcomes]. Outcomes of score x have F(x)ⁿ − F(x−)ⁿ together, F the distribution function of the score,
        and share it in proportion to their probabilities: that is what a tie broken at random amounts to.
    """
    p, values = np.asarray(probabilities, dtype=np.float64), _checked(scores)
    if p.shape != values.shape or (p < 0).any() or not math.isclose(p.sum(), 1.0, abs_tol=1e-9):
        raise ValueError("probabilities must be one for each score, not negative, and sum to 1")
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}")
    _, group = np.unique(values, return_inverse=True)
    mass = np.bincount(group, p)
    at_most = np.cumsum(mass)
    # The difference of the powers, written so that a rare outcome's keeps all its digits.
    rarity = np.divide(mass, at_most, out=np.zeros_like(mass), where=mass > 0)
    with np.errstate(divide="ignore"):  # the lowest score's: all that is at most as good
        best = -np.expm1(n * np.log1p(-rarity)) * (at_most / at_most[-1]) ** n
    share = np.divide(p, mass[group], out=np.zeros_like(p), where=mass[group] > 0)
    return np.asarray(best[group] * share)


def kl_to_base(law: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """KL divergence of a law from the base distribution, in nats; infinite where the base has no mass."""
    q, p = np.asarray(law, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    held = q > 0
    if (p[held] == 0).any():
        return math.inf
    return float(np.sum(q[held] * np.log(q[held] / p[held])))


def kl_bound(n: int) -> float:
    """KL divergence of best-of-n from its policy, log n − (n − 1)/n, in nats.

    Exact where scores are continuous and never tie; else an upper bound, as Beirami et al. (arXiv 2401.01879) show.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}")
    return math.log(n) - (n - 1) / n


# ---- The command ----

SHOWN = ("reward", "best_reward", "length", "eos_share")


@dataclass(frozen=True, kw_only=True)
class BestOfNArguments:
    """``data`` holds a ``prompt`` a line; nothing is trained."""

    model: str
    """The policy: checkpoint folder or hub id."""
    reward_model: str
    """Checkpoint of a sequence classifier with one label and the policy's vocabulary."""
    data: str
    """JSONL with a ``prompt`` a line."""
    output: str
    """Folder of the scored pool, the best completions and the curve."""
    n: int = 16
    """Completions of which ``best.jsonl`` has the best."""
    pool: int = 0
    """Completions drawn a prompt, at least n, and the largest N of the curve; 0 = n."""
    max_new_tokens: int = 64
    temperature: float = 1.0
    batch_size: int = 512
    """Completions decoded together; but the pool of one prompt is never split."""
    mixed_precision: Literal["no", "bf16"] = "no"
    """Of the policy; the reward model's scores are as exact as can be either way."""
    seed: int = 1
    """Of the noise."""
    threads: int = 1
    """CPU threads."""
    limit: int = 0
    """Only the first so many prompts; 0 = all."""


def train(args: BestOfNArguments, *, view: bool = False, progress: Progress = silent) -> Path:
    """Draw one pool of scored completions a prompt, and write what best-of-n makes of it.

    Nothing is trained: the name and the parameters are those of the trainers, so that one command runs all methods.
    ``progress`` is called after every batch of prompts, once its pools are safe.

    Parameters
    ----------
    args
        See `BestOfNArguments`.
    view
        Draw progress on the terminal.
    progress
        See `reference_models.training.Progress`.

    Returns
    -------
    pathlib.Path
        ``args.output``. It appears when it is complete; the same call continues one that was stopped, and ends with the
        same bytes. It holds

        - ``pool.jsonl``: prompt, completions, scores and which are finished, a line a prompt in the order of ``data``;
        - ``best.jsonl``: prompt and completion, the best of the first n of each pool. A prompt whose best is unfinished
          is left out, since a pair of it would teach to end in mid-sentence;
        - ``curve.json`` (see `curve`), ``curves.png`` where altair is installed, and the record ``training.json``.

    Raises
    ------
    UserError
        If arguments, data or models cannot be used, or ``output`` belongs to other ones.

    Notes
    -----
    A completion that did not end is scored as in PPO: at most 0, less a penalty.
    """
    pool = args.pool or args.n
    if not 1 <= args.n <= pool:
        raise UserError(f"n is {args.n} and must be 1 to the pool's {pool}")
    inputs = {name: sha256_of(getattr(args, name)) for name in ("model", "data", "reward_model")}
    with RunFolder("best-of-n", args, args.output, inputs) as folder:
        if folder.begin():
            return folder.output
        started = time.perf_counter()
        torch.set_num_threads(args.threads)
        prompts = read_prompts(Path(args.data))[: args.limit or None]
        path = folder.partial / "pool.jsonl"
        more = _fill(path, prompts, pool, args, view, progress)
        finished = folder.partial / "finished"
        shutil.rmtree(finished, ignore_errors=True)
        finished.mkdir()
        more |= _digest(path, finished, args)
        record = {**folder.identity, **more, "seconds": round(time.perf_counter() - started, 1)}
        _write_json(finished / "training.json", record)
        shutil.copy(path, finished)
        finished.rename(folder.output)
        shutil.rmtree(folder.partial, ignore_errors=True)
        return folder.output


def curve(scores: npt.ArrayLike) -> list[dict[str, float | None]]:
    """Expected score of best-of-n for every n up to the pools' size.

    Parameters
    ----------
    scores
        [prompts, m].

    Returns
    -------
    list of dict
        ``n``; ``kl_bound`` in nats; ``score``, the mean over prompts of `expected_best`; ``standard_error`` of that
        mean over prompts, None if there is but one.
    """
    ascending = np.sort(np.asarray(scores, dtype=np.float64), axis=1)
    prompts, m = ascending.shape
    points: list[dict[str, float | None]] = []
    for n in range(1, m + 1):
        best = ascending @ _by_rank(m, n)
        error = float(best.std(ddof=1)) / math.sqrt(prompts) if prompts > 1 else None
        points.append({"n": n, "kl_bound": kl_bound(n), "score": float(best.mean()), "standard_error": error})
    return points


def _fill(
    path: Path, prompts: Sequence[str], pool: int, args: BestOfNArguments, view: bool, progress: Progress
) -> dict[str, Any]:
    """Draw and score the pools that the file lacks, and append them; return what the record says of how."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # there is one a file loaded
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = load_tokenizer(args.model)
    policy = load_policy(args.model).to(device)
    warn_of_weak_judge(args.reward_model)
    judge = load_judge(args.reward_model, tokenizer, device)
    scored_in = compute_exactly(judge)
    ids = [encode(tokenizer, prompt)[0] for prompt in prompts]
    # All at once: the longest prompt may be the last, hours from now.
    longest = max(map(len, ids))
    for model, name in ((policy, "policy"), (judge, "reward model")):
        if (limit := max_length(model)) is not None and longest + args.max_new_tokens > limit:
            raise UserError(
                f"a prompt of {longest} tokens and max_new_tokens {args.max_new_tokens} are more than the {limit} "
                f"positions of the {name}; shorten the prompts of `data` or lower max_new_tokens"
            )
    sampler = InProcessSampler(
        policy,
        is_copy=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        max_new_tokens=args.max_new_tokens,
        temperature=args.temperature,
        seed=args.seed,
        autocast=partial(torch.autocast, device.type, torch.bfloat16, enabled=args.mixed_precision == "bf16"),
    )
    together = max(1, args.batch_size // pool)
    starts = range(0, len(ids), together)
    title = f"best-of-{args.n} {Path(args.output).name}"
    log = MetricsLog(path.with_name("metrics.jsonl"), title=title, steps=len(starts), shown=SHOWN, view=view)
    with log, path.open("ab") as file:
        done = _whole_batches(path, together, len(ids))
        log.resume(done)
        for step, start in enumerate(starts[done:], start=done + 1):
            rows = range(start, min(start + together, len(ids)))
            began = time.perf_counter()
            drawn = sampler.generate([ids[row] for row in rows], pool, rows)
            generated = time.perf_counter()
            sequences = [[*ids[rows[place // pool]], *output.tokens] for place, output in enumerate(drawn)]
            raw = torch.tensor(score_sequences(judge, sequences, batch_size=args.batch_size), dtype=torch.float64)
            ended = torch.tensor([output.finished for output in drawn])
            scores = penalise_unfinished(raw, ended, RolloutArguments.missing_eos_penalty).view(-1, pool)
            texts = tokenizer.batch_decode(
                [output.tokens[: len(output.tokens) - output.finished] for output in drawn], skip_special_tokens=True
            )
            lines = [
                {
                    "prompt": prompts[row],
                    "completions": texts[place * pool : (place + 1) * pool],
                    "scores": scores[place].tolist(),
                    "finished": ended[place * pool : (place + 1) * pool].tolist(),
                }
                for place, row in enumerate(rows)
            ]
            file.write("".join(map(_line, lines)).encode())
            file.flush()
            metrics = {
                "reward": float(scores.mean()),
                "best_reward": float(scores[:, : args.n].amax(dim=1).mean()),
                "length": sum(len(output.tokens) for output in drawn) / len(drawn),
                "eos_share": float(ended.double().mean()),
                "seconds_generating": generated - began,
                "seconds_scoring": time.perf_counter() - generated,
            }
            log.write(step, metrics)
            progress(step, metrics)
    return {"device": device.type, "torch": torch.__version__, "scored_in": scored_in}


def _whole_batches(path: Path, together: int, prompts: int) -> int:
    """Cut off what comes after the last whole batch of a file of pools, and return how many there are.

    A batch that is drawn again is then the very same batch, and its numbers agree to the last bit.
    """
    lines = path.read_bytes().split(b"\n")[:-1]
    batches = math.ceil(prompts / together) if len(lines) >= prompts else len(lines) // together
    with path.open("r+b") as file:
        file.truncate(sum(len(line) + 1 for line in lines[: batches * together]))
    return batches


def _digest(path: Path, folder: Path, args: BestOfNArguments) -> dict[str, Any]:
    """Write the best completions and the curve of a file of pools; return what the record says of them."""
    scores, ends, left_out = [], 0, 0
    with (folder / "best.jsonl").open("w", encoding="utf-8", newline="\n") as file:
        for row in _pools(path):
            scores.append(row["scores"])
            ends += sum(row["finished"])
            best = int(np.argmax(row["scores"][: args.n]))  # of a tie the first drawn, which favours none
            if row["finished"][best]:
                file.write(_line({"prompt": row["prompt"], "completion": row["completions"][best]}))
            else:
                left_out += 1
    points = curve(scores)
    _write_json(folder / "curve.json", {"prompts": len(scores), "pool": len(points), "curve": points})
    _draw(points, args, len(scores), folder / "curves.png")
    return {"prompts": len(scores), "eos_share": ends / len(scores) / len(points), "left_out": left_out}


def _pools(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for line in file:
            yield json.loads(line)


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _draw(points: Sequence[dict[str, Any]], args: BestOfNArguments, prompts: int, png: Path) -> None:
    """Draw the curve, if altair is installed and there is more than a point of it."""
    try:
        import altair as alt
        import vl_convert
    except ImportError:
        return
    if len(points) < 2:
        return
    x, y = (np.array([point[name] for point in points]) for name in ("kl_bound", "score"))
    half = np.array([1.96 * (point["standard_error"] or 0.0) for point in points])
    low, high = float((y - half).min()), float((y + half).max())
    room = 0.08 * (high - low) or 0.5
    low, high = low - room, high + room
    powers = [2**i for i in range(len(points).bit_length())]

    def chart(**columns: Sequence[Any] | np.ndarray) -> alt.Chart:
        names = list(columns)
        rows = zip(*(np.asarray(column).tolist() for column in columns.values()), strict=True)
        values = [dict(zip(names, row, strict=True)) for row in rows]
        return alt.Chart(alt.InlineData(values=values)).encode(x="x:Q")

    at_powers = chart(x=x[np.array(powers) - 1], text=[f"N = {n}" if n == 1 else str(n) for n in powers])
    end = args.n - 1
    # The curve rises, so that below it on its right, and above it on its left, there is room.
    late = x[end] > 0.7 * x[-1]
    edge, side = (y + half, -6) if late else (y - half, 6)
    layers = [
        at_powers.mark_rule(stroke=GRID),
        at_powers.mark_text(fill=MUTED, fontSize=10, baseline="bottom").encode(text="text:N", y=alt.value(-4)),
        chart(x=x, low=y - half, high=y + half).mark_area(fill=LINE, opacity=0.18).encode(y="low:Q", y2="high:Q"),
        chart(x=x, y=y).mark_line(stroke=LINE, strokeWidth=1.9).encode(y="y:Q"),
        chart(x=x[[end]], y=y[[end]]).mark_point(fill=LINE, size=45, opacity=1, strokeWidth=0).encode(y="y:Q"),
        chart(x=x[[end]], y=edge[[end]], text=[f"best of {args.n}: {y[end]:.2f}".replace("-", "−")])
        .mark_text(
            fill=INK,
            fontSize=11,
            fontWeight="bold",
            align="right" if late else "left",
            baseline="bottom" if late else "top",
            dx=side,
            dy=side,
        )
        .encode(y="y:Q", text="text:N"),
    ]
    y_ticks, y_format = ticks(low, high, most=6)
    x_ticks, x_format = ticks(0.0, float(x[-1]), most=7)
    about = f"mean over {prompts:,} prompts" + (", band: 95 % confidence interval" if prompts > 1 else "")
    figure = (
        alt.LayerChart(layer=layers, width=460, height=260)
        .encode(
            x=alt.X(scale=alt.Scale(domain=[0, float(x[-1])], nice=False)).axis(
                title="KL to the policy, at most log N − (N − 1)/N (nats)", values=x_ticks, format=x_format, grid=False
            ),
            y=alt.Y(scale=alt.Scale(domain=[low, high], nice=False, zero=False)).axis(
                title="expected score", values=y_ticks, format=y_format
            ),
        )
        .properties(
            title=alt.TitleParams(
                Path(args.output).name, subtitle=about, fontSize=14, color=INK, subtitleColor=MUTED, offset=14
            )
        )
        .configure(background=PAPER, font=FONT, padding=10)
        .configure_view(stroke=None)
        .configure_axis(
            domainColor=RULE,
            gridColor=GRID,
            ticks=False,
            labelColor=MUTED,
            labelFlush=False,
            labelPadding=5,
            titleColor=MUTED,
            titleFontWeight="normal",
        )
        .configure_title(anchor="start", frame="group")
    )
    described = json.dumps(figure.to_dict(validate=False), sort_keys=True)
    png.write_bytes(bytes(vl_convert.vegalite_to_png(described, scale=PNG_SCALE)))


if __name__ == "__main__":
    run_as_module(BestOfNArguments, train, __doc__)
