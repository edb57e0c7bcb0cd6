"""Where a conversation is written down: a file of entries, one JSON object a line, and the first holds all before it.

An entry is on the disk when `append` returns. A crash in the middle of one leaves half a line, which nothing can have
followed from; it is cut off when the file is opened again. A new first line is a new file under the same name, so at
every moment there is a whole one.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

from actors.engines.agent.conversation import Conversation, Entry
from protocol.events import encode

__all__ = ["Damaged", "Record", "write_new"]

REBASE_BYTES = 8 << 20
"""How long the file may become beyond its first line before it is written anew."""


class Damaged(ValueError):
    """The file is not what was written; the sentence says where."""


class Record:
    """See the module. Everything here waits for the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._since_base = 0

    def open(self) -> Conversation:
        """What was written down; nothing, when nothing was. Raises Damaged."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return self._begin(Conversation())
        lines = data.split(b"\n")
        torn = lines.pop()
        conversation = Conversation()
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                if entry["type"] == "base":
                    conversation = Conversation.load(entry["state"])
                    self._since_base = 0
                else:
                    conversation.take(entry)
                    self._since_base += len(line)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise Damaged(f"{self._path} is damaged in line {number}: {error!r}") from error
        if torn:
            with self._opened() as file:
                file.truncate(len(data) - len(torn))
                os.fsync(file.fileno())
        return conversation

    def append(self, conversation: Conversation, entry: Entry) -> None:
        """Write down an entry that the conversation has taken."""
        line = encode(entry) + b"\n"
        if self._since_base + len(line) > REBASE_BYTES:
            self._begin(conversation)
            return
        self._since_base += len(line)
        with self._opened() as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def rebase(self, conversation: Conversation) -> None:
        """From now on this is what was said."""
        self._begin(conversation)

    def _begin(self, conversation: Conversation) -> Conversation:
        write_new(self._path, {"type": "base", "state": conversation.dump()})
        self._since_base = 0
        return conversation

    def _opened(self) -> BinaryIO:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        return open(descriptor, "ab")  # noqa: PTH123 - a descriptor; its users close it


def write_new(path: Path, value: Any) -> None:
    """A JSON file that is there whole or not at all, ours alone."""
    new = path.with_name(f"{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
        # In ASCII: the names of files need not be text, and their other bytes are lone surrogates here (PEP 383).
        file.write(json.dumps(value, allow_nan=False, separators=(",", ":")).encode() + b"\n")
        file.flush()
        os.fsync(descriptor)
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
