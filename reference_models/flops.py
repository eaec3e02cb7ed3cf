"""Floating-point operations that a model needs, from its shape: what plans are made of, and shares of a GPU's peak.

Counted are the matrix products: 2 operations a weight and token in a forward pass, as many again for the gradient of
the weights and for the gradient of what came in; and causal attention, whose token at place t reads t others. The
embedding is looked up and costs nothing; the output matrix counts where it is used. What is not counted (norms,
activations, the softmax, the optimizer) is below a hundredth for models of these shapes, and what a program computes
in vain, such as padding or the masked half of attention, is not needed, and so not counted either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The numbers of a decoder that its operations depend on."""

    layers: int
    width: int
    intermediate: int
    """Inner width of the feed-forward."""
    vocabulary: int
    matrices: int = 3
    """Of a feed-forward: 3 where it is gated (Llama), else 2 (OPT, GPT-2)."""
    kv_width: int = 0
    """Keys' width, and values'; 0 = ``width``. Less where heads share them."""
    embedding: int = 0
    """Width of the embeddings; 0 = ``width``. Another one (OPT-350M) needs a matrix on either side of the layers."""
    tied: bool = False
    """Whether the output matrix is the embedding."""

    @property
    def layer(self) -> int:
        """Weights of the matrices of a layer."""
        attention = 2 * self.width * (self.width + (self.kv_width or self.width))
        return attention + self.matrices * self.width * self.intermediate

    @property
    def projection(self) -> int:
        """Weights of the matrix between the embeddings' width and the layers'; 0 where they are one."""
        return self.embedding * self.width if self.embedding not in (0, self.width) else 0

    @property
    def output(self) -> int:
        """Weights of the output matrix."""
        return (self.embedding or self.width) * self.vocabulary


def shape_of(config: Mapping[str, Any]) -> Shape:
    """Read a shape from the fields of a ``config.json``; OPT, GPT-2, and what is built and named as Llama is."""
    if config["model_type"] == "gpt2":
        width = config["n_embd"]
        inner = config.get("n_inner") or 4 * width
        return Shape(
            layers=config["n_layer"],
            width=width,
            intermediate=inner,
            vocabulary=config["vocab_size"],
            matrices=2,
            tied=bool(config.get("tie_word_embeddings", True)),
        )
    width, is_opt = config["hidden_size"], config["model_type"] == "opt"
    heads = config["num_attention_heads"]
    head = config.get("head_dim") or width // heads
    return Shape(
        layers=config["num_hidden_layers"],
        width=width,
        intermediate=config["ffn_dim" if is_opt else "intermediate_size"],
        vocabulary=config["vocab_size"],
        matrices=2 if is_opt else 3,
        kv_width=head * (config.get("num_key_value_heads") or heads),
        embedding=config.get("word_embed_proj_dim") or width,
        tied=bool(config.get("tie_word_embeddings", is_opt)),
    )


def forward_flops(shape: Shape, tokens: float, length: float, *, logits: float = 0.0) -> float:
    """Operations of a forward pass.

    Parameters
    ----------
    shape
        Of the model.
    tokens
        All tokens that are read.
    length
        Of a sequence; its tokens read half of it on average.
    logits
        Tokens that are predicted from: each costs a product with the output matrix. 0 = none, as in a reward model.
    """
    return shape.layers * _layer(shape, tokens, length) + 4 * shape.projection * tokens + 2 * shape.output * logits


def training_flops(shape: Shape, tokens: float, length: float, *, logits: float = 0.0, frozen: float = 0.0) -> float:
    """Operations of a forward and a backward pass: three times the forward one, or less where layers are frozen.

    Parameters
    ----------
    shape, tokens, length, logits
        See `forward_flops`.
    frozen
        Share of the layers, from the first, that are frozen with the embeddings: nothing goes back through them. An
        output matrix that is the embedding is frozen too, and only passes a gradient on.
    """
    forward = forward_flops(shape, tokens, length, logits=logits)
    if not frozen:
        return 3 * forward
    trained = shape.layers - round(frozen * shape.layers)
    backward = 2 * trained * _layer(shape, tokens, length)
    backward += 2 * 2 * shape.projection * tokens
    return forward + backward + (1 if shape.tied else 2) * 2 * shape.output * logits


def generation_flops(shape: Shape, sequences: float, prompt: float, response: float, *, samples: int = 1) -> float:
    """Operations of drawing responses: each prompt is read once for its ``samples``, then a token at a time.

    Parameters
    ----------
    shape
        Of the model.
    sequences
        Responses in all.
    prompt, response
        Mean tokens of either.
    samples
        Responses a prompt.
    """
    read = forward_flops(shape, sequences / samples * prompt, prompt)
    # A token of the response reads the whole prompt, and half of the response on average.
    return read + forward_flops(shape, sequences * response, 2 * prompt + response, logits=sequences * response)


def sft_flops(shape: Shape, sequences: float, length: float, *, predicted: float = 0.0, frozen: float = 0.0) -> float:
    """Operations of fine-tuning on sequences of a mean length, ``predicted`` tokens of each (0 = all but the first)."""
    logits = sequences * (predicted or length - 1)
    return training_flops(shape, sequences * length, length, logits=logits, frozen=frozen)


def reward_flops(shape: Shape, pairs: float, length: float, *, frozen: float = 0.0) -> float:
    """Operations of training a reward model on pairs: two answers each, of a mean length with their prompt."""
    return training_flops(shape, 2 * pairs * length, length, frozen=frozen)


def ppo_flops(
    shape: Shape,
    episodes: float,
    prompt: float,
    response: float,
    *,
    epochs: int,
    frozen: float = 0.0,
    shared: bool = False,
) -> float:
    """Operations of PPO: generation (`generation_flops`), and all the rest (`learning_flops`).

    Parameters
    ----------
    shape, episodes, prompt, response, epochs, frozen, shared
        See `learning_flops`.
    """
    learning = learning_flops(shape, episodes, prompt, response, epochs=epochs, frozen=frozen, shared=shared)
    return generation_flops(shape, episodes, prompt, response) + learning


def learning_flops(
    shape: Shape,
    episodes: float,
    prompt: float,
    response: float,
    *,
    epochs: int,
    frozen: float = 0.0,
    shared: bool = False,
) -> float:
    """Operations of PPO but for generation: scoring, and the epochs of training.

    Parameters
    ----------
    shape
        Of the policy; reference, reward and value model are of the same.
    episodes
        Responses, each to a prompt of its own.
    prompt, response
        Mean tokens of either.
    epochs
        Passes of training over the episodes of an update.
    frozen
        See `training_flops`.
    shared
        Whether the value function is a head on the policy, which costs nothing here, and not a model of its own.
    """
    length = prompt + response
    tokens, logits = episodes * length, episodes * response
    policy = training_flops(shape, tokens, length, logits=logits, frozen=frozen)
    critic = 0.0 if shared else training_flops(shape, tokens, length, frozen=frozen)
    # Policy and reference predict; reward model and value model do not.
    scoring = 2 * forward_flops(shape, tokens, length, logits=logits)
    scoring += (1 if shared else 2) * forward_flops(shape, tokens, length)
    return scoring + epochs * (policy + critic)


def _layer(shape: Shape, tokens: float, length: float) -> float:
    """Operations of a layer: its matrices, then queries by keys and weights by values, half of them masked."""
    return tokens * (2 * shape.layer + 4 * shape.width * length / 2)
