"""The settings of one start: command line, then environment, then the TOML file, then defaults.

Layering and parsing are pydantic-settings'; what is added here is what it leaves out. Each value knows where it came
from (`config show`), a name in the environment that means nothing is reported, and a fault becomes one sentence that
names the place, the key, what is wrong and what is allowed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, InitSettingsSource, PydanticBaseSettingsSource

from web.cors import is_origin
from web.peer import Proxies
from web.places import Problem, config_file, default_state_directory, read_toml
from web.settings import PREFIX, Server, Settings, fields_of, settings_keys

__all__ = ["Loaded", "Value", "load"]

SHORT: Final = {"ENGINEHOUSE_HOST": "ENGINEHOUSE_SERVER__HOST", "ENGINEHOUSE_PORT": "ENGINEHOUSE_SERVER__PORT"}
# Read by clients, by the search for the file, and by the processes of an engine that runs a command of ours.
NOT_SETTINGS: Final = frozenset(
    {"ENGINEHOUSE_URL", "ENGINEHOUSE_API_KEY", "ENGINEHOUSE_CA_FILE", "ENGINEHOUSE_CONFIG", "ENGINEHOUSE_TREE"}
)


@dataclass(frozen=True, slots=True)
class Value:
    """One setting. `key`: dotted; `origin`: `command line`, the variable, the file, or `default`."""

    key: str
    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """`unknown`: names in the environment that look like ours and mean nothing; `again` reads the same sources anew."""

    settings: Settings
    origins: Mapping[str, str]
    unknown: tuple[str, ...]
    again: Callable[[], Loaded]

    def origin(self, key: str) -> str:
        return self.origins.get(key, "default")

    def explicit(self, key: str) -> bool:
        """Whether somebody said so, as opposed to the default."""
        return key in self.origins

    def values(self) -> list[Value]:
        """Every setting as plain values; secrets are shown as `**********`."""
        shown = self.settings.model_dump(mode="json")
        return [Value(key, value, self.origin(key)) for key, value in _leaves(shown)]

    def differing(self, other: Loaded) -> list[str]:
        """The keys of the settings that `other` has differently, in the order of their listing."""
        return [key for key in settings_keys() if _at(self.settings, key) != _at(other.settings, key)]

    def live_with(self, other: Loaded) -> list[str]:
        """The keys of the settings that can change from these to `other`: TLS only where there is TLS before and after,
        since that is another kind of socket.
        """
        tls = ("server.tls_cert", "server.tls_key")
        stays = all(loaded.settings.server.tls_cert is not None for loaded in (self, other))
        return [key for key in settings_keys(live=True) if stays or key not in tls]

    def taking(self, other: Loaded) -> Loaded:
        """These settings with the live ones of `other`. Raises Problem where they do not go together."""
        live = self.live_with(other)
        update: dict[str, Any] = {}
        for key in live:
            section, dot, name = key.rpartition(".")
            (update.setdefault(section, {}) if dot else update)[name] = _at(other.settings, key)
        for section, values in update.items():
            if isinstance(there := getattr(self.settings, section), BaseModel):
                update[section] = there.model_copy(update=values)
        origins = {key: where for key, where in self.origins.items() if key not in live}
        origins |= {key: where for key, where in other.origins.items() if key in live}
        merged = replace(self, settings=self.settings.model_copy(update=update), origins=origins, unknown=other.unknown)
        _check(merged)
        return merged


def load(
    environ: Mapping[str, str], *, command_line: Mapping[str, Any] | None = None, config: Path | None = None
) -> Loaded:
    """The settings of this start.

    Args:
        environ: the environment.
        command_line: what was given there, as nested tables.
        config: the file that was named there.

    Raises:
        Problem: a value, a key or a combination that is not allowed.

    """
    file = config or config_file(environ)
    table = read_toml(file, must_exist=config is not None or bool(environ.get("ENGINEHOUSE_CONFIG")))
    names, unknown = _names(environ)
    said = dict(command_line or {})
    source = _Environment(Settings, {variable.lower(): environ[name] for variable, name in names.items()})
    origins = {key: str(file) for key, _ in _leaves(table)}
    origins |= {_key(variable): name for variable, name in names.items()}
    origins |= {key: "command line" for key, _ in _leaves(said)}
    try:
        settings = _bound(said, source, {"state_dir": default_state_directory(environ), **table})
    except ValidationError as error:
        raise Problem(_sentence(error, origins)) from None
    again = partial(load, environ, command_line=command_line, config=config)
    loaded = Loaded(settings, origins, unknown, again)
    _check(loaded)
    return loaded


class _Environment(EnvSettingsSource):
    """The variables that are settings, under their full names."""

    def __init__(self, settings: type[BaseSettings], variables: Mapping[str, str]) -> None:
        self._variables = variables
        super().__init__(settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name: text for name, text in self._variables.items() if text}

    def decode_complex_value(self, field_name: str, field: Any, value: Any) -> Any:
        """A list is written with commas, or in JSON; what it may hold is checked with everything else."""
        with suppress(ValueError):
            if isinstance(found := json.loads(value), list):
                return found
        return [part.strip() for part in str(value).split(",")]


def _bound(said: dict[str, Any], source: _Environment, table: dict[str, Any]) -> Settings:
    class Bound(Settings):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *others: Any, **more: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, source, InitSettingsSource(settings_cls, table)

    return Bound(**said)


def _names(environ: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """{full variable: the name in the environment that sets it}, and the names that set nothing. Raises Problem."""
    known = {PREFIX + key.upper().replace(".", "__") for key in settings_keys()}
    names: dict[str, str] = {}
    unknown: list[str] = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in NOT_SETTINGS or not environ[name]:
            continue
        variable = SHORT.get(name, name)
        if variable not in known:
            unknown.append(name)
        elif variable in names and environ[names[variable]] != environ[name]:
            raise Problem(f"{names[variable]} and {name} say different things; set one of them.")
        else:
            names[variable] = name
    return names, tuple(unknown)


def _at(settings: Settings, key: str) -> Any:
    value: Any = settings
    for name in key.split("."):
        value = getattr(value, name)
    return value


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _key(variable: str) -> str:
    return variable.removeprefix(PREFIX).lower().replace("__", ".")


def _sentence(error: ValidationError, origins: Mapping[str, str]) -> str:
    fault = error.errors(include_url=False, include_context=False)[0]
    path = [str(part) for part in fault["loc"]]
    allowed = {key: field.description for key, field in fields_of(Settings)}
    keys = [".".join(path[:depth]) for depth in range(len(path), 0, -1)]
    key = next((name for name in keys if name in allowed), ".".join(path[:2]))
    origin = next((where for name, where in origins.items() if name == key or name.startswith(key + ".")), "default")
    if fault["type"] == "extra_forbidden":
        section = "".join(f"{part}." for part in path[:-1])
        there = sorted({name.removeprefix(section).split(".")[0] for name in allowed if name.startswith(section)})
        return f"{origin}: {'.'.join(path)} is not a setting; there are {', '.join(there)}."
    if key not in allowed:
        return f"{origin}: {key} must be a table."
    shown = "what is set" if key == "server.admin_key" else repr(fault["input"])
    return f"{origin}: {key}: {shown} is not allowed; allowed: {allowed[key]}."


def _check(loaded: Loaded) -> None:
    """What is wrong only together. Raises Problem."""
    loaded.settings.keep_apart()
    server = loaded.settings.server
    if not server.enabled and server.unix_socket is None:
        raise Problem(
            f"{loaded.origin('server.enabled')}: server.enabled is false; then server.unix_socket must be set."
        )
    if server.enabled and not is_loopback(server.host):
        where = f"{loaded.origin('server.host')}: server.host {server.host!r} can be reached from other machines"
        if not server.enable_auth:
            raise Problem(f"{where} and server.enable_auth is false; use 127.0.0.1, or switch it on.")
        if server.tls_cert is None and not server.behind_proxy:
            raise Problem(
                f"{where}; use 127.0.0.1, set server.tls_cert and server.tls_key, "
                "or set server.behind_proxy = true when a TLS proxy stands before us."
            )
        if server.behind_proxy and not server.trusted_proxies:
            raise Problem(f"{where}; name the proxy in server.trusted_proxies, or anybody could speak for anybody.")
    _check_edge(loaded, server)
    key = server.admin_key.get_secret_value() if server.admin_key else ""
    if not all(0x21 <= ord(char) <= 0x7E for char in key):
        origin = loaded.origin("server.admin_key")
        raise Problem(f"{origin}: server.admin_key: what is set is not allowed; allowed: visible ASCII characters.")
    for host in server.allowed_hosts:
        if not host or "*" in host or "/" in host or host == "null":
            origin = loaded.origin("server.allowed_hosts")
            raise Problem(
                f"{origin}: server.allowed_hosts: {host!r} is not allowed; allowed: exact names without port."
            )
    for text in loaded.settings.webhooks.allow:
        from web.webhooks.targets import allowed  # brings all of the webhooks along, and few need it

        try:
            allowed(text)
        except ValueError:
            origin = loaded.origin("webhooks.allow")
            raise Problem(
                f"{origin}: webhooks.allow: {text!r} is not allowed; allowed: 127.0.0.1:9000, 10.0.0.0/8 and the like."
            ) from None


def _check_edge(loaded: Loaded, server: Server) -> None:
    """TLS, proxies and origins. Raises Problem."""
    for name, other in (("tls_cert", "tls_key"), ("tls_key", "tls_cert")):
        if getattr(server, name) is not None and getattr(server, other) is None:
            raise Problem(f"{loaded.origin(f'server.{name}')}: server.{name} is set; then server.{other} must be set.")
    for origin in server.cors_origins:
        if not is_origin(origin):
            raise Problem(
                f"{loaded.origin('server.cors_origins')}: server.cors_origins: {origin!r} is not allowed; allowed: "
                "exact origins as a browser sends them, such as https://app.example:8443 (no path, no pattern)."
            )
    place = loaded.origin("server.trusted_proxies")
    if server.trusted_proxies and not server.behind_proxy:
        raise Problem(f"{place}: server.trusted_proxies is set; then server.behind_proxy must be true.")
    for proxy in server.trusted_proxies:
        try:
            Proxies.named([proxy])
        except ValueError:
            raise Problem(
                f"{place}: server.trusted_proxies: {proxy!r} is not allowed; allowed: addresses, networks such as "
                "10.0.0.0/8 (no host bits set), and unix."
            ) from None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`. A name that is not `localhost` could be anything."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
