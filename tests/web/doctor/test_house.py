"""What a daemon stands on."""

import os
import socket
from pathlib import Path

import pytest

from web.doctor.house import house, packages, port, state_folder
from web.places import DaemonFile


def test_the_packages_are_ours() -> None:
    assert packages().status == "ok"


def test_a_package_of_somebody_else_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from importlib.machinery import ModuleSpec

    alien = tmp_path / "supervisor" / "__init__.py"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: ModuleSpec(name, None, origin=str(alien)))
    found = packages()
    assert (found.status, str(tmp_path) in found.detail) == ("wrong", True)


def test_a_folder_that_can_be_made(tmp_path: Path) -> None:
    assert state_folder(tmp_path / "a" / "b").status == "ok"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode, status", [(0o700, "ok"), (0o750, "wrong"), (0o701, "wrong")])
def test_a_folder_has_to_be_ours_alone(mode: int, status: str, tmp_path: Path) -> None:
    tmp_path.chmod(mode)
    assert state_folder(tmp_path).status == status


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    assert state_folder(tmp_path / "state").status == "wrong"
    assert state_folder(tmp_path / "state" / "below").status == "wrong"


def test_a_folder_of_another_user_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    found = state_folder(tmp_path)
    assert (found.status, "belongs to user" in found.detail) == ("wrong", True)


def test_a_port_that_somebody_has() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        assert port("127.0.0.1", number, None, fallback=False).status == "wrong"
        assert port("127.0.0.1", number, None, fallback=True).status == "ok"
        daemon = DaemonFile(url=f"http://127.0.0.1:{number}", pid=7, version="1", started_at="now")
        found = port("127.0.0.1", number, daemon, fallback=False)
        assert (found.status, "The daemon 7" in found.detail) == ("ok", True)
    assert port("127.0.0.1", number, daemon, fallback=False).detail == f"127.0.0.1:{number} is free."


def test_a_setting_that_is_wrong_is_told_and_nothing_after_it(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "ENGINEHOUSE_PORT": "many"}
    found = list(house(environ, tmp_path / "state"))
    assert [(one.name, one.status) for one in found] == [("packages", "ok"), ("settings", "wrong")]
    assert "port" in found[-1].detail


def test_a_fit_house(tmp_path: Path) -> None:
    found = list(house({"HOME": str(tmp_path), "ENGINEHOUSE_PORT": "0"}, tmp_path / "state"))
    assert [one.status for one in found] == ["ok"] * 4
