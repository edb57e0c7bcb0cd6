"""The Containerfile and the compose file keep what they promise; where an engine and the base image are, they run."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from supervisor.open import CLOSE_MARGIN_S
from web.settings import Server, settings_keys

Instruction = tuple[str, str]
SECRET = re.compile(r"(?i)(key|token|secret|password)\s*[=:]")


def stages(root: Path) -> list[list[Instruction]]:
    """Each stage as its instructions, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (root / "deploy/Containerfile").read_text(), flags=re.MULTILINE)
    found: list[list[Instruction]] = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if not line:
            continue
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest))
    return found


def of(stage: list[Instruction], word: str) -> list[str]:
    return [rest for name, rest in stage if name == word]


# -- the image ---------------------------------------------------------------------------------------------------------
def test_the_image_holds_what_is_locked_and_nothing_of_the_build(root: Path) -> None:
    build, final = stages(root)
    for install in re.findall(r"pip install ([^&]+)", " && ".join(of(build, "RUN"))):
        assert "--require-hashes -r requirements/" in install or "--no-deps --no-index" in install
    assert of(final, "COPY") == ["--from=build /opt/enginehouse /opt/enginehouse"]
    (base,) = {rest.split()[0] for stage in (build, final) for rest in of(stage, "FROM")}
    assert re.fullmatch(r"python:3\.\d+-slim", base)


def test_every_file_that_is_copied_is_there_and_is_let_in(root: Path) -> None:
    let_in = {line[1:] for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for rest in of(stages(root)[0], "COPY"):
        *sources, _ = rest.split()
        for source in sources:
            assert (root / source).exists()
            assert any(name.partition("/")[0] == source.partition("/")[0] for name in let_in), source
    assert (root / ".dockerignore").read_text().startswith("*\n"), (
        "whatever is not named stays outside: keys, state, .git"
    )


def test_the_house_is_not_root_and_is_the_first_process(root: Path) -> None:
    final = stages(root)[-1]
    words = [word for word, _ in final]
    assert of(final, "USER") == ["10001:10001"]
    assert "RUN" not in words[words.index("USER") :]
    assert json.loads(of(final, "ENTRYPOINT")[0]) == ["enginehouse"]
    assert json.loads(of(final, "CMD")[0]) == ["serve"]
    assert of(final, "STOPSIGNAL") == ["SIGTERM"]


def test_no_layer_holds_a_secret_and_what_is_set_are_settings(root: Path) -> None:
    build, final = stages(root)
    for stage in (build, final):
        assert [rest for word, rest in stage if word in {"ENV", "ARG", "RUN"} and SECRET.search(rest)] == []
    names = {part.partition("=")[0] for rest in of(final, "ENV") for part in shlex.split(rest)}
    known = {f"ENGINEHOUSE_{key.upper().replace('.', '__')}" for key in settings_keys()}
    assert names - {"PATH", "HOME", "PYTHONDONTWRITEBYTECODE"} <= known


def test_its_health_is_what_the_command_line_says(root: Path) -> None:
    (check,) = of(stages(root)[-1], "HEALTHCHECK")
    assert json.loads(check.partition("CMD ")[2]) == ["enginehouse", "status", "--json"]


# -- together with nginx -----------------------------------------------------------------------------------------------
@pytest.fixture
def compose(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((root / "deploy/compose.yaml").read_text())
    return found


@pytest.mark.parametrize("name", ["house", "proxy"])
def test_a_service_can_write_little_and_win_nothing(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "docker.sock" not in json.dumps(service)


def test_the_house_has_no_capability_and_no_port_to_the_outside(compose: dict[str, Any]) -> None:
    house = compose["services"]["house"]
    assert "cap_add" not in house
    assert "ports" not in house
    assert list(house["networks"]) == ["inside"]
    assert compose["networks"]["inside"]["internal"] is True
    assert house["pids_limit"] > 0


def test_secrets_are_files_and_the_house_owns_its_own(compose: dict[str, Any]) -> None:
    house = compose["services"]["house"]
    (secret,) = house["secrets"]
    assert (secret["uid"], secret["mode"]) == ("10001", 0o400)
    assert house["environment"]["ENGINEHOUSE_SERVER__ADMIN_KEY_FILE"] == "/run/secrets/admin_key"
    assert "ENGINEHOUSE_SERVER__ADMIN_KEY" not in house["environment"]
    assert all(set(source) == {"file"} for source in compose["secrets"].values())


def test_the_house_has_time_to_end(compose: dict[str, Any]) -> None:
    seconds = compose["services"]["house"]["stop_grace_period"].removesuffix("s")
    assert float(seconds) > Server().grace_s + 2 * CLOSE_MARGIN_S


def test_nginx_finds_the_house_where_it_is_and_is_the_one_who_is_trusted(compose: dict[str, Any], root: Path) -> None:
    house, proxy = compose["services"]["house"], compose["services"]["proxy"]
    there = f"{house['networks']['inside']['ipv4_address']}:{house['environment']['ENGINEHOUSE_PORT']}"
    assert f"s/127.0.0.1:39731/{there}/" in proxy["command"][-1]
    assert "server 127.0.0.1:39731;" in (root / "deploy/nginx.conf").read_text()
    trusted = house["environment"]["ENGINEHOUSE_SERVER__TRUSTED_PROXIES"]
    assert trusted == proxy["networks"]["inside"]["ipv4_address"]


# -- for real, where that can be ---------------------------------------------------------------------------------------
def engine() -> str | None:
    """A container program that answers and has the base image; nothing is fetched from anywhere."""
    for name in ("podman", "docker"):
        path = shutil.which(name)
        if path is not None:
            asked = subprocess.run(
                [path, "image", "inspect", "python:3.13-slim"],
                stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
            )  # fmt: skip
            if asked.returncode == 0:
                return path
    return None


def test_the_image_is_built_and_serves_where_a_container_program_can(root: Path) -> None:
    program = engine()
    if program is None:
        assert len(stages(root)) == 2  # it is read by the tests above
        return
    name = "enginehouse-test"
    subprocess.run([program, "build", "-f", "deploy/Containerfile", "-t", name, "."], cwd=root, check=True, timeout=110)
    run = [
        program, "run", "--rm", "--detach", "--read-only", "--tmpfs", "/tmp", "--tmpfs", "/state:uid=10001,mode=0700",
        "--cap-drop", "all", "--security-opt", "no-new-privileges", "--name", name, name,
    ]  # fmt: skip
    subprocess.run(run, check=True, timeout=60)
    try:
        logs = [program, "logs", "--follow", name]
        with subprocess.Popen(logs, stdout=subprocess.PIPE, text=True) as log:
            assert log.stdout is not None
            assert any("enginehouse" in line and " is at " in line for line in log.stdout)
            log.terminate()
        status = [program, "exec", name, "enginehouse", "status", "--json"]
        asked = subprocess.run(status, capture_output=True, text=True, timeout=60, check=True)
        assert json.loads(asked.stdout)["status"] == "healthy"
    finally:
        subprocess.run([program, "stop", name], check=False, timeout=60)
