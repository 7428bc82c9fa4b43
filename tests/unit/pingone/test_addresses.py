"""Addresses that we build lead where they should, and those of answers are followed in our environment alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from worker.config.environment import Environment
from worker.pingone.wire import build_url, is_in_environment

ID = "5a5b7c9d-0e1f-4a2b-8c3d-4e5f6a7b8c9d"
OURS = f"https://api.pingone.eu/v1/environments/{ID}"


@pytest.fixture
def environment(make_environment: Callable[..., Environment]) -> Environment:
    return make_environment("https://api.pingone.eu")


def test_segments_and_values_keep_to_their_places(environment: Environment) -> None:
    url = build_url(environment, "users", "a/b?c", query={"filter": 'username eq "x&y=1#"', "limit": "2"})
    assert url == f"{OURS}/users/a%2Fb%3Fc?filter=username%20eq%20%22x%26y%3D1%23%22&limit=2"


@pytest.mark.parametrize("segment", ["", ".", ".."])
def test_an_empty_id_makes_no_address(environment: Environment, segment: str) -> None:
    with pytest.raises(ValueError, match="an id is empty"):
        build_url(environment, "users", segment)


@pytest.mark.parametrize(
    "url",
    [
        f"{OURS}/users?cursor=RjE6dXNlcnM6MTAw&limit=200",
        f"{OURS}/users?filter=username eq %22a%22",
        f"https://api.pingone.eu:443/v1/environments/{ID}/oathTokens",
        f"HTTPS://API.pingone.EU/v1/environments/{ID.upper()}/users",
    ],
)
def test_an_address_in_our_environment_is_ours(environment: Environment, url: str) -> None:
    assert is_in_environment(environment, url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/v1/environments/5a5b7c9d-0e1f-4a2b-8c3d-4e5f6a7b8c9d/users",
        f"http://api.pingone.eu/v1/environments/{ID}/users",
        f"https://api.pingone.com/v1/environments/{ID}/users",
        f"https://api.pingone.eu.example.com/v1/environments/{ID}/users",
        f"https://api.pingone.eu@example.com/v1/environments/{ID}/users",
        f"https://someone@api.pingone.eu/v1/environments/{ID}/users",
        f"https://api.pingone.eu:8443/v1/environments/{ID}/users",
        f"https://api.pingone.eu:x/v1/environments/{ID}/users",
        f"https://[api.pingone.eu/v1/environments/{ID}/users",
        "https://api.pingone.eu/v1/environments/00000000-0e1f-4a2b-8c3d-4e5f6a7b8c9d/users",
        f"https://api.pingone.eu/v1/environments/{ID}",
        f"https://api.pingone.eu/v1/environments/{ID}-other/users",
        f"https://api.pingone.eu/v2/environments/{ID}/users",
        f"{OURS}/../00000000-0e1f-4a2b-8c3d-4e5f6a7b8c9d/users",
        f"{OURS}/%2e%2E/other/users",
        f"{OURS}/..%2fother/users",
        f"{OURS}/users\\..\\..\\other",
        f"{OURS}/users%5c..%5cother",
        f"{OURS}/users#part",
        f"{OURS}/users\r\nHost: example.com",
        f"{OURS}/users?cursor=\u00e9",
        f"{OURS}/users?cursor=" + "x" * 8001,
    ],
)
def test_any_other_address_is_foreign(environment: Environment, url: str) -> None:
    assert not is_in_environment(environment, url)
