"""From the vendor's box to ACTIVE: tokens imported, people found, devices made and activated, whatever gets lost or is
refused on the way. The judges look at what was made, for whom, and what our tables call ours."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any

import pytest
import redis
from sqlalchemy import func, select
from support.data.shipments import ACCEPTED, OPTIONS
from support.judges.status_moves import watch_moves
from support.judges.verdict import deliver_verdict
from support.processes.command_desk import CommandDesk
from support.processes.waiting import wait_until
from support.servers.simulator import Simulator
from support.servers.stand_in import WholeWayStandIn
from support.servers.stand_in_box import BoxTenant, judge_tenant, make_tokens, write_box

from models.record import Record
from models.record_states import Status
from worker.database.engine import Database
from worker.embedded.valkey import ValkeyConfig, connect
from worker.simulator.shipment import SEEDS, Box, a_few_of_each, make_box

BATCH = "box"
WORDS = (SEEDS, "--batch", BATCH, *OPTIONS, "--json", *(f"--accept={name}" for name in ACCEPTED))
# OTPs that may be posted for a device: several get lost, and one of its own has to follow each.
BUDGET = 5
# The tenant: an import is quick, and a request that was reset is done soon after.
TENANT: Mapping[str, Any] = {"job_takes": 0.2, "late_effect_after": 0.3, "failure_count": BUDGET}
# Seconds: all that takes a minute in production takes a few of them here.
QUICK = {
    "_OATHBULK_TUNING__call_deadline": "2",
    "_OATHBULK_TUNING__send_within": "1",
    "_OATHBULK_TUNING__lease_left_for_post": "3",
    "_OATHBULK_TUNING__lease": "6",
    "_OATHBULK_TUNING__queue_lease": "5",
    "_OATHBULK_TUNING__outage_hold": "1",
    "_OATHBULK_TUNING__read_delay": "1",
    "OATHBULK_CONCURRENCY": "8",
    "OATHBULK_OTP_POST_BUDGET": str(BUDGET),
    "_OATHBULK_TUNING__tokens_per_import": "40",
    "_OATHBULK_TUNING__names_per_request": "20",
}
# Every way in which the answer to a call may get lost.
LOSSES = ("reset_before", "reset_after", "reset_late", "error_before", "error_after", "garbled")
# What a preparation asks for is asked for again five seconds after a loss, so a short test loses none of it.
PREPARATION = ("find_users", "list_tokens", "import_tokens", "read_job")
# Shares of the calls that are hit, of every kind.
WEATHER: Mapping[str, Any] = {
    "faults": dict.fromkeys(LOSSES, 0.02) | {"hang_after": 0.01, "drip": 0.01},
    # More of them might use up all the posts of a device.
    "faults_per_device": 1,
    "fault_operations": [*PREPARATION, "read_token", "pair", "activate", "read", "list"],
    "drip_interval": 0.01,
}
LIMITS: Mapping[str, Any] = {"rate": 60, "group_rates": {"directory": 5, "inventory": 5, "configuration": 5}}
# A device may lose all the posts that it may have, and a record its attempts.
SPENT = frozenset({"budget_spent", "attempts_spent", "pairing_failed"})


@contextmanager
def loaded(
    desk: CommandDesk, simulator: Simulator, box: Box, *excused: str, words: Sequence[str] = WORDS
) -> Iterator[Database]:
    """The box is loaded, and its database is watched; in the end the judges have their say. `excused`: reasons for
    which a record may be given up although it was not made so."""
    box.write(desk.folder)
    found = desk.oathbulk("load", *words)
    assert found.code == 0, found.stdout + found.stderr
    with closing(Database(f"sqlite:///{desk.home / 'oathbulk.db'}")) as database:
        watch_moves(database)
        yield database
        tenant = simulator.tenant()
        simulator.stop()
        deliver_verdict(database, simulator, tenant, budget=BUDGET, excused=excused)


def count_active(box: Box) -> int:
    return sum(end.status == "active" for end in box.expected.values())


def run_for_a_while(desk: CommandDesk, database: Database, more: int) -> None:
    """Run until so many records more are active; then kill -9 everything that runs."""
    running, before = desk.start("run", *WORDS), count_in(database, Status.ACTIVE)
    wait_until(
        lambda: not running.is_alive or count_in(database, Status.ACTIVE) >= before + more,
        f"{more} more are active",
    )
    assert running.is_alive, "the run ended before it could be killed"
    desk.kill(running.pid, *desk.processes())
    running.wait()


def count_in(database: Database, status: Status) -> int:
    with database.reading() as connection:
        return connection.scalar(select(func.count()).where(Record.status == status)) or 0


def flush_queue(desk: CommandDesk) -> bool:
    """Wipe the queue of a run. False: its server does not listen yet."""
    config = ValkeyConfig.read(desk.home / "valkey" / "valkey.conf")
    with suppress(redis.ConnectionError), connect(config) as client:
        return bool(client.flushall())
    return False


def test_a_box_becomes_active_but_for_what_is_hopeless_and_each_of_these_is_explained(set_out):
    # Tokens of TOTP that are out of step wait for the next step, up to a minute.
    box = make_box(110, totp=0, special=a_few_of_each(110))
    desk, simulator = set_out(box, QUICK, **TENANT)
    with loaded(desk, simulator, box):
        simulator.order_faults(*({"operation": call, "kind": loss} for call in ("pair", "activate") for loss in LOSSES))
        result = desk.oathbulk("run", *WORDS)
        assert result.code == 1, result.stderr
        assert simulator.counts()["faults"] == dict.fromkeys(LOSSES, 2)
    assert desk.status(BATCH)["counts"]["active"] == count_active(box)


@pytest.mark.faults
def test_a_run_that_is_killed_again_and_again_goes_on_where_it_was_and_makes_nothing_twice(set_out):
    box, dice = make_box(240, totp=0.1, special=a_few_of_each(240, each=2)), random.Random(7)
    desk, simulator = set_out(box, QUICK, **TENANT, **WEATHER, **LIMITS)
    with loaded(desk, simulator, box, *SPENT) as database:
        simulator.order_faults(*({"operation": call, "kind": "reset_after"} for call in PREPARATION))
        simulator.order_faults({"operation": "import_tokens", "kind": "error_before"})
        for _ in range(3):
            run_for_a_while(desk, database, dice.randrange(5, 60))
        running = desk.start("run", *WORDS)
        wait_until(lambda: flush_queue(desk), "the queue is wiped")
        # A record that loses a sixth answer would wait for minutes before it is tried again.
        simulator.change(faults={})
        assert running.wait(600).code == 1, running.stderr
    assert set(count_losses(simulator)) >= {*PREPARATION, "pair", "activate"}


# What the vendor's pages leave open, in pairs that do not touch each other, and beside pairings whose answer gets lost.
READINGS: Mapping[str, Mapping[str, Any]] = {
    "a pairing answers ACTIVE, a job's id is in Location alone": {
        **{"pairing_status": "ACTIVE", "sent_status": "ignored"},
        **{"job_answer": 202, "job_id_in": "location", "no_duplicates": "missing"},
    },
    "a status in the request is refused, filter and expand do not go together": {
        **{"sent_status": "refused"},
        **{"expand_with_filter": False, "expanded_devices": "embedded"},
    },
    "a job is forgotten once it was read, what was made is seen late": {
        **{"job_kept_reads": 1, "unknown_serial": 404, "paired_serial": 409},
        **{"inventory_read_lag": 2, "device_read_lag": 1},
    },
}


@pytest.mark.faults
@pytest.mark.parametrize("reading", READINGS)
def test_however_what_is_open_is_read_a_box_becomes_active(set_out, reading):
    box = make_box(40, totp=0, special={"imported_before": 2, "active_before": 1, "paired_before": 1})
    desk, simulator = set_out(box, QUICK, **TENANT | READINGS[reading])
    with loaded(desk, simulator, box):
        simulator.order_faults(*({"operation": "pair", "kind": loss} for loss in LOSSES))
        result = desk.oathbulk("run", *WORDS)
        assert result.code == 0, result.stdout + result.stderr
    assert count_losses(simulator) == {"pair": len(LOSSES)}


@pytest.mark.faults
def test_tokens_are_paired_though_the_inventory_may_not_be_read(set_out):
    box = make_box(30, totp=0, special={"imported_before": 30})
    forbidden = {"forbidden_groups": ["inventory"], "device_shows_serial_number": True}
    desk, simulator = set_out(box, QUICK, **TENANT | forbidden)
    words = [word for word in WORDS if word != "--import"]
    with loaded(desk, simulator, box, words=words):
        simulator.order_faults(*({"operation": "pair", "kind": loss} for loss in LOSSES))
        result = desk.oathbulk("run", *words)
        assert result.code == 0, result.stdout + result.stderr


@pytest.mark.faults
def test_a_box_that_is_to_be_imported_waits_for_a_person_where_that_is_not_permitted(set_out):
    box = make_box(10, totp=0)
    desk, simulator = set_out(box, QUICK, **TENANT, forbidden_groups=["inventory"])
    box.write(desk.folder)
    waits = desk.oathbulk("run", *WORDS)
    assert (waits.code, waits.json["reason"], waits.json["counts"]["pending"]) == (4, "permissions", 10)
    simulator.change(forbidden_groups=[])
    assert desk.oathbulk("resume", BATCH).code == 0
    assert desk.oathbulk("run", *WORDS).code == 0


def count_losses(simulator: Simulator) -> Counter[str]:
    """How many calls of each kind were hit by a fault."""
    return Counter(call.operation for call in simulator.whole_log() if call.fault)


@pytest.mark.faults
@pytest.mark.parametrize("is_inventory_apart", [False, True])
def test_at_a_pingone_that_another_hand_wrote_what_is_made_is_made_once_and_for_its_person(
    tmp_path, is_inventory_apart
):
    """It loses answers after it did what was asked, the first of each kind for certain; its own record says what it
    made."""
    lost = ("users", "tokens", "import", "job", "pair", "device", "activate")
    tenant = BoxTenant(make_tokens(60))
    quick = QUICK | {"OATHBULK_OTP_POST_BUDGET": "7", "_OATHBULK_TUNING__first_records": "0"}
    with (
        WholeWayStandIn(tenant, loses=lost, loses_every=11, is_inventory_apart=is_inventory_apart) as pingone,
        CommandDesk(tmp_path / "desk", quick, pingone.settings) as desk,
    ):
        write_box(desk.folder, list(tenant.tokens.values()))
        result = desk.oathbulk("run", "box.csv", "--assign", "who.csv", "--import", "--pair")
        assert result.code == 0, result.stdout[-2000:] + result.stderr[-3000:]
        assert tenant.active == set(tenant.tokens)
        assert set(pingone.lost) >= set(lost)
    assert list(judge_tenant(tenant)) == []
    assert desk.status("box")["counts"]["active"] == 60
