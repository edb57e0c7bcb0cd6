"""OpenAPI 3.1, made from the routes and from the models that validate: what is not true here is not true at all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from protocol.edge import adapter
from protocol.errors import (
    EnginehouseError,
    IdempotencyMismatch,
    InsufficientScope,
    InvalidJson,
    RateLimited,
    StoreUnavailable,
    Unauthenticated,
    ValidationFailed,
)
from web.auth import Scope
from web.params import Param
from web.problems import PROBLEMS
from web.refusals import MalformedRequest, TooLarge, UnsupportedMediaType
from web.route import NO_BODY, Route

__all__ = ["document"]

_PROBLEM_TYPE: Final = "application/problem+json"
_REF: Final = "#/components/schemas/"
_PROBLEM_REF: Final = {"$ref": _REF + "Problem"}
_PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "title": "Problem",
    "description": "Problem details (RFC 9457). Some slugs add members, such as `state` and `allowed`.",
    "required": ["type", "title", "status", "detail", "instance", "error_id"],
    "properties": {
        "type": {"type": "string", "enum": sorted(f"/problems/{slug}" for slug in PROBLEMS)},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "A sentence that says what to do."},
        "instance": {"type": "string", "description": "The path that was asked for."},
        "error_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["loc", "msg", "type"],
                "properties": {
                    "loc": {"type": "array", "items": {"type": ["string", "integer"]}},
                    "msg": {"type": "string"},
                    "type": {"type": "string"},
                },
            },
        },
        "retry_after_s": {"type": "number"},
    },
}
_KEY_HEADER: Final[dict[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Makes a repeat safe: the same key and request get the first answer (`Idempotent-Replayed: true`).",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}
_PREFER_HEADER: Final[dict[str, Any]] = {
    "name": "Prefer",
    "in": "header",
    "description": "`wait=N`: wait up to N seconds (at most 60) for the effect; what cannot be read is ignored.",
    "schema": {"type": "string"},
}
_LAST_EVENT_ID: Final[dict[str, Any]] = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "The id of the last event seen; goes before `after`.",
    "schema": {"type": "string"},
}
_RANGE_HEADER: Final[dict[str, Any]] = {
    "name": "Range",
    "in": "header",
    "description": "One range of bytes (RFC 9110, 14.2).",
    "schema": {"type": "string"},
}


# What pydantic calls two models of one name, or a model of a model, in words that a reader of the API knows.
_NAMES: Final = {
    "protocol__commands__Restart": "RestartCommand",
    "protocol__specs__Restart": "RestartPolicy",
    "Restart-Output": "RestartPolicyInfo",
}


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The whole document."""
    routes = tuple(routes)
    schemas, components = _schemas(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Enginehouse",
            "version": version("enginehouse"),
            "description": "Keeps many long-lived engines alive: spawn, pause, resume, restart and dispose of them.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in dict.fromkeys(route.tag for route in routes)],
        "paths": paths,
        "components": {
            "schemas": {**components, "Problem": _PROBLEM},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "session": {"type": "apiKey", "in": "cookie", "name": "enginehouse_session"},
                "ticket": {"type": "apiKey", "in": "query", "name": "ticket"},
            },
        },
    }


def _schemas(routes: Iterable[Route]) -> tuple[Mapping[tuple[Any, JsonSchemaMode], Any], dict[str, Any]]:
    """Every model's schema by (model, mode), and the components they refer to."""
    wanted: dict[tuple[Any, JsonSchemaMode], TypeAdapter[Any]] = {}
    for route in routes:
        if route.body is not NO_BODY:
            wanted[route.body, "validation"] = adapter(route.body)
        if route.out is not None:
            wanted[route.out, "serialization"] = adapter(route.out)
        for param in route.params.values():
            wanted[param.type, "validation"] = adapter(param.type)
    inputs = [(key, key[1], model) for key, model in wanted.items()]
    schemas, definitions = TypeAdapter.json_schemas(inputs, ref_template=_REF + "{model}")
    components = {_name(name): _renamed(schema) for name, schema in definitions.get("$defs", {}).items()}
    named = {key: _renamed(schema) for (key, _), schema in schemas.items()}
    for schema in (*named.values(), *components.values()):
        _require_tag(schema, components)
    return named, components


def _require_tag(schema: dict[str, Any], components: Mapping[str, Any]) -> None:
    """What tells several shapes apart has to be sent, although the model of each shape has it as a default."""
    tag = schema.get("discriminator", {})
    for ref in tag.get("mapping", {}).values():
        shape = components[ref.removeprefix(_REF)]
        if (name := tag["propertyName"]) not in shape.setdefault("required", []):
            shape["required"].append(name)


