"""What a page in somebody's browser can send to a house on the same machine: names, origins, forms, embeds."""

from __future__ import annotations

import pytest

from tests.attack.target import Target
from web.routes import ROUTES

# DNS rebinding: the page's own name points at 127.0.0.1 by now, and the browser says that name.
HOSTS = [
    "evil.example", "evil.example:{port}", "localhost.evil.example", "127.0.0.1.evil.example", "127.0.0.1.nip.io",
    "localtest.me", "0.0.0.0", "0", "127.1", "127.0.0.2", "2130706433", "0x7f000001", "017700000001", "[::]",
    "[::ffff:127.0.0.1]", "[0:0:0:0:0:0:0:1]", "localhost.", "127.0.0.1.", "LOCALHOST.evil.example", "169.254.169.254",
    "metadata.google.internal", "127.0.0.1:{port}@evil.example", "evil.example#127.0.0.1", "127.0.0.1\tevil.example",
    "xn--lcalhost-m0a", "localhost:{port}:80", "localhost:-1", "localhost:123456",
]  # fmt: skip

ORIGINS = [
    "null", "https://evil.example", "http://evil.example:{port}", "http://localhost.evil.example:{port}",
    "https://127.0.0.1:{port}", "http://127.0.0.1", "http://127.0.0.1:1", "http://localhost:{port}", "http://[::1]:{port}",
    "http://127.0.0.1:{port}/", "http://127.0.0.1:{port}.evil.example", "HTTP://127.0.0.1:{port}", "file://",
    "chrome-extension://abcdefghijklmnop", "vscode-webview://x", "http://127.0.0.1:{port}, https://evil.example", "",
    "*", "http://127.0.0.1:{port} ", "about:blank", "data:text/html,x", "capacitor://localhost",
]  # fmt: skip

SITES = ["cross-site", "same-site", "Cross-Site", "", "none, cross-site", "nonsense"]

FORMS = [
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "text/plain",
    "text/plain; application/json",
]

SPAWN = {"kind": "probe", "id": "csrf"}


@pytest.mark.parametrize("host", HOSTS)
async def test_a_name_that_only_points_here_is_not_served(shared: Target, host: str) -> None:
    for method, path in (
        ("GET", "/api/v1/engines"),
        ("GET", "/health/live"),
        ("GET", "/docs"),
        ("POST", "/api/v1/engines"),
    ):
        answer = await shared.ask(method, path, SPAWN if method == "POST" else None, host=host.format(port=shared.port))
        assert answer.status in {400, 421}, (method, path)
    await nothing_happened(shared)


@pytest.mark.parametrize("origin", ORIGINS)
async def test_a_foreign_page_may_neither_read_nor_write(shared: Target, origin: str) -> None:
    line = f"Origin: {origin.format(port=shared.port)}"
    if line.strip() == f"Origin: http://127.0.0.1:{shared.port}":
        return  # spaces around a value are none of it (RFC 9110 5.5)
    for method, body in (("GET", None), ("POST", SPAWN), ("OPTIONS", None)):
        answer = await shared.ask(method, "/api/v1/engines", body, line, host=f"127.0.0.1:{shared.port}")
        assert (answer.status, answer.slug) == (403, "origin-not-allowed"), method
        assert not [name for name, _ in answer.headers if name.startswith("access-control-")]
    await nothing_happened(shared)


@pytest.mark.parametrize("site", SITES)
async def test_a_request_that_another_site_caused_is_refused(shared: Target, site: str) -> None:
    """Also where no Origin is sent: an image, a script, a link, a form."""
    for method, body in (("GET", None), ("POST", SPAWN)):
        answer = await shared.ask(method, "/api/v1/engines", body, f"Sec-Fetch-Site: {site}", "Sec-Fetch-Mode: no-cors")
        assert answer.status == 403, method
    await nothing_happened(shared)


async def test_a_preflight_gets_no_leave(shared: Target) -> None:
    answer = await shared.ask(
        "OPTIONS", "/api/v1/engines", None, "Origin: https://evil.example", "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: authorization,content-type", "Access-Control-Request-Private-Network: true",
        key=None,
    )  # fmt: skip
    assert answer.status == 403
    assert not [name for name, _ in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("content_type", FORMS)
async def test_what_a_form_can_post_is_not_json(shared: Target, content_type: str) -> None:
    """Without a script a page can send these and no others (Fetch standard, CORS-safelisted)."""
    answer = await shared.ask(
        "POST", "/api/v1/engines", b'{"kind":"probe","id":"csrf"}', f"Content-Type: {content_type}"
    )
    assert answer.status == 415
    answer = await shared.ask("POST", "/api/v1/engines/csrf/runs", b'{"input":"x"}', f"Content-Type: {content_type}")
    assert answer.status == 415
    await nothing_happened(shared)


async def test_no_get_changes_anything(shared: Target) -> None:
    """A link, an image and a prefetch are GETs: each of our routes is asked, and the journal stays as long as it was."""
    engine = await shared.engine()
    run = await shared.run(engine)
    there = {
        "engine": engine,
        "run": run["id"],
        "pool": "default",
        "kind": "probe",
        "slice": "progress",
        "stream": "stdout",
    }
    before = await shared.journal()
    for route in ROUTES:
        if route.method == "GET":
            path = route.path
            for name in route.in_path:
                path = path.replace(f"{{{name}}}", there.get(name, "nobody"))
            await shared.ask("GET", path, None, "Accept: application/json")
    assert await shared.journal() == before


async def test_no_answer_may_be_framed_sniffed_or_embedded(shared: Target) -> None:
    for path in ("/docs", "/docs/docs.js", "/openapi.json", "/health", "/api/v1/engines", "/nowhere"):
        answer = await shared.ask("GET", path)
        assert "frame-ancestors 'none'" in (answer.header("content-security-policy") or ""), path
        assert answer.header("cross-origin-resource-policy") == "same-origin"
        assert answer.header("referrer-policy") == "no-referrer"
        assert answer.header("cross-origin-opener-policy") == "same-origin"


async def test_the_pages_run_no_script_of_others(shared: Target) -> None:
    page = await shared.ask("GET", "/docs")
    policy = page.header("content-security-policy") or ""
    assert "camera=()" in (page.header("permissions-policy") or "")
    assert "unsafe-" not in policy
    assert "http:" not in policy
    assert "*" not in policy
    assert b"<script>" not in page.body
    assert b" onload=" not in page.body


async def nothing_happened(target: Target) -> None:
    assert (await target.ask("GET", "/api/v1/engines/csrf")).status == 404
