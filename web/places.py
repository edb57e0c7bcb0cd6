"""Where things are on this machine: folders by the XDG base directory rules, and the files in the state directory.

The daemon and its clients look in the same places without talking to each other, so what both must know is here, and
light enough for a command that only wants to know where the daemon is.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

__all__ = [
    "DEFAULT_PORT",
    "DaemonFile",
    "Problem",
    "admin_key_file",
    "config_file",
    "default_state_directory",
    "house_name",
    "jwt_secret_file",
    "named_state_directory",
    "read_toml",
    "server_setting",
    "state_directory",
]  # fmt: skip

DEFAULT_PORT: Final = 39731


class Problem(Exception):
    """What is configured cannot be used. One sentence: where, which key, what is wrong, what is allowed. Exit 78."""


def config_file(environ: Mapping[str, str]) -> Path:
    """`ENGINEHOUSE_CONFIG`, or `enginehouse/config.toml` in the XDG config folder."""
    named = environ.get("ENGINEHOUSE_CONFIG")
    return Path(named) if named else _xdg(environ, "XDG_CONFIG_HOME", ".config") / "enginehouse" / "config.toml"


def read_toml(path: Path, *, must_exist: bool) -> dict[str, Any]:
    """The tables of a config file; nothing when it may be missing and is. Raises Problem."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        if must_exist:
            raise Problem(f"{path}: there is no such file; name one that exists, or none.") from None
        return {}
    except OSError as error:
        raise Problem(
            f"{path}: the file cannot be read ({error.strerror}); make it readable, or name another."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Problem(f"{path}: this is not TOML ({error}); see https://toml.io for what is.") from None


def state_directory(environ: Mapping[str, str]) -> Path:
    """The one that is named, or the one of XDG. Raises Problem."""
    return named_state_directory(environ) or default_state_directory(environ)


def named_state_directory(environ: Mapping[str, str]) -> Path | None:
    """`ENGINEHOUSE_STATE_DIR`, or `state_dir` of the config file. Raises Problem."""
    named = environ.get("ENGINEHOUSE_STATE_DIR")
    if not named:
        named = read_toml(config_file(environ), must_exist=False).get("state_dir")
    return Path(named).expanduser() if isinstance(named, str) and named else None


def default_state_directory(environ: Mapping[str, str]) -> Path:
    """`enginehouse` in the XDG state folder."""
    return _xdg(environ, "XDG_STATE_HOME", ".local/state") / "enginehouse"


def admin_key_file(environ: Mapping[str, str], state: Path) -> Path:
    """`server.admin_key_file` of the environment or the config file, or `admin.key` in the state folder."""
    named = server_setting(environ, "admin_key_file")
    return Path(named).expanduser() if named else state / "admin.key"


def jwt_secret_file(environ: Mapping[str, str], state: Path) -> Path:
    """`server.jwt_secret_file` of the environment or the config file, or `jwt.secret` in the state folder."""
    named = server_setting(environ, "jwt_secret_file")
    return Path(named).expanduser() if named else state / "jwt.secret"


def server_setting(environ: Mapping[str, str], name: str) -> str | None:
    """A text of the section `server`, from the environment or the config file. Raises Problem."""
    named = environ.get(f"ENGINEHOUSE_SERVER__{name.upper()}")
    if not named:
        server = read_toml(config_file(environ), must_exist=False).get("server")
        named = server.get(name) if isinstance(server, dict) else None
    return named if isinstance(named, str) and named else None


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonFile:
    """`daemon.json`: the daemon that holds this state directory. `started_at`: RFC 3339."""

    url: str
    pid: int
    version: str
    started_at: str

    @classmethod
    def read(cls, state: Path) -> DaemonFile | None:
        """None when no daemon runs there, or it has not got so far."""
        try:
            found = json.loads((state / "daemon.json").read_bytes())
            return cls(**{name: found[name] for name in ("url", "pid", "version", "started_at")})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @classmethod
    def live(cls, state: Path) -> DaemonFile | None:
        """The same, and None for one that was killed: its address may be somebody else's by now. What holds the folder
        is a lock, which the kernel takes back (flock(2)), and no pid, which may be another's too.
        """
        try:
            with (state / "daemon.lock").open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return cls.read(state)
        except OSError:
            pass
        return None

    def write(self, state: Path) -> None:
        """In one step: a reader sees all of it, or what was there before."""
        draft = state / f".daemon.json.{os.getpid()}"
        draft.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")
        draft.chmod(0o600)
        draft.replace(state / "daemon.json")

    @staticmethod
    def remove(state: Path) -> None:
        (state / "daemon.json").unlink(missing_ok=True)


def _xdg(environ: Mapping[str, str], name: str, otherwise: str) -> Path:
    """XDG Base Directory Specification: a relative path in the variable is to be ignored."""
    folder = Path(environ.get(name, ""))
    return folder if folder.is_absolute() else Path(environ.get("HOME") or Path.home()) / otherwise


def house_name(state: Path) -> str:
    """The same for every house of this folder: by it a later one finds the processes that an earlier one left."""
    return f"house-{hashlib.sha256(os.fsencode(state.resolve())).hexdigest()[:12]}"
