"""The chat judge against vLLM's own server, with a small trained judge behind it.

vLLM lives in an environment of its own: GENDIV_VLLM is the path of that environment's python. A build for CPUs will do.
"""

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml
from data_root import make_data_root

from benchmark import pipeline
from benchmark.errors import UserError
from benchmark.judging.chat import ChatJudge, Pace
from benchmark.judging.config import ChatConfig, find_judge
from benchmark.judging.judge import Pair, judge_pairs, pairs_of
from benchmark.judging.replies import reparse
from benchmark.judging.runs import JudgeOptions, judge
from benchmark.opened import open_run
from benchmark.records import Verdict
from benchmark.runs import read_jsonl
from reference_models.tiny import make_checkpoint

VLLM = os.environ.get("GENDIV_VLLM", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not VLLM, reason="no vLLM: set GENDIV_VLLM to the python of an environment that has it"),
]

ARCHITECTURE = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "initializer_range": 0.1,
}
CHAT = "{% for m in messages %}{{ m.content }} {% endfor %}{% if add_generation_prompt %}answer{% endif %}"
SPELLED = {"A": 0.7, "ĠA": 0.3, "B": 0.6, "ĠB": 0.4}
"""Each label's tokens, with and without the space before them, and their part of the label's probability."""
CONFIG = {
    "judge": "short",
    "kind": "chat",
    "description": "d",
    "version": 1,
    "model": None,
    "system": "",
    "user": "better {{ first }} or {{ second }}",
    "tasks": {"gendiv_tldr": {}, "gendiv_cnn_dailymail": {}},
    "verdict": "logprobs",
    "temperature": 0.0,
    "max_tokens": 1,
    "samples": {"temperature": 1.0, "index": 0},
}
SERVER_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}
QUICK = Pace(attempts=2, hopeless=3, first_pause=0.01, longest_pause=0.01, batch=1)


class Server:
    """``vllm serve`` on a free port, for the length of a ``with`` block."""

    def __init__(self, model: Path, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}/v1"
        self._log = log
        self._command = [VLLM, "-m", "vllm.entrypoints.cli.main", "serve", str(model), "--served-model-name", "tiny"]
        self._command += ["--host", "127.0.0.1", "--port", str(self._port), "--max-model-len", "512"]
        self._command += ["--dtype", "float32", "--enforce-eager", "--max-num-seqs", "32"]

    def __enter__(self) -> "Server":
        # PYTHONPATH and the like are this environment's, not the server's.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "OPENAI_"))}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                env=kept | SERVER_ENVIRONMENT | {"VLLM_CACHE_ROOT": str(self._log.parent / "cache")},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + 300
        while not self._answers():
            ended = self._process.poll() is not None or time.monotonic() > deadline
            if ended:
                self.kill()
            assert not ended, f"vLLM does not serve: {self._log.read_text(errors='replace')[-2000:]}"
            time.sleep(0.2)  # a poll, not a wait: what is asserted does not depend on it
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """End it and the engine that it started, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/models", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False


class Served(NamedTuple):
    """A run, the judge's checkpoint, and what the judge is asked about the run."""

    run: pipeline.Run
    model: Path
    asked: dict[tuple[str, str, int], str]
    """Task, prompt and order → the judge's prompt as the chat template spells it."""


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Served:
    folder = tmp_path_factory.mktemp("vllm")
    options = pipeline.SampleOptions(data_root=make_data_root(folder / "data"), k=2)
    [run] = pipeline.sample("control:random-words", "summarisation", folder / "run", options)
    opened = open_run(run)
    asked = {}
    for task, prompts in opened.prompts.items():
        texts = {sample.doc_id: sample.text for sample in opened.samples(task) if sample.index == 0}
        for prompt in prompts:
            if prompt.references:
                both = (texts[prompt.doc_id], prompt.references[0])
                for order in (0, 1):
                    asked[task, prompt.doc_id, order] = f"better {both[order]} or {both[1 - order]} answer"
    make_judge(folder / "judge", sorted(set(asked.values())))
    return Served(run, folder / "judge", asked)


@pytest.fixture(scope="module")
def server(made, tmp_path_factory):
    with Server(made.model, tmp_path_factory.mktemp("server") / "log") as server:
        yield server


