"""Listening sockets: what is bound, what is refused, and what the kernel is told."""

import socket
import stat
from pathlib import Path

import pytest

from web.limits import Limits
from web.sockets import bind_tcp, bind_unix, url_of


def test_port_0_is_bound_and_told() -> None:
    (sock,) = bind_tcp("127.0.0.1", 0)
    with sock:
        port = sock.getsockname()[1]
        assert port > 0
        assert url_of(sock) == f"http://127.0.0.1:{port}"
        with pytest.raises(OSError, match="in use"):
            bind_tcp("127.0.0.1", port)


def test_the_kernel_gives_up_on_a_peer_that_takes_nothing() -> None:
    (sock,) = bind_tcp("127.0.0.1", 0, Limits(send_s=7))
    with sock, socket.create_connection(sock.getsockname()), sock.accept()[0] as accepted:
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7_000


def test_a_dead_unix_socket_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "house.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with bind_unix(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (tmp_path / "file").write_text("precious")
    with pytest.raises(FileExistsError):
        bind_unix(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "precious"
