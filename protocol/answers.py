"""Answers to questions that have a schema: checked against the part of JSON Schema that says what a form takes.

Schemas come from engines, so they are not trusted: no regular expression of theirs is run and no address is fetched.
What is checked is what `Shape` names (types, choices, members, items, bounds, and how shapes are combined, also by a
`$ref` within the schema); other keywords are notes to whoever shows the form. Values are compared as JSON has them:
true is not 1, and 1 is 1.0 (JSON Schema 2020-12, 4.2.2).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from protocol.errors import ValidationFailed

__all__ = ["Shape", "check_answer", "check_schema"]

STEPS = 10_000
"""How much work the check of one answer may be; what needs more is refused."""
DEEP = 64

Type = Literal["null", "boolean", "integer", "number", "string", "array", "object"]
Size = Annotated[int, Field(ge=0)]
Loc = tuple[str | int, ...]


class Shape(BaseModel):
    """The keywords that are checked (JSON Schema 2020-12, core and validation)."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    type: Type | list[Type] | None = None
    enum: list[Any] | None = None
    const: Any = None
    required: list[str] = []
    properties: dict[str, Schema] = {}
    additional: Schema = Field(default=True, alias="additionalProperties")
    items: Schema = True
    min_items: Size | None = Field(default=None, alias="minItems")
    max_items: Size | None = Field(default=None, alias="maxItems")
    min_length: Size | None = Field(default=None, alias="minLength")
    max_length: Size | None = Field(default=None, alias="maxLength")
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = Field(default=None, alias="exclusiveMinimum")
    below: float | None = Field(default=None, alias="exclusiveMaximum")
    all_of: list[Schema] = Field(default=[], alias="allOf")
    any_of: list[Schema] | None = Field(default=None, alias="anyOf")
    one_of: list[Schema] | None = Field(default=None, alias="oneOf")
    not_: Schema = Field(default=False, alias="not")
    ref: str | None = Field(default=None, alias="$ref")
    defs: dict[str, Schema] = Field(default={}, alias="$defs")


Schema = bool | Shape
Shape.model_rebuild()


@cache
def _adapter() -> TypeAdapter[Shape]:
    return TypeAdapter(Shape)


def check_schema(schema: dict[str, Any]) -> Shape:
    """The schema as it is checked. Raises ValidationFailed for one that cannot be meant."""
    try:
        shape = _adapter().validate_python(schema)
    except (ValidationError, RecursionError) as error:
        raise ValidationFailed(f"The schema of a question is no JSON Schema: {_first(error)}.") from None
    for ref in _refs(shape, 0):
        if ref != "#" and ref.removeprefix("#/$defs/") not in shape.defs:
            raise ValidationFailed(f"The schema of a question refers to {ref!r}; only its own $defs can be meant.")
    return shape


def check_answer(schema: dict[str, Any], answer: Any) -> None:
    """Raises ValidationFailed, with where and why, for an answer that the schema does not take."""
    shape = check_schema(schema)
    look = _Look(shape)
    try:
        fault = next(look.faults(shape, answer, ("answer",), 0), None)
    except _TooMuch:
        raise ValidationFailed(
            "The answer is too large, or the schema of its question too complicated, to check it."
        ) from None
    if fault is not None:
        loc, said = fault
        raise ValidationFailed(
            f"{'.'.join(map(str, loc))}: {said}. Correct it and send it again.",
            errors=[{"loc": list(loc), "msg": said, "type": "schema"}],
        )


class _TooMuch(Exception):
    """The budget of an answer is spent."""


