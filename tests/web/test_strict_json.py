"""The parser of strangers' bodies, against the standard library's as the oracle."""

import json
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import InvalidJson
from web.strict_json import parse

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=30,
)


@given(VALUES, st.booleans(), st.sampled_from([None, 2]))
def test_what_json_writes_is_read_back_with_its_types(value: object, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert repr(parse(text.encode())) == repr(json.loads(text))


@given(
    st.binary(max_size=60) | st.text(alphabet='[]{}",:\\u0123456789deD8.-+ nulltrufasNI\n', max_size=60).map(str.encode)
)
def test_it_accepts_nothing_that_json_refuses(data: bytes) -> None:
    try:
        value = parse(data)
    except InvalidJson:
        return
    assert repr(value) == repr(json.loads(data.decode()))
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" \n",
        b"\xef\xbb\xbf{}",
        b'"\xff"',
        b'"\xed\xa0\x80"',
        "{}".encode("utf-16"),
        b"NaN",
        b"[Infinity]",
        b"[-Infinity]",
        b"1e400",
        b"-1e400",
        b'"\\ud800"',
        b'"\\uDC00x"',
        b'{"\\ud83d": 1}',
        b'{"a": 1, "a": 1}',
        b'[{"b": {"a": 1, "\\u0061": 2}}]',
        b"{} {}",
        b"{},",
        b"01",
        b"'a'",
        b'{"a": 1,}',
        b"[1,]",
        b'"\n"',
        b"// no\n1",
        b"9" * 301,
        b"-" + b"9" * 301,
        b"[" * 65 + b"]" * 65,
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b"[" * 50_000,
        b"[" * 50_000 + b"]" * 50_000,
        b'{"a":' * 50_000,
        b"\x00",
        b'"unterminated',
        b'"' + b'\\"' * 400_000,
    ],
    ids=lambda data: repr(data[:24]),
)
def test_it_refuses(data: bytes) -> None:
    with pytest.raises(InvalidJson) as refused:
        parse(data)
    assert refused.value.detail.endswith(".")


@pytest.mark.parametrize(
    "data, value",
    [
        (b"1", 1),
        (b' "a" ', "a"),
        (b"9" * 300, int("9" * 300)),
        (b"-" + b"9" * 300, -int("9" * 300)),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"[[[{{{\\"[["', '[[[{{{"[['),
        (b"1e308", 1e308),
        (b"1.0", 1.0),
        (b'{"a": {"a": 1}}', {"a": {"a": 1}}),
    ],
)
def test_it_accepts(data: bytes, value: object) -> None:
    assert repr(parse(data)) == repr(value)


def test_the_limits_are_exact() -> None:
    assert parse(b"[" * 64 + b"]" * 64)
    assert parse(b"[" + b"[]," * 5_000 + b"[]]")  # many brackets, but flat
    body: Any = {f"k{i}": {"a": i} for i in range(5_000)}
    assert parse(json.dumps(body).encode()) == body
    with pytest.raises(InvalidJson, match="10000"):
        parse(json.dumps({**body, "one more": 0}).encode())


@pytest.mark.parametrize("unit", [b'"\\', b'\\"', b'"', b"[],", b'{"":', b"\\u", b'"a",', b"1,", b'[{"'])
def test_a_hostile_megabyte_takes_linear_time(unit: bytes) -> None:
    began = process_time()
    with pytest.raises(InvalidJson):
        parse(unit * (1_048_576 // len(unit)))
    assert process_time() - began < 2
