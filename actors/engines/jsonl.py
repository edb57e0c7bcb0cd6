"""The language of the `process` kind: one JSON object a line, told in `docs/engine-protocol.md`. Values only, no I/O.

What a program says is parsed strictly in its types and generously in its members: unknown ones are ignored, and so are
unknown messages, so that a newer program can speak to an older house. What a program need not do it announces in its
`hello`; who announces nothing speaks the language as it was at first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from actors.lines import VALUES, crowded
from protocol.edge import adapter
from protocol.events import encode
from protocol.requests import Option, RequestKind
from protocol.specs import Levels

__all__ = [
    "LINE_BYTES",
    "PROTOCOL",
    "SNAPSHOT_BYTES",
    "Ask",
    "Broken",
    "Event",
    "Failure",
    "Heartbeat",
    "Hello",
    "Log",
    "Message",
    "Output",
    "Paused",
    "Progress",
    "Ready",
    "Result",
    "Snapshot",
    "Unknown",
    "Update",
    "Usage",
    "parse_line",
    "say",
]  # fmt: skip

PROTOCOL = 1
LINE_BYTES = 1 << 20
"""How long a message may be, either way."""

SNAPSHOT_BYTES = 256 << 10
"""How long the line of a `snapshot` may be: it is kept, and told again."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
Id = Annotated[str, Field(min_length=1, max_length=128)]


class Broken(Exception):
    """The program does not speak the protocol; the sentence says how."""


class Message(BaseModel):
    """Something the program says. `id`: the run it belongs to; None where it belongs to the engine as a whole."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False)

    id: Id | None = None


class Hello(Message):
    """`ready`: whether it can work already; else it says `ready` later. `heartbeat_s`: it says something at least so
    often. `pause`: it stands still when it is told `pause`. `resume`: it goes on with a run from its last `snapshot`.
    """

    protocol: int
    ready: bool = True
    heartbeat_s: Annotated[float, Field(ge=0.1, le=86_400)] | None = None
    pause: bool = False
    resume: bool = False


class Ready(Message):
    """It can work now."""


class Heartbeat(Message):
    """It lives; so does who says anything else."""


class Paused(Message):
    """It stands still, as the `pause` of this number asked."""

    number: int


class Result(Message):
    id: Id
    result: Any = None


class Failure(Message):
    id: Id
    slug: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")] = "failed"
    detail: str = ""
    result: Any = None


class Event(Message):
    name: Name
    data: dict[str, Any] = Field(default_factory=dict)


class Update(Message):
    slice: Name
    value: Any = None


class Snapshot(Message):
    """What the next incarnation needs to go on; None: nothing."""

    value: Any = None


class Log(Message):
    text: str
    level: Literal["debug", "info", "warning", "error"] = "info"


class Progress(Message):
    id: Id
    data: dict[str, Any] = Field(default_factory=dict)


class Output(Message):
    id: Id
    text: str


class Usage(Message):
    """What the run has used since it said so last."""

    id: Id
    amounts: dict[Name, Annotated[float, Field(ge=0, le=10**12)]]


class Ask(Message):
    """`ask`: the program's own name for the question, to tell the answer by."""

    id: Id
    ask: Id
    title: Annotated[str, Field(min_length=1, max_length=1000)]
    kind: RequestKind = RequestKind.QUESTION
    detail: str = ""
    options: tuple[Option, ...] = ()
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    deadline_s: Annotated[float, Field(gt=0, le=10**9)] | None = None
    default: str | None = None
    action: Any = None
    valid_s: Annotated[float, Field(gt=0, le=10**9)] | None = None
    escalate_s: Levels | None = None


class Unknown(Message):
    type: str


MESSAGES: dict[str, type[Message]] = {
    "hello": Hello,
    "ready": Ready,
    "heartbeat": Heartbeat,
    "paused": Paused,
    "result": Result,
    "error": Failure,
    "event": Event,
    "update": Update,
    "snapshot": Snapshot,
    "log": Log,
    "progress": Progress,
    "output": Output,
    "usage": Usage,
    "ask": Ask,
}


def parse_line(line: bytes, *, shown: Callable[[bytes], bytes] = bytes) -> Message:
    """A line of the program as a message. Raises Broken with a sentence that shows the line, as `shown` makes it."""
    if crowded(line):
        raise Broken(f"a message holds more than {VALUES} values: {_shown(shown(line))}")
    try:
        value = from_json(line, allow_inf_nan=False)
        encode(value)  # 1e999 is read as an infinity
    except ValueError as error:
        raise Broken(f"a line is not JSON: {_shown(shown(line))} ({error})") from None
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise Broken(f"a line is no message, which is a JSON object with a `type`: {_shown(shown(line))}")
    model = MESSAGES.get(value["type"])
    if model is None:
        return Unknown(type=value["type"][:64])
    if model is Snapshot and len(line) > SNAPSHOT_BYTES:
        raise Broken(f"a `snapshot` has {len(line)} bytes; the limit is {SNAPSHOT_BYTES}")
    try:
        return adapter(model).validate_json(line)  # type: ignore[no-any-return]  # an adapter forgets its type
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"])) or "the message"
        raise Broken(f"a message `{value['type']}` is wrong: {where}: {fault['msg']}") from None


def say(type: str, **members: Any) -> bytes:
    """A message to the program, as its line."""
    return encode({"type": type, **members}) + b"\n"


def _shown(line: bytes) -> str:
    text = line[:120].decode(errors="replace")
    return repr(text + "..." if len(line) > 120 else text)
