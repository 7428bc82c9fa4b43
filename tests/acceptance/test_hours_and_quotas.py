"""`oathbulk run` waits for what passes by itself: a daily window that is closed, a quota that is used up. It says so,
sends nothing meanwhile, and goes on without a person."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from support.processes.waiting import wait_until

from worker.rules.hours import format_time
from worker.simulator.shipment import make_shipment

NOTHING = {"pending": 0, "queued": 0, "activating": 0, "active": 0, "dead_letter": 0, "cancelled": 0}
# Seconds: a window opens and closes at a whole minute.
PATIENCE = 200
# As installed: who waits for a minute should not be busy with looking.
UNHURRIED = {"_OATHBULK_TUNING__tick": "1"}
# Seconds in which a command has begun, on a slow machine too.
START = 60


class Minute:
    """A whole minute that is at least START seconds away."""

    def __init__(self) -> None:
        now = datetime.now(UTC)
        self.at = (now + timedelta(seconds=START + 60)).replace(second=0, microsecond=0)
        self._monotonic = time.monotonic() + (self.at - now).total_seconds()

    def later(self, **time_: int) -> str:
        return f"{self.at + timedelta(**time_):%H:%M}"

    def is_past(self, call, spare: float = 0.0) -> bool:
        """Whether the call arrived `spare` seconds after it, or later."""
        return call.arrived_at > self._monotonic + spare


def said(result):
    """On the terminal, whatever its width."""
    return " ".join(result.stderr.split())


@pytest.mark.faults
def test_a_run_outside_its_window_waits_and_goes_on_by_itself_when_that_opens(set_out):
    desk, simulator = set_out(make_shipment(20), UNHURRIED)
    opens = Minute()
    hours = f"{opens.later()}-{opens.later(hours=2)}"
    run = desk.start("run", "shipment.csv", "--window", hours, "--zone", "UTC")

    waits = f"outside its window {hours} UTC; goes on by itself at {format_time(opens.at)}."
    wait_until(lambda: f"Paused (window): {waits}" in said(run), START, "it says what it waits for")
    assert f"It is {waits}" in " ".join(run.stdout.split())
    status = desk.status()
    assert (status["state"], status["reason"], status["detail"]) == ("paused", "window", waits)
    assert (status["window"], status["zone"]) == (hours, "UTC")
    assert datetime.fromisoformat(status["resumes_at"]) == opens.at
    assert simulator.posts() == 0

    result = run.wait(PATIENCE)
    assert result.code == 0, result.stderr
    assert desk.status()["counts"] == NOTHING | {"active": 20}
    assert all(opens.is_past(call) for call in simulator.calls())


@pytest.mark.faults
def test_a_run_stops_at_the_end_of_its_window_and_a_person_may_open_it(set_out):
    slow = {"PINGONE_RATE": "8", "PINGONE_RATE_MAX": "8"}
    desk, simulator = set_out(make_shipment(2000), UNHURRIED | slow)
    closes = Minute()
    window = ("--window", f"{closes.later(hours=-2)}-{closes.later()}", "--zone", "UTC")
    run = desk.start("run", "shipment.csv", *window)
    wait_until(
        lambda: f"closes at {format_time(closes.at)}" in said(run), PATIENCE, "its tokens go, and it says until when"
    )

    wait_until(lambda: "Paused (window): outside its window" in said(run), PATIENCE, "it says that it is closed")

    status = desk.status()
    assert (status["state"], status["reason"]) == ("paused", "window")
    assert 0 < status["counts"]["active"] < 2000
    assert (status["counts"]["queued"], status["counts"]["activating"]) == (0, 0)
    # No record is left between its OTPs.
    assert status["otp_posts"] == status["counts"]["active"] + status["resynced"] + sum(status["dead_letters"].values())
    # At 8 requests a second, one that went on would be seen long after that.
    assert not any(closes.is_past(call, spare=5.0) for call in simulator.calls())

    again = desk.oathbulk("resume", "shipment")
    assert again.code == 0
    assert "goes on by itself at" in " ".join(again.stdout.split())
    assert "oathbulk resume shipment --no-window" in " ".join(again.stdout.split())
    posts = simulator.posts()
    assert desk.oathbulk("resume", "shipment", "--no-window", "--ticket", "CHG-9").code == 0
    wait_until(lambda: simulator.posts() > posts, PATIENCE, "it goes on")
    assert desk.status()["window"] is None
    run.interrupt()
    assert run.wait().code == 130
    lines = desk.oathbulk("audit", "shipment", "--json").json["lines"]
    assert lines[-1]["facts"] == {"reason": "window", "window": None}
    # What was changed is not changed back by going on.
    other = desk.oathbulk("run", "shipment.csv", *window)
    assert other.code == 2
    assert f"oathbulk resume shipment {' '.join(window)}" in said(other)


@pytest.mark.parametrize(
    ("command", "options", "complaint"),
    [
        ("run", ("--window", "22:00-05:30"), "needs --zone"),
        ("load", ("--zone", "UTC"), "give both"),
        ("run", ("--window", "22-5", "--zone", "UTC"), "write it as 22:00-05:30"),
        ("load", ("--window", "22:00-22:00", "--zone", "UTC"), "begins and ends at the same time"),
        ("run", ("--window", "22:00-05:30", "--zone", "Europe/Belin"), "did you mean Europe/Berlin"),
    ],
)
def test_a_window_that_is_none_is_refused_before_anything_is_loaded(desk, command, options, complaint):
    (desk.folder / "shipment.csv").write_text("serial,otp1,otp2,user_id,device_id\n")

    result = desk.oathbulk(command, "shipment.csv", *options, COLUMNS="500")

    assert result.code == 2
    assert complaint in said(result)
    assert not (desk.home / "oathbulk.db").exists()


@pytest.mark.faults
def test_a_run_whose_quota_is_used_up_goes_on_by_itself_when_that_resets(set_out):
    shipment = make_shipment(60)
    desk, simulator = set_out(shipment, {"_OATHBULK_TUNING__longest_hold": "2"}, quota=40, quota_resets_after=20)
    run = desk.start("run", "shipment.csv", "--offline")

    told = "Paused (quota): PingOne's quota is used up until "
    wait_until(lambda: told in said(run), PATIENCE, "it says what it waits for")
    assert "goes on by itself then." in said(run)
    status = desk.status()
    assert (status["state"], status["reason"]) == ("paused", "quota")
    assert datetime.fromisoformat(status["resumes_at"]) <= datetime.now(UTC) + timedelta(seconds=20)

    result = run.wait(PATIENCE)
    assert result.code == 0, result.stderr
    status = desk.status()
    assert status["counts"] == NOTHING | {"active": 60}
    # Each OTP went once; what the quota refused did not count, and was asked no more than once a thread and period.
    taken = [call.otp for call in simulator.calls() if call.is_post and call.status != 429]
    assert len(set(taken)) == len(taken) == status["otp_posts"] == 60 + status["resynced"]
    refused = sum(call.status == 429 for call in simulator.calls())
    assert 1 <= refused <= 3 * int(desk.settings["OATHBULK_CONCURRENCY"])


def test_an_absurd_reset_is_explained_and_a_person_need_not_wait_for_it(set_out):
    quick = {"_OATHBULK_TUNING__longest_hold": "2"}
    desk, simulator = set_out(make_shipment(20), quick, quota=10, quota_reset_time="9999-12-31T23:59:59Z")
    run = desk.start("run", "shipment.csv", "--offline")
    told = (
        "Paused (quota): PingOne's quota is used up, by what it says until 9999-12-31 23:59 UTC: "
        "tried again by itself at "
    )
    wait_until(lambda: told in said(run), PATIENCE, "it says so")

    simulator.change(quota=None)
    assert desk.oathbulk("resume", "shipment").stdout == "shipment runs.\n"

    # Nor is the fleet held for longer than it ever is.
    result = run.wait(PATIENCE)
    assert result.code == 0, result.stderr
    assert desk.status()["counts"] == NOTHING | {"active": 20}
