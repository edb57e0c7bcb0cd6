"""What new settings change while the daemon runs: one part for each thing that takes them (`web/reload.py`)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from web.app import Api
from web.auth import Identity, read_signing_keys
from web.configured import admin_file, admin_of, policy_of, secret_file, tls_of
from web.guard import Guard
from web.loaded import Loaded
from web.logs import set_level
from web.metrics import Metrics
from web.observed import Observed
from web.places import Problem
from web.reload import Change, Reloadable
from web.stop import Stop
from web.tls import Tls

__all__ = ["admission", "certificate", "logging", "observing", "serving"]


def logging(loaded: Loaded) -> Change:
    return Change(partial(set_level, loaded.settings.log_level))


def serving(api: Api, guard: Guard, stop: Stop) -> Reloadable:
    """Limits, hosts, heartbeat and grace."""

    def prepare(loaded: Loaded) -> Change:
        settings = loaded.settings
        limits = settings.limits.applied()
        policy = policy_of(settings.server, limits)

        def take() -> None:
            api.adjust(limits, settings.server.heartbeat_s, settings.audit.level)
            guard.policy = policy
            stop.grace_s = settings.server.grace_s

        return Change(take)

    return prepare


def observing(metrics: Metrics, observed: Observed) -> Reloadable:
    """Who sees the metrics, and whether each request is logged."""

    def prepare(loaded: Loaded) -> Change:
        settings = loaded.settings

        def take() -> None:
            metrics.public = settings.metrics.public
            observed.access = settings.log.access

        return Change(take)

    return prepare


def admission(identity: Identity, state: Path) -> Reloadable:
    """The admin key and the keys that sign, also when only their files hold others."""

    def prepare(loaded: Loaded) -> Change:
        path = admin_file(loaded, state)
        if loaded.settings.server.admin_key is None and not path.exists():
            raise Problem(f"{path}: there is no admin key; write one there. (A start makes one, a reload does not.)")
        key = admin_of(loaded, state)
        signing = read_signing_keys(secret_file(loaded, state))
        renewed = loaded.settings.server.admin_key is None and not identity.keys.is_admin(key)

        def take() -> None:
            identity.keys.replace_admin(key)
            identity.access.keys = signing

        return Change(take, ("server.admin_key_file",) if renewed else ())

    return prepare


def certificate(tls: Tls) -> Reloadable:
    """The certificate, also when only its files hold another one."""

    def prepare(loaded: Loaded) -> Change:
        new = tls_of(loaded.settings.server)
        assert new is not None, "TLS is not taken away while the daemon runs"
        return Change(partial(tls.take, new), ("server.tls_cert",) if tls.differs(new) else ())

    return prepare
