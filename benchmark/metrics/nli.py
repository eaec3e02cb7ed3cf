"""NLI diversity: how far outputs contradict rather than entail each other, sentence by sentence.

After Stasaski and Hearst 2022 (arXiv 2205.01497) and Kirk et al. 2023 (arXiv 2310.06452), with three changes: pairs of
sentences, as a classifier was trained on, and not of whole outputs; the classifier's probabilities in full, and not
the score of its likeliest label; and the sign that the definition has. The published code takes the weight of
contradiction for a similarity, so that its identical outputs are the most diverse; ``nli_released_code`` and
``nli_paper_table`` compute the published numbers from the same probabilities.

Range [-1, 1]; higher is more diverse. Floor -1: all outputs entail each other, as a good classifier says of identical
ones. Ceiling 1: all contradict each other; texts that have nothing to do with each other come to 0. Outputs without a
sentence are left out; missing (NaN) where no pair of outputs is left. Values of different classifiers are not
comparable.

No weights of a classifier are packaged: give ``CrossEncoderNLI`` a checkpoint, or any function of pairs of texts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import UserError

Floats = NDArray[np.float64]
Classifier = Callable[[list[tuple[str, str]]], Floats]
"""Pairs of premise and hypothesis → probabilities [pairs, 3], columns as in ``LABELS``."""
Form = Literal["nli", "nli_released_code", "nli_paper_table"]

LABELS = ("entailment", "neutral", "contradiction")
MAX_SENTENCES = 5

_WEIGHTS = np.array([-1.0, 0.0, 1.0])
_SENTENCE_END = re.compile(r"(?:(?<=[.!?…])|(?<=[.!?…][\"'”’)\]]))\s+|(?<=[。！？])|[\r\n]+")
_SUM_TOLERANCE = 1e-3


def per_input(
    texts: Sequence[Sequence[str]],
    classifier: Classifier,
    *,
    form: Form = "nli",
    neighbours: int | None = 1,
    max_sentences: int | None = MAX_SENTENCES,
) -> Floats:
    """NLI diversity of every prompt's outputs.

    Parameters
    ----------
    texts
        [n][k], k outputs a prompt.
    classifier
        Called once, with all different ordered pairs of sentences.
    form
        ``"nli"``, or one of the published forms, which are named like the functions that compute them.
    neighbours
        Each output is compared with so many that follow it, in a circle; None = all pairs. Outputs are samples in no
        order, so the mean stays the same: at k = 16 one neighbour (16 pairs of 120) adds less than 1 % to its error.
    max_sentences
        Sentences read of an output, evenly spread; None = all, and 0 = the whole output as one, as in the papers.

    Returns
    -------
    float64 [n]
        In [-1, 1] under ``"nli"``; higher is more diverse: -1 where the classifier is sure that all outputs entail each
        other, as it should be of identical ones, 0 where they have nothing to do with each other, 1 where all
        contradict each other. Pairs with an output that holds no sentence are left out; missing (NaN) if no pair is
        left, and if k < 2.

    Raises
    ------
    ValueError
        If the prompts have unlike numbers of outputs, an option is out of its range, or the classifier returns
        anything but a distribution for every pair.

    Notes
    -----
    Costs at most ``2 k · neighbours · max_sentences²`` pairs of sentences a prompt.
    """
    values, _ = _pair_values(texts, classifier, form, neighbours, max_sentences)
    return _mean(np.nansum(values, axis=1), np.isfinite(values).sum(axis=1))


def across_input(
    texts: Sequence[Sequence[str]],
    classifier: Classifier,
    *,
    form: Form = "nli",
    neighbours: int | None = 40,
    max_sentences: int | None = MAX_SENTENCES,
) -> tuple[Floats, Floats]:
    """NLI diversity of sets with one text a prompt, and without each of their texts.

    Parameters
    ----------
    texts
        [sets][n], one text a prompt. With fewer than all pairs only texts close to each other in the list are compared,
        so its order must mean nothing: shuffle prompts that are sorted by source (``nli_scoring`` does).
    classifier, form, neighbours, max_sentences
        As for ``per_input``. At n = 500, 40 neighbours are 20,000 of the 124,750 pairs.

    Returns
    -------
    value : float64 [sets]
        Range and direction as of ``per_input``; missing (NaN) without any pair.
    without : float64 [sets, n]
        The mean over the same pairs less those of text i, for the jackknife; missing (NaN) where none is left. With
        few neighbours the jackknife's error is too large rather than too small: it counts twice the variance that
        comes from which pairs were compared.

    Raises
    ------
    ValueError
        As ``per_input``.
    """
    values, ends = _pair_values(texts, classifier, form, neighbours, max_sentences)
    present, filled = np.isfinite(values), np.nan_to_num(values)
    total, count = filled.sum(axis=1), present.sum(axis=1)
    n = len(texts[0]) if texts else 0
    touches = (ends[:, :1] == np.arange(n)) | (ends[:, 1:] == np.arange(n))
    return _mean(total, count), _mean(total[:, None] - filled @ touches, count[:, None] - present @ touches.astype(int))


def nli(forward: Floats, backward: Floats) -> Floats:
    """P(contradiction) - P(entailment), in the mean over both directions.

    Parameters
    ----------
    forward, backward
        Probabilities [..., 3] of (a, b) and of (b, a), columns as in ``LABELS``.

    Returns
    -------
    float64 [...]
        In [-1, 1]; higher is more diverse.
    """
    return np.asarray((forward + backward) / 2.0 @ _WEIGHTS, dtype=np.float64)


def nli_paper_table(forward: Floats, backward: Floats) -> Floats:
    """The scale of the published tables: both directions' likeliest labels, signed and summed.

    Parameters and shapes as of ``nli``. In [-2, 2]; higher is more diverse: a label counts its probability if it is
    contradiction, minus that if it is entailment, and 0 if it is neutral.
    """
    return _likeliest(forward) + _likeliest(backward)


def nli_released_code(forward: Floats, backward: Floats) -> Floats:
    """What the published code prints: ``1 - nli_paper_table``, upside down.

    Parameters and shapes as of ``nli``. In [-1, 3]; *lower* is more diverse, though the code calls it diversity.
    """
    return np.asarray(1.0 - nli_paper_table(forward, backward))


def cyclic_pairs(k: int, neighbours: int | None = None) -> NDArray[np.int64]:
    """Pairs of k things in a circle, each with the next ones.

    Parameters
    ----------
    k
        How many things.
    neighbours
        How many of the following ones each is paired with, at least 1; None = all pairs.

    Returns
    -------
    int64 [pairs, 2]
        Different unordered pairs; ``k · neighbours`` of them, or all ``k(k-1)/2`` if those are fewer.

    Raises
    ------
    ValueError
        If ``neighbours < 1``.
    """
    if neighbours is not None and neighbours < 1:
        raise ValueError(f"neighbours must be at least 1, not {neighbours}")
    farthest = k // 2 if neighbours is None else min(neighbours, k // 2)
    found = [
        (i, (i + shift) % k)
        for shift in range(1, farthest + 1)
        for i in range(k if 2 * shift < k else shift)  # Across the middle of the circle every pair comes twice.
    ]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def compared_pairs(
    sets: Sequence[Sequence[str]], *, neighbours: int | None = 1, max_sentences: int | None = MAX_SENTENCES
) -> list[tuple[str, str]]:
    """Pairs of sentences that ``per_input`` and ``across_input`` ask a classifier about.

    Parameters
    ----------
    sets
        [sets][k].
    neighbours, max_sentences
        As for ``per_input``.

    Returns
    -------
    list of tuple
        Different ordered pairs (premise, hypothesis): each one's reverse is there too.

    Raises
    ------
    ValueError
        If the sets have unlike numbers of texts, or an option is out of its range.
    """
    return _layout(sets, neighbours, max_sentences).pairs


def by_length(pair: tuple[str, str]) -> tuple[int, tuple[str, str]]:
    """Sort key of pairs: batches of like length need little padding, and the order never depends on the input's."""
    return len(pair[0]) + len(pair[1]), pair


