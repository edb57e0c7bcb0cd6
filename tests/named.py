"""Tests that tables name, so that none of them is renamed or deleted and still counts as a proof."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path


def is_there(root: Path, test: str) -> bool:
    """Whether `test` (`path`, or `path::name` of a function or a class) is a test below `root`, or a file of them."""
    file, _, name = test.partition("::")
    path = root / file
    return path.is_file() and (name in _names(path) if name else any(n.startswith("test_") for n in _names(path)))


@cache
def _names(path: Path) -> frozenset[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return frozenset(node.name for node in ast.parse(path.read_text()).body if isinstance(node, kinds))
