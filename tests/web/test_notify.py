"""sd_notify, over a real datagram socket."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from web.notify import Notify


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield sock


def heard(manager: socket.socket) -> list[bytes]:
    found = []
    while True:
        try:
            found.append(manager.recv(4096))
        except BlockingIOError:
            return found


def test_assignments_are_one_datagram(manager: socket.socket) -> None:
    Notify({"NOTIFY_SOCKET": manager.getsockname()}).say("READY=1", "STATUS=at home")
    assert heard(manager) == [b"READY=1\nSTATUS=at home"]


def test_a_name_in_the_abstract_namespace_is_written_with_an_at() -> None:
    name = f"enginehouse-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name)
        Notify({"NOTIFY_SOCKET": "@" + name}).say("READY=1")
        assert sock.recv(100) == b"READY=1"


def test_the_variables_are_for_this_process_alone(manager: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "HOME": "/"}
    Notify(environ)
    assert environ == {"HOME": "/"}


def test_without_a_manager_or_with_one_that_is_gone_nothing_happens(tmp_path: Path) -> None:
    Notify({}).say("READY=1")
    Notify({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).say("READY=1")


@pytest.mark.parametrize(
    "names, every_s",
    [
        ({"WATCHDOG_USEC": "4000000"}, 4.0),
        ({"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": str(os.getpid())}, 4.0),
        ({"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_signs_of_life_are_given_only_when_they_are_wanted_of_us(names: dict[str, str], every_s: float | None) -> None:
    assert Notify({"NOTIFY_SOCKET": "/nowhere", **names}).watchdog_s == every_s


async def test_a_sign_of_life_comes_twice_as_often_as_it_is_wanted(
    manager: socket.socket, autojump_clock: MockClock
) -> None:
    notify = Notify({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "4000000"})
    with trio.move_on_after(9):
        await notify.keep_alive()
    assert heard(manager) == [b"WATCHDOG=1"] * 5
