"""The summarisation tasks: the published prompts, and plain lm-eval with all k samples and our metrics."""

import pytest
import yaml
from data_root import make_data_root, rows, write_rows

from benchmark.data import sources
from benchmark.metrics import lm_eval as our_metrics
from benchmark.suites import load_prompts, load_suite, load_suites, task_identities, tasks_folder
from reference_models.tiny import make_checkpoint

ARCHITECTURE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
    "initializer_range": 0.3,
}
OURS = ["summarisation", "instructions", "tldr-subreddit", "tldr-length", "tldr-sentiment"]


@pytest.fixture
def root(tmp_path, monkeypatch):
    folder = make_data_root(tmp_path / "data")
    monkeypatch.setenv(sources.DATA_ROOT, str(folder))
    return folder


def test_prompts_are_the_published_ones_and_references_have_no_space_of_ours(root):
    prompts = load_prompts(load_suite("summarisation"))
    post, article = rows()["tldr"]["test"][1], rows()["cnn_dailymail"]["test"][0]
    tldr, cnn = prompts["gendiv_tldr"][1], prompts["gendiv_cnn_dailymail"][0]
    assert tldr.text == f"SUBREDDIT: r/AskReddit\nTITLE: title 1\nPOST: {post['post']}\nTL;DR:"
    assert (tldr.references, tldr.shortens) == ((post["summary"],), post["post"])
    assert cnn.text == f"ARTICLE: {article['article']}\nTL;DR:"
    assert (cnn.references, cnn.shortens) == ((article["highlights"],), article["article"])
    assert prompts["gendiv_tldr"][0].references == ()
    for prompt in (tldr, cnn):
        assert prompt.shortens in prompt.text
        assert prompt.shortens in prompt.chat
        assert "TL;DR" not in prompt.chat


def test_the_manifest_names_the_data(root):
    suite = load_suite("summarisation")
    identities = task_identities(suite, load_prompts(suite))
    assert [(i.task, i.n_prompts) for i in identities] == [("gendiv_tldr", 24), ("gendiv_cnn_dailymail", 9)]
    assert [i.data for i in identities] == [sources.provenance("tldr"), sources.provenance("cnn_dailymail")]


def test_a_text_that_looks_like_a_template_or_a_list_stays_what_it_is(root):
    """Reddit writes braces and brackets too; lm-eval evaluates a target that looks like a list."""
    odd = {"subreddit": "tifu", "title": "{{x}}", "post": "{% if %} [1, 2]", "summary": "['not', 'a', 'list']"}
    write_rows(root / "tldr" / "test.jsonl", [odd])
    prompt = load_prompts(load_suite("summarisation"))["gendiv_tldr"][0]
    assert prompt.text == "SUBREDDIT: r/tifu\nTITLE: {{x}}\nPOST: {% if %} [1, 2]\nTL;DR:"
    assert prompt.references == ("['not', 'a', 'list']",)
    assert "{% if %} [1, 2]" in prompt.chat


@pytest.mark.parametrize("name", OURS)
def test_the_yaml_asks_for_what_the_suite_samples(name):
    from lm_eval.tasks._yaml_loader import load_yaml

    suite = load_suite(name)
    for entry in suite.tasks:
        (path,) = tasks_folder().glob(f"*/{entry.task}.yaml")
        task = load_yaml(path)
        assert task["repeats"] == task["filter_list"][0]["filter"][0]["k"] == suite.sampling.k == 16
        assert task["generation_kwargs"] == {
            "do_sample": True,
            "temperature": 1.0,
            "top_p": suite.sampling.top_p,
            "top_k": suite.sampling.top_k,
            "max_gen_toks": suite.sampling.max_new_tokens,
            "until": list(suite.sampling.stop),
        }
        assert set(our_metrics.process_results({}, ["a"])) == {metric["metric"] for metric in task["metric_list"]}
        assert suite.sampling.max_prompt_tokens + suite.sampling.max_new_tokens == 2048
        assert suite.sampling.truncation == "keep_start"
        assert task["dataset_kwargs"]["prompts"] == (805 if entry.task == "gendiv_alpaca_eval" else 500)


def test_only_tasks_in_distribution_have_training_views():
    roles = {entry.task: entry.role for name in OURS for entry in load_suite(name).tasks}
    with_views = set()
    for path in tasks_folder().glob("*/gendiv_*.yaml"):
        config = yaml.safe_load(path.read_text().replace("!function ", ""))
        if "views" in config["metadata"]:
            with_views.add(config["task"])
    assert with_views == {task for task, role in roles.items() if role == "id"}


def test_no_task_is_in_two_suites_of_another_role():
    roles = {}
    for suite in load_suites().values():
        for entry in suite.tasks:
            assert roles.setdefault(entry.task, entry.role) == entry.role


def test_plain_lm_eval_keeps_all_k_samples_and_gives_our_numbers(root, tmp_path):
    import lm_eval
    from lm_eval.tasks import TaskManager

    words = {word for row in rows()["tldr"]["test"] for word in f"{row['post']} {row['title']}".split()}
    make_checkpoint(tmp_path / "tiny", sorted({*words, ".", "SUBREDDIT"}), seed=0, architecture=ARCHITECTURE)
    results = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(tmp_path / "tiny"), "dtype": "float32"},
        tasks=["gendiv_tldr"],
        task_manager=TaskManager(include_path=str(tasks_folder()), include_defaults=False),
        device="cpu",
        batch_size=64,
        limit=3,
        bootstrap_iters=0,
    )
    samples = results["samples"]["gendiv_tldr"]
    groups = [sample["filtered_resps"][0] for sample in samples]
    assert [len(group) for group in groups] == [16, 16, 16]
    assert all(len(set(group)) > 1 for group in groups)
    assert [sample["arguments"][0][0] for sample in samples] == [
        prompt.text for prompt in load_prompts(load_suite("summarisation"))["gendiv_tldr"][:3]
    ]
    found = results["results"]["gendiv_tldr"]
    expected = [our_metrics.process_results({}, group) for group in groups]
    assert {name.removesuffix(",all") for name in found if name.endswith(",all") and "stderr" not in name} == set(
        expected[0]
    )
    for metric in expected[0]:
        assert found[f"{metric},all"] == pytest.approx(our_metrics.mean([e[metric] for e in expected]), abs=1e-12)
