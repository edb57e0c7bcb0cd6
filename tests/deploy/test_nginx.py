"""nginx before a daemon, both really started: TLS outside, events unbuffered, and whose word is believed."""

import getpass
import json
import os
import re
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

Serving = Callable[..., Any]
Program = Callable[[str], str]
TRUST = {"ENGINEHOUSE_SERVER__TRUSTED_PROXIES": "127.0.0.1"}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass
class Proxy:
    """nginx on loopback, and the daemon behind it."""

    port: int
    tls: ssl.SSLContext
    daemon: Any
    log: Path

    def connect(self) -> HTTPSConnection:
        return HTTPSConnection("127.0.0.1", self.port, timeout=30, context=self.tls)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, str], Any]:
        connection = self.connect()
        try:
            fields = {"Host": "house.example", "Authorization": f"Bearer {self.daemon.key}"}
            fields |= {"Content-Type": "application/json"} if body else {}
            connection.request(method, path, body, fields | {k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            fields = {name: ", ".join(answer.headers.get_all(name, [])) for name in map(str.lower, answer.headers)}
            return answer.status, fields, json.loads(answer.read() or b"null")
        finally:
            connection.close()


def certificate(program: Program, folder: Path) -> None:
    subprocess.run(
        [
            program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-days", "2", "-subj", "/CN=house.example", "-addext", "subjectAltName=DNS:house.example,IP:127.0.0.1",
            "-keyout", str(folder / "house.key"), "-out", str(folder / "house.pem"),
        ],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip


def written(root: Path, folder: Path, port: int, upstream: str) -> Path:
    """The file as it is shipped, with the places of this test."""
    text = (root / "deploy/nginx.conf").read_text()
    for there, here in (
        ("127.0.0.1:39731", upstream.removeprefix("http://")),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("listen 80 default_server", f"listen 127.0.0.1:{free_port()} default_server"),
        ("/etc/nginx/", f"{folder}/"),
        ("/var/log/nginx/", f"{folder}/"),
    ):
        assert there in text
        text = text.replace(there, here)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    own = "\n".join(f"    {kind}_temp_path {folder}/{kind};" for kind in kinds)
    made = folder / "nginx.conf"
    user = f"user {getpass.getuser()};\n" if os.geteuid() == 0 else ""  # its workers must reach this folder
    made.write_text(f"{user}pid {folder}/nginx.pid;\n" + text.replace("http {\n", f"http {{\n{own}\n", 1))
    return made


@pytest.fixture(scope="module")
def proxy(serving: Serving, program: Program, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    nginx = program("nginx")
    folder = tmp_path_factory.mktemp("nginx")
    certificate(program, folder)
    daemon = serving(
        folder, "--port", "0", ENGINEHOUSE_SERVER__BEHIND_PROXY="true",
        ENGINEHOUSE_SERVER__ALLOWED_HOSTS="house.example", **TRUST,
    )  # fmt: skip
    port = free_port()
    config = written(root, folder, port, daemon.url)
    start = [nginx, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(config), "-g", "daemon off;"]
    tested = subprocess.run([*start[:-2], "-t"], capture_output=True, text=True, timeout=60, check=False)
    assert tested.returncode == 0, tested.stderr
    process = subprocess.Popen(start, stdin=subprocess.DEVNULL)
    try:
        tls = ssl.create_default_context(cafile=folder / "house.pem")
        found = Proxy(port, tls, daemon, folder / "enginehouse.log")
        while process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=30).close()
                break
            except ConnectionRefusedError:
                continue
        assert process.poll() is None, (folder / "error.log").read_text()
        yield found
    finally:
        process.terminate()
        process.wait(30)


def test_a_request_passes_with_its_name_and_is_hardened(proxy: Proxy) -> None:
    status, headers, body = proxy.ask("GET", "/api/v1/auth/whoami")
    assert (status, body["principal"]) == (200, "key:admin")
    assert headers["strict-transport-security"] == "max-age=31536000"
    assert headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"\d", headers.get("server", ""))


def test_another_name_is_refused_by_the_house(proxy: Proxy) -> None:
    status, _, body = proxy.ask("GET", "/health", Host="elsewhere.example")
    assert (status, body["type"]) == (421, "/problems/misdirected-host")


def test_what_is_too_large_is_answered_by_the_house_with_a_problem(proxy: Proxy) -> None:
    status, _, body = proxy.ask("POST", "/api/v1/engines", b"[" + b" " * (1 << 20) + b"]")
    assert (status, body["type"]) == (413, "/problems/too-large")


def test_events_come_while_the_stream_is_open(proxy: Proxy) -> None:
    """A proxy that buffers would hold back the first event until there are kilobytes of them."""
    connection = proxy.connect()
    try:
        fields = {"Host": "house.example", "Authorization": f"Bearer {proxy.daemon.key}"}
        connection.request("GET", "/api/v1/events?types=engine", headers=fields)
        answer = connection.getresponse()
        assert answer.getheader("content-type") == "text/event-stream; charset=utf-8"
        assert answer.readline() == b": enginehouse\n"
        status, _, _ = proxy.ask("POST", "/api/v1/engines", b'{"kind":"probe","id":"seen"}')
        assert status == 201
        while (line := answer.readline()) != b"event: engine.spawned\n":
            assert line
    finally:
        connection.close()


def address_of(asker: HTTPConnection, proxy: Proxy) -> str:
    """What the audit trail says of who asked, when the one who asks claims to be somebody else."""
    claims = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9", "X-Request-Id": f"from-{asker.port}"}
    fields = {
        "Host": "house.example",
        "Authorization": f"Bearer {proxy.daemon.key}",
        "Content-Type": "application/json",
    }
    asker.request("POST", "/api/v1/engines", b"{}", fields | claims)
    assert asker.getresponse().status == 422
    asker.close()
    newest = proxy.ask("GET", "/api/v1/admin/audit?limit=1")[2]["items"][0]
    return str(newest["address"])


def test_the_house_takes_the_address_from_nginx_and_from_nobody_else(proxy: Proxy) -> None:
    through = HTTPSConnection(
        "127.0.0.1", proxy.port, timeout=30, context=proxy.tls, source_address=("127.0.0.2", 0)
    )  # nginx itself comes from 127.0.0.1, which is trusted
    assert address_of(through, proxy) == "127.0.0.2"
    port = int(proxy.daemon.url.rpartition(":")[2])
    past = HTTPConnection("127.0.0.1", port, timeout=30, source_address=("127.0.0.3", 0))
    assert address_of(past, proxy) == "127.0.0.3"


def test_no_query_is_in_the_log(proxy: Proxy) -> None:
    assert proxy.ask("GET", "/health?ticket=canary")[0] in {200, 422}
    assert "GET /health" in proxy.log.read_text()
    assert "canary" not in proxy.log.read_text()
