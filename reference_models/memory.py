"""How much memory a process of a training run takes, before it is started.

Weights, gradients and Adam's states are counted, and exact. What a forward pass keeps for the backward one is estimated
from what transformers' layers keep (`KEPT`, measured on small models), and so are logits and caches. Compiled models
of 39 and 162 million parameters took 0.64 to 0.92 of the estimate on an H200.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reference_models.architectures import meta_model
from reference_models.arguments import TrainingArguments
from reference_models.flops import Shape

FLOAT = 4
"""Bytes of a weight, a gradient, and of each of Adam's two moments: all in float32."""
KEPT = {
    ("gated", "no"): (40, 16),
    ("gated", "bf16"): (35, 8),
    ("plain", "no"): (32, 4),
    ("plain", "bf16"): (25, 2),
}
"""(feed-forward, precision) → bytes that a layer keeps of a token, for each of its width and of its inner width."""
LOGIT = 16
"""Bytes of a logit at the worst: itself, its float32 copy, and their gradients; or those of the entropy."""
DRAWN = 24
"""Bytes of a logit that is drawn from, in double precision."""


@dataclass(frozen=True)
class Lengths:
    """Tokens of the data."""

    prompt: int
    """The longest prompt."""
    completion: int
    """The longest completion: of PPO's rollouts ``max_new_tokens``."""
    answers: int = 1
    """Sequences that an example stands for: a reward model's has two or more."""

    @property
    def whole(self) -> int:
        """The longest sequence, at most: the longest prompt and the longest completion may be of two examples."""
        return self.prompt + self.completion


@dataclass(frozen=True)
class Counts:
    """Parameters of what is trained together, and of what stands beside it."""

    trained_module: int
    """All of them, frozen ones included."""
    trainable: int
    layer: int
    """Of a layer, the unit in which FSDP gathers."""
    outside: int
    """Of the trained module, outside of its layers."""
    beside: Mapping[str, int] = field(default_factory=dict)
    """What stands beside it, whole in every process: reference and reward model."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one process."""

    standing: Mapping[str, float]
    """What is there all the time."""
    phases: Mapping[str, Mapping[str, float]]
    """What comes on top while a phase lasts; one is left before the next begins."""

    @property
    def exact(self) -> float:
        """What is counted and not estimated: no smaller batch lowers it."""
        return sum(self.standing.values()) + self.phases.get("training", {}).get("gradients", 0.0)

    @property
    def peak(self) -> float:
        """The most at any time, estimated."""
        return sum(self.standing.values()) + max((sum(parts.values()) for parts in self.phases.values()), default=0.0)


def count(method: str, args: Any, policy: Mapping[str, Any], scorer: Mapping[str, Any] | None = None) -> Counts:
    """Count parameters, on the meta device.

    Parameters
    ----------
    method
        Its name.
    args
        Its arguments.
    policy
        Configuration of the model that is trained; see `meta_model`.
    scorer
        Of the reward model; None = as the policy.
    """
    from dataclasses import replace

    from reference_models.models import make_trainable, transformer_layers

    shared = getattr(args, "value_model", None) == "shared"
    model = meta_model(dict(policy), scorer=method == "reward-model")
    judge = meta_model(dict(scorer or policy), scorer=True) if hasattr(args, "reward_model") else None
    whole = _numel(model)
    if not isinstance(args, TrainingArguments):  # nothing is trained
        return Counts(0, 0, 0, 0, {"policy": whole, "reward model": _numel(judge)} if judge is not None else {})
    layers = transformer_layers(model)
    layer, inside = _numel(layers[0]), _numel(layers)
    plain = replace(args, compile=False)
    beside: dict[str, int] = {}
    if method in ("ppo", "rloo", "dpo") and not args.lora_rank:
        beside["reference"] = whole
    if judge is not None:
        beside["reward model"] = _numel(judge)
    parts = [make_trainable(model, plain)]
    if method == "ppo" and not shared:
        critic = meta_model(dict(scorer or policy), scorer=True)
        inside += _numel(transformer_layers(critic))
        parts.append(make_trainable(critic, plain))
    head = policy.get("word_embed_proj_dim", policy.get("hidden_size", 0)) + 1 if method == "ppo" and shared else 0
    everything = sum(map(_numel, parts)) + head
    trainable = sum(p.numel() for part in parts for p in part.parameters() if p.requires_grad) + head
    return Counts(everything, trainable, layer, everything - inside, beside)


