from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from protocol import commands
from protocol.commands import Body, Command, WireBody, verb_of
from protocol.edge import as_json, dump, load, schema
from protocol.edge import parse as parse_as
from protocol.errors import ValidationFailed
from protocol.plan import Verb
from protocol.runs import OnBusy, Priority
from protocol.specs import PauseMode

FULL: dict[str, tuple[dict[str, Any], Any]] = {
    "start": ({}, commands.Start()),
    "stop": ({"grace_s": 0.5, "reason": "r"}, commands.Stop(grace_s=0.5, reason="r")),
    "restart": ({"grace_s": 0, "reason": "r"}, commands.Restart(grace_s=0, reason="r")),
    "pause": (
        {"mode": "interrupt", "reason": "r", "holder": "h"},
        commands.Pause(mode=PauseMode.INTERRUPT, reason="r", holder="h"),
    ),
    "resume": ({"holder": "*"}, commands.Resume(holder="*")),
    "cancel": ({"run_id": "run_1", "reason": "r"}, commands.Cancel(run_id="run_1", reason="r")),
    "submit": (
        {
            "input": {"a": [1, None]},
            "priority": "high",
            "timeout_s": 1.5,
            "queue_ttl_s": 2,
            "on_busy": "replace",
            "labels": {"k": "v"},
        },
        commands.Submit(
            input={"a": [1, None]},
            priority=Priority.HIGH,
            timeout_s=1.5,
            queue_ttl_s=2,
            on_busy=OnBusy.REPLACE,
            labels={"k": "v"},
        ),
    ),
    "signal": ({"name": "n", "payload": [True]}, commands.Signal(name="n", payload=[True])),
    "dispose": (
        {"force": True, "grace_s": 1, "reason": "r"},
        commands.Dispose(force=True, grace_s=1, reason="r"),
    ),
    "approve": (
        {"request_id": "q", "comment": "c", "digest": "d"},
        commands.Approve(request_id="q", comment="c", digest="d"),
    ),
    "reject": ({"request_id": "q", "feedback": "f"}, commands.Reject(request_id="q", feedback="f")),
    "skip": ({"request_id": "q"}, commands.Skip(request_id="q")),
    "answer": ({"request_id": "q", "answer": {"x": 1}}, commands.Answer(request_id="q", answer={"x": 1})),
}
"""Every type that the wire knows, with all of its members."""

LEAST: dict[str, dict[str, Any]] = {
    "submit": {"input": None},
    "signal": {"name": "n"},
    "answer": {"request_id": "q", "answer": None},
}
INSIDE: list[Any] = [
    commands.Reply(request_id="q", option="yes", answer=1, comment="c", digest="d"),
    commands.Spawn(start=False),
    commands.Redelivered(dead_letter="dl_1"),
]

WRONG: list[tuple[dict[str, Any], list[str | int]]] = [
    ({"type": "stop", "grace_s": "5"}, ["stop", "grace_s"]),
    ({"type": "stop", "grace_s": -1}, ["stop", "grace_s"]),
    ({"type": "stop", "reason": "x" * 1001}, ["stop", "reason"]),
    ({"type": "stop", "reason": None}, ["stop", "reason"]),
    ({"type": "dispose", "force": 1}, ["dispose", "force"]),
    ({"type": "dispose", "force": "true"}, ["dispose", "force"]),
    ({"type": "pause", "mode": "hard"}, ["pause", "mode"]),
    ({"type": "pause", "holder": ""}, ["pause", "holder"]),
    ({"type": "resume", "holder": "h" * 129}, ["resume", "holder"]),
    ({"type": "submit"}, ["submit", "input"]),
    ({"type": "submit", "input": 1, "timeout_s": 0}, ["submit", "timeout_s"]),
    ({"type": "submit", "input": 1, "queue_ttl_s": True}, ["submit", "queue_ttl_s"]),
    ({"type": "submit", "input": 1, "labels": {"": "v"}}, ["submit", "labels", "", "[key]"]),
    ({"type": "submit", "input": 1, "labels": {"k": 1}}, ["submit", "labels", "k"]),
    ({"type": "signal"}, ["signal", "name"]),
    ({"type": "signal", "name": ""}, ["signal", "name"]),
    ({"type": "answer", "answer": 1}, ["answer", "request_id"]),
    ({"type": "answer", "request_id": "q"}, ["answer", "answer"]),
    ({"type": "cancel", "run_id": 5}, ["cancel", "run_id"]),
]


