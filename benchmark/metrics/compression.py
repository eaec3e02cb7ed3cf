"""Compression ratio: bytes of a set's texts over their bytes as one gzip file (Shaib et al. 2024, arXiv 2403.00553).

Repetition compresses, within a text and between texts; no tokeniser is involved. Values of the published code are not
comparable: it gzips twice, rounds to three digits and joins the texts in the given order. Here a text is a line, empty
texts are left out and lines are sorted, so that the order of exchangeable samples cannot matter.

Range above 0; **higher is less diverse**. No fixed floor: identical outputs give more the more and the longer they are,
up to about 1,000. Ceiling, for random letters and signs: about 1.2; a set of a few words falls below it, since a
file's 20 or so bytes of header count. Missing (NaN) for sets of empty texts or none.

A gzip file's size depends on the zlib that wrote it (zlib-ng and others choose other matches): compare only values of
one ``compressor()``.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEVEL = 9
"""Level of the published code."""

_GZIP = 16 + zlib.MAX_WBITS


def compressor() -> str:
    """What wrote the sizes, for a score's provenance: ``"gzip -9, zlib 1.2.13"``."""
    return f"gzip -{LEVEL}, zlib {zlib.ZLIB_RUNTIME_VERSION}"


def per_input(sets: Sequence[Sequence[str]]) -> Floats:
    """Compression ratio of every set (one a prompt).

    Parameters
    ----------
    sets
        Texts of every set; lone surrogates are allowed.

    Returns
    -------
    float64 [n_sets]
        Above 0; **higher is less diverse**. No fixed floor or ceiling: a file's 20 or so bytes of header put short sets
        below 1, and long runs of one byte come to about 1,000. Missing (NaN) for sets of
        empty texts or none.

    Notes
    -----
    Rises with the number and length of texts and depends on the script (UTF-8 bytes): compare equal k, and read it
    beside the length. Deflate looks back 32 KiB, so in longer sets it misses repetition that is further apart.
    """
    return np.array([_ratio([_line(text) for text in sorted(filter(None, texts))]) for texts in sets], np.float64)


def across_input(texts: Sequence[str]) -> tuple[float, Floats]:
    """Compression ratio of a set with one text a prompt, and of the set without each of its texts.

    Parameters
    ----------
    texts
        [n], one a prompt.

    Returns
    -------
    value : float
        As ``per_input``; NaN = missing.
    without : float64 [n]
        The statistic without text i, for the jackknife. Missing (NaN) where no text that is not empty would be left.

    Notes
    -----
    Each text left out means to compress all texts after it again, O(n²): 2 s for 500 texts of 270 bytes. For the value
    alone, call ``per_input([texts])``.
    """
    kept = sorted((i for i, text in enumerate(texts) if text), key=lambda i: texts[i])
    lines = [_line(texts[i]) for i in kept]
    value, n_bytes = _ratio(lines), sum(map(len, lines))
    without = np.full(len(texts), value)
    # The compressor's state after the texts before i serves the set without i; only the rest is compressed again.
    before, written = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP), 0
    for place, (i, line) in enumerate(zip(kept, lines, strict=True)):
        rest = before.copy()
        size = written + len(rest.compress(b"".join(lines[place + 1 :]))) + len(rest.flush())
        without[i] = (n_bytes - len(line)) / size if len(kept) > 1 else np.nan
        written += len(before.compress(line))
    return value, without


def _line(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass") + b"\n"


def _ratio(lines: Sequence[bytes]) -> float:
    raw = b"".join(lines)
    if not raw:
        return float("nan")
    compress = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP)
    return len(raw) / (len(compress.compress(raw)) + len(compress.flush()))
