"""The output of a run, alone: what is in the file, what is shown, what is vouched for, and in which order."""

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from actors.engine import RunFailed
from actors.output import CHUNK_BYTES, Output, in_place, in_thread

CHUNKS = 3 * CHUNK_BYTES


@dataclass(eq=False)
class Alarm:
    """A timer that rings when the test says so."""

    seconds: float
    fn: Callable[[], None] | None

    @property
    def active(self) -> bool:
        return self.fn is not None

    def cancel(self) -> None:
        self.fn = None

    def ring(self) -> None:
        fn, self.fn = self.fn, None
        assert fn is not None
        fn()


class Watcher:
    """Takes what an output says; at each frame it looks whether the file holds it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "run_1.out"
        self.frames: list[dict[str, Any]] = []
        self.chunks: list[dict[str, Any]] = []
        self.alarms: list[Alarm] = []

    def output(self, attempt: int = 1, ask: Any = in_place) -> Output:
        return Output(
            self.directory, "run_1", attempt=attempt, publish=self.publish, chunk=self.chunks.append, later=self.later,
            ask=ask,
        )  # fmt: skip

    def publish(self, frame: dict[str, Any]) -> None:
        assert self.path.stat().st_size >= frame["offset"] + len(frame["text"])
        self.frames.append(frame)

    def later(self, seconds: float, fn: Callable[[], None]) -> Alarm:
        self.alarms.append(Alarm(seconds, fn))
        return self.alarms[-1]

    @property
    def text(self) -> str:
        return "".join(frame["text"] for frame in self.frames)

    def vouched(self) -> bytes:
        """The bytes that the chunks vouch for, which join without a gap."""
        whole, at = self.path.read_bytes(), self.chunks[0]["offset"] if self.chunks else 0
        begin = at
        for chunk in self.chunks:
            assert chunk["offset"] == at
            at += chunk["length"]
            assert hashlib.sha256(whole[chunk["offset"] : at]).hexdigest() == chunk["sha256"]
        return whole[begin:at]


@pytest.fixture
def watcher(tmp_path: Path) -> Watcher:
    return Watcher(tmp_path)


async def test_what_is_written_is_in_the_file_shown_and_vouched_for(watcher: Watcher) -> None:
    output = watcher.output()
    await output.write(b"one\n")
    await output.write("t\u00f6\n".encode())
    assert watcher.frames == [{"offset": 0, "text": "one\n"}, {"offset": 4, "text": "t\u00f6\n"}]
    assert (watcher.chunks, output.offset) == ([], 8)
    await output.close()
    assert watcher.vouched() == b"one\nt\xc3\xb6\n"
    assert stat.S_IMODE(watcher.path.stat().st_mode) == 0o600


async def test_a_run_that_writes_nothing_has_no_file_and_no_rows(watcher: Watcher) -> None:
    output = watcher.output()
    await output.write(b"")
    await output.close()
    await output.close()
    assert not watcher.path.exists()
    assert (watcher.frames, watcher.chunks, watcher.alarms) == ([], [], [])


async def test_an_incomplete_character_waits_for_its_rest(watcher: Watcher) -> None:
    output = watcher.output()
    for byte in "a\u20acb".encode():
        await output.write(bytes([byte]))
    assert watcher.frames == [{"offset": 0, "text": "a"}, {"offset": 1, "text": "\u20ac"}, {"offset": 4, "text": "b"}]
    await output.write(b"\xe2\x82")
    await output.close()
    assert watcher.frames[3:] == [{"offset": 5, "text": "\ufffd"}]


async def test_a_chunk_is_at_most_64_kb(watcher: Watcher) -> None:
    output = watcher.output()
    await output.write(b"x" * (2 * CHUNK_BYTES + 5))
    assert [chunk["length"] for chunk in watcher.chunks] == [CHUNK_BYTES, CHUNK_BYTES]
    await output.close()
    assert [chunk["length"] for chunk in watcher.chunks] == [CHUNK_BYTES, CHUNK_BYTES, 5]
    watcher.vouched()


async def test_a_second_of_silence_ends_a_chunk(watcher: Watcher, autojump_clock: trio.testing.MockClock) -> None:
    output = watcher.output()
    await output.write(b"a")
    await trio.sleep(0.75)
    await output.write(b"b")
    assert [alarm.seconds for alarm in watcher.alarms] == [1]  # one timer, however much is written
    await trio.sleep(0.25)
    watcher.alarms[0].ring()
    assert watcher.chunks == []
    assert watcher.alarms[1].seconds == 0.75
    await trio.sleep(0.75)
    watcher.alarms[1].ring()
    assert watcher.vouched() == b"ab"
    await output.close()
    assert len(watcher.chunks) == 1
    assert not any(alarm.active for alarm in watcher.alarms)


async def test_a_later_attempt_goes_on_where_the_file_ends(watcher: Watcher) -> None:
    first = watcher.output()
    await first.write(b"first")
    await first.close()
    second = watcher.output(attempt=2)
    assert second.offset == 5
    await second.write(b" second")
    await second.close()
    assert watcher.frames[-1] == {"offset": 5, "text": " second"}
    assert watcher.vouched() == b"first second"


async def test_a_first_attempt_begins_a_fresh_file(watcher: Watcher) -> None:
    watcher.path.write_text("of somebody else")
    output = watcher.output()
    await output.write(b"mine")
    await output.close()
    assert watcher.vouched() == b"mine"


async def test_after_the_end_nothing_is_written(watcher: Watcher) -> None:
    output = watcher.output()
    await output.close()
    with pytest.raises(trio.ClosedResourceError):
        await output.write(b"late")


async def test_the_disk_is_asked_once_for_all_that_gathered_and_a_run_far_ahead_waits(watcher: Watcher) -> None:
    asked: list[tuple[Callable[[], OSError | None], Callable[[OSError | None], None]]] = []
    output = watcher.output(ask=lambda sync, kept: asked.append((sync, kept)))
    await output.write(b"x" * CHUNKS)
    assert len(asked) == 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(output.write, b"x" * 100 * CHUNK_BYTES)
        await wait_all_tasks_blocked()
        assert output.offset == 64 * CHUNK_BYTES
        nursery.cancel_scope.cancel()
    for _ in range(2):
        sync, kept = asked.pop()
        kept(sync())
    assert len(watcher.chunks) == 64
    assert asked == []


async def test_a_full_disk_fails_the_run_alone(watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    output = watcher.output()
    await output.write(b"kept")

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(RunFailed, match="No space left") as failed:
            await output.write(b"lost")
    assert failed.value.slug == "storage-full"
    await output.close()
    assert watcher.vouched() == b"kept"


async def test_a_failing_disk_vouches_for_nothing_and_is_never_asked_again(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def failing(fd: int) -> None:
        asked.append(fd)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", failing)
    output = watcher.output(ask=in_thread)
    with pytest.raises(OSError, match="Input/output"):
        for _ in range(1000):
            await output.write(b"x" * CHUNK_BYTES)
    with pytest.raises(OSError, match="Input/output"):
        await output.close()
    assert (len(asked), watcher.chunks) == (1, [])


async def test_closing_waits_for_the_disk_also_when_it_is_cancelled(watcher: Watcher) -> None:
    output = watcher.output(ask=in_thread)
    await output.write(b"x" * CHUNKS + b"y")
    with trio.CancelScope() as scope:
        scope.cancel()
        await output.close()
    assert watcher.vouched() == b"x" * CHUNKS + b"y"


@given(st.lists(st.binary(max_size=40)))
def test_the_frames_are_the_file_as_text(pieces: list[bytes]) -> None:

    async def write(directory: str) -> None:
        watcher = Watcher(Path(directory))
        output = watcher.output()
        for piece in pieces:
            await output.write(piece)
        await output.close()
        whole = b"".join(pieces)
        assert watcher.text == whole.decode(errors="replace")
        for frame in watcher.frames:
            assert whole[frame["offset"] :].decode(errors="replace").startswith(frame["text"][:1])

    with tempfile.TemporaryDirectory() as directory:
        trio.run(write, directory)
