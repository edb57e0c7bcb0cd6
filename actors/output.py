"""The output of one run: a file that everyone may read again, frames for whoever is watching, rows that vouch for it.

Three speeds, and none waits for the next. A byte is in the file before its frame is shown, so whoever saw a frame can
read the file from there. It is on the disk before a `run.output_chunk` row names it. The disk is asked by one thread at
a time for as many chunks as have gathered, as a journal commits in groups; only a run that is far ahead of the disk
waits.

Writing to the page cache is done in place: handing each piece to a thread would cost more than the write itself.
"""

from __future__ import annotations

import codecs
import errno
import hashlib
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from actors.engine import RunFailed
from actors.host import Timer
from actors.secrets import Masking, Secrets

__all__ = ["CHUNK_BYTES", "CHUNK_S", "Output", "in_place", "in_thread"]

CHUNK_BYTES, CHUNK_S = 1 << 16, 1.0
"""A chunk ends when it is this long, or when nothing was written for so many seconds."""

CHUNKS_AHEAD = 64
"""How many chunks a run may be ahead of the disk before `write` waits."""

Sync = Callable[[], OSError | None]
Kept = Callable[[OSError | None], None]
Ask = Callable[[Sync, Kept], None]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def in_thread(sync: Sync, kept: Kept) -> None:
    """Not `trio.to_thread`: the timer that may ask has no task that could wait."""
    token = trio.lowlevel.current_trio_token()
    trio.lowlevel.start_thread_soon(sync, lambda result: token.run_sync_soon(kept, result.unwrap()))


def in_place(sync: Sync, kept: Kept) -> None:
    kept(sync())


class Output:
    """See the module. `offset`: how many bytes the file holds, those of earlier attempts included.

    Args:
        directory: Where `<run_id>.out` is; the file appears with the first byte, readable by its owner alone.
        run_id: Whose output it is.
        attempt: The first begins a fresh file, a later one goes on where the file ends.
        publish: Shows a frame, `{offset, text}`.
        chunk: Journals a chunk that is on the disk, `{offset, length, sha256}`.
        later: Calls a function after so many seconds.
        ask: Does the first without holding up the loop and then calls the second with its answer. A house on a virtual
            clock, which does not see threads, gives `in_place`.
        masking: Takes secrets out before anything is kept.
    """

    def __init__(
        self,
        directory: Path,
        run_id: str,
        *,
        attempt: int = 1,
        publish: Callable[[dict[str, Any]], object],
        chunk: Callable[[dict[str, Any]], object],
        later: Callable[[float, Callable[[], None]], Timer],
        ask: Ask = in_thread,
        masking: Masking | None = None,
    ) -> None:
        self.path = directory / f"{run_id}.out"
        self.offset = self.path.stat().st_size if attempt > 1 and self.path.exists() else 0
        self._fresh = attempt == 1
        self._publish, self._chunk, self._later, self._ask = publish, chunk, later, ask
        self._masking = masking or Secrets().stream()
        self._fd: int | None = None
        self._closed = False
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._begun = self.offset  # the chunk that is being filled, and its hash
        self._sha256 = hashlib.sha256()
        self._ended: deque[dict[str, Any]] = deque()  # chunks that the disk was not asked for yet
        self._asked = 0  # chunks that it was asked for
        self._lot = trio.lowlevel.ParkingLot()
        self._timer: Timer | None = None
        self._written_at = 0.0
        self._broken: OSError | None = None

    async def write(self, data: bytes) -> None:
        """Append, and show it; a character that is not complete yet is shown with what completes it.

        Raises RunFailed (`storage-full`) when the disk is full, OSError when it fails, trio.ClosedResourceError after
        the end of the run. Cancelled: what is in the file was shown, the rest of `data` is dropped.
        """
        await self._write(self._masking.feed(data))

    async def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            while len(self._ended) + self._asked >= CHUNKS_AHEAD and self._broken is None:
                await self._lot.park()
            view = view[self._append(view[: CHUNK_BYTES - (self.offset - self._begun)]) :]
            await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        """Wait until every byte is on the disk and vouched for. Idempotent; cancellation does not cut it short.

        Raises OSError when the disk failed: what was not vouched for may be lost.
        """
        if not self._closed:
            self._append_rest()
            self._closed = True
            at = self.offset - self._held_bytes
            if rest := self._decoder.decode(b"", final=True):
                self._publish({"offset": at, "text": rest})
            self._end_chunk()
        with trio.CancelScope(shield=True):
            while self._asked:
                await self._lot.park()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        if self._broken is not None:
            raise self._broken

    def _append_rest(self) -> None:
        """What could have become a secret and did not."""
        rest = memoryview(self._masking.rest())
        try:
            while rest:
                rest = rest[self._append(rest) :]
        except RunFailed:
            return  # a full disk: what came before it has said so, or these few bytes are lost
        except OSError as error:
            self._broken = self._broken or error

    def _append(self, piece: memoryview) -> int:
        if self._closed:
            raise trio.ClosedResourceError("the run has ended")
        if self._broken is not None:
            raise self._broken
        try:
            if self._fd is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
                self._fd = os.open(self.path, flags | (os.O_TRUNC if self._fresh else 0), 0o600)
            length = os.write(self._fd, piece)
        except OSError as error:
            if error.errno in FULL:
                raise RunFailed("storage-full", f"The output could not be kept: {error.strerror}.") from error
            raise
        at = self.offset - self._held_bytes
        self.offset += length
        self._sha256.update(piece[:length])
        if text := self._decoder.decode(piece[:length]):
            self._publish({"offset": at, "text": text})
        self._written_at = trio.current_time()
        if self.offset - self._begun >= CHUNK_BYTES:
            self._end_chunk()
        elif self._timer is None:
            self._timer = self._later(CHUNK_S, self._quiet)
        return length

    @property
    def _held_bytes(self) -> int:
        """How much of an incomplete character is in the file and not yet shown."""
        return len(self._decoder.getstate()[0])

    def _quiet(self) -> None:
        """The timer: nothing was written for a while, or it waits for the rest of that while."""
        self._timer = None
        left_s = self._written_at + CHUNK_S - trio.current_time()
        if left_s > 0:
            self._timer = self._later(left_s, self._quiet)
        else:
            self._end_chunk()

    def _end_chunk(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        length = self.offset - self._begun
        if length:
            self._ended.append({"offset": self._begun, "length": length, "sha256": self._sha256.hexdigest()})
            self._begun, self._sha256 = self.offset, hashlib.sha256()
        self._ask_disk()

    def _ask_disk(self) -> None:
        """Have the disk keep what has gathered, in a thread; never two for one file."""
        if self._asked or not self._ended or self._broken is not None:
            return
        assert self._fd is not None
        chunks = list(self._ended)
        self._ended.clear()
        self._asked = len(chunks)
        fd = self._fd

        def sync() -> OSError | None:
            try:
                os.fsync(fd)
            except OSError as error:
                return error
            return None

        def kept(error: OSError | None) -> None:
            self._asked = 0
            if error is not None:
                self._broken = error  # never asked again: after a failed fsync the kernel forgets what it lost
            else:
                for chunk in chunks:
                    self._chunk(chunk)
                self._ask_disk()
            self._lot.unpark_all()

        self._ask(sync, kept)
