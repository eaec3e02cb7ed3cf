"""How large a model is, without its weights: the paper's base models by a table, others by their ``config.json``."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmark.errors import UserError
from reference_models.flops import Shape, shape_of

TABLE = Path(__file__).with_name("paper_models.yaml")


@dataclass(frozen=True)
class PaperModel:
    """A base model of the paper."""

    name: str
    """On the hub."""
    config: dict[str, Any]
    """Fields of its ``config.json``."""
    parameters: int
    base: str
    """What `reference_models.base_model` needs beside the name."""
    why: str
    """Why it cannot be trained as it is."""

    @property
    def shape(self) -> Shape:
        """What its operations depend on."""
        return shape_of(self.config)

    @property
    def conversion(self) -> str:
        """The command that makes a copy that can be trained; ``OUTPUT`` is its folder."""
        return f"python -m reference_models.base_model {self.name} OUTPUT {self.base}".rstrip()


@functools.cache
def paper_models() -> dict[str, PaperModel]:
    """The paper's base models by name, in order of size within their family."""
    table = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return {name: PaperModel(name=name, **fields) for name, fields in table.items()}


def read_config(folder: Path) -> dict[str, Any]:
    """Read a checkpoint folder's ``config.json``.

    Raises
    ------
    UserError
        If there is none, or it is no configuration of a model.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("there is no config.json, so it is no checkpoint", where=folder) from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot be read: {error}", where=path) from None
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise UserError("has no model_type, so it is no model's configuration", where=path)
    return config


def meta_model(config: dict[str, Any], *, scorer: bool = False) -> Any:
    """Build a model of a configuration on the meta device: every parameter with its shape, none with memory.

    Parameters
    ----------
    config
        Fields of a ``config.json``.
    scorer
        A sequence classifier of one label instead of a causal language model.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    fields = {key: value for key, value in config.items() if key not in ("model_type", "architectures")}
    made = AutoConfig.for_model(config["model_type"], **fields)
    kind: Any = AutoModelForSequenceClassification if scorer else AutoModelForCausalLM
    if scorer:
        made.num_labels = 1
    with torch.device("meta"):
        return kind.from_config(made)
