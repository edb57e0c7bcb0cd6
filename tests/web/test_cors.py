"""Which texts are origins: exactly those that a browser could send."""

import pytest

from web.cors import is_origin


@pytest.mark.parametrize(
    "text",
    [
        "https://app.example",
        "http://localhost:5173",
        "http://127.0.0.1:1",
        "https://[2001:db8::1]:8443",
        "https://a",
        "http://app.example:443",
        "https://xn--bcher-kva.example:65535",
    ],
)
def test_what_a_browser_sends_is_an_origin(text: str) -> None:
    assert is_origin(text)


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "null",
        "",
        "https://*.example",
        "https://app.example/",
        "https://app.example/path",
        "https://app.example?",
        "app.example",
        "ftp://app.example",
        "file://",
        "HTTPS://app.example",
        "https://App.example",
        "https://user@app.example",
        "https://app.example:443",
        "http://app.example:80",
        "https://app.example:0",
        "https://app.example:65536",
        "https://app.example:",
        "https://app.example\n",
        "https://-app.example",
        "chrome-extension://abcdef",
    ],
)
def test_anything_else_is_none(text: str) -> None:
    assert not is_origin(text)
