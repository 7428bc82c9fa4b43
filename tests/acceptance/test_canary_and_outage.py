"""`oathbulk run` stops where a person must look, and only there: a canary, a wrong file, refused credentials, a missing
role, devices that are gone. What mends itself it sits out."""

from __future__ import annotations

from contextlib import closing
from typing import get_args

import pytest
from support.data.tokens import make_tokens
from support.processes.waiting import wait_until

from models.reason import PAUSE_CURES, PauseReason
from worker.database.engine import Database
from worker.reports.facts import read_statuses
from worker.rules.breaker import Thresholds
from worker.simulator.calls import Group
from worker.simulator.shipment import make_shipment

NOTHING = {"pending": 0, "queued": 0, "activating": 0, "active": 0, "dead_letter": 0, "cancelled": 0}
# Seconds: the first probe comes after fifteen.
PATIENCE = 90


def posted(simulator):
    """The device of each OTP that arrived, in their order."""
    return [call.device_id for call in simulator.calls() if call.otp is not None]


def told(result):
    return result.json["state"], result.json["reason"], result.json["detail"]


def test_a_canary_goes_alone_and_the_rest_after_a_resume(set_out):
    shipment = make_shipment(24)
    desk, simulator = set_out(shipment)

    canary = desk.oathbulk("run", "shipment.csv", "--canary", "5", "--ticket", "CHG-1", "--json")
    assert canary.code == 4, canary.stderr
    assert told(canary) == ("paused", "canary", PAUSE_CURES[PauseReason.CANARY])
    assert canary.json["counts"] == NOTHING | {"active": 5, "pending": 19}
    assert set(posted(simulator)) == {row.device_id for row in shipment.rows[:5]}

    # The same command does not go on by itself: a person has to look.
    again = desk.oathbulk("run", "shipment.csv", "--canary", "5")
    assert again.code == 4
    assert "then resume or cancel" in " ".join(again.stdout.split())
    assert len(posted(simulator)) == canary.json["otp_posts"]

    assert desk.oathbulk("resume", "shipment").code == 0
    result = desk.oathbulk("run", "shipment.csv", "--canary", "5", "--json")
    assert result.code == 0, result.stderr
    assert result.json["counts"] == NOTHING | {"active": 24}
    # Each OTP went once.
    assert len(posted(simulator)) == result.json["otp_posts"] == 24 + result.json["resynced"]
    # What persons did is told; what the workers did, the records tell.
    lines = desk.oathbulk("audit", "shipment", "--json").json["lines"]
    assert [(line["action"], line["ticket"], line["facts"].get("reason")) for line in lines] == [
        ("load", "CHG-1", None),
        ("resume", None, "canary"),
    ]


@pytest.mark.faults
def test_an_outage_is_sat_out_and_costs_no_record(set_out):
    few = {"_OATHBULK_TUNING__breaker__unanswered": "6"}
    desk, simulator = set_out(make_shipment(60), few, latency=0.05)
    run = desk.start("run", "shipment.csv")
    wait_until(lambda: simulator.posts() >= 12, PATIENCE, "a part of the tokens went")
    with closing(Database(f"sqlite:///{desk.home / 'oathbulk.db'}")) as database:

        def state():
            (status,) = read_statuses(database, "shipment")
            return status.state, status.reason

        before = simulator.posts()
        simulator.change(faults={"error_before": 0.7, "error_after": 0.3}, error_statuses=[503])
        wait_until(lambda: state() == ("paused", "outage"), PATIENCE, "the batch pauses")
        simulator.change(faults={})
        spent = simulator.posts() - before
        assert run.is_alive
        wait_until(lambda: state()[0] != "paused", PATIENCE, "the batch goes on by itself")
        (status,) = read_statuses(database, "shipment")
        assert status.dead_letters == {}

    result = run.wait()
    assert result.code == 0, result.stderr
    assert "total active 60 60 " in " ".join(result.stdout.split())
    # Where nobody watches a terminal it prints a line now and then. There is nothing that a person has to do.
    assert "outage" in result.stderr
    assert "The batch goes on by itself once PingOne answers." in result.stderr
    assert "oathbulk resume" not in result.stderr
    # Those that the breaker counts, and whatever each thread had in hand when it tripped.
    assert spent <= 6 + 3 * int(desk.settings["OATHBULK_CONCURRENCY"])


@pytest.mark.faults
@pytest.mark.parametrize("status", [404, 403])
def test_a_gateway_that_answers_in_pingones_place_is_an_outage_and_no_verdict_on_a_device(set_up, status):
    few = {"_OATHBULK_TUNING__breaker__unanswered": "6", "PINGONE_RATE": "20", "PINGONE_RATE_MAX": "20"}
    desk, pingone = set_up(make_tokens(60), **few)
    run = desk.start("run", "shipment.csv", "--json")
    wait_until(lambda: len(pingone.posts) >= 12, PATIENCE, "a part of the tokens went")
    with closing(Database(f"sqlite:///{desk.home / 'oathbulk.db'}")) as database:

        def look():
            (status,) = read_statuses(database, "shipment")
            return status

        pingone.gateway_answers = status
        wait_until(lambda: look().reason == "outage", PATIENCE, "the batch pauses")
        pingone.gateway_answers = None
        wait_until(lambda: look().state != "paused", PATIENCE, "the batch goes on by itself")
        assert look().dead_letters == {}

    result = run.wait()
    assert result.code == 0, result.stderr
    assert result.json["counts"] == NOTHING | {"active": 60}
    # What the gateway took away never came to PingOne: each OTP came there once.
    assert set(pingone.times_posted().values()) == {1}


