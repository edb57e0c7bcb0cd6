"""The daemon's log: one JSON object per line in `logs/`, and readable lines on the terminal when there is one.

Only the daemon configures logging; a library that is embedded leaves that to its host. Engines may write what they
like, so text is escaped on both ways out, and the file has a size after which it begins anew.
"""

from __future__ import annotations

import io
import logging
import os
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TextIO

import orjson
import structlog
import trio

__all__ = ["HotLog", "LogFile", "opened_log", "set_level"]

OFTEN: Final = frozenset({"enginehouse.access"})
"""The loggers whose lines are written together."""

FILE_BYTES: Final = 16 << 20
KEPT: Final = 4
LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class LogFile:
    """`enginehouse.jsonl` in `directory`; past `limit_bytes` it becomes `.1`, the one before `.2`, `KEPT` in all."""

    def __init__(self, directory: Path, limit_bytes: int = FILE_BYTES) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = directory / "enginehouse.jsonl"
        self._limit_bytes = limit_bytes
        self._file = self._opened()
        self._size_bytes = os.fstat(self._file.fileno()).st_size
        self._torn = False
        self._lock = threading.RLock()  # a finalizer may log, too

    def write(self, lines: bytes) -> None:
        """Whole lines, from any thread. A full disk loses lines of the log and never a promise of the house."""
        with self._lock:
            if self._size_bytes >= self._limit_bytes:
                with suppress(OSError):  # such as no descriptors: the old one is written on
                    self._turn()
            if self._torn:
                lines = b"\n" + lines  # what write(2) did not finish stays a line of its own
            try:
                written = self._file.write(lines)
            except OSError:
                return
            self._size_bytes += written
            self._torn = written < len(lines)

    def flush(self) -> None:
        """Nothing is held back here."""

    def close(self) -> None:
        self._file.close()

    def _opened(self) -> io.FileIO:
        return io.FileIO(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "a")

    def _turn(self) -> None:
        if self.path.exists():  # else the last turn has come no further
            for age in range(KEPT - 1, 0, -1):
                older = self.path.with_suffix(f".jsonl.{age}")
                if older.exists():
                    older.replace(self.path.with_suffix(f".jsonl.{age + 1}"))
            self.path.replace(self.path.with_suffix(".jsonl.1"))
        opened = self._opened()
        self._file.close()
        self._file, self._size_bytes, self._torn = opened, 0, False


class Together:
    """Lines that are written often, into a `file`: those of one turn of trio's loop in one piece. Each write lets go of
    the interpreter, and waits for it behind the journal's threads. Outside of trio nothing is held.
    """

    def __init__(self, file: LogFile) -> None:
        self._file = file
        self._held: list[bytes] = []

    def write(self, line: bytes) -> None:
        try:
            if not self._held:
                trio.lowlevel.current_trio_token().run_sync_soon(self.put)
        except RuntimeError:
            self._file.write(line)
        else:
            self._held.append(line)

    def flush(self) -> None:
        """At the end of the turn."""

    def put(self) -> None:
        """What is held goes into the file."""
        held, self._held = self._held, []
        if held:
            self._file.write(b"".join(held))


@contextmanager
def opened_log(directory: Path, level: str, *, screen: TextIO | None = None) -> Iterator[LogFile]:
    """Log into `directory` (and on `screen` when it is a terminal) until the block is left."""
    file = LogFile(directory)
    together = Together(file)
    # They only need `write` and `flush`.
    each, often = structlog.BytesLogger(file), structlog.BytesLogger(together)  # type: ignore[arg-type]
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    if screen is not None and screen.isatty():
        processors.append(_Screen(screen))
    processors.append(structlog.processors.JSONRenderer(serializer=_dumps))
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda name="", *_: often if name in OFTEN else each,
        cache_logger_on_first_use=False,  # a module's logger outlives this block
    )
    libraries = _Libraries(logging.WARNING)
    logging.getLogger().addHandler(libraries)
    try:
        yield file
    finally:
        logging.getLogger().removeHandler(libraries)
        structlog.reset_defaults()
        together.put()
        file.close()


class HotLog:
    """A logger for what is written often, bound again only when logging was configured anew: binding it for each line
    costs more than a line that is below the level.
    """

    def __init__(self, name: str) -> None:
        self._proxy = structlog.get_logger(name)
        self._of: tuple[Any, Any] = (None, None)
        self._bound: Any = None

    def __call__(self) -> Any:
        """The logger."""
        config = structlog.get_config()
        wrapper, processors = config["wrapper_class"], config["processors"]
        if self._of[0] is not wrapper or self._of[1] is not processors:
            self._bound, self._of = self._proxy.bind(), (wrapper, processors)
        return self._bound


def set_level(level: str) -> None:
    """What is below `level` is not written any more, by any logger."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]))


class _Screen:
    """A processor that shows the event and passes it on."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        rest = " ".join(
            f"{name}={_plain(value)}"
            for name, value in event.items()
            if name not in {"event", "level", "timestamp", "exception"}
        )
        line = f"{str(event['timestamp'])[11:19]} {event['level']:<7} {_plain(event['event'])} {rest}".rstrip()
        print(line, file=self._out)
        if "exception" in event:
            print(event["exception"], file=self._out)
        return event


class _Libraries(logging.Handler):
    """What libraries say through `logging`, in our log."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger("enginehouse.libraries")
        log.log(record.levelno, record.getMessage(), source=record.name, exc_info=record.exc_info or None)


def _plain(value: object) -> str:
    """Text without control characters, which could repaint a terminal."""
    text = str(value)
    return text if text.isprintable() else ascii(text)


def _dumps(event: Any, **_: Any) -> bytes:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS)
