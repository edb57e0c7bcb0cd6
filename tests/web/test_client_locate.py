"""Where a command looks for the house of its machine, and to whom it shows the key."""

import fcntl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from web.claim import held
from web.client.errors import Unreachable
from web.client.locate import locate
from web.client.trust import trust
from web.places import DaemonFile, Problem, config_file, state_directory

DAEMON = DaemonFile(url="http://127.0.0.1:4711", pid=1, version="0", started_at="2026-01-01T00:00:00.000Z")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "admin.key").write_text("the-admin-key\n")
    return tmp_path


@pytest.fixture
def serving(state: Path) -> Iterator[Path]:
    """The folder, held by a daemon that has said where it is."""
    with held(state) as mine:
        assert mine
        DAEMON.write(state)
        yield state


def env(state: Path, **names: str) -> dict[str, str]:
    return {"ENGINEHOUSE_STATE_DIR": str(state), "HOME": str(state), **names}


def test_a_daemon_says_where_it_is_and_its_key_lies_beside(serving: Path) -> None:
    place = locate(env(serving))
    assert (place.url, place.api_key, place.daemon) == (DAEMON.url, "the-admin-key", DAEMON)


def test_the_key_is_found_where_the_daemon_was_told_to_keep_it(serving: Path, tmp_path: Path) -> None:
    (tmp_path / "other.key").write_text("another-key\n")
    (tmp_path / "config.toml").write_text(f'[server]\nadmin_key_file = "{tmp_path / "other.key"}"')
    assert locate(env(serving, ENGINEHOUSE_CONFIG=str(tmp_path / "config.toml"))).api_key == "another-key"
    named = env(serving, ENGINEHOUSE_SERVER__ADMIN_KEY_FILE=str(tmp_path / "other.key"))
    assert locate(named).api_key == "another-key"
    assert locate({**named, "ENGINEHOUSE_SERVER__ADMIN_KEY": "given"}).api_key == "given"
    assert locate({**named, "ENGINEHOUSE_SERVER__ADMIN_KEY": "given"}, url="http://192.0.2.1:1").api_key is None


