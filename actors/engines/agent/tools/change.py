"""`write` and `edit`: a file gets another content. What people approve is the difference, and it is written only over
the very content that the difference was made with.
"""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Annotated

from pydantic import Field

from actors.engines.agent.compaction import shown
from actors.engines.agent.files import FILE_BYTES, Found, Refused, diff
from actors.engines.agent.tool import Call, Input, PathText, Tool, Workplace
from actors.permissions import Act

__all__ = ["Edit", "Write"]

DIFF_CHARS = 12_000
"""How much of a difference people are shown; the digest beside it is of all of it."""


class WriteInput(Input):
    path: PathText
    text: Annotated[str, Field(max_length=FILE_BYTES, description="all that the file shall hold")]


class Write(Tool):
    name, kind, acts = "write", "edit", True
    description = "Write a text file in the workspace, new or in the place of what it held. Directories are made."
    Input = WriteInput

    async def prepare(self, at: Workplace, given: WriteInput) -> Call:
        found = await at.ctx.blocking(partial(at.files.find, given.path))
        return await _change(at, self.name, given.path, found, given.text)


class EditInput(Input):
    path: PathText
    old: Annotated[str, Field(min_length=1, max_length=FILE_BYTES, description="what stands there, exactly, once")]
    new: Annotated[str, Field(max_length=FILE_BYTES, description="what shall stand in its place")]


class Edit(Tool):
    name, kind, acts = "edit", "edit", True
    description = "Replace a piece of a text file. `old` has to stand in it exactly once: give as much as that takes."
    Input = EditInput

    async def prepare(self, at: Workplace, given: EditInput) -> Call:
        found = await at.ctx.blocking(partial(at.files.find, given.path))
        if found.text is None:
            raise Refused(f"There is no file {given.path}.")
        count = found.text.count(given.old)
        if count != 1:
            why = "does not stand in it" if not count else f"stands in it {count} times"
            raise Refused(f"Nothing was changed in {given.path}: `old` {why}.")
        return await _change(at, self.name, given.path, found, found.text.replace(given.old, given.new))


async def _change(at: Workplace, tool: str, path: str, found: Found, text: str) -> Call:
    if "\0" in text:
        raise Refused("A text file holds no NUL characters.")
    data = text.encode(errors="surrogatepass")
    if len(data) > FILE_BYTES:
        raise Refused(f"A file is at most {FILE_BYTES} bytes; this would be {len(data)}.")
    whole, change = at.files.absolute(path), await at.ctx.blocking(partial(diff, path, found.text, text))
    said = "created" if found.text is None else "changed"

    async def do() -> str:
        await at.ctx.blocking(partial(at.files.write, path, text, over=found.sha256))
        return f"{path} was {said}: {len(data)} bytes."

    return Call(
        title=f"{'Create' if found.text is None else 'Change'} {path}",
        do=do,
        act=Act(tool=tool, kind="edit", paths=(whole,)),
        action={
            "tool": tool,
            "path": whole,
            "before_sha256": found.sha256,
            "after_sha256": hashlib.sha256(data).hexdigest(),
            "diff": shown(change, DIFF_CHARS),
        },
        paths=(whole,),
        diffs=({"path": whole, "old": found.text, "new": text},),
    )