def memory(method: str, args: Any, counts: Counts, shape: Shape, lengths: Lengths, processes: int = 1) -> Memory:
    """Estimate the memory of one process.

    Parameters
    ----------
    method, args
        The method's name and arguments.
    counts
        See `count`.
    shape
        Of the model.
    lengths
        Of the data.
    processes
        More than one share the trained module by FSDP; reference, reward model and, of PPO, a copy of the policy to
        draw from are whole in each.
    """
    beside = {name: FLOAT * number for name, number in counts.beside.items()}
    bf16 = args.mixed_precision == "bf16"
    if not isinstance(args, TrainingArguments):
        together = max(args.batch_size, args.pool or args.n)
        return Memory(beside, {"generating": _generating(shape, lengths, together, bf16=bf16)})
    share = args.batch_size // processes
    micro = min(args.microbatch_size or share, share)
    standing = {
        "weights": FLOAT * counts.trained_module / processes,
        "Adam's states": 2 * FLOAT * counts.trainable / processes,
        **beside,
    }
    if processes > 1:
        # The layer at hand and the one that is fetched meanwhile; what is outside of layers stays while a pass lasts.
        standing["gathered weights"] = FLOAT * (2 * counts.layer + counts.outside)
    models = 2 if getattr(args, "value_model", "shared") != "shared" else 1
    trained_layers = shape.layers - round(args.frozen_layers * shape.layers)
    sequences = micro * lengths.answers
    by_width, by_inner = KEPT["gated" if shape.matrices == 3 else "plain", args.mixed_precision]
    a_token = by_width * shape.width + by_inner * shape.intermediate
    predicts = method != "reward-model"
    logits = LOGIT * sequences * (lengths.completion + 1) * shape.vocabulary if predicts else 0
    training = {
        "gradients": FLOAT * counts.trainable / processes,
        "activations": models * trained_layers * sequences * lengths.whole * a_token,
        "logits": logits,
    }
    if bf16:
        # Autocast keeps them for the backward pass; FSDP gathers a layer's again, and lets go of it.
        training["bf16 copies of weights"] = 2 * (counts.trainable if processes == 1 else counts.layer)
    phases = {"training": training}
    if hasattr(args, "rollout_batch_size"):
        together = min(args.rollout_batch_size or share, share)
        if processes > 1:
            standing["copy to draw from"] = FLOAT * (counts.beside.get("reference") or counts.trained_module)
        phases["generating"] = _generating(shape, lengths, together, bf16=bf16)
        phases["scoring"] = {"logits": logits}
    return Memory(standing, phases)


def _generating(shape: Shape, lengths: Lengths, together: int, *, bf16: bool) -> dict[str, float]:
    # Rotary positions make float32 of what autocast computes, until the prompts are read.
    number = 2 if bf16 and shape.matrices == 2 else FLOAT
    kept = 2 * shape.layers * (shape.kv_width or shape.width) * number
    return {
        "KV cache": together * lengths.whole * kept,
        "logits": DRAWN * together * shape.vocabulary,
    }


def positions(config: Mapping[str, Any]) -> int | None:
    """Tokens that a configuration has positions for; None = no limit is said."""
    limit = config.get("max_position_embeddings") or config.get("n_positions")
    return int(limit) if limit else None


def _numel(module: Any) -> int:
    return sum(p.numel() for p in module.parameters())
