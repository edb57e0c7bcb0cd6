"""`read` and `search`: what looks and changes nothing."""

from __future__ import annotations

import json
import os
import posixpath
import re
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import trio
from pydantic import Field

from actors.children import ResourceLimits
from actors.engines.agent.files import Refused
from actors.engines.agent.tool import OUTPUT_CHARS, Call, Input, PathText, Tool, Workplace, bounded
from actors.engines.programs import Text
from actors.permissions import Act
from actors.processes import SpawnFailed

__all__ = ["Read", "Search"]

PROGRAM = Path(__file__).parent.parent / "searching.py"
SEARCH_S, SEARCH_CPU_S = 20.0, 15
LINES = 200
ERROR_BYTES = 4096

From = Annotated[int, Field(ge=1, le=10**9, description="the first line, counted from 1")]
Count = Annotated[int, Field(ge=1, le=10**6, description="how many lines; 2000 when it is not given")]


class ReadInput(Input):
    path: Annotated[PathText, Field(description="of a file, or of a directory to list")]
    from_line: From = 1
    lines: Count = 2000


class Read(Tool):
    name, kind = "read", "read"
    description = (
        "Read a text file in the workspace, or list a directory. Long files are cut: read them in parts with from_line "
        "and lines. Binary files and links are refused."
    )
    Input = ReadInput

    async def prepare(self, at: Workplace, given: ReadInput) -> Call:
        path = at.files.absolute(given.path)

        async def do() -> str:
            text = await at.ctx.blocking(partial(at.files.read, given.path))
            lines = text.splitlines(keepends=True)
            first = given.from_line - 1
            part = "".join(lines[first : first + given.lines])
            left = len(lines) - first - given.lines
            return bounded(part) + (
                f"\n[{left} more lines, from line {first + given.lines + 1} on]" if left > 0 else ""
            )

        act = Act(tool=self.name, kind=self.kind, paths=(path,))
        return Call(title=f"Read {given.path}", do=do, act=act, paths=(path,), action={"tool": "read", "path": path})


class SearchInput(Input):
    pattern: Annotated[
        Text, Field(max_length=1000, description="a regular expression (Python's), for one line; empty: names alone")
    ] = ""
    files: Annotated[Text, Field(max_length=1000, description="only files of such a name or path, as *.py")] = ""


class Search(Tool):
    name, kind = "search", "search"
    description = (
        "Search the workspace: lines that match a regular expression, as path:line: text, or without a pattern the "
        "paths of files. .git, binary files, links and what rules keep from you are left out."
    )
    Input = SearchInput

    async def prepare(self, at: Workplace, given: SearchInput) -> Call:
        asked = {"pattern": given.pattern, "files": given.files, "limit": LINES}
        act = Act(tool=self.name, kind=self.kind, paths=(at.files.root,))
        return Call(
            title=f"Search {given.pattern or given.files or 'all names'}",
            do=partial(_search, at, asked),
            act=act,
            action={"tool": "search", **asked},
        )


async def _search(at: Workplace, asked: dict[str, Any]) -> str:
    """Runs `searching.py`, which leaves out what is forbidden and what is the house's own. It is ended when it takes
    too long, or when nobody waits for it any more.
    """
    private = [re.escape(posixpath.join(at.files.root, path)) for path in await at.ctx.blocking(at.files.private)]
    without = [*(f"{path}/.*" for path in private), *at.permissions.denied_paths("search", "read")]
    asked = {**asked, "root": at.files.root, "without": without}
    argv = [sys.executable, "-I", os.fspath(PROGRAM), json.dumps(asked)]
    try:
        process = await at.ctx.spawn_process(
            argv, cwd=at.bounds["cwd"], workspace=at.bounds["workspace"], limits=ResourceLimits(cpu_s=SEARCH_CPU_S)
        )
    except SpawnFailed as error:
        raise Refused(f"It could not be searched: {error}.") from error
    said: dict[str, bytes] = {"stdout": b"", "stderr": b""}

    async def read(name: str, stream: trio.abc.ReceiveStream, most: int) -> None:
        while data := await _receive(at, stream):
            said[name] = (said[name] + data)[:most]

    in_time = False
    try:
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            nursery.start_soon(_limit, at, nursery.cancel_scope)
            async with trio.open_nursery(strict_exception_groups=True) as readers:
                readers.start_soon(read, "stdout", process.stdout, 8 * OUTPUT_CHARS)
                assert process.stderr is not None
                readers.start_soon(read, "stderr", process.stderr, ERROR_BYTES)
            async with at.ctx.process_wait():
                await process.wait()
            in_time = True
            nursery.cancel_scope.cancel()
    finally:
        process.signal(signal.SIGKILL)
        with trio.CancelScope(shield=True):
            await process.aclose()
    if not in_time or process.returncode == -signal.SIGXCPU:
        raise Refused("The search took too long and was ended; search for something simpler.")
    if process.returncode:
        raise Refused(said["stderr"].decode(errors="replace").strip() or "The search failed.")
    return bounded(said["stdout"].decode(errors="replace")) or "Nothing was found."


async def _limit(at: Workplace, scope: trio.CancelScope) -> None:
    await at.ctx.sleep(SEARCH_S)
    scope.cancel()


async def _receive(at: Workplace, stream: trio.abc.ReceiveStream) -> bytes:
    async with at.ctx.process_wait():
        return bytes(await stream.receive_some(1 << 16))
