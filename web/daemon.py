"""The daemon, from its start to its end: what `enginehouse serve` runs.

    settings -> lock -> leftovers of a killed daemon -> sockets -> store and house -> keys and app -> ready
    SIGHUP -> settings are read again, and taken as a whole or not at all
    signal -> nobody new, streams say goodbye -> requests in hand -> daemon.json gone -> engines park -> journal closed

Sockets are bound before the house is opened, so that a busy port is found out before any engine is started; whoever
connects in the meantime waits in the backlog. Every way out is an exit code of sysexits.h and one sentence.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import structlog
import trio

from actors.processes import reap_leftovers
from protocol.errors import StoreUnavailable
from protocol.times import rfc3339
from supervisor import EmbeddedHouse, SqliteStore, open_supervisor
from supervisor.schedules import open_schedules
from web.app import Api, create_app
from web.audit import Audited, Strangers
from web.auth import Keys, admin_key
from web.guard import LOOPBACK_HOSTS, Guard, Policy, hosts_of
from web.limits import Limits
from web.logs import opened_log, set_level
from web.loopwatch import watch_loop
from web.metrics import EngineCounts, HouseFigures, LoopLag, Metrics, Requests
from web.notify import Notify
from web.observed import Observed
from web.observer import HouseObserver
from web.peer import Proxies
from web.places import DaemonFile, Problem, house_name
from web.reload import Change, Reload, Reloadable, Reloaded
from web.server import bind_loopback, bind_tcp, bind_unix, serve
from web.settings import Loaded, Server
from web.settings import Webhooks as WebhookSettings
from web.stop import Stop
from web.tls import Tls
from web.traces import exporting
from web.webhooks import Targets, Webhooks, open_sender, open_webhooks, resolver, webhook_key

__all__ = ["run"]

log = structlog.get_logger("enginehouse.daemon")

OK: Final = 0
UNAVAILABLE: Final = os.EX_UNAVAILABLE
IO_ERROR: Final = os.EX_IOERR
CONFIG: Final = os.EX_CONFIG
GC_THRESHOLDS: Final = (50_000, 20, 100)
HTTP_SHARE: Final = 0.4  # of the grace, for requests in hand; the rest is for engines to park


class Refused(Exception):
    """The daemon does not start: exit code 69, and why."""


def run(loaded: Loaded) -> int:
    """Serve until a signal; the exit code. Says on stdout where it is, and on stderr why it is not."""
    state = loaded.settings.state_dir.expanduser().absolute()
    try:
        _prepare(state)
        with _held(state) as mine:
            if not mine:
                return _other(loaded, state)
            # Ten thousand engines make the collector's default rhythm a fifth of the work of bringing them up.
            gc.set_threshold(*GC_THRESHOLDS)
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
    name = house_name(state)
    await _reap(name)
    limits = settings.limits.applied()
    policy = _policy(settings.server, limits)
    tls = _tls(settings.server)
    sockets = _bind(loaded, limits)
    try:
        store = SqliteStore(state / "journal.db")
        webhook_master = webhook_key(state / "webhook.key")
        requests, counts = Requests(), EngineCounts()
        async with (
            exporting(settings.traces.endpoint, settings.traces.sample) as traces,
            open_supervisor(
                store=store,
                directory=state,
                name=name,
                observer=HouseObserver(counts, traces),
                children=settings.child_policy(),
            ) as house,
            open_schedules(house, max=settings.schedules.max) as schedules,
            _webhooks(house, settings.webhooks, webhook_master) as webhooks,
        ):
            stop.house = house
            measured = (requests.collect, lag.collect, HouseFigures(house.summary, counts).collect)
            metrics = Metrics(*measured, public=settings.metrics.public)
            keys = Keys(
                _KeyDocuments(house),
                _admin(loaded, state),
                wall=time.time,
                enable_auth=settings.server.enable_auth,
                rate_per_min=limits.rate_per_min,
            )
            await keys.load()
            strangers = Strangers(house, wall=time.time)
            reload = Reload(loaded)
            daemon = _Daemon(reload, stop, notify)
            api = create_app(
                house,
                keys=keys,
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
            guarded = Audited(guard, house, strangers)
            observed = Observed(guarded, requests, traces, access=settings.log.access)
            for part in (_logging, _serving(api, guard, stop), _admission(keys, state), _observing(metrics, observed)):
                reload.register(part)
            if tls is not None:
                reload.register(_certificate(tls))
            stop.hangup = daemon.on_hangup

            async def asked() -> float:
                await stop.asked.wait()
                house.leave_within(stop.grace_s * (1 - HTTP_SHARE))
                return stop.grace_s * HTTP_SHARE

            async def goodbye() -> None:
                house.announce_closing()
                await api.close_streams()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(strangers.run)
                await serve(
                    observed,
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
async def _webhooks(house: EmbeddedHouse, settings: WebhookSettings, master: bytes) -> AsyncIterator[Webhooks]:
    """The webhooks, sent from here to where the settings allow."""
    targets = Targets(settings.allow, resolve=resolver(settings.max + 1))
    async with (
        open_sender(targets, timeout_s=settings.timeout_s, wall=time.time) as sender,
        open_webhooks(
            house, master=master, targets=targets, sender=sender, max=settings.max, max_attempts=settings.max_attempts
        ) as webhooks,
    ):
        yield webhooks


def _logging(loaded: Loaded) -> Change:
    return Change(partial(set_level, loaded.settings.log_level))


def _serving(api: Api, guard: Guard, stop: Stop) -> Reloadable:
    """Limits, hosts, heartbeat and grace."""

    def prepare(loaded: Loaded) -> Change:
        settings = loaded.settings
        limits = settings.limits.applied()
        policy = _policy(settings.server, limits)

        def take() -> None:
            api.adjust(limits, settings.server.heartbeat_s, settings.audit.level)
            guard.policy = policy
            stop.grace_s = settings.server.grace_s

        return Change(take)

    return prepare


def _observing(metrics: Metrics, observed: Observed) -> Reloadable:
    """Who sees the metrics, and whether each request is logged."""

    def prepare(loaded: Loaded) -> Change:
        settings = loaded.settings

        def take() -> None:
            metrics.public = settings.metrics.public
            observed.access = settings.log.access

        return Change(take)

    return prepare


def _admission(keys: Keys, state: Path) -> Reloadable:
    """The admin key, also when only its file holds another one."""

    def prepare(loaded: Loaded) -> Change:
        path = _admin_file(loaded, state)
        if loaded.settings.server.admin_key is None and not path.exists():
            raise Problem(f"{path}: there is no admin key; write one there. (A start makes one, a reload does not.)")
        key = _admin(loaded, state)
        renewed = loaded.settings.server.admin_key is None and not keys.is_admin(key)
        return Change(partial(keys.replace_admin, key), ("server.admin_key_file",) if renewed else ())

    return prepare


def _certificate(tls: Tls) -> Reloadable:
    """The certificate, also when only its files hold another one."""

    def prepare(loaded: Loaded) -> Change:
        new = _tls(loaded.settings.server)
        assert new is not None, "TLS is not taken away while the daemon runs"
        return Change(partial(tls.take, new), ("server.tls_cert",) if tls.differs(new) else ())

    return prepare


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


class _KeyDocuments:
    """API keys in the journal's store; see `web.auth.KeyStore`."""

    TABLE: Final = "api_key"

    def __init__(self, house: EmbeddedHouse) -> None:
        self._house = house

    async def load(self) -> list[dict[str, Any]]:
        return list((await self._house.documents(self.TABLE)).values())

    async def put(self, id: str, doc: dict[str, Any]) -> None:
        await self._house.put_document(self.TABLE, id, doc)

    async def remove(self, id: str) -> None:
        await self._house.put_document(self.TABLE, id, None)


