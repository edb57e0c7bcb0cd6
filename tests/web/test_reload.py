"""Settings that are read again: each is taken or named, and a wrong one changes nothing."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

from tests.logs import logged
from tests.web.doubles import NOW_S, identity
from web import live
from web.auth import admin_key, read_signing_keys, rotate_signing_keys
from web.loaded import Loaded, load
from web.places import Problem
from web.reload import Change, Reload
from web.settings import settings_keys

Serving = Callable[..., Any]
Enginehouse = Callable[..., Any]
NEW_KEY = "another-admin-key-that-is-long-enough"


# -- what is taken, and what is named ----------------------------------------------------------------------------------
def loaded(tmp_path: Path, toml: str = "") -> Loaded:
    file = tmp_path / "config.toml"
    file.write_text(toml)
    return load({"HOME": str(tmp_path), "ENGINEHOUSE_CONFIG": str(file)})


def other_than(before: Loaded, key: str) -> Loaded:
    """The same settings with another value of this one."""
    *sections, name = key.split(".")
    there: Any = object()
    for depth in range(len(sections), -1, -1):
        table = reduce(getattr, sections[:depth], before.settings)
        there = table.model_copy(update={name: there})
        name = sections[depth - 1] if depth else ""
    return replace(before, settings=there)


@pytest.mark.parametrize("key", sorted(set(settings_keys()) - set(settings_keys(live=True))))
async def test_what_cannot_change_live_is_named_each_time_and_stays(key: str, tmp_path: Path) -> None:
    before = loaded(tmp_path)
    reload = Reload(replace(before, again=lambda: other_than(before, key)))
    for _ in range(2):
        done = await reload()
        assert (done.changed, done.needs_restart) == ([], [key])
    assert reload.loaded.settings == before.settings


async def test_parts_take_only_when_every_one_of_them_has_prepared(tmp_path: Path) -> None:
    taken: list[str] = []

    def good(loaded: Loaded) -> Change:
        return Change(partial(taken.append, loaded.settings.log_level), ("server.admin_key_file",))

    def bad(loaded: Loaded) -> Change:
        if loaded.settings.log_level == "error":
            raise Problem("The file of this part cannot be read.")
        return Change(partial(taken.append, "second"))

    reload = Reload(loaded(tmp_path))
    reload.register(good)
    reload.register(bad)
    loaded(tmp_path, 'log_level = "error"')
    with pytest.raises(Problem, match="cannot be read"):
        await reload()
    assert (taken, reload.loaded.settings.log_level) == ([], "info")
    loaded(tmp_path, 'log_level = "debug"')
    done = await reload()
    assert taken == ["debug", "second"]
    assert (done.changed, reload.loaded.origin("log_level")) == (
        ["log_level", "server.admin_key_file"],
        str(tmp_path / "config.toml"),
    )


async def test_live_settings_that_do_not_go_with_what_stays_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old and new are both good; the old address with the new rest of it would be open to everybody."""
    monkeypatch.setattr(
        "web.loaded.settings_keys",
        lambda *, live=False: ["server.host", "server.behind_proxy", "server.trusted_proxies"][live:],
    )
    before = loaded(tmp_path, '[server]\nhost = "0.0.0.0"\nbehind_proxy = true\ntrusted_proxies = ["10.0.0.1"]')
    loaded(tmp_path)
    with pytest.raises(Problem, match=r"0\.0\.0\.0"):
        before.taking(before.again())


async def test_the_keys_that_sign_are_read_again(tmp_path: Path) -> None:
    secret = tmp_path / "jwt.secret"
    who = identity(admin=admin_key(tmp_path / "admin.key"), signing=read_signing_keys(secret))
    other = rotate_signing_keys(secret, NOW_S)
    assert who.access.keys != other
    live.admission(who, tmp_path)(loaded(tmp_path)).take()
    assert who.access.keys == other


def test_the_page_says_which_settings_are_live(root: Path) -> None:
    table = (root / "docs/operations.md").read_text().partition("| live | needs a restart |")[2].splitlines()[2]
    live, rest = (re.findall(r"`([a-z_.]+)`", cell) for cell in table.split("|")[1:3])
    assert live == settings_keys(live=True)
    assert rest == [key for key in settings_keys() if key not in live]


