"""What is assumed of the paper's data agrees with what is known of it."""

import re

from benchmark.suites import load_suite, tasks_folder
from reference_models.paper_experiments import EXPERIMENTS


def test_the_prompts_are_as_many_as_the_tasks_have():
    for name, experiment in EXPERIMENTS.items():
        suite = load_suite(name)
        assert [entry.task for entry in suite.tasks] == list(experiment.evaluated)
        for task, texts in experiment.evaluated.items():
            [path] = tasks_folder().glob(f"*/{task}.yaml")
            text = path.read_text(encoding="utf-8")
            assert re.search(rf"prompts: {texts.prompts}\b", text), task
