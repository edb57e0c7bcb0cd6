"""What the fuzzer of the OpenAPI document is told about this house; schemathesis loads it by `SCHEMATHESIS_HOOKS`.

It goes deeper where made-up ids would only meet 404, and it does not wait where a client may. One check is made anew:
a document cannot say which kinds, cursors and templates there are, so what names one that there is not may be refused.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from typing import Any

import schemathesis
from schemathesis.specs.openapi.checks import positive_data_acceptance

THERE = {"engine": ["a", "b"], "pool": ["default", "p"], "kind": ["probe"], "slice": ["progress"]}
"""Things that the test has made."""

UNSAID = {
    "cursor",
    "template",
    "engine_id",
    "key",
    "label",
    "pool",
    "input",
    "kind",
    "event",
    "types",
    "query",
    "at",
    "url",
    "value_error",
    "password_length",
}
"""Types of faults that a schema cannot tell beforehand."""

BY_DESIGN = {"unknown-kind", "unsupported-command", "invalid-event-id", "event-id-expired", "engine-disposed"}

MOST_S = 60
"""How long a page may wait."""

FRACTION = re.compile(rb"[0-9]\.0*[,}\]\s]|[0-9][eE]")


def chance(value: object, of: int) -> int:
    """0 to `of` - 1, the same for the same value: the fuzzer is to do the same for one seed."""
    return hashlib.sha256(repr(value).encode("utf-8", "backslashreplace")).digest()[0] % of


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: Any) -> Any:
    for name, known in THERE.items() if isinstance(path_parameters, dict) else ():
        if name in path_parameters and chance(path_parameters[name], 3):
            path_parameters[name] = known[chance(path_parameters, len(known))]
    return path_parameters


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """What would be an unknown kind mostly is the probe; a pool that drained would take nothing for the rest."""
    if isinstance(body, dict) and isinstance(body.get("kind"), str) and body["kind"] and chance(body, 4):
        body["kind"] = "probe"
    if isinstance(body, dict) and body.get("type") == "drain":
        body["type"] = "resume"
    if isinstance(body, dict) and isinstance(body.get("password"), str):
        said = body["password"]  # bytes are counted, which a schema cannot
        if len(said.encode("utf-8", "replace")) > 1024 >= len(said):
            said = said[:100]
        body["password"] = f"{said:x<12}"
    if isinstance(body, dict) and isinstance(body.get("url"), str):
        body["url"] = "https://127.0.0.1/hook"  # refused: this house never sends anything to anybody
    return body


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Neither a stream without end nor a wait; what is no good as either is for the house to refuse."""
    headers = case.headers = {} if case.headers is None else case.headers
    headers.pop("Prefer", None)
    if case.operation.path.endswith("/events"):
        headers["Accept"] = "application/json"
    if isinstance(case.query, dict):
        with suppress(KeyError, TypeError, ValueError):
            if 0 <= float(case.query["wait_s"]) <= MOST_S:
                case.query["wait_s"] = 0
        if case.query.get("follow") in (True, "true", "1"):
            case.query["follow"] = "false"


@schemathesis.check
def what_fits_is_accepted(ctx: Any, response: Any, case: Any) -> bool | None:
    """The built-in check, but for what the document cannot know."""
    if response.status_code in {400, 410, 422}:
        said = response.json()
        faults = said.get("errors", ())
        # What is said of a member by its own name is about its meaning: `engine`, `cron`, `timezone`.
        types = {"input" if fault["type"] == fault["loc"][-1] else fault["type"] for fault in faults}
        of_kind = any(fault["loc"][0] in {"config", "input"} for fault in faults)
        listed = b"%2C" in response.request.url.encode() and types == {"string_too_short"}  # `a,,b` has an empty one
        fraction = "int_type" in types and FRACTION.search(response.request.body or b"")
        if said["type"].removeprefix("/problems/") in BY_DESIGN or types & UNSAID or fraction or of_kind or listed:
            return None
    return positive_data_acceptance(ctx, response, case)
