"""Arguments from recipes and the command line: what is taken, and how a mistake is named."""

from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from benchmark.errors import UserError
from reference_models.arguments import RECIPES, TrainingArguments, differing, parse_overrides, read_recipe
from reference_models.dpo import DPOArguments
from reference_models.ppo import PPOArguments
from reference_models.reward_model import RewardModelArguments
from reference_models.rloo import RLOOArguments
from reference_models.sft import SFTArguments

NEEDED = {"model": "m", "data": "d", "output": "o", "steps": 10, "batch_size": 4, "learning_rate": 1e-3}
METHODS = {
    "sft": SFTArguments,
    "reward-model": RewardModelArguments,
    "dpo": DPOArguments,
    "ppo": PPOArguments,
    "rloo": RLOOArguments,
}


@dataclass(frozen=True, kw_only=True)
class Several(TrainingArguments):
    weights: tuple[float, ...] = ()
    limit: int | None = None


def read(text="", cls=SFTArguments, tmp_path=None, **overrides):
    if not text:
        return read_recipe(cls, None, NEEDED | overrides)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text)
    return read_recipe(cls, recipe, NEEDED | overrides)


def test_text_typed_and_yaml_values_come_to_the_same():
    typed = read_recipe(SFTArguments, None, NEEDED | {"compile": True, "learning_rate": 0.004, "steps": 1000})
    text = read_recipe(
        SFTArguments, None, NEEDED | {"compile": "true", "learning_rate": "4e-3", "steps": "1e3", "batch_size": "4"}
    )
    assert typed == text


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("learning_rate: 4e-3", "learning_rate", 0.004),  # a string for YAML 1.1
        ("learning_rate: 1", "learning_rate", 1.0),
        ("compile: no", "compile", False),
        ("compile: yes", "compile", True),
        ("mixed_precision: no", "mixed_precision", "no"),  # false for YAML
        ("mixed_precision: bf16", "mixed_precision", "bf16"),
        ("steps: 1e3", "steps", 1000),
        ("seed: 1152921504606846977", "seed", 2**60 + 1),
        ("model: 7", "model", "7"),
        ("weights: [0.5, 1]", "weights", (0.5, 1.0)),
        ("weights: 0.5,1", "weights", (0.5, 1.0)),
        ("limit: null", "limit", None),
        ("limit: 3", "limit", 3),
    ],
)
def test_yaml_is_read_as_it_was_meant(tmp_path, line, name, value):
    needed = {key: given for key, given in NEEDED.items() if key != name}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(line + "\n")
    found = getattr(read_recipe(Several, recipe, needed), name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("stesp: 3", "unknown field 'stesp'; there are: model, data, output, steps"),
        ("compile: maybe", "'compile' is 'maybe', and must be true or false"),
        ("seed: 1.5", "'seed' is 1.5, and must be a whole number"),
        ("seed: one", "'seed' is 'one', and must be a whole number"),
        ("seed: yes", "'seed' is True, and must be a whole number"),
        ("seed: .inf", "'seed' is inf, and must be a whole number"),
        ("seed: [1]", r"'seed' is \[1\], and must be a whole number"),
        ("weight_decay: .nan", "'weight_decay' is nan, and must be a number"),
        ("weight_decay: much", "'weight_decay' is 'much', and must be a number"),
        ("weight_decay:", "'weight_decay' is None, and must be a number"),
        ("weight_decay: -0.1", "'weight_decay' is -0.1, and must be at least 0"),
        ("max_grad_norm: 0", "'max_grad_norm' is 0.0, and must be above 0"),
        ("save_every: 0", "'save_every' is 0, and must be above 0"),
        ("frozen_layers: 1.5", "'frozen_layers' is 1.5, and must be at most 1"),
        ("mixed_precision: fp8", "'mixed_precision' is 'fp8', and must be one of no, bf16"),
        ("weights: a,b", "'weights' is 'a,b', and must be numbers with commas"),
        ("weights: 5", "'weights' is 5, and must be numbers with commas"),
        ("- steps", "a recipe is a mapping of fields"),
        ("a: b: c", "not YAML"),
    ],
)
def test_a_mistake_in_a_recipe_is_one_line_that_names_file_and_field(tmp_path, line, says):
    with pytest.raises(UserError, match=says) as caught:
        read(line, Several, tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "recipe.yaml"))
    assert "\n" not in str(caught.value)