# -- a daemon ----------------------------------------------------------------------------------------------------------
@dataclass
class House:
    """A daemon that reads `config.toml`. `said`: what its file says now, as nested tables."""

    daemon: Any
    file: Path
    key: str
    said: dict[str, dict[str, Any]] = field(default_factory=dict)
    reloads: int = 0

    def write(self, key: str, value: Any) -> None:
        section, _, name = key.rpartition(".")
        self.said.setdefault(section, {})[name] = value
        tables = ((table, values) for table, values in sorted(self.said.items()))
        lines = [
            line
            for table, values in tables
            for line in ([f"[{table}]"] if table else []) + [f"{name} = {json.dumps(v)}" for name, v in values.items()]
        ]
        self.file.write_text("\n".join(lines))

    def connect(self) -> HTTPConnection:
        host, _, port = self.daemon.url.removeprefix("http://").rpartition(":")
        return HTTPConnection(host, int(port), timeout=30)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        connection = self.connect()
        try:
            fields = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"} | headers
            connection.request(method, path, None if body is None else json.dumps(body), fields)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def reload(self) -> dict[str, Any]:
        status, answer = self.ask("POST", "/api/v1/admin/reload")
        assert status == 200, answer
        self.reloads += 1
        return dict(answer)

    @property
    def log(self) -> list[dict[str, Any]]:
        return logged(self.daemon.state)


@pytest.fixture
def house(serving: Serving, tmp_path: Path) -> House:
    file = tmp_path / "config.toml"
    file.write_text("")
    daemon = serving(tmp_path, "--port", "0", "--config", str(file))
    return House(daemon, file, daemon.key)


def status_with(house: House, key: str) -> int:
    return house.ask("GET", "/api/v1/auth/whoami", Authorization=f"Bearer {key}")[0]


def metrics_are_public(house: House) -> bool:
    """Whether somebody without a key gets them."""
    connection = house.connect()
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().status == 200
    finally:
        connection.close()


def nothing_is_written_of_a_request(house: House) -> bool:
    name = f"request-{house.reloads}"
    house.ask("DELETE", "/api/v1/engines/nobody", **{"X-Request-Id": name})
    house.ask("GET", "/api/v1/health")  # by then the line of the one before is written
    return all(line.get("correlation_id") != name for line in house.log)


def quiet_stream_is_told_of_at_once(house: House) -> bool:
    """Whether a stream without events sends a comment before a patient client has had enough."""
    connection = house.connect()
    connection.connect()
    assert connection.sock is not None
    connection.sock.settimeout(8)
    connection.request("GET", "/api/v1/events", headers={"Authorization": f"Bearer {house.key}"})
    answer = connection.getresponse()
    try:
        while answer.readline() != b": heartbeat\n":
            pass
    except TimeoutError:
        return False
    finally:
        connection.close()
    return True


def third_connection_is_turned_away(house: House) -> bool:
    open_ones = [house.connect() for _ in range(2)]
    try:
        for connection in open_ones:
            connection.request("GET", "/health/live")
            assert connection.getresponse().read()
        return house.ask("GET", "/health/live")[0] == 503
    finally:
        for connection in open_ones:
            connection.close()


def second_key(house: House) -> Path:
    path = house.file.with_name("second.key")
    if not path.exists():
        path.touch(0o600)
        path.write_text(NEW_KEY)
    return path


Value = Callable[[House], Any]


def bodies_are_kept(house: House) -> bool:
    house.ask("POST", "/api/v1/engines", {"kind": "no such kind"})
    newest = house.ask("GET", "/api/v1/admin/audit?limit=1")[1]["items"][0]
    return "no such kind" in json.dumps(newest)


def closed_by_itself(house: House, sent: bytes) -> bool:
    """Whether the server has had enough long before it would by default."""
    host, _, port = house.daemon.url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=3) as sock:
        sock.sendall(sent)
        try:
            while sock.recv(4096):
                pass
        except TimeoutError:
            return False
    return True


def preflight(house: House) -> bool:
    connection = house.connect()
    try:
        asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "GET"}
        connection.request("OPTIONS", "/api/v1/engines", headers=asked)
        return connection.getresponse().getheader("access-control-allow-origin") == "https://app.example"
    finally:
        connection.close()


def new_key(house: House) -> dict[str, Any]:
    return dict(house.ask("POST", "/api/v1/auth/keys", {"name": "k", "scopes": ["read"]})[1])


def second_stream_is_refused(house: House) -> bool:
    headers = {"Authorization": f"Bearer {new_key(house)['key']}"}
    first, second = house.connect(), house.connect()
    try:
        first.request("GET", "/api/v1/events", headers=headers)
        assert first.getresponse().status == 200
        second.request("GET", "/api/v1/events", headers=headers)
        return second.getresponse().status == 429
    finally:
        first.close()
        second.close()


