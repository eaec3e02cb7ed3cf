"""A published base model as the trainers take it: in safetensors, with a padding token that is not its end.

OPT's checkpoints are pickled, which no trainer loads, and LLaMA's tokenizer has no padding token::

    python -m reference_models.base_model facebook/opt-125m models/opt-125m
    python -m reference_models.base_model huggyllama/llama-7b models/llama-7b --pad-token '<unk>'

A hub id is downloaded if it is not in the cache. Of a pickled file nothing but tensors is read.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmark.errors import UserError


def make_base(name: str, output: Path, pad_token: str | None = None) -> Path:
    """Write a copy of a causal language model, its weights in the type that they have.

    Parameters
    ----------
    name
        Checkpoint folder or hub id.
    output
        The new folder; it appears when it is complete.
    pad_token
        A token of the vocabulary that pads from now on, one that no text has; None = the tokenizer's own.

    Raises
    ------
    UserError
        If the output is there, the model or tokenizer cannot be used, or the token is none or the end.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from reference_models.models import load_tokenizer, loading

    if output.exists():
        raise UserError("is there already; give another output", where=output)
    kind: Any = AutoModelForCausalLM
    with loading(name):
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        model, report = kind.from_pretrained(name, dtype="auto", trust_remote_code=False, output_loading_info=True)
    if missing := sorted(report["missing_keys"]):
        raise UserError(f"{name}: the checkpoint has no weights for {missing[0]}")
    if pad_token is not None:
        if pad_token not in tokenizer.get_vocab():
            raise UserError(f"{name}: --pad-token {pad_token!r} is not in the tokenizer's vocabulary")
        tokenizer.pad_token = pad_token
    model.config.pad_token_id = tokenizer.pad_token_id
    partial = output.with_name(f"{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        tokenizer.save_pretrained(partial)
        load_tokenizer(str(partial))
        model.save_pretrained(partial)
        partial.replace(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return output


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="checkpoint folder or hub id")
    parser.add_argument("output", type=Path, help="the new folder")
    parser.add_argument("--pad-token", metavar="TOKEN", help="a token of the vocabulary that pads")
    options = parser.parse_args()
    try:
        print(make_base(options.model, options.output, options.pad_token))
    except UserError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