@dataclass(slots=True)
class _Look:
    """One answer, looked at. `faults` gives (where, what is wrong), the first first."""

    root: Shape
    left: int = STEPS

    def faults(self, schema: Schema, value: Any, loc: Loc, depth: int) -> Iterator[tuple[Loc, str]]:
        self.left -= 1
        if self.left < 0 or depth > DEEP:
            raise _TooMuch
        if isinstance(schema, bool):
            if not schema:
                yield loc, "nothing is taken here"
            return
        yield from self._own(schema, value, loc)
        if isinstance(value, dict):
            yield from self._members(schema, value, loc, depth)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                yield from self.faults(schema.items, item, (*loc, index), depth + 1)
        if schema.ref is not None:
            name = schema.ref.removeprefix("#/$defs/")
            yield from self.faults(self.root if name == "#" else self.root.defs[name], value, loc, depth + 1)
        for part in schema.all_of:
            yield from self.faults(part, value, loc, depth + 1)
        if schema.any_of is not None and not self._fits(schema.any_of, value, loc, depth):
            yield loc, "it is none of what is allowed"
        if schema.one_of is not None and self._fits(schema.one_of, value, loc, depth) != 1:
            yield loc, "it has to be exactly one of what is allowed"
        if schema.not_ is not False and self._fits([schema.not_], value, loc, depth):
            yield loc, "this is not allowed"

    def _fits(self, schemas: list[Schema], value: Any, loc: Loc, depth: int) -> int:
        """How many of them take the value."""
        return sum(next(self.faults(schema, value, loc, depth + 1), None) is None for schema in schemas)

    def _members(self, schema: Shape, value: dict[str, Any], loc: Loc, depth: int) -> Iterator[tuple[Loc, str]]:
        for name in schema.required:
            if name not in value:
                yield (*loc, name), "it is needed"
        for name, member in value.items():
            yield from self.faults(schema.properties.get(name, schema.additional), member, (*loc, name), depth + 1)

    def _own(self, schema: Shape, value: Any, loc: Loc) -> Iterator[tuple[Loc, str]]:
        """What the value is by itself."""
        if schema.type is not None:
            types = [schema.type] if isinstance(schema.type, str) else schema.type
            if not any(_is(value, name) for name in types):
                yield loc, f"it has to be {' or '.join(types)}"
        if schema.enum is not None:
            self.left -= len(schema.enum)
            if not any(_same(value, one) for one in schema.enum):
                yield loc, "it is none of what can be chosen"
        if "const" in schema.model_fields_set and not _same(value, schema.const):
            yield loc, f"it has to be {schema.const!r}"
        if isinstance(value, str):
            yield from _between(len(value), schema.min_length, schema.max_length, loc, "characters")
        elif isinstance(value, list):
            yield from _between(len(value), schema.min_items, schema.max_items, loc, "items")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            low, high = schema.minimum, schema.maximum
            if (low is not None and value < low) or (schema.above is not None and value <= schema.above):
                yield loc, "it is too small"
            if (high is not None and value > high) or (schema.below is not None and value >= schema.below):
                yield loc, "it is too large"


def _between(size: int, low: int | None, high: int | None, loc: Loc, what: str) -> Iterator[tuple[Loc, str]]:
    if low is not None and size < low:
        yield loc, f"it needs at least {low} {what}"
    if high is not None and size > high:
        yield loc, f"it may have at most {high} {what}"


def _is(value: Any, name: str) -> bool:
    match name:
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return not isinstance(value, bool) and (
                isinstance(value, int) or (isinstance(value, float) and value.is_integer())
            )
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "string":
            return isinstance(value, str)
        case "array":
            return isinstance(value, list)
        case _:
            return isinstance(value, dict)


def _same(a: Any, b: Any) -> bool:
    """Equal as JSON values."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(member, b[name]) for name, member in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


def _refs(schema: Schema, depth: int) -> Iterator[str]:
    """Every `$ref` in it. Raises ValidationFailed for one that is nested too deeply."""
    if isinstance(schema, bool):
        return
    if depth > DEEP:
        raise ValidationFailed(f"The schema of a question is nested more than {DEEP} levels deep.")
    if schema.ref is not None:
        yield schema.ref
    below = (
        *schema.properties.values(), *schema.defs.values(), *schema.all_of, *(schema.any_of or ()),
        *(schema.one_of or ()), schema.additional, schema.items, schema.not_,
    )  # fmt: skip
    for part in below:
        yield from _refs(part, depth + 1)


def _first(error: ValidationError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
