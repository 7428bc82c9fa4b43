"""One pace for each rate group of a license, on a real Valkey."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import redis

from worker.config.environment import Environment
from worker.config.settings import Settings
from worker.pace.paces import Paces
from worker.pace.rate_groups import HIGHEST_RATES, START_RATES, RateGroup, choose_rates
from worker.pace.search import Search


class Memory:
    """Remembers this search of each license, and who asked for it."""

    def __init__(self, search: Search | None = None) -> None:
        self.search, self.asked = search, 0
        self.share = 1.0

    def recall_search(self, license: str, now: float) -> Search | None:
        self.asked += 1
        return self.search

    def recall_share(self, license: str, rate: float, now: float) -> Search | None:
        return Search(rate, share=self.share) if self.share < 1 else None


MakePaces = Callable[..., Paces]


@pytest.fixture
def make_paces(client: redis.Redis) -> MakePaces:
    """Makes the paces of a process."""

    def make(memory: Any = None) -> Paces:
        nobody: Callable[..., None] = lambda *_: None  # noqa: E731
        return Paces(client, memory or Memory(), Settings(), on_alone=nobody, on_lifted=nobody)

    return make


def environment(**fields: object) -> Environment:
    return Environment.model_validate(
        {"name": "default", "environment_id": "e", "client_id": "c", "client_secret": "s", "license": "made-up"}
        | fields
    )


def test_each_group_begins_at_its_own_rate_and_has_a_key_of_its_own(make_paces: MakePaces, client: redis.Redis) -> None:
    paces = make_paces()
    rates = {group: paces.of(environment(rate=40), group).wait().rate for group in RateGroup}
    assert rates == pytest.approx({RateGroup.MFA: 40.0, **START_RATES}, rel=0.01)
    assert sorted(client.keys()) == [
        b"oathbulk:pace-3-of-configuration:made-up",
        b"oathbulk:pace-3-of-directory:made-up",
        b"oathbulk:pace-3-of-inventory:made-up",
        b"oathbulk:pace-3:made-up",
    ]


def test_a_refusal_in_one_group_leaves_the_others_as_they_are(make_paces: MakePaces) -> None:
    paces = make_paces()
    mfa, inventory = paces.of(environment()), paces.of(environment(), RateGroup.INVENTORY)
    mfa.wait()
    inventory.report_refusal(inventory.wait(), 60.0, "PingOne answered 429 and asks for 60 s")
    assert inventory.read_hold_left() > 50
    assert mfa.read_hold_left() == 0
    assert mfa.wait().rate == pytest.approx(30, rel=0.01)


def test_environments_of_one_license_share_a_pace_in_every_group(make_paces: MakePaces) -> None:
    paces = make_paces()
    for group in RateGroup:
        assert paces.of(environment(name="one"), group) is paces.of(environment(name="two"), group)
        assert paces.of(environment(license="other"), group) is not paces.of(environment(), group)


def test_the_database_remembers_the_limit_of_activations_alone(make_paces: MakePaces) -> None:
    memory = Memory(Search(77.0, climb=0.0))
    paces = make_paces(memory)
    assert paces.of(environment()).wait().rate == pytest.approx(77, rel=0.01)
    slot = paces.of(environment(), RateGroup.DIRECTORY).wait()
    assert slot.rate == pytest.approx(START_RATES[RateGroup.DIRECTORY], rel=0.01)
    assert memory.asked == 1


def test_a_share_of_the_license_is_remembered_for_every_group(make_paces: MakePaces) -> None:
    memory = Memory()
    memory.share = 0.5
    pace = make_paces(memory).of(environment(), RateGroup.INVENTORY)
    pace.wait()
    search = pace.read().search
    assert search is not None
    assert (search.share, search.rate) == (0.5, pytest.approx(START_RATES[RateGroup.INVENTORY], rel=0.01))


@pytest.mark.parametrize("group", RateGroup)
def test_no_group_goes_beyond_what_a_person_permits_or_the_vendor_publishes(group: RateGroup) -> None:
    rate, highest = choose_rates(group, 1.0, 2.0)
    assert rate <= highest == 2
    rate, highest = choose_rates(group, 30.0, 500.0)
    assert rate <= highest == min(500.0, HIGHEST_RATES.get(group, math.inf))
