"""Delivering: one task for each active webhook, a cursor on the events, one message at a time.

    events behind the cursor -> may its owner see it -> try until it is taken, given up, or the hook is disabled
    -> the cursor moves, durably -> the next

The cursor moves only after a message was taken or became a dead delivery, so after a kill the message in hand is sent
again (at least once) and none is left out; and the next one is not begun before (in order). A receiver that fails keeps
nobody waiting but itself: there is no shared queue, only a cursor for each.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final, Protocol

import trio

from protocol.authority import Authority, Scope
from protocol.errors import Denied, EventIdExpired, InvalidEventId, Missing
from protocol.events import Frame
from protocol.ids import event_id, parse_event_id
from protocol.times import epoch_ms
from supervisor.embedded import EmbeddedHouse
from supervisor.stream import Stream
from web.webhooks.hook import Hook
from web.webhooks.message import CONTENT_TYPE, Message, event_message, own_message
from web.webhooks.retry import delay_s
from web.webhooks.sender import Attempt, Sender
from web.webhooks.signing import secret_of, sign
from web.webhooks.values import DeadDelivery, Delivery

__all__ = ["Courier", "Office", "is_for"]

IDLE_S: Final = 300.0
"""So often the cursor of a webhook that gets nothing is moved past what is not for it."""

GONE: Final = 410
GIVE_UP_S: Final = 3 * 86400.0
"""A webhook that took nothing for so long is disabled at its next dead delivery."""


def is_for(authority: Authority, message: Message) -> bool:
    """Whether somebody may see a message. What is of no pool is for those alone who are bound to none, and audit rows
    for those of them who may everything.
    """
    if message.type.startswith("audit."):
        return authority.everywhere and authority.has(Scope.ADMIN)
    return authority.everywhere or (message.pool is not None and authority.sees(message.pool))


class Office(Protocol):
    """What a courier needs of the place that keeps the webhooks. The coroutines are durable on return."""

    house: EmbeddedHouse
    sender: Sender
    master: bytes
    max_attempts: int

    def standing(self, hook: Hook) -> Authority:
        """What its owner may now. Raises Denied or Missing when they do not stand any more."""

    async def save(self, hook: Hook) -> None:
        """Keep what delivering has changed."""

    async def bury(self, hook: Hook, dead: DeadDelivery) -> None:
        """Keep a dead delivery."""

    async def disable(self, hook: Hook, cause: str, reason: str) -> None:
        """Disable a webhook that cannot go on. Never returns to the task that delivers for it: that is cancelled."""


class Courier:
    """Delivers for one webhook. See the module."""

    def __init__(self, office: Office, hook: Hook) -> None:
        self._office, self._hook = office, hook
        self._house = office.house
        self._kept = hook.state.cursor  # the cursor as it is durable

    async def run(self) -> None:
        """Until the house closes, or cancelled. Raises Unavailable when nothing is durable any more."""
        while not await self._follow():
            pass

    async def _follow(self) -> bool:
        """Deliver what comes; False when the position was gone and another is to be tried."""
        try:
            seen = self._house.seen_by(self._hook.authority)
            async with seen.events(self._hook.filter, after=self._hook.state.cursor) as stream:
                return await self._listen(stream)
        except (EventIdExpired, InvalidEventId) as error:
            lost = error
        await self._lost(lost)
        return False

    async def _listen(self, stream: Stream) -> bool:
        state = self._hook.state
        while True:
            frames: list[Frame] = []
            with trio.move_on_after(IDLE_S):
                frames = await stream.receive()
            if not frames and self._kept != stream.position:
                state.cursor = stream.position
                await self._save()
            for frame in frames:
                if frame.event == "server.closing":
                    return True
                await self._one(frame)

    async def _one(self, frame: Frame) -> None:
        era, state = self._house.supervisor.store.era, self._hook.state
        if frame.event == "gap":
            gap = json.loads(frame.data)
            if gap["reason"] == "compacted":  # else it is of transient events, which nobody was promised
                await self._gap(event_id(era, gap["from"] - 1), event_id(era, gap["to"]), gap["reason"])
        elif frame.id is not None:
            message = event_message(era, frame)
            if await self._may(message):
                await self._deliver(message)
                state.cursor, state.attempts = frame.id, 0
                await self._save()
            state.cursor = frame.id

    async def _save(self) -> None:
        cursor = self._hook.state.cursor
        await self._office.save(self._hook)
        self._kept = cursor

    async def _may(self, message: Message) -> bool:
        """Whether the message is for this webhook and its owner may see it now."""
        wanted = self._hook.stored.filter.engine
        if wanted is not None and message.engine != wanted:
            return False
        return is_for(await self._authority(), message)

    async def _authority(self) -> Authority:
        try:
            authority = self._office.standing(self._hook)
            authority.require(Scope.READ)
        except (Denied, Missing) as error:
            reason = f"{self._hook.stored.owner} may not read events any more: {error.detail}"
        else:
            return authority
        await self._office.disable(self._hook, "owner", reason)
        raise AssertionError("a webhook that was disabled went on")

    # -- one message -------------------------------------------------------------------------------------------------
    async def _deliver(self, message: Message) -> None:
        """Try until it is taken, or all attempts have failed. Cancelled: it may have been taken."""
        hook, state = self._hook, self._hook.state
        while True:
            attempt = await self.attempt(message, state.attempts + 1)
            now = self._house.supervisor.stamp()
            if attempt.ok:
                state.delivered += 1
                state.last_delivered_at, state.failing_since, state.last_error = now, None, None
                return
            state.attempts += 1
            state.failing_since, state.last_error = state.failing_since or now, attempt.error
            if attempt.status == GONE:
                await self._office.disable(hook, "gone", "The receiver answered 410: it does not want to be asked.")
            if state.attempts >= self._office.max_attempts:
                dead = DeadDelivery(
                    event_id=message.id, type=message.type, at=now, attempts=state.attempts, error=attempt.error or ""
                )
                await self._office.bury(hook, dead)
                if epoch_ms(now) - epoch_ms(state.failing_since) >= GIVE_UP_S * 1000:
                    state.cursor, state.attempts = message.id, 0
                    reason = f"It took nothing since {state.failing_since}. {attempt.error}"
                    await self._office.disable(hook, "failing", reason)
                return
            await self._save()
            await trio.sleep(delay_s(state.attempts, self._house.supervisor.random(), attempt.retry_after_s))
            await self._authority()  # it may have changed while nobody looked

    async def attempt(self, message: Message, number: int) -> Attempt:
        """Send a message once, now, and remember how that went."""
        began = trio.current_time()
        now = self._house.supervisor.wall()
        attempt = await self._office.sender.send(
            self._hook.stored.filter.url, self._headers(message, now), message.body
        )
        self._hook.recent.append(
            Delivery(
                event_id=message.id, type=message.type, at=self._house.supervisor.stamp_at(now), attempt=number,
                ok=attempt.ok, status=attempt.status, error=attempt.error,
                took_s=round(trio.current_time() - began, 3),
            )
        )  # fmt: skip
        return attempt

    def _headers(self, message: Message, now: float) -> Mapping[str, str]:
        hook = self._hook
        secrets = [secret_of(self._office.master, hook.id, version) for version in hook.versions(now)]
        return {"content-type": CONTENT_TYPE} | sign(secrets, message.webhook_id, int(now), message.body)

    # -- gaps --------------------------------------------------------------------------------------------------------
    async def _lost(self, error: EventIdExpired | InvalidEventId) -> None:
        """The position is gone: go on with the oldest row of this journal, or with the present of another one."""
        house, state = self._house.supervisor, self._hook.state
        era, _ = parse_event_id(state.cursor)
        trimmed = isinstance(error, EventIdExpired) and era == house.store.era
        behind, state.attempts = state.cursor, 0
        oldest = error.extra.get("oldest") if trimmed else None
        last = parse_event_id(oldest)[1] - 1 if isinstance(oldest, str) else house.folded
        state.cursor = event_id(house.store.era, last)
        await self._gap(behind, state.cursor if trimmed else None, "compacted" if trimmed else "another journal")

    async def _gap(self, behind: str, to: str | None, reason: str) -> None:
        """Tell the receiver, in order, what is missing: all behind the one event, up to and with the other. Keep it."""
        house, state = self._house.supervisor, self._hook.state
        gap = {"behind": behind, "to": to, "reason": reason}
        now = house.stamp()
        state.last_gap = {**gap, "at": now}
        await self._deliver(own_message(house.store.era, f"gap.{behind}", "gap", now, gap))
        state.attempts = 0
        await self._save()
