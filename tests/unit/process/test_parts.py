"""What a process' threads share, put together."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from worker.config.environment import Environment
from worker.config.settings import Settings, Tuning
from worker.pingone.auth import AccessTokens
from worker.process.part import part
from worker.process.parts import Parts


@pytest.fixture
def parts(valkey_url: str) -> Iterator[Parts]:
    def load(name: str) -> Environment:
        license_ = "shared" if name in ("first", "second") else name
        return Environment(name=name, environment_id=name, client_id="id", client_secret="secret", license=license_)

    parts = Parts(
        Settings(redis_url=valkey_url, database_url="sqlite:////nowhere/oathbulk.db", tuning=Tuning(longest_hold=45)),
        load,  # type: ignore[arg-type]
    )
    # Where the limit was found before is asked of the database, which these tests have none of.
    parts.pace_memory.recall_search = lambda *_: None  # type: ignore[method-assign]
    yield parts
    parts.redis.close()


def test_the_longest_hold_is_a_setting(parts: Parts) -> None:
    pace = parts.paces.of(parts.environments.get("first"))
    pace.hold(86_400)
    assert 44 < pace.read_hold_left() <= 45


def test_who_hears_that_a_hold_was_lifted_asks_the_token_endpoints_of_that_license_at_once(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[AccessTokens] = []
    monkeypatch.setattr(AccessTokens, "end_pause", lambda tokens: asked.append(tokens))
    first, second, _ = (
        parts.clients.access_tokens(parts.environments.get(name)) for name in ("first", "second", "other")
    )
    parts.paces.of(parts.environments.get("first")).lift()
    assert asked == [first, second]


def test_a_part_is_built_once_however_many_threads_ask_for_it_first() -> None:
    all_ask, built = threading.Barrier(8), list[object]()

    class SlowParts(Parts):
        @part
        def slow(self) -> object:
            built.append(object())
            time.sleep(0.05)
            return built[-1]

    parts = SlowParts(Settings(), lambda name: None)  # type: ignore[arg-type, return-value]

    def ask() -> object:
        all_ask.wait(30)
        return parts.slow

    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(ask) for _ in range(8)]
    assert {id(each.result()) for each in asked} == {id(built[0])}
    assert len(built) == 1
