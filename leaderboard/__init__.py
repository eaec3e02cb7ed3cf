"""From the scores of many runs to the board: tables, the plane and one page."""
