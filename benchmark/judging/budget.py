"""Keeping the cost of a judge within a limit."""

from __future__ import annotations

import math

from benchmark.judging.config import Price


class Purse:
    """Keeps spending within a limit: what was spent, and the most that what is in the air may cost.

    What is reserved for a request is the most that it can be counted as (see `question.most_tokens`), from the first
    to the last one. A server that counts more all the same is beyond any bound: what was in the air is then over the
    limit, but the first such reply raises all later reservations, and nothing is sent once the limit is reached.

    Parameters
    ----------
    limit
        US dollars; None = no limit.
    price
        None = free, or not known; there is no limit then.
    max_tokens
        The most that a reply has.
    """

    def __init__(self, limit: float | None, price: Price | None, max_tokens: int) -> None:
        self.limit, self._price, self._longest = limit, price, max_tokens
        self._spent, self._reserved = [0, 0], [0, 0]
        self._excess = 1.0
        self._in_flight = 0
        self._exact = True

    @property
    def spent(self) -> str:
        """Dollars, for a message; empty if there is no price."""
        if self._price is None:
            return ""
        return f"{'' if self._exact else 'at most '}${self._price.of(*self._spent):.4f} spent"

    @property
    def waiting_helps(self) -> bool:
        """Whether a reservation is out that may come back as less."""
        return self._in_flight > 0

    def reservation(self, most: int) -> tuple[int, int]:
        """Tokens, prompt and completion, that a request may be counted as, at most ``most`` by its length."""
        return (math.ceil(most * self._excess), self._longest)

    def refusal(self, most: int) -> str:
        """Why a request was not sent, for a message."""
        assert self._price is not None
        return (
            f"stopped at --max-cost {self.limit}, the next request may cost "
            f"${self._price.of(*self.reservation(most)):.4f}"
        )

    def take(self, most: int) -> tuple[int, int] | None:
        """Reserve tokens for a request; None if they might cost more than there is."""
        tokens = self.reservation(most)
        if self.limit is not None and self._price is not None:
            sums = (a + b + c for a, b, c in zip(self._spent, self._reserved, tokens, strict=True))
            if self._price.of(*sums) > self.limit:
                return None
        self._add(self._reserved, tokens, 1)
        self._in_flight += 1
        return tokens

    def give_back(self, reserved: tuple[int, int], used: tuple[int, int] | None, most: int) -> None:
        """Replace a reservation by what was used; None = not known, which counts as all of it."""
        self._add(self._reserved, reserved, -1)
        self._add(self._spent, reserved if used is None else used, 1)
        self._in_flight -= 1
        if used is None:
            self._exact = False
        else:
            self._excess = max(self._excess, used[0] / max(most, 1))
            self._longest = max(self._longest, used[1])

    @staticmethod
    def _add(account: list[int], tokens: tuple[int, int], sign: int) -> None:
        for place, amount in enumerate(tokens):
            account[place] += sign * amount
