"""Settings as what they configure: keys, who may call, the certificate. Everything here may raise Problem."""

from __future__ import annotations

from pathlib import Path

from web.auth import admin_key, read_signing_keys
from web.binding import check_socket_folder
from web.guard import LOOPBACK_HOSTS, Policy, hosts_of
from web.limits import Limits
from web.loaded import Loaded
from web.peer import Proxies
from web.settings import Server
from web.tls import Tls
from web.traces import check_exporter

__all__ = ["admin_file", "admin_of", "check_files", "policy_of", "secret_file", "tls_of"]


def admin_of(loaded: Loaded, state: Path) -> str:
    server = loaded.settings.server
    if server.admin_key is not None:
        return server.admin_key.get_secret_value()
    return admin_key(admin_file(loaded, state))


def admin_file(loaded: Loaded, state: Path) -> Path:
    return (loaded.settings.server.admin_key_file or state / "admin.key").expanduser()


def policy_of(server: Server, limits: Limits) -> Policy:
    proxies = Proxies()
    if server.behind_proxy:
        proxies = Proxies.named(server.trusted_proxies) if server.trusted_proxies else Proxies.here()
    return Policy(
        hosts=LOOPBACK_HOSTS | hosts_of(server.host) | {host.lower() for host in server.allowed_hosts},
        origins=frozenset(server.cors_origins),
        proxies=proxies,
        limits=limits,
    )


def tls_of(server: Server) -> Tls | None:
    """Raises Problem."""
    if server.tls_cert is None or server.tls_key is None:
        return None
    return Tls(server.tls_cert.expanduser().absolute(), server.tls_key.expanduser().absolute())


def secret_file(loaded: Loaded, state: Path) -> Path:
    """Where the secret is that signs access tokens."""
    return (loaded.settings.server.jwt_secret_file or state / "jwt.secret").expanduser()


def check_files(loaded: Loaded) -> None:
    """What a start would look at beside the settings: certificates, secrets that are there already, folders, the extra
    for traces. Makes nothing.
    """
    settings, server = loaded.settings, loaded.settings.server
    state = settings.state_dir.expanduser().absolute()
    tls_of(server)
    for path, read in ((admin_file(loaded, state), admin_key), (secret_file(loaded, state), read_signing_keys)):
        if path.exists() or path.is_symlink():
            read(path)
    if server.unix_socket is not None:
        check_socket_folder(loaded)
    if settings.traces.endpoint is not None:
        check_exporter()
