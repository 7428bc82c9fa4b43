"""One worker that fails where others do not: it ends and is named, the batch goes on without it, and it works when it
is started again and is well."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from chaos.links import Link, Network
from support.fleets.real_fleet import PATIENT, Fleet

from models.encrypted import generate_key
from worker.fleet import FAILS_ALONE, KnownProcess, read_processes
from worker.simulator.shipment import make_shipment

pytestmark = pytest.mark.faults

RECORDS = 600
# Nobody listens there.
NOWHERE = "http://127.0.0.1:1/v1"
SICKNESSES = {
    "no way to PingOne": ({"PINGONE_API_URL": NOWHERE}, "network"),
    "authorities that are no file": ({"SSL_CERT_FILE": "/nowhere/ca.pem"}, "environment"),
    "a wrong key": ({"OATHBULK_ENCRYPTION_KEYS": generate_key()}, "internal"),
    "no secret": ({"PINGONE_CLIENT_SECRET": ""}, "environment"),
    "a wrong secret": ({"PINGONE_CLIENT_SECRET": "wrong"}, "credentials"),
    "another tenant": ({"PINGONE_ENVIRONMENT_ID": "7d1f0c52-3b64-4d0e-9a57-52a1c3d4e5f6"}, "environment"),
}
# What becomes of the way to PingOne.
TROUBLES = {"refused": Link.cut, "closed unanswered": Link.hang_up}


def processes(fleet: Fleet) -> list[KnownProcess]:
    with fleet.database.reading() as connection:
        return read_processes(fleet.database, connection)


def find_sick(fleet: Fleet) -> list[KnownProcess]:
    return [each for each in processes(fleet) if each.sick_since]


@pytest.fixture
def fleet(make_fleet, postgres_url, valkey_url) -> Fleet:
    """One well worker that has begun, at 25 requests a second."""
    settings = PATIENT | {"PINGONE_RATE": "25", "PINGONE_RATE_MAX": "25"}
    fleet: Fleet = make_fleet(postgres_url, valkey_url, make_shipment(RECORDS, hopeless={}), settings=settings)
    fleet.worker("well")
    fleet.beat()
    fleet.wait_until_posted(10)
    return fleet


@pytest.mark.parametrize("what", SICKNESSES)
def test_a_worker_that_fails_alone_ends_and_is_named_and_the_others_do_the_work(fleet: Fleet, what: str) -> None:
    variables, reason = SICKNESSES[what]
    sick = fleet.worker("sick", **variables)

    assert sick.wait() == FAILS_ALONE

    (named,) = find_sick(fleet)
    assert named.name.endswith(f":{sick.pid}")
    assert named.reason == reason
    assert (named.detail or "") in sick.read_log()
    assert "Traceback" not in sick.read_log()
    assert fleet.status().state == "running"
    assert fleet.wait_until_finished().counts["active"] == RECORDS
    fleet.judge()


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_worker_that_loses_its_way_to_pingone_works_again_when_it_is_started_and_well(
    fleet: Fleet, trouble: str
) -> None:
    """It reaches PingOne by a way of its own, on which something goes wrong for a while."""
    with Network() as network:
        link = network.link(urlsplit(fleet.variables["PINGONE_API_URL"]).port)
        variables = {"PINGONE_API_URL": f"http://127.0.0.1:{link.port}/v1"}
        sick = fleet.worker("sick", **variables)
        fleet.wait_until(lambda: len(processes(fleet)) == 2, "it works")
        fleet.wait_until_posted(100)
        TROUBLES[trouble](link)

        assert sick.wait() == FAILS_ALONE
        assert [each.reason for each in find_sick(fleet)] == ["network"]
        # Before it is well it ends before it takes anything.
        assert fleet.worker("again", **variables).wait() == FAILS_ALONE
        link.heal()
        well = fleet.worker("third", **variables)
        fleet.wait_until(lambda: any(each.name.endswith(f":{well.pid}") for each in processes(fleet)), "it works again")
        assert fleet.status().state == "running"
        assert fleet.wait_until_finished().counts["active"] == RECORDS
        assert well.is_running
        fleet.judge()


def test_an_outage_ends_no_worker_that_is_alone(make_fleet, postgres_url, valkey_url) -> None:
    fleet: Fleet = make_fleet(postgres_url, valkey_url, make_shipment(60, hopeless={}))
    with Network() as network:
        link = network.link(urlsplit(fleet.variables["PINGONE_API_URL"]).port)
        alone = fleet.worker("alone", PINGONE_API_URL=f"http://127.0.0.1:{link.port}/v1")
        fleet.beat()
        fleet.wait_until_posted(10)
        link.hang_up()
        fleet.wait_until(lambda: fleet.status().reason == "outage", "the outage is told")
        link.heal()
        fleet.wait_until_finished()
        assert alone.is_running
        assert not find_sick(fleet)
