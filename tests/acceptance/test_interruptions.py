"""Whatever comes between a run and its end: signals, kill -9, a pause. Calls are held in flight meanwhile."""

import os
import signal
import sqlite3
from contextlib import closing

import pytest
from support.data.tokens import make_tokens, write_shipment
from support.processes.command_desk import OATHBULK
from support.processes.waiting import wait_until

# Seconds.
PATIENCE = 60
# What a dead process held comes back soon.
SHORT_LEASES = {
    "_OATHBULK_TUNING__call_deadline": "3",
    "_OATHBULK_TUNING__lease_left_for_post": "3.5",
    "_OATHBULK_TUNING__lease": "5",
    "_OATHBULK_TUNING__queue_lease": "5",
}
NOTHING = {"pending": 0, "queued": 0, "activating": 0, "active": 0, "dead_letter": 0, "cancelled": 0}


def start_and_hold(desk, pingone, posts, *command, options=("--json",)):
    """A run whose calls are answered up to so many, and four that wait for their answer."""
    pingone.hold_after(posts)
    run = desk.start_program(*command, *OATHBULK, "run", "shipment.csv", *options)
    wait_until(lambda: pingone.held == 4, PATIENCE, "four calls are in flight")
    return run


def list_workers(desk):
    with closing(sqlite3.connect(desk.home / "oathbulk.db")) as database:
        return database.execute("SELECT name FROM process").fetchall()


def test_ctrl_c_settles_what_is_in_hand_and_the_same_command_goes_on(set_up):
    desk, pingone = set_up(make_tokens(30, out_of_step=6))
    run = start_and_hold(desk, pingone, 10)
    run.interrupt()
    wait_until(lambda: "calls in flight are answered" in run.stderr, PATIENCE, "it says what it waits for")
    # An impatient person's second one changes nothing.
    run.interrupt()
    pingone.let_go()
    result = run.wait()
    assert result.code == 130
    assert "settled or handed back. Go on with: oathbulk run shipment" in result.stderr
    assert (result.json["pace"], result.json["eta_seconds"]) == (0, None)
    assert not desk.processes()
    status = desk.status()
    assert (status["counts"]["queued"], status["counts"]["activating"]) == (0, 0)
    # What was in flight was answered, and the answers were written down.
    assert status["counts"]["active"] == len(pingone.active)
    assert status["otp_posts"] == len(pingone.posts)
    # Ten and the four in flight; one of these may have been asked for its second OTP: it is the same attempt.
    assert 14 <= len(pingone.posts) <= 18
    assert desk.oathbulk("run", "shipment.csv").code == 0
    assert len(pingone.active) == 30
    assert set(pingone.times_posted().values()) == {1}


@pytest.mark.faults
def test_sigterm_ends_a_run_as_ctrl_c_does_and_it_tells_what_goes_on(set_up):
    desk, pingone = set_up(make_tokens(40))
    run = start_and_hold(desk, pingone, 20, "nohup", options=("--batch", "pallet 7"))
    # Under nohup it outlives its terminal.
    run.hang_up()
    run.terminate()
    wait_until(lambda: "calls in flight are answered" in run.stderr, PATIENCE, "it says what it waits for")
    pingone.let_go()
    result = run.wait()
    assert result.code == 130
    assert not desk.processes()
    assert "16 records are left. Go on with: oathbulk run 'pallet 7'" in result.stdout
    assert "left at this pace" not in result.stdout
    assert desk.status("pallet 7")["counts"] == NOTHING | {"active": 24, "pending": 16}
    # What was loaded needs its file no more.
    (desk.folder / "shipment.csv").unlink()
    assert desk.oathbulk("run", "pallet 7").code == 0
    assert len(pingone.active) == 40


def test_after_a_kill_9_the_workers_end_and_the_next_run_finishes_and_leaves_other_batches_to_theirs(set_up):
    desk, pingone = set_up(make_tokens(4), **SHORT_LEASES | {"_OATHBULK_TUNING__queue_lease": "600"})
    wave = make_tokens(20, prefix="WAVE", out_of_step=4)
    write_shipment(desk.folder / "wave.csv", wave)
    pingone.tokens |= {token.device_id: token for token in wave}
    assert desk.oathbulk("load", "wave.csv", "--offline").code == 0
    pingone.hold_after(0)
    everything = desk.start("run")
    wait_until(lambda: pingone.held == 4, PATIENCE, "four calls are in flight, and others are queued")
    everything.kill()
    pingone.let_go()
    wait_until(lambda: not desk.processes("worker", "beat"), PATIENCE, "worker and beat end by themselves")
    assert desk.status("wave")["counts"]["queued"] > 0
    assert desk.oathbulk("run", "shipment.csv").code == 0
    assert desk.status("wave")["counts"]["queued"] == 0
    assert desk.oathbulk("run", "wave").code == 0
    assert len(pingone.active) == 24
    assert set(pingone.times_posted().values()) == {1}
    assert not desk.processes()


