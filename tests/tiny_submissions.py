"""A real submission of the pocket suite at the size of a test, and ways to change it and to seal it again."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmark import pipeline
from benchmark.judging.config import ChatConfig
from benchmark.judging.judge import Pair
from benchmark.judging.replies import reparse
from benchmark.judging.runs import questions
from benchmark.opened import open_run
from benchmark.records import Identity, Manifest, ModelIdentity, Sample, TaskIdentity, Verdict, sha256_of
from benchmark.runs import Run, appending, write_record
from benchmark.submission.pack import pack
from benchmark.suites import load_suite

MODEL = "me/random"
SAMPLES = "samples/gendiv_pocket_id.jsonl"
VERDICTS = "verdicts/gendiv_pocket_id.oracle.jsonl"
JUDGE = "verdicts/oracle.judge.json"


class Tiny:
    """A submission's folder, in a root of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = next(path.parent for path in root.glob("*/*/*/submission.json"))

    def copy(self, root: Path) -> Tiny:
        """Copy it to another root."""
        shutil.copytree(self.root, root)
        return Tiny(root)

    @property
    def record(self) -> Path:
        return self.folder / "submission.json"

    def fields(self) -> dict[str, Any]:
        """``submission.json`` as it is."""
        fields: dict[str, Any] = json.loads(self.record.read_bytes())
        return fields

    def write(self, fields: Mapping[str, Any]) -> None:
        self.record.write_text(json.dumps(fields), encoding="utf-8")

    def log(self, path: str) -> list[dict[str, Any]]:
        """Read the lines of a log."""
        return [json.loads(line) for line in self.data(path).splitlines()]

    def data(self, path: str) -> bytes:
        return gzip.decompress((self.folder / f"{path}.gz").read_bytes())

    def seal(self, path: str, log: bytes | list[Any], *, ensure_ascii: bool = True) -> None:
        """Pack a changed log, and have ``submission.json`` say so: a forger's work."""
        if isinstance(log, list):
            log = "".join(json.dumps(line, ensure_ascii=ensure_ascii) + "\n" for line in log).encode("utf-8")
        (self.folder / f"{path}.gz").write_bytes(gzip.compress(log, compresslevel=1, mtime=0))
        fields = self.fields()
        for file in fields["files"]:
            if file["path"] == path:
                file |= {"sha256": hashlib.sha256(log).hexdigest(), "bytes": len(log)}
        self.write(fields)


def make_submission(
    folder: Path,
    *,
    prompts: int = 4,
    k: int = 2,
    spoil: Callable[[Run], None] = lambda _: None,
    judge: str | None = None,
) -> Tiny:
    """Sample, judge, score and pack random words; claims are of texts and verdicts alone.

    ``spoil`` may change the samples before the oracle judges them, and ``judge`` names whose verdicts are scored.
    """
    run = folder / "run"
    options = pipeline.SampleOptions(k=k, limit=prompts)
    [made] = pipeline.sample("control:random-words", "pocket", run, options)
    spoil(made)
    pipeline.judge(made)
    pipeline.score(made, judge=judge, embeddings=False, own=False)
    root = folder / "submissions"
    root.mkdir()
    card = {"licence": "Apache-2.0", "family": "random", "training_seed": 0, "note": "a floor"}
    pack(made, MODEL, root, card)
    return Tiny(root)


def freeze(root: Path) -> None:
    """Write a submission of version 0, as the one under ``frozen`` was: from then on it stays what it is."""
    with tempfile.TemporaryDirectory() as place:
        made = make_submission(Path(place), prompts=3)
        fields = made.fields()
        organisation, name = fields.pop("model").split("/")
        del fields["claimed_judge"], fields["manifest"]["record"]["hardware"]
        old = fields | {"version": 0, "organisation": organisation, "name": name}
        made.record.write_text(json.dumps(old, indent=1) + "\n", encoding="utf-8")
        made.copy(root)


def make_chat_judged(folder: Path) -> Tiny:
    """Pack a run that a chat judge has judged as well, by replies that were invented."""
    config = ChatConfig(
        judge="mine", description="", version=1, samples="all", kind="chat", model="m", system="", user="{{ first }}",
        tasks={task: {} for task in ("gendiv_pocket_id", "gendiv_pocket_ood", "gendiv_pocket_ood_hard")},
        verdict="reply", temperature=0.0, max_tokens=9,
    )  # fmt: skip

    def answer(pair: Pair, order: int) -> str:
        named = "AB"[len(pair.sample.text) % 2]
        return json.dumps({"order": order, "finish": "stop", "content": f"Well.\nVerdict: {named}", "model": "m"})

    def told(run: Run) -> None:
        for question in questions(open_run(run), config):
            with appending(question.log) as log:
                for (doc_id, temperature, index), pair in question.pairs.items():
                    raw = tuple(answer(pair, order) for order in (0, 1))
                    orders = tuple(reparse(reply, config) for reply in raw)
                    verdict = Verdict(
                        task=question.task, doc_id=doc_id, temperature=temperature, index=index, key=pair.key,
                        preference=sum(order or 0.0 for order in orders) / 2, orders=orders, raw=raw, calls=2,
                        length=len(pair.sample.text), reference_length=len(pair.reference),
                    )  # fmt: skip
                    log.append([verdict])
        write_record(run.judge_path(config.judge), config)

    return make_submission(folder, prompts=3, spoil=told, judge=config.judge)


def make_imported(folder: Path, *, prompts: int = 6) -> Tiny:
    """Pack a run whose outputs and verdicts were made elsewhere, all of them invented."""
    suite = load_suite("alpaca-eval@v2")
    [entry] = suite.tasks
    rng = random.Random(0)
    task = TaskIdentity(
        task=entry.task, role=entry.role, version="2", n_prompts=prompts, prompts_sha256=sha256_of("invented")
    )
    identity = Identity(
        suite=suite.id, tasks=(task,), sampling=None, judge=suite.judge, judge_sha256=None, encoder=suite.encoder
    )
    model = ModelIdentity(
        id="invented", revision=None, weights_sha256=None, dtype=None, chat_template_sha256=None, seed=None
    )
    run = Run(folder / "run")
    write_record(run.manifest_path, Manifest(name="invented", kind="model", identity=identity, model=model))
    assert suite.judge is not None
    with (
        appending(run.samples_path(entry.task)) as samples,
        appending(run.verdicts_path(entry.task, suite.judge)) as log,
    ):
        for number in range(prompts):
            text = " ".join(rng.choices(["red", "green", "blue", "is", "not"], k=rng.randint(3, 9)))
            cell = {"task": entry.task, "doc_id": str(number), "temperature": 1.0, "index": 0}
            samples.append([Sample(**cell, text=text, finish_reason="unknown", n_tokens=None)])
            verdict = Verdict(
                **cell,
                key=sha256_of(text)[:32],
                preference=rng.random(),
                length=len(text),
                reference_length=20,
                raw=("m",),
            )
            log.append([verdict])
    pipeline.score(run, embeddings=False, own=False)
    root = folder / "submissions"
    root.mkdir()
    pack(run, "others/invented", root, {"note": "invented"})
    return Tiny(root)


def check_told(message: str, tiny: Tiny) -> None:
    """See that a refusal is one clear line, and names no place but the submission's."""
    assert message.isprintable()
    rest = message.replace(str(tiny.root), "")
    assert 10 < len(rest) < 1000
    for place in (tempfile.gettempdir(), str(Path(__file__).parents[1]), str(Path.home())):
        assert f"{place}/" not in rest


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything below a folder, with its size and its time: equal again if nothing was written."""
    return {
        str(path): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if not path.is_dir()
    }
