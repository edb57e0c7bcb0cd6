"""A greeting and no more: whether an agent's program starts here, and what it says about itself.

For `enginehouse doctor`, which has no engine. Nothing is prompted and no session begins; the program and all that it
started are ended again, whatever comes of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from uuid import uuid4

import trio

from actors.engines.acp.rpc import LINE_BYTES, Answer, Broken, Peer
from actors.lines import Lines, LineTooLong
from actors.processes import Process, SpawnFailed, Tree

__all__ = ["PROTOCOL", "Greeting", "NotGreeted", "greet", "introduction"]

PROTOCOL = 1
READ_BYTES = 1 << 16
LAST_LINES, LAST_BYTES = 5, 2000
TERM_S = 1.0


def introduction(capabilities: Mapping[str, Any]) -> dict[str, Any]:
    """What `initialize` says of us."""
    try:
        ours = version("enginehouse")
    except PackageNotFoundError:  # run from a source tree
        ours = "0"
    client = {"name": "enginehouse", "title": "Enginehouse", "version": ours}
    return {"protocolVersion": PROTOCOL, "clientCapabilities": capabilities, "clientInfo": client}


class NotGreeted(Exception):
    """It did not answer as an agent does; half a sentence says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """`protocol`: the version that it speaks; `name`, `version`: empty when it does not say; `methods`: by what it can
    be authenticated; `seconds`: from the start of its program to the answer.
    """

    protocol: int
    name: str
    version: str
    capabilities: dict[str, Any]
    methods: list[str]
    seconds: float


async def greet(argv: Sequence[str], env: Mapping[str, str], *, cwd: str, within_s: float) -> Greeting:
    """Start the program with the environment `env` and say `initialize`. Raises NotGreeted. Cancelled: it is ended."""
    tree = Tree(f"greeting-{uuid4().hex}")
    begun = trio.current_time()
    try:
        process = await tree.spawn(argv, cwd=cwd, env=env)
        try:
            result = await _within(within_s, process)
        finally:
            with trio.CancelScope(shield=True):
                await process.aclose()
    except SpawnFailed as error:
        raise NotGreeted(f"cannot be started: {error}") from None
    finally:
        await tree.end(TERM_S)  # noqa: ASYNC102 - shielded in there, and bounded
    return _greeting(result, trio.current_time() - begun)


async def _within(seconds: float, process: Process) -> object:
    """What it answers to `initialize`. Raises NotGreeted, with what it said last on standard error."""
    last: deque[bytes] = deque(maxlen=LAST_LINES)
    came: list[object] = []
    why = f"did not answer within {seconds:g} s"
    async with trio.open_nursery(strict_exception_groups=True) as nursery:
        nursery.start_soon(_notice, process, last)
        with trio.move_on_after(seconds):
            try:
                came.append(await _asked(process))
            except NotGreeted as error:
                why = str(error)
                with trio.move_on_after(TERM_S):
                    await trio.lowlevel.checkpoint()
                    await process.wait()
        nursery.cancel_scope.cancel()
    if came:
        return came[0]
    said = b"; ".join(last).decode(errors="replace")[-LAST_BYTES:]
    raise NotGreeted(f"{why}; it said: {said}" if said else why)


async def _asked(process: Process) -> object:
    assert process.stdin is not None
    peer, lines = Peer(), Lines(LINE_BYTES)
    _, asked = peer.request("initialize", introduction({}))
    try:
        await process.stdin.send_all(asked)
        while data := await process.stdout.receive_some(READ_BYTES):
            for line in lines.feed(bytes(data)):
                message, _ = peer.receive(line)
                if isinstance(message, Answer):
                    if message.refused is not None:
                        raise NotGreeted(f"refused: {message.refused}")
                    return message.result
    except trio.BrokenResourceError:
        pass  # it reads nothing: how it ended says more
    except (Broken, LineTooLong) as error:
        raise NotGreeted(f"does not speak the protocol: {error}") from None
    with trio.move_on_after(TERM_S):
        raise NotGreeted(f"ended with exit status {await process.wait()}")
    raise NotGreeted("closed its standard output")


async def _notice(process: Process, last: deque[bytes]) -> None:
    assert process.stderr is not None
    lines = Lines(READ_BYTES, cut=True)
    while data := await process.stderr.receive_some(READ_BYTES):
        last.extend(lines.feed(bytes(data)))


def _greeting(result: object, seconds: float) -> Greeting:
    spoken = result.get("protocolVersion") if isinstance(result, dict) else None
    if not isinstance(result, dict) or type(spoken) is not int:
        raise NotGreeted("answered without a version of the protocol")
    info, capabilities, methods = (result.get(name) for name in ("agentInfo", "agentCapabilities", "authMethods"))
    info = info if isinstance(info, dict) else {}
    return Greeting(
        protocol=spoken,
        name=str(info.get("name", "")),
        version=str(info.get("version", "")),
        capabilities=capabilities if isinstance(capabilities, dict) else {},
        methods=[str(one["id"]) for one in methods or () if isinstance(one, dict) and "id" in one],
        seconds=round(seconds, 2),
    )
