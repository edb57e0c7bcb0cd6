"""The examples that are distributions of their own: built and installed, with nothing from elsewhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = ["install"]


def install(names: Iterable[str], root: Path, folder: Path) -> Path:
    """A folder for `PYTHONPATH` with them in it, below `folder`, which also gets a copy of their sources."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    sources = [str(shutil.copytree(root / "examples" / name, folder / name)) for name in names]
    build = ["wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder), *sources]
    subprocess.run([*pip, *build], check=True, capture_output=True, timeout=120)
    target = folder / "site"
    put = ["install", "--no-deps", "--no-index", "--target", str(target), *map(str, folder.glob("*.whl"))]
    subprocess.run([*pip, *put], check=True, capture_output=True, timeout=120)
    return target
