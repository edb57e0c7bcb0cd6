"""Work that an engine gives to another one: a run like any other, in that engine's queue and in the journal.

The one who gives acts as itself (`engine:<uid>`), in its own pool alone, and behind it stand those who asked for what
it has in hand: what the other then asks people is asked in their name, and four eyes stay four. It can give runs and
take them back, nothing else. Engines that would wait for each other are refused.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from actors.cell import Cell
from protocol.authority import Authority, Scope
from protocol.bodies import NewRun
from protocol.errors import InvalidState
from protocol.wire import RunInfo
from supervisor.embedded import EmbeddedHouse
from supervisor.house import Caller

if TYPE_CHECKING:
    from supervisor.supervisor import Supervisor

__all__ = ["Delegation"]

GIVES: Final = frozenset({Scope.READ, Scope.OPERATE})


class Delegation:
    """What one engine may do with the others. See `actors.host.Siblings`."""

    def __init__(self, house: Supervisor, cell: Cell) -> None:
        authority = Authority(scopes=GIVES, pools=frozenset({cell.spec.pool}))
        self._house, self._cell = house, cell
        self._seen = EmbeddedHouse(house).seen_by(authority)
        self._caller = partial(Caller, principal=f"engine:{cell.spec.uid}", standing=lambda: authority)

    async def give(self, engine: str, run: NewRun, *, done_for: str, key: str) -> tuple[str, str]:
        if (await self._seen.get(engine)).id == self._cell.spec.id:
            raise InvalidState(f"Engine {engine} cannot wait for itself.", state=self._cell.state.value, allowed=[])
        uid = self._house.ids[engine]
        if self._waits(uid):
            raise InvalidState(
                f"Engine {engine} waits for this one, so neither would ever end.", state=self._cell.state.value,
                allowed=[],
            )  # fmt: skip
        told, _ = await self._seen.submit(engine, run, self._caller(key=f"{done_for}:{key}", done_for=done_for))
        return uid, told.id

    async def ended(self, uid: str, run: str) -> RunInfo:
        pair = (self._cell.spec.uid, uid)
        self._house.waits.append(pair)
        try:
            await self._house.watch(uid, lambda view: run not in view.runs)
        finally:
            self._house.waits.remove(pair)
        return await self._seen.run(run)

    def _waits(self, uid: str) -> bool:
        """Whether that engine waits for this one, or for one that does: each does one run at a time."""
        reached = {uid}
        while more := {two for one, two in self._house.waits if one in reached} - reached:
            reached |= more
        return self._cell.spec.uid in reached

    def take_back(self, run: str) -> None:
        self._house.delegated.take_back(run)
