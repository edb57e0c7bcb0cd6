"""The document tells the truth: whatever is asked of a real house, the answer is one that the document names."""

import random
import re
from typing import Any
from urllib.parse import quote

import pytest

from supervisor import open_supervisor
from tests.web.doubles import SPEC, Client, client

WORDS = ["a", "b", "p", "nobody", "..", "a b", "ü", "*", "eng_1", "x" * 300]
TEXTS = ["", "0", "-1", "1", "9" * 21, "true", "x", "a,b", "%00", "%F0%9F%98%80", "%ff", "deadbeef.1", "1.5", "nan"]
VALUES: list[Any] = [
    None, True, 0, -1, 1, 2**63, 10**299, 1.5, 1e308, "", "a", "x" * 2000, "ü\0", [], [[]], {}, {"a": 1}, "probe",
    "soft", "*",
    {"steps": -1}, {"steps": 2**70}, {"crash_at": 1}, {"fail_at": 1}, {"ask_at": 1}, {"kind": "question", "title": "t"},
]  # fmt: skip
TYPES = ["start", "stop", "restart", "pause", "resume", "cancel", "submit", "signal", "approve", "answer", "nobody"]
HEADERS = [{}, {}, {"idempotency_key": "k"}, {"prefer": "wait=0"}, {"last_event_id": "0"}, {"last_event_id": "x"}]
OPERATIONS = [
    (path, method, operation)
    for path, operations in SPEC["paths"].items()
    for method, operation in operations.items()
    if "/auth/" not in path and "/admin/" not in path
]


def members(schema: dict[str, Any]) -> set[str]:
    """The names of all members that a body may have."""
    if "$ref" in schema:
        schema = SPEC["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    parts = schema.get("oneOf", []) + schema.get("anyOf", [])
    return set(schema.get("properties", {})).union(*map(members, parts))


def body_of(operation: dict[str, Any], pick: random.Random) -> Any:
    if "requestBody" not in operation:
        return None
    names = sorted(members(operation["requestBody"]["content"]["application/json"]["schema"]))
    body: dict[str, Any] = {name: pick.choice(VALUES) for name in names if pick.random() < 0.2}
    plausible = {
        "kind": "probe",
        "type": pick.choice(TYPES),
        "input": pick.choice(VALUES),
        "id": pick.choice(WORDS[:3]),
    }
    return body | {name: value for name, value in plausible.items() if name in names and pick.random() < 0.8}


async def ask(asker: Client, pick: random.Random) -> None:
    path, method, operation = pick.choice(OPERATIONS)
    target = re.sub(r"{\w+}", lambda _: pick.choice(WORDS[:3] * 3 + WORDS), path)
    names = [p["name"] for p in operation.get("parameters", []) if p["in"] == "query"]
    query = "&".join(
        f"{quote(name)}={pick.choice(TEXTS)}"
        for name in names
        if name not in {"follow", "wait_s"} and pick.random() < 0.3
    )
    headers = dict(pick.choice(HEADERS))
    if "text/event-stream" in operation["responses"].get("200", {}).get("content", {}):
        headers["accept"] = "application/json"  # a stream would not end
    await asker.ask(method.upper(), f"{target}?{query}", body_of(operation, pick), headers)


@pytest.mark.parametrize("seed", [1, 2])
async def test_random_requests_get_answers_that_the_document_names(seed: int) -> None:
    pick = random.Random(seed)
    async with open_supervisor() as house:
        asker = client(house)
        for turn in range(1000):
            if turn % 40 == 0:  # what was disposed of meanwhile
                for name in ("a", "b"):
                    await asker.post("/api/v1/engines", {"kind": "probe", "id": name})
                await asker.post("/api/v1/pools", {"id": "p", "template": {"kind": "probe"}})
            await ask(asker, pick)
        asker.check()
        assert [(m, p, got.body) for m, p, got in asker.sent if got.status >= 500] == []