def test_a_run_outlives_a_killed_worker_and_a_killed_valkey(set_up):
    desk, pingone = set_up(make_tokens(24), **SHORT_LEASES)
    run = start_and_hold(desk, pingone, 8)
    victims = desk.processes("worker", "beat", "valkey-server")
    assert len(victims) == 3
    desk.kill(*victims)
    pingone.let_go()
    result = run.wait()
    assert result.code == 0, result.stderr
    assert len(pingone.active) == 24
    # The killed calls reached PingOne: their devices were read, and no OTP went again.
    assert set(pingone.times_posted().values()) == {1}
    assert len(pingone.reads) == 4
    # The one that was killed is not taken for alive, as it would be for half a minute.
    assert list_workers(desk) == []


@pytest.mark.faults
def test_a_run_waits_through_a_pause_from_beside_and_goes_on_with_the_resume(set_up):
    desk, pingone = set_up(make_tokens(16, out_of_step=4), OATHBULK_ACTOR="alice")
    run = start_and_hold(desk, pingone, 0, options=())
    paused = desk.oathbulk("pause", "shipment")
    assert paused.code == 0
    assert "Go on with: oathbulk resume shipment\n" in paused.stdout
    pingone.let_go()
    waits = "Paused by alice; waits for `oathbulk resume shipment`."
    wait_until(lambda: f"16 pending; 0.0 records/s; {waits}" in run.stderr, PATIENCE, "it says what it waits for")
    # The four in flight were answered and settled; not even the second OTP that the answers ask for went out.
    assert [post.answer for post in pingone.posts] == ["EXTRA_OTP_REQUIRED"] * 4
    status = desk.status()
    assert (status["state"], status["reason"]) == ("paused", "person")
    assert (status["counts"], status["otp_posts"]) == (NOTHING | {"pending": 16}, 4)
    # Ctrl-C ends it meanwhile; and a run that finds it paused waits too.
    run.interrupt()
    result = run.wait()
    assert result.code == 130
    how = "This run has ended. Go on with: oathbulk resume shipment, then oathbulk run shipment"
    assert how in " ".join(result.stdout.split())
    again = desk.start("run", "shipment")
    wait_until(lambda: waits in again.stderr, PATIENCE, "it waits again")
    assert len(pingone.posts) == 4

    wait_until(lambda: list_workers(desk), PATIENCE, "its worker gives a sign of life")
    # Celery would start one in its place, of the same pid, that does not end with a killed run.
    (worker,) = desk.processes("worker")
    os.kill(worker, signal.SIGHUP)
    wait_until(lambda: desk.processes("worker") not in ([], [worker]), PATIENCE, "there is another worker")
    assert desk.oathbulk("resume", "shipment").code == 0
    assert again.wait().code == 0
    assert len(pingone.active) == 16
    assert set(pingone.times_posted().values()) == {1}


@pytest.mark.faults
def test_a_cancel_from_beside_ends_a_run_and_a_replay_takes_it_back(set_up):
    desk, pingone = set_up(make_tokens(16))
    run = start_and_hold(desk, pingone, 4)
    assert desk.oathbulk("cancel", "shipment").code == 0
    pingone.let_go()
    result = run.wait()
    assert (result.code, result.json["state"]) == (1, "cancelled")
    # What was in flight had reached PingOne: it ends as PingOne has it.
    assert result.json["counts"] == NOTHING | {"active": 8, "cancelled": 8}
    assert len(pingone.posts) == 8

    replayed = desk.oathbulk("replay", "shipment")
    assert (replayed.code, "8 records of shipment go again" in replayed.stdout) == (0, True)
    assert desk.oathbulk("run", "shipment.csv").code == 0
    assert len(pingone.active) == 16
    assert set(pingone.times_posted().values()) == {1}
