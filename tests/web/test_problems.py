"""The one table of problems, against the error tree and RFC 9457."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from quart_trio import QuartTrio
from structlog.testing import capture_logs
from werkzeug.exceptions import NotFound as WerkzeugNotFound

import protocol.errors
import web.refusals
from protocol.errors import EngineDisposed, EnginehouseError, InvalidState, MailboxFull, StoreUnavailable
from web.problems import PROBLEMS, install, problem
from web.refusals import HeadersTooLarge, MethodNotAllowed, TokenExpired, TooLarge, UriTooLong


def _leaves(cls: type[EnginehouseError]) -> Iterator[type[EnginehouseError]]:
    for child in cls.__subclasses__():
        yield child
        yield from _leaves(child)


def _shown(error: BaseException) -> tuple[int, dict[bytes, bytes], dict[str, Any]]:
    answer = problem(error, instance="/api/v1/engines/a", request_id="r1")
    headers = dict(answer.headers)
    assert headers[b"content-type"] == b"application/problem+json"
    assert headers[b"content-length"] == b"%d" % len(answer.body)
    body = json.loads(answer.body)
    assert (body["status"], body["instance"]) == (answer.status, "/api/v1/engines/a")
    return answer.status, headers, body


def test_every_error_of_the_house_has_a_row_in_the_table() -> None:
    assert {protocol.errors, web.refusals}  # imported, so that their classes exist
    slugs = {error.slug for error in _leaves(EnginehouseError) if error.__module__ != "web.client.errors"}
    assert slugs <= set(PROBLEMS)


def test_a_problem_carries_what_its_slug_promises() -> None:
    status, _, body = _shown(InvalidState("Resume it first.", state="paused", allowed=["resume", "dispose"]))
    assert status == 409
    assert body["type"] == "/problems/invalid-state"
    assert body["detail"] == "Resume it first."
    assert (body["state"], body["allowed"]) == ("paused", ["resume", "dispose"])
    assert body["error_id"].startswith("err_")


def test_extra_members_cannot_overwrite_the_standard_ones() -> None:
    status, _, body = _shown(EngineDisposed("Spawn it again.", status=200, title="fine"))
    assert (status, body["status"], body["title"]) == (410, 410, PROBLEMS["engine-disposed"][1])


def test_what_was_too_large_is_told_by_the_status() -> None:
    found = [
        (_shown(error("Smaller."))[0], _shown(error("Smaller."))[2]["type"])
        for error in (TooLarge, UriTooLong, HeadersTooLarge)
    ]
    assert found == [(413, "/problems/too-large"), (414, "/problems/too-large"), (431, "/problems/too-large")]


@pytest.mark.parametrize("seconds, header", [(0.2, b"1"), (2, b"2"), (2.1, b"3")])
def test_busy_answers_say_when_to_come_back_in_whole_seconds_rounded_up(seconds: float, header: bytes) -> None:
    status, headers, body = _shown(MailboxFull("Wait.", retry_after_s=seconds))
    assert (status, headers[b"retry-after"], body["retry_after_s"]) == (429, header, seconds)


def test_every_429_and_503_says_when_to_come_back() -> None:
    assert _shown(StoreUnavailable("Wait."))[1][b"retry-after"] == b"1"


def test_an_expired_token_is_challenged_as_such() -> None:
    status, headers, _ = _shown(TokenExpired("Refresh it."))
    assert status == 401
    assert headers[b"www-authenticate"].startswith(b"Bearer ")
    assert b'error="invalid_token"' in headers[b"www-authenticate"]


def test_405_names_the_methods_in_the_header() -> None:
    status, headers, body = _shown(MethodNotAllowed("Use GET.", allow=["GET", "HEAD"]))
    assert (status, headers[b"allow"]) == (405, b"GET, HEAD")
    assert "allow" not in body


def test_a_bug_is_logged_with_its_cause_and_leaks_nothing() -> None:
    secret = "sk-123 in /srv/secret.py"
    with capture_logs() as logs:
        status, _, body = _shown(RuntimeError(secret))
    assert (status, body["type"]) == (500, "/problems/internal")
    assert "sk-123" not in json.dumps(body)
    assert "/srv" not in json.dumps(body)
    assert logs[0]["error_id"] == body["error_id"]
    assert logs[0]["request_id"] == "r1"
    assert str(logs[0]["exc_info"]) == secret


def test_an_error_that_a_nursery_wrapped_is_still_itself() -> None:
    wrapped = ExceptionGroup("nursery", [ExceptionGroup("nursery", [InvalidState("Resume it.")])])
    assert _shown(wrapped)[0] == 409


def test_hostile_text_is_still_utf8_json() -> None:
    assert _shown(InvalidState("half a \ud800 and \x00"))[2]["detail"].startswith("half a ?")


def test_quarts_own_errors_are_problems_too() -> None:
    assert _shown(WerkzeugNotFound())[2]["type"] == "/problems/not-found"


async def test_an_app_answers_every_error_as_a_problem() -> None:
    app = QuartTrio("app")
    app.config["MAX_CONTENT_LENGTH"] = 10
    install(app)

    @app.get("/refuses")
    async def refuses() -> str:
        raise InvalidState("Resume it.", state="paused")

    @app.get("/fails")
    async def fails() -> str:
        raise ZeroDivisionError

    @app.post("/takes/")
    async def takes() -> str:
        from quart import request

        return str(await request.get_data())

    client = app.test_client()
    found = []
    with capture_logs():
        for method, path in (
            ("GET", "/refuses"),
            ("GET", "/fails"),
            ("GET", "/none"),
            ("POST", "/refuses"),
            ("GET", "/takes"),
        ):
            response = await (client.get if method == "GET" else client.post)(path)
            assert response.content_type == "application/problem+json"
            body = json.loads(await response.get_data())
            found.append((response.status_code, body["type"].removeprefix("/problems/")))
        large = await client.post("/takes/", data=b"x" * 11)
        refused = await client.post("/refuses")
    assert found == [
        (409, "invalid-state"),
        (500, "internal"),
        (404, "not-found"),
        (405, "method-not-allowed"),
        (404, "not-found"),
    ]
    assert large.status_code == 413
    assert set(refused.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
