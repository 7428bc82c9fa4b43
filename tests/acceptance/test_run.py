"""`oathbulk run`, from its first call to its exit code, against a PingOne that is not our simulator; what a person sees
while it works, and is told by a webhook; and whatever comes between a run and its end."""

import json
import os
import re
import signal
import sqlite3
import sys
import sysconfig
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.data.tokens import make_tokens, write_shipment
from support.processes.command_desk import CommandDesk
from support.processes.waiting import wait_until
from support.servers import stand_in_box
from support.servers.raw_server import RawServer
from support.servers.stand_in import Refusal, WholeWayStandIn

from models.reason import PAUSE_CURES, PauseReason
from worker.simulator.shipment import make_shipment

CELERY = Path(sysconfig.get_path("scripts")) / "celery"
NOTHING = {"pending": 0, "queued": 0, "activating": 0, "active": 0, "dead_letter": 0, "cancelled": 0}


def start_and_hold(desk, pingone, posts, *options):
    """A run whose calls are answered up to so many, and four that wait for their answer."""
    pingone.hold_after(posts)
    run = desk.start("run", "shipment.csv", *options)
    wait_until(lambda: pingone.held == 4, "four calls are in flight")
    return run


def test_a_run_activates_every_token_and_costs_no_otp_too_many(set_up):
    tokens = make_tokens(20, out_of_step=4)
    desk, pingone = set_up(tokens)
    result = desk.oathbulk("run", "shipment.csv", "--json")
    hosts = "PingOne's API is called at 127.0.0.1, and access tokens come from 127.0.0.1.\n"
    assert (result.code, result.stderr) == (0, f"Home: {desk.home}\n{hosts}")
    for token in tokens:
        first, second = token.otps
        extra = [(first, None, "EXTRA_OTP_REQUIRED"), (second, True, "ACTIVE")]
        posts = [(post.otp, post.resync, post.answer) for post in pingone.posts if post.device_id == token.device_id]
        assert posts == (extra if token.is_out_of_step else [(first, None, "ACTIVE")])
    told = {
        **{"batch": "shipment", "environment": "default", "state": "finished", "reason": None, "dead_letters": {}},
        **{"total": 20, "rows_refused": 0, "counts": NOTHING | {"active": 20}, "resynced": 4, "attempts": 20},
        **{"otp_posts": 24, "requests": 24, "rate_limited": 0},
    }
    assert {name: result.json[name] for name in told} == told
    assert result.json["finished_at"] > result.json["created_at"]


def test_dead_letters_and_refused_rows_end_a_run_with_1_and_nothing_of_an_otp_lies_readable_or_is_printed(set_up):
    tokens = make_tokens(6, out_of_step=1, wrong=2)
    desk, pingone = set_up(tokens)
    with (desk.folder / "shipment.csv").open("a") as file:
        file.write("ACME99999,12,34,no-user,no-device\n")
    result = desk.oathbulk("run", "shipment.csv")
    assert (result.code, "row 8 (ACME99999): " in result.stderr) == (1, True)
    # A dead letter is a failed task, of which the log needs no traceback.
    log = (desk.home / "logs" / "worker.log").read_text()
    assert ("Traceback" in log, "dead letter" in log) == (False, False)
    told = (
        "Loaded 6 records as batch shipment; 1 row failed.",
        "rows active to do failed closed 7 4 0 3 0 ",
        "mend the row with two fresh, consecutive OTPs",
    )
    assert [words for words in told if words not in " ".join(result.stdout.split())] == []
    assert desk.oathbulk("run", "shipment.csv").code == 1
    # Each refused OTP went once, and its device was read before it was given up.
    assert (set(pingone.times_posted().values()), len(pingone.reads)) == ({1}, 2)

    assert desk.home.stat().st_mode & 0o777 == 0o700
    kept = [path.read_bytes() for path in desk.home.rglob("*") if path.is_file()]
    for token in tokens:
        for options in ((), ("--json",)):
            shown = desk.oathbulk("show", token.serial, *options)
            assert (shown.code, token.serial in shown.stdout) == (0, True)
            kept.append(shown.stdout.encode())
    everything = b"\n".join(kept)
    # Eight digits among hexadecimal ones are part of somebody's id, and behind a point of a time.
    alone = rb"(?<![0-9a-f.])%s(?![0-9a-f])"
    assert [otp for token in tokens for otp in token.otps if re.search(alone % otp.encode(), everything)] == []
    assert [secret for secret in (b"a secret: with", b"stand-in-access-token") if secret in everything] == []


