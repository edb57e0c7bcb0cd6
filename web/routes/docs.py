"""The API describes itself: the OpenAPI document, and a page to read it with that needs nothing from anywhere
else.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from web.call import Call
from web.reply import Reply, plain
from web.route import Section
from web.security import PAGE_CSP

section = Section("docs", base="")

_PAGE_POLICY = (b"content-security-policy", PAGE_CSP.encode("ascii"))


@section.get("/openapi.json", None, text="application/json")
async def get_openapi(call: Call) -> Reply[bytes]:
    """This document: OpenAPI 3.1, made from the models that validate."""
    return plain(await call.services.openapi(), "application/json")


@section.get("/docs", None, text="text/html")
async def get_docs(call: Call) -> Reply[bytes]:
    """A page that shows this document."""
    return plain(_file("docs.html"), "text/html; charset=utf-8", _PAGE_POLICY)


@section.get("/docs/docs.js", None, text="text/javascript")
async def get_docs_script(call: Call) -> Reply[bytes]:
    """The page's program."""
    return plain(_file("docs.js"), "text/javascript; charset=utf-8")


@section.get("/docs/docs.css", None, text="text/css")
async def get_docs_style(call: Call) -> Reply[bytes]:
    """The page's looks."""
    return plain(_file("docs.css"), "text/css; charset=utf-8")


@cache
def _file(name: str) -> bytes:
    return files("web").joinpath("docs", name).read_bytes()
