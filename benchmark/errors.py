"""The one exception a user may cause."""

from __future__ import annotations

from pathlib import Path


class UserError(Exception):
    """A mistake of the user's, told in one line that names the place and the mend.

    The command line prints the message without a traceback and exits with status 2. Every other exception is a bug
    of ours and keeps its traceback.

    Parameters
    ----------
    message
        What is wrong and what to do about it, on one line.
    where
        The file (and line) the message is about, if any; printed in front of it.
    """

    def __init__(self, message: str, *, where: Path | str | None = None) -> None:
        self.where = where
        super().__init__(" ".join((f"{where}: {message}" if where is not None else message).split()))
