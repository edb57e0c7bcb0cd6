"""`enginehouse schedule` and `enginehouse webhook`, against a real daemon."""

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.web.cli.conftest import Cli

LONGER = threading.Event()
"""Never set: what waits for it waits longer than the daemon does."""


class Receiver(BaseHTTPRequestHandler):
    """Takes everything, but what is sent to `/fail`; `/slow` takes longer than the daemon waits."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/slow":
            LONGER.wait(3)
        self.send_response(500 if self.path == "/fail" else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def daemon(serving: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory, port: int) -> Any:
    """A daemon that may send to the receiver, once and for a second, and keeps two schedules and webhooks at most."""
    return serving(
        tmp_path_factory.mktemp("home"),
        ENGINEHOUSE_WEBHOOKS__ALLOW=f"127.0.0.1:{port}",
        ENGINEHOUSE_WEBHOOKS__MAX="2",
        ENGINEHOUSE_WEBHOOKS__MAX_ATTEMPTS="1",
        ENGINEHOUSE_WEBHOOKS__TIMEOUT_S="1",
        ENGINEHOUSE_SCHEDULES__MAX="2",
    )


def test_a_schedule_is_created_listed_shown_run_changed_and_deleted(cli: Cli) -> None:
    assert cli("spawn", "probe", "--id", "s")[0] == 0
    nightly = ("--id", "nightly", "--cron", "0 3 * * *", "--timezone", "Europe/Berlin", "--engine", "s")
    assert cli("schedule", "create", *nightly, "--run", "hello")[:2] == (0, "nightly\n")
    assert cli("schedule", "create", "--every", "3600", "--engine", "s", "--command", "pause")[0] == 0
    assert cli("schedule", "create", *nightly, "--run", "x")[0] == 4
    assert cli("schedule", "create", "--every", "3600", "--engine", "s", "--run", "x")[2].startswith(
        "error: There are 2"
    )
    assert re.search(
        r"^nightly +0 3 \* \* \* +Europe/Berlin +s +default +active", cli("schedule", "list")[1], re.MULTILINE
    )
    run = cli("schedule", "run", "nightly")[1].strip()
    assert json.loads(cli("runs", "--engine", "s", "--json")[1])[0]["id"] == run
    assert re.search(r"^fired +1$", cli("schedule", "show", "nightly")[1], re.MULTILINE)
    assert cli("schedule", "disable", "nightly")[1] == "nightly is disabled\n"
    assert "it is due at" in cli("schedule", "enable", "nightly")[1]
    assert cli("schedule", "delete", "nightly")[1] == "nightly is deleted\n"
    assert cli("schedule", "show", "nightly")[0] == 3
    assert cli("schedule", "create", "--cron", "never", "--engine", "s", "--run", "x")[0] == 2


def test_a_webhook_is_created_tested_listed_rotated_changed_and_deleted(cli: Cli, port: int) -> None:
    url = f"http://127.0.0.1:{port}/in"
    code, out, _ = cli("webhook", "create", url, "--type", "run", "--type", "engine.failed")
    made = re.search(r"^id +(whk_\w+)\nsecret +(whsec_\S+)\n", out)
    assert (code, made is not None) == (0, True)
    assert made is not None
    hook = made[1]
    assert cli("webhook", "test", hook)[:2] == (0, "The receiver answered 200.\n")
    assert re.search(r"^test\.\w+ +webhook\.test .* yes +200", cli("webhook", "deliveries", hook)[1], re.MULTILINE)
    listed = cli("webhook", "list")[1]
    assert (hook in listed, made[2] in listed) == (True, False)
    assert made[2] not in cli("webhook", "show", hook, "--json")[1]
    rotated = cli("webhook", "rotate", hook, "--overlap", "60")[1].strip()
    assert rotated.startswith("whsec_")
    assert rotated != made[2]
    assert cli("webhook", "disable", hook)[1] == f"{hook} is disabled\n"
    assert cli("webhook", "enable", hook)[1] == f"{hook} is enabled\n"
    assert cli("webhook", "dead-letters", hook)[2] == "There are no dead letters.\n"
    assert cli("webhook", "redeliver", hook, "x")[0] == 3
    assert cli("webhook", "discard", hook, "x")[0] == 3
    assert cli("webhook", "delete", hook)[1] == f"{hook} is deleted\n"
    assert cli("webhook", "show", hook)[0] == 3


def test_where_a_webhook_may_not_go_is_told(cli: Cli, port: int) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        code, _, err = cli("webhook", "create", f"http://127.0.0.1:{other.getsockname()[1]}/")
    assert (code, "is not public" in err) == (2, True)
    url = f"http://127.0.0.1:{port}/"
    ids = [json.loads(cli("webhook", "create", url, "--json")[1])["id"] for _ in range(2)]
    code, _, err = cli("webhook", "create", url)
    assert (code, "There are 2 webhooks already" in err) == (4, True)
    for hook in ids:
        cli("webhook", "delete", hook)


def test_what_the_receiver_does_not_take_is_told_and_becomes_a_dead_letter(cli: Cli, port: int) -> None:
    slow, failing = (
        json.loads(cli("webhook", "create", f"http://127.0.0.1:{port}/{path}", "--type", "run", "--json")[1])["id"]
        for path in ("slow", "fail")
    )
    assert cli("webhook", "test", slow)[:2] == (1, "No answer within 1 s.\n")
    cli("spawn", "probe", "--id", "w")
    cli("run", "w", "hello")
    dead: list[dict[str, Any]] = []
    for _ in range(100):
        dead = json.loads(cli("webhook", "dead-letters", failing, "--json")[1])
        if len(dead) == 3:
            break
    assert [letter["type"] for letter in dead] == ["run.completed", "run.started", "run.queued"]
    assert {letter["attempts"] for letter in dead} == {1}
    event = dead[0]["event_id"]
    assert cli("webhook", "redeliver", failing, event)[0] == 1
    assert cli("webhook", "discard", failing, event)[1] == f"{event} is forgotten\n"
    for hook in (slow, failing):
        cli("webhook", "delete", hook)
