"""`enginehouse serve` as a process: its files, its exit codes, its end, and what comes back after a kill."""

import signal
import socket
import ssl
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from protocol.bodies import NewEngine, NewRun
from supervisor.house import Filter, Frame
from tests.logs import logged
from tests.web.certificates import Certificate
from web.client import open_remote

Serving = Callable[..., Any]
Enginehouse = Callable[..., subprocess.CompletedProcess[str]]


def test_it_says_where_it_is_and_leaves_its_files_to_its_owner_alone(serving: Serving, tmp_path: Path) -> None:
    daemon = serving(tmp_path)
    assert daemon.url in daemon.said
    assert daemon.file["pid"] == daemon.process.pid
    assert daemon.state.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o077 for path in daemon.state.iterdir() if path.name != "daemon.lock"}
    assert set(modes.values()) == {0}, modes
    assert len(daemon.key) >= 32
    daemon.process.send_signal(signal.SIGHUP)
    headers = {"authorization": f"Bearer {daemon.key}"}
    assert httpx2.post(f"{daemon.url}/api/v1/admin/reload", headers=headers).status_code == 200  # after the signal's
    assert daemon.stop() == 0
    assert not (daemon.state / "daemon.json").exists()
    events = [line["event"] for line in logged(daemon.state)]
    assert (events[0], events[-1]) == ("ready", "stopped")
    assert "reloaded" in events


def test_a_folder_that_is_held_answers_with_the_address_of_its_holder(
    serving: Serving, enginehouse: Enginehouse, tmp_path: Path
) -> None:
    daemon = serving(tmp_path)
    second = enginehouse(tmp_path, "serve")
    assert (second.returncode, second.stdout.strip()) == (0, daemon.url)
    assert second.stderr == f"already running, pid {daemon.process.pid}\n"
    other = enginehouse(tmp_path, "serve", "--port", "4")
    assert other.returncode == 69
    assert daemon.url in other.stderr
    assert enginehouse(tmp_path, "serve", "--port", daemon.url.rpartition(":")[2]).returncode == 0


def test_a_busy_port_that_was_asked_for_is_told_and_otherwise_a_free_one_is_taken(
    serving: Serving, enginehouse: Enginehouse, tmp_path: Path
) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = str(busy.getsockname()[1])
        refused = enginehouse(tmp_path, "serve", "--port", port)
        assert (refused.returncode, f"Port {port} is in use" in refused.stderr) == (69, True)
        assert not list(tmp_path.rglob("journal.db")), "the house was opened before its port was known to be free"
        daemon = serving(tmp_path, "--port", port, ENGINEHOUSE_SERVER__PORT_FALLBACK="true")
        assert daemon.url != f"http://127.0.0.1:{port}"
        assert f"warning: port {port} is in use" in daemon.said
        assert daemon.stop() == 0


def test_a_wrong_configuration_is_78_and_one_sentence(enginehouse: Enginehouse, tmp_path: Path) -> None:
    for names in ({"ENGINEHOUSE_PORT": "many"}, {"ENGINEHOUSE_HOST": "0.0.0.0"}, {"ENGINEHOUSE_HOST": "192.0.2.1"}):
        proxied = {"ENGINEHOUSE_SERVER__BEHIND_PROXY": "true", "ENGINEHOUSE_SERVER__TRUSTED_PROXIES": "192.0.2.7"}
        proxied = proxied if "192.0.2.1" in names.values() else {}
        wrong = enginehouse(tmp_path, "serve", **names, **proxied)
        assert wrong.returncode == 78, wrong
        assert wrong.stderr.startswith("error: ENGINEHOUSE_")
        assert wrong.stderr.count("\n") == 1


def test_it_listens_on_both_loopback_addresses_and_a_port_must_be_free_on_both(
    serving: Serving, enginehouse: Enginehouse, tmp_path: Path
) -> None:
    daemon = serving(tmp_path)
    port = int(daemon.url.rpartition(":")[2])
    for address in ("127.0.0.1", "::1"):
        with socket.create_connection((address, port)) as stream:
            stream.sendall(b"GET /health/live HTTP/1.0\r\nHost: localhost\r\n\r\n")
            assert stream.recv(100).startswith(b"HTTP/1.1 200")
    assert daemon.stop() == 0
    with socket.socket(socket.AF_INET6) as busy:
        busy.bind(("::1", 0))
        busy.listen()
        refused = enginehouse(tmp_path, "serve", "--port", str(busy.getsockname()[1]))
        assert (refused.returncode, "is in use" in refused.stderr) == (69, True)


