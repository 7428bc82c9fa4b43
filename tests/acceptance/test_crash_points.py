"""A process dies at one of twelve named steps, by SIGKILL, and those who come after it keep every promise. Which order
of events breaks one the hunt looks for; here the real code dies, on real servers.

A step is named by the method that takes it. One that was renamed fails here, and so does a death that costs another
OTP than is written down."""

from collections.abc import Callable

import pytest
from crash_points.stage import ACTIVE, Point, Stage
from support.data.shipments import make_seeds
from support.fleets.real_fleet import PRODUCTION

from worker.simulator.shipment import MadeShipment, make_box, make_shipment

pytestmark = pytest.mark.faults

SETTINGS = PRODUCTION | {"_OATHBULK_TUNING__first_records": "0", "PINGONE_RATE": "2000"}
SPENT = ("dead_letter", "budget_spent")


def make_boxed(count: int) -> MadeShipment:
    return make_box(count, totp=0, out_of_step=0)


# Of each kind of records those who die, and then one with which nobody dies.
WORKERS: dict[str, tuple[Callable[[int], MadeShipment], dict[str, Point]]] = {
    "a pair in step": (
        lambda count: make_shipment(count, out_of_step=0, hopeless={}),
        {
            "claimed": Point("Leases.claim: after its commit"),
            "OTP 1 on its way": Point("Client.activate: the headers are out"),
            "OTP 1 answered": Point("Client.activate: the answer was read"),
            "settled but for the commit": Point("Settlement.write: before its commit"),
        },
    ),
    "a pair out of step": (
        lambda count: make_shipment(count, out_of_step=1, hopeless={}),
        {
            # That OTP 2 is wanted was not written down: OTP 1 goes once more.
            "asked for OTP 2": Point("Client.activate: the answer was read", posts=3),
            "that was written down": Point("Leases.write_progress: after its commit", posts=2),
            "OTP 2 marked as sent": Point("Leases.mark_sent: after its commit", posts=2),
        },
    ),
    "a seed out of step": (
        lambda count: make_seeds(hotp=count, out_of_step=1),
        # OTP 2 did not arrive, but that is not known, and a new pair would be more than the budget.
        {"OTP 2 of a seed marked as sent": Point("Leases.mark_sent: after its commit", posts=1, end=SPENT)},
    ),
    "a token without a device": (
        make_boxed,
        {
            "pairing answered": Point("Pairings.pair: the answer was read"),
            "paired": Point("Leases.write_progress: after its commit"),
        },
    ),
}
IMPORT_ANSWERED = Point("InventoryJobs.start_import: the answer was read")
# The first commit of a tick is that of what it rescues.
QUEUED_AND_NOT_PUBLISHED = Point("Dispatcher.tick: after its commit", time=2)


@pytest.fixture
def set_stage(make_fleet, database_url, valkey_url) -> Callable[[MadeShipment], Stage]:
    return lambda shipment: Stage(make_fleet(database_url, valkey_url, shipment, settings=SETTINGS, job_takes=0))


@pytest.mark.parametrize("kind", WORKERS)
def test_a_worker_may_die_with_a_record_in_its_hands(set_stage: Callable[[MadeShipment], Stage], kind: str) -> None:
    make, points = WORKERS[kind]
    stage = set_stage(make(len(points) + 1))
    stage.live("prepare")
    spared, *victims = stage.enqueue()
    stage.live("activate", spared)
    for point, victim in zip(points.values(), victims, strict=True):
        stage.die(point, "activate", victim)
    stage.finish()

    stage.fleet.judge()
    costs = stage.costs()
    assert {name: costs[victim] for name, victim in zip(points, victims, strict=True)} == {
        name: (point.posts, point.end) for name, point in points.items()
    }
    assert costs[spared][1] == ACTIVE


@pytest.mark.parametrize(("task", "point"), [("prepare", IMPORT_ANSWERED), ("dispatch", QUEUED_AND_NOT_PUBLISHED)])
def test_who_prepares_or_dispatches_a_batch_may_die(
    set_stage: Callable[[MadeShipment], Stage], task: str, point: Point
) -> None:
    stage = set_stage(make_boxed(3))
    if task == "dispatch":
        stage.live("prepare")
    stage.die(point, task)
    stage.finish()

    stage.fleet.judge()
    assert set(stage.costs().values()) == {(1, ACTIVE)}