def make_judge(folder: Path, asked: list[str]) -> None:
    """Train a small Llama to answer each of these with A or B, in odds that a hash decides, and then to end."""
    from tokenizers import decoders
    from transformers import AutoModelForCausalLM, AutoTokenizer

    make_checkpoint(folder, [*SPELLED, *" ".join(asked).split()], seed=0, architecture=ARCHITECTURE)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CHAT
    tokenizer.backend_tokenizer.decoder = decoders.ByteLevel()  # Ġ is a space
    tokenizer.save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    rows = [tokenizer(text, add_special_tokens=False).input_ids for text in asked]
    longest = max(map(len, rows))
    ids = torch.tensor([[tokenizer.pad_token_id] * (longest - len(row)) + row for row in rows])
    labels = torch.tensor([tokenizer.convert_tokens_to_ids(token) for token in SPELLED])
    wanted = torch.zeros(len(rows), len(tokenizer))
    for row, text in enumerate(asked):
        first = 0.1 + 0.8 * hashlib.sha256(text.encode()).digest()[0] / 255
        for label, (token, part) in zip(labels, SPELLED.items(), strict=True):
            wanted[row, label] = part * (first if "A" in token else 1 - first)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(80):
        told = labels[(torch.arange(len(rows)) + step) % len(labels), None]
        whole = torch.cat([ids, told], dim=1)
        logits = model(input_ids=whole, attention_mask=(whole != tokenizer.pad_token_id).long()).logits
        logprobs = logits.log_softmax(-1)
        loss = -(wanted * logprobs[:, -2]).sum(-1).mean() - logprobs[:, -1, tokenizer.eos_token_id].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)


def truth(made: Served) -> dict[tuple[str, str, int], tuple[float, float]]:
    """Compute each question's P(A) and P(B) with transformers, one text at a time."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(made.model)
    model = AutoModelForCausalLM.from_pretrained(made.model).eval()
    found = {}
    with torch.inference_mode():
        for question, text in made.asked.items():
            ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
            shares = model(input_ids=ids).logits[0, -1].softmax(-1)
            a, plain_a, b, plain_b = (shares[tokenizer.convert_tokens_to_ids(t)].item() for t in SPELLED)
            found[question] = (a + plain_a, b + plain_b)
    return found


def ask(made: Served, server: Server, folder: Path, model: str = "tiny", **change: object):
    """Judge the run; returns the judge's configuration and (report, verdicts) by task."""
    path = folder / "judge.yaml"
    path.write_text(yaml.safe_dump(CONFIG | change))
    reports = judge(made.run, options=JudgeOptions(judge=str(path), model=model, base_url=server.url))
    config = find_judge(str(path), model=model)
    assert isinstance(config, ChatConfig)
    return config, {found.task: (found, made.run.verdicts(found.task, config.judge)) for found in reports}


def prompt_tokens(made: Served, task: str, doc_id: str) -> int:
    """Count both prompts' tokens: the tokenizer's are words."""
    return sum(len(made.asked[task, doc_id, order].split()) for order in (0, 1))


def test_graded_verdicts_are_the_models_own_odds(made, server, tmp_path):
    expected = truth(made)
    config, found = ask(made, server, tmp_path, judge="graded")
    spelled, seen = set(), set()
    for task, (report, verdicts) in found.items():
        assert (report.judged, report.failed) == (report.pairs, 0)
        for verdict in verdicts:
            a, b = zip(*(expected[task, verdict.doc_id, order] for order in (0, 1)), strict=True)
            shares = (a[0] / (a[0] + b[0]), b[1] / (a[1] + b[1]))  # the sample is B where it is shown second
            assert verdict.orders == pytest.approx(shares, abs=1e-4)
            assert verdict.preference == pytest.approx(sum(shares) / 2, abs=1e-4)
            assert sorted(reparse(raw, config) for raw in verdict.raw) == sorted(verdict.orders)
            assert (verdict.calls, verdict.completion_tokens) == (2, 2)
            assert verdict.prompt_tokens == prompt_tokens(made, task, verdict.doc_id)
            seen |= {(task, verdict.doc_id, order) for order in (0, 1)}
            for raw in map(yaml.safe_load, verdict.raw):
                assert (raw["finish"], len(raw["top"])) == ("length", 20)
                spelled |= {token for token, _ in raw["top"]}
    assert seen == set(made.asked), "every question was answered"
    assert spelled >= {"A", " A", "B", " B"}, "both spellings count"
    preferences = [v.preference for _, verdicts in found.values() for v in verdicts]
    assert max(preferences) - min(preferences) > 0.3, "a constant would have passed"


