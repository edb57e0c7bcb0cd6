from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.events import FAMILIES, RUN_ENDS, SETTLING, TRANSIENT, Frame, Row, encode, is_reserved
from protocol.states import EVENT_OF

if TYPE_CHECKING:
    from tests.protocol.conftest import Writer

TIME = "2025-03-01T10:00:00.000Z"
texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
maybe = st.none() | st.text(st.characters(categories=["Ll", "Nd"]), min_size=1, max_size=8)
rows = st.builds(
    Row,
    type=st.sampled_from(["engine.started", "run.queued", "mine.thing", "audit.read"]),
    time=st.just(TIME),
    data=st.dictionaries(texts, values, max_size=4),
    uid=st.sampled_from(["", "eng_1"]),
    engine_id=st.sampled_from(["", "walker"]),
    pool=st.sampled_from(["default", "p"]),
    incarnation=st.integers(0, 99),
    run_id=maybe,
    command_id=maybe,
    principal=maybe,
)


def plain(row: Row, seq: int, engine_seq: int) -> dict[str, Any]:
    """The envelope as anybody would write it down, without any splicing."""
    numbers = {"seq": seq, "engine_seq": engine_seq, "id": f"00c0ffee.{seq}"}
    engine = {"pool": row.pool, "engine_id": row.engine_id, "incarnation": row.incarnation} if row.engine_id else {}
    some = {"run_id": row.run_id, "command_id": row.command_id, "principal": row.principal}
    if not engine_seq:
        del numbers["engine_seq"]
    return {
        **numbers, "type": row.type, "time": row.time, **engine,
        **{name: value for name, value in some.items() if value is not None}, "data": row.data,
    }  # fmt: skip


@given(rows, st.integers(1, 10**15), st.integers(0, 10**15))
def test_spliced_bytes_are_the_json_of_the_whole_envelope(row: Row, seq: int, engine_seq: int) -> None:
    wire = row.numbered("00c0ffee", seq, engine_seq)
    assert json.loads(wire) == plain(row, seq, engine_seq)
    assert encode(json.loads(wire)) == wire


@given(rows, st.integers(1, 10**15), st.integers(1, 10**15))
def test_a_stored_row_reads_back_as_it_was(row: Row, seq: int, engine_seq: int) -> None:
    if not row.engine_id:
        row.pool, row.incarnation, engine_seq = "", 0, 0
    row.commit(seq, engine_seq, row.numbered("00c0ffee", seq, engine_seq))
    back = Row.from_wire(row.wire, row.uid)
    for name in Row.__dataclass_fields__:
        if name != "_tail":
            assert getattr(back, name) == getattr(row, name), name
    assert back.envelope() == row.envelope()
    assert back.numbered("00c0ffee", seq, engine_seq) == row.wire


def test_numbering_a_row_changes_nothing_in_it() -> None:
    row = Row("log.line", TIME, {"text": "hi"}, "eng_1", "walker", "default")
    assert row.numbered("00c0ffee", 5, 3) != row.numbered("00c0ffee", 6, 4)
    assert (row.seq, row.engine_seq, row.wire) == (0, 0, b"")


def test_a_row_is_encoded_once() -> None:
    row = Row("log.line", TIME, {"text": "hi"}, "eng_1", "walker", "default")
    before = row.tail()
    row.data["text"] = "changed afterwards"
    assert row.tail() is before


def test_all_readers_of_a_row_are_given_one_frame_with_its_id_and_its_very_bytes() -> None:
    row = Row("log.line", TIME, {"text": "hi"}, "eng_1", "walker", "default")
    row.commit(5, 3, row.numbered("00c0ffee", 5, 3))
    frame = row.frame("00c0ffee")
    assert frame == Frame(event="log.line", id="00c0ffee.5", data=row.wire)
    assert row.frame("00c0ffee") is frame


def test_the_frame_of_a_transient_row_has_no_id_to_resume_from() -> None:
    frame = Row("run.progress", TIME, {"done": 1}, "eng_1", "walker", "default").frame("00c0ffee")
    assert (frame.event, frame.id) == ("run.progress", None)
    assert json.loads(frame.data)["data"] == {"done": 1}
    assert "seq" not in json.loads(frame.data)


def test_a_row_of_the_whole_house_names_no_engine() -> None:
    assert set(json.loads(Row("audit.read", TIME, {}).numbered("00c0ffee", 1, 0))) == {
        "seq", "id", "type", "time", "data",
    }  # fmt: skip


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), "\ud800", {"\udfff": 1}])
def test_what_json_cannot_say_is_refused(value: object) -> None:
    row = Row("mine.thing", TIME, {"deep": [value]})
    with pytest.raises(ValueError, match=r"JSON|surrogates"):
        row.tail()
    with pytest.raises(ValueError, match=r"JSON|surrogates"):
        row.numbered("00c0ffee", 1, 1)
    assert row.wire == b""


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes"])
def test_what_is_no_json_value_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError):
        encode({"x": value})


def test_text_is_written_as_it_is() -> None:
    assert encode({"a": "é€𝄞\u0000", "b": 1.5}) == '{"a":"é€𝄞\\u0000","b":1.5}'.encode()


def test_only_the_three_transient_types_are_never_numbered(row: Writer) -> None:
    assert {"run.progress", "run.output", "message.delta"} == TRANSIENT
    assert row("run.progress").transient
    assert not row("run.output_chunk").transient


@pytest.mark.parametrize("type", [*SETTLING, *RUN_ENDS, *EVENT_OF.values(), *TRANSIENT, "state.patched", "audit.read"])
def test_the_types_of_the_house_are_reserved(type: str) -> None:
    assert is_reserved(type)


@pytest.mark.parametrize("type", ["probe.step", "engineer.hired", "runs.done", "my.engine.started"])
def test_the_types_of_authors_are_not_reserved(type: str) -> None:
    assert not is_reserved(type)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_family_is_reserved_with_and_without_a_second_word(family: str) -> None:
    assert is_reserved(family)
    assert is_reserved(f"{family}.anything")


def test_no_two_settlings_leave_the_same_state() -> None:
    assert len(set(SETTLING.values())) == len(SETTLING)
