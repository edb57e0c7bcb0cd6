"""JSON-RPC 2.0 as the protocol uses it: one object a line, requests both ways. Values and bookkeeping, no I/O.

Whatever is not wrong in itself is tolerated: unknown members, answers that nobody waits for, a missing version. What
cannot be read means that the other side does not speak the protocol, and that is `Broken`.

    https://www.jsonrpc.org/specification
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from pydantic_core import from_json

from actors.engines.conversing import shortened
from actors.lines import VALUES, crowded
from protocol.events import LEVELS, check_depth, encode

__all__ = [
    "AUTH_REQUIRED",
    "CANCELLED",
    "INTERNAL",
    "INVALID_PARAMS",
    "IN_HAND",
    "LINE_BYTES",
    "NOT_FOUND",
    "NO_METHOD",
    "Answer",
    "Broken",
    "Message",
    "Notification",
    "Peer",
    "Refused",
    "Request",
    "Stray",
    "parse_line",
]

LINE_BYTES = 16 << 20
"""How long a message may be. Those of this protocol carry files and images."""

IN_HAND = 64
"""How many of the other side's requests may wait for an answer; more are refused."""

IN_HAND_BYTES = 64 << 20
"""How long those may be together."""

ID_BYTES = 1 << 10

INVALID_REQUEST, NO_METHOD, INVALID_PARAMS, INTERNAL = -32600, -32601, -32602, -32603
AUTH_REQUIRED, NOT_FOUND, CANCELLED = -32000, -32002, -32800
"""The protocol's own: nobody is authenticated, there is no such thing, the request was cancelled."""

SAID_BYTES = 4 << 10
"""How much of an error is shown."""

HUGE = re.compile(rb"\d[eE]\+?\d{3}|(?<!\d)\d{300}")
SURROGATE = re.compile("[\ud800-\udfff]")

Id = str | int | float | None


class Broken(Exception):
    """The other side does not speak the protocol; half a sentence says how."""


class Refused(Exception):
    """A request had an error for an answer, or is to have one."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data

    def __str__(self) -> str:
        """With what some agents put into `data` only; of a long one the beginning."""
        match self.data:
            case str(said) | {"message": str(said)} | {"details": str(said)} if said and said != self.message:
                return shortened(f"{self.message}: {said}", SAID_BYTES)
        return shortened(self.message, SAID_BYTES)


@dataclass(frozen=True, slots=True)
class Request:
    """The other side wants an answer. `params` is empty when there are none, or no object."""

    id: Id
    method: str
    params: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Notification:
    method: str
    params: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """To one of ours. `refused` is its error, when it is one."""

    id: int
    result: Any
    refused: Refused | None


@dataclass(frozen=True, slots=True)
class Stray:
    """Something that is well formed and means nothing here: an answer that nobody waits for (any more)."""

    id: Any


Message = Request | Notification | Answer | Stray


class Peer:
    """Who asked what: our requests that have no answer yet, and the other side's. Every request has one answer."""

    def __init__(self) -> None:
        self._next = 0
        self._asked: set[int] = set()
        self._in_hand: dict[bytes, int] = {}  # how long each is

    @property
    def in_hand(self) -> int:
        """How many requests of the other side have no answer yet."""
        return len(self._in_hand)

    def request(self, method: str, params: dict[str, Any]) -> tuple[int, bytes]:
        """The id of a new request of ours, and its line."""
        number, self._next = self._next, self._next + 1
        self._asked.add(number)
        return number, _line({"id": number, "method": method, "params": params})

    @staticmethod
    def notify(method: str, params: dict[str, Any]) -> bytes:
        return _line({"method": method, "params": params})

    def forget(self, id: int) -> None:
        """Nobody waits for the answer to this request of ours any more."""
        self._asked.discard(id)

    def answer(self, request: Request, result: Any) -> bytes | None:
        """The line that answers; None when it was answered before."""
        return self._settle(request, {"result": result})

    def refuse(self, request: Request, refused: Refused) -> bytes | None:
        error = {"code": refused.code, "message": refused.message}
        if refused.data is not None:
            error["data"] = refused.data
        return self._settle(request, {"error": error})

    def _settle(self, request: Request, members: dict[str, Any]) -> bytes | None:
        key = encode(request.id)
        if key not in self._in_hand:
            return None
        del self._in_hand[key]
        return _line({"id": request.id, **members})

    def receive(self, line: bytes, *, shown: Callable[[bytes], bytes] = bytes) -> tuple[Message, bytes | None]:
        """What the line says, and a line that has to be sent at once (a request that is refused before anybody sees
        it). Raises Broken with half a sentence that shows the line, as `shown` makes it.
        """
        value = parse_line(line, shown=shown)
        name, method = value.get("id"), value.get("method")
        if not isinstance(name, str | int | float | None) or isinstance(name, bool):
            _break("a message has an id that is no id", line, shown)
        if method is None:
            return self._answered(value, name), None
        if not isinstance(method, str):
            _break("a message has a method that is no text", line, shown)
        found = value.get("params")
        params = found if isinstance(found, dict) else {}
        if "id" not in value:
            return Notification(method, params), None
        key, request = encode(name), Request(name, method, params)
        if len(key) > ID_BYTES:
            _break(f"a request has an id of more than {ID_BYTES} bytes", line, shown)
        if key in self._in_hand:
            error = {"code": INVALID_REQUEST, "message": "a request with this id waits for its answer already"}
            return Stray(name), _line({"id": name, "error": error})
        waiting = sum(self._in_hand.values())
        self._in_hand[key] = len(line)
        if len(self._in_hand) > IN_HAND:
            why = f"{IN_HAND} requests wait for an answer already"
            return Stray(name), self.refuse(request, Refused(INTERNAL, why))
        if waiting and waiting + len(line) > IN_HAND_BYTES:
            why = f"requests of {waiting} bytes wait for an answer already"
            return Stray(name), self.refuse(request, Refused(INTERNAL, why))
        return request, None

    def _answered(self, value: dict[str, Any], id: Id) -> Message:
        if type(id) is not int or id not in self._asked:
            return Stray(id)
        self._asked.discard(id)
        error = value.get("error")
        if error is None:
            return Answer(id, value.get("result"), None)
        code = error.get("code") if isinstance(error, dict) else None
        message = error.get("message") if isinstance(error, dict) else error
        data = error.get("data") if isinstance(error, dict) else None
        return Answer(id, None, Refused(code if type(code) is int else INTERNAL, str(message or "no reason"), data))


