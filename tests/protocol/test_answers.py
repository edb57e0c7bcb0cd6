from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from protocol.answers import check_answer, check_schema
from protocol.errors import ValidationFailed

FORM: dict[str, Any] = {
    "type": "object",
    "title": "Where to?",
    "required": ["place"],
    "additionalProperties": False,
    "properties": {
        "place": {"enum": ["here", "there", 1]},
        "count": {"type": "integer", "minimum": 1, "exclusiveMaximum": 10},
        "notes": {"type": "array", "items": {"$ref": "#/$defs/note"}, "maxItems": 2},
    },
    "$defs": {"note": {"type": ["string", "null"], "maxLength": 3, "pattern": "(a+)+$"}},
}


@pytest.mark.parametrize(
    "answer",
    [{"place": "here"}, {"place": 1.0, "count": 9.0}, {"place": "there", "notes": ["aaa", None]}],
)
def test_an_answer_that_fits_is_taken(answer: Any) -> None:
    check_answer(FORM, answer)


@pytest.mark.parametrize(
    "answer, loc",
    [
        (None, ["answer"]),
        ("here", ["answer"]),
        ({}, ["answer", "place"]),
        ({"place": "nowhere"}, ["answer", "place"]),
        ({"place": True}, ["answer", "place"]),
        ({"place": "here", "count": True}, ["answer", "count"]),
        ({"place": "here", "count": 0}, ["answer", "count"]),
        ({"place": "here", "count": 10}, ["answer", "count"]),
        ({"place": "here", "count": 1.5}, ["answer", "count"]),
        ({"place": "here", "other": 1}, ["answer", "other"]),
        ({"place": "here", "notes": ["a", "bcde"]}, ["answer", "notes", 1]),
        ({"place": "here", "notes": ["a", "b", "c"]}, ["answer", "notes"]),
    ],
)
def test_an_answer_that_does_not_fit_says_where(answer: Any, loc: list[str | int]) -> None:
    with pytest.raises(ValidationFailed) as error:
        check_answer(FORM, answer)
    assert error.value.extra["errors"][0]["loc"] == loc  # type: ignore[index]  # JSON values


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "text"},
        {"type": 1},
        {"properties": []},
        {"required": "all"},
        {"minLength": -1},
        {"anyOf": {}},
        {"$ref": "https://example.com/schema.json"},
        {"items": {"$ref": "#/$defs/missing"}},
        {"properties": {"a": {"enum": "abc"}}},
    ],
)
def test_a_schema_that_cannot_be_meant_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(ValidationFailed):
        check_schema(schema)


def test_a_schema_that_is_too_deep_is_refused() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(5000):
        schema = {"items": schema}
    with pytest.raises(ValidationFailed):
        check_schema(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}}},
        {"allOf": [{"$ref": "#/$defs/0"}] * 10, "$defs": {
            str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 10} for n in range(9)} | {"9": True}},
        {"items": {"enum": list(range(5000))}},
    ],
)  # fmt: skip
def test_a_schema_that_never_ends_takes_a_bounded_time(schema: dict[str, Any]) -> None:
    with pytest.raises(ValidationFailed):
        check_answer(schema, [-1, -1, -1])


SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, -2.0]) | st.sampled_from("ab")
VALUES = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.sampled_from("xyz"), v), max_leaves=5
)
TYPES = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])
LEAVES = st.fixed_dictionaries(
    {},
    optional={
        "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True),
        "enum": st.lists(VALUES, min_size=1, max_size=3),
        "const": VALUES, "required": st.lists(st.sampled_from("xyz"), max_size=2, unique=True),
        "minItems": st.integers(0, 3), "maxItems": st.integers(0, 3), "minLength": st.integers(0, 2),
        "maxLength": st.integers(0, 2), "minimum": st.integers(-2, 2), "maximum": st.integers(-2, 2),
        "exclusiveMinimum": st.integers(-2, 2), "exclusiveMaximum": st.integers(-2, 2),
    },
)  # fmt: skip


def combined(schemas: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(schemas, min_size=1, max_size=3)
    return st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(st.sampled_from("xyz"), schemas, max_size=2), "additionalProperties": schemas,
            "items": schemas, "allOf": some, "anyOf": some, "oneOf": some, "not": schemas, "type": TYPES,
        },
    )  # fmt: skip


SCHEMAS = st.recursive(LEAVES | st.booleans(), combined, max_leaves=6).filter(lambda schema: isinstance(schema, dict))


@given(SCHEMAS, VALUES)
def test_it_says_what_a_whole_validator_says(schema: dict[str, Any], value: Any) -> None:
    try:
        check_answer(schema, value)
    except ValidationFailed:
        assert not Draft202012Validator(schema).is_valid(value)
    else:
        assert Draft202012Validator(schema).is_valid(value)
