"""Loading, freezing, adapting and reading models: what the trainers need of transformers, in one place."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from benchmark.errors import UserError
from benchmark.reward_model import load as load_reward_model
from reference_models.arguments import TrainingArguments
from reference_models.core import Batch, token_log_probs

Function = TypeVar("Function", bound=Callable[..., Any])

LEAST_ACCURACY = 0.7
"""Held-out accuracy of a reward model below which optimising it has been seen to gain nothing."""


def load_tokenizer(name: str) -> Any:
    """Load a tokenizer, and refuse one whose padding token is its end-of-sequence token.

    Were they one, masking padding would mask the end, and the model would never learn, or be paid, to stop.
    """
    from transformers import AutoTokenizer

    with loading(name):
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    if tokenizer.eos_token_id is None:
        raise UserError(f"{name}: the tokenizer has no end-of-sequence token")
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise UserError(
            f"{name}: the tokenizer needs a padding token that is not its end-of-sequence token; "
            "name an unused token of its vocabulary as pad_token in tokenizer_config.json"
        )
    return tokenizer


def load_policy(name: str) -> Any:
    """Load a causal language model in float32, with dropout off."""
    from transformers import AutoModelForCausalLM

    return without_dropout(load_whole(AutoModelForCausalLM, name))


def load_whole(kind: Any, name: str, new: tuple[str, ...] = (), **options: Any) -> Any:
    """Load a checkpoint in float32 by one of transformers' auto classes; only safetensors, and no code from it.

    Parameters
    ----------
    kind
        The auto class.
    name
        Folder or hub id.
    new
        Names of parts that the checkpoint may lack, because they are about to be initialised.
    **options
        More for ``from_pretrained``.

    Raises
    ------
    UserError
        If it cannot be loaded, or lacks other weights, which transformers fills with random numbers and goes on.
    """
    with loading(name):
        model, report = kind.from_pretrained(
            name,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
    if missing := sorted(key for key in report["missing_keys"] if key.partition(".")[0] not in new):
        raise UserError(f"{name}: the checkpoint has no weights for {missing[0]}; is it a causal language model?")
    return model


@contextlib.contextmanager
def loading(name: str) -> Iterator[None]:
    """Turn what transformers says about a checkpoint that it cannot load into one line; the cause stays chained."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"{name}: cannot be loaded: {reason}") from error


def without_dropout(model: Any) -> Any:
    """Put a model into evaluation mode, where it stays: policy ratios would differ from 1 by dropout's noise alone.

    Gradients flow all the same.
    """
    return model.eval()


def make_trainable(model: Any, args: TrainingArguments) -> Any:
    """Freeze the share of layers that the arguments say, or wrap the model in low-rank adapters; compile its layers.

    Returns
    -------
    model
        Itself, or the wrapped one.
    """
    if args.compile:
        compile_layers(model)
    if args.lora_rank and args.frozen_layers:
        raise UserError("lora_rank and frozen_layers exclude each other: adapters leave every layer as it is")
    if args.lora_rank:
        return _with_adapters(model, args)
    if args.frozen_layers:
        layers = transformer_layers(model)
        # Learned positions, and in OPT-350M a matrix, come before what is frozen: were they trained, gradients would go
        # back through all of it.
        embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding)]
        before = [module for name, module in model.named_modules() if name.rpartition(".")[2] == "project_in"]
        for module in (*layers[: round(args.frozen_layers * len(layers))], *embeddings, *before):
            module.requires_grad_(False)
        # Tied, the output matrix is the input one, and frozen with it.
    return model


def compile_layers(model: Any) -> None:
    """Compile each transformer layer of a model in place, at its first use.

    The layers are alike and share one compilation, which takes seconds; the model as a whole takes minutes, and again
    for each further shape, to be no faster.
    """
    # Policy, value model, reference and judge are often of one class, whose compilations are counted together.
    torch._dynamo.config.recompile_limit = 64
    for layer in transformer_layers(model):
        layer.compile()
    model.layers_compiled = True


def compiled_like(model: Any, function: Function) -> Function:
    """Compile a function of a model's outputs if the model's layers are: its many small operations become one."""
    return _compiled(function) if getattr(plain(model), "layers_compiled", False) else function


@functools.cache
def _compiled(function: Any) -> Any:
    return torch.compile(function)


