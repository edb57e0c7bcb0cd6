"""The descriptors between us and a program: pipes, or a terminal."""

from __future__ import annotations

import contextlib
import errno
import os
import termios
from dataclasses import dataclass

import trio


class Terminal(trio.abc.Stream):
    """The master side of a pseudo terminal. What the program writes is read here and the reverse.

    Linux says EIO when no process has the terminal open any more; here that is the end of the stream.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._stream = trio.lowlevel.FdStream(fd)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            return await self._stream.receive_some(max_bytes)
        except trio.BrokenResourceError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EIO:
                return b""
            raise

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    def close(self) -> None:
        """Hang up: the kernel sends SIGHUP to the session on the other side."""
        self._stream.close()

    async def aclose(self) -> None:
        await self._stream.aclose()


@dataclass(frozen=True, slots=True)
class Streams:
    """Our ends of a program's descriptors. On a terminal `stdin` and `stdout` are one object."""

    stdin: trio.lowlevel.FdStream | Terminal | None
    stdout: trio.lowlevel.FdStream | Terminal
    stderr: trio.lowlevel.FdStream | None

    def close(self) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()


class Descriptors(contextlib.ExitStack):
    """Descriptors that are closed together when the block is left, unless `pop_all` took them out of it."""

    def own(self, descriptor: int) -> int:
        self.callback(os.close, descriptor)
        return descriptor


def pipe(reader: Descriptors, writer: Descriptors) -> tuple[int, int]:
    """(read end, write end), each in its owner's hands."""
    read, write = os.pipe2(os.O_CLOEXEC)
    return reader.own(read), writer.own(write)


def terminal(theirs: Descriptors, rows: int, cols: int) -> tuple[Streams, list[int]]:
    """Our streams, and the program's descriptors 0, 1 and 2 in `theirs`."""
    ours, slave = os.openpty()
    theirs.own(slave)
    termios.tcsetwinsize(ours, (rows, cols))
    master = Terminal(ours)
    return Streams(master, master, None), [slave] * 3


def pipes(theirs: Descriptors, *, stdin: bool, merge_stderr: bool) -> tuple[Streams, list[int]]:
    """Our streams, and the program's descriptors 0, 1 and 2 in `theirs`."""
    with Descriptors() as ours:
        feed = error = None
        if stdin:
            source, feed = pipe(theirs, ours)
        else:
            source = theirs.own(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        output, their_output = pipe(ours, theirs)
        their_error = their_output
        if not merge_stderr:
            error, their_error = pipe(ours, theirs)
        ours.pop_all()
    stream = trio.lowlevel.FdStream
    streams = Streams(stream(feed) if feed else None, stream(output), stream(error) if error else None)
    return streams, [source, their_output, their_error]