EFFECTS: dict[str, tuple[Value, Callable[[House], bool]]] = {
    "log_level": (
        lambda _: "error",
        lambda house: [line["event"] for line in house.log].count("reloaded") < house.reloads,
    ),
    "server.allowed_hosts": (
        lambda _: ["house.example"],
        lambda house: house.ask("GET", "/health", Host="house.example")[0] == 200,
    ),
    "server.admin_key_file": (lambda house: str(second_key(house)), lambda house: status_with(house, NEW_KEY) == 200),
    "server.admin_key": (lambda _: NEW_KEY, lambda house: status_with(house, NEW_KEY) == 200),
    "server.heartbeat_s": (lambda _: 1, quiet_stream_is_told_of_at_once),
    "server.grace_s": (lambda _: 3, lambda house: house.ask("POST", "/api/v1/admin/shutdown")[1] == {"grace_s": 3}),
    "limits.body_bytes": (
        lambda _: 1024,
        lambda house: house.ask("POST", "/api/v1/engines", {"kind": "x" * 2000})[0] == 413,
    ),
    "audit.level": (lambda _: "request", bodies_are_kept),
    "metrics.public": (lambda _: True, metrics_are_public),
    "log.access": (lambda _: False, nothing_is_written_of_a_request),
    "limits.connections": (lambda _: 2, third_connection_is_turned_away),
    "limits.address_connections": (lambda _: 2, third_connection_is_turned_away),
    "limits.header_bytes": (lambda _: 1024, lambda house: house.ask("GET", "/health", Long="x" * 2000)[0] == 431),
    "limits.header_fields": (
        lambda _: 8,
        lambda house: house.ask("GET", "/health", **{f"X-{n}": "x" for n in range(20)})[0] == 431,
    ),
    "limits.header_s": (lambda _: 0.1, lambda house: closed_by_itself(house, b"GET / HT")),
    "limits.body_s": (
        lambda _: 0.1,
        lambda house: closed_by_itself(
            house,
            b"POST /api/v1/engines HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer " + house.key.encode() + b"\r\nContent-Length: 10\r\n\r\n{",
        ),
    ),
    "limits.keep_alive_s": (
        lambda _: 0.1,
        lambda house: closed_by_itself(house, b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ),
    "limits.streams": (lambda _: 1, second_stream_is_refused),
    "limits.rate_per_min": (lambda _: 7, lambda house: new_key(house)["rate_per_min"] == 7),
    "limits.failures_per_min": (
        lambda _: 1,
        lambda house: [status_with(house, "wrong") for _ in range(3)][-1] == 429,
    ),
    "server.cors_origins": (lambda _: ["https://app.example"], preflight),
}
"""For each live setting another value, and whether it is in force."""


ELSEWHERE = {
    "limits.body_rate_bytes",  # both reach a connection in the record that brings body_s and header_s,
    "limits.send_s",  # and what they do there is in test_server.py
    "server.tls_cert",  # below
    "server.tls_key",
}


def test_every_live_setting_has_its_effect_here() -> None:
    assert set(EFFECTS) | ELSEWHERE == set(settings_keys(live=True))
    assert not set(EFFECTS) & ELSEWHERE


@pytest.mark.parametrize("key", EFFECTS)
def test_a_live_setting_is_in_force_after_a_reload(key: str, house: House) -> None:
    value, in_force = EFFECTS[key]
    if key not in {"server.grace_s", "server.heartbeat_s"}:  # whose effect cannot be asked for twice, or takes a while
        assert house.reload()["changed"] == []
        assert not in_force(house)
    house.write(key, value(house))
    assert house.reload()["changed"] == [key]
    assert in_force(house)


def certificate(path: Path) -> None:
    line = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    line += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    line += ["-keyout", f"{path}.key", "-out", f"{path}.pem"]
    subprocess.run(line, check=True, capture_output=True, timeout=60)


def over_tls(house: House) -> tuple[int, Any, bytes]:
    """What a reload answers, and the certificate that is offered after it."""
    host, _, port = house.daemon.url.removeprefix("https://").rpartition(":")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = HTTPSConnection(host, int(port), timeout=30, context=context)
    try:
        connection.request("POST", "/api/v1/admin/reload", headers={"Authorization": f"Bearer {house.key}"})
        answer = connection.getresponse()
        found = json.loads(answer.read())
    finally:
        connection.close()
    return answer.status, found, ssl.get_server_certificate((host, int(port))).encode()


def test_a_certificate_is_renewed_and_moved_and_a_wrong_one_changes_nothing(serving: Serving, tmp_path: Path) -> None:
    both = ["server.tls_cert", "server.tls_key"]

    def write(cert: str, key: str) -> None:
        file.write_text(f'[server]\ntls_cert = "{tmp_path}/{cert}.pem"\ntls_key = "{tmp_path}/{key}.key"')

    certificate(tmp_path / "a")
    file = tmp_path / "config.toml"
    write("a", "a")
    daemon = serving(tmp_path, "--port", "0", "--config", str(file))
    house = House(daemon, file, daemon.key)
    _, done, first = over_tls(house)
    assert done["changed"] == []
    certificate(tmp_path / "a")
    _, done, second = over_tls(house)
    assert done["changed"] == ["server.tls_cert"]
    certificate(tmp_path / "b")
    write("b", "b")
    _, done, third = over_tls(house)
    assert done["changed"] == both
    assert len({first, second, third}) == 3
    write("b", "a")
    status, _, same = over_tls(house)
    assert (status, same) == (422, third)
    file.write_text("")
    _, done, same = over_tls(house)  # a socket with TLS stays one
    assert (done["changed"], done["needs_restart"], same) == ([], both, third)


def test_a_wrong_file_changes_nothing_and_is_told_in_one_sentence(house: House) -> None:
    house.write("server.allowed_hosts", ["house.example"])
    house.write("limits.body_bytes", 5)
    status, answer = house.ask("POST", "/api/v1/admin/reload")
    sentence = "config.toml: limits.body_bytes: 5 is not allowed; allowed: 1024 to 1073741824 bytes."
    assert (status, answer["type"], answer["detail"]) == (
        422, "/problems/validation-failed", f"Nothing was changed. {sentence}",
    )  # fmt: skip
    assert str(house.file.parent) not in json.dumps(answer)
    assert house.ask("GET", "/health", Host="house.example")[0] == 421
    assert [line["why"] for line in house.log if "why" in line][-1] == f"{house.file.parent}/{sentence}"


def test_what_needs_a_restart_is_named_and_the_rest_is_taken(house: House) -> None:
    house.write("server.port", 1)
    house.write("server.allowed_hosts", ["house.example"])
    done = house.reload()
    # The port was given on the command line, which wins: nothing about it is different.
    assert done == {"changed": ["server.allowed_hosts"], "needs_restart": [], "unknown": []}
    house.write("server.unix_socket", str(house.file.with_name("house.sock")))
    assert house.reload() == {"changed": [], "needs_restart": ["server.unix_socket"], "unknown": []}


def test_an_admin_key_that_is_replaced_in_its_file_is_taken_and_the_old_one_is_none(house: House) -> None:
    path = house.daemon.state / "admin.key"
    path.write_text(NEW_KEY)
    assert house.reload()["changed"] == ["server.admin_key_file"]
    assert (status_with(house, house.key), status_with(house, NEW_KEY)) == (401, 200)
    house.key = NEW_KEY
    path.unlink()
    status, answer = house.ask("POST", "/api/v1/admin/reload")
    assert (status, "there is no admin key" in answer["detail"]) == (422, True)
    path.touch(0o600)
    path.write_text("short")
    assert house.ask("POST", "/api/v1/admin/reload")[0] == 422
    assert status_with(house, NEW_KEY) == 200


def test_hangup_reloads_and_tells_service_managers(serving: Serving, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        file = tmp_path / "config.toml"
        file.write_text("")
        names = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3600000000"}
        daemon = serving(tmp_path, "--port", "0", "--config", str(file), **names)
        assert manager.recv(1000) == b"WATCHDOG=1"
        assert manager.recv(1000).splitlines() == [b"READY=1", f"STATUS=at {daemon.url}".encode()]
        file.write_text("[server]\ngrace_s = -1")
        daemon.process.send_signal(signal.SIGHUP)
        assert manager.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert manager.recv(1000) == b"READY=1"
        house = House(daemon, file, daemon.key)
        file.write_text('[server]\nallowed_hosts = ["house.example"]')
        daemon.process.send_signal(signal.SIGHUP)
        assert manager.recv(1000).startswith(b"RELOADING=1")
        assert manager.recv(1000) == b"READY=1"
        assert house.ask("GET", "/health", Host="house.example")[0] == 200
        assert [line["event"] for line in house.log if "reloaded" in line["event"]] == [
            "not reloaded: nothing was changed",
            "reloaded",
        ]
        assert daemon.stop() == os.EX_OK
        assert manager.recv(1000) == b"STOPPING=1"