def _name(name: str) -> str:
    return _NAMES.get(name) or re.sub(r"^Page_(\w+)_$", r"PageOf\1", name)


def _renamed(value: Any) -> Any:
    """A schema whose references use our names. A default of null that is no value there only means: left out."""
    if isinstance(value, dict):
        absent = "default" in value and value["default"] is None and "anyOf" not in value
        return {key: _renamed(part) for key, part in value.items() if not (absent and key == "default")}
    if isinstance(value, list):
        return [_renamed(part) for part in value]
    if isinstance(value, str) and value.startswith(_REF):
        return _REF + _name(value.removeprefix(_REF))
    return value


def _operation(route: Route, schemas: Mapping[tuple[Any, JsonSchemaMode], Any]) -> dict[str, Any]:
    first, _, rest = (route.function.__doc__ or "").strip().partition("\n")
    operation: dict[str, Any] = {
        "operationId": route.operation,
        "tags": [route.tag],
        "summary": first,
        "description": "\n".join((rest.strip(), _needs(route))).strip(),
        "security": [{name: []} for name in _credentials(route)],
        "responses": _responses(route, schemas),
    }
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in route.in_path
    ]
    parameters += [_parameter(param, schemas) for param in route.params.values()]
    if route.method == "POST" and "/auth/" not in route.path:
        parameters.append(_KEY_HEADER)
    if 202 in route.answers and 200 in route.answers:
        parameters.append(_PREFER_HEADER)
    if "text/event-stream" in route.text:
        parameters.append(_LAST_EVENT_ID)
    if 206 in route.answers:
        parameters.append(_RANGE_HEADER)
    if parameters:
        operation["parameters"] = parameters
    if route.body is not NO_BODY:
        operation["requestBody"] = {
            "required": route.body_default is NO_BODY,
            "content": {"application/json": {"schema": schemas[route.body, "validation"]}},
        }
    return operation


def _credentials(route: Route) -> Iterable[str]:
    """The security schemes of which one is needed; none for a public route."""
    if route.scope is not None:
        yield from ("bearer", "apiKey")
        if route.method == "GET":
            yield "session"
        if route.takes_ticket:
            yield "ticket"


def _needs(route: Route) -> str:
    if route.scope is None:
        return "Public."
    if not isinstance(route.scope, Scope):
        return "Needs a key, whatever its scopes."
    others = {scope: [t for t, s in route.scopes.items() if s is scope] for scope in route.scopes.values()}
    more = "".join(f" `{scope}` for {', '.join(f'`{t}`' for t in types)}." for scope, types in others.items())
    return f"Needs scope `{route.scope}`.{more}"


def _parameter(param: Param, schemas: Mapping[tuple[Any, JsonSchemaMode], Any]) -> dict[str, Any]:
    schema = dict(schemas[param.type, "validation"])
    described: dict[str, Any] = {"name": param.name, "in": "query", "schema": schema}
    if "description" in schema:
        described["description"] = schema.pop("description")
    if param.many:
        described |= {"style": "form", "explode": True}
    if param.default is not None and not param.many:
        schema["default"] = param.default
    return described


def _responses(route: Route, schemas: Mapping[tuple[Any, JsonSchemaMode], Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status in route.answers:
        responses[str(status)] = {"description": HTTPStatus(status).phrase}
        content: dict[str, Any] = {}
        if route.out is not None and status != 204:
            content["application/json"] = {"schema": schemas[route.out, "serialization"]}
        for media_type in route.text if status != 204 else ():
            content[media_type] = {"schema": {} if media_type == "application/json" else {"type": "string"}}
        if content:
            responses[str(status)]["content"] = content
    slugs: dict[int, set[str]] = {}
    for error in _errors(route):
        slugs.setdefault(PROBLEMS[error.slug][0], set()).add(error.slug)
    for status in sorted(slugs):
        responses[str(status)] = _problem(", ".join(f"`{slug}`" for slug in sorted(slugs[status])))
    responses["default"] = _problem("Any other problem.")
    return responses


def _errors(route: Route) -> Iterable[type[EnginehouseError]]:
    yield from route.errors
    yield from (MalformedRequest, ValidationFailed, InvalidJson, TooLarge, UnsupportedMediaType, StoreUnavailable)
    if route.scope is not None:
        yield from (Unauthenticated, RateLimited)
    if isinstance(route.scope, Scope):
        yield InsufficientScope
    if route.method == "POST" and "/auth/" not in route.path:
        yield IdempotencyMismatch


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": {_PROBLEM_TYPE: {"schema": _PROBLEM_REF}}}
