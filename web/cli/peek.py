"""One GET without the client: `status` is asked often, by scripts and prompts, and must not wait 0.4 s for imports.

Standard library alone; problems become the same exceptions as everywhere.
"""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any
from urllib.parse import urlsplit

from web.client.locate import Place

__all__ = ["peek"]


class _Unix(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def peek(place: Place, *paths: str, timeout_s: float = 10.0) -> list[Any]:
    """The JSON of each path, over one connection. Raises the house's exceptions."""
    connection = _connection(place.url, timeout_s)
    headers = {"Accept": "application/json"}
    if place.api_key is not None:
        headers["Authorization"] = f"Bearer {place.api_key}"
    found: list[Any] = []
    try:
        for path in paths:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            body = response.read()
            if response.status >= 400:
                from web.client.errors import error_of

                raise error_of(response.status, dict(response.getheaders()), body)
            found.append(json.loads(body))
    except (OSError, http.client.HTTPException, ValueError) as error:
        from web.client.errors import Unreachable

        raise Unreachable(
            f"Nobody answers at {place.url} ({error}): start the house with `enginehouse serve`, or name its URL."
        ) from None
    finally:
        connection.close()
    return found


def _connection(url: str, timeout_s: float) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return _Unix(url.removeprefix("unix:"), timeout_s)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=timeout_s)