def transformer_layers(model: Any) -> nn.ModuleList:
    """Find the stack of transformer layers: the module list with the most parameters."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise UserError(f"{type(model).__name__} has no stack of layers; frozen_layers cannot be used")
    return max(lists, key=lambda module: sum(p.numel() for p in module.parameters()))


def _with_adapters(model: Any, args: TrainingArguments) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise UserError("lora_rank needs peft: pip install 'gendiv[lora]'") from None
    from transformers.pytorch_utils import Conv1D

    torch.manual_seed(args.seed)
    head = "score" if hasattr(model, "score") else None
    config = LoraConfig(
        r=args.lora_rank,
        lora_alpha=args.lora_alpha or 2 * args.lora_rank,
        lora_dropout=0.0,
        # GPT-2 keeps its matrices the other way round.
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
        target_modules="all-linear",
        exclude_modules=[head] if head else None,
        modules_to_save=[head] if head else None,
    )
    return without_dropout(get_peft_model(model, config))


def merged(model: Any) -> Any:
    """Fold adapters, if there are any, into a copy of the weights: an ordinary model that loads without peft."""
    if not hasattr(model, "merge_and_unload"):
        return model
    import copy

    return copy.deepcopy(model).merge_and_unload()


def innermost(model: Any) -> Any:
    """Strip what DistributedDataParallel puts around a model."""
    while isinstance(model, nn.parallel.DistributedDataParallel):
        model = model.module
    return model


def forward(model: Any, batch: Batch, **kwargs: Any) -> Any:
    """Run a model on a batch, positions stated: left padding would shift learned and rotary ones alike."""
    accepts = inspect.signature(plain(model).forward).parameters
    if "position_ids" in accepts:
        kwargs["position_ids"] = batch.positions
    if "use_cache" in accepts:
        kwargs["use_cache"] = False
    return model(input_ids=batch.ids, attention_mask=batch.attention, **kwargs)


def completion_logits(model: Any, batch: Batch, temperature: float = 1.0, **kwargs: Any) -> tuple[Tensor, Any]:
    """Logits that predict the completion tokens.

    Parameters
    ----------
    model
        A causal language model.
    batch
        See `Batch`; logits are computed for the ``C + 1`` columns that are needed, where the model can.
    temperature
        Divides the logits, in training and in the reference alike, as it did when the completions were drawn.

    Returns
    -------
    tuple
        [batch, C, vocabulary], and the model's whole output.
    """
    columns = batch.mask.shape[1] + 1
    if "logits_to_keep" in inspect.signature(plain(model).forward).parameters:
        kwargs["logits_to_keep"] = columns
    out = forward(model, batch, **kwargs)
    logits = out.logits[:, -columns:-1]
    return (logits if temperature == 1.0 else logits / temperature), out


def completion_log_probs(model: Any, batch: Batch, temperature: float = 1.0) -> Tensor:
    """Log-probabilities of the completion tokens: [batch, C]; 0 on padding."""
    logits, _ = completion_logits(model, batch, temperature)
    # Filled, not multiplied: what stands on padding may be −∞, and must not reach a ratio or a difference.
    return compiled_like(model, token_log_probs)(logits, batch.completions).masked_fill(batch.mask == 0, 0.0)


def load_judge(name: str, tokenizer: Any, device: torch.device) -> Any:
    """Load the reward model that scores a policy's own token ids, in float32 and without gradients."""
    model, own = load_reward_model(name, str(device))
    if own.get_vocab() != tokenizer.get_vocab():
        raise UserError(f"{name}: the reward model's vocabulary is not the policy's")
    return model.requires_grad_(False).float()


def warn_of_weak_judge(name: str) -> None:
    """Say on the error stream that a reward model is too weak to be worth optimising, where its record tells."""
    if message := weak_judge(name):
        print(f"warning: {message}", file=sys.stderr)


def weak_judge(name: str) -> str | None:
    """Say that a reward model is too weak to be worth optimising; None where it is not, or its record does not tell."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        accuracy = float(json.loads((Path(name) / "training.json").read_text(encoding="utf-8"))["held_out_accuracy"])
        if accuracy < LEAST_ACCURACY:
            return (
                f"{name} ranks {accuracy:.3f} of its held-out pairs right, less than {LEAST_ACCURACY}; "
                "optimising it is unlikely to improve what it stands for"
            )
    return None


class Reference:
    """The policy that training starts from, without gradients.

    With adapters it is the trained model itself with its adapters off, and costs no second copy.

    Parameters
    ----------
    policy
        The model that is trained.
    args
        Say whether it has adapters, and what it started from.
    device
        Where a copy, if one is needed, goes.
    autocast
        Makes the context that the trained model computes in.
    """

    def __init__(
        self,
        policy: Any,
        args: TrainingArguments,
        device: torch.device,
        autocast: Callable[[], Any] = contextlib.nullcontext,
    ) -> None:
        self.adapted = policy if args.lora_rank else None
        self.autocast = autocast
        self.model: Any = policy if args.lora_rank else load_policy(args.model).to(device).requires_grad_(False)
        if args.compile and not args.lora_rank:
            compile_layers(self.model)

    @torch.no_grad()
    def log_probs(self, batch: Batch, temperature: float = 1.0) -> Tensor:
        """Log-probabilities of the completion tokens: [batch, C]."""
        off = self.adapted.disable_adapter() if self.adapted is not None else contextlib.nullcontext()
        with off, self.autocast():
            return completion_log_probs(self.model, batch, temperature)


def plain(model: Any) -> Any:
    """The transformers model itself, whose signature tells what it accepts."""
    model = innermost(model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trained parameters in two groups: matrices, which decay, and the rest, which do not."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