def test_the_wrong_file_costs_a_few_otps_and_not_two_thousand(set_out):
    threads = 8
    shipment = make_shipment(2000, hopeless={"wrong_otp": 2000})
    desk, simulator = set_out(shipment, {"OATHBULK_CONCURRENCY": str(threads)})

    result = desk.oathbulk("run", "shipment.csv", "--json")

    assert result.code == 4, result.stderr
    state, reason, detail = told(result)
    assert (state, reason) == ("paused", "invalid_otps")
    spent, refused, *_ = (int(word) for word in detail.split() if word.isdigit())
    assert spent == refused == Thresholds().refused
    kind = "20 invalid_otp (HTTP 400 INVALID_DATA INVALID_OTP)"
    cost = f"20 OTPs were spent on 20 attempts that made no device ACTIVE: {kind}"
    assert detail == f"{cost}. {PAUSE_CURES[PauseReason.INVALID_OTPS]}"
    # The breaker's count, and what each thread had in hand.
    assert Thresholds().refused <= len(posted(simulator)) <= Thresholds().refused + 2 * threads
    assert len(set(posted(simulator))) == len(posted(simulator)) == result.json["otp_posts"]
    # A refused OTP whose device was not read yet waits for that.
    given_up = result.json["dead_letters"]["invalid_otp"]
    assert refused <= given_up <= len(posted(simulator))
    assert result.json["counts"] == NOTHING | {"dead_letter": given_up, "pending": 2000 - given_up}


@pytest.mark.faults
def test_a_secret_that_is_changed_while_it_runs_pauses_it_until_it_is_told(set_out):
    desk, simulator = set_out(make_shipment(60), latency=0.1)
    run = desk.start("run", "shipment.csv", "--json")
    wait_until(lambda: simulator.posts() >= 8, PATIENCE, "a part of the tokens went")

    simulator.seed(client_secret="a new one")
    simulator.revoke_access_tokens()

    result = run.wait()
    assert result.code == 4, result.stderr
    assert told(result) == ("paused", "credentials", PAUSE_CURES[PauseReason.CREDENTIALS])
    assert result.json["dead_letters"] == {}
    assert result.json["counts"]["pending"] > 0
    desk.settings["PINGONE_CLIENT_SECRET"] = "a new one"
    assert desk.oathbulk("resume", "shipment").code == 0
    mended = desk.oathbulk("run", "shipment.csv", "--json")
    assert mended.code == 0, mended.stderr
    assert mended.json["counts"] == NOTHING | {"active": 60}
    assert mended.json["otp_posts"] == 60 + mended.json["resynced"]


def test_a_missing_role_pauses_it_and_costs_no_otp(set_out):
    few = {"_OATHBULK_TUNING__breaker__forbidden": "4"}
    desk, simulator = set_out(make_shipment(30), few, forbidden_groups=get_args(Group))

    result = desk.oathbulk("run", "shipment.csv", "--json")

    assert result.code == 4, result.stderr
    cost = "0 OTPs were spent on 4 attempts that made no device ACTIVE"
    kind = "4 forbidden (HTTP 403 ACCESS_FAILED INSUFFICIENT_PERMISSIONS)"
    detail = f"{cost}: {kind}. {PAUSE_CURES[PauseReason.PERMISSIONS]}"
    assert told(result) == ("paused", "permissions", detail)
    assert (result.json["otp_posts"], result.json["attempts"]) == (0, 0)
    forbidden = result.json["dead_letters"]["forbidden"]
    assert 4 <= forbidden <= 4 + 2 * int(desk.settings["OATHBULK_CONCURRENCY"])
    assert result.json["counts"] == NOTHING | {"dead_letter": forbidden, "pending": 30 - forbidden}
    assert simulator.active() == set()
    # Once it has the role, all of it goes: nothing was used up.
    replayed = desk.oathbulk("replay", "shipment", "--reason", "forbidden")
    assert f"{forbidden} records of shipment go again" in replayed.stdout


@pytest.mark.faults
def test_devices_that_pingone_has_deleted_pause_it_and_cost_no_otp(set_out):
    few = {"_OATHBULK_TUNING__breaker__devices_gone": "4"}
    desk, _ = set_out(make_shipment(60, hopeless={"unknown_device": 60}), few)

    result = desk.oathbulk("run", "shipment.csv", "--json", "--accept", "token_not_in_inventory")

    assert result.code == 4, result.stderr
    state, reason, detail = told(result)
    assert (state, reason) == ("paused", "devices_gone")
    assert detail.startswith("0 OTPs were spent on 4 attempts that made no device ACTIVE: 4 device_not_found (HTTP 404")
    assert detail.endswith(PAUSE_CURES[PauseReason.DEVICES_GONE])
    assert result.json["otp_posts"] == 0
    gone = result.json["dead_letters"]["device_not_found"]
    assert 4 <= gone <= 4 + 2 * int(desk.settings["OATHBULK_CONCURRENCY"])
    assert result.json["counts"] == NOTHING | {"dead_letter": gone, "pending": 60 - gone}
