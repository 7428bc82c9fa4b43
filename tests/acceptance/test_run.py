"""`oathbulk run`, from its first call to its exit code, against a PingOne that is not our simulator."""

from __future__ import annotations

import csv
import re

import pytest
from support.processes import wait_until
from support.standin import Refusal, make_tokens, write_shipment

STATUS_KEYS = {
    "batch", "environment", "state", "reason", "total", "rows_refused", "counts", "resynced", "attempts", "otp_posts",
    "requests", "rate_limited", "dead_letters", "created_at", "finished_at",
}  # fmt: skip
NOTHING = {"pending": 0, "queued": 0, "activating": 0, "active": 0, "dead_letter": 0, "cancelled": 0}


def test_a_run_activates_every_token_and_costs_no_otp_too_many(set_up):
    tokens = make_tokens(20, out_of_step=4)
    desk, pingone = set_up(tokens)
    result = desk.oathbulk("run", "shipment.csv", "--json")
    assert result.code == 0, result.stderr
    assert len(pingone.active) == 20
    assert len(pingone.posts) == 24
    assert set(pingone.times_posted().values()) == {1}
    status = result.json
    assert set(status) >= STATUS_KEYS
    assert status["counts"] == NOTHING | {"active": 20}
    told = {name: status[name] for name in ("batch", "environment", "state", "reason", "total", "rows_refused")}
    assert told == {
        "batch": "shipment",
        "environment": "default",
        "state": "finished",
        "reason": None,
        "total": 20,
        "rows_refused": 0,
    }
    assert (status["resynced"], status["otp_posts"], status["attempts"], status["dead_letters"]) == (4, 24, 20, {})
    assert status["requests"] == 24
    assert status["finished_at"] > status["created_at"]


def test_the_second_otp_follows_the_answer_to_the_first_and_asks_for_resync(set_up):
    tokens = make_tokens(4, out_of_step=4)
    desk, pingone = set_up(tokens)
    assert desk.oathbulk("run", "shipment.csv").code == 0
    for token in tokens:
        posts = [(post.otp, post.resync, post.answer) for post in pingone.posts if post.device_id == token.device_id]
        assert posts == [(token.otps[0], None, "EXTRA_OTP_REQUIRED"), (token.otps[1], True, "ACTIVE")]


def test_dead_letters_end_a_run_with_1_and_say_what_to_do(set_up):
    desk, pingone = set_up(make_tokens(6, wrong=2))
    result = desk.oathbulk("run", "shipment.csv")
    assert result.code == 1
    assert "4 active" in result.stdout
    assert "2 dead_letter" in result.stdout
    assert "invalid_otp" in result.stdout
    assert "load the row again with two fresh, consecutive OTPs" in " ".join(result.stdout.split())
    # Each refused OTP went once, and its device was read before it was given up.
    assert set(pingone.times_posted().values()) == {1}
    assert len(pingone.reads) == 2
    again = desk.oathbulk("run", "shipment.csv")
    assert again.code == 1
    assert len(pingone.posts) == 6


def test_refused_rows_end_a_run_with_1_and_are_named(set_up):
    tokens = make_tokens(3)
    desk, pingone = set_up(tokens)
    with (desk.folder / "shipment.csv").open("a") as file:
        file.write("ACME99999,12,34,no-user,no-device\n")
    result = desk.oathbulk("run", "shipment.csv", "--json")
    assert result.code == 1
    assert (result.json["total"], result.json["rows_refused"]) == (3, 1)
    assert result.json["counts"]["active"] == 3
    assert "row 5 (ACME99999): " in result.stderr
    assert len(pingone.active) == 3


def test_ctrl_c_settles_what_is_in_hand_and_the_same_command_goes_on(set_up):
    desk, pingone = set_up(make_tokens(30, out_of_step=6))
    pingone.hold_after(10)
    run = desk.start("run", "shipment.csv")
    wait_until(lambda: pingone.held == 4, 30, "four calls are in flight")
    run.interrupt()
    # An impatient second one, while the calls are still open.
    wait_until(lambda: not run.is_alive or desk.processes("worker"), 30, "the worker is told")
    run.interrupt()
    pingone.let_go()
    result = run.wait()
    assert result.code == 130
    assert "The same command goes on" in result.stderr
    assert "Traceback" not in result.stderr
    assert not desk.processes()
    status = desk.status()
    assert (status["counts"]["queued"], status["counts"]["activating"]) == (0, 0)
    # What was in flight was answered, and the answers were written down.
    assert status["counts"]["active"] == len(pingone.active)
    assert status["otp_posts"] == len(pingone.posts) == 14
    assert desk.oathbulk("run", "shipment.csv").code == 0
    assert len(pingone.active) == 30
    assert set(pingone.times_posted().values()) == {1}


