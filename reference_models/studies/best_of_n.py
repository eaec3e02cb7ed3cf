"""What best-of-n does for every n at once, from one pool of the fine-tuned model's outputs a prompt.

Expected score and win rate are exact for the pool, by order statistics. The diversity of k outputs of best-of-n needs k
disjoint parts of the pool; where n is small, several sets of k are there, and are averaged.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from benchmark.errors import UserError
from benchmark.judging.config import RewardModelConfig, find_judge
from benchmark.judging.judge import Judge, pairs_of
from benchmark.judging.runs import load as load_judge
from benchmark.provenance import environment
from benchmark.records import Prompt, Record, Sampling, Verdict
from benchmark.reward_model import compute_exactly, encode, load, score_sequences
from benchmark.runs import appending, drop_cut_off_line, read_jsonl, write_atomically
from benchmark.sampling.checkpoint import weights_sha256
from benchmark.sampling.hf import HFSampler
from benchmark.sampling.model import build
from benchmark.sampling.sampler import Request
from benchmark.suites import Suite, load_prompts, load_suite
from reference_models.gpu import a_share_of_the_gpu
from reference_models.schedule import Job, Report, run_jobs
from reference_models.studies.bound import judge_of
from reference_models.studies.setting import QUICK_OUTPUTS, QUICK_PROMPTS, Setting
from reference_models.studies.world import World

LARGEST = 64
QUICK_LARGEST = 4


class Pool(Record):
    """One prompt's outputs: the different ones with their scores, and which of them each draw was."""

    doc_id: str
    texts: Annotated[tuple[str, ...], Field(strict=False)]
    scores: Annotated[tuple[float, ...], Field(strict=False)]
    """The reward model's."""
    preferences: Annotated[tuple[float, ...], Field(strict=False)]
    """The judge's, over the reference."""
    drawn: Annotated[tuple[int, ...], Field(strict=False)]
    """Numbers of outputs, in order of drawing."""


def sizes(setting: Setting) -> tuple[int, int]:
    """Tell outputs of a set, and the largest n."""
    if setting.quick:
        return QUICK_OUTPUTS, QUICK_LARGEST
    sampling = load_suite(setting.world.suite).sampling
    assert sampling is not None
    return sampling.k, LARGEST


def pool_path(setting: Setting, seed: int, task: str) -> Path:
    """File of the pools of a seed on a task."""
    return setting.folder("best-of-n") / f"seed-{seed}" / f"{task}.jsonl"


def tasks_asked(setting: Setting) -> dict[str, list[Prompt]]:
    """Find the prompts of every task that has references: without one there is no win rate."""
    asked = load_prompts(load_suite(setting.world.suite))
    limit = QUICK_PROMPTS if setting.quick else None
    return {task: prompts[:limit] for task, prompts in asked.items() if all(p.references for p in prompts[:limit])}


def run(setting: Setting) -> None:
    """Draw, score and judge all pools; a prompt that has one is not done again."""
    for seed in setting.seeds:
        setting.world.check(seed, "sft", "reward-model")
    k, largest = sizes(setting)
    limit = QUICK_PROMPTS if setting.quick else None
    jobs = []
    for seed in setting.seeds:
        refuse_others_pools(setting, seed)
        for task in tasks_asked(setting):
            path = pool_path(setting, seed, task)
            fill = partial(_fill, setting.world, seed, task, k * largest, limit, path)
            jobs.append(Job(f"seed-{seed}/{task}", fill))
    run_jobs(jobs, setting.workers, setting.progress)


def report(setting: Setting) -> Path:
    """Make the report of what `run` made."""
    from reference_models.studies.best_of_n_report import write_report

    return write_report(setting)


def made_of(world: World, seed: int) -> dict[str, str]:
    """Identify what a seed's pools are made of; of what is not there, as much as is known."""
    suite = load_suite(world.suite)
    models = {"policy": world.model(seed, "sft"), "reward model": world.model(seed, "reward-model")}
    weights = {name: weights_sha256(folder) for name, folder in models.items() if folder.is_dir()}
    return {"suite": suite.id, "judge": _judge(world), **weights}


def _judge(world: World) -> str:
    """Tell a judge's name and hash; its name alone where it is known by weights whose folder is gone."""
    if (judge := judge_of(world)) is None:
        return "nobody"
    place = world.judge.model
    gone = isinstance(judge, RewardModelConfig) and not judge.is_pinned and place and not Path(place).is_dir()
    return judge.judge if gone else f"{judge.judge} {judge.sha256}"


def refuse_others_pools(setting: Setting, seed: int) -> None:
    """Refuse pools of another suite, judge, policy or reward model.

    Pools of before this was recorded are believed.

    Raises
    ------
    UserError
        Naming what differs.
    """
    path = pool_path(setting, seed, "any").with_name("made.json")
    recorded = json.loads(path.read_text(encoding="utf-8")).get("made_of", {}) if path.exists() else {}
    for what, here in made_of(setting.world, seed).items():
        there = recorded.get(what, here)
        if there != here and not (what == "judge" and there.partition(" ")[0] == here):
            raise UserError(
                f"its pools are of another {what}: {there}, where {here} is asked for; give another --out",
                where=path,
            )


