from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from actors.digest import Digest, run_digest

EVENTS: list[dict[str, Any]] = [
    {"type": "run.queued", "time": "2025-03-01T10:00:00.000Z", "data": {"input": {"b": 1, "a": [True, None, 0.5]}}},
    {"type": "run.started", "time": "2025-03-01T10:00:00.250Z", "data": {"attempt": 1}},
    {"type": "run.completed", "time": "2025-03-01T10:00:07.000Z", "data": {"result": {"exit": 0, "text": "é€"}}},
]


def placed(event: dict[str, Any], seq: int) -> dict[str, Any]:
    return {"seq": seq, "engine_seq": seq - 7, "id": f"00c0ffee.{seq}", **event, "pool": "default"}


def test_a_run_digest_is_the_hash_of_a_canonical_array_of_type_time_and_data() -> None:
    assert run_digest(EVENTS) == hashlib.sha256(rfc8785.dumps(EVENTS)).hexdigest()


def test_a_run_digest_never_changes() -> None:
    assert run_digest(EVENTS) == "b37dc1de89fa39ddbeaabd206fd85d6718e593d3397d42ea1033218b42973e35"


def test_a_run_without_events_has_the_digest_of_an_empty_array() -> None:
    assert run_digest([]) == Digest().hex() == hashlib.sha256(b"[]").hexdigest()


@given(st.integers(0, 3))
def test_a_digest_in_the_making_is_that_of_the_events_so_far(seen: int) -> None:
    digest = Digest()
    for event in EVENTS[:seen]:
        digest.add(event)
    assert digest.hex() == digest.hex() == run_digest(EVENTS[:seen])
    for event in EVENTS[seen:]:
        digest.add(event)
    assert digest.hex() == run_digest(EVENTS)


def test_where_a_run_is_written_does_not_count() -> None:
    assert run_digest([placed(event, 10 + n) for n, event in enumerate(EVENTS)]) == run_digest(EVENTS)


def test_the_order_of_members_does_not_count() -> None:
    turned = [dict(reversed(json.loads(json.dumps(event, sort_keys=True)).items())) for event in EVENTS]
    assert run_digest(turned) == run_digest(EVENTS)


@pytest.mark.parametrize("member", ["type", "time", "data"])
def test_each_member_of_each_event_counts(member: str) -> None:
    digests = {run_digest([*EVENTS[:n], EVENTS[n] | {member: "other"}, *EVENTS[n + 1 :]]) for n in range(len(EVENTS))}
    assert len(digests | {run_digest(EVENTS)}) == len(EVENTS) + 1


def test_order_and_number_of_events_count() -> None:
    assert (
        len({run_digest(EVENTS), run_digest(EVENTS[::-1]), run_digest(EVENTS[:2]), run_digest(EVENTS + EVENTS[2:])})
        == 4
    )


def test_integers_that_no_double_holds_are_told_apart() -> None:
    digests = {run_digest([EVENTS[1] | {"data": {"at": [2**60 + n]}}]) for n in range(3)}
    assert len(digests) == 3


def test_integers_that_no_double_holds_count_as_their_decimal_text() -> None:
    at = {n: run_digest([EVENTS[1] | {"data": {"at": [n], "small": 1}}]) for n in (2**53, "9007199254740992", -(2**53))}
    assert at[2**53] == at["9007199254740992"] != at[-(2**53)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800"])
def test_data_that_is_not_json_is_refused_and_changes_nothing(value: object) -> None:
    digest = Digest()
    digest.add(EVENTS[0])
    before = digest.hex()
    with pytest.raises(ValueError, match=r"JCS|UTF-8"):
        digest.add(EVENTS[1] | {"data": {"x": 2**60, "y": value}})
    with pytest.raises(KeyError):
        digest.add({"type": "run.started", "time": EVENTS[1]["time"]})
    assert digest.hex() == before
    digest.add(EVENTS[1])
    assert digest.hex() == run_digest(EVENTS[:2])