@pytest.mark.faults
def test_beside_a_run_everything_works_but_a_second_run(set_up):
    desk, pingone = set_up(make_tokens(16))
    write_shipment(desk.folder / "other.csv", make_tokens(3, prefix="OTHER"))
    run = start_and_hold(desk, pingone, 4)

    second = desk.oathbulk("run", "other.csv")
    in_use = f"in use by process {run.pid} (`oathbulk run shipment`), which works only on shipment"
    assert (second.code, in_use in second.stderr) == (3, True)
    # A rehearsal has a home of its own.
    for words in ("rehearse --tokens 1", "load other.csv", "cancel other", "export shipment -o beside.csv", "doctor"):
        assert (done := desk.oathbulk(*words.split())).code == 0, done.stdout
    assert desk.status()["counts"] == NOTHING | {"active": 4, "activating": 4, "queued": 8}

    pingone.let_go()
    assert run.wait().code == 0
    # The cancelled batch was left alone.
    assert len(pingone.active) == len(pingone.posts) == 16


def test_a_run_of_one_batch_leaves_the_others_of_the_home_alone_and_a_run_without_a_name_takes_them(set_up):
    desk, pingone = set_up(make_tokens(8))
    waves = [make_tokens(4, prefix=f"WAVE{wave}") for wave in (1, 2)]
    for number, wave in enumerate(waves, start=1):
        write_shipment(desk.folder / f"wave-{number}.csv", wave)
        pingone.tokens |= {token.device_id: token for token in wave}
        assert desk.oathbulk("load", f"wave-{number}.csv", "--offline").code == 0
    run = start_and_hold(desk, pingone, 4)
    line = r"shipment: (?=.*4 activating)(?=.*4 active).*; \d+\.\d records/s; .*\."
    wait_until(lambda: re.search(line, run.stderr), "a line tells the counts, the pace and the outlook")
    drawn, written = desk.start_on_terminal("status", "shipment", "--watch"), desk.start("status", "--watch")
    wait_until(lambda: "4 of 8" in drawn.picture(), "one watches the batch")
    wait_until(lambda: "shipment: " in written.stdout, "one watches all")
    # Nobody works on the others, whatever lives here.
    assert "only on shipment" in " ".join(desk.oathbulk("status", "wave-1").stdout.split())
    pingone.let_go()
    result = run.wait()
    told = ("\x1b" in result.stdout + result.stderr, "every row is active" in result.stdout)
    assert (result.code, *told) == (0, False, True)
    # A watch of one batch ends with it.
    assert (drawn.wait(), "8 of 8 active" in drawn.picture()) == (0, True)
    assert "Not worked on here: wave-1, wave-2. To work on all running batches: oathbulk run\n" in result.stderr
    assert [desk.status(f"wave-{number}")["counts"]["pending"] for number in (1, 2)] == [4, 4]
    assert len(pingone.posts) == len(pingone.active) == 8

    everything = desk.oathbulk("run")
    assert (everything.code, "Working on wave-1, wave-2.\n" in everything.stderr) == (0, True), everything.stderr
    assert len(pingone.posts) == len(pingone.active) == 16
    # That of all batches ends with the last of them.
    watched = written.wait()
    (*_, last) = [line for line in watched.stdout.splitlines() if line.startswith("wave-2: ")]
    assert (watched.code, "4 active" in last) == (0, True)
    # There is nothing more, and it says so.
    idle = desk.oathbulk("run")
    assert (idle.code, "no batch is running" in idle.stderr) == (2, True)


def test_a_mend_beside_the_run_of_its_batch_says_that_the_run_works_on_it(set_up):
    tokens = make_tokens(6)
    desk, pingone = set_up(tokens)
    write_shipment(desk.folder / "more.csv", tokens)
    write_shipment(desk.folder / "shipment.csv", tokens[:5])
    run = start_and_hold(desk, pingone, 1)
    mended = desk.oathbulk("mend", "shipment", "more.csv")
    told = f"· run_going_on: The current run (process {run.pid}) is also working on these rows,"
    assert (mended.code, told in mended.stdout, "not known" in mended.stdout) == (0, True, False), mended.stdout
    pingone.let_go()
    assert (run.wait().code, len(pingone.active)) == (0, 6)


