"""The one settings object: everything that can be set. `web/loaded.py` makes it.

Every setting has an effect somewhere; what nothing reads yet is not here. One that is marked LIVE can change while the
daemon runs (`web/reload.py`); all the others need a restart.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from actors.children import ChildPolicy, ControlGroups
from web import limits
from web.children import Children, Dialects, Folder, SecretSources, child_policy, keep_apart
from web.places import DEFAULT_PORT

__all__ = [
    "LIVE", "PREFIX", "Audit", "Limits", "Log", "Metrics", "Schedules", "Server", "Settings", "Traces", "Webhooks",
    "fields_of", "settings_keys",
]  # fmt: skip

PREFIX: Final = "ENGINEHOUSE_"


class Live:
    """In the annotation of a setting: a reload changes it, and something of the daemon takes it."""


LIVE: Final = Live()
_SECTION: Final = ConfigDict(extra="forbid", frozen=True)
Seconds = Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False, description="0 to 3600 seconds")]


class Server(BaseModel):
    """`[server]`: who may reach the daemon, and where. Each description says what is allowed."""

    model_config = _SECTION
    host: Annotated[str, Field(min_length=1, description="an address of this machine")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="0 to 65535 (0 takes a free one)")] = DEFAULT_PORT
    port_fallback: Annotated[bool, Field(description="true (a busy port: take a free one) or false")] = False
    unix_socket: Annotated[Path | None, Field(description="the path of a socket to make")] = None
    enabled: Annotated[bool, Field(description="true, or false (listen on unix_socket alone)")] = True
    enable_auth: Annotated[bool, Field(description="true, or false (only on loopback or a unix socket)")] = True
    admin_key_file: Annotated[Path | None, LIVE, Field(description="the path of a file with the admin key")] = None
    admin_key: Annotated[
        SecretStr | None,
        LIVE,
        Field(min_length=32, max_length=1024, description="32 to 1024 visible ASCII characters, in the environment"),
    ] = None
    jwt_secret_file: Annotated[
        Path | None, Field(description="the path of a file with the secret that signs access tokens")
    ] = None
    allowed_hosts: Annotated[list[str], LIVE, Field(description="a list of host names without port")] = []
    tls_cert: Annotated[
        Path | None, LIVE, Field(description="the path of a PEM file, the server's certificate first")
    ] = None
    tls_key: Annotated[Path | None, LIVE, Field(description="the path of a PEM file that is ours alone (0600)")] = None
    cors_origins: Annotated[
        list[str], LIVE, Field(description="a list of exact origins, such as https://app.example:8443")
    ] = []
    behind_proxy: Annotated[
        bool, Field(description="true (a proxy does TLS and is the only one to reach us) or false")
    ] = False
    trusted_proxies: Annotated[
        list[str],
        Field(description="a list of addresses, networks (10.0.0.0/8) and unix (whoever comes by unix_socket)"),
    ] = []
    heartbeat_s: Annotated[float, LIVE, Field(ge=1, le=50, description="1 to 50 seconds")] = 15.0
    grace_s: Annotated[Seconds, LIVE] = 10.0


_DEFAULT: Final = limits.Limits()
_Cap = Annotated[int, Field(ge=1, le=1_000_000)]


class Limits(BaseModel):
    """`[limits]`: what a stranger may cost. The others of `web.limits` are not settable."""

    model_config = _SECTION
    body_bytes: Annotated[int, LIVE, Field(ge=1024, le=1 << 30, description="1024 to 1073741824 bytes")] = (
        _DEFAULT.body_bytes
    )
    header_bytes: Annotated[int, LIVE, Field(ge=1024, le=1 << 20, description="1024 to 1048576 bytes")] = (
        _DEFAULT.header_bytes
    )
    header_fields: Annotated[int, LIVE, Field(ge=8, le=1000, description="8 to 1000")] = _DEFAULT.header_fields
    header_s: Annotated[float, LIVE, Field(gt=0, le=60, description="above 0, up to 60 seconds")] = _DEFAULT.header_s
    body_s: Annotated[float, LIVE, Field(gt=0, le=600, description="above 0, up to 600 seconds")] = _DEFAULT.body_s
    body_rate_bytes: Annotated[
        int, LIVE, Field(ge=1, le=1 << 30, description="1 to 1073741824 bytes a second, below which body_s runs")
    ] = _DEFAULT.body_rate_bytes
    send_s: Annotated[float, LIVE, Field(gt=0, le=600, description="above 0, up to 600 seconds")] = _DEFAULT.send_s
    keep_alive_s: Annotated[float, LIVE, Field(gt=0, le=3600, description="above 0, up to 3600 seconds")] = (
        _DEFAULT.keep_alive_s
    )
    connections: Annotated[
        _Cap | None, LIVE, Field(description="1 to 1000000 (unset: half of the descriptor limit)")
    ] = None
    address_connections: Annotated[
        _Cap | None, LIVE, Field(description="1 to 1000000 from one address (unset: half of connections)")
    ] = None
    streams: Annotated[_Cap, LIVE, Field(description="1 to 1000000 open at once by one principal")] = _DEFAULT.streams
    rate_per_min: Annotated[_Cap, LIVE, Field(description="1 to 1000000, for keys created without a rate")] = (
        _DEFAULT.rate_per_min
    )
    failures_per_min: Annotated[_Cap, LIVE, Field(description="1 to 1000000 refused credentials from one address")] = (
        _DEFAULT.failures_per_min
    )
    roots: Annotated[
        list[Folder],
        Field(description="a list of absolute paths of folders, without .. (empty: engines start anywhere)"),
    ] = []

    def applied(self) -> limits.Limits:
        """The whole record, with these numbers in it."""
        return limits.Limits(**self.model_dump(exclude={"roots"}))


class Audit(BaseModel):
    """`[audit]`: what the audit trail says of each request that would change something."""

    model_config = _SECTION
    level: Annotated[
        Literal["metadata", "request"], LIVE, Field(description="metadata, or request (with bodies, secrets masked)")
    ] = "metadata"


class Log(BaseModel):
    """`[log]`: what is written beside `log_level`."""

    model_config = _SECTION
    access: Annotated[bool, LIVE, Field(description="true (a line for each request) or false")] = True


class Metrics(BaseModel):
    """`[metrics]`: who may see `/metrics`."""

    model_config = _SECTION
    public: Annotated[bool, LIVE, Field(description="true (for everybody) or false (needs the scope read)")] = False


class Traces(BaseModel):
    """`[traces]`: where spans go. Needs the extra `traces`."""

    model_config = _SECTION
    endpoint: Annotated[
        str | None,
        Field(
            pattern=r"^https?://[^\s/?#@]+(/\S*)?$", max_length=2048, description="the http(s) URL of an OTLP collector"
        ),
    ] = None
    sample: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, description="0 (no trace) to 1 (all)")] = 1.0


class Schedules(BaseModel):
    """`[schedules]`: what acts at its times."""

    model_config = _SECTION
    max: Annotated[int, Field(ge=0, le=100_000, description="0 to 100000 schedules")] = 1000


class Webhooks(BaseModel):
    """`[webhooks]`: where events may be sent, and how patiently."""

    model_config = _SECTION
    allow: Annotated[
        list[str],
        Field(description="a list of addresses or networks that are not public, each with or without a port"),
    ] = []
    max: Annotated[int, Field(ge=0, le=10_000, description="0 to 10000 webhooks")] = 100
    timeout_s: Annotated[float, Field(ge=1, le=60, allow_inf_nan=False, description="1 to 60 seconds")] = 15.0
    max_attempts: Annotated[int, Field(ge=1, le=100, description="1 to 100 attempts at one event")] = 15


class Settings(BaseSettings):
    """Everything that can be set. Made by `load`."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix=PREFIX, env_nested_delimiter="__", env_ignore_empty=True
    )
    state_dir: Annotated[Path, Field(description="the path of a folder of ours alone")]
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], LIVE, Field(description="debug, info, warning or error")
    ] = "info"
    server: Annotated[Server, Field(description="a table")] = Server()
    limits: Annotated[Limits, Field(description="a table")] = Limits()
    children: Annotated[Children, Field(description="a table")] = Children()
    secrets: Annotated[SecretSources, Field(description="a table")] = SecretSources()
    dialects: Annotated[Dialects, Field(description="a table")] = Dialects()

    audit: Annotated[Audit, Field(description="a table")] = Audit()
    log: Annotated[Log, Field(description="a table")] = Log()
    metrics: Annotated[Metrics, Field(description="a table")] = Metrics()
    traces: Annotated[Traces, Field(description="a table")] = Traces()
    schedules: Annotated[Schedules, Field(description="a table")] = Schedules()
    webhooks: Annotated[Webhooks, Field(description="a table")] = Webhooks()

    def keep_apart(self) -> None:
        """Raises Problem for what would give the state folder away."""
        keep_apart(self.state_dir.expanduser().absolute(), self.secrets)

    def child_policy(self, groups: ControlGroups | None = None) -> ChildPolicy:
        """What the programs of engines are started with. Raises Problem, see `web.children.child_policy`."""
        state = self.state_dir.expanduser().absolute()
        return child_policy(state, self.children, self.secrets, self.dialects, self.limits.roots, groups)


def settings_keys(*, live: bool = False) -> list[str]:
    """The dotted key of every setting, or of those that a reload changes."""
    return [key for key, field in fields_of(Settings) if not live or LIVE in field.metadata]


def fields_of(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """(dotted key, field) of every setting; its description says what is allowed."""
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            yield from fields_of(section, f"{prefix}{name}.")
        else:
            yield prefix + name, field
