"""Tasks that live exactly as long as a block."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

__all__ = ["beside"]


@asynccontextmanager
async def beside(task: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run `task` beside the block; it is cancelled when the block is left. Errors of the block leave it bare; an error
    of the task is a bug, cancels the block and is let out as it is.
    """
    raised: BaseException | None = None
    async with trio.open_nursery(strict_exception_groups=True) as nursery:
        nursery.start_soon(task)
        try:
            yield
        except BaseException as error:  # noqa: BLE001, ASYNC103 - raised again, outside of the nursery
            raised = error
        finally:
            nursery.cancel_scope.cancel()
    if raised is not None:
        raise raised
