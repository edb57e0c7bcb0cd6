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
from web.client.trust import trust

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
    connection = _connection(place, timeout_s)
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
        from web.client.errors import unreachable

        raise unreachable(place.url, error) from None
    finally:
        connection.close()
    return found


def _connection(place: Place, timeout_s: float) -> http.client.HTTPConnection:
    parts = urlsplit(place.url)
    if parts.scheme == "unix":
        return _Unix(place.url.removeprefix("unix:"), timeout_s)
    if parts.scheme == "https":
        context = trust(place.ca_file) if place.ca_file else None
        return http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=timeout_s, context=context)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