def parse_line(line: bytes, *, shown: Callable[[bytes], bytes] = bytes) -> dict[str, Any]:
    """The line as a JSON object whose texts can all be encoded again. Raises Broken."""
    if crowded(line):
        _break(f"a message holds more than {VALUES} values", line, shown)
    try:
        value = from_json(line, allow_inf_nan=False)
        if HUGE.search(line):
            encode(value)  # 1e999 is read as an infinity
        if line.count(b"[") + line.count(b"{") > LEVELS:
            check_depth(value)
    except ValueError as error:
        # Half a surrogate pair is JSON all the same (RFC 8259, 8.2), and a program in JavaScript may say one.
        value = _lenient(line) if b"\\u" in line else None
        if value is None:
            _break("a line is not JSON", line, shown, f" ({error})")
    if not isinstance(value, dict):
        _break("a line is no message, which is a JSON object", line, shown)
    return value


def _lenient(line: bytes) -> Any:
    try:
        value = _whole(json.loads(line))
        encode(value)
    except (ValueError, RecursionError):
        return None
    return value


def _whole(value: Any, deep: int = 0) -> Any:
    """The value with U+FFFD in place of every half of a surrogate pair. ValueError: it is nested too deeply."""
    if deep > LEVELS:
        raise ValueError("nested too deeply")
    match value:
        case str():
            return SURROGATE.sub("\ufffd", value)
        case dict():
            return {_whole(name): _whole(member, deep + 1) for name, member in value.items()}
        case list():
            return [_whole(member, deep + 1) for member in value]
    return value


def _break(what: str, line: bytes, shown: Callable[[bytes], bytes], why: str = "") -> NoReturn:
    text = shown(line[:4096])[:120].decode(errors="replace")
    raise Broken(f"{what}: {text + '...' if len(line) > 120 else text!r}{why}") from None


def _line(members: dict[str, Any]) -> bytes:
    return encode({"jsonrpc": "2.0", **members}) + b"\n"
