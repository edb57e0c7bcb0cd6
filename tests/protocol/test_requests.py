from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from protocol.requests import Decided, Option, OptionKind, RequestKind, RequestState, fold_request, is_refusal

if TYPE_CHECKING:
    from tests.protocol.conftest import Writer

DECISION = {"option": "yes", "answer": None, "comment": "fine", "by": "ann", "at": "2025-03-01T10:00:01.000Z"}
ENDS: dict[str, tuple[dict[str, Any], RequestState]] = {
    "request.decided": ({"decision": DECISION}, RequestState.ANSWERED),
    "request.expired": ({}, RequestState.EXPIRED),
    "request.withdrawn": ({"reason": "its run is cancelled"}, RequestState.WITHDRAWN),
}


def test_an_opened_row_is_the_record(row: Writer) -> None:
    request = fold_request(
        None, row.opened(deadline="2025-03-01T11:00:00.000Z", default="no", schema={"type": "string"})
    )
    assert request is not None
    assert (request.id, request.run_id, request.kind) == ("req_1", "run_1", RequestKind.APPROVAL)
    assert request.options[1] == Option(id="no", kind=OptionKind.REJECT_ONCE, label="No")
    assert (request.state, request.default, request.schema) == (RequestState.PENDING, "no", {"type": "string"})
    assert (request.deadline, request.used, request.seq) == ("2025-03-01T11:00:00.000Z", False, 1)


@pytest.mark.parametrize("type", ENDS)
def test_each_end_leaves_its_state(row: Writer, type: str) -> None:
    request = fold_request(None, row.opened())
    data, state = ENDS[type]
    assert fold_request(request, row(type, {"request_id": "req_1", "open": 0, **data})) is request
    assert request is not None
    assert request.state is state


def test_the_record_keeps_the_decision(row: Writer) -> None:
    request = fold_request(None, row.opened())
    fold_request(request, row("request.decided", {"request_id": "req_1", "open": 0, "decision": DECISION}))
    assert request is not None
    assert request.decision == Decided(option="yes", comment="fine", by="ann", at="2025-03-01T10:00:01.000Z")


def test_the_record_says_why_it_was_withdrawn_and_that_it_was_used(row: Writer) -> None:
    request = fold_request(None, row.opened())
    fold_request(request, row("request.withdrawn", {"request_id": "req_1", "reason": "stopped"}))
    fold_request(request, row("request.used", {"request_id": "req_1"}))
    assert request is not None
    assert (request.reason, request.used) == ("stopped", True)


@pytest.mark.parametrize("type", [*ENDS, "request.used"])
def test_a_row_of_a_request_that_is_not_known_makes_none(row: Writer, type: str) -> None:
    assert fold_request(None, row(type, {"request_id": "req_1"})) is None


@pytest.mark.parametrize("kind", OptionKind)
def test_only_the_two_kinds_that_reject_are_refusals(kind: OptionKind) -> None:
    options = [Option(id="a", kind=kind, label="A"), Option(id="b", kind=OptionKind.CHOICE, label="B")]
    assert is_refusal(options, "a") == (kind in (OptionKind.REJECT_ONCE, OptionKind.REJECT_ALWAYS))


@pytest.mark.parametrize("option", ["b", "unknown", None])
def test_what_is_no_option_is_no_refusal(option: str | None) -> None:
    assert not is_refusal([Option(id="a", kind=OptionKind.REJECT_ONCE, label="A")], option)
