"""The pocket tasks under plain lm-eval, without our sampler or command."""

import pytest
import yaml

from benchmark.metrics import distinct_n, ead
from benchmark.metrics.ngrams import count_sets
from benchmark.suites import load_suite, tasks_folder
from reference_models.tiny import make_checkpoint
from tasks.pocket.words import vocabulary

ARCHITECTURE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
    "initializer_range": 0.3,
}


def test_plain_lm_eval_keeps_all_k_samples_and_gives_our_numbers(tmp_path):
    import lm_eval
    from lm_eval.tasks import TaskManager

    make_checkpoint(tmp_path / "tiny", vocabulary(), seed=0, architecture=ARCHITECTURE)
    results = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(tmp_path / "tiny"), "dtype": "float32"},
        tasks=["gendiv_pocket_id"],
        task_manager=TaskManager(include_path=str(tasks_folder()), include_defaults=False),
        device="cpu",
        batch_size=64,
        limit=3,
        bootstrap_iters=0,
    )
    groups = [sample["filtered_resps"][0] for sample in results["samples"]["gendiv_pocket_id"]]
    assert [len(group) for group in groups] == [16, 16, 16]
    assert all(len(set(group)) > 1 for group in groups)
    counts = count_sets(groups)
    found = results["results"]["gendiv_pocket_id"]
    assert found["ead,all"] == pytest.approx(ead.per_input(counts).mean(), abs=1e-12)
    assert found["distinct,all"] == pytest.approx(distinct_n.per_input(counts).mean(), abs=1e-12)


def test_the_yaml_asks_for_what_the_suite_samples():
    sampling = load_suite("pocket").sampling
    text = (tasks_folder() / "pocket" / "_pocket.yaml").read_text().replace("!function ", "")
    task = yaml.safe_load(text)
    assert task["repeats"] == task["filter_list"][0]["filter"][0]["k"] == sampling.k
    assert task["generation_kwargs"] == {
        "do_sample": True,
        "temperature": 1.0,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "max_gen_toks": sampling.max_new_tokens,
        "until": list(sampling.stop),
    }