def read_pools(path: Path, prompts: Sequence[Prompt], draws: int) -> list[Pool]:
    """Read the pools of a task, in the order of its prompts.

    Raises
    ------
    UserError
        If a prompt has none, or one of another size.
    """
    mend = "the study's `--only run` makes it"
    found = {pool.doc_id: pool for pool in read_jsonl(path, Pool, mend=mend)}
    if missing := [prompt.doc_id for prompt in prompts if prompt.doc_id not in found]:
        raise UserError(f"no pool of prompt {missing[0]}; {mend}", where=path)
    if wrong := next((pool for pool in found.values() if len(pool.drawn) != draws), None):
        raise UserError(
            f"prompt {wrong.doc_id} has {len(wrong.drawn)} outputs, and {draws} are wanted; give another --out",
            where=path,
        )
    return [found[prompt.doc_id] for prompt in prompts]


def _fill(world: World, seed: int, task: str, draws: int, limit: int | None, path: Path, report: Report) -> None:
    """Draw the pools that a file lacks."""
    suite = load_suite(world.suite)
    prompts = load_prompts(suite)[task][:limit]
    sampling = suite.sampling
    assert sampling is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    with appending(path) as appender:
        drop_cut_off_line(path)
        done = {pool.doc_id for pool in read_jsonl(path, Pool, mend="")} if path.stat().st_size else set()
        report("drawing", len(done), len(prompts))
        missing = [prompt for prompt in prompts if prompt.doc_id not in done]
        if not missing:
            return
        made = {"made_of": made_of(world, seed), **environment()}
        write_atomically(path.with_name("made.json"), json.dumps(made) + "\n")
        with a_share_of_the_gpu():
            drawer = _Drawer(world, seed, suite, task, prompts, sampling)
            for prompt in drawer.sampler.prepare(missing, sampling):
                asked = next(own for own in missing if own.doc_id == prompt.doc_id)
                pool = drawer.pool(prompt, asked, draws)
                appender.append([pool])
                report("drawing", 1, len(prompts))


class _Drawer:
    """The fine-tuned model, the reward model and the judge of a seed."""

    def __init__(
        self, world: World, seed: int, suite: Suite, task: str, prompts: list[Prompt], sampling: Sampling
    ) -> None:
        policy = str(world.model(seed, "sft"))
        options: dict[str, Any] = dict(world.sampling)
        built = build(policy, suite, {task: prompts}, backend="hf", **options)
        if not isinstance(built.sampler, HFSampler):
            raise UserError(f"{policy}: cannot be sampled in process")
        self.sampler, self.sampling = built.sampler, sampling
        self.scorer, self.tokenizer = load(str(world.model(seed, "reward-model")))
        compute_exactly(self.scorer)
        config = find_judge(world.judge.judge or suite.judge or "", model=world.judge.model)
        self.judge: Judge = load_judge(config, world.judge)

    def pool(self, prompt: Prompt, asked: Prompt, draws: int) -> Pool:
        """Draw one prompt's pool, and score and judge each different output once.

        The draws are those of a run of the same model: its first outputs are the pool's first.
        """
        requests = [Request(prompt, 1.0, index) for index in range(draws)]
        size = self.sampler.batch_size
        drawn = [
            output
            for start in range(0, draws, size)
            for output in self.sampler.continuations(requests[start : start + size], self.sampling)
        ]
        samples = self.sampler.records(requests, drawn, self.sampling)
        number: dict[tuple[str, str], int] = {}
        for sample in samples:
            number.setdefault((sample.text, sample.finish_reason), len(number))
        ids = encode(self.tokenizer, prompt.text, "", finished=False)
        sequences = [encode(self.tokenizer, ids, text, finished=reason == "stop") for text, reason in number]
        scores = score_sequences(self.scorer, sequences, one_prompt=True)
        first = {number[sample.text, sample.finish_reason]: sample for sample in reversed(samples)}
        pairs = pairs_of(self.judge.config, [asked], [first[place] for place in range(len(number))])
        unlike = {pair.key: pair for pair in pairs.values()}
        found: dict[str, Verdict] = {}
        self.judge.judge(list(unlike.values()), lambda verdicts: found.update({v.key: v for v in verdicts}))
        preferences = []
        for place in range(len(number)):
            verdict = found[pairs[first[place].cell].key]
            if verdict.preference is None:
                raise UserError(f"prompt {prompt.doc_id}: an output has no verdict: {verdict.error}")
            preferences.append(verdict.preference)
        order = [number[sample.text, sample.finish_reason] for sample in samples]
        return Pool(
            doc_id=prompt.doc_id,
            texts=tuple(text for text, _ in number),
            # Six digits: what differs by less would be no reason to prefer one.
            scores=tuple(round(score, 6) for score in scores),
            preferences=tuple(preferences),
            drawn=tuple(order),
        )
