"""Reads that tell which roles a worker application has."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from unit.pingone.conftest import http, make_environment

from worker.pingone.diagnosis import RoleReads
from worker.pingone.errors import Forbidden, OutcomeUnknown

FORBIDDEN = {"id": "e-1", "code": "ACCESS_FAILED", "details": [{"code": "INSUFFICIENT_PERMISSIONS"}]}


@pytest.fixture
def connect(serve: Any) -> Iterator[Callable[..., Any]]:
    """Makes reads that get these answers, each a status and a body; and the server that gives them."""
    with ExitStack() as stack:

        def make(*answers: tuple[int, Any]) -> Any:
            api = serve(*(http(status, json.dumps(body).encode(), Correlation_Id="c-1") for status, body in answers))
            reads = RoleReads(make_environment(api.url), "made-up-access-token", deadline=5)
            stack.callback(reads.close)
            return reads, api

        yield make


def test_one_user_is_asked_for_and_its_devices(connect: Callable[..., Any]) -> None:
    reads, api = connect((200, {"_embedded": {"users": [{"id": "u-1"}]}}), (200, {"_embedded": {"devices": []}}))
    assert reads.read_user() == "u-1"
    reads.read_devices("u-1")
    environment = "/v1/environments/5a5b7c9d-0e1f-4a2b-8c3d-4e5f6a7b8c9d"
    targets = [f"{environment}/users?limit=1", f"{environment}/users/u-1/devices"]
    assert [request.target for request in api.received] == targets
    assert {request.headers["authorization"] for request in api.received} == {"Bearer made-up-access-token"}


@pytest.mark.parametrize(
    "body", [{}, {"_embedded": []}, *({"_embedded": {"users": users}} for users in ([], ["u"], {}, [{"id": 1}]))]
)
def test_a_tenant_without_users_shows_none(connect: Callable[..., Any], body: Any) -> None:
    assert connect((200, body))[0].read_user() is None


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


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        ((200, {"_embedded": {"roles": ROLES}}), ["Another Admin", "Environment Admin"]),
        # Where PingOne does not tell its roles there are none.
        *((answer, []) for answer in [(403, FORBIDDEN), (500, {}), (200, {"_embedded": {"roles": None}}), (200, [])]),
    ],
)
def test_roles_are_found_by_a_word_in_the_ids_of_their_permissions(
    connect: Callable[..., Any], answer: Any, names: list[str]
) -> None:
    reads, api = connect(answer)
    assert reads.find_roles("oathToken") == names
    assert api.received[0].target == "/v1/roles"
