"""Prompts of the summarisation tasks for base models, as Kirk et al. write them.

An answer follows after one space, which an export writes at the head of every completion (white space at the head of
the data's own text is taken off first, so that there are never two); references have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def tldr(document: Mapping[str, Any]) -> str:
    """Write a Reddit post: ``subreddit``, ``title``, ``post``."""
    return f"SUBREDDIT: r/{document['subreddit']}\nTITLE: {document['title']}\nPOST: {document['post']}\nTL;DR:"


def cnn_dailymail(document: Mapping[str, Any]) -> str:
    """Write a news ``article``."""
    return f"ARTICLE: {document['article']}\nTL;DR:"
