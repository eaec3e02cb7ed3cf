"""Keeping the cost of a judge within a limit."""

from __future__ import annotations

import math

from benchmark.judging.config import Price

FIRST_TOKENS_A_BYTE = 0.5
"""Assumed of prompts before enough replies were counted: twice what English has."""
MEASURED = 20
"""Replies after which the highest count so far is believed."""
MARGIN = 1.05
"""On that count."""


class Purse:
    """Keeps spending within a limit: what was spent, and the most that what is in the air may cost."""

    def __init__(self, limit: float | None, price: Price | None, max_tokens: int) -> None:
        self._limit, self._price, self._max_tokens = limit, price, max_tokens
        self._spent, self._reserved = [0, 0], [0, 0]
        self._highest, self._counted = 0.0, 0
        self.in_flight = 0

    @property
    def spent(self) -> float | None:
        """Dollars, None if there is no price."""
        return None if self._price is None else self._price.of(*self._spent)

    def take(self, size: int) -> tuple[int, int] | None:
        """Reserve tokens for a prompt of so many bytes; None if they might cost more than there is."""
        a_byte = FIRST_TOKENS_A_BYTE if self._counted < MEASURED else 0.0
        tokens = (math.ceil(size * max(a_byte, self._highest * MARGIN)), self._max_tokens)
        if self._limit is not None and self._price is not None:
            sums = (a + b + c for a, b, c in zip(self._spent, self._reserved, tokens, strict=True))
            if self._price.of(*sums) > self._limit:
                return None
        self._add(self._reserved, tokens, 1)
        self.in_flight += 1
        return tokens

    def give_back(self, reserved: tuple[int, int], used: tuple[int, int], size: int, *, counted: bool) -> None:
        """Replace a reservation by what was used; ``counted`` if the server told so."""
        self._add(self._reserved, reserved, -1)
        self._add(self._spent, used, 1)
        self.in_flight -= 1
        if counted:
            self._counted += 1
            self._highest = max(self._highest, used[0] / max(size, 1))

    @staticmethod
    def _add(account: list[int], tokens: tuple[int, int], sign: int) -> None:
        for place, amount in enumerate(tokens):
            account[place] += sign * amount
