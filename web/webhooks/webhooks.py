"""Webhooks of a house: kept as documents, each active one served by its own courier.

A webhook belongs to whoever made or last changed it: it gets what that principal may see, for as long as their
credentials stand. Once these are revoked it is disabled, and whoever enables it again owns it from then on.
"""

from __future__ import annotations

import secrets as random_secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

import structlog
import trio

from protocol.authority import Authority, Scope
from protocol.edge import as_json, load, wrong
from protocol.errors import (
    Denied,
    EnginehouseError,
    EventIdExpired,
    InsufficientScope,
    Missing,
    NotFound,
    QuotaExceeded,
    Unavailable,
)
from protocol.events import Frame, encode
from protocol.ids import event_id, parse_event_id
from protocol.times import rfc3339
from supervisor.behalf import EVERYTHING, StandingOf, covers, kept_of, narrowed, nothing_known
from supervisor.beside import beside
from supervisor.documents import Documents, HouseDocuments
from supervisor.embedded import EmbeddedHouse
from supervisor.house import NOBODY, Caller, Filter
from web.webhooks.courier import Courier, is_for
from web.webhooks.hook import Hook
from web.webhooks.message import event_message, own_message
from web.webhooks.retry import MAX_ATTEMPTS
from web.webhooks.sender import Sender
from web.webhooks.signing import secret_of, shown
from web.webhooks.targets import TargetRefused, Targets
from web.webhooks.values import (
    CreatedWebhook,
    DeadDelivery,
    Delivery,
    NewWebhook,
    PatchWebhook,
    Rotated,
    StoredWebhook,
    WebhookInfo,
    WebhookState,
)

__all__ = ["MAX_WEBHOOKS", "WebhookStatistics", "Webhooks", "open_webhooks"]

log = structlog.get_logger("enginehouse.webhooks")

MAX_WEBHOOKS: Final = 100
DEAD_MAX: Final = 200
"""How many dead deliveries of one webhook are kept; beyond it the oldest is forgotten."""


@dataclass(frozen=True, slots=True)
class Tables:
    """Where it is kept: what people decide, what delivering changes, and what was given up."""

    hooks: Documents
    states: Documents
    dead: Documents


@dataclass(frozen=True, slots=True)
class WebhookStatistics:
    """`failing`: active ones whose last attempt failed; `delivered`: over the lives of those that there are."""

    hooks: int
    active: int
    failing: int
    delivered: int
    dead_letters: int


@asynccontextmanager
async def open_webhooks(
    house: EmbeddedHouse,
    *,
    master: bytes,
    targets: Targets,
    sender: Sender,
    max: int = MAX_WEBHOOKS,
    max_attempts: int = MAX_ATTEMPTS,
    standing_of: StandingOf = nothing_known,
) -> AsyncIterator[Webhooks]:
    """The webhooks of `house`, at work while the block lasts.

    Args:
        house: open, and open for longer than the block.
        master: what their secrets are derived from.
        targets: where they may go.
        sender: how a message is sent.
        max: how many there may be.
        max_attempts: how often one message is tried.
        standing_of: asked before each message whether the owner still stands.

    Cancelled, or left: what is on its way may have been received, and is sent again by the next house.
    """
    tables = Tables(*(HouseDocuments(house, name) for name in ("webhook", "webhook_state", "webhook_dead")))
    hooks = Webhooks(
        house, tables, master=master, targets=targets, sender=sender, max=max, max_attempts=max_attempts,
        standing_of=standing_of,
    )  # fmt: skip
    await hooks.load()
    async with beside(hooks.run):
        yield hooks


