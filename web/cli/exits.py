"""Exit codes: one table, from what went wrong to what a script sees; `enginehouse --help` prints it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from protocol.errors import EnginehouseError

__all__ = ["EXITS", "FAILED", "INTERRUPTED", "exit_of"]

FAILED: Final = 1
INTERRUPTED: Final = 130

EXITS: Final = {
    0: "done",
    FAILED: "the run or the command failed",
    2: "wrong usage, or input that cannot be meant",
    3: "there is no such thing, or no longer",
    4: "refused: the state or a limit forbids it now",
    5: "the key is missing, wrong, or may not do this",
    69: "nobody answers, or the address is taken (EX_UNAVAILABLE)",
    74: "the journal failed (EX_IOERR)",
    78: "the configuration is wrong (EX_CONFIG)",
    INTERRUPTED: "interrupted with Ctrl-C",
}


def exit_of(error: EnginehouseError) -> int:
    """The exit code of an error of the house."""
    from protocol.errors import BadInput, Busy, Conflict, Denied, Missing, Unavailable

    branches: tuple[tuple[type[EnginehouseError], int], ...] = (
        (BadInput, 2), (Missing, 3), (Conflict, 4), (Busy, 4), (Denied, 5), (Unavailable, 69),
    )  # fmt: skip
    return next((code for branch, code in branches if isinstance(error, branch)), FAILED)
