"""Log-probabilities of whole outputs: who can tell them, how single ones are added up, and what is kept of a sum.

Every ``Sample.log_prob`` is of the distribution that its tokens were drawn from. Our own sampler knows that one,
whatever the temperature and the truncation. An engine or a server tells the log-probabilities of the model's plain
logits, which are those of the draw at temperature 1 without truncation alone, and so it is asked only there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmark.records import Sampling

DECIMALS = 4
"""Kept of a sum, in nats. Its last bits depend on what shared a batch with it, and may not be seen: then the same run
gives the same bytes. What is lost is 5e-5 of sums of tens of nats, far below what a mean over samples can tell."""
IN_DOUBT = 1e-5
"""Of the last decimal: a sum this near to being rounded the other way is in doubt. This is 1e-9 nats, and in double
precision the rounding of hundreds of tokens is below 1e-11."""
FLOOR = -9999.0
"""Servers send this in place of whatever is lower, and some of them for what they do not know."""


def is_plain(temperature: float, sampling: Sampling) -> bool:
    """Whether tokens are drawn from the softmax of the plain logits: temperature 1, no top-p and no top-k."""
    return temperature == 1.0 and sampling.top_p == 1.0 and sampling.top_k == 0


def rounded(log_prob: float | None) -> float | None:
    """Round to what is kept; what is 0 then is never -0."""
    return None if log_prob is None else round(log_prob, DECIMALS) + 0.0


def in_doubt(log_prob: float | None) -> bool:
    """Whether rounding in the last bits may decide how a log-probability is rounded."""
    return log_prob is not None and abs(math.fmod(abs(log_prob) * 10.0**DECIMALS, 1.0) - 0.5) < IN_DOUBT


def total(values: Sequence[object], n_tokens: int | None) -> float | None:
    """Add up the log-probabilities that somebody else told of an output's tokens, and round.

    Parameters
    ----------
    values
        One a token, as they came.
    n_tokens
        The output's tokens; None = not known.

    Returns
    -------
    float or None
        At most 0. None unless there are as many values as tokens, and each is a number above `FLOOR` and at most 0.
    """
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if n_tokens is None or not len(numbers) == len(values) == n_tokens:
        return None
    return rounded(math.fsum(numbers)) if all(FLOOR < value <= 0 for value in numbers) else None
