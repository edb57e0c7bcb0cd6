"""Problems over HTTP come back as the exceptions that they were."""

import json

import pytest

from protocol.errors import BadInput, Busy, Conflict, EnginehouseError, InvalidState, MailboxFull, Missing, Unavailable
from web.client.errors import ERRORS, error_of
from web.problems import PROBLEMS, problem


def there_and_back(error: EnginehouseError) -> EnginehouseError:
    answer = problem(error, instance="/api/v1/engines")
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return error_of(answer.status, headers, answer.body)


@pytest.mark.parametrize("slug", sorted(set(PROBLEMS) - {"internal", "upstream-error"}))
def test_each_problem_of_the_table_is_its_exception_again(slug: str) -> None:
    found = there_and_back(ERRORS[slug]("Do this instead."))
    assert (type(found), found.detail) == (ERRORS[slug], "Do this instead.")


def test_what_the_problem_promises_comes_along() -> None:
    found = there_and_back(InvalidState("Resume it first.", state="paused", allowed=["resume"]))
    assert (found.extra["state"], found.extra["allowed"]) == ("paused", ["resume"])
    assert str(found.extra["error_id"]).startswith("err_")
    assert there_and_back(MailboxFull("Later.", retry_after_s=7)).extra["retry_after_s"] == 7
    assert there_and_back(MailboxFull("Later.")).extra["retry_after_s"] == 1  # from the header alone


def test_a_bug_of_the_house_is_the_root_of_the_tree() -> None:
    answer = problem(ZeroDivisionError(), instance="/")
    found = error_of(answer.status, {}, answer.body)
    assert type(found) is EnginehouseError
    assert found.extra["error_id"]


@pytest.mark.parametrize(
    "status, branch",
    [
        (400, BadInput),
        (418, BadInput),
        (404, Missing),
        (410, Missing),
        (409, Conflict),
        (429, Busy),
        (503, Unavailable),
    ],
)
def test_a_slug_of_a_newer_house_is_the_branch_of_its_status(status: int, branch: type[EnginehouseError]) -> None:
    body = json.dumps({"type": "/problems/new-one", "detail": "So it is."}).encode()
    found = error_of(status, {}, body)
    assert (type(found), found.detail) == (branch, "So it is.")


@pytest.mark.parametrize("body", [b"", b"<html>Bad gateway</html>", b"[]", b'{"detail": 5}', b"\xff"])
def test_an_answer_without_a_reason_says_so(body: bytes) -> None:
    found = error_of(502, {"Retry-After": "soon"}, body)
    assert type(found) is Unavailable
    assert "502" in found.detail