def sentences(text: str, most: int | None = MAX_SENTENCES) -> list[str]:
    """Split a text into sentences.

    Parameters
    ----------
    text
        Any text.
    most
        How many to keep, evenly spread over the text; None = all, and 0 = the whole text as one.

    Returns
    -------
    list of str
        Parts that end in a full stop, an exclamation or a question mark, or at a line break; parts without a letter or
        a digit are left out. Abbreviations end sentences as well.

    Raises
    ------
    ValueError
        If ``most`` is negative.
    """
    if most is not None and most < 0:
        raise ValueError(f"max_sentences must be at least 0, not {most}")
    parts = [text] if most == 0 else _SENTENCE_END.split(text)
    found = [part.strip() for part in parts if any(map(str.isalnum, part))]
    if not most or len(found) <= most:
        return found
    return [found[i * len(found) // most] for i in range(most)]


class CrossEncoderNLI:
    """A classifier of pairs of sentences.

    Parameters
    ----------
    name
        Checkpoint folder or hub id of any model that ``AutoModelForSequenceClassification`` loads, with three labels
        that ``id2label`` of its configuration calls entailment, neutral and contradiction, in any order and case. Only
        safetensors are read, and no code that comes with a checkpoint is run.
    device
        Where to put it; None = a GPU where there is one.
    batch_size
        Pairs a forward pass.
    progress
        Called with (pairs done, pairs in all) now and then; by default nothing is shown.

    Raises
    ------
    UserError
        If it cannot be loaded, its labels are others, its head is not trained, or its tokenizer cannot pad.
    """

    def __init__(
        self,
        name: str,
        *,
        device: str | None = None,
        batch_size: int = 64,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        self.name = name
        self.batch_size = batch_size
        self._progress = progress or (lambda _done, _total: None)
        self._model, self._tokenizer, self._columns = _load(name, device)
        self.max_tokens = _max_tokens(self._model, self._tokenizer)

    @cached_property
    def identity(self) -> str:
        """What its probabilities depend on: the weights (a hash of the folder, or the hub's commit) and the limit.

        Raises
        ------
        UserError
            If the commit of a hub id is not known.
        """
        from benchmark.sampling.checkpoint import locate

        where = locate(self.name)
        if where.weights_sha256 is None and where.revision is None:
            raise UserError(f"the commit of NLI classifier {self.name} is not known; give its folder")
        return f"{where.weights_sha256 or f'{where.id}@{where.revision}'}, {self.max_tokens or 'any number of'} tokens"

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> Floats:
        """Probabilities of pairs of premise and hypothesis.

        Parameters
        ----------
        pairs
            Any pairs. Of one that is too long for the model, the longer text is cut, so that something of both is read.

        Returns
        -------
        float64 [len(pairs), 3]
            Columns as in ``LABELS``; rows sum to 1. Equal pairs are computed once.

        Raises
        ------
        UserError
            If a probability is not a number.
        """
        import torch

        unique = sorted(set(pairs), key=by_length)
        found = np.zeros((len(unique), len(LABELS)))
        for start in range(0, len(unique), self.batch_size):
            batch = unique[start : start + self.batch_size]
            encoded = self._tokenizer(
                text=[a for a, _ in batch],
                text_pair=[b for _, b in batch],
                truncation="longest_first" if self.max_tokens else False,
                max_length=self.max_tokens,
                padding=True,
                return_tensors="pt",
            ).to(self._model.device)
            with torch.inference_mode():
                chances = self._model(**encoded).logits.double().softmax(dim=-1)
            found[start : start + len(batch)] = chances.cpu().numpy()[:, self._columns]
            self._progress(start + len(batch), len(unique))
        if not np.isfinite(found).all():
            raise UserError(f"{self.name}: the classifier's probabilities are not numbers; are its weights whole?")
        place = {pair: row for row, pair in enumerate(unique)}
        return found[[place[pair] for pair in pairs]]


_FORMS: dict[str, Callable[[Floats, Floats], Floats]] = {
    "nli": nli,
    "nli_released_code": nli_released_code,
    "nli_paper_table": nli_paper_table,
}


@dataclass(frozen=True)
class _Layout:
    """Which pairs of sentences make up which pair of a set's texts.

    Parameters
    ----------
    pairs
        Different ordered pairs of sentences.
    ends
        Pairs of texts that every set compares, [ends, 2].
    forward, backward
        Place in ``pairs`` of a comparison and of its reverse, [comparisons].
    group
        Set · ends + pair of texts of every comparison, [comparisons].
    n_sets
        Sets.
    """

    pairs: list[tuple[str, str]]
    ends: NDArray[np.int64]
    forward: list[int]
    backward: list[int]
    group: list[int]
    n_sets: int


def _layout(sets: Sequence[Sequence[str]], neighbours: int | None, max_sentences: int | None) -> _Layout:
    k = len(sets[0]) if sets else 0
    if any(len(texts) != k for texts in sets):
        raise ValueError("every set must have the same number of texts")
    ends = cyclic_pairs(k, neighbours)
    split = {text: sentences(text, max_sentences) for texts in sets for text in texts}
    asked: dict[tuple[str, str], int] = {}
    forward, backward, group = [], [], []
    for row, texts in enumerate(sets):
        for column, (i, j) in enumerate(ends.tolist()):
            for a in split[texts[i]]:
                for b in split[texts[j]]:
                    forward.append(asked.setdefault((a, b), len(asked)))
                    backward.append(asked.setdefault((b, a), len(asked)))
                    group.append(row * len(ends) + column)
    return _Layout(list(asked), ends, forward, backward, group, len(sets))


def _pair_values(
    sets: Sequence[Sequence[str]],
    classifier: Classifier,
    form: Form,
    neighbours: int | None,
    max_sentences: int | None,
) -> tuple[Floats, NDArray[np.int64]]:
    """Value of every compared pair of each set's texts [sets, pairs], NaN = missing; and which texts those are."""
    if form not in _FORMS:
        raise ValueError(f"form must be one of {', '.join(_FORMS)}, not {form!r}")
    found = _layout(sets, neighbours, max_sentences)
    shape = (found.n_sets, len(found.ends))
    if not found.pairs:
        return np.full(shape, np.nan), found.ends
    chances = _distributions(classifier(found.pairs), len(found.pairs))
    values = _FORMS[form](chances[found.forward], chances[found.backward])
    size = shape[0] * shape[1]
    total = np.bincount(found.group, values, minlength=size).astype(np.float64)
    return _mean(total, np.bincount(found.group, minlength=size).astype(np.int64)).reshape(shape), found.ends


def _distributions(chances: Floats, rows: int) -> Floats:
    found = np.asarray(chances, dtype=np.float64)
    if found.shape != (rows, len(LABELS)):
        raise ValueError(f"the classifier gave {found.shape} for {rows} pairs; it must give one row of 3 for each")
    if not (np.all(found >= 0) and np.allclose(found.sum(axis=1), 1.0, rtol=0.0, atol=_SUM_TOLERANCE)):
        raise ValueError("the classifier's rows must be probabilities that sum to 1")
    return found


def _likeliest(chances: Floats) -> Floats:
    return np.asarray(chances.max(axis=-1) * _WEIGHTS[chances.argmax(axis=-1)], dtype=np.float64)


def _mean(total: Floats, count: NDArray[np.int64]) -> Floats:
    mean = np.full(total.shape, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


def _load(name: str, device: str | None) -> tuple[Any, Any, list[int]]:
    """Model in evaluation mode, tokenizer, and the column of each of ``LABELS`` in the model's output."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    folder = Path(name)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise UserError("no config.json: not a Hugging Face checkpoint folder", where=folder)
    shows_progress = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        columns = _label_columns(config, name)
        model, report = AutoModelForSequenceClassification.from_pretrained(
            name, config=config, dtype="auto", use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, TypeError, SafetensorError) as error:
        reason = next(iter(str(error).strip().splitlines()), "")
        raise UserError(f"NLI classifier {name} cannot be loaded: {type(error).__name__}: {reason}") from error
    finally:
        if shows_progress:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
    if missing := sorted(report["missing_keys"]):
        # Transformers would fill them with random numbers and go on.
        raise UserError(f"{name}: the checkpoint has no weights for {', '.join(missing[:3])}; is it an NLI classifier?")
    if tokenizer.pad_token_id is None:
        raise UserError(f"{name}: the tokenizer has no pad_token; give it one (tokenizer_config.json)")
    return model.eval(), tokenizer, columns


def _label_columns(config: Any, name: str) -> list[int]:
    columns = {str(label).strip().lower(): int(column) for column, label in config.id2label.items()}
    if sorted(columns) != sorted(LABELS) or config.num_labels != len(LABELS):
        found = ", ".join(map(str, config.id2label.values()))
        raise UserError(f"id2label has {found}, and must have {', '.join(LABELS)}", where=f"{name}/config.json")
    return [columns[label] for label in LABELS]


def _max_tokens(model: Any, tokenizer: Any) -> int | None:
    """Tokens that a pair may have; None = any number."""
    limits = [math.inf, tokenizer.model_max_length]
    if (positions := getattr(model.config.get_text_config(), "max_position_embeddings", None)) and positions > 0:
        # RoBERTa and its kin count positions from behind the padding id.
        table = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
        padding = getattr(table, "padding_idx", None)
        limits.append(positions - (0 if padding is None else padding + 1))
    least = min(limits)
    return int(least) if least < 1e9 else None  # Tokenizers without a limit say 1e30.