def test_without_a_daemon_it_is_the_default_address_whose_house_may_be_anybodys(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    folder = state_directory(home)
    folder.mkdir(parents=True)
    (folder / "admin.key").write_text("the-admin-key\n")
    assert (locate(home).url, locate(home).api_key) == ("http://127.0.0.1:39731", None)
    assert locate({**home, "ENGINEHOUSE_API_KEY": "mine"}).api_key == "mine"
    assert locate({**home, "ENGINEHOUSE_SERVER__ADMIN_KEY": "given"}).api_key == "given"
    DAEMON.write(folder)  # by one that was killed
    assert locate(home).url == "http://127.0.0.1:39731"


@pytest.mark.parametrize("left", ["nothing", "a file", "a file and a lock"])
def test_a_folder_that_is_named_has_a_daemon_or_nobody_is_asked(state: Path, left: str) -> None:
    if left == "a file and a lock":
        with held(state):
            pass
    if left != "nothing":
        DAEMON.write(state)
    said = f"^No daemon serves {state}; start one with `enginehouse serve`.$"
    with pytest.raises(Unreachable, match=said):
        locate(env(state))
    with pytest.raises(Unreachable, match=said):
        locate({"HOME": "/h"}, state=state)
    (state / "config.toml").write_text(f'state_dir = "{state}"')
    with pytest.raises(Unreachable):
        locate({"HOME": "/h", "ENGINEHOUSE_CONFIG": str(state / "config.toml"), "ENGINEHOUSE_API_KEY": "mine"})


def test_a_daemon_that_starts_is_not_kept_out_by_who_looks_whether_it_is_there(state: Path) -> None:
    with held(state):
        pass
    with (state / "daemon.lock").open("rb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.05, lambda: fcntl.flock(looking, fcntl.LOCK_UN)).start()
        with held(state) as mine:
            assert mine


def test_nearer_words_win(serving: Path) -> None:
    state = serving
    assert locate(env(state, ENGINEHOUSE_PORT="5000")).url == "http://127.0.0.1:5000"
    assert locate(env(state, ENGINEHOUSE_HOST="::1")).url == "http://[::1]:39731"
    named = env(state, ENGINEHOUSE_PORT="5000", ENGINEHOUSE_URL="http://127.0.0.1:6000")
    assert locate(named).url == "http://127.0.0.1:6000"
    assert locate(named, url="unix:/run/house").url == "unix:/run/house"


def test_port_zero_is_no_address_so_the_daemon_is_asked(serving: Path) -> None:
    assert locate(env(serving, ENGINEHOUSE_PORT="0")).url == DAEMON.url


def test_under_tls_the_address_is_https_and_the_certificates_are_the_named_ones(state: Path, tmp_path: Path) -> None:
    assert locate({"HOME": "/h", "ENGINEHOUSE_SERVER__TLS_CERT": "/c.pem"}).url == "https://127.0.0.1:39731"
    named = env(state, ENGINEHOUSE_SERVER__TLS_CERT="/c.pem", ENGINEHOUSE_HOST="127.0.0.1")
    assert locate(named).url == "https://127.0.0.1:39731"
    assert locate({**named, "ENGINEHOUSE_PORT": "5000"}).url == "https://127.0.0.1:5000"
    (tmp_path / "config.toml").write_text('[server]\ntls_cert = "/c.pem"')
    configured = env(state, ENGINEHOUSE_CONFIG=str(tmp_path / "config.toml"), ENGINEHOUSE_HOST="::1")
    assert locate(configured).url == "https://[::1]:39731"
    assert locate(configured).ca_file is None
    assert locate({**configured, "ENGINEHOUSE_CA_FILE": "/ca.pem"}).ca_file == Path("/ca.pem")


@pytest.mark.parametrize("content", [None, "junk"])
def test_a_file_of_certificates_that_is_none_is_told(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    with pytest.raises(Problem, match=r"ENGINEHOUSE_CA_FILE: .*ca.pem cannot be used"):
        trust(tmp_path / "ca.pem")


@pytest.mark.parametrize("url", ["http://127.0.0.9:1", "http://localhost:1", "http://[::1]:1", "unix:/a"])
def test_the_admin_key_is_shown_to_this_machine(state: Path, url: str) -> None:
    assert locate(env(state), url=url).api_key == "the-admin-key"


@pytest.mark.parametrize("url", ["http://192.168.0.7:1", "https://house.example", "http://127.0.0.1.example:1"])
def test_the_admin_key_is_never_shown_to_another_machine(state: Path, url: str) -> None:
    assert locate(env(state), url=url).api_key is None
    assert locate(env(state, ENGINEHOUSE_API_KEY="mine"), url=url).api_key == "mine"


@pytest.mark.parametrize("url", ["127.0.0.1:1", "ftp://a", "http://", "unix:", "http://a:x", "http://[1"])
def test_what_is_no_address_is_refused_in_a_sentence(state: Path, url: str) -> None:
    with pytest.raises(Problem, match="write http"):
        locate(env(state), url=url)


def test_a_broken_daemon_file_is_no_daemon(state: Path) -> None:
    for text in ("", "[]", "{}", '{"url": "x"}'):
        (state / "daemon.json").write_text(text)
        assert DaemonFile.read(state) is None


def test_the_daemon_file_is_its_owners_alone_and_can_be_removed_twice(state: Path) -> None:
    DAEMON.write(state)
    assert (state / "daemon.json").stat().st_mode & 0o777 == 0o600
    DaemonFile.remove(state)
    DaemonFile.remove(state)
    assert DaemonFile.read(state) is None


def test_folders_follow_the_xdg_rules(tmp_path: Path) -> None:
    home = {"HOME": "/h"}
    assert state_directory(home) == Path("/h/.local/state/enginehouse")
    assert config_file(home) == Path("/h/.config/enginehouse/config.toml")
    assert state_directory({**home, "XDG_STATE_HOME": "/s"}) == Path("/s/enginehouse")
    assert state_directory({**home, "XDG_STATE_HOME": "relative"}) == Path("/h/.local/state/enginehouse")
    (tmp_path / "config.toml").write_text('state_dir = "/elsewhere"')
    assert state_directory({**home, "ENGINEHOUSE_CONFIG": str(tmp_path / "config.toml")}) == Path("/elsewhere")
