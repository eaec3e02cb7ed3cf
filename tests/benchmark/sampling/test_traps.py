"""The traps of sampling k outputs through lm-eval and its servers: each is shown to be there, and not to be ours.

Real components: lm-eval's own `simple_evaluate` with a model of its own, a served model, and our samplers.
"""

import json
from pathlib import Path

import lm_eval
import pytest
from lm_eval.api.registry import get_model
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml
from openai_server import OpenAIServer

from benchmark.records import Identity, Manifest, Prompt, Sampling, TaskIdentity, prompts_sha256
from benchmark.runs import Run
from benchmark.sampling.model import build
from benchmark.sampling.sampler import Request, sample_run
from benchmark.suites import load_suite, tasks_folder
from reference_models.tiny import make_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore")  # lm-eval's and its dependencies' own

K = 16
SUITE = load_suite("pocket")
BLANK_LINE = "\n\n"
WORDS = [f"w{number}" for number in range(300)]
TEXTS = ("w1 w2 w3", "w4 w5")
PROMPTS = [Prompt(task="trap", doc_id=str(n), text=text, references=("w1",), doc={}) for n, text in enumerate(TEXTS)]
SAMPLING = Sampling(k=K, temperatures=(1.0,), top_p=1.0, top_k=0, max_new_tokens=8, stop=(), seed=0)
TASK_FILES = sorted(path for path in tasks_folder().glob("*/gendiv_*.yaml"))


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    """A random Llama that finds each of some 300 words nearly as likely as any other, a blank line among them."""
    folder = tmp_path_factory.mktemp("models") / "flat"
    architecture = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    more = {"max_position_embeddings": 64, "initializer_range": 0.02, "tie_word_embeddings": True}
    make_checkpoint(folder, [*WORDS, BLANK_LINE], seed=0, architecture=architecture | more)
    return folder


@pytest.fixture(scope="module")
def hf(flat):
    """The same as lm-eval's own model."""
    return get_model("hf").create_from_arg_obj({"pretrained": str(flat), "device": "cpu", "batch_size": 64})


@pytest.fixture
def ask(tmp_path):
    """Run a task with lm-eval alone; returns for every prompt the texts that were drawn, and those that were kept."""

    def run(model, arguments=None, *, generation, keep=True, repeats=K, **more):
        data = tmp_path / "prompts.jsonl"
        data.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in TEXTS))
        task = {
            "task": "trap",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(data)}},
            "test_split": "test",
            "output_type": "generate_until",
            "doc_to_text": "{{prompt}}",
            "doc_to_target": "",
            "repeats": repeats,
            "generation_kwargs": {"max_gen_toks": 8, **generation},
            "metric_list": [{"metric": "bypass"}],
        }
        if keep:
            task["filter_list"] = [{"name": "all", "filter": [{"function": "take_first_k", "k": repeats}]}]
        (tmp_path / "trap.yaml").write_text(json.dumps(task))
        manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
        found = lm_eval.simple_evaluate(
            model, arguments, ["trap"], task_manager=manager, bootstrap_iters=0, predict_only=True, **more
        )
        rows = found["samples"]["trap"]
        return [row["resps"][0] for row in rows], [row["filtered_resps"][0] for row in rows]

    return run


def ours(model, sampling=SAMPLING):
    """Draw all samples with our own sampler; texts by prompt."""
    sampler = build(model, SUITE, {}, device=None if ":" in model else "cpu").sampler
    prompts = sampler.prepare(PROMPTS, sampling)
    samples = []
    requests = [Request(prompt, 1.0, index) for prompt in prompts for index in range(sampling.k)]
    while len(samples) < len(requests):
        samples += sampler.draw(requests[len(samples) :][: sampler.batch_size], sampling)
    return [[s.text for s in samples if s.doc_id == prompt.doc_id] for prompt in PROMPTS]


def served(server):
    return {
        "model": server.name,
        "base_url": f"{server.url}/completions",
        **{"tokenizer_backend": None, "tokenized_requests": False, "num_concurrent": 4, "max_retries": 1},
    }


def test_the_constant_seed_of_lm_evals_api_models_makes_k_equal_samples_and_ours_k_different_ones(flat, ask):
    with OpenAIServer(flat) as server:
        theirs, _ = ask("local-completions", served(server), generation={"temperature": 1.0, "until": ["END"]})
        assert [len(texts) for texts in theirs] == [K, K]
        assert [len(set(texts)) for texts in theirs] == [1, 1]
        assert {body["seed"] for body in server.bodies} == {1234}
        mine = ours(f"local-completions:model={server.name},base_url={server.url}")
    assert [len(set(texts)) for texts in mine] == [K, K]


def test_without_a_filter_lm_eval_keeps_one_of_k(hf, ask):
    sampled = {"do_sample": True, "temperature": 1.0, "until": []}
    drawn, kept = ask(hf, generation=sampled, keep=False)
    assert [len(texts) for texts in drawn] == [K, K]
    assert all(isinstance(text, str) for text in kept)
    _, kept = ask(hf, generation=sampled)
    assert [len(texts) for texts in kept] == [K, K]


