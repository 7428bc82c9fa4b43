"""The reads of a preflight against the simulator, over HTTP: two readings of the vendor's pages that share no code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from support.simulator.server import running
from support.simulator.simulation import WatchedSimulation

from worker.config.environment import Environment
from worker.config.settings import Settings
from worker.pace.paces import Paces
from worker.pace.rate_groups import RateGroup
from worker.pingone.client import Call
from worker.pingone.clients import Clients, Reads
from worker.pingone.errors import ExpandRefused, Forbidden, NotFound, RateLimited, TooManyTerms
from worker.pingone.users import NAMES_PER_REQUEST, User, UserAttribute
from worker.simulator.world import CLIENT_ID, CLIENT_SECRET, ENVIRONMENT_ID, WorldSeed


class NoMemory:
    """Remembers no limit."""

    def recall_search(self, license: str, now: float) -> None:
        return None

    def recall_share(self, license: str, rate: float, now: float) -> None:
        return None


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[WatchedSimulation, str]]:
    simulation = WatchedSimulation()
    with running(simulation) as url:
        yield simulation, url


@pytest.fixture
def simulation(service: tuple[WatchedSimulation, str]) -> WatchedSimulation:
    """An empty simulator."""
    service[0].reset()
    return service[0]


@pytest.fixture
def environment(simulation: WatchedSimulation, service: tuple[WatchedSimulation, str]) -> Environment:
    url = service[1]
    return Environment.model_validate(
        {
            "name": "default",
            "environment_id": ENVIRONMENT_ID,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "api_url": f"{url}/v1",
            "token_url": f"{url}/{{env}}/as/token",
        }
    )


@pytest.fixture
def paces(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Paces]:
    """Paces that are faster than any test, so that nothing but holds delays a request."""
    monkeypatch.setattr("worker.pace.paces.choose_rates", lambda *_: (100_000.0, 100_000.0))
    monkeypatch.setattr("worker.pingone.client.BACKOFF", lambda _: 0.0)
    nobody: Callable[..., None] = lambda *_: None  # noqa: E731
    with redis.Redis.from_url(valkey_url) as client:
        yield Paces(client, NoMemory(), Settings(), on_alone=nobody, on_lifted=nobody)  # type: ignore[arg-type]


@pytest.fixture
def reads(environment: Environment, paces: Paces) -> Iterator[Reads]:
    clients = Clients(Settings(), paces)
    yield clients.reads(environment)
    for group in RateGroup:
        clients.of(environment, group).close()


def new_call() -> Call:
    return Call("check-1", "reads")


def seed(simulation: WatchedSimulation, **world: Any) -> None:
    simulation.seed(WorldSeed.model_validate(world))


def find(reads: Reads, names: list[str], attribute: UserAttribute = UserAttribute.USERNAME) -> list[User]:
    """Find users as a caller does who asks for half where all are too many."""
    try:
        return reads.find_users(attribute, names, call=new_call())
    except TooManyTerms:
        half = len(names) // 2
        return find(reads, names[:half], attribute) + find(reads, names[half:], attribute)


def test_users_are_found_through_pages_and_with_halved_filters(reads: Reads, simulation: WatchedSimulation) -> None:
    people = [{"user_id": f"u{number}", "username": f"name {number}"} for number in range(120)]
    seed(simulation, users=people, settings={"page_size": 7, "most_filter_terms": 25})
    names = [f"name {number}" for number in range(100)]
    starts = range(0, len(names), NAMES_PER_REQUEST)
    found = [user for start in starts for user in find(reads, names[start : start + NAMES_PER_REQUEST])]
    assert [user.username for user in found] == names
    refused = [entry for entry in simulation.call_log.entries() if entry.detail_code == "INVALID_FILTER"]
    # 40, 40 and 20 names at a time: the first two are halved once.
    assert len(refused) == 2


@pytest.mark.parametrize("name", ['a" or username sw "', "DOMAIN\\ada", "a+b&c=d#e f%20", "Zoë 🔑", "(x) or y"])
def test_a_name_of_any_kind_finds_its_user_alone(reads: Reads, simulation: WatchedSimulation, name: str) -> None:
    seed(simulation, users=[{"user_id": "wanted", "username": name}, {"user_id": "other"}])
    (user,) = find(reads, [name])
    assert (user.id, user.find(UserAttribute.USERNAME)) == ("wanted", name)


def test_what_is_known_of_a_user_arrives(reads: Reads, simulation: WatchedSimulation) -> None:
    seed(
        simulation,
        users=[
            {"user_id": "u1", "username": "ada", "email": "a@x.org", "external_id": "E-1"},
            {"user_id": "u2", "email": "a@x.org", "locked": True},
            {"user_id": "u3", "email": "a@x.org", "enabled": False},
        ],
    )
    ada, locked, disabled = find(reads, ["a@x.org"], UserAttribute.EMAIL)
    assert ada == User("u1", "ada", "a@x.org", "E-1", True, True, False)
    assert (locked.is_locked, locked.can_authenticate) == (True, False)
    assert (disabled.is_locked, disabled.can_authenticate, disabled.is_enabled) == (False, False, False)
    assert [user.id for user in find(reads, ["E-1"], UserAttribute.EXTERNAL_ID)] == ["u1"]
    assert find(reads, ["nobody"]) == []


TOTP = {"type": "totp", "digits": 8, "hash": "sha512", "time_step": 60}


@pytest.mark.parametrize("place", ["inline", "embedded"])
def test_the_inventory_is_listed_to_its_end(reads: Reads, simulation: WatchedSimulation, place: str) -> None:
    seed(
        simulation,
        tokens=[{"serial": f"FREE{number}"} | TOTP for number in range(25)],
        devices=[{"serial": "MADE1", "user_id": "u1", "device_id": "d1"}],
        settings={"page_size": 10, "expanded_devices": place},
    )
    pages = list(reads.list_tokens(call=new_call()))
    assert [len(page.items) for page in pages] == [10, 10, 6]
    tokens = [token for page in pages for token in page.items]
    assert [token.serial_number for token in tokens[:25]] == [f"FREE{number}" for number in range(25)]
    free, paired = tokens[0], tokens[25]
    assert (free.type, free.digits, free.hash_name, free.time_step) == ("TOTP", 8, "sha512", 60)
    assert (free.device_id, free.user_id) == (None, None)
    assert (paired.type, paired.digits, paired.hash_name, paired.time_step) == ("HOTP", 6, "sha1", None)
    assert (paired.serial_number, paired.device_id, paired.user_id) == ("MADE1", "d1", "u1")


@pytest.mark.parametrize("is_one_request", [True, False])
def test_a_paired_token_is_found_in_either_reading(
    reads: Reads, simulation: WatchedSimulation, is_one_request: bool
) -> None:
    seed(
        simulation,
        devices=[{"serial": "MADE1", "user_id": "u1", "device_id": "d1"}],
        settings={"expand_with_filter": is_one_request},
    )
    if not is_one_request:
        with pytest.raises(ExpandRefused):
            reads.find_token("MADE1", call=new_call())
    token = reads.find_token("MADE1", with_devices=is_one_request, call=new_call())
    assert token is not None
    if not is_one_request:
        token = reads.read_token(token.id, call=new_call())
    assert (token.serial_number, token.device_id, token.user_id) == ("MADE1", "d1", "u1")
    assert reads.find_token("MADE2", with_devices=is_one_request, call=new_call()) is None
    with pytest.raises(NotFound):
        reads.read_token("made-up", call=new_call())


def test_policies_settings_capabilities_and_devices_arrive(reads: Reads, simulation: WatchedSimulation) -> None:
    device = {"serial": "MADE1", "user_id": "u1", "device_id": "d1"}
    settings = {
        "device_shows_serial_number": True,
        "new_device_notification": "absent",
        "account_lock_after": 6,
        "max_allowed_devices": 3,
        "group_rates": {"configuration": 20},
    }
    seed(simulation, devices=[device], settings=settings)
    (policy,) = reads.read_policies(call=new_call())
    assert (policy.is_default, policy.is_oath_enabled, policy.failure_count) == (True, True, 3)
    assert policy.new_device_notification is None
    mfa_settings = reads.read_mfa_settings(call=new_call())
    assert (mfa_settings.max_devices, mfa_settings.has_account_lock, mfa_settings.lockout_failures) == (3, True, 6)
    capabilities = reads.read_capabilities(call=new_call())
    assert (capabilities.can_use_oath_token, capabilities.rates) == (True, {RateGroup.CONFIGURATION: 20})
    (found,) = reads.list_devices("u1", call=new_call())
    assert (found.id, found.type, found.status) == ("d1", "OATH_TOKEN", "ACTIVATION_REQUIRED")
    assert found.serial_number == "MADE1"
    assert found.age is not None


def test_capabilities_that_are_not_filled_are_not_known(reads: Reads, simulation: WatchedSimulation) -> None:
    seed(simulation, settings={"capabilities_filled": False})
    capabilities = reads.read_capabilities(call=new_call())
    assert (capabilities.can_use_oath_token, capabilities.rates) == (None, {})


def test_a_forbidden_group_is_told_and_stops_no_other(reads: Reads, simulation: WatchedSimulation) -> None:
    seed(simulation, users=[{"user_id": "u1"}], settings={"forbidden_groups": ["inventory", "configuration"]})
    for read in (
        lambda: list(reads.list_tokens(call=new_call())),
        lambda: reads.find_token("MADE1", call=new_call()),
        lambda: reads.read_policies(call=new_call()),
        lambda: reads.read_mfa_settings(call=new_call()),
        lambda: reads.read_capabilities(call=new_call()),
    ):
        with pytest.raises(Forbidden):
            read()
    assert [user.id for user in find(reads, ["u1"])] == ["u1"]


def test_a_limit_of_one_group_leaves_the_others_alone(
    reads: Reads, simulation: WatchedSimulation, environment: Environment, paces: Paces
) -> None:
    seed(simulation, users=[{"user_id": "u1"}], settings={"group_rates": {"inventory": 0.001}, "burst": 1})
    assert len(list(reads.list_tokens(call=new_call()))) == 1
    with pytest.raises(RateLimited):
        list(reads.list_tokens(call=new_call()))
    assert [user.id for user in find(reads, ["u1"])] == ["u1"]
    held = [group for group in RateGroup if paces.of(environment, group).read_hold_left() > 0]
    assert held == [RateGroup.INVENTORY]
