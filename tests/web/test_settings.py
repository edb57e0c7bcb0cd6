"""Settings: who wins, what is reported, and the sentence that a wrong one gets."""

from pathlib import Path
from typing import Any

import pytest

from web import limits
from web.loaded import Loaded, load
from web.places import Problem
from web.settings import Limits, Settings


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def loaded(tmp_path: Path, toml: str = "", said: dict[str, Any] | None = None, /, **environ: str) -> Loaded:
    file = tmp_path / "config.toml"
    file.write_text(toml)
    return load({"HOME": str(tmp_path), "ENGINEHOUSE_CONFIG": str(file), **environ}, command_line=said)


def refused(tmp_path: Path, toml: str = "", said: dict[str, Any] | None = None, /, **environ: str) -> str:
    with pytest.raises(Problem) as caught:
        loaded(tmp_path, toml, said, **environ)
    return str(caught.value)


def test_the_command_line_goes_before_the_environment_before_the_file_before_defaults(tmp_path: Path) -> None:
    toml = "[server]\nport = 1\ngrace_s = 1\nheartbeat_s = 5"
    found = loaded(tmp_path, toml, {"server": {"port": 3}}, ENGINEHOUSE_PORT="2", ENGINEHOUSE_SERVER__GRACE_S="2")
    server = found.settings.server
    assert (server.port, server.grace_s, server.heartbeat_s, server.host) == (3, 2.0, 5.0, "127.0.0.1")
    assert [found.origin(f"server.{name}") for name in ("port", "grace_s", "heartbeat_s", "host")] == [
        "command line",
        "ENGINEHOUSE_SERVER__GRACE_S",
        str(tmp_path / "config.toml"),
        "default",
    ]


def test_short_names_are_the_long_ones(tmp_path: Path) -> None:
    found = loaded(tmp_path, ENGINEHOUSE_HOST="::1", ENGINEHOUSE_PORT="0")
    assert (found.settings.server.host, found.settings.server.port) == ("::1", 0)
    assert found.origin("server.port") == "ENGINEHOUSE_PORT"


def test_the_state_directory_has_its_place_by_default(tmp_path: Path) -> None:
    assert loaded(tmp_path).settings.state_dir == tmp_path / ".local/state/enginehouse"
    assert loaded(tmp_path, ENGINEHOUSE_STATE_DIR="/s").settings.state_dir == Path("/s")
    assert loaded(tmp_path, 'state_dir = "/t"').settings.state_dir == Path("/t")


def test_an_empty_variable_is_none(tmp_path: Path) -> None:
    assert loaded(tmp_path, ENGINEHOUSE_PORT="", ENGINEHOUSE_NONSENSE="").unknown == ()


def test_where_webhooks_may_go_is_a_list_of_addresses_and_networks(tmp_path: Path) -> None:
    found = loaded(tmp_path, ENGINEHOUSE_WEBHOOKS__ALLOW="127.0.0.1:9000, 10.0.0.0/8")
    assert found.settings.webhooks.allow == ["127.0.0.1:9000", "10.0.0.0/8"]
    for wrong in ("localhost:9000", "10.0.0.1/8", "*"):
        assert f"webhooks.allow: '{wrong}' is not allowed" in refused(tmp_path, f'[webhooks]\nallow = ["{wrong}"]')


def test_a_list_is_written_with_commas_or_in_json(tmp_path: Path) -> None:
    found = loaded(tmp_path, ENGINEHOUSE_SERVER__ALLOWED_HOSTS="a.example, b.example")
    assert found.settings.server.allowed_hosts == ["a.example", "b.example"]
    found = loaded(tmp_path, ENGINEHOUSE_SERVER__ALLOWED_HOSTS='["a.example", "[::1]"]')
    assert found.settings.server.allowed_hosts == ["a.example", "[::1]"]
    found = loaded(tmp_path, ENGINEHOUSE_SERVER__ALLOWED_HOSTS="[::1]")
    assert found.settings.server.allowed_hosts == ["[::1]"]


def test_names_that_mean_nothing_are_reported(tmp_path: Path) -> None:
    names = ("ENGINEHOUSE_PROT", "ENGINEHOUSE_SERVER", "ENGINEHOUSE_SERVER__PROT", "ENGINEHOUSE_SERVER__PORT__X")
    clients = {"ENGINEHOUSE_URL": "http://a", "ENGINEHOUSE_API_KEY": "k"}
    assert loaded(tmp_path, **dict.fromkeys(names, "1"), **clients).unknown == tuple(sorted(names))


