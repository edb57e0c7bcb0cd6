"""JSON that costs more than it weighs, or that two parsers read differently: each is refused by both doors."""

from __future__ import annotations

import json
from typing import Final

import pytest
import trio

from tests.attack.target import Target

MB: Final = 1 << 20

BOMBS: Final[dict[str, tuple[bytes, int, str]]] = {
    "a million brackets": (b"[" * (MB - 1), 400, "invalid-json"),
    "half a million objects deep": (b'{"a":' * 200_000, 400, "invalid-json"),
    "65 deep and closed": (b'{"input":' + b"[" * 65 + b"]" * 65 + b"}", 400, "invalid-json"),
    "deep behind a long string": (b'{"input":"' + b"x" * 1000 + b'","b":' + b"[" * 100, 400, "invalid-json"),
    "brackets in a string without an end": (b'{"input":"' + b"[" * 100_000, 400, "invalid-json"),
    "10,001 members": (json.dumps({f"k{n}": 1 for n in range(10_001)}).encode(), 400, "invalid-json"),
    "members in many objects": (b"[" + b",".join(b'{"a":1,"b":2}' for _ in range(6000)) + b"]", 400, "invalid-json"),
    "an integer of 301 digits": (b'{"input":' + b"9" * 301 + b"}", 400, "invalid-json"),
    "an integer of a million digits": (b'{"input":' + b"9" * (MB - 20) + b"}", 400, "invalid-json"),
    "a float beyond all floats": (b'{"input":1e999}', 400, "invalid-json"),
    "NaN": (b'{"input":NaN}', 400, "invalid-json"),
    "Infinity": (b'{"input":-Infinity}', 400, "invalid-json"),
    "one key twice": (b'{"input":"a","input":"b"}', 400, "invalid-json"),
    "one key twice, once escaped": (b'{"input":"a","\\u0069nput":"b"}', 400, "invalid-json"),
    "one key twice, deep inside": (b'{"input":{"steps":1,"steps":2}}', 400, "invalid-json"),
    "half a surrogate": (b'{"input":"\\ud800"}', 400, "invalid-json"),
    "surrogates the wrong way round": (b'{"input":"\\udc00\\ud800"}', 400, "invalid-json"),
    "half a surrogate as a key": (b'{"\\ud800":1}', 400, "invalid-json"),
    "a surrogate in raw bytes": (b'{"input":"\xed\xa0\x80"}', 400, "invalid-json"),
    "overlong UTF-8": (b'{"input":"\xc0\xaf"}', 400, "invalid-json"),
    "UTF-8 cut short": (b'{"input":"\xf0\x9f\x98"}', 400, "invalid-json"),
    "a byte order mark": (b'\xef\xbb\xbf{"input":"a"}', 400, "invalid-json"),
    "UTF-16": ('{"input":"a"}'.encode("utf-16"), 400, "invalid-json"),
    "a control character in a string": (b'{"input":"a\nb"}', 400, "invalid-json"),
    "a comma too much": (b'{"input":"a",}', 400, "invalid-json"),
    "a comment": (b'{"input":"a"/* */}', 400, "invalid-json"),
    "single quotes": (b"{'input':'a'}", 400, "invalid-json"),
    "two values": (b'{"input":"a"}{"input":"b"}', 400, "invalid-json"),
    "nothing but space": (b" " * 10_000, 400, "invalid-json"),
    "null": (b"null", 422, "validation-failed"),
    "a list": (b"[]", 422, "validation-failed"),
    "true for a number": (b'{"input":"a","timeout_s":true}', 422, "validation-failed"),
    "a number in a string": (b'{"input":"a","timeout_s":"1"}', 422, "validation-failed"),
    "an unknown member": (b'{"input":"a","scopes":["admin"]}', 422, "validation-failed"),
    "a member of objects' own": (b'{"input":"a","__proto__":{"admin":true}}', 422, "validation-failed"),
    "a body over the limit": (b'{"input":"' + b"x" * MB + b'"}', 413, "too-large"),
}

HARMLESS: Final[dict[str, bytes]] = {
    "a long string": b'{"input":"' + b"x" * (MB - 100) + b'"}',
    "a long string of escapes": b'{"input":"' + b"\\u0041" * 100_000 + b'"}',
    "a string of NULs": b'{"input":"\\u0000\\u0000"}',
    "a string of quotes": b'{"input":"' + b'\\"' * 100_000 + b'"}',
    "all of Unicode that one can say": json.dumps({"input": "\u202e𝕳\u0085  \x7f\x1b[2J🧨"}).encode(),
}


@pytest.mark.parametrize("name", BOMBS)
async def test_a_bomb_is_refused_by_the_fast_routes_and_by_the_others(shared: Target, name: str) -> None:
    body, status, slug = BOMBS[name]
    for path in ("/api/v1/engines/nobody/runs", "/api/v1/engines"):
        with trio.fail_after(30):
            answer = await shared.ask("POST", path, body)
        assert (answer.status, answer.slug) == (status, slug), path
        assert len(answer.body) < 10_000, "a refusal does not send the bomb back"


@pytest.mark.parametrize("name", HARMLESS)
async def test_what_only_looks_like_a_bomb_arrives_as_it_was_sent(shared: Target, name: str) -> None:
    engine = await shared.engine()
    answer = await shared.ask("POST", f"/api/v1/engines/{engine}/runs", HARMLESS[name], "Prefer: wait=30")
    assert answer.status == 200, answer.body[:300]
    assert answer.json["input"] == json.loads(HARMLESS[name])["input"]
    rows = await shared.journal(types="run.queued")
    assert rows[-1]["data"]["input"] == json.loads(HARMLESS[name])["input"]


async def test_bombs_leave_the_house_well(shared: Target) -> None:
    await shared.well()
