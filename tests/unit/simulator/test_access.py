"""Access tokens: who gets one, and for how long it is valid."""

import base64
import json
from urllib.parse import urlencode

import pytest

from worker.simulator.access import AccessTokens
from worker.simulator.settings import Settings

FORM = {"grant_type": "client_credentials"}


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def access(clock):
    access = AccessTokens(clock)
    access.clients["the client"] = "the: secret"
    return access


def basic(client_id="the+client", client_secret="the%3A+secret"):
    return "Basic " + base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()


def ask(access, authorization=None, settings=None, **form):
    answer = access.answer_request(authorization, urlencode(FORM | form).encode(), settings or Settings())
    return answer.status, json.loads(answer.body)


def test_a_client_may_come_with_basic_or_with_the_form(access):
    for status, body in (ask(access, basic()), ask(access, client_id="the client", client_secret="the: secret")):
        assert status == 200
        assert (body["token_type"], body["expires_in"]) == ("Bearer", 3600)
        assert access.admits(f"Bearer {body['access_token']}")


@pytest.mark.parametrize(
    "authorization", [None, basic(client_secret="wrong"), basic(client_id="another"), "Basic %%%", "Basic"]
)
def test_another_client_is_refused(access, authorization):
    assert ask(access, authorization)[0] == 401


def test_a_client_authenticates_in_its_one_way(access):
    assert ask(access, basic(), Settings(client_auth="post"))[0] == 401
    assert ask(access, basic(), Settings(client_auth="basic"))[0] == 200


def test_another_grant_is_refused(access):
    assert ask(access, basic(), grant_type="password") == (
        400,
        {"error": "unsupported_grant_type", "error_description": "Only client_credentials is supported"},
    )


def test_an_access_token_expires(access, clock):
    _, body = ask(access, basic(), Settings(access_token_life=10))
    clock.now += 9.9
    assert access.admits(f"Bearer {body['access_token']}")
    clock.now += 0.1
    assert not access.admits(f"Bearer {body['access_token']}")


def test_all_access_tokens_can_be_revoked(access):
    _, body = ask(access, basic())
    assert access.revoke_all() == 1
    assert not access.admits(f"Bearer {body['access_token']}")


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer made-up"])
def test_nothing_else_is_admitted(access, authorization):
    assert not access.admits(authorization)


def test_a_repr_shows_no_secret(access):
    _, body = ask(access, basic())
    assert "secret" not in repr(access)
    assert body["access_token"] not in repr(access)