def test_two_names_for_one_setting_must_agree(tmp_path: Path) -> None:
    assert loaded(tmp_path, ENGINEHOUSE_PORT="5", ENGINEHOUSE_SERVER__PORT="5").settings.server.port == 5
    sentence = refused(tmp_path, ENGINEHOUSE_PORT="5", ENGINEHOUSE_SERVER__PORT="6")
    assert sentence == "ENGINEHOUSE_PORT and ENGINEHOUSE_SERVER__PORT say different things; set one of them."


def test_a_wrong_value_is_told_with_its_place_its_key_and_what_is_allowed(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    allowed = "allowed: 0 to 65535 (0 takes a free one)."
    assert refused(tmp_path, "[server]\nport = 99999") == f"{file}: server.port: 99999 is not allowed; {allowed}"
    assert refused(tmp_path, ENGINEHOUSE_PORT="x") == f"ENGINEHOUSE_PORT: server.port: 'x' is not allowed; {allowed}"
    said = {"server": {"port": -1}}
    assert refused(tmp_path, "", said) == f"command line: server.port: -1 is not allowed; {allowed}"
    assert "log_level: 'loud' is not allowed; allowed: debug, info" in refused(tmp_path, 'log_level = "loud"')


def test_a_wrong_key_is_told_with_the_keys_that_are_there(tmp_path: Path) -> None:
    sentence = refused(tmp_path, "[limits]\nbody = 1")
    assert sentence.endswith(f"limits.body is not a setting; there are {', '.join(sorted(Limits.model_fields))}.")
    sentence = refused(tmp_path, "[sever]\nport = 1")
    assert sentence.endswith(f"sever is not a setting; there are {', '.join(sorted(Settings.model_fields))}.")
    assert refused(tmp_path, "server = 5").endswith("server must be a table.")


def test_a_file_that_is_not_toml_or_not_there_is_told(tmp_path: Path) -> None:
    assert "this is not TOML" in refused(tmp_path, "[server")
    with pytest.raises(Problem, match="there is no such file"):
        load({"HOME": str(tmp_path)}, config=tmp_path / "none.toml")
    load({"HOME": str(tmp_path)})


def test_a_secret_is_neither_shown_nor_told(tmp_path: Path) -> None:
    secret = "s3cret" * 8
    found = loaded(tmp_path, ENGINEHOUSE_SERVER__ADMIN_KEY=secret)
    assert found.settings.server.admin_key is not None
    assert found.settings.server.admin_key.get_secret_value() == secret
    assert secret not in str(found.values())
    assert "s3cret" not in refused(tmp_path, ENGINEHOUSE_SERVER__ADMIN_KEY="s3cret")
    assert "s3cret" not in refused(tmp_path, ENGINEHOUSE_SERVER__ADMIN_KEY=secret + "\N{SNOWMAN}")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "house.example"])
def test_an_address_that_others_can_reach_needs_auth_and_tls_or_a_proxy(tmp_path: Path, host: str) -> None:
    assert "server.behind_proxy = true" in refused(tmp_path, ENGINEHOUSE_HOST=host)
    proxied = {"ENGINEHOUSE_HOST": host, "ENGINEHOUSE_SERVER__BEHIND_PROXY": "true"}
    assert "server.trusted_proxies" in refused(tmp_path, **proxied)
    named = {**proxied, "ENGINEHOUSE_SERVER__TRUSTED_PROXIES": "10.0.0.7"}
    secured = {
        "ENGINEHOUSE_HOST": host,
        "ENGINEHOUSE_SERVER__TLS_CERT": "/c.pem",
        "ENGINEHOUSE_SERVER__TLS_KEY": "/k.pem",
    }
    for names in (named, secured):
        assert loaded(tmp_path, **names).settings.server.host == host
        sentence = refused(tmp_path, **names, ENGINEHOUSE_SERVER__ENABLE_AUTH="false")
        assert sentence.startswith(f"ENGINEHOUSE_HOST: server.host '{host}' can be reached from other machines")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_may_do_without_auth(tmp_path: Path, host: str) -> None:
    assert not loaded(tmp_path, "[server]\nenable_auth = false", ENGINEHOUSE_HOST=host).settings.server.enable_auth


