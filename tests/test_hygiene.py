"""What no file of the project may hold. Reads the tracked files, or without .git every file of the tree."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = {
    "",
    ".cfg",
    ".conf",
    ".css",
    ".html",
    ".in",
    ".js",
    ".json",
    ".md",
    ".py",
    ".service",
    ".sh",
    ".sql",
    ".toml",
    ".txt",
    ".yaml",
    ".yml",
}
UNTRACKED = {".venv", "build", "dist", "node_modules", "__pycache__"}

# Written so that no pattern matches its own source.
FORBIDDEN = {
    "a package registry's address": (
        r"pypi\.(?:org|python)|python[h]osted\.|registry\.(?:npmjs|yarnpkg)|deb\.debian[.]|"
        r"--(?:extra-)?index[-]url|\"resolved\": \"[h]ttp"
    ),
    "a path of somebody's machine": r"(?<![\w.~*$}/-])/(?:root|work|home|Users)/",
    "work left for later": r"\b(?:TO[D]O|FIX[M]E)\b",
    "a merge left unfinished": r"^(?:<{7}|>{7}) ",
}


def files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if (ROOT / ".git").exists() and listed.returncode == 0:
        found = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        found = [
            p for p in ROOT.rglob("*") if not any(part in UNTRACKED or part.endswith("_cache") for part in p.parts)
        ]
    return [path for path in found if path.is_file() and path.suffix in TEXT]


FILES = files()


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what], re.MULTILINE)
    # `make lock` is told not to write the index; the flag that says so is the one place for its name.
    texts = {path: path.read_text().replace("--no-emit-index" + "-url", "") for path in FILES}
    assert [f"{path.relative_to(ROOT)}: {m[0]}" for path, text in texts.items() for m in pattern.finditer(text)] == []


def test_a_source_file_can_be_read_in_one_sitting() -> None:
    packages = ("protocol", "actors", "supervisor", "web")
    sources = [path for path in FILES if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in packages]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources}
    assert {name: length for name, length in lengths.items() if length > 500} == {}


def test_only_end_to_end_tests_wait_on_the_real_clock() -> None:
    tests = [path.relative_to(ROOT) for path in FILES if path.suffix == ".py" and path.is_relative_to(ROOT / "tests")]
    virtual = [path for path in tests if path.parts[1] != "e2e"]
    assert [str(path) for path in virtual if re.search(r"\btime[.]sleep\(", (ROOT / path).read_text())] == []