def test_a_judges_word_is_its_likelier_label(made, server, tmp_path):
    expected = truth(made)
    config, found = ask(made, server, tmp_path, judge="said", verdict="reply", max_tokens=4)
    said = set()
    for task, (report, verdicts) in found.items():
        assert (report.judged, report.failed) == (report.pairs, 0)
        for verdict in verdicts:
            for order, word in enumerate(verdict.orders):
                a, b = expected[task, verdict.doc_id, order]
                if abs(a - b) > 0.2:  # one spelling of a label may be the likeliest token where the other label leads
                    assert word == float((b > a) == order)
            assert sorted(reparse(raw, config) for raw in verdict.raw) == sorted(verdict.orders)
            assert verdict.completion_tokens == 4, "a label and the end, twice"
            assert verdict.prompt_tokens == prompt_tokens(made, task, verdict.doc_id)
            said |= set(verdict.orders)
            assert {yaml.safe_load(raw)["finish"] for raw in verdict.raw} == {"stop"}
    assert said == {0.0, 1.0}


def test_what_vllm_refuses_is_told_in_one_line(made, server, tmp_path):
    says = r"no such model or address \(HTTP 404: .*wrong.*0 of \d+ pairs judged"
    with pytest.raises(UserError, match=says) as error:
        ask(made, server, tmp_path, model="wrong")
    assert "\n" not in str(error.value)
    pairs = list(pairs_made(made).values())[:2]
    long = pairs[0]._replace(sample=pairs[0].sample.model_copy(update={"text": "better " * 600}))
    found: list[Verdict] = []
    ChatJudge(short(), base_url=server.url).judge([long, pairs[1]], found.extend)
    by_key = {verdict.key: verdict for verdict in found}
    failed = by_key[long.key]
    assert (failed.preference, failed.calls) == (None, 0)
    assert failed.error is not None
    assert failed.error.startswith("HTTP 400: ")
    assert "512 tokens" in failed.error
    assert "\n" not in failed.error
    assert by_key[pairs[1].key].preference is not None, "the others go on"


def short() -> ChatConfig:
    return ChatConfig.model_validate(CONFIG | {"model": "tiny"}, strict=False)


def pairs_made(made: Served) -> dict[tuple[str, float, int], Pair]:
    opened = open_run(made.run)
    return pairs_of(short(), opened.prompts["gendiv_tldr"], opened.samples("gendiv_tldr"))


def test_a_server_killed_on_the_way_loses_nothing_and_the_rest_is_asked_of_the_next(made, tmp_path):
    pairs, log = pairs_made(made), tmp_path / "log.jsonl"
    with Server(made.model, tmp_path / "first") as server:

        def advance(n: int) -> None:
            if n and log.read_bytes().count(b"\n") >= 5:
                server.kill()

        with pytest.raises(UserError, match=r"the server cannot be reached .*the same command goes on") as error:
            judge_pairs(ChatJudge(short(), base_url=server.url, concurrency=1, pace=QUICK), pairs, log, advance=advance)
    assert "\n" not in str(error.value)
    before = read_jsonl(log, Verdict, mend="")
    good = {verdict.cell for verdict in before if verdict.preference is not None}
    failed = [verdict for verdict in before if verdict.preference is None]
    assert 5 <= len(good) < len(pairs)
    assert all(verdict.error and "\n" not in verdict.error for verdict in failed)
    with Server(made.model, tmp_path / "second") as server:
        judge_pairs(ChatJudge(short(), base_url=server.url), pairs, log)
    after = read_jsonl(log, Verdict, mend="")[len(before) :]
    assert sorted(verdict.cell for verdict in after) == sorted(set(pairs) - good), "none was asked twice"
    assert all(verdict.preference is not None and verdict.error is None for verdict in after)
