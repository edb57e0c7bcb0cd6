"""The daemon's own routes, and the commands that ask them."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from protocol.authority import Authority
from protocol.bodies import NewEngine, NewRun
from protocol.wire import DrainInfo
from supervisor.house import Caller
from tests.logs import logged
from tests.web.doubles import Client, RecordingHouse, client, health
from web.auth.principal import Principal, Scope
from web.client import open_remote
from web.places import Problem
from web.reload import Reloaded

V1 = "/api/v1/admin"
Serving = Callable[..., Any]
Enginehouse = Callable[..., Any]


class Recorder:
    """A daemon that only says what it would have done."""

    def __init__(self) -> None:
        self.stopped: list[tuple[str, float | None]] = []
        self.fault: Problem | None = None

    async def reload(self) -> Reloaded:
        await trio.lowlevel.checkpoint()
        if self.fault:
            raise self.fault
        return Reloaded(changed=["log_level"], needs_restart=["server.port"], unknown=[])

    def shut_down(self, who: str, grace_s: float | None = None) -> float:
        self.stopped.append((who, grace_s))
        return 10.0 if grace_s is None else grace_s


@pytest.fixture
def house() -> RecordingHouse:
    return RecordingHouse()


@pytest.fixture
def daemon() -> Recorder:
    return Recorder()


@pytest.fixture
def ask(house: RecordingHouse, daemon: Recorder) -> Iterator[Client]:
    asker = client(house, daemon=daemon)
    yield asker
    asker.check()


async def test_a_reload_names_what_changed_and_what_did_not(ask: Client) -> None:
    got = await ask.post(f"{V1}/reload")
    assert (got.status, got.json) == (200, {"changed": ["log_level"], "needs_restart": ["server.port"], "unknown": []})


async def test_a_wrong_file_is_422_with_its_sentence_and_without_its_folder(ask: Client, daemon: Recorder) -> None:
    daemon.fault = Problem("/etc/enginehouse/config.toml: server.port: 'x' is not allowed; allowed: 0 to 65535.")
    got = await ask.post(f"{V1}/reload")
    assert (got.status, got.slug) == (422, "validation-failed")
    assert got.json["detail"] == (
        "Nothing was changed. config.toml: server.port: 'x' is not allowed; allowed: 0 to 65535."
    )


async def test_a_drain_is_the_houses(house: RecordingHouse, ask: Client) -> None:
    house.gives["drain"] = DrainInfo(draining=True, engines=2, runs=1)
    assert (await ask.post(f"{V1}/drain")).json == {"draining": True, "engines": 2, "runs": 1}
    await ask.post(f"{V1}/drain", {"cancel": True})
    assert [(name, args[0].principal, more) for name, args, more in house.asked] == [
        ("drain", "key:admin", {"cancel": False}),
        ("drain", "key:admin", {"cancel": True}),
    ]


async def test_a_shutdown_is_answered_before_it_happens_and_may_name_its_grace(ask: Client, daemon: Recorder) -> None:
    got = await ask.post(f"{V1}/shutdown")
    assert (got.status, got.json) == (202, {"grace_s": 10.0})
    assert (await ask.post(f"{V1}/shutdown", {"grace_s": 2})).json == {"grace_s": 2.0}
    assert daemon.stopped == [("key:admin over HTTP", None), ("key:admin over HTTP", 2.0)]


@pytest.mark.parametrize("body", [{"grace_s": -1}, {"grace_s": 1e9}, {"grace_s": "1"}, {"grace": 1}, []])
async def test_a_grace_that_cannot_be_meant_is_422(ask: Client, daemon: Recorder, body: Any) -> None:
    assert (await ask.post(f"{V1}/shutdown", body)).status == 422
    assert daemon.stopped == []


async def test_a_house_without_our_daemon_has_nothing_to_reload_or_end(house: RecordingHouse) -> None:
    for call in ("reload", "shutdown"):
        got = await client(house).post(f"{V1}/{call}")
        assert (got.status, got.slug) == (404, "not-found")


async def test_an_admin_of_some_pools_steers_no_house(
    house: RecordingHouse, ask: Client, daemon: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = Principal(name="key:p", authority=Authority(scopes=frozenset({Scope.ADMIN}), pools=frozenset({"p"})))
    keys: Any = ask.app.services.keys  # type: ignore[attr-defined]  # the app is an Api
    monkeypatch.setattr(keys, "principal", lambda presented: bound)
    for call in ("reload", "shutdown"):  # the drain is refused by the house itself
        got = await ask.post(f"{V1}/{call}")
        assert (got.status, got.slug) == (403, "insufficient-scope")
    assert (house.asked, daemon.stopped) == ([], [])


async def test_a_draining_house_is_not_ready_and_says_why(house: RecordingHouse, ask: Client) -> None:
    house.gives["health"] = health(draining=DrainInfo(draining=True, engines=1, runs=1))
    got = await ask.get("/health/ready")
    assert (got.status, got.slug, "retry-after" in got.headers) == (503, "draining", True)
    assert (await ask.get("/health/live")).status == 200
    assert (await ask.get("/api/v1/health")).json["draining"] == {"draining": True, "engines": 1, "runs": 1}


# -- a daemon, and the command line ------------------------------------------------------------------------------------
async def test_reload_drain_and_shutdown_from_the_command_line(
    serving: Serving, enginehouse: Enginehouse, tmp_path: Path
) -> None:
    file = tmp_path / "config.toml"
    file.write_text("")
    daemon = serving(tmp_path, "--port", "0", "--config", str(file))

    async def cli(*arguments: str) -> tuple[int, str, str]:
        done = await trio.to_thread.run_sync(lambda: enginehouse(tmp_path, *arguments))
        return done.returncode, done.stdout, done.stderr

    async with open_remote(daemon.url, api_key=daemon.key) as house:
        await house.spawn(NewEngine(kind="probe", id="a"))
        run, _ = await house.submit("a", NewRun(input={"steps": 2, "step_s": 0.1}), Caller())
        file.write_text('log_level = "debug"\n[server]\nunix_socket = "x.sock"')
        assert await cli("reload") == (0, "Changed: log_level.\nOnly after a restart: server.unix_socket.\n", "")
        file.write_text("[server]\ngrace_s = -1")
        code, out, err = await cli("reload")
        assert (code, out, err.startswith("error: Nothing was changed. config.toml: server.grace_s")) == (2, "", True)
        file.write_text("")
        code, out, err = await cli("drain", "--wait", "--json")
        assert (code, json.loads(out)) == (0, {"draining": True, "engines": 0, "runs": 0}), err
        assert (await house.run(run.id)).status == "completed"
        assert (await house.get("a")).state == "stopped"
        code, out, _ = await cli("spawn", "probe")
        assert code == 4
        assert await cli("drain", "--cancel") == (0, "The house takes work again.\n", "")
        assert (await house.get("a")).state in {"starting", "running"}
    assert (await cli("shutdown", "--grace", "2"))[:2] == (0, "The daemon ends within 2 s and a few more.\n")
    assert await trio.to_thread.run_sync(daemon.process.wait, 15) == 0
    assert [(line["who"], line["grace_s"]) for line in logged(daemon.state) if line["event"] == "stopping"] == [
        ("key:admin over HTTP", 2.0)
    ]


async def test_a_shutdown_over_http_uses_the_grace_that_it_names(serving: Serving, tmp_path: Path) -> None:
    daemon = serving(tmp_path, "--port", "0", ENGINEHOUSE_SERVER__GRACE_S="3600")
    async with open_remote(daemon.url, api_key=daemon.key) as house:
        await house.spawn(NewEngine(kind="probe", id="a"))
        await house.submit("a", NewRun(input={"steps": 1, "step_s": 3000, "ignore_cancel_s": 3000}))
        assert await house.call("POST", "admin", "shutdown", body={"grace_s": 1}) == {"grace_s": 1.0}
    assert await trio.to_thread.run_sync(daemon.process.wait, 30) in {0, -signal.SIGTERM}