def test_without_tcp_there_must_be_a_unix_socket(tmp_path: Path) -> None:
    assert "server.unix_socket must be set" in refused(tmp_path, "[server]\nenabled = false")
    toml = '[server]\nenabled = false\nunix_socket = "/run/house"\nhost = "0.0.0.0"\nenable_auth = false'
    assert loaded(tmp_path, toml).settings.server.unix_socket == Path("/run/house")


@pytest.mark.parametrize("host", ["*", "*.example", "null", ""])
def test_patterns_are_no_hosts(tmp_path: Path, host: str) -> None:
    assert "exact names" in refused(tmp_path, f'[server]\nallowed_hosts = ["{host}"]')


@pytest.mark.parametrize(
    "url", ["collector:4318", "ftp://c/v1", "http://", "http://u:p@c/v1", "http://a b/", "file:///x"]
)
def test_a_collector_is_an_http_address_without_credentials(tmp_path: Path, url: str) -> None:
    assert "the http(s) URL of an OTLP collector" in refused(tmp_path, ENGINEHOUSE_TRACES__ENDPOINT=url)
    for good in ("http://127.0.0.1:4318/v1/traces", "https://collector.example/v1/traces"):
        assert loaded(tmp_path, ENGINEHOUSE_TRACES__ENDPOINT=good).settings.traces.endpoint == good


@pytest.mark.parametrize("sample", ["-0.1", "1.1", "nan", "all"])
def test_a_share_of_traces_is_between_none_and_all(tmp_path: Path, sample: str) -> None:
    assert "0 (no trace) to 1 (all)" in refused(tmp_path, ENGINEHOUSE_TRACES__SAMPLE=sample)


def test_every_value_is_listed_with_its_origin(tmp_path: Path) -> None:
    shown = {value.key: (value.value, value.origin) for value in loaded(tmp_path, ENGINEHOUSE_PORT="7").values()}
    assert shown["server.port"] == (7, "ENGINEHOUSE_PORT")
    assert shown["limits.connections"] == (None, "default")
    assert shown["state_dir"][1] == "default"


@pytest.mark.parametrize("name, other", [("tls_cert", "tls_key"), ("tls_key", "tls_cert")])
def test_a_certificate_and_its_key_belong_together(tmp_path: Path, name: str, other: str) -> None:
    sentence = refused(tmp_path, f'[server]\n{name} = "/a.pem"')
    assert sentence.endswith(f"server.{name} is set; then server.{other} must be set.")


@pytest.mark.parametrize("origin", ["*", "null", "https://*.example", "https://app.example/", "ftp://a", "app.example"])
def test_origins_are_exact(tmp_path: Path, origin: str) -> None:
    sentence = refused(tmp_path, f'[server]\ncors_origins = ["{origin}"]')
    assert f"server.cors_origins: '{origin}' is not allowed; allowed: exact origins" in sentence


def test_exact_origins_are_taken(tmp_path: Path) -> None:
    found = loaded(tmp_path, ENGINEHOUSE_SERVER__CORS_ORIGINS="https://app.example, http://localhost:5173")
    assert found.settings.server.cors_origins == ["https://app.example", "http://localhost:5173"]


@pytest.mark.parametrize("proxy", ["proxy.example", "*", "10.0.0.1/8", "10.0.0.0/99"])
def test_proxies_are_addresses_and_networks(tmp_path: Path, proxy: str) -> None:
    toml = f'[server]\nbehind_proxy = true\ntrusted_proxies = ["{proxy}"]'
    assert f"server.trusted_proxies: '{proxy}' is not allowed" in refused(tmp_path, toml)


def test_proxies_are_trusted_only_where_one_stands_before_us(tmp_path: Path) -> None:
    sentence = refused(tmp_path, '[server]\ntrusted_proxies = ["10.0.0.1"]')
    assert sentence.endswith("server.trusted_proxies is set; then server.behind_proxy must be true.")


def test_every_limit_reaches_what_enforces_it(tmp_path: Path) -> None:
    said: dict[str, float] = {name: 1024 + number for number, name in enumerate(Limits.model_fields) if name != "roots"}
    said |= {"header_fields": 99, "header_s": 1.5, "body_s": 2.5, "send_s": 3.5, "keep_alive_s": 4.5}
    toml = "[limits]\n" + "\n".join(f"{name} = {value}" for name, value in said.items())
    applied = loaded(tmp_path, toml).settings.limits.applied()
    assert {name: getattr(applied, name) for name in said} == said
    assert loaded(tmp_path).settings.limits.applied() == limits.Limits()
