"""One table makes routing, scopes and the OpenAPI document: they cannot differ, and the document is a valid one."""

import json
import re
from typing import Any

import pytest
import trio
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.web.doubles import Client, RecordingHouse, api, client
from web.auth import Scope
from web.openapi import document
from web.route import ANYBODY
from web.routes import ROUTES


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(document(ROUTES)))
    return made


def test_the_document_is_valid_openapi_3_1(spec: dict[str, Any]) -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(spec).iter_errors()] == []


def test_every_route_is_in_the_document_and_nothing_else_is(spec: dict[str, Any]) -> None:
    served = {
        (re.sub(r"<(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in api(RecordingHouse()).quart.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert served == {(path, method) for path, operations in spec["paths"].items() for method in operations}


def test_operation_ids_are_unique(spec: dict[str, Any]) -> None:
    ids = [operation["operationId"] for operations in spec["paths"].values() for operation in operations.values()]
    assert len(ids) == len(set(ids))


def test_every_component_is_referred_to(spec: dict[str, Any]) -> None:
    used = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(spec)))
    assert used == set(spec["components"]["schemas"])


def test_only_what_is_meant_for_strangers_is_public() -> None:
    public = {route.path for route in ROUTES if route.scope is None}
    assert public == {
        "/health", "/health/live", "/health/ready", "/openapi.json", "/docs", "/docs/docs.js", "/docs/docs.css",
        "/api/v1/auth/login", "/api/v1/auth/refresh", "/api/v1/auth/api-key",
    }  # fmt: skip


def test_reading_needs_read_and_writing_needs_more() -> None:
    scopes = {(r.method, r.path.removeprefix("/api/v1")): r.scope for r in ROUTES if r.scope not in {None, ANYBODY}}
    admin = {key for key, scope in scopes.items() if scope is Scope.ADMIN}
    assert admin == {
        key for key in scopes if key[1].startswith(("/auth/keys", "/auth/users", "/auth/rotate", "/admin/"))
    }
    assert {key for key, scope in scopes.items() if scope is Scope.APPROVE} == {("POST", "/requests/{request}/reply")}
    assert all(
        (method == "GET") == (scope is Scope.READ)
        for (method, path), scope in scopes.items()
        if scope in {"read", "operate"} and path != "/auth/ticket"  # which opens what may be read
    )


def test_the_document_says_which_credentials_each_route_takes(spec: dict[str, Any]) -> None:
    def taken(path: str, method: str) -> set[str]:
        return {name for scheme in spec["paths"][path][method]["security"] for name in scheme}

    assert taken("/api/v1/events", "get") == {"bearer", "apiKey", "session", "ticket"}
    assert taken("/api/v1/engines", "get") == {"bearer", "apiKey", "session"}
    assert taken("/api/v1/engines", "post") == {"bearer", "apiKey"}
    assert taken("/api/v1/auth/login", "post") == set()


async def test_who_ask_for_the_document_at_once_have_it_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def make() -> bytes:
        made.append(1)
        return b"{}"

    monkeypatch.setattr("web.app._openapi", make)
    asker = client(RecordingHouse(), key=None)
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(asker.get, "/openapi.json")
    assert made == [1]


async def test_the_document_is_served_to_everybody(spec: dict[str, Any]) -> None:
    got = await client(RecordingHouse(), key=None).get("/openapi.json")
    assert (got.status, got.json) == (200, spec)


async def test_the_docs_page_needs_nothing_from_elsewhere_and_no_inline_program() -> None:
    asker: Client = client(RecordingHouse(), key=None)
    html, script, style = [await asker.get(path) for path in ("/docs", "/docs/docs.js", "/docs/docs.css")]
    assert [got.status for got in (html, script, style)] == [200, 200, 200]
    assert "script-src 'self'" in html.headers["content-security-policy"]
    assert "unsafe-inline" not in html.headers["content-security-policy"]
    assert not re.search(rb"https?://", html.body + script.body + style.body)
    assert not re.search(rb"<script(?![^>]*src=)|<style|\son\w+=|innerHTML|eval\(", html.body + script.body)
