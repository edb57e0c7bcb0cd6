"""A program on a terminal."""

import signal
from collections.abc import Awaitable, Callable

import pytest
import trio

from actors.processes import Process, Tree
from actors.processes.streams import Terminal

Words = Callable[[Process, int], Awaitable[list[str]]]
pytestmark = pytest.mark.usefixtures("no_leaked_descriptors")


async def test_the_terminal_is_the_programs_own_and_has_its_size(tree: Tree) -> None:
    process = await tree.spawn(["sh", "-c", "stty size; tty; stty size </dev/tty; exit 4"], pty=(24, 100))
    with trio.fail_after(5):
        said = b"".join([data async for data in process.stdout]).decode().split()
        assert await process.wait() == 4
    assert said[:2] == ["24", "100"]
    assert said[2].startswith("/dev/pts/")
    assert said[3:] == ["24", "100"]
    assert process.stderr is None
    await process.aclose()


async def test_the_end_of_the_program_is_an_end_of_file_not_an_error(tree: Tree) -> None:
    process = await tree.spawn(["sh", "-c", "exit 0"], pty=(24, 80))
    with trio.fail_after(5):
        assert await process.stdout.receive_some() == b""
        assert await process.stdout.receive_some() == b""
    await process.aclose()


async def test_a_resize_reaches_the_program(tree: Tree, words: Words) -> None:
    process = await tree.spawn(
        ["sh", "-c", "trap 'stty size; exit' WINCH; echo ready; while read x; do :; done"], pty=(24, 80)
    )
    assert await words(process, 1) == ["ready"]
    process.resize(50, 132)
    assert await words(process, 1) == ["50", "132"]
    await process.aclose()


async def test_only_a_terminal_can_be_resized(tree: Tree) -> None:
    process = await tree.spawn(["true"])
    with pytest.raises(ValueError, match="terminal"):
        process.resize(1, 1)
    await process.aclose()


async def test_control_c_interrupts_what_runs_in_the_foreground(tree: Tree, words: Words) -> None:
    process = await tree.spawn(["sh", "-c", "echo ready; exec sleep 1000"], pty=(24, 80))
    await words(process, 1)
    assert isinstance(process.stdin, Terminal)
    await process.stdin.send_all(b"\x03")
    with trio.fail_after(5):
        assert await process.wait() == -signal.SIGINT
    await process.aclose()


async def test_the_end_of_a_tree_hangs_up_on_what_ignores_sigterm_on_its_terminal(tree: Tree, words: Words) -> None:
    process = await tree.spawn(["sh", "-c", "trap '' TERM; echo ready; exec sleep 1000"], pty=(24, 80))
    await words(process, 1)
    with trio.fail_after(5):
        assert await tree.end(60) == []
    assert process.returncode == -signal.SIGHUP
    await process.aclose()


async def test_an_interactive_shell_goes_when_its_terminal_is_closed(tree: Tree, program: Callable[[str], str]) -> None:
    process = await tree.spawn([program("bash"), "--norc", "-i"], pty=(24, 80))
    assert process.stdin is not None
    await process.stdin.send_all(b"stty -echo; PS1=; echo rea''dy\n")
    heard = b""
    with trio.fail_after(5):
        while b"ready" not in heard:
            heard += await process.stdout.receive_some()
        await process.aclose()
        assert await tree.end(60) == []


async def test_closing_the_terminal_hangs_up(tree: Tree, words: Words) -> None:
    process = await tree.spawn(["sh", "-c", "echo ready; exec sleep 1000"], pty=(24, 80))
    await words(process, 1)
    await process.aclose()
    with trio.fail_after(5):
        assert await process.wait() == -signal.SIGHUP