def _prepare(state: Path) -> None:
    """A folder of ours alone, and as many descriptors as we may have. Raises Problem."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        if state.stat().st_uid != os.geteuid():
            raise Problem(f"{state}: the state folder belongs to another user; name one of your own with state_dir.")
        state.chmod(0o700)
    except OSError as error:
        raise Problem(
            f"{state}: the state folder cannot be made ({error.strerror}); name another with state_dir."
        ) from None
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def _held(state: Path) -> Iterator[bool]:
    """Whether the folder is ours now. The kernel gives the lock back when we die, however we die (flock(2))."""
    with (state / "daemon.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        DaemonFile.remove(state)  # of one that was killed
        yield True


def _other(loaded: Loaded, state: Path) -> int:
    """Another daemon holds the folder: its address is the answer, unless another one was asked for."""
    for _ in range(50):
        daemon = DaemonFile.read(state)
        if daemon is not None:
            break
        time.sleep(0.1)  # it has not got so far yet
    else:
        raise Refused(
            f"Another daemon holds {state} and does not say where it is; look into its log in {state / 'logs'}."
        )
    server = loaded.settings.server
    there = urlsplit(daemon.url)
    port = server.port if loaded.explicit("server.port") and server.port else there.port
    host = server.host if loaded.explicit("server.host") else there.hostname
    if (host, port) != (there.hostname, there.port):
        raise Refused(
            f"The daemon of {state} runs at {daemon.url} (pid {daemon.pid}); stop it, or name another state_dir."
        )
    print(daemon.url)  # noqa: T201 - the answer of the command
    return OK


def _bind(loaded: Loaded, limits: Limits) -> list[socket.socket]:
    """Listening sockets. Raises Refused for a busy port that was asked for, Problem for an address that is not ours."""
    server = loaded.settings.server
    sockets: list[socket.socket] = []
    try:
        if server.enabled:
            sockets += _bind_port(loaded, limits)
        if server.unix_socket is not None:
            path = server.unix_socket.expanduser().absolute()
            _check_ours(loaded, path.parent)
            sockets.append(bind_unix(path, limits))
    except Problem:
        for sock in sockets:
            sock.close()
        raise
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise Refused(
            f"{loaded.origin('server.unix_socket')}: server.unix_socket: {error.strerror or error}."
        ) from None
    return sockets


def _check_ours(loaded: Loaded, folder: Path) -> None:
    """Whoever may write to the folder could put a socket of their own in the place of ours. Raises Problem, OSError."""
    status = folder.stat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        where = f"{loaded.origin('server.unix_socket')}: server.unix_socket"
        raise Problem(f"{where}: others may write to {folder}; use a folder that is ours alone.")


def _bind_port(loaded: Loaded, limits: Limits) -> list[socket.socket]:
    server = loaded.settings.server
    # Nobody said where: everything that this machine calls itself.
    listen = partial(bind_tcp, server.host) if loaded.explicit("server.host") else bind_loopback
    try:
        return listen(server.port, limits)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            where = f"{loaded.origin('server.host')}: server.host {server.host!r}"
            raise Problem(
                f"{where} cannot be listened on ({error.strerror}); use an address of this machine."
            ) from None
        if loaded.explicit("server.port") and not server.port_fallback:
            raise Refused(
                f"Port {server.port} is in use by another program; free it, name another port (0 takes a free one), "
                "or set server.port_fallback = true."
            ) from None
    _say(f"warning: port {server.port} is in use by another program; a free one is taken")
    log.warning("the port is busy, a free one is taken", port=server.port)
    return listen(0, limits)


async def _reap(name: str) -> None:
    """Nothing that a killed daemon left behind may run beside what comes."""
    ended, leaks = await reap_leftovers(name)
    if ended or leaks:
        log.warning("ended what an earlier daemon left behind", processes=len(ended), left=len(leaks))


def _admin(loaded: Loaded, state: Path) -> str:
    server = loaded.settings.server
    if server.admin_key is not None:
        return server.admin_key.get_secret_value()
    return admin_key(_admin_file(loaded, state))


def _admin_file(loaded: Loaded, state: Path) -> Path:
    return (loaded.settings.server.admin_key_file or state / "admin.key").expanduser()


def _policy(server: Server, limits: Limits) -> Policy:
    proxies = Proxies()
    if server.behind_proxy:
        proxies = Proxies.named(server.trusted_proxies) if server.trusted_proxies else Proxies.here()
    return Policy(
        hosts=LOOPBACK_HOSTS | hosts_of(server.host) | {host.lower() for host in server.allowed_hosts},
        origins=frozenset(server.cors_origins),
        proxies=proxies,
        limits=limits,
    )


def _tls(server: Server) -> Tls | None:
    """Raises Problem."""
    if server.tls_cert is None or server.tls_key is None:
        return None
    return Tls(server.tls_cert.expanduser().absolute(), server.tls_key.expanduser().absolute())


def _ready(loaded: Loaded, state: Path, notify: Notify, urls: list[str]) -> None:
    url = urls[0].replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
    started_at = rfc3339(round(time.time() * 1000))
    DaemonFile(url=url, pid=os.getpid(), version=version("enginehouse"), started_at=started_at).write(state)
    if not loaded.settings.server.enable_auth:
        log.warning("auth is off: whoever reaches this address may do everything", url=url)
    log.info("ready", urls=urls, state=str(state), pid=os.getpid())
    notify.say("READY=1", f"STATUS=at {url}")
    print(f"enginehouse {version('enginehouse')} is at {url} (state in {state}, pid {os.getpid()})", flush=True)  # noqa: T201
    # Everything that lives for ever has been made: the collector need never look at it again.
    gc.collect()
    gc.freeze()


def _fail(code: int, sentence: str) -> int:
    _say(f"error: {sentence}")
    return code


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - what a command says
