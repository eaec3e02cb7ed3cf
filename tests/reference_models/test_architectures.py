"""The paper's base models by their table."""

import pytest
import torch
from transformers import AutoConfig

from benchmark.errors import UserError
from leaderboard.paper_tables import paper_tables
from reference_models.architectures import meta_model, paper_models, read_config


@pytest.mark.parametrize("model", paper_models().values(), ids=lambda model: model.name)
def test_the_table_has_the_parameters_that_transformers_counts(model):
    built = meta_model(model.config)
    assert sum(p.numel() for p in built.parameters()) == model.parameters
    assert all(p.device == torch.device("meta") for p in built.parameters())
    shape = model.shape
    matrices = shape.layers * shape.layer + 2 * shape.projection + shape.output * (1 if shape.tied else 2)
    # What is left are norms, biases and learned positions.
    assert 0 < model.parameters - matrices < 0.02 * model.parameters
    assert shape.tied == AutoConfig.for_model(**model.config).tie_word_embeddings


def test_every_base_model_of_the_papers_tables_is_there():
    assert {row.model for table in paper_tables().values() for row in table.rows} <= set(paper_models())


def test_the_names_say_about_how_large_they_are():
    for name, model in paper_models().items():
        number = name.rpartition("-")[2]
        size = float(number[:-1]) * {"m": 1e6, "b": 1e9}[number[-1]]
        assert model.parameters == pytest.approx(size, rel=0.06)


def test_a_scorer_has_one_output_and_no_vocabulary():
    model = paper_models()["facebook/opt-350m"]
    assert meta_model(model.config, scorer=True).score.weight.shape == (1, 512)


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "there is no config.json"), ("{", "cannot be read"), ("[]", "no model_type"), ("{}", "no model_type")],
)
def test_what_is_no_configuration_is_one_line(tmp_path, content, says):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=says) as caught:
        read_config(tmp_path)
    assert str(tmp_path) in str(caught.value)
