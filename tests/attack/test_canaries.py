"""Secrets that would be recognised anywhere: the house is used in every way, and then looked through for them."""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest

from tests.attack.matrix import PASSWORD, ROWS, World
from tests.attack.target import Target, ended, started
from tests.attack.wire import Answer, Line, request
from tests.e2e.daemons import processes_with
from web.routes import ROUTES

MARK: Final = uuid4().hex
ADMIN: Final = f"admin-canary-{uuid4().hex}-{uuid4().hex}"
ENVIRONMENT: Final = {
    "AWS_SECRET_ACCESS_KEY": f"aws-canary-{uuid4().hex}",
    "ANTHROPIC_API_KEY": f"model-canary-{uuid4().hex}",
    "GITHUB_TOKEN": f"forge-canary-{uuid4().hex}",
    "DATABASE_URL": f"postgres://user:db-canary-{uuid4().hex}@localhost/x",
    "SSH_AUTH_SOCK": f"/tmp/agent-canary-{uuid4().hex}",
}
"""What a user's shell may hold when the daemon is started from it."""

GRANTED: Final = f"granted-canary-{uuid4().hex}"
"""What one engine's config gives to its own programs; only they may have it, and the row that says so."""


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    env = {"ENGINEHOUSE_SERVER__ADMIN_KEY": ADMIN, "ENGINEHOUSE_LOG_LEVEL": "debug", **ENVIRONMENT}
    target = Canaried(started(tmp_path_factory.mktemp("canaries") / "state", env=env).daemon)
    yield target
    ended(target)


class Canaried(Target):
    """Keeps every byte that came back."""

    def __init__(self, daemon: Any) -> None:
        super().__init__(daemon)
        self.heard: list[Answer] = []

    @property
    def admin(self) -> str:
        return ADMIN

    async def exchange(self, sent: bytes, method: bytes = b"GET") -> Answer:
        answer = await super().exchange(sent, method)
        self.heard.append(answer)
        return answer


def forms(secret: str) -> list[bytes]:
    """A secret as it is, and as it would be found where somebody had encoded it on the way."""
    raw = secret.encode()
    return [raw, b64encode(raw)[:-4], raw.hex().encode(), json.dumps(secret)[1:-1].encode(), secret[::-1].encode()]


