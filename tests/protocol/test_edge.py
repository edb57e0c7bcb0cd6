from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, cast

import pytest
from pydantic import AfterValidator

from protocol.bodies import NewEngine, NewRun
from protocol.edge import as_json, dump, load, parse, schema
from protocol.errors import ValidationFailed
from protocol.specs import Restart, Spec


def faults(model: Any, value: Any, **more: Any) -> list[dict[str, Any]]:
    with pytest.raises(ValidationFailed) as refused:
        parse(model, value, **more)
    found: Any = refused.value.extra["errors"]
    return list(found)


def test_every_fault_is_named_with_its_place_a_sentence_and_a_type() -> None:
    found = faults(NewEngine, b'{"kind": "", "mailbox_size": 0, "restart": {"policy": "never"}, "x": 1}')
    assert [fault["loc"] for fault in found] == [["kind"], ["restart", "policy"], ["mailbox_size"], ["x"]]
    assert all(set(fault) == {"loc", "msg", "type"} for fault in found)


def test_the_detail_is_a_sentence_about_the_first_fault() -> None:
    with pytest.raises(ValidationFailed, match=r"^restart\.window_s: Input should be greater than 0\. Correct it"):
        parse(NewEngine, b'{"kind": "probe", "restart": {"window_s": 0}}')


def test_the_detail_is_about_the_shape_that_was_meant_where_several_are_allowed() -> None:
    with pytest.raises(ValidationFailed, match=r"^input\.Restart\.foo: Unexpected keyword argument\. Correct it"):
        parse(cast("Any", str | Restart), b'{"window_s": 60, "foo": 1}', loc=("input",))


def test_a_fault_of_the_whole_body_is_said_of_the_body() -> None:
    with pytest.raises(ValidationFailed, match=r"^the body: "):
        parse(NewRun, b"[")


def test_faults_never_repeat_what_was_sent() -> None:
    secret = "hunter2-hunter2"
    with pytest.raises(ValidationFailed) as refused:
        parse(NewEngine, f'{{"kind": "probe", "grace_s": "{secret}", "id": 5}}'.encode())
    assert secret not in str(refused.value)
    assert secret not in str(refused.value.extra)
    assert refused.value.__cause__ is None


def test_a_place_can_stand_below_another() -> None:
    assert faults(Restart, {"window_s": "1"}, loc=("spec", "restart"))[0]["loc"] == ["spec", "restart", "window_s"]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"window_s": true}',
        b'{"window_s": "60"}',
        b'{"max_restarts": 1.5}',
        b'{"window_s": NaN}',
        b'{"window_s": 1e999}',
    ],
)
def test_nothing_is_converted_and_nothing_is_infinite(raw: bytes) -> None:
    assert faults(Restart, raw)


def test_a_whole_number_is_good_for_a_duration() -> None:
    assert parse(Restart, b'{"window_s": 60}').window_s == 60.0


def test_plain_values_are_read_as_if_they_were_json() -> None:
    assert parse(NewRun, {"input": (1, 2), "priority": "high"}) == parse(NewRun, b'{"input":[1,2],"priority":"high"}')


def test_what_is_dumped_loads_again() -> None:
    spec = Spec(id="a", uid="eng_1", pool="p", kind="probe", config={"deep": [{"x": None}]}, idle_s=5.0)
    assert load(Spec, dump(spec)) == load(Spec, as_json(spec)) == spec


def test_the_schema_is_that_of_what_is_parsed() -> None:
    shown = schema(NewRun)
    assert shown["required"] == ["input"]
    assert shown["additionalProperties"] is False


@dataclass(frozen=True, slots=True)
class Plain:
    n: int


def test_any_dataclass_can_be_a_model() -> None:
    assert parse(Plain, b'{"n": 1}') == Plain(1)


def test_a_rule_of_our_own_is_told_in_its_own_words() -> None:
    def never(value: str) -> str:
        raise ValueError("say it otherwise")

    (fault,) = faults(Annotated[str, AfterValidator(never)], b'"x"')
    assert fault["msg"] == "say it otherwise"
