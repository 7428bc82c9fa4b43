"""One worker that fails where others do not: it takes no more work and is named, and the batch goes on without it."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from chaos.links import Network
from support.fleets.real_fleet import PATIENT

from models.encrypted import generate_key
from worker.fleet.processes import KnownProcess, read_processes
from worker.simulator.shipment import make_shipment

RECORDS = 300
# Nobody listens there.
NOWHERE = "http://127.0.0.1:1/v1"
SICKNESSES = {
    "no way to PingOne": ({"PINGONE_API_URL": NOWHERE}, "network"),
    "a wrong key": ({"OATHBULK_ENCRYPTION_KEYS": generate_key()}, "internal"),
    "no secret": ({"PINGONE_CLIENT_SECRET": ""}, "environment"),
    "a wrong secret": ({"PINGONE_CLIENT_SECRET": "wrong"}, "credentials"),
    "another tenant": ({"PINGONE_ENVIRONMENT_ID": "7d1f0c52-3b64-4d0e-9a57-52a1c3d4e5f6"}, "environment"),
}


def processes(fleet) -> list[KnownProcess]:
    with fleet.database.reading() as connection:
        return read_processes(fleet.database, connection)


@pytest.mark.faults
@pytest.mark.parametrize("what", SICKNESSES)
def test_a_worker_that_fails_alone_is_named_and_the_others_do_the_work(make_fleet, postgres_url, valkey_url, what):
    variables, reason = SICKNESSES[what]
    shipment = make_shipment(RECORDS, hopeless={})
    settings = PATIENT | {"PINGONE_RATE": "25", "PINGONE_RATE_MAX": "25"}
    fleet = make_fleet(postgres_url, valkey_url, shipment, settings=settings)
    fleet.worker("well")
    fleet.wait_until(lambda: len(processes(fleet)) == 1, "the well worker shows that it lives")
    sick = fleet.worker("sick", **variables)
    fleet.wait_until(lambda: len(processes(fleet)) == 2, "the other one, too")
    fleet.beat()

    fleet.wait_until(lambda: any(each.sick_since for each in processes(fleet)), "one is named")

    (named,) = [each for each in processes(fleet) if each.sick_since]
    assert named.name.endswith(f":{sick.pid}")
    assert named.reason == reason
    assert fleet.status().state == "running"
    assert fleet.wait_until_finished().counts["active"] == RECORDS
    fleet.judge()


@pytest.mark.faults
def test_a_worker_whose_network_heals_takes_work_again(make_fleet, postgres_url, valkey_url):
    """It reaches PingOne through a proxy of its own, which is gone for a while."""
    shipment = make_shipment(2000, hopeless={})
    settings = PATIENT | {"PINGONE_RATE": "25", "PINGONE_RATE_MAX": "25"}
    fleet = make_fleet(postgres_url, valkey_url, shipment, settings=settings)
    with Network() as network:
        link = network.link(urlsplit(fleet.variables["PINGONE_API_URL"]).port)
        fleet.worker("well")
        fleet.wait_until(lambda: len(processes(fleet)) == 1, "the well worker shows that it lives")
        fleet.worker("sick", PINGONE_API_URL=f"http://127.0.0.1:{link.port}/v1")
        fleet.wait_until(lambda: len(processes(fleet)) == 2, "the other one, too")
        fleet.beat()
        fleet.wait_until_posted(40)
        link.cut()
        fleet.wait_until(lambda: any(each.sick_since for each in processes(fleet)), "one is named")
        link.heal()
        fleet.wait_until(lambda: not any(each.sick_since for each in processes(fleet)), "it is well again")
