"""Exact duplicates across prompts: a model that gives everybody the same answer.

Ours, for a flag and not for a board. Range [0, 1); **higher is less diverse**. Floor, for n identical texts: (n-1)/n.
Ceiling, all differ: 0. A text that differs in one space is another one. Missing (NaN) without texts.
"""

from __future__ import annotations

from collections.abc import Sequence


def duplicate_share(texts: Sequence[str]) -> float:
    """Share of texts that repeat another, ``1 - unique/total``.

    Parameters
    ----------
    texts
        One text a prompt.

    Returns
    -------
    float
        In [0, 1); lower is more diverse: 0 if all differ, (n-1)/n if all are one text. Missing (NaN) without texts.
    """
    return 1.0 - len(set(texts)) / len(texts) if texts else float("nan")