ANY_BODY: Any = Body


def body(type: str, data: dict[str, Any]) -> bytes:
    return json.dumps({"type": type, **data}).encode()


def parse(raw: bytes) -> Any:
    union: Any = WireBody
    return parse_as(union, raw)


def faults(raw: bytes) -> list[dict[str, Any]]:
    with pytest.raises(ValidationFailed) as refused:
        parse(raw)
    errors: Any = refused.value.extra["errors"]
    return list(errors)


@pytest.mark.parametrize("type", FULL)
def test_a_command_with_all_its_members_is_parsed(type: str) -> None:
    data, wanted = FULL[type]
    assert parse(body(type, data)) == wanted


def test_the_table_above_misses_no_type_and_no_member() -> None:
    union = get_args(get_args(WireBody)[0])
    assert {model.type for _, model in FULL.values()} == set(FULL)
    assert {type(model) for _, model in FULL.values()} == set(union)
    for data, model in FULL.values():
        assert {*data, "type"} == set(model.__dataclass_fields__)


@pytest.mark.parametrize("type", FULL)
def test_a_command_needs_no_member_that_has_a_default(type: str) -> None:
    assert parse(body(type, LEAST.get(type, {}))).type == type


@pytest.mark.parametrize("type", FULL)
def test_a_member_that_nobody_knows_is_refused(type: str) -> None:
    (fault,) = faults(body(type, {**LEAST.get(type, {}), "colour": 1}))
    assert (fault["loc"], fault["type"]) == ([type, "colour"], "unexpected_keyword_argument")


@pytest.mark.parametrize("data,loc", WRONG, ids=str)
def test_a_wrong_member_is_named(data: dict[str, Any], loc: list[str | int]) -> None:
    assert loc in [fault["loc"] for fault in faults(json.dumps(data).encode())]


@pytest.mark.parametrize("type", ["spawn", "reply", "redeliver", "explode", "", None, 7])
def test_a_type_that_the_wire_does_not_know_is_refused(type: object) -> None:
    (fault,) = faults(json.dumps({"type": type}).encode())
    assert fault["type"] == "union_tag_invalid"


@pytest.mark.parametrize("raw", [b"{}", b'{"name": "n"}'])
def test_a_command_without_a_type_is_refused(raw: bytes) -> None:
    (fault,) = faults(raw)
    assert fault["type"] == "union_tag_not_found"


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'"stop"', b"null", b"\xff"])
def test_what_is_no_object_is_refused(raw: bytes) -> None:
    with pytest.raises(ValidationFailed):
        parse(raw)


def test_the_schema_names_the_discriminator_and_refuses_unknown_members() -> None:
    shown = schema(WireBody)
    assert shown["discriminator"]["propertyName"] == "type"
    assert set(shown["discriminator"]["mapping"]) == set(FULL)
    assert all(shown["$defs"][type(model).__name__]["additionalProperties"] is False for _, model in FULL.values())


@pytest.mark.parametrize("model", [*(model for _, model in FULL.values()), *INSIDE], ids=lambda model: model.type)
def test_what_the_journal_keeps_of_a_body_reads_back_as_the_body(model: Any) -> None:
    assert load(ANY_BODY, dump(model)) == model
    assert load(ANY_BODY, as_json(model)) == model


def test_the_four_short_replies_and_the_long_one_are_one_verb() -> None:
    replies = [FULL[name][1] for name in ("approve", "reject", "skip", "answer")]
    assert {verb_of(model) for model in [*replies, INSIDE[0]]} == {Verb.REPLY}


@pytest.mark.parametrize("type", [name for name in FULL if name not in ("approve", "reject", "skip", "answer")])
def test_every_other_type_is_its_own_verb(type: str) -> None:
    assert verb_of(FULL[type][1]) is Verb(type)


def test_a_spawn_is_decided_as_a_start() -> None:
    assert verb_of(commands.Spawn()) is Verb.START


def test_a_command_has_the_type_of_its_body() -> None:
    assert Command(id="cmd_1", uid="eng_1", body=commands.Stop()).type == "stop"