def test_sigterm_ends_a_run_as_ctrl_c_does(set_up):
    desk, pingone = set_up(make_tokens(12))
    pingone.hold_after(4)
    run = desk.start("run", "shipment.csv")
    wait_until(lambda: pingone.held == 4, 30, "four calls are in flight")
    run.terminate()
    pingone.let_go()
    assert run.wait().code == 130
    assert not desk.processes()
    counts = desk.status()["counts"]
    assert (counts["queued"], counts["activating"], counts["active"]) == (0, 0, 8)


def test_after_a_kill_9_the_workers_end_and_the_next_run_finishes(set_up):
    desk, pingone = set_up(
        make_tokens(24, out_of_step=4),
        OATHBULK_CALL_DEADLINE="1",
        OATHBULK_LEASE_LEFT_FOR_POST="1.5",
        OATHBULK_LEASE="3",
    )
    pingone.hold_after(8)
    run = desk.start("run", "shipment.csv")
    wait_until(lambda: pingone.held == 4, 30, "four calls are in flight")
    run.kill()
    pingone.let_go()
    wait_until(lambda: not desk.processes("celery"), 30, "worker and beat end by themselves")
    result = desk.oathbulk("run", "shipment.csv", "--json")
    assert result.code == 0, result.stderr
    assert result.json["counts"] == NOTHING | {"active": 24}
    assert len(pingone.active) == 24
    assert not desk.processes()
    assert set(pingone.times_posted().values()) == {1}


def test_a_run_outlives_a_killed_worker_and_a_killed_valkey(set_up):
    desk, pingone = set_up(
        make_tokens(24),
        OATHBULK_CALL_DEADLINE="1",
        OATHBULK_LEASE_LEFT_FOR_POST="1.5",
        OATHBULK_LEASE="3",
    )
    pingone.hold_after(8)
    run = desk.start("run", "shipment.csv")
    wait_until(lambda: pingone.held == 4, 30, "four calls are in flight")
    desk.kill(*desk.processes("worker"), *desk.processes("valkey-server"))
    pingone.let_go()
    result = run.wait()
    assert result.code == 0, result.stderr
    assert len(pingone.active) == 24
    # The killed calls reached PingOne: their devices were read, and no OTP went again.
    assert set(pingone.times_posted().values()) == {1}
    assert len(pingone.reads) == 4


def test_beside_a_run_everything_works_but_a_second_run(set_up):
    desk, pingone = set_up(make_tokens(16))
    write_shipment(desk.folder / "other.csv", make_tokens(3, prefix="OTHER"))
    pingone.hold_after(4)
    run = desk.start("run", "shipment.csv")
    wait_until(lambda: pingone.held == 4, 30, "four calls are in flight")

    for arguments in (["run", "shipment.csv"], ["run", "other.csv"], ["rehearse", "--tokens", "1"]):
        second = desk.oathbulk(*arguments)
        assert second.code == 3
        assert f"in use by process {run.pid}" in second.stderr
    assert desk.oathbulk("load", "other.csv").code == 0
    assert desk.status("other")["total"] == 3
    assert desk.status()["counts"] == NOTHING | {"active": 4, "activating": 4, "queued": 8}
    listing = desk.oathbulk("status", "--json").json
    assert [batch["batch"] for batch in listing["batches"]] == ["other", "shipment"]
    assert desk.oathbulk("export", "shipment", "-o", "beside.csv").code == 0
    assert desk.oathbulk("doctor").code == 0
    assert desk.oathbulk("cancel", "other").code == 0

    pingone.let_go()
    assert run.wait().code == 0
    # Only the batch that was asked for, and the cancelled one not at all.
    assert len(pingone.active) == 16


def test_a_pause_from_beside_ends_a_run_with_4_and_after_a_resume_it_finishes(set_up):
    desk, pingone = set_up(make_tokens(16, out_of_step=4))
    pingone.hold_after(4)
    run = desk.start("run", "shipment.csv")
    wait_until(lambda: pingone.held == 4, 30, "four calls are in flight")
    assert desk.oathbulk("pause", "shipment").code == 0
    pingone.let_go()
    result = run.wait()
    assert result.code == 4
    assert "oathbulk resume shipment" in result.stdout
    # No call began after the pause; those in flight were settled.
    assert len(pingone.posts) == 8
    status = desk.status()
    assert (status["state"], status["reason"]) == ("paused", "person")
    assert (status["counts"]["queued"], status["counts"]["activating"]) == (0, 0)
    assert status["otp_posts"] == 8
    # Still paused: a run does nothing, and says so.
    assert desk.oathbulk("run", "shipment.csv").code == 4
    assert len(pingone.posts) == 8

    assert desk.oathbulk("resume", "shipment").code == 0
    assert desk.oathbulk("run", "shipment.csv").code == 0
    assert len(pingone.active) == 16
    assert set(pingone.times_posted().values()) == {1}


