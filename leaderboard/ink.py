"""Colours of the figure, and which row has which.

The page's style sheet swaps these very values for others in the dark, so every colour here is written once.
"""

from __future__ import annotations

from leaderboard.board import Board

PAPER = "#ffffff"
INK = "#1c2128"
MUTED = "#5d6673"
GRID = "#e9ecf0"
RULE = "#aab2bd"
CONTROL = "#767f8b"
PALETTE = (
    ("#0072b2", "#005a8e"),
    ("#d55e00", "#a84800"),
    ("#009e73", "#00704f"),
    ("#cc79a7", "#96447a"),
    ("#e69f00", "#875c00"),
    ("#56b4e9", "#1f73a3"),
)
"""Okabe and Ito's colours, safe for colour-blind readers, each with a darker one for text."""
OTHER = ("#8596ab", "#4d6079")
"""Rows beyond the palette: told apart by their labels alone."""
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"


def colours(board: Board) -> dict[str, tuple[str, str]]:
    """Row → (mark, text) colour.

    Up to six models have a colour each. Of more, the six best ranked have one if there are curves to follow;
    otherwise all share the first.
    """
    rows = sorted((row for row in board.rows if row.kind == "model"), key=lambda row: not row.competes)
    models = [row.name for row in rows]
    table = {row.name: (CONTROL, MUTED) for row in board.rows}
    if len(models) <= len(PALETTE) or any(row.protocol == "swept" for row in board.rows if row.kind == "model"):
        table |= {name: PALETTE[place] if place < len(PALETTE) else OTHER for place, name in enumerate(models)}
    else:
        table |= dict.fromkeys(models, PALETTE[0])
    return table


DARK = {
    PAPER: "#15191f",
    INK: "#e8ebf0",
    MUTED: "#a5aebb",
    GRID: "#262c35",
    RULE: "#4b5563",
    CONTROL: "#97a1ae",
    "#0072b2": "#4ba6e0",
    "#005a8e": "#6fbcf0",
    "#d55e00": "#f28a3c",
    "#a84800": "#ffa05c",
    "#009e73": "#2cc296",
    "#00704f": "#4fd6ad",
    "#cc79a7": "#dd93bd",
    "#96447a": "#eeaad0",
    "#e69f00": "#e9ac24",
    "#875c00": "#f3bd48",
    "#56b4e9": "#8ad0f5",
    "#1f73a3": "#a5dcf8",
    "#8596ab": "#71839a",
    "#4d6079": "#a9b9ce",
}
"""What stands for each colour in the dark."""
