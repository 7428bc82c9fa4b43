"""`oathbulk run` stops where a person must look: a wrong file. What passes by itself it sits out: an outage, a used-up
quota; and it finds what PingOne permits. A canary and a missing role are in integration/test_upkeep.py, hours in
integration/test_hours.py."""

from datetime import UTC, datetime, timedelta

import pytest
from support.data.tokens import make_tokens
from support.fleets.real_fleet import batch_name
from support.processes.waiting import wait_until

from models.reason import PAUSE_CURES, PauseReason
from worker.reports.facts import read_statuses
from worker.rules.breaker import Thresholds
from worker.rules.resync import REFUSALS, NeedsFlag
from worker.simulator.shipment import make_shipment
from worker.tenants import read_resync

NOTHING = {"pending": 0, "queued": 0, "activating": 0, "active": 0, "dead_letter": 0, "cancelled": 0}
# Seconds: the first probe comes after fifteen.
PATIENCE = 200


def posted(simulator):
    """The device of each OTP that arrived, in their order."""
    return [call.device_id for call in simulator.calls() if call.otp is not None]


def told(result):
    """Its exit code, and why the batch is paused."""
    return result.code, result.json["reason"], result.json["detail"]


def said(running):
    """On the terminal, whatever its width."""
    return " ".join(running.stderr.split())


@pytest.mark.faults
@pytest.mark.parametrize("status", [404, 403])
def test_a_gateway_that_answers_in_pingones_place_is_an_outage_and_no_verdict_on_a_device(set_up, status):
    few = {"_OATHBULK_TUNING__breaker__unanswered": "6", "PINGONE_RATE": "20", "PINGONE_RATE_MAX": "20"}
    desk, pingone = set_up(make_tokens(60), **few)
    run = desk.start("run", "shipment.csv")
    wait_until(lambda: len(pingone.posts) >= 12, "a part of the tokens went")
    pingone.gateway_answers = status
    wait_until(lambda: desk.status()["reason"] == "outage", "the batch pauses")
    pingone.gateway_answers = None
    result = run.wait(PATIENCE)
    assert (result.code, "60 of 60 active" in result.stdout) == (0, True), result.stderr
    # There is nothing that a person has to do.
    assert "The batch continues by itself once PingOne answers." in result.stderr
    assert "oathbulk resume" not in result.stderr
    # What the gateway took away never came to PingOne: each OTP came there once.
    assert set(pingone.times_posted().values()) == {1}


def test_the_wrong_file_costs_a_few_otps_and_not_two_thousand(set_out):
    threads = 8
    shipment = make_shipment(2000, hopeless={"wrong_otp": 2000})
    desk, simulator = set_out(shipment, {"OATHBULK_CONCURRENCY": str(threads)})

    result = desk.oathbulk("run", "shipment.csv", "--json")

    refused = Thresholds().refused
    kind = f"{refused} invalid_otp (HTTP 400 INVALID_DATA INVALID_OTP)"
    cost = f"{refused} OTPs were spent on {refused} attempts that made no device ACTIVE: {kind}"
    assert told(result) == (4, "invalid_otps", f"{cost}. {PAUSE_CURES[PauseReason.INVALID_OTPS]}"), result.stderr
    # The breaker's count, and what each thread had in hand.
    assert refused <= len(posted(simulator)) <= refused + 2 * threads
    assert len(set(posted(simulator))) == len(posted(simulator)) == result.json["otp_posts"]
    # A refused OTP whose device was not read yet waits for that.
    given_up = result.json["dead_letters"]["invalid_otp"]
    assert refused <= given_up <= len(posted(simulator))
    assert result.json["counts"] == NOTHING | {"dead_letter": given_up, "pending": 2000 - given_up}


