"""What is built and installed: our four packages and nobody else's, with their data, under names that resolve."""

import importlib.util
import pkgutil
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

PACKAGES = ("protocol", "actors", "supervisor", "web")


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return table


def required(lines: list[str]) -> set[str]:
    return {re.split(r"[<>=!~;\[ ]", line)[0] for line in lines}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_package_that_is_imported_is_ours(package: str, root: Path) -> None:
    spec = importlib.util.find_spec(package)
    origin = spec.origin if spec else None
    assert origin == str(root / package / "__init__.py"), (
        f"`import {package}` finds {origin}, which is another project's package: PyPI's supervisord, for one, "
        f"also owns the name `supervisor`. Give enginehouse a virtual environment of its own (`make install` does)."
    )


def test_no_test_folder_is_a_package(root: Path) -> None:
    """A tests/protocol/__init__.py would make `import protocol` find the tests."""
    assert not list(root.glob("tests/**/__init__.py"))


def test_the_wheel_ships_the_four_packages_with_their_data_and_nothing_else(root: Path, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=root, check=True, capture_output=True, timeout=60)
    (wheel,) = tmp_path.glob("enginehouse-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
    kinds = {".py", ".typed", ".js", ".css", ".html"}
    ours = {p for package in PACKAGES for p in (root / package).rglob("*") if p.suffix in kinds}
    assert {p.relative_to(root).as_posix() for p in ours} <= shipped
    assert {name.split("/")[0] for name in shipped} == set(PACKAGES)


def test_every_entry_point_names_an_object_that_exists(project: dict[str, Any]) -> None:
    targets = [*project["scripts"].values(), *project["entry-points"]["enginehouse.kinds"].values()]
    for target in targets:
        assert callable(pkgutil.resolve_name(target)), target


def test_an_install_says_that_it_takes_a_while_before_it_is_silent(root: Path, tmp_path: Path) -> None:
    line = ["/bin/sh", str(root / "requirements/install.sh"), sys.executable, str(tmp_path / "venv")]
    nothing = {"PATH": str(tmp_path)}  # no program is found there, so it gets no further
    done = subprocess.run(line, env=nothing, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stdout.splitlines()[0] == f"Installing into {tmp_path / 'venv'} (about a minute)"


@pytest.mark.parametrize("lock", ["run", "dev"])
def test_a_lock_holds_every_declared_dependency_and_hashes_for_all(
    project: dict[str, Any], root: Path, lock: str
) -> None:
    declared = [*project["dependencies"], *project["optional-dependencies"].get(lock, [])]
    pins = re.split(r"^(?=[a-z])", (root / "requirements" / f"{lock}.txt").read_text(), flags=re.MULTILINE)[1:]
    assert [pin for pin in pins if "==" not in pin or "--hash=sha256:" not in pin] == []
    assert required(declared) <= required(pins), f"requirements/{lock}.txt is stale: run make lock"
