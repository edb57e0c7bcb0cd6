"""The agent's reads and writes of text files through us: beneath its directory, without following a link there."""

from __future__ import annotations

import errno
import os
import posixpath
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from actors.beneath import descend
from actors.context import Context
from actors.engines.acp.rpc import INTERNAL, INVALID_PARAMS, NOT_FOUND, Refused

__all__ = ["FILE_BYTES", "Files"]

FILE_BYTES = 8 << 20
"""How large a file may be, either way."""

PATH_CHARS = 4096
"""PATH_MAX in linux/limits.h: no system call takes more, and each step of one is a call of ours."""


class Files:
    """See the module. `root`: the agent's directory, whose own links are followed."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._roots = (root, os.path.realpath(root))  # an agent may have asked the system where it is

    def place(self, path: object) -> str:
        """An absolute path beneath the directory. Raises Refused."""
        return posixpath.join(self.root, *self._steps(path))

    async def read(self, ctx: Context, params: Mapping[str, Any]) -> dict[str, Any]:
        """`fs/read_text_file`: the whole text, or `limit` lines of it from `line` (from 1) on."""
        steps = self._steps(params.get("path"))
        text = await ctx.blocking(partial(_refusing, partial(_read, self.root, steps)))
        line, limit = params.get("line"), params.get("limit")
        if isinstance(line, int) or isinstance(limit, int):
            begin = max(line - 1, 0) if isinstance(line, int) else 0
            end = begin + max(limit, 0) if isinstance(limit, int) else None
            text = "".join(text.splitlines(keepends=True)[begin:end])
        return {"content": text}

    async def write(self, ctx: Context, params: Mapping[str, Any]) -> dict[str, Any]:
        """`fs/write_text_file`: all of a file at once, so that nobody ever sees half of it; directories are made."""
        steps, content = self._steps(params.get("path")), params.get("content")
        if not isinstance(content, str):
            raise Refused(INVALID_PARAMS, "`content` is needed, a text")
        data = content.encode()
        if len(data) > FILE_BYTES:
            raise Refused(INVALID_PARAMS, f"a file may have {FILE_BYTES} bytes here, and this has {len(data)}")
        await ctx.blocking(partial(_refusing, partial(_write, self.root, steps, data)))
        await ctx.emit("acp.file", {"path": posixpath.join(self.root, *steps), "bytes": len(data)})
        return {}

    def _steps(self, path: object) -> list[str]:
        if not isinstance(path, str) or not path.startswith("/") or "\0" in path:
            raise Refused(INVALID_PARAMS, "`path` is needed, an absolute one")
        if len(path) > PATH_CHARS:
            raise Refused(INVALID_PARAMS, f"`path` has more than {PATH_CHARS} characters")
        whole = posixpath.normpath(path)
        for root in self._roots:
            if whole.startswith(root.rstrip("/") + "/"):
                return whole[len(root.rstrip("/")) + 1 :].split("/")
            if whole == root:
                return []
        raise Refused(INVALID_PARAMS, f"{path!r} is not beneath {self.root!r}")


def _refusing(fn: partial[Any]) -> Any:
    try:
        return fn()
    except OSError as error:
        said = "a link is on the way there" if error.errno == errno.ELOOP else str(error.strerror)
        raise Refused(NOT_FOUND if error.errno == errno.ENOENT else INTERNAL, said) from None


def _read(root: str, steps: list[str]) -> str:
    folder = descend(root, steps[:-1])
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(steps[-1] if steps else ".", flags, dir_fd=folder)
    finally:
        os.close(folder)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Refused(INVALID_PARAMS, "this is no file")
        data = file.read(FILE_BYTES + 1)
    if len(data) > FILE_BYTES:
        raise Refused(INVALID_PARAMS, f"the file is longer than {FILE_BYTES} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Refused(INVALID_PARAMS, "the file is not text in UTF-8") from None


def _write(root: str, steps: list[str], data: bytes) -> None:
    if not steps:
        raise Refused(INVALID_PARAMS, "this is no file")
    folder = _folder(root, steps[:-1])
    try:
        mode = None
        with suppress(FileNotFoundError):
            there = os.stat(steps[-1], dir_fd=folder, follow_symlinks=False)
            if stat.S_ISLNK(there.st_mode):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            if not stat.S_ISREG(there.st_mode):
                raise Refused(INVALID_PARAMS, "this is no file")
            mode = stat.S_IMODE(there.st_mode)
        beside = f".enginehouse-{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(beside, flags, 0o644, dir_fd=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                if mode is not None:
                    os.fchmod(descriptor, mode)
                file.write(data)
            os.replace(beside, steps[-1], src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(OSError):
                os.unlink(beside, dir_fd=folder)
            raise
    finally:
        os.close(folder)


def _folder(root: str, steps: list[str]) -> int:
    """The directory that these steps lead to, made where it is missing; the caller closes it."""
    with suppress(FileNotFoundError):
        return descend(root, steps)
    for depth, step in enumerate(steps):
        above = descend(root, steps[:depth])
        try:
            with suppress(FileExistsError):
                os.mkdir(step, 0o755, dir_fd=above)
        finally:
            os.close(above)
    return descend(root, steps)