@pytest.mark.faults
def test_a_run_whose_quota_is_used_up_goes_on_by_itself_when_that_resets(set_out):
    shipment = make_shipment(60)
    desk, simulator = set_out(shipment, {"_OATHBULK_TUNING__longest_hold": "2"}, quota=40, quota_resets_after=20)
    run = desk.start("run", "shipment.csv", "--offline")

    wait_until(lambda: "Paused (quota): PingOne's quota is used up until " in said(run), "it says what it waits for")
    status = desk.status()
    assert (status["state"], status["reason"]) == ("paused", "quota")
    assert datetime.fromisoformat(status["resumes_at"]) <= datetime.now(UTC) + timedelta(seconds=20)

    assert run.wait(PATIENCE).code == 0, run.stderr
    status = desk.status()
    assert status["counts"] == NOTHING | {"active": 60}
    # Each OTP went once; what the quota refused did not count, and was asked no more than once a thread and period.
    taken = [call.otp for call in simulator.calls() if call.is_post and call.status != 429]
    assert len(set(taken)) == len(taken) == status["otp_posts"] == 60 + status["resynced"]
    refused = sum(call.status == 429 for call in simulator.calls())
    assert 1 <= refused <= 3 * int(desk.settings["OATHBULK_CONCURRENCY"])


@pytest.mark.faults
def test_a_run_finds_the_limit_remembers_it_and_a_share_is_kept(set_out):
    """15 requests a second are permitted, which a busy machine can make too, and nobody told."""
    settings = {"PINGONE_RATE": "10", "OATHBULK_CONCURRENCY": "24"}
    desk, simulator = set_out(make_shipment(480), settings, rate=15, burst=3)
    header, *rows = (desk.folder / "shipment.csv").read_text().splitlines()
    for name, mine in (("first.csv", rows[:420]), ("second.csv", rows[420:])):
        (desk.folder / name).write_text("\n".join([header, *mine, ""]))
    first = desk.oathbulk("run", "first.csv", "--offline", "--json")
    assert first.code == 0
    # A rate that is not found would be refused for a third of the way; a busy machine sends late, and so in bursts.
    assert first.json["rate_limited"] < 0.1 * first.json["requests"]
    known = desk.oathbulk("pace", "--json").json
    # A machine that was too busy to make more finds a lower one.
    assert 5 < known["ceiling"] < 20
    assert first.json["ceiling"] == known["ceiling"]
    assert "PingOne throttles at about" in desk.oathbulk("pace").stdout

    # Its Valkey begins empty, and the database knows the limit.
    began = len(simulator.calls())
    second = desk.oathbulk("run", "second.csv", "--offline", "--share", "50%", "--json")
    assert second.code == 0
    ours = [call.arrived_at for call in simulator.calls()[began:]]
    assert (len(ours) - 1) / (ours[-1] - ours[0]) < 0.65 * known["ceiling"]
    assert desk.oathbulk("pace", "--json").json["share"] == 0.5


@pytest.mark.faults
def test_few_otps_are_lost_to_learning_what_a_tenant_wants_with_otp_1_and_none_in_the_next_batch(
    make_fleet, postgres_url, valkey_url
):
    size, auto = 100, {"PINGONE_RESYNC_ON_FIRST_CALL": "auto"}
    shipment = make_shipment(2 * size, out_of_step=0.3)
    fleet = make_fleet(postgres_url, valkey_url, shipment, batch_of=size, extra_otp_needs_resync=True, failure_count=5)
    first, second = batch_name(0), batch_name(1)
    fleet.batches.pause(second)
    for name in ("worker-1", "worker-2"):
        fleet.worker(name, **auto)
    fleet.beat(**auto)

    def status(name):
        (found,) = read_statuses(fleet.database, name)
        return found

    fleet.wait_until(lambda: not status(first).to_do, "the first batch is finished")
    fleet.batches.resume(second)
    fleet.wait_until(lambda: not status(second).to_do, "the second batch is finished")

    lost = status(first).dead_letters
    assert sum(lost.values()) == lost.get("invalid_otp", 0) <= REFUSALS
    assert status(second).dead_letters == {}
    with fleet.database.reading() as connection:
        assert read_resync(connection, shipment.world.environment_id).needs == NeedsFlag.YES
