"""What the programs of engines wrote, from the files in which it is kept."""

from __future__ import annotations

from functools import partial

import trio

from actors.children import Outside
from protocol.errors import NotFound, ValidationFailed
from protocol.wire import LogPage
from supervisor.embedded.base import Base

__all__ = ["Logs"]

LOOK_S = 0.25
"""How often a file is looked at for somebody who waits: a program that writes tells nobody."""


class Logs(Base):
    """The part of `House` that is about log files."""

    async def log(
        self, engine: str, stream: str = "stdout", *, after: str | None = None, limit: int = 1 << 16, wait_s: float = 0
    ) -> LogPage:
        house, cell = self.supervisor, self._cell(engine)
        deadline = trio.current_time() + wait_s
        while True:
            read = partial(
                cell.kind.read_log, cell.config, house.folder(cell.spec.uid), house.children, stream, after, limit
            )
            try:
                page = await trio.to_thread.run_sync(read, limiter=house.disk) if house.threads else read()
            except ValueError as error:
                if isinstance(error, Outside):
                    raise NotFound(f"The log of {engine} cannot be read: {error}.") from None
                fault = {"loc": ["after"], "msg": str(error), "type": "after"}
                raise ValidationFailed(f"{error}; give `next_after` of a page, or 0.", errors=[fault]) from None
            if page.text or page.missed or trio.current_time() >= deadline or house.over:
                return page
            after = page.next_after
            await trio.sleep(min(LOOK_S, max(deadline - trio.current_time(), 0)))
            self._live(engine)  # or nothing more will come
