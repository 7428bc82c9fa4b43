"""What a process' threads share, put together."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from worker.config.settings import Environment, Settings
from worker.pingone.auth import AccessTokens
from worker.process.clients import Clients


@pytest.fixture
def clients(valkey_url: str) -> Iterator[Clients]:
    def load(name: str) -> Environment:
        license_ = "shared" if name in ("first", "second") else name
        return Environment(name=name, environment_id=name, client_id="id", client_secret="secret", license=license_)

    clients = Clients(
        Settings(redis_url=valkey_url, database_url="sqlite:////nowhere/oathbulk.db", longest_hold=45),
        load,  # type: ignore[arg-type]
    )
    # Where the limit was found before is asked of the database, which these tests have none of.
    clients.paces.recall_search = lambda *_: None  # type: ignore[method-assign]
    yield clients
    clients.redis.close()


def test_the_longest_hold_is_a_setting(clients: Clients) -> None:
    pace = clients.pace(clients.environment("first"))
    pace.hold(86_400)
    assert 44 < pace.read_hold_left() <= 45


def test_who_hears_that_a_hold_was_lifted_asks_the_token_endpoints_of_that_license_at_once(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[AccessTokens] = []
    monkeypatch.setattr(AccessTokens, "end_pause", lambda tokens: asked.append(tokens))
    first, second, _ = (clients.access_tokens(clients.environment(name)) for name in ("first", "second", "other"))
    clients.pace(clients.environment("first")).lift()
    assert asked == [first, second]
