"""The layers run one way, protocol <- actors <- supervisor <- web: read from the imports, also in functions."""

import ast
import importlib
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("protocol", "actors", "supervisor", "web")
MODULES = sorted(path.relative_to(ROOT) for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))
INITS = [path for path in MODULES if path.name == "__init__.py"]

# What speaks HTTP or to a terminal, or is told to a collector, belongs to web: everything below works without it.
WEB_ONLY = {
    "h11", "hypercorn", "opentelemetry", "prometheus_client", "pydantic_settings", "quart", "quart_trio", "rich",
    "typer",
}  # fmt: skip

# The language does no I/O, has no clock, logs nothing and takes no part in chance: those are handed in as values.
NOT_IN_PROTOCOL = {
    "asyncio", "io", "logging", "multiprocessing", "os", "pathlib", "random", "secrets", "select", "selectors",
    "shutil", "signal", "socket", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "time",
}  # fmt: skip


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """The top-level name and the line of each absolute import in the file."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield str(node.module).split(".")[0], node.lineno


def wrong(path: Path, forbidden: set[str]) -> list[str]:
    return [f"{path}:{line} imports {name}" for name, line in imported(path) if name in forbidden]


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_itself_and_what_is_below(layer: str) -> None:
    above = {*LAYERS[LAYERS.index(layer) + 1 :], "tests", "examples", "bench"}
    assert [fault for path in MODULES if path.parts[0] == layer for fault in wrong(path, above)] == []


def test_only_web_speaks_http_or_to_a_terminal() -> None:
    assert [fault for path in MODULES if path.parts[0] != "web" for fault in wrong(path, WEB_ONLY)] == []


def test_protocol_imports_the_standard_library_and_pydantic_alone() -> None:
    allowed = (set(sys.stdlib_module_names) - NOT_IN_PROTOCOL) | {"pydantic", "pydantic_core", "protocol"}
    protocol = [path for path in MODULES if path.parts[0] == "protocol"]
    assert [
        f"{path}:{line} imports {name}" for path in protocol for name, line in imported(path) if name not in allowed
    ] == []


def test_every_library_that_is_imported_is_declared() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[<>=]", line)[0].replace("-", "_") for line in declared}
    # pydantic pins pydantic_core and documents what is used of it. OpenTelemetry's parts share one namespace; those of
    # the extra `traces` are imported where their absence is told.
    known = names | {"pydantic_core", "opentelemetry"} | set(sys.stdlib_module_names) | set(LAYERS)
    assert [
        f"{path}:{line} imports {name}" for path in MODULES for name, line in imported(path) if name not in known
    ] == []


@pytest.mark.parametrize("path", INITS, ids=str)
def test_a_package_opens_with_a_docstring_and_names_what_it_offers(path: Path) -> None:
    package = importlib.import_module(".".join(path.parent.parts))
    assert package.__doc__
    assert isinstance(package.__all__, list | tuple)
    assert [name for name in package.__all__ if not hasattr(package, name)] == []


@pytest.mark.parametrize("path", [path for path in MODULES if path not in INITS], ids=str)
def test_a_module_says_why_it_is_there(path: Path) -> None:
    assert ast.get_docstring(ast.parse((ROOT / path).read_text()))
