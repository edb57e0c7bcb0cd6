"""Where the house is, and which key opens it: what a command on the same machine finds by itself.

In this order: what the command line says; `ENGINEHOUSE_URL` and `ENGINEHOUSE_API_KEY`; `ENGINEHOUSE_HOST` and
`ENGINEHOUSE_PORT`; `daemon.json` in the state directory, while the daemon that wrote it lives; the default address,
unless a state directory was named: then it is that house or none. The admin key in the state directory is only ever
sent to this machine, and there to nobody but its own daemon: to the address in `daemon.json`, or to one that was named
and is loopback or a unix socket. `ENGINEHOUSE_CA_FILE` names the certificates that are believed there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from web.places import (
    DEFAULT_PORT,
    DaemonFile,
    Problem,
    admin_key_file,
    default_state_directory,
    named_state_directory,
    server_setting,
)

__all__ = ["Place", "locate"]


@dataclass(frozen=True, slots=True)
class Place:
    """`daemon`: what `daemon.json` says when the address comes from there; `ca_file`: whose certificates are believed
    (None: the system's).
    """

    url: str
    api_key: str | None
    state: Path
    daemon: DaemonFile | None = None
    ca_file: Path | None = None


def locate(
    environ: Mapping[str, str], *, url: str | None = None, api_key: str | None = None, state: Path | None = None
) -> Place:
    """See the module. Raises Problem when what was named makes no address, Unreachable when the state directory that
    was named has no daemon.
    """
    named = state or named_state_directory(environ)
    state = named or default_state_directory(environ)
    daemon, anybody = None, False
    url = url or environ.get("ENGINEHOUSE_URL")
    if not url and (environ.get("ENGINEHOUSE_HOST") or environ.get("ENGINEHOUSE_PORT", "0") != "0"):
        host = environ.get("ENGINEHOUSE_HOST") or "127.0.0.1"
        port = environ.get("ENGINEHOUSE_PORT") or DEFAULT_PORT
        url = f"{_scheme(environ)}://{f'[{host}]' if ':' in host else host}:{port}"
    if not url and (daemon := DaemonFile.live(state)) is not None:
        url = daemon.url
    if not url:
        if named is not None:
            from web.client.errors import Unreachable  # light, but not free, and this is rare

            raise Unreachable(f"No daemon serves {state}; start one with `enginehouse serve`.")
        url, anybody = f"{_scheme(environ)}://127.0.0.1:{DEFAULT_PORT}", True
    _check(url)
    api_key = api_key or environ.get("ENGINEHOUSE_API_KEY")
    if not api_key and (daemon is not None or _is_here(url)):
        api_key = environ.get("ENGINEHOUSE_SERVER__ADMIN_KEY")
        if not api_key and not anybody:
            api_key = _admin_key(admin_key_file(environ, state))
    ca_file = environ.get("ENGINEHOUSE_CA_FILE")
    return Place(url, api_key, state, daemon, Path(ca_file).expanduser() if ca_file else None)


def _scheme(environ: Mapping[str, str]) -> str:
    return "https" if server_setting(environ, "tls_cert") else "http"


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        good = (
            bool(parts.path) if parts.scheme == "unix" else parts.scheme in {"http", "https"} and bool(parts.hostname)
        )
        good = good and (parts.scheme == "unix" or parts.port != 0)
    except ValueError:
        good = False
    if not good:
        raise Problem(f"The address {url!r} cannot be used; write http://host:port, https://host:port or unix:/path.")


def _is_here(url: str) -> bool:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "unix" or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _admin_key(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
