"""Secrets: where a config may take them from, and how they stay out of everything that an engine says.

A config names a secret by reference, `{"env": NAME}` or `{"file": PATH}`. The house reads it when a program starts,
gives it to that program alone, and remembers it in memory for one purpose: so that its text becomes `***` wherever the
engine says it again, in output, log lines, events, slices, results and errors. Spec, journal and views hold the
reference.

Masking guards against accidents (a program that prints its environment), not against malice: who holds a secret can
say it backwards.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, AnyStr

from pydantic import BaseModel, ConfigDict, Field

from actors.beneath import descend
from actors.engine import CannotStart

__all__ = ["MASK", "FromEnv", "FromFile", "Masking", "Reference", "Secrets", "Sources"]

MASK = "***"
SHORTEST = 8
"""Shorter values are not masked: they would be found in words that are no secret."""

LONGEST_BYTES = 1 << 16
REMEMBERED = 128
"""How many texts are masked at most; past it the oldest is forgotten."""


class FromEnv(BaseModel):
    """The value of a variable of the house's environment."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")
    env: Annotated[str, Field(min_length=1, max_length=256)]


class FromFile(BaseModel):
    """The text of a file, without the line end behind it."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")
    file: Annotated[str, Field(min_length=2, max_length=4096, pattern=r"^/[^\x00]*$")]


Reference = FromEnv | FromFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What may be referred to; nothing that is not named here.

    `env`: names of variables; `directories`: absolute, for files below them that belong to us, that nobody else may
    read, and that are reached without a link.
    """

    env: frozenset[str] = frozenset()
    directories: tuple[str, ...] = ()

    def check(self, reference: Reference) -> None:
        """Looks at no disk. Raises ValueError with a sentence for what may not be referred to."""
        if isinstance(reference, FromEnv):
            if reference.env not in self.env:
                raise ValueError(
                    f"the variable {reference.env!r} is not among those that a config may refer to (secrets.env)"
                )
        else:
            self._split(reference.file)

    def read(self, reference: Reference) -> str:
        """The secret. Reads the disk. Raises CannotStart, whose sentence never holds any of it."""
        try:
            self.check(reference)
            return self._variable(reference.env) if isinstance(reference, FromEnv) else self._file(reference.file)
        except ValueError as error:
            raise CannotStart(f"A secret cannot be had: {error}.") from None

    @staticmethod
    def _variable(name: str) -> str:
        value = os.environ.get(name)
        if value is None:
            raise ValueError(f"the house has no variable {name!r}")
        return _text(os.fsencode(value), f"the variable {name!r}")

    def _file(self, path: str) -> str:
        root, parts = self._split(path)
        try:
            folder = descend(root, parts[:-1])
            try:
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                descriptor = os.open(parts[-1], flags, dir_fd=folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise ValueError(f"the file {path!r} cannot be opened: {error.strerror}") from None
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise ValueError(f"{path!r} is no file")
            if found.st_uid != os.geteuid() or found.st_mode & 0o077:
                raise ValueError(f"the file {path!r} must be ours, and nobody else's to read (chmod 600)")
            data = os.read(descriptor, LONGEST_BYTES + 1)
        finally:
            os.close(descriptor)
        return _text(data.removesuffix(b"\n").removesuffix(b"\r"), f"the file {path!r}")

    def _split(self, path: str) -> tuple[str, list[str]]:
        """The directory that it is below, and the way from there."""
        parts = path.split("/")[1:]
        if all(part not in ("", ".", "..") for part in parts):
            for root in self.directories:
                below = root.rstrip("/") + "/"
                if path.startswith(below):
                    return root, path.removeprefix(below).split("/")
        raise ValueError(f"the file {path!r} is not below a directory that a config may refer to (secrets.directories)")


def _text(data: bytes, what: str) -> str:
    if len(data) > LONGEST_BYTES:
        raise ValueError(f"{what} is longer than {LONGEST_BYTES} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{what} is not text in UTF-8") from None
    if "\0" in text:
        raise ValueError(f"{what} holds a NUL character")
    return text


@dataclass(slots=True)
class Secrets:
    """What one engine was given and must not say. Costs nothing while it is empty."""

    _texts: dict[str, bytes] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._texts)

    def add(self, value: str) -> bool:
        """Mask this from now on. Of several lines each is a secret, since text is shown by lines.

        False: it, or a line of it, is too short to be masked.
        """
        lines = [line.strip() for line in value.splitlines() if line.strip()]
        for line in lines:
            if len(line) >= SHORTEST:
                self._texts.pop(line, None)
                self._texts[line] = line.encode()
        while len(self._texts) > REMEMBERED:
            del self._texts[next(iter(self._texts))]
        return all(len(line) >= SHORTEST for line in lines)

    def masked(self, value: Any) -> Any:
        """A JSON value without any of them, in its names too; the very same value when there is none."""
        if not self._texts:
            return value
        if isinstance(value, str):
            return _replaced(value, self._texts, MASK)
        if isinstance(value, dict):
            return {self.masked(name): self.masked(inner) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.masked(inner) for inner in value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            text = str(value)
            return value if _replaced(text, self._texts, MASK) == text else MASK
        return value

    def stream(self) -> Masking:
        """For bytes that come in pieces."""
        return Masking(self._texts)


class Masking:
    """A stream of bytes without the secrets, also one that comes in two pieces.

    What may be the beginning of one is held back until more comes, and nothing else is: at most twice the longest.
    """

    def __init__(self, texts: dict[str, bytes]) -> None:
        self._texts = texts
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """As much of it as can be shown now."""
        if not self._texts and not self._held:
            return data
        data = self._held + data
        cut = self._beginning(data)
        longest = max(map(len, self._texts.values()), default=0)
        for start, end in _found(data, self._texts.values()):
            if start < cut < end and len(data) - start <= 2 * longest:  # its end begins another: shown as one
                cut = start
        self._held = data[cut:]
        return _replaced(data[:cut], self._texts.values(), MASK.encode())

    def rest(self) -> bytes:
        """What was held back, now that nothing follows."""
        held, self._held = self._held, b""
        return _replaced(held, self._texts.values(), MASK.encode())

    def _beginning(self, data: bytes) -> int:
        """Where the longest end of `data` stands that is a beginning of a secret, and not all of it."""
        cut = len(data)
        for secret in self._texts.values():
            at = data.find(secret[:1], max(len(data) - len(secret) + 1, 0), cut)
            while at >= 0:
                if secret.startswith(data[at:]):
                    cut = at
                    break
                at = data.find(secret[:1], at + 1, cut)
        return cut


def _found(text: AnyStr, secrets: Iterable[AnyStr]) -> Iterator[tuple[int, int]]:
    """Where they stand, in order; those that touch or overlap are one."""
    places = []
    for secret in secrets:
        at = text.find(secret)
        while at >= 0:
            places.append((at, at + len(secret)))
            at = text.find(secret, at + 1)
    begin = end = -1
    for start, stop in sorted(places):
        if start > end:
            if end >= 0:
                yield begin, end
            begin = start
        end = max(end, stop)
    if end >= 0:
        yield begin, end


def _replaced(text: AnyStr, secrets: Iterable[AnyStr], mask: AnyStr) -> AnyStr:
    pieces: list[AnyStr] = []
    at = 0
    for start, end in _found(text, secrets):
        pieces += [text[at:start], mask]
        at = end
    pieces.append(text[at:])
    return text[:0].join(pieces)