def test_a_terminal_shows_counts_pace_time_left_resyncs_and_429s(set_up):
    desk, pingone = set_up(make_tokens(60, out_of_step=10))
    pingone.refusals.append(Refusal(429, "REQUEST_LIMITED", "LIMIT_EXCEEDED", {"Retry-After": "1"}))
    pingone.hold_after(36)
    terminal = desk.start_on_terminal("run", "shipment.csv")

    wait_until(lambda: pingone.held == 4, "four calls are held")
    active = len(pingone.active)
    counts = f"rows active to do failed closed 60 {active} {60 - active} 0 0 "

    def full_picture():
        picture = terminal.picture()
        # One that was answered counts as activating until that is written down.
        is_full = counts in picture and "4 activating" in picture and "The search for the best pace" in picture
        return picture if is_full else None

    picture = wait_until(full_picture, "the picture shows a batch in full swing")
    for told in (
        rf"^shipment running .* {active} of 60 ",
        r"(?<![\d.])(?!0\.0 )[\d.]+ records/s",
        "10 resynced",
        "1 answered 429 · ",
    ):
        assert re.search(told, picture), picture

    terminal.press_ctrl_c()
    wait_until(lambda: "waiting for calls in flight" in terminal.read(), "it says what it waits for")
    pingone.let_go()
    assert terminal.wait() == 130
    # The cursor, which a live picture hides, is there again.
    assert terminal.read().rindex("\x1b[?25h") > terminal.read().rindex("\x1b[?25l")
    assert "Continue with: oathbulk run shipment" in terminal.picture()
    assert not desk.processes()


def test_what_failed_in_passing_comes_back_by_itself_when_it_is_due_and_a_refused_row_alone_is_a_1(set_up):
    desk, pingone = set_up(make_tokens(12), _OATHBULK_TUNING__read_delay="1.5")
    with (desk.folder / "shipment.csv").open("a") as file:
        file.write("ACME99999,12,34,no-user,no-device\n")
    pingone.refusals.extend([Refusal(500, "UNEXPECTED_ERROR")] * 3)
    result = desk.oathbulk("run", "shipment.csv", "--json")
    assert (result.code, result.json["rows_refused"]) == (1, 1), result.stderr
    assert len(pingone.active) == 12
    failed = {post.device_id: post for post in pingone.posts if post.answer == "UNEXPECTED_ERROR"}
    # Each was read before its OTP went again, and not before its time.
    assert {device_id for device_id, _ in pingone.reads} == set(failed)
    assert all(read_at - failed[device_id].arrived_at >= 1.5 for device_id, read_at in pingone.reads)
    assert [count for (device_id, _), count in pingone.times_posted().items() if device_id in failed] == [2, 2, 2]
    assert (result.json["attempts"], result.json["otp_posts"], result.json["requests"]) == (15, 15, 18)


