"""Reads that tell which roles a worker application has."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from worker.pingone.diagnosis import RoleReads
from worker.pingone.errors import Forbidden, OutcomeUnknown

FORBIDDEN = {"id": "e-1", "code": "ACCESS_FAILED", "details": [{"code": "INSUFFICIENT_PERMISSIONS"}]}


@pytest.fixture
def connect(make_environment: Any, serve: Any, script: Any, http: Any) -> Iterator[Callable[..., Any]]:
    """Makes reads that get these answers, each a status and a body; and the script of what arrived."""
    made = []

    def make(*answers: tuple[int, Any]) -> Any:
        talk = script([http(status, json.dumps(body).encode(), Correlation_Id="c-1") for status, body in answers])
        reads = RoleReads(make_environment(serve(talk).url), "made-up-access-token", deadline=5)
        made.append(reads)
        return reads, talk

    yield make
    for reads in made:
        reads.close()


def test_one_user_is_asked_for_and_its_devices(connect: Callable[..., Any]) -> None:
    reads, talk = connect((200, {"_embedded": {"users": [{"id": "u-1"}]}}), (200, {"_embedded": {"devices": []}}))
    assert reads.read_user() == "u-1"
    reads.read_devices("u-1")
    environment = "/v1/environments/5a5b7c9d-0e1f-4a2b-8c3d-4e5f6a7b8c9d"
    targets = [f"{environment}/users?limit=1", f"{environment}/users/u-1/devices"]
    assert [request.target for request in talk.received] == targets
    assert {request.headers["authorization"] for request in talk.received} == {"Bearer made-up-access-token"}


@pytest.mark.parametrize(
    "body", [{}, {"_embedded": []}, *({"_embedded": {"users": users}} for users in ([], ["u"], {}, [{"id": 1}]))]
)
def test_a_tenant_without_users_shows_none(connect: Callable[..., Any], body: Any) -> None:
    reads, _ = connect((200, body))
    assert reads.read_user() is None


def test_a_missing_role_is_told_from_an_answer_that_is_none(connect: Callable[..., Any]) -> None:
    reads, _ = connect((403, FORBIDDEN), (200, ["no object"]))
    with pytest.raises(Forbidden):
        reads.read_inventory()
    with pytest.raises(OutcomeUnknown):
        reads.read_policies()


ROLES = [
    {"name": "Environment Admin", "permissions": [{"id": "mfa:read:oathToken"}, {"id": "mfa:create:oathtokens"}]},
    {"name": "Another Admin", "permissions": [{"id": "mfa:delete:OATHTokens"}]},
    {"name": "Identity Data Admin", "permissions": [{"id": "dir:read:user"}, {}, "oathToken"]},
    {"name": "Without permissions"},
    {"permissions": [{"id": "mfa:read:oathToken"}]},
    "no role",
]


def test_roles_are_found_by_a_word_in_the_ids_of_their_permissions(connect: Callable[..., Any]) -> None:
    reads, talk = connect((200, {"_embedded": {"roles": ROLES}}))
    assert reads.find_roles("oathToken") == ["Another Admin", "Environment Admin"]
    assert talk.received[0].target == "/v1/roles"


@pytest.mark.parametrize("answer", [(403, FORBIDDEN), (500, {}), (200, {"_embedded": {"roles": None}}), (200, [])])
def test_where_pingone_does_not_tell_its_roles_there_are_none(connect: Callable[..., Any], answer: Any) -> None:
    reads, _ = connect(answer)
    assert reads.find_roles("oathToken") == []
