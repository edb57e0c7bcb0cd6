from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from protocol.authority import Authority, Scope, same_person
from protocol.deciding import check_digest, may_decide
from protocol.errors import ApprovalStale, InsufficientScope, ValidationFailed
from protocol.requests import Request, approves, fold_request
from protocol.specs import PoolSpec

if TYPE_CHECKING:
    from tests.protocol.conftest import Writer

OPEN, FOUR_EYES = PoolSpec(id="p"), PoolSpec(id="p", four_eyes=True)
OWNERS = {"key:1": "user:ann"}


def person(principal: str) -> str:
    return OWNERS.get(principal, principal)


def request(row: Writer, **data: Any) -> Request:
    found = fold_request(None, row.opened(asked_by=["user:ann"], **data))
    assert found is not None
    return found


def scoped(*scopes: Scope, engine: str | None = None) -> Authority:
    return Authority(scopes=frozenset(scopes), engine=engine)


@pytest.mark.parametrize(
    "principal, authority, pool, kind, may",
    [
        ("user:bob", scoped(Scope.APPROVE), OPEN, "approval", True),
        ("user:bob", scoped(Scope.ADMIN), OPEN, "approval", True),
        ("user:bob", scoped(Scope.READ, Scope.OPERATE), OPEN, "approval", False),
        ("user:bob", scoped(Scope.APPROVE, engine="eng_1"), OPEN, "approval", False),
        ("engine:eng_1", scoped(Scope.ADMIN), OPEN, "approval", False),
        ("engine:eng_1", None, OPEN, "question", False),
        (None, None, OPEN, "approval", True),
        ("user:ann", None, OPEN, "approval", True),
        ("user:ann", None, FOUR_EYES, "approval", False),
        ("user:ann", scoped(Scope.ADMIN), FOUR_EYES, "permission", False),
        ("key:1", scoped(Scope.ADMIN), FOUR_EYES, "approval", False),
        (None, None, FOUR_EYES, "approval", False),
        ("user:bob", None, FOUR_EYES, "approval", True),
        ("user:ann", None, FOUR_EYES, "question", True),
    ],
)
def test_who_may_decide(
    row: Writer, principal: str | None, authority: Authority | None, pool: PoolSpec, kind: str, may: bool
) -> None:
    asked = request(row, kind=kind)
    if may:
        may_decide(asked, principal=principal, authority=authority, pool=pool, person=person)
    else:
        with pytest.raises(InsufficientScope):
            may_decide(asked, principal=principal, authority=authority, pool=pool, person=person)


def test_a_principal_without_a_name_may_be_anybody() -> None:
    assert same_person("key:1", "user:ann", person)
    assert not same_person("key:2", "user:ann", person)
    assert same_person(None, "user:ann", person)


WANTED = PoolSpec(id="p", require_digest=True)


@pytest.mark.parametrize(
    "option, digest, pool, error",
    [
        ("yes", None, OPEN, None),
        ("yes", "d" * 64, WANTED, None),
        ("no", None, WANTED, None),
        (None, None, WANTED, None),
        ("yes", None, WANTED, ValidationFailed),
        ("yes", "e" * 64, OPEN, ApprovalStale),
        ("no", "e" * 64, WANTED, ApprovalStale),
    ],
)
def test_what_digest_a_decision_has_to_name(
    row: Writer, option: str | None, digest: str | None, pool: PoolSpec, error: type[Exception] | None
) -> None:
    asked = request(row)
    if error is None:
        check_digest(asked, option, digest, pool=pool)
    else:
        with pytest.raises(error):
            check_digest(asked, option, digest, pool=pool)


def test_a_question_approves_nothing_whatever_its_options_are(row: Writer) -> None:
    assert [approves(request(row, kind=kind), "yes") for kind in ("approval", "permission", "question")] == [
        True, True, False,
    ]  # fmt: skip
    assert not approves(request(row), "no")
    assert not approves(request(row), None)