def test_the_replay_schedule_replays_what_time_may_mend_and_nothing_else(set_up, valkey_url):
    tokens = make_tokens(6, wrong=1)
    desk, pingone = set_up(tokens, OATHBULK_REDIS_URL=valkey_url, OATHBULK_REPLAY_CRON="0 4 1 1 *")
    # Two are of TOTP, and stale: not one of their OTPs is sent.
    stale, then = {token.device_id for token in tokens[3:5]}, (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    columns = {"otp_type": 3 * [""] + 2 * ["totp"] + [""], "generated_at": 3 * [""] + 2 * [then] + [""]}
    write_shipment(desk.folder / "shipment.csv", tokens, **columns)
    missing = pingone.tokens.pop(tokens[0].device_id)
    # The first load makes the key, without which a worker ends.
    accepted = ("--accept", "token_not_in_inventory", "--accept", "stale_otp")
    assert desk.oathbulk("load", "shipment.csv", *accepted).code == 0
    # Workers as in production, started by hand.
    for part in ("worker", "beat"):
        desk.start_program(CELERY, "-A", "worker", part, "-l", "WARNING")
    wait_until(lambda: desk.status()["state"] == "finished", "an end")
    assert desk.status()["dead_letters"] == {"device_not_found": 1, "invalid_otp": 1, "stale_otp": 2}
    pingone.tokens[missing.device_id] = missing

    assert desk.start_program(CELERY, "-A", "worker", "call", "oathbulk.replay").wait().code == 0
    wait_until(lambda: desk.status()["counts"]["active"] == 3, "the missing is active")
    assert desk.status()["dead_letters"] == {"invalid_otp": 1, "stale_otp": 2}
    # A refused OTP never goes again, whatever is replayed.
    assert pingone.times_posted()[tokens[5].device_id, tokens[5].otps[0]] == 1
    assert not stale & {post.device_id for post in pingone.posts}


def test_the_schedule_runs_only_if_a_person_set_it(desk):
    program = (
        "from worker.celery import app; print({e['task']: str(e['schedule']) for e in app.conf.beat_schedule.values()})"
    )

    unset, known = (
        desk.start_program(sys.executable, "-c", program, OATHBULK_REDIS_URL="redis://", **each).wait().stdout
        for each in ({}, {"OATHBULK_REPLAY_CRON": "15 3 * * 1"})
    )
    assert ("oathbulk.dispatch" in unset, "oathbulk.replay" in unset) == (True, False)
    assert "15 3 * * 1" in known.partition("oathbulk.replay")[2]


@pytest.mark.faults
def test_a_batch_pauses_once_another_home_activates_its_devices_and_not_for_what_was_active_before(set_out, tmp_path):
    """The other home does all of it between two attempts of this one. A third one finds everything ACTIVE."""
    desk, simulator = set_out(make_shipment(24))
    other, third = ({"OATHBULK_HOME": str(tmp_path / name)} for name in ("other", "third"))
    assert desk.oathbulk("run", "shipment.csv", "--canary", "2").code == 4
    assert desk.oathbulk("resume", "shipment").code == 0
    assert desk.oathbulk("run", "shipment.csv", **other).code == 0
    posts = simulator.posts()

    result = desk.oathbulk("run", "shipment", "--json")

    assert (result.code, result.json["reason"]) == (4, PauseReason.SOMEBODY_ELSE), result.stderr
    assert result.json["detail"].endswith(PAUSE_CURES[PauseReason.SOMEBODY_ELSE])
    assert result.json["counts"]["pending"] > 0
    # Five are enough; what was on its way ends.
    assert 5 <= simulator.posts() - posts <= 5 + 2 * int(desk.settings["OATHBULK_CONCURRENCY"])

    finished = desk.oathbulk("run", "shipment.csv", "--json", **third)
    assert (finished.code, finished.json["counts"]["active"]) == (0, 24), finished.stderr


# Whatever comes between a run and its end: signals, kill -9, a pause. Calls are held in flight meanwhile.

# What a dead process held comes back soon.
SHORT_LEASES = {
    "_OATHBULK_TUNING__call_deadline": "3",
    "_OATHBULK_TUNING__lease_left_for_post": "3.5",
    "_OATHBULK_TUNING__lease": "5",
    "_OATHBULK_TUNING__queue_lease": "5",
}


def list_workers(desk):
    with closing(sqlite3.connect(desk.home / "oathbulk.db")) as database:
        return database.execute("SELECT name FROM process").fetchall()


def test_ctrl_c_settles_what_is_in_hand_and_tells_what_goes_on(set_up):
    desk, pingone = set_up(make_tokens(30, out_of_step=6))
    run = start_and_hold(desk, pingone, 10, "--batch", "pallet 7")
    run.interrupt()
    wait_until(lambda: "waiting for calls in flight" in run.stderr, "it says what it waits for")
    # An impatient person's second one changes nothing, nor does a supervisor's SIGTERM.
    run.interrupt()
    run.terminate()
    pingone.let_go()
    result = run.wait()
    assert (result.code, desk.processes()) == (130, [])
    assert "settled or handed back. Continue with: oathbulk run 'pallet 7'" in result.stderr
    assert "at this pace" not in result.stdout
    status = desk.status("pallet 7")
    # What was in flight was answered, and the answers were written down.
    active, posts = len(pingone.active), len(pingone.posts)
    assert (status["counts"], status["otp_posts"]) == (NOTHING | {"active": active, "pending": 30 - active}, posts)
    # Ten and the four in flight; one of these may have been asked for its second OTP: it is the same attempt.
    assert 14 <= posts <= 18
    # What was loaded needs its file no more.
    (desk.folder / "shipment.csv").unlink()
    assert desk.oathbulk("run", "pallet 7").code == 0
    assert len(pingone.active) == 30
    assert set(pingone.times_posted().values()) == {1}


def test_after_a_kill_9_the_workers_end_and_the_next_run_finishes_and_leaves_other_batches_to_theirs(set_up):
    desk, pingone = set_up(make_tokens(4), **SHORT_LEASES | {"_OATHBULK_TUNING__queue_lease": "600"})
    wave = make_tokens(20, prefix="WAVE", out_of_step=4)
    write_shipment(desk.folder / "wave.csv", wave)
    pingone.tokens |= {token.device_id: token for token in wave}
    assert desk.oathbulk("load", "wave.csv", "--offline").code == 0
    pingone.hold_after(0)
    everything = desk.start("run")
    wait_until(lambda: pingone.held == 4, "four calls are in flight, and others are queued")
    everything.kill()
    pingone.let_go()
    wait_until(lambda: not desk.processes("worker", "beat"), "worker and beat end by themselves")
    assert desk.status("wave")["counts"]["queued"] > 0
    assert desk.oathbulk("run", "shipment.csv").code == 0
    assert desk.status("wave")["counts"]["queued"] == 0
    assert desk.oathbulk("run", "wave").code == 0
    assert (len(pingone.active), set(pingone.times_posted().values())) == (24, {1})
    assert not desk.processes()


def test_a_run_outlives_a_killed_worker_and_a_killed_valkey(set_up):
    # What waited in the Valkey that was killed does not wait for its queue leases.
    desk, pingone = set_up(make_tokens(24), **SHORT_LEASES | {"_OATHBULK_TUNING__queue_lease": "600"})
    run = start_and_hold(desk, pingone, 8)
    victims = desk.processes("worker", "beat", "valkey-server")
    assert len(victims) == 3
    desk.kill(*victims)
    pingone.let_go()
    result = run.wait()
    assert (result.code, len(pingone.active)) == (0, 24), result.stderr
    # The killed calls reached PingOne: their devices were read, and no OTP went again.
    assert (set(pingone.times_posted().values()), len(pingone.reads)) == ({1}, 4)
    # The one that was killed is not taken for alive, as it would be for half a minute.
    assert list_workers(desk) == []


@pytest.mark.faults
def test_a_run_waits_through_a_pause_from_beside_and_goes_on_with_the_resume(set_up):
    desk, pingone = set_up(make_tokens(16, out_of_step=4), OATHBULK_ACTOR="alice")
    run = start_and_hold(desk, pingone, 0)
    assert desk.oathbulk("pause", "shipment").code == 0
    pingone.let_go()
    waits = "Paused by alice; waits for `oathbulk resume shipment`."
    wait_until(lambda: f"16 pending; 0.0 records/s; {waits}" in run.stderr, "it says what it waits for")
    # The four in flight were answered and settled; not even the second OTP that the answers ask for went out.
    assert [post.answer for post in pingone.posts] == ["EXTRA_OTP_REQUIRED"] * 4
    status = desk.status()
    assert (status["reason"], status["counts"], status["otp_posts"]) == ("person", NOTHING | {"pending": 16}, 4)
    # Ctrl-C ends it meanwhile; and a run that finds it paused waits too.
    run.interrupt()
    result = run.wait()
    how = "Continue with: oathbulk resume shipment, then oathbulk run shipment"
    assert (result.code, f"This run has ended. {how}" in " ".join(result.stdout.split())) == (130, True)
    assert f"settled or handed back. {how}" in result.stderr
    again = desk.start("run", "shipment")
    wait_until(lambda: waits in again.stderr, "it waits again")
    assert len(pingone.posts) == 4

    wait_until(lambda: list_workers(desk), "its worker gives a sign of life")
    # Celery would start one in its place, of the same pid, that does not end with a killed run.
    (worker,) = desk.processes("worker")
    os.kill(worker, signal.SIGHUP)
    wait_until(lambda: desk.processes("worker") not in ([], [worker]), "there is another worker")
    assert desk.oathbulk("resume", "shipment").code == 0
    assert (again.wait().code, len(pingone.active)) == (0, 16)
    assert set(pingone.times_posted().values()) == {1}


@pytest.mark.faults
def test_a_cancel_from_beside_ends_a_run_and_a_replay_takes_it_back(set_up):
    desk, pingone = set_up(make_tokens(16))
    run = start_and_hold(desk, pingone, 4, "--json")
    assert desk.oathbulk("cancel", "shipment").code == 0
    pingone.let_go()
    result = run.wait()
    assert (result.code, result.json["state"]) == (1, "cancelled")
    # What was in flight had reached PingOne: it ends as PingOne has it.
    assert result.json["counts"] == NOTHING | {"active": 8, "cancelled": 8}

    assert desk.oathbulk("replay", "shipment").code == 0
    assert desk.oathbulk("run", "shipment.csv").code == 0
    assert (len(pingone.active), set(pingone.times_posted().values())) == (16, {1})


# What a webhook is told. That of many workers one tells it, and once, is in integration/test_notices.py.

SECRET = "a secret that nobody guesses"
PAGE = b"<!doctype html><title>Not here</title>"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s" % (len(PAGE), PAGE)


@pytest.fixture
def webhook():
    with RawServer(lambda: [b"HTTP/1.1 204 No Content\r\n\r\n"]) as server:
        yield server


def read_notices(webhook):
    """What came, each notice signed; how, unit/notices/ checks."""
    assert all(b"X-Oathbulk-Signature: sha256=" in request for request in webhook.requests)
    return [json.loads(request.partition(b"\r\n\r\n")[2]) for request in webhook.requests]


def test_a_run_tells_once_that_its_batch_is_finished(set_up, webhook):
    tokens = make_tokens(4)
    settings = {"OATHBULK_WEBHOOK_URL": f"{webhook.url}/hook/path", "OATHBULK_WEBHOOK_SECRET": SECRET}
    desk, _ = set_up(tokens, **settings)
    told = [desk.oathbulk("run", "shipment.csv") for _ in range(2)]

    assert [result.code for result in told] == [0, 0]
    assert [notice["text"] for notice in read_notices(webhook)] == ["shipment is finished: 4 of 4 rows are active."]
    hidden = [SECRET, *(part for token in tokens for part in (token.serial, token.user_id, *token.otps))]
    assert not [part for part in hidden if part.encode() in webhook.requests[0]]
    doctor = desk.oathbulk("doctor").stdout
    (line,) = [line for line in doctor.splitlines() if line.startswith("✓ webhook ")]
    assert line.endswith(f"{webhook.url}, signed")
    logs = "".join(path.read_text() for path in desk.folder.rglob("*.log"))
    assert not [part for part in (SECRET, "/hook/path") if part in doctor + logs + told[0].stdout + told[0].stderr]


@pytest.mark.faults
def test_a_run_whose_people_cannot_be_looked_up_says_so_and_goes_on_when_pingone_is_there(tmp_path, webhook):
    """What answers in PingOne's place has a page for whatever is asked."""
    tenant = stand_in_box.BoxTenant(stand_in_box.make_tokens(3))
    hook = {"OATHBULK_WEBHOOK_URL": webhook.url, "OATHBULK_WEBHOOK_SECRET": SECRET}
    with (
        RawServer(lambda: [NOT_FOUND]) as proxy,
        WholeWayStandIn(tenant, loses=(), loses_every=10**9) as pingone,
        CommandDesk(tmp_path / "desk", pingone.settings, hook, {"_OATHBULK_TUNING__first_records": "0"}) as desk,
    ):
        stand_in_box.write_box(desk.folder, list(tenant.tokens.values()))
        words = ("box.csv", "--assign", "who.csv", "--import", "--pair", "--offline")
        run = desk.start("run", *words, PINGONE_API_URL=f"{proxy.url}/v1")
        # Each call is tried for up to ten seconds, and the second comes five later.
        wait_until(lambda: "Paused (outage)" in run.stderr, "the run tells the outage")
        line = next(line for line in run.stderr.splitlines() if "Paused (outage)" in line)
        said = (
            "3 wait until their person is found. Paused (outage): PingOne has not answered; the next try",
            "HTTP 404.",
            "check PINGONE_API_URL, the proxy, and the network with `oathbulk doctor`",
        )
        assert [words for words in said if words not in line] == []
        assert desk.oathbulk("status", "box", "--check").code == 5
        wait_until(lambda: read_notices(webhook), "the webhook is told")
        assert [notice["event"] for notice in read_notices(webhook)] == ["paused_for_now"]
        run.interrupt()
        assert run.wait().code == 130

        # It is the same batch, and PingOne is there.
        result = desk.oathbulk("run", "box")
        assert (result.code, tenant.active) == (0, set(tenant.tokens)), result.stderr
        assert desk.oathbulk("status", "box", "--check").code == 0
