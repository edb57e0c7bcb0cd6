"""Trace context is read strictly: what is not valid is as if it had not been sent."""

import pytest

from protocol.trace import STATE_CHARS, Trace, trace_of

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_valid_header_is_taken_apart() -> None:
    trace = trace_of([PARENT], ["vendor=1, other@acme=x y"])
    assert trace == Trace(PARENT, "vendor=1,other@acme=x y")
    assert (trace.trace_id, trace.span_id, trace.flags) == (
        "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", 1,
    )  # fmt: skip
    assert trace.environment() == {"TRACEPARENT": PARENT, "TRACESTATE": "vendor=1,other@acme=x y"}
    assert Trace(PARENT).environment() == {"TRACEPARENT": PARENT}


@pytest.mark.parametrize(
    "parents",
    [
        [],
        [PARENT, PARENT],
        [""],
        [PARENT.upper()],
        [PARENT + "-more"],
        [PARENT + " "],
        [PARENT.replace("00-", "ff-", 1)],
        [PARENT.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32)],
        [PARENT.replace("b7ad6b7169203331", "0" * 16)],
        [PARENT[:-1]],
        [PARENT.replace("-", "_")],
        ["٠" + PARENT[1:]],
    ],
)
def test_what_is_not_valid_is_nothing(parents: list[str]) -> None:
    assert trace_of(parents, ["vendor=1"]) is None


def test_a_later_version_counts_as_far_as_it_is_known_and_unknown_flags_are_dropped() -> None:
    assert trace_of(["cc" + PARENT[2:-2] + "ff-what-comes"]) == Trace(PARENT[:-2] + "03")


@pytest.mark.parametrize(
    "states",
    [
        ["Vendor=1"],
        ["vendor"],
        ["vendor=a=b"],
        ["vendor=1", "vendor=2"],
        ["vendor=" + "x" * STATE_CHARS],
        [",".join(f"v{n}=1" for n in range(33))],
        ["vendor=\x01"],
    ],
)
def test_a_state_that_is_not_valid_is_dropped_alone(states: list[str]) -> None:
    assert trace_of([PARENT], states) == Trace(PARENT)


def test_empty_members_of_a_state_are_allowed() -> None:
    assert trace_of([PARENT], ["a=1,, b=2", ""]) == Trace(PARENT, "a=1,b=2")