def files(state: Path) -> Iterator[tuple[Path, bytes]]:
    for path in sorted(state.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            yield path, gzip.decompress(data) if path.suffix == ".gz" else data


async def use_everything(target: Canaried) -> list[str]:
    """Every route, well and badly, with and without its secrets in the wrong places; the keys that were made."""
    world = World(target)
    await world.make()
    operator = await target.key("operate", "read")
    doomed = await target.key("read")
    for name, row in ROWS.items():
        route = next(route for route in ROUTES if route.operation == name.partition(":")[0])
        for key in (operator, doomed, doomed + "x", *([] if row.ends else [ADMIN])):
            path = route.path.format_map({**world.there, **await world.fresh(route.operation)})
            await target.ask(route.method, path, row.body, "Accept: application/json", key=key)
            await target.ask(route.method, path, b'{"broken":', "Accept: application/json", key=key)
    await target.ask("DELETE", f"/api/v1/auth/keys/{doomed.split('_')[1]}")
    login = (await world.login("login", cookie=True)).json
    await target.ask("POST", "/api/v1/auth/login", {"username": "login", "password": f"{PASSWORD}!"}, key=None)
    await target.ask("PATCH", "/api/v1/auth/users/login", {"password": f"{PASSWORD}!!"})
    # In the wrong places: what is sent there is echoed, logged or journaled more easily.
    for path in (f"/api/v1/engines?api_key={operator}", f"/api/v1/engines?access_token={operator}"):
        await target.ask("GET", path, key=None)
        await target.ask("GET", path)
    # A path is told back to its sender, as `instance`; it is not kept either.
    await Target(target.daemon).ask("GET", f"/api/v1/{operator}", key=ADMIN)
    await target.ask("GET", "/api/v1/engines", None, f"Authorization: Basic {operator}")
    await target.ask("GET", "/api/v1/engines", None, f"X-API-Key: {operator}", key=ADMIN)
    await target.ask("GET", "/api/v1/engines", None, f"Cookie: session={operator}", key=None)
    line = await Line.open(target.port)
    await line.send(request("GET", "/api/v1/engines", f"Authorization: Bearer {operator}\0"))
    await line.answer()
    line.close()
    return [operator, doomed, *(f"x_x_{login[name]}" for name in ("access_token", "refresh_token")), f"x_x_{PASSWORD}"]


async def test_no_secret_is_anywhere_but_where_it_was_granted(used: Canaried) -> None:
    shell = await used.engine(
        "shell", config={"env": {"GRANTED": GRANTED, "MARK": MARK}, "cwd": str(used.daemon.state.parent)}
    )
    run = await used.run(
        shell, "env; cat /proc/self/environ; cat /proc/$PPID/environ; ps -ef 2>/dev/null; echo $GRANTED | rev"
    )
    assert run["status"] == "completed", run
    child = await used.engine("process", config={"argv": ["sleep", "1000"], "protocol": "none", "env": {"MARK": MARK}})
    await used.ask("POST", f"/api/v1/engines/{child}/commands", {"type": "start"}, "Prefer: wait=10")
    keys = await use_everything(used)

    secrets = {"the admin key": ADMIN, **ENVIRONMENT}
    secrets |= {f"key {number}": key.split("_", 2)[2] for number, key in enumerate(keys)}
    heard = [
        (str(index), _whole(answer))
        for index, answer in enumerate(used.heard)
        if '"key":"eh_' not in _text(answer) and '"access_token":' not in _text(answer)
    ]
    assert len(used.heard) - len(heard) >= 3, "a key is shown once, when it is made"
    kept = [(str(path), data) for path, data in files(used.daemon.state)]
    assert any(path.endswith("journal.db") for path, _ in kept)
    children = processes_with(MARK)
    assert len(children) >= 2
    seen = [(f"{pid}/{name}", data) for pid in _descendants(used.daemon.pid) for name, data in _of_process(pid)]
    for name, secret in secrets.items():
        for form in forms(secret):
            found = [where for where, data in (*heard, *kept, *seen) if form in data]
            assert found == [], f"{name} is in {found}"
    output = await used.output(run["id"])
    assert GRANTED.encode() in output, "what was granted is there"
    assert not [pid for pid in _descendants(used.daemon.pid) if GRANTED in _environ(pid) and MARK not in _environ(pid)]
    shown = (await used.ask("GET", f"/api/v1/engines/{shell}")).body
    assert GRANTED.encode() not in shown, "in a config the values of the environment are masked"
    assert [name for name, data in kept if GRANTED.encode() in data and "logs" in name] == []


def test_the_command_line_of_the_daemon_has_no_secret(used: Canaried) -> None:
    line = Path(f"/proc/{used.daemon.pid}/cmdline").read_bytes()
    assert ADMIN.encode() not in line


def test_what_is_kept_is_for_the_owner_alone(used: Canaried) -> None:
    state = used.daemon.state
    assert state.stat().st_mode & 0o777 == 0o700
    for path in state.rglob("*"):
        if "logs" in path.parts or path.name in {"journal.db", "admin.key", "daemon.json"}:
            assert path.stat().st_mode & 0o077 == 0 or path.parent.stat().st_mode & 0o077 == 0, path


def _text(answer: Answer) -> str:
    return answer.body.decode("utf-8", "replace")


def _whole(answer: Answer) -> bytes:
    return repr(answer.headers).encode() + answer.body


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *_descendants(int(child))]
    return found


def _of_process(pid: int) -> Iterator[tuple[str, bytes]]:
    for name in ("environ", "cmdline"):
        with suppress(OSError):
            yield name, Path(f"/proc/{pid}/{name}").read_bytes()


def _environ(pid: int) -> str:
    return "".join(data.decode(errors="replace") for name, data in _of_process(pid) if name == "environ")
