import subprocess
import sys

import pytest

from benchmark.metrics.catalog import GATE, METRICS, metric

IDS = [
    "win_rate",
    "win_rate_lc",
    "ead_per_input",
    "ead_across_input",
    "ead_rlfh_per_input",
    "ead_rlfh_across_input",
    "distinct_per_input",
    "distinct_across_input",
    "self_bleu_per_input",
    "self_bleu_across_input",
    "ngram_cosine_per_input",
    "ngram_cosine_across_input",
    "compression_per_input",
    "vendi_per_input",
    "vendi_across_input",
    "distinct_k_per_input",
    "sbert_per_input",
    "sbert_across_input",
    "effective_per_input_<gate>",
    "effective_across_input_<gate>",
    "conditional_per_input_<gate>",
    "valid_share_<gate>",
    "length_words",
    "empty_share",
    "cut_off_share",
]


def test_catalogue_lists_every_metric() -> None:
    assert sorted(METRICS) == sorted(IDS)


def test_a_gates_name_finds_its_metric() -> None:
    assert metric("effective_per_input_oracle") is METRICS[f"effective_per_input_{GATE}"]
    assert metric("ead_per_input") is METRICS["ead_per_input"]
    with pytest.raises(KeyError):
        metric("ead")


def test_metric_modules_import_nothing_heavy() -> None:
    code = """
import importlib, pkgutil, sys
import benchmark.metrics
for module in pkgutil.iter_modules(benchmark.metrics.__path__):
    importlib.import_module(f"benchmark.metrics.{module.name}")
print(sorted({"torch", "transformers", "sentence_transformers", "scipy", "pandas"} & set(sys.modules)))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