class Webhooks:
    """See the module. `authority`: of whoever asks; None is the embedding program, which may do everything."""

    def __init__(
        self, house: EmbeddedHouse, tables: Tables, *, master: bytes, targets: Targets, sender: Sender, max: int,
        max_attempts: int, standing_of: StandingOf,
    ) -> None:  # fmt: skip
        self.house, self.sender, self.master, self.max_attempts = house, sender, master, max_attempts
        self._tables, self._targets, self._max, self._standing_of = tables, targets, max, standing_of
        self._hooks: dict[str, Hook] = {}
        self._nursery: trio.Nursery | None = None

    # -- asked -------------------------------------------------------------------------------------------------------
    def infos(self, authority: Authority | None = None) -> list[WebhookInfo]:
        """Those that are there for `authority`, oldest first."""
        found = [hook.info() for hook in self._hooks.values() if _there(hook, authority)]
        return sorted(found, key=lambda info: (info.created_at, info.id))

    def get(self, id: str, authority: Authority | None = None) -> WebhookInfo:
        """Raises NotFound."""
        return self._find(id, authority).info()

    def deliveries(self, id: str, authority: Authority | None = None) -> list[Delivery]:
        """The latest attempts since the house began, newest first. Raises NotFound."""
        return list(reversed(self._find(id, authority).recent))

    def dead_letters(self, id: str, authority: Authority | None = None) -> list[DeadDelivery]:
        """What was given up, newest first. Raises NotFound."""
        return list(reversed(self._find(id, authority).dead.values()))

    async def create(
        self, new: NewWebhook, caller: Caller = NOBODY, *, authority: Authority | None = None
    ) -> CreatedWebhook:
        """It gets what happens from now on. Raises InsufficientScope (it would see more than they), ValidationFailed
        (the target is refused), NotFound (a pool that they do not see), QuotaExceeded.
        """
        given = authority or EVERYTHING
        await self._check(new, given)
        if len(self._hooks) >= self._max:
            raise QuotaExceeded(f"There are {self._max} webhooks already; delete one, or raise webhooks.max.")
        stored = StoredWebhook(
            id=f"whk_{random_secrets.token_hex(6)}", filter=new, state="active" if new.enabled else "disabled",
            reason=None, owner=caller.principal, created_at=self.house.supervisor.stamp(), **kept_of(given),
        )  # fmt: skip
        hook = Hook(stored, WebhookState(cursor=self._present()))
        self._hooks[hook.id] = hook
        try:
            await self._tables.states.put(hook.id, as_json(hook.state))
            await self._tables.hooks.put(hook.id, hook.document(), caller)
        except EnginehouseError:
            del self._hooks[hook.id]
            raise
        self._start(hook)
        secret = shown(secret_of(self.master, hook.id, stored.version))
        info = hook.info()
        return CreatedWebhook(secret=secret, **{name: getattr(info, name) for name in WebhookInfo.__slots__})

    async def patch(
        self, id: str, patch: PatchWebhook, members: frozenset[str], caller: Caller = NOBODY, *,
        authority: Authority | None = None,
    ) -> WebhookInfo:  # fmt: skip
        """Change the named `members`; it goes on where it was, for whoever changed it. Raises as `create`, NotFound."""
        hook = self._find(id, authority)
        given = authority or EVERYTHING
        for name in members - {"engine"}:
            if getattr(patch, name) is None:
                raise wrong(name, f"{name} cannot be null.")
        enabled = patch.enabled if patch.enabled is not None else hook.stored.state == "active"
        changes = {name: getattr(patch, name) for name in members} | {"enabled": enabled}
        wanted = replace(hook.stored.filter, **changes)
        await self._check(wanted, given)
        hook.state.attempts, hook.state.failing_since = 0, None  # a person looked at it: its patience begins anew
        await self._change(
            hook,
            replace(
                hook.stored, filter=wanted, state="active" if enabled else "disabled", reason=None,
                owner=caller.principal, **kept_of(given),
            ),
            caller,
        )  # fmt: skip
        return hook.info()

    async def delete(self, id: str, caller: Caller = NOBODY, *, authority: Authority | None = None) -> None:
        """Raises NotFound."""
        hook = self._find(id, authority)
        del self._hooks[id]
        self._stop(hook)
        await self._tables.hooks.remove(id, caller)
        await self._tables.states.remove(id)
        for event in hook.dead:
            await self._tables.dead.remove(f"{id}:{event}")

    async def rotate(
        self, id: str, overlap_s: float, caller: Caller = NOBODY, *, authority: Authority | None = None
    ) -> Rotated:
        """A new secret; the one before signs too for `overlap_s`. Raises NotFound."""
        hook = self._find(id, authority)
        until = self.house.supervisor.wall() + overlap_s
        version = hook.stored.version + 1
        hook.stored = replace(hook.stored, version=version, old_until=until)
        await self._tables.hooks.put(id, hook.document(), caller)
        return Rotated(secret=shown(secret_of(self.master, id, version)), old_secret_until=rfc3339(round(until * 1000)))

    async def test(self, id: str, authority: Authority | None = None) -> Delivery:
        """Send a message of type `enginehouse.webhook.test`, once. Raises NotFound."""
        hook = self._find(id, authority)
        message = own_message(
            self.house.supervisor.store.era, f"test.{random_secrets.token_hex(8)}", "webhook.test",
            self.house.supervisor.stamp(), {"webhook": id},
        )  # fmt: skip
        await Courier(self, hook).attempt(message, 1)
        return next(delivery for delivery in reversed(hook.recent) if delivery.event_id == message.id)

    async def redeliver(
        self, id: str, event: str, caller: Caller = NOBODY, *, authority: Authority | None = None
    ) -> Delivery:
        """Send what was given up once more, beside the others; taken, it is no dead letter any more. Raises NotFound,
        EventIdExpired (the event was compacted).
        """
        hook = self._find(id, authority)
        dead = self._dead(hook, event)
        try:
            era, seq = parse_event_id(event)
        except ValueError:
            raise NotFound("A gap is no event and cannot be sent again; discard it.") from None
        page = await self.house.event_page(Filter(types=(dead.type,)), after=event_id(era or "", seq - 1), limit=1)
        if not page.items or page.items[0]["id"] != event:
            raise EventIdExpired("The event was compacted. Forget its dead letter.", latest=page.latest)
        frame = Frame(event=dead.type, id=event, data=encode(page.items[0]))
        message = event_message(self.house.supervisor.store.era, frame)
        try:
            may = is_for(self.standing(hook), message)
        except (Denied, Missing):
            may = False
        if not may:  # it changed hands since, or whose it was is gone
            raise NotFound(f"Webhook {hook.id} has no dead letter {event!r} that its owner may see.")
        attempt = await Courier(self, hook).attempt(message, dead.attempts + 1)
        if attempt.ok:
            await self._forget(hook, event, caller)
        return next(delivery for delivery in reversed(hook.recent) if delivery.event_id == event)

    async def discard(
        self, id: str, event: str, caller: Caller = NOBODY, *, authority: Authority | None = None
    ) -> None:
        """Forget a dead letter. Raises NotFound."""
        hook = self._find(id, authority)
        self._dead(hook, event)
        await self._forget(hook, event, caller)

    def statistics(self) -> WebhookStatistics:
        hooks = list(self._hooks.values())
        active = [hook for hook in hooks if hook.stored.state == "active"]
        return WebhookStatistics(
            hooks=len(hooks), active=len(active), failing=sum(hook.state.failing_since is not None for hook in active),
            delivered=sum(hook.state.delivered for hook in hooks), dead_letters=sum(len(hook.dead) for hook in hooks),
        )  # fmt: skip

    # -- at work -----------------------------------------------------------------------------------------------------
    async def load(self) -> None:
        """Read what earlier lives of the house kept; call it once, before `run`."""
        states = await self._tables.states.load()
        for doc in (await self._tables.hooks.load()).values():
            stored = load(StoredWebhook, doc)
            self._hooks[stored.id] = Hook(stored, load(WebhookState, states[stored.id]))
        for name, doc in (await self._tables.dead.load()).items():
            hook = self._hooks.get(name.partition(":")[0])
            if hook is not None:
                dead = load(DeadDelivery, doc)
                hook.dead[dead.event_id] = dead
        for hook in self._hooks.values():
            hook.dead = dict(sorted(hook.dead.items(), key=lambda item: (item[1].at, _seq(item[0]))))

    async def run(self) -> None:
        """Deliver until cancelled, or until the house accepts nothing more."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for hook in self._hooks.values():
                self._start(hook)
            await trio.sleep_forever()

    def _start(self, hook: Hook) -> None:
        """Give an active webhook its courier, unless it has one: `run` may begin while one is being created."""
        if self._nursery is None or hook.scope is not None:
            return
        if hook.stored.state == "active" and hook.id in self._hooks:
            hook.scope = trio.CancelScope()
            self._nursery.start_soon(self._serve, hook, hook.scope)

    @staticmethod
    def _stop(hook: Hook) -> None:
        if hook.scope is not None:
            hook.scope.cancel()
            hook.scope = None

    async def _serve(self, hook: Hook, scope: trio.CancelScope) -> None:
        with scope:
            try:
                await Courier(self, hook).run()
            except Unavailable:  # the house ends: the next one goes on from what is durable
                return

    # -- what a courier asks (see `Office`) --------------------------------------------------------------------------
    def standing(self, hook: Hook) -> Authority:
        owner = hook.stored.owner
        return hook.authority if owner is None else narrowed(hook.authority, self._standing_of(owner))

    async def save(self, hook: Hook) -> None:
        if self._hooks.get(hook.id) is hook:
            await self._tables.states.put(hook.id, as_json(hook.state))

    async def bury(self, hook: Hook, dead: DeadDelivery) -> None:
        if self._hooks.get(hook.id) is not hook:  # deleted meanwhile, it leaves nothing behind
            return
        hook.dead[dead.event_id] = dead
        await self._tables.dead.put(f"{hook.id}:{dead.event_id}", as_json(dead))
        while len(hook.dead) > DEAD_MAX:
            await self._forget(hook, next(iter(hook.dead)), None)

    async def disable(self, hook: Hook, cause: str, reason: str) -> None:
        await self.save(hook)
        if self._hooks.get(hook.id) is hook:
            hook.stored = replace(hook.stored, state="disabled", reason=reason)
            await self._tables.hooks.put(hook.id, hook.document())
        log.warning("webhook disabled", webhook=hook.id, cause=cause)
        # An event of the whole house is seen by all who are bound to no pool, so the sentence is not in it.
        await self.house.note("webhook.disabled", {"webhook": hook.id, "reason": cause})
        self._stop(hook)
        await trio.lowlevel.checkpoint()

    # -- within ------------------------------------------------------------------------------------------------------
    def _present(self) -> str:
        house = self.house.supervisor
        return event_id(house.store.era, house.folded)

    def _find(self, id: str, authority: Authority | None) -> Hook:
        hook = self._hooks.get(id)
        if hook is None or not _there(hook, authority):
            raise NotFound(f"There is no webhook {id!r}.")
        return hook

    @staticmethod
    def _dead(hook: Hook, event: str) -> DeadDelivery:
        dead = hook.dead.get(event)
        if dead is None:
            raise NotFound(f"Webhook {hook.id} has no dead letter {event!r}.")
        return dead

    async def _forget(self, hook: Hook, event: str, caller: Caller | None) -> None:
        hook.dead.pop(event, None)
        await self._tables.dead.remove(f"{hook.id}:{event}", caller)

    async def _check(self, new: NewWebhook, authority: Authority) -> None:
        if authority.engine is not None:
            raise InsufficientScope("An engine's own token makes no webhooks.", scope="operate")
        authority.require(Scope.READ)  # what it is sent, they must be able to read
        for pool in new.pools:
            if not authority.sees(pool):
                raise NotFound(f"There is no pool {pool!r}.")
        try:
            await self._targets.check(new.url)
        except TargetRefused as refused:
            raise wrong("url", str(refused)) from None

    async def _change(self, hook: Hook, stored: StoredWebhook, caller: Caller) -> None:
        """Its courier is stopped first, so that nothing is sent to the old place under the new terms, nor to a new one
        that is refused when it is journaled.
        """
        self._stop(hook)
        before, hook.stored = hook.stored, stored
        try:
            if self._hooks.get(hook.id) is hook:
                await self._tables.hooks.put(hook.id, hook.document(), caller)
        except EnginehouseError:
            if hook.stored is stored:
                hook.stored = before
            raise
        finally:
            self._start(hook)


def _there(hook: Hook, authority: Authority | None) -> bool:
    return authority is None or covers(authority, hook.authority)


def _seq(event: str) -> int:
    """The number of an event (or of the one that a gap begins behind), which its id ends in."""
    return int(event.rpartition(".")[2])