def test_an_address_that_was_named_is_listened_on_alone(serving: Serving, tmp_path: Path) -> None:
    daemon = serving(tmp_path, "--host", "127.0.0.1", "--port", "0")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("::1", int(daemon.url.rpartition(":")[2])))
    assert daemon.stop() == 0


def test_a_unix_socket_in_a_folder_that_others_may_write_to_is_78(enginehouse: Enginehouse, tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    wrong = enginehouse(tmp_path, "serve", "--port", "0", "--unix-socket", str(folder / "s"))
    assert (wrong.returncode, f"others may write to {folder}" in wrong.stderr) == (78, True), wrong.stderr


def tls_names(made: Certificate) -> dict[str, str]:
    return {
        "ENGINEHOUSE_SERVER__TLS_CERT": str(made.cert),
        "ENGINEHOUSE_SERVER__TLS_KEY": str(made.key),
        "ENGINEHOUSE_CA_FILE": str(made.cert),
    }


def offered(port: int) -> bytes:
    """The certificate, as the daemon shows it now."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as secure:
        return secure.getpeercert(binary_form=True) or b""


async def test_tls_is_served_found_by_the_commands_and_renewed_by_sighup(
    serving: Serving, enginehouse: Enginehouse, certificate: Callable[..., Certificate], tmp_path: Path
) -> None:
    made, next_one = certificate(), certificate()
    names = tls_names(made)
    daemon = serving(tmp_path, "--port", "0", **names)
    assert daemon.url.startswith("https://127.0.0.1:")
    port = int(daemon.url.rpartition(":")[2])
    for line in ("status", "list"):
        asked = await trio.to_thread.run_sync(partial(enginehouse, tmp_path, line, **names))
        assert asked.returncode == 0, asked
        blind = await trio.to_thread.run_sync(partial(enginehouse, tmp_path, line))
        assert (blind.returncode, "ENGINEHOUSE_CA_FILE" in blind.stderr) == (69, True), blind
    async with open_remote(daemon.url, api_key=daemon.key, ca_file=made.cert) as house:
        await house.spawn(NewEngine(kind="probe", id="a"))
        async with house.events(Filter(engine="a"), after="0") as stream:
            assert await stream.receive()
            before = await trio.to_thread.run_sync(offered, port)
            made.cert.write_bytes(next_one.cert.read_bytes())
            made.key.write_bytes(next_one.key.read_bytes())
            daemon.process.send_signal(signal.SIGHUP)
            with trio.fail_after(30):
                while await trio.to_thread.run_sync(offered, port) == before:
                    pass
            async with open_remote(daemon.url, api_key=daemon.key, ca_file=made.cert) as other:
                await other.pause("a")
            types: list[str] = []
            while "engine.paused" not in types:
                types += [frame.event for frame in await stream.receive()]
    asked = await trio.to_thread.run_sync(partial(enginehouse, tmp_path, "status", **names))
    assert asked.returncode == 0, asked
    assert await trio.to_thread.run_sync(daemon.stop) == 0


def test_a_tls_key_that_others_may_read_is_78(
    enginehouse: Enginehouse, certificate: Callable[..., Certificate], tmp_path: Path
) -> None:
    made = certificate()
    made.key.chmod(0o644)
    wrong = enginehouse(tmp_path, "serve", "--port", "0", **tls_names(made))
    assert wrong.returncode == 78
    assert wrong.stderr == (
        f"error: server.tls_key: others may read or replace {made.key}; make it ours alone, with chmod 600.\n"
    )


def test_a_proxy_is_believed_and_a_page_may_call_where_that_is_configured(serving: Serving, tmp_path: Path) -> None:
    daemon = serving(
        tmp_path,
        "--port",
        "0",
        ENGINEHOUSE_SERVER__BEHIND_PROXY="true",
        ENGINEHOUSE_SERVER__ALLOWED_HOSTS="house.example",
        ENGINEHOUSE_SERVER__CORS_ORIGINS="https://app.example",
    )
    with socket.create_connection(("127.0.0.1", int(daemon.url.rpartition(":")[2]))) as stream:
        lines = ["GET /health/live HTTP/1.0", "Host: house.example", "X-Forwarded-Proto: https"]
        stream.sendall("\r\n".join([*lines, "Origin: https://app.example", "", ""]).encode())
        answer = stream.recv(10_000).lower()
    assert b"\r\nstrict-transport-security: " in answer
    assert b"\r\naccess-control-allow-origin: https://app.example\r\n" in answer
    assert daemon.stop() == 0


def test_a_weak_or_open_admin_key_is_78(enginehouse: Enginehouse, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "admin.key").write_text("short\n")
    (state / "admin.key").chmod(0o600)
    wrong = enginehouse(tmp_path, "serve", ENGINEHOUSE_STATE_DIR=str(state), ENGINEHOUSE_PORT="0")
    assert (wrong.returncode, "admin.key" in wrong.stderr) == (78, True)


def test_an_unknown_name_in_the_environment_is_reported(serving: Serving, tmp_path: Path) -> None:
    daemon = serving(tmp_path, ENGINEHOUSE_PROT="1", ENGINEHOUSE_PORT="0")
    assert "ENGINEHOUSE_PROT" in daemon.said
    assert daemon.stop() == 0


async def test_a_unix_socket_serves_alone(serving: Serving, enginehouse: Enginehouse, tmp_path: Path) -> None:
    path = tmp_path / "house.sock"
    names = {"ENGINEHOUSE_SERVER__ENABLED": "false", "ENGINEHOUSE_SERVER__UNIX_SOCKET": str(path)}
    daemon = serving(tmp_path, "--log-level", "info", **names)
    assert daemon.url == f"unix:{path}"
    async with open_remote(daemon.url, api_key=daemon.key) as house:
        assert (await house.health()).status == "healthy"
    status = await trio.to_thread.run_sync(enginehouse, tmp_path, "status")
    assert (status.returncode, "healthy" in status.stdout) == (0, True)
    assert await trio.to_thread.run_sync(daemon.stop) == 0
    assert not path.exists()


async def test_a_signal_ends_it_in_the_midst_of_streams_and_runs(serving: Serving, tmp_path: Path) -> None:
    daemon = serving(tmp_path, "--port", "0", ENGINEHOUSE_SERVER__GRACE_S="3")
    frames: list[Frame] = []
    async with open_remote(daemon.url, api_key=daemon.key, give_up_s=0) as house:
        await house.spawn(NewEngine(kind="probe", id="a"))
        async with house.events(Filter(engine="a")) as stream:
            await house.submit("a", NewRun(input={"steps": 1000, "step_s": 0.1}))
            began = trio.current_time()
            assert await trio.to_thread.run_sync(daemon.stop) == 0
            assert trio.current_time() - began < 5
            while "server.closing" not in [frame.event for frame in frames]:
                frames += await stream.receive()


async def test_a_second_signal_does_not_wait(serving: Serving, tmp_path: Path) -> None:
    daemon = serving(tmp_path, "--port", "0", ENGINEHOUSE_SERVER__GRACE_S="60")
    async with open_remote(daemon.url, api_key=daemon.key) as house:
        await house.spawn(NewEngine(kind="probe", id="a"))
        await house.submit("a", NewRun(input={"steps": 1, "step_s": 50, "ignore_cancel_s": 50}))
    daemon.process.send_signal(signal.SIGINT)
    began = trio.current_time()
    await trio.to_thread.run_sync(daemon.stop)
    assert trio.current_time() - began < 12


async def test_after_a_kill_engines_and_streams_go_on(serving: Serving, tmp_path: Path) -> None:
    first = serving(tmp_path, "--port", "0")
    port = first.url.rpartition(":")[2]
    async with open_remote(first.url, api_key=first.key) as house:
        await house.spawn(NewEngine(kind="probe", id="a"))
        async with house.events(after="0") as stream:
            seen = [frame.id for frame in await stream.receive() if frame.id]
            assert await trio.to_thread.run_sync(first.stop, signal.SIGKILL) == -signal.SIGKILL
            assert (first.state / "daemon.json").exists()
            second = await trio.to_thread.run_sync(serving, tmp_path, "--port", port)
            done, _ = await house.submit("a", NewRun(input="still here"), wait_s=30)
            assert done.result["text"] == "still here"
            types: list[str] = []
            while "run.completed" not in types:
                frames = await stream.receive()
                types += [frame.event for frame in frames]
                seen += [frame.id for frame in frames if frame.id]
        page = await house.event_page(after="0", limit=1000, wait_s=1)
    assert seen == list(dict.fromkeys(seen))
    assert seen == [item["id"] for item in page.items][: len(seen)]
    assert second.file["pid"] != first.process.pid
    assert await trio.to_thread.run_sync(second.stop) == 0


def test_a_journal_that_cannot_be_opened_is_74(enginehouse: Enginehouse, tmp_path: Path) -> None:
    (tmp_path / "state/journal.db").mkdir(parents=True)
    failed = enginehouse(tmp_path, "serve", ENGINEHOUSE_STATE_DIR=str(tmp_path / "state"), ENGINEHOUSE_PORT="0")
    assert (failed.returncode, failed.stderr.startswith("error: ")) == (74, True), failed.stderr
    assert not (tmp_path / "state/daemon.json").exists()


@pytest.mark.parametrize("content, mode", [(b"", 0o600), (b"short\n", 0o600), (b"0123456789abcdef" * 4, 0o644)])
def test_a_bad_secret_for_access_tokens_is_78_before_anything_is_started(
    enginehouse: Enginehouse, tmp_path: Path, content: bytes, mode: int
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "jwt.secret").write_bytes(content)
    (state / "jwt.secret").chmod(mode)
    wrong = enginehouse(tmp_path, "serve", ENGINEHOUSE_STATE_DIR=str(state), ENGINEHOUSE_PORT="0")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (78, 1)
    assert wrong.stderr.startswith(f"error: {state / 'jwt.secret'}: ")
    assert not (state / "journal.db").exists()


def test_users_logins_and_their_secret_survive_a_kill(
    serving: Serving, enginehouse: Enginehouse, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "secrets"
    elsewhere.mkdir(mode=0o700)
    names = {"ENGINEHOUSE_SERVER__JWT_SECRET_FILE": str(elsewhere / "jwt")}
    first = serving(tmp_path, "--port", "0", **names)
    assert (elsewhere / "jwt").stat().st_mode & 0o777 == 0o600
    body = {"name": "ada", "password": "long enough by far", "scopes": ["read"]}
    assert _post(first, "users", body, first.key)[0] == 201
    login = {"username": "ada", "password": body["password"]}
    (_, one), (_, other) = [_post(first, "login", login) for _ in range(2)]
    assert _post(first, "logout", None, other["access_token"])[0] == 204
    assert first.stop(signal.SIGKILL) == -signal.SIGKILL
    second = serving(tmp_path, "--port", "0", **names)
    assert _post(second, "ticket", {"path": "/api/v1/events"}, one["access_token"])[0] == 200
    assert _post(second, "ticket", {"path": "/api/v1/events"}, other["access_token"])[0] == 401
    assert _post(second, "refresh", {"refresh_token": other["refresh_token"]})[0] == 401
    status, again = _post(second, "refresh", {"refresh_token": one["refresh_token"]})
    assert (status, _post(second, "refresh", {"refresh_token": one["refresh_token"]})[0]) == (200, 401)
    assert second.stop(signal.SIGKILL) == -signal.SIGKILL
    third = serving(tmp_path, "--port", "0", **names)
    assert _post(third, "refresh", {"refresh_token": again["refresh_token"]})[0] == 401
    assert third.stop() == 0


def _post(daemon: Any, what: str, body: Any, key: str | None = None) -> tuple[int, Any]:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    with httpx2.Client(trust_env=False, timeout=30) as web:
        got = web.post(f"{daemon.url}/api/v1/auth/{what}", json=body, headers=headers)
    return got.status_code, got.json() if got.content else None


def test_its_environment_shows_no_secret_to_others_of_its_user(serving: Serving, tmp_path: Path) -> None:
    """Programs of engines run as the same user, and are not given these."""
    config = tmp_path / "config.toml"
    config.write_text('[secrets]\nenv = ["PLAIN"]')
    secrets = {
        "ENGINEHOUSE_SERVER__ADMIN_KEY": "canary-of-the-admin-key-in-the-environment",
        "FORGE_TOKEN": "canary-token",
        "DATABASE_URL": "postgres://ann:canary-password@localhost/x",
        "PLAIN": "canary-plain",
    }
    daemon = serving(tmp_path, "--port", "0", "--config", str(config), **secrets, KEPT="kept")
    environ = Path(f"/proc/{daemon.process.pid}/environ").read_bytes()
    assert b"canary" not in environ
    assert b"KEPT=kept" in environ
    headers = {"authorization": f"Bearer {secrets['ENGINEHOUSE_SERVER__ADMIN_KEY']}"}
    body = {"kind": "shell", "id": "a", "config": {"cwd": str(tmp_path), "env": {"GIVEN": {"env": "PLAIN"}}}}
    assert httpx2.post(f"{daemon.url}/api/v1/engines", json=body, headers=headers).status_code == 201
    said = httpx2.post(
        f"{daemon.url}/api/v1/engines/a/runs",
        json={"input": 'test "$GIVEN" = canary-plain && echo "has what it was given"'},
        headers=headers | {"prefer": "wait=20"},
    )
    assert said.json()["result"]["output"] == "has what it was given\n"
