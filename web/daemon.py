"""The daemon, from its start to its end: what `enginehouse serve` runs.

    settings -> lock -> secrets -> leftovers of a killed daemon -> sockets -> store and house -> app -> ready
    SIGHUP -> settings are read again, and taken as a whole or not at all
    signal -> nobody new, streams say goodbye -> requests in hand -> daemon.json gone -> engines park -> journal closed

Sockets are bound before the house is opened, so that a busy port is found out before any engine is started; whoever
connects in the meantime waits in the backlog. Every way out is an exit code of sysexits.h and one sentence.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final

import structlog
import trio

from actors.children import ChildPolicy, ControlGroups
from actors.processes import claim, reap_leftovers, standing
from protocol.errors import StoreUnavailable
from protocol.times import rfc3339
from supervisor import EmbeddedHouse, SqliteStore, open_supervisor
from supervisor.schedules import open_schedules
from web import live
from web.app import create_app
from web.audit import Audited, Strangers
from web.auth import CredentialDocuments, Identity, read_signing_keys
from web.auth.engine_tokens import EngineTokens
from web.binding import bind
from web.children import LASTING
from web.claim import Refused, held, other, prepare
from web.configured import admin_of, policy_of, secret_file, tls_of
from web.engine_access import EngineAccess
from web.guard import Guard
from web.loaded import Loaded
from web.logs import opened_log
from web.loopwatch import watch_loop
from web.metrics import EngineCounts, HouseFigures, LoopLag, Metrics, Requests
from web.notify import Notify
from web.observed import Observed
from web.observer import HouseObserver
from web.people import People
from web.places import DaemonFile, Problem, house_name
from web.reload import Reload, Reloaded
from web.server import serve
from web.settings import Webhooks as WebhookSettings
from web.sockets import url_of
from web.stop import Stop
from web.traces import exporting
from web.webhooks import Targets, Webhooks, open_sender, open_webhooks, resolver, webhook_key
from web.wipe import secretive, wipe

__all__ = ["run"]

log = structlog.get_logger("enginehouse.daemon")

OK: Final = 0
UNAVAILABLE: Final = os.EX_UNAVAILABLE
IO_ERROR: Final = os.EX_IOERR
CONFIG: Final = os.EX_CONFIG
GC_THRESHOLDS: Final = (50_000, 20, 100)
HTTP_SHARE: Final = 0.4  # of the grace, for requests in hand; the rest is for engines to park


def run(loaded: Loaded) -> int:
    """Serve until a signal; the exit code. Says on stdout where it is, and on stderr why it is not.

    The garbage collector is off until it is ready.
    """
    gc.disable()
    state = loaded.settings.state_dir.expanduser().absolute()
    try:
        wipe([*secretive(os.environ, loaded.settings.secrets.env)])
        prepare(state)
        with held(state) as mine:
            if not mine:
                running = other(loaded, state)
                _say(f"already running, pid {running.pid}")
                print(running.url)  # noqa: T201 - the answer of the command
                return OK
            with opened_log(state / "logs", loaded.settings.log_level, screen=sys.stderr):
                for name in loaded.unknown:
                    _say(f"warning: {name} is in the environment and is no setting; see `enginehouse config show`")
                    log.warning("unknown setting in the environment", name=name)
                return trio.run(_main, loaded, state, Notify(os.environ), strict_exception_groups=True)
    except Problem as error:
        return _fail(CONFIG, str(error))
    except Refused as error:
        return _fail(UNAVAILABLE, str(error))


async def _main(loaded: Loaded, state: Path, notify: Notify) -> int:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            stop = Stop(state, loaded.settings.server.grace_s, notify)
            nursery.start_soon(stop.listen, signals, nursery)
            nursery.start_soon(stop.see_to_it)
            nursery.start_soon(notify.keep_alive)
            lag = LoopLag()
            nursery.start_soon(partial(watch_loop, late=lag.beat))
            code = OK
            refused: Exception | None = None
            with stop.fast:
                try:
                    code = await _live(loaded, state, stop, notify, lag)
                except (Problem, Refused) as error:
                    refused = error  # raised below, where no nursery wraps it in a group
            nursery.cancel_scope.cancel()
    if refused is not None:
        raise refused
    return code


async def _live(loaded: Loaded, state: Path, stop: Stop, notify: Notify, lag: LoopLag) -> int:
    """The house, open and served."""
    settings = loaded.settings
    admin, signing = admin_of(loaded, state), read_signing_keys(secret_file(loaded, state))
    limits, tls = settings.limits.applied(), tls_of(settings.server)
    policy = policy_of(settings.server, limits)
    webhook_master = webhook_key(state / "webhook.key")
    name = house_name(state)
    children = settings.child_policy(_claim(settings.children.control_groups))
    await _reap(name, state, children)
    sockets = bind(loaded, limits)
    tokens = EngineTokens(lambda uid: None)
    requests, counts = Requests(), EngineCounts()
    try:
        async with (
            exporting(settings.traces.endpoint, settings.traces.sample) as traces,
            open_supervisor(
                store=SqliteStore(state / "journal.db"),
                directory=state,
                name=name,
                observer=HouseObserver(counts, traces),
                children=children,
                engine_env=EngineAccess(tokens, _address(url_of(sockets[0], tls=tls is not None))),
            ) as house,
        ):
            stop.house, tokens.alive = house, house.incarnation
            identity = Identity(
                partial(CredentialDocuments, house),
                admin=admin,
                signing=signing,
                secret_file=secret_file(loaded, state),
                wall=time.time,
                enable_auth=settings.server.enable_auth,
                engines=tokens,
                rate_per_min=limits.rate_per_min,
            )
            await identity.load()
            measured = (requests.collect, lag.collect, HouseFigures(house.summary, counts).collect)
            metrics = Metrics(*measured, public=settings.metrics.public)
            strangers = Strangers(house, wall=time.time)
            reload = Reload(loaded)
            daemon = _Daemon(reload, stop, notify)
            async with (
                open_schedules(house, max=settings.schedules.max, standing_of=identity.standing_of) as schedules,
                _webhooks(house, settings.webhooks, webhook_master, identity) as webhooks,
                trio.open_nursery() as nursery,
            ):
                house.identify(People(identity, schedules))
                api = create_app(
                    house,
                    identity=identity,
                    audit=house,
                    audit_level=settings.audit.level,
                    limits=limits,
                    heartbeat_s=settings.server.heartbeat_s,
                    attendance=house.attendance,
                    metrics=metrics,
                    daemon=daemon,
                    schedules=schedules,
                    webhooks=webhooks,
                )
                guard = Guard(api, policy)
                served = Observed(Audited(guard, house, strangers), requests, traces, access=settings.log.access)
                reload.register(live.logging)
                reload.register(live.serving(api, guard, stop))
                reload.register(live.admission(identity, state))
                reload.register(live.observing(metrics, served))
                if tls is not None:
                    reload.register(live.certificate(tls))
                stop.hangup = daemon.on_hangup

                async def asked() -> float:
                    await stop.asked.wait()
                    house.leave_within(stop.grace_s * (1 - HTTP_SHARE))
                    return stop.grace_s * HTTP_SHARE

                async def goodbye() -> None:
                    house.announce_closing()
                    await api.close_streams()

                nursery.start_soon(identity.tend)
                nursery.start_soon(strangers.run)
                await serve(
                    served,
                    sockets,
                    shutdown=asked,
                    closing=goodbye,
                    limits=lambda: api.services.limits,
                    tls=tls,
                    proxies=policy.proxies,
                    on_bound=partial(_ready, loaded, state, notify),
                )
                nursery.cancel_scope.cancel()
            DaemonFile.remove(state)
            log.info("parking the engines", grace_s=stop.grace_s * (1 - HTTP_SHARE))
    except StoreUnavailable as error:
        log.exception("the journal failed")
        return _fail(IO_ERROR, f"{error.detail} What was acknowledged is on the disk; start again when it is well.")
    finally:
        DaemonFile.remove(state)
        for sock in sockets:
            sock.close()
    log.info("stopped")
    return OK


@asynccontextmanager
async def _webhooks(
    house: EmbeddedHouse, settings: WebhookSettings, master: bytes, identity: Identity
) -> AsyncIterator[Webhooks]:
    """The webhooks, sent from here to where the settings allow."""
    targets = Targets(settings.allow, resolve=resolver(settings.max + 1))
    async with (
        open_sender(targets, timeout_s=settings.timeout_s, wall=time.time) as sender,
        open_webhooks(
            house,
            master=master,
            targets=targets,
            sender=sender,
            max=settings.max,
            max_attempts=settings.max_attempts,
            standing_of=identity.standing_of,
        ) as webhooks,
    ):
        yield webhooks


class _Daemon:
    """`web.services.Daemon`: what a route may ask of this process."""

    def __init__(self, reload: Reload, stop: Stop, notify: Notify) -> None:
        self._reload, self._stop, self._notify = reload, stop, notify

    async def reload(self) -> Reloaded:
        self._notify.say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            return await self._reload()
        finally:
            self._notify.say("READY=1")

    async def on_hangup(self) -> None:
        try:
            await self.reload()
        except Problem as error:
            log.error("not reloaded: nothing was changed", why=str(error))  # noqa: TRY400 - a sentence, no bug

    def shut_down(self, who: str, grace_s: float | None = None) -> float:
        return self._stop.ask(who, grace_s)


def _claim(setting: str) -> ControlGroups | None:
    """Take over the control groups that trees are to have; None: there are none, and `auto` lives with that."""
    if setting == "none":
        return None
    claimed = claim(None if setting == "auto" else Path(setting))
    if isinstance(claimed, ControlGroups):
        return claimed
    if setting != "auto":
        raise Problem(f"children.control_groups: {claimed}.")
    log.info("trees have no control groups", why=claimed)
    return None


async def _reap(name: str, state: Path, children: ChildPolicy) -> None:
    """Nothing that a killed daemon left behind may run beside what comes, but for what is there to be taken over."""
    keep = [home.marker(name) for home in await standing(state / LASTING)]
    ended, leaks = await reap_leftovers(name, keep=keep, groups=children.groups)
    if ended or leaks:
        log.warning("ended what an earlier daemon left behind", processes=len(ended), left=len(leaks))


def _address(url: str) -> str:
    """The one that this machine calls us by."""
    return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


def _ready(loaded: Loaded, state: Path, notify: Notify, urls: list[str]) -> None:
    url = _address(urls[0])
    started_at = rfc3339(round(time.time() * 1000))
    DaemonFile(url=url, pid=os.getpid(), version=version("enginehouse"), started_at=started_at).write(state)
    if not loaded.settings.server.enable_auth:
        log.warning("auth is off: whoever reaches this address may do everything", url=url)
    log.info("ready", urls=urls, state=str(state), pid=os.getpid())
    notify.say("READY=1", f"STATUS=at {url}")
    print(f"enginehouse {version('enginehouse')} is at {url} (state in {state}, pid {os.getpid()})", flush=True)  # noqa: T201
    # Everything that lives for ever has been made: the collector need never look at it again. Ten thousand engines make
    # its default rhythm a fifth of the work of bringing them up.
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    gc.enable()


def _fail(code: int, sentence: str) -> int:
    _say(f"error: {sentence}")
    return code


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - what a command says