@pytest.mark.parametrize("path", TASK_FILES, ids=lambda path: path.stem)
def test_every_task_of_ours_says_what_lm_eval_would_fill_in(path: Path):
    task = load_yaml(path, resolve_func=False)
    assert task["filter_list"] == [{"name": "all", "filter": [{"function": "take_first_k", "k": task["repeats"]}]}]
    said = task["generation_kwargs"]
    assert (said["do_sample"], said["temperature"], said["top_p"], said["top_k"]) == (True, 1.0, 1.0, 0)
    assert said["until"] == []
    assert said["max_gen_toks"] > 0


MANY = SAMPLING.model_copy(update={"k": 600, "max_new_tokens": 1})


def test_transformers_and_servers_cut_to_fifty_tokens_where_top_k_is_not_said_and_ours_say_it(flat, hf, ask):
    one = {"do_sample": True, "temperature": 1.0, "until": [], "max_gen_toks": 1}
    theirs, _ = ask(hf, generation=one, repeats=600)
    assert all(len(set(texts)) <= 50 for texts in theirs)
    free, _ = ask(hf, generation=one | {"top_k": 0}, repeats=600)
    assert all(len(set(texts)) > 150 for texts in free)
    assert all(len(set(texts)) > 150 for texts in ours(str(flat), MANY))


def test_a_server_cuts_to_fifty_tokens_where_top_k_is_not_sent_and_ours_is_sent(flat):
    few = MANY.model_copy(update={"k": 80})
    with OpenAIServer(flat) as server:
        spec = f"local-completions:model={server.name},base_url={server.url}"
        assert all(len(set(texts)) <= 50 for texts in ours(f"{spec},protocol=openai", few))
        assert all(len(set(texts)) > 55 for texts in ours(spec, few))


LONG = SAMPLING.model_copy(update={"max_new_tokens": 48})


def test_lm_eval_stops_at_a_blank_line_where_until_is_not_said_and_ours_goes_on(flat, hf, ask):
    sampled = {"do_sample": True, "temperature": 1.0, "top_k": 0, "max_gen_toks": 48}
    theirs, _ = ask(hf, generation=sampled, repeats=64)
    assert not any(BLANK_LINE in text for texts in theirs for text in texts)
    said, _ = ask(hf, generation=sampled | {"until": []}, repeats=64)
    assert any(BLANK_LINE in text for texts in said for text in texts)
    mine = ours(str(flat), LONG.model_copy(update={"k": 64}))
    assert any(BLANK_LINE in text.rpartition("w")[0] for texts in mine for text in texts)


def test_an_empty_list_of_stops_is_a_server_error_which_lm_eval_runs_into_and_ours_does_not_send(flat, ask):
    with OpenAIServer(flat) as server:
        # One at a time: of several, some would still be on their way when the first has failed.
        alone = served(server) | {"num_concurrent": 1}
        with pytest.raises(Exception, match="500"):
            ask("local-completions", alone, generation={"temperature": 1.0, "until": []}, repeats=1)
        assert server.bodies
        assert all(body["stop"] == [] for body in server.bodies)
    with OpenAIServer(flat) as server:
        assert all(texts[0] for texts in ours(f"local-completions:model={server.name},base_url={server.url}"))
        assert all("stop" not in body for body in server.bodies)


def test_lm_evals_cache_gives_one_text_k_times_on_a_rerun(hf, ask, tmp_path):
    natural = {"temperature": 1.0, "top_k": 0, "until": []}
    first, _ = ask(hf, generation=natural, use_cache=str(tmp_path / "cache"))
    assert all(len(set(texts)) > 1 for texts in first)
    again, _ = ask(hf, generation=natural, use_cache=str(tmp_path / "cache"))
    assert [len(set(texts)) for texts in again] == [1, 1]


class Counting:
    """Our sampler, with its draws counted."""

    def __init__(self, sampler):
        self.sampler, self.drawn = sampler, 0

    def __getattr__(self, name):
        return getattr(self.sampler, name)

    def draw(self, requests, sampling):
        self.drawn += len(requests)
        return self.sampler.draw(requests, sampling)


def test_our_resume_draws_what_is_missing_alone_and_keeps_k_different_texts(flat, tmp_path):
    sampler = Counting(build(str(flat), SUITE, {}, device="cpu").sampler)
    task = TaskIdentity(task="trap", role="id", version="1", n_prompts=2, prompts_sha256=prompts_sha256(PROMPTS))
    identity = Identity(
        suite="trap@v1", tasks=(task,), sampling=SAMPLING, judge=None, judge_sha256=None, encoder="none"
    )
    manifest = Manifest(name="flat", kind="model", identity=identity, model=sampler.identity(SAMPLING))
    run = Run(tmp_path / "run")
    sample_run(run, sampler, manifest, {"trap": PROMPTS})
    path = run.samples_path("trap")
    whole = path.read_bytes()
    assert sampler.drawn == 2 * K
    assert sample_run(run, sampler, manifest, {"trap": PROMPTS}) == 0
    assert sampler.drawn == 2 * K
    # Killed in the middle of a prompt, and of a line.
    path.write_bytes(whole[: len(whole) * 2 // 3])
    kept = path.read_bytes().count(b"\n")
    assert sample_run(run, sampler, manifest, {"trap": PROMPTS}) == 2 * K - kept
    assert path.read_bytes() == whole
    texts = {prompt.doc_id: {s.text for s in run.samples("trap") if s.doc_id == prompt.doc_id} for prompt in PROMPTS}
    assert [len(found) for found in texts.values()] == [K, K]