def test_a_cancel_from_beside_ends_a_run_and_a_replay_takes_it_back(set_up):
    desk, pingone = set_up(make_tokens(16))
    pingone.hold_after(4)
    run = desk.start("run", "shipment.csv")
    wait_until(lambda: pingone.held == 4, 30, "four calls are in flight")
    assert desk.oathbulk("cancel", "shipment").code == 0
    pingone.let_go()
    assert run.wait().code == 1
    status = desk.status()
    # What was in flight had reached PingOne: it ends as PingOne has it.
    assert status["counts"] == NOTHING | {"active": 8, "cancelled": 8}
    assert status["state"] == "cancelled"
    assert len(pingone.posts) == 8

    replayed = desk.oathbulk("replay", "shipment")
    assert replayed.code == 0
    assert "8 records of shipment go again" in replayed.stdout
    assert desk.oathbulk("run", "shipment.csv").code == 0
    assert len(pingone.active) == 16
    assert set(pingone.times_posted().values()) == {1}


def test_credentials_that_are_refused_while_it_runs_pause_it(set_up):
    desk, pingone = set_up(make_tokens(6))
    pingone.refusals.extend([Refusal(401, "ACCESS_FAILED", "INVALID_TOKEN")] * 100)
    result = desk.oathbulk("run", "shipment.csv", "--json")
    assert result.code == 4
    assert (result.json["state"], result.json["reason"]) == ("paused", "credentials")
    assert result.json["counts"] == NOTHING | {"pending": 6}
    # Nothing was spent: the same OTPs go once the credentials are mended.
    assert (result.json["otp_posts"], result.json["attempts"]) == (0, 0)
    pingone.refusals.clear()
    assert desk.oathbulk("resume", "shipment").code == 0
    assert desk.oathbulk("run", "shipment.csv").code == 0
    assert len(pingone.active) == 6


def test_credentials_that_are_refused_from_the_beginning_are_named(set_up):
    desk, pingone = set_up(make_tokens(2))
    pingone.knows_client = False
    result = desk.oathbulk("run", "shipment.csv")
    assert result.code == 3
    assert "PINGONE_CLIENT_SECRET" in result.stderr
    assert not pingone.posts


def test_an_export_has_the_files_columns_and_how_each_row_ended(set_up):
    tokens = make_tokens(5, wrong=1)
    desk, _ = set_up(tokens)
    write_shipment(desk.folder / "shipment.csv", tokens, Carton="7")
    assert desk.oathbulk("load", "shipment.csv").code == 0
    assert desk.oathbulk("export", "shipment", "-o", "before.csv", "--with-otps").code == 0
    before = read(desk.folder / "before.csv")
    assert [(row["otp1"], row["otp2"]) for row in before] == [token.otps for token in tokens]
    assert {row["status"] for row in before} == {"pending"}

    assert desk.oathbulk("run", "shipment.csv").code == 1
    result = desk.oathbulk("export", "shipment", "-o", "after.csv")
    assert result.code == 0
    assert "Wrote 5 records" in result.stdout
    after = read(desk.folder / "after.csv")
    assert list(after[0]) == [
        *("serial", "otp1", "otp2", "user_id", "device_id", "Carton"),
        *("status", "reason", "detail", "pingone_error_id", "correlation_id", "attempts", "otp_posts"),
    ]
    assert [row["serial"] for row in after] == [token.serial for token in tokens]
    assert {row["Carton"] for row in after} == {"7"}
    assert {row["otp1"] + row["otp2"] for row in after} == {""}
    assert [row["status"] for row in after] == ["active"] * 4 + ["dead_letter"]
    assert after[4]["reason"] == "invalid_otp"
    assert (desk.folder / "after.csv").stat().st_mode & 0o077 == 0

    # The OTPs of what is active are gone; those of a dead letter a person may see.
    dead = desk.oathbulk("export", "shipment", "-o", "dead.csv", "--with-otps", "--status", "dead_letter")
    assert dead.code == 0
    (row,) = read(desk.folder / "dead.csv")
    assert (row["serial"], row["otp1"]) == (tokens[4].serial, tokens[4].otps[0])


def test_no_otp_and_no_secret_lies_readable_in_the_home(set_up):
    tokens = make_tokens(20, out_of_step=4, wrong=2)
    desk, _ = set_up(tokens)
    assert desk.oathbulk("run", "shipment.csv").code == 1
    assert desk.home.stat().st_mode & 0o777 == 0o700
    kept = b"\n".join(path.read_bytes() for path in desk.home.rglob("*") if path.is_file())
    # With hexadecimal digits around it, eight of them are somebody's id.
    shown = [otp for token in tokens for otp in token.otps if re.search(rb"(?<![0-9a-f])%d(?![0-9a-f])" % int(otp), kept)]
    assert not shown
    assert b"a secret: with" not in kept
    assert b"stand-in-access-token" not in kept
    open_to_others = [path for path in desk.home.rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
    assert open_to_others in ([], [desk.home / "oathbulk.db"])


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