def test_a_recipe_of_another_method_is_called_so(tmp_path):
    with pytest.raises(UserError, match=r"ppo\.yaml: unknown field 'epochs', as of a recipe of ppo; there are: "):
        read_recipe(SFTArguments, Path("pocket/ppo.yaml"), NEEDED)
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("minibatches: 2\n")
    with pytest.raises(UserError, match=r"unknown field 'minibatches', as of a recipe of ppo or rloo; there are: "):
        read_recipe(SFTArguments, recipe, NEEDED)
    with pytest.raises(UserError, match=r"^--set: unknown field 'beta'; there are: "):
        read_recipe(SFTArguments, None, NEEDED | {"beta": 1})


@pytest.mark.parametrize("value", [None, ["a"], {"a": 1}, True])
def test_text_is_text_and_not_whatever_prints(value):
    with pytest.raises(UserError, match=r"'output' is .*, and must be text"):
        read(output=value)


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_field_is_named(name):
    with pytest.raises(UserError, match=f"^--set: field '{name}' is missing; .*--set {name}=…"):
        read_recipe(SFTArguments, None, {key: value for key, value in NEEDED.items() if key != name})


@pytest.mark.parametrize("name", ["epochs", "minibatches", "max_new_tokens", "temperature"])
@pytest.mark.parametrize("cls", [PPOArguments, RLOOArguments])
def test_what_is_divided_by_is_never_zero(cls, name):
    with pytest.raises(UserError, match=f"'{name}' is 0.*, and must be above 0"):
        read_recipe(cls, None, NEEDED | {"reward_model": "r", name: 0})


def test_an_unknown_recipe_lists_those_there_are(tmp_path):
    with pytest.raises(UserError, match=r"pocket/none.yaml: no such recipe; with GenDiv come .*pocket/sft.yaml"):
        read_recipe(SFTArguments, Path("pocket/none.yaml"), NEEDED)


def test_a_recipe_is_found_by_its_name_and_one_of_ones_own_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = {name: NEEDED[name] for name in ("model", "data", "output")}
    shipped = read_recipe(SFTArguments, Path("pocket/sft.yaml"), folders)
    (tmp_path / "pocket").mkdir()
    (tmp_path / "pocket" / "sft.yaml").write_text((RECIPES / "pocket/sft.yaml").read_text() + "seed: 77\n")
    assert read_recipe(SFTArguments, Path("pocket/sft.yaml"), folders) != shipped
    assert read_recipe(SFTArguments, Path("pocket/sft.yaml"), folders).seed == 77


@pytest.mark.parametrize("recipe", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: str(path.relative_to(RECIPES)))
def test_every_recipe_that_comes_along_is_read(recipe):
    method = max((name for name in METHODS if recipe.stem.startswith(name)), key=len, default=None)
    if method is None:
        pytest.skip("of a method without gradient steps")
    values = {name: NEEDED[name] for name in ("model", "data", "output")}
    if "reward_model" in METHODS[method].__dataclass_fields__:
        values["reward_model"] = "r"
    # The code of the paper's PPO on TL;DR has another one than its other trainings.
    is_papers_code = method == "ppo" and recipe.parent.name.startswith("tldr-")
    assert read_recipe(METHODS[method], recipe, values).adam_eps == (1e-8 if is_papers_code else 1e-5)


def test_overrides_win_and_need_an_equals_sign(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("seed: 3\n")
    assert read_recipe(SFTArguments, recipe, NEEDED | parse_overrides(["seed=4", "model=a=b"])).seed == 4
    assert parse_overrides(["model=a=b"]) == {"model": "a=b"}
    with pytest.raises(UserError, match="'seed': give field=value"):
        parse_overrides(["seed"])


def test_the_rate_rises_to_the_full_one_and_falls_to_nearly_nothing():
    args = read(steps=10, warmup_steps=4, learning_rate=1.0)
    by_hand = [min(step / 4, (10 - step + 1) / 10) for step in range(1, 11)]
    assert [args.rate_at(step) for step in range(1, 11)] == pytest.approx(by_hand)
    constant = read(steps=4, learning_rate=1.0)
    assert [constant.rate_at(step) for step in range(1, 5)] == pytest.approx([1, 0.75, 0.5, 0.25])


def test_a_difference_is_named_with_both_values_and_survives_json():
    args = read_recipe(Several, None, NEEDED | {"weights": "1,2"})
    assert differing(asdict(args) | {"weights": [1.0, 2.0]}, args) is None
    assert differing(asdict(args) | {"seed": 5}, args) == "seed is 5 there and 1 here"
