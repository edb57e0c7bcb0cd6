"""JSON-RPC, without I/O: whatever comes is a message or Broken, and every request has one answer."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.engines.acp import rpc
from actors.engines.acp.rpc import Answer, Broken, Notification, Peer, Refused, Request, Stray, parse_line
from actors.lines import VALUES
from protocol.events import LEVELS, encode

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
IDS = st.none() | st.text(max_size=5) | st.integers() | st.floats(allow_nan=False, allow_infinity=False)


def heard(peer: Peer, **members: Any) -> Any:
    """What a peer takes a message for, and what it answers at once."""
    message, reply = peer.receive(json.dumps(members).encode())
    return message, None if reply is None else json.loads(reply)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_is_an_object_or_broken(line: bytes) -> None:
    try:
        value = parse_line(line)
    except Broken:
        return
    encode(value)


@given(st.dictionaries(st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error"]), JSON))
def test_whatever_an_object_holds_is_a_message_or_broken(value: dict[str, Any]) -> None:
    peer = Peer()
    peer.request("x", {})
    try:
        message, _ = peer.receive(json.dumps(value).encode())
    except Broken:
        return
    assert isinstance(message, Request | Notification | Answer | Stray)


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_halves_of_surrogate_pairs_are_replaced_and_the_rest_kept(text: str) -> None:
    value = parse_line(json.dumps({"text": text}).encode())
    pairs = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert value["text"].replace("\ufffd", "") == pairs.replace("\ufffd", "")
    encode(value)


@pytest.mark.parametrize("line", [b"", b"1e999", b'{"a": 1e999}', b'{"a": NaN}', b'{"a": -Infinity}', b"[" * 10_000])
def test_what_no_json_is_is_broken(line: bytes) -> None:
    with pytest.raises(Broken, match=r"a line is not JSON|no message"):
        parse_line(line)


def test_what_is_nested_too_deeply_is_broken_with_surrogates_too() -> None:
    with pytest.raises(Broken):
        parse_line(b'{"a": "\\ud800", "b": ' + b"[" * 500 + b"]" * 500 + b"}")


def test_a_line_full_of_digits_takes_no_time() -> None:
    begun = time.process_time()
    parse_line(b'{"a":"' + (b"1" * 299 + b"x") * ((16 << 20) // 300) + b'"}')
    assert time.process_time() - begun < 3  # and nine seconds, where the digits are counted from each of them


def test_a_long_line_is_shown_in_part_and_masked() -> None:
    with pytest.raises(Broken) as broken:
        parse_line(b"secret" + b"x" * 10_000, shown=lambda line: line.replace(b"secret", b"***"))
    assert str(broken.value).startswith("a line is not JSON: '***xxx")
    assert len(str(broken.value)) < 300


@given(IDS, JSON)
def test_a_request_has_one_answer_under_its_own_id(name: Any, result: Any) -> None:
    peer = Peer()
    message, reply = heard(peer, id=name, method="m", params={"a": 1})
    assert (message, reply) == (Request(name, "m", {"a": 1}), None)
    assert peer.in_hand == 1
    line = peer.answer(message, result)
    assert line is not None
    assert json.loads(line) == {"jsonrpc": "2.0", "id": name, "result": result}
    assert peer.answer(message, result) is None
    assert peer.refuse(message, Refused(1, "too late")) is None
    assert peer.in_hand == 0


def test_an_id_that_waits_already_is_refused_and_the_first_keeps_its_answer() -> None:
    peer = Peer()
    first, _ = heard(peer, id=1, method="m")
    again, reply = heard(peer, id=1, method="m")
    assert (again, reply["error"]["code"]) == (Stray(1), -32600)
    assert peer.answer(first, 2) is not None


@pytest.mark.parametrize("pair", [(1, "1"), (1, 1.5), (None, 0)])
def test_ids_of_other_types_are_other_ids(pair: tuple[Any, Any]) -> None:
    peer = Peer()
    found = [heard(peer, id=name, method="m")[0] for name in pair]
    assert all(isinstance(message, Request) for message in found)
    assert all(peer.answer(message, None) is not None for message in found)


def test_more_requests_than_can_wait_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "IN_HAND", 2)
    peer = Peer()
    messages = [heard(peer, id=n, method="m") for n in range(3)]
    assert [type(message) for message, _ in messages] == [Request, Request, Stray]
    assert messages[2][1]["error"]["message"] == "2 requests wait for an answer already"
    assert peer.in_hand == 2


def test_answers_find_their_requests_in_any_order_and_once() -> None:
    peer = Peer()
    ids = [peer.request("m", {})[0] for _ in range(3)]
    for number in reversed(ids):
        assert heard(peer, id=number, result=number)[0] == Answer(number, number, None)
        assert heard(peer, id=number, result=number)[0] == Stray(number)
    forgotten, _ = peer.request("m", {})
    peer.forget(forgotten)
    assert heard(peer, id=forgotten, result=1)[0] == Stray(forgotten)
    wrong: tuple[Any, ...] = (True, [], {})
    for name in wrong:
        with pytest.raises(Broken):
            heard(peer, id=name, result=1)


@pytest.mark.parametrize(
    "error, said",
    [
        ({"code": -32000, "message": "Log in"}, "Log in"),
        ({"code": -32603, "message": "Internal error", "data": {"details": "disk full"}}, "Internal error: disk full"),
        ({"code": -32603, "message": "Internal error", "data": "disk full"}, "Internal error: disk full"),
        ({"code": "odd", "message": None}, "no reason"),
        ("just a text", "just a text"),
        ([], "no reason"),
    ],
)
def test_errors_of_any_shape_are_understood(error: Any, said: str) -> None:
    peer = Peer()
    number, _ = peer.request("m", {})
    message, _ = heard(peer, id=number, error=error)
    assert (message.result, str(message.refused)) == (None, said)


def test_a_message_of_very_many_values_is_not_read() -> None:
    for members in (b"0," * VALUES, b"[]," * VALUES, b'"",' * VALUES, b'"\\"\\\\",' * VALUES, b'{"a":0},' * VALUES):
        with pytest.raises(Broken, match="holds more than 100000 values"):
            parse_line(b'{"a":[' + members + b"0]}")
    for text in (b"0," * VALUES, b'\\",' * VALUES, b"\\\\," * VALUES):
        assert parse_line(b'{"a":"' + text + b'"}')
    with pytest.raises(Broken, match="is not JSON"):
        parse_line(b'{"a":"' + b'\\",' * VALUES)


def test_what_is_nested_too_deeply_is_not_read() -> None:
    assert parse_line(b'{"a":' + b"[" * (LEVELS - 1) + b"]" * (LEVELS - 1) + b"}")
    with pytest.raises(Broken, match=f"in more than {LEVELS} levels"):
        parse_line(b'{"a":' + b"[" * LEVELS + b"]" * LEVELS + b"}")


def test_requests_that_wait_have_bounds() -> None:
    peer = Peer()
    with pytest.raises(Broken, match="an id of more than 1024 bytes"):
        peer.receive(b'{"id":"' + b"x" * 2000 + b'","method":"m"}')
    long = b'"method":"m","params":{"a":"' + b"x" * (15 << 20) + b'"}}'
    taken = [peer.receive(b'{"id":%d,' % number + long) for number in range(6)]
    assert [reply is None for _, reply in taken] == [True] * 4 + [False] * 2
    assert b"requests of 6" in (taken[-1][1] or b"")
