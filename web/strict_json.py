r"""JSON from strangers: RFC 8259 and nothing more, in bounded time and memory.

`json.loads` is lenient where leniency is an attack surface (NaN, duplicate keys, lone surrogates), and 50,000 brackets
end in a RecursionError; a faster parser silently turns large integers into floats. So: one linear scan over the
brackets, which never recurses, then the C scanner of the standard library with a hook for each thing that it
would let through.
"""

from __future__ import annotations

import json
import math
import re
from typing import Never

from protocol.errors import InvalidJson

# The closing quote is optional: otherwise an unterminated string of n escaped quotes is tried again from each of them.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_BOM = b"\xef\xbb\xbf"
_OPENING = frozenset(b"[{")


def parse(data: bytes, *, max_depth: int = 64, max_keys: int = 10_000, max_int_digits: int = 300) -> object:
    """The value that `data` spells, built of dict, list, str, int, float, bool and None.

    Args:
        data: one JSON text in UTF-8, without byte order mark.
        max_depth: how many arrays and objects may stand inside each other; a lone number has depth 0.
        max_keys: object members in the whole text.
        max_int_digits: digits of an integer; a float is refused when it is too large to be finite.

    Raises:
        InvalidJson: for everything else; `detail` says what to change.

    """
    if data.startswith(_BOM):
        _refuse("Send the JSON without a byte order mark.")
    if not data or data.isspace():
        _refuse("Send a JSON value: the body is empty.")
    _check_depth(data, max_depth)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        _refuse(f"Send UTF-8: byte {error.start} of the body cannot be decoded.")

    keys = 0

    def members(pairs: list[tuple[str, object]]) -> dict[str, object]:
        nonlocal keys
        keys += len(pairs)
        if keys > max_keys:
            _refuse(f"Send at most {max_keys} object members in one body.")
        result = dict(pairs)
        if len(result) != len(pairs):
            _refuse("Name each member of an object once: a key occurs twice.")
        return result

    def integer(digits: str) -> int:
        if len(digits) - digits.startswith("-") > max_int_digits:
            _refuse(f"Send integers of at most {max_int_digits} digits.")
        return int(digits)

    try:
        value: object = json.loads(
            text, object_pairs_hook=members, parse_int=integer, parse_float=_finite, parse_constant=_no_constant
        )
    except json.JSONDecodeError as error:
        _refuse(f"Send valid JSON: {error.msg} at character {error.pos}.")
    if _SURROGATE_ESCAPE.search(data) and not _encodable(value):
        _refuse("Send surrogates only in pairs: a string holds half of one.")
    return value


def _check_depth(data: bytes, max_depth: int) -> None:
    brackets = _STRING.sub(b"", data).translate(None, _NOT_BRACKETS)
    if brackets.count(b"[") + brackets.count(b"{") <= max_depth:
        return
    depth = 0
    for bracket in brackets:
        depth += 1 if bracket in _OPENING else -1
        if depth > max_depth:
            _refuse(f"Nest arrays and objects at most {max_depth} deep.")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        _refuse("Send numbers that fit a double: one is too large.")
    return number


def _no_constant(name: str) -> Never:
    _refuse(f"Send JSON numbers: {name} is none.")


def _encodable(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _refuse(detail: str) -> Never:
    # From None: the parser's own errors carry the whole body in their attributes, and a log would print it.
    raise InvalidJson(detail) from None
