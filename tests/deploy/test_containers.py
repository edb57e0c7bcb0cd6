"""The Containerfile and the compose file keep what they promise; where an engine and the base image are, they run."""

import http.client
import json
import re
import secrets
import shlex
import shutil
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from supervisor.open import CLOSE_MARGIN_S
from tests.deploy.conftest import NOT_STARTED
from tests.web.certificates import Certificate
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


def test_secrets_are_files_and_none_is_in_the_environment(compose: dict[str, Any]) -> None:
    """Compose mounts a file as it is, whatever owner and mode are named for it: who owns it is said beside it."""
    house, proxy = compose["services"]["house"], compose["services"]["proxy"]
    assert house["secrets"] == ["admin_key"]
    assert not {"uid", "gid", "mode"} & {name for secret in proxy["secrets"] for name in secret}
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
@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str | None:
    """A container program whose engine answers. None where there is none, which the report of the run says: such
    programs do not run everywhere, so that they are asked for nowhere, and the tests above read the files.
    """
    for name in ("docker", "podman"):
        path = shutil.which(name)
        if path is not None and _answers(path, "info"):
            return path
    request.config.stash[NOT_STARTED] = "no docker and no podman answers"
    return None


def _answers(*command: str) -> bool:
    asked = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    return asked.returncode == 0


@pytest.mark.timeout(900)
def test_the_image_is_built_and_serves_where_a_container_program_can(root: Path, engine: str | None) -> None:
    if engine is None:
        return
    name = f"enginehouse-test-{uuid4().hex[:8]}"
    subprocess.run([engine, "build", "-f", "deploy/Containerfile", "-t", name, "."], cwd=root, check=True, timeout=600)
    run = [
        engine, "run", "--rm", "--detach", "--read-only", "--tmpfs", "/tmp",
        "--tmpfs", "/state:uid=10001,gid=10001,mode=0700", "--cap-drop", "all",
        "--security-opt", "no-new-privileges", "--name", name, name,
    ]  # fmt: skip
    try:
        subprocess.run(run, check=True, timeout=60)
        with subprocess.Popen([engine, "logs", "--follow", name], stdout=subprocess.PIPE, text=True) as log:
            assert log.stdout is not None
            assert any("enginehouse" in line and " is at " in line for line in log.stdout)
            log.terminate()
        status = [engine, "exec", name, "enginehouse", "status", "--json"]
        asked = subprocess.run(status, capture_output=True, text=True, timeout=60, check=True)
        assert json.loads(asked.stdout)["status"] == "healthy"
    finally:
        subprocess.run([engine, "stop", name], check=False, timeout=60)
        subprocess.run([engine, "image", "rm", "--force", name], check=False, timeout=60)


OVERRIDE = """
services:
  house:
    image: {project}
  proxy:
    ports: !override ["127.0.0.1::443"]
secrets:
  admin_key: {{file: {secrets}/admin.key}}
  tls_certificate: {{file: {secrets}/house.pem}}
  tls_key: {{file: {secrets}/house.key}}
"""
"""What a test has to have otherwise: names and a port of its own, and its own secrets."""


class Composed:
    """`deploy/compose.yaml` as a project of its own."""

    def __init__(self, engine: str, root: Path, folder: Path, certificate: Certificate) -> None:
        self.project = f"enginehouse-test-{uuid4().hex[:8]}"
        self.key = secrets.token_urlsafe(32)
        self.certificate = certificate
        (folder / "admin.key").write_text(self.key)
        shutil.copy(certificate.cert, folder / "house.pem")
        shutil.copy(certificate.key, folder / "house.key")
        override = folder / "override.yaml"
        override.write_text(OVERRIDE.format(project=self.project, secrets=folder))
        self._engine, self._folder = engine, folder
        files = ["-f", str(root / "deploy/compose.yaml"), "-f", str(override)]
        self._command = [engine, "compose", "--project-name", self.project, *files]

    def compose(self, *arguments: str, timeout_s: float = 120) -> str:
        line = [*self._command, *arguments]
        return subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True, timeout=timeout_s).stdout

    def own_secrets(self) -> None:
        """Give each file to who reads it, as docs/deployment.md says; a container may, whoever we are."""
        give = "chown 10001:10001 admin.key && chmod 0400 admin.key && chown 0:0 house.* && chmod 0400 house.*"
        inside = ["--entrypoint", "/bin/sh", "--user", "0:0", "-v", f"{self._folder}:/secrets", "-w", "/secrets"]
        line = [self._engine, "run", "--rm", *inside, self.project, "-c", give]
        subprocess.run(line, check=True, timeout=120)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Through nginx, as somebody outside does."""
        _, _, port = self.compose("port", "proxy", "443").strip().rpartition(":")
        trusted = ssl.create_default_context(cafile=str(self.certificate.cert))
        connection = http.client.HTTPSConnection("127.0.0.1", int(port), context=trusted, timeout=60)
        headers = {
            "Host": "house.example", "Authorization": f"Bearer {self.key}", "Content-Type": "application/json",
        }  # fmt: skip
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        assert answer.status < 300, (answer.status, said)
        return json.loads(said)


@pytest.mark.timeout(900)
def test_the_house_and_nginx_come_up_together_where_compose_can(
    root: Path, engine: str | None, certificate: Callable[..., Certificate], tmp_path: Path, request: Any
) -> None:
    if engine is None:
        return
    if not _answers(engine, "compose", "version"):
        request.config.stash[NOT_STARTED] = f"{engine} has no compose"
        return
    composed = Composed(engine, root, tmp_path, certificate())
    try:
        composed.compose("build", "house", timeout_s=600)
        composed.own_secrets()
        # Until every health check says so.
        composed.compose("up", "--detach", "--wait", "--wait-timeout", "180", timeout_s=240)
        assert composed.ask("GET", "/api/v1/health")["status"] == "healthy"
        made = composed.ask("POST", "/api/v1/auth/keys", {"name": "first", "scopes": ["read", "operate"]})
        composed.key = made["key"]
        composed.ask("POST", "/api/v1/engines", {"kind": "probe", "id": "e"})
        assert composed.ask("GET", "/api/v1/engines/e")["state"] in {"starting", "running"}
        composed.compose("restart", "house", timeout_s=240)
        composed.compose("up", "--detach", "--wait", "--wait-timeout", "180", timeout_s=240)
        assert composed.ask("GET", "/api/v1/engines/e")["id"] == "e"
    finally:
        composed.compose("down", "--volumes", "--rmi", "local", "--timeout", "60", timeout_s=240)
