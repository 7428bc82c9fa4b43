"""`oathbulk run`, from its first call to its exit code, against a PingOne that is not our simulator."""

from __future__ import annotations

import re

import pytest
from support.data.tokens import make_tokens, write_shipment
from support.processes.waiting import wait_until
from support.servers.stand_in import Refusal

STATUS_KEYS = {
    "batch", "environment", "state", "reason", "total", "rows_refused", "counts", "resynced", "attempts", "otp_posts",
    "requests", "rate_limited", "dead_letters", "created_at", "finished_at",
}  # fmt: skip
# Seconds.
PATIENCE = 60
NOTHING = {"pending": 0, "queued": 0, "activating": 0, "active": 0, "dead_letter": 0, "cancelled": 0}


def test_a_run_activates_every_token_and_costs_no_otp_too_many(set_up):
    tokens = make_tokens(20, out_of_step=4)
    desk, pingone = set_up(tokens)
    result = desk.oathbulk("run", "shipment.csv", "--json")
    assert result.code == 0
    assert (
        result.stderr
        == f"Home: {desk.home}\n" + "PingOne's API is called at 127.0.0.1, access tokens come from 127.0.0.1.\n"
    )
    assert len(pingone.active) == 20
    for token in tokens:
        posts = [(post.otp, post.resync, post.answer) for post in pingone.posts if post.device_id == token.device_id]
        if token.is_out_of_step:
            assert posts == [(token.otps[0], None, "EXTRA_OTP_REQUIRED"), (token.otps[1], True, "ACTIVE")]
        else:
            assert posts == [(token.otps[0], None, "ACTIVE")]
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
    assert (status["resynced"], status["attempts"], status["dead_letters"]) == (4, 20, {})
    assert (status["otp_posts"], status["requests"], status["rate_limited"]) == (24, 24, 0)
    assert status["finished_at"] > status["created_at"]


def test_dead_letters_and_refused_rows_end_a_run_with_1_and_say_what_to_do(set_up):
    desk, pingone = set_up(make_tokens(6, wrong=2))
    with (desk.folder / "shipment.csv").open("a") as file:
        file.write("ACME99999,12,34,no-user,no-device\n")
    result = desk.oathbulk("run", "shipment.csv")
    assert result.code == 1
    # A dead letter is a failed task, of which the log needs no traceback.
    log = (desk.home / "logs" / "worker.log").read_text()
    assert "Traceback" not in log
    assert "dead letter" not in log
    assert "row 8 (ACME99999): " in result.stderr
    assert "Loaded 6 records as batch shipment; 1 row was refused." in result.stdout
    assert "total active dead_letter 6 4 2 " in " ".join(result.stdout.split())
    assert "invalid_otp" in result.stdout
    assert "mend the row with two fresh, consecutive OTPs" in " ".join(result.stdout.split())
    # Each refused OTP went once, and its device was read before it was given up.
    assert set(pingone.times_posted().values()) == {1}
    assert len(pingone.reads) == 2
    again = desk.oathbulk("run", "shipment.csv")
    assert again.code == 1
    assert len(pingone.posts) == 6


def test_a_refused_row_alone_ends_a_run_with_1(set_up):
    desk, _ = set_up(make_tokens(2))
    with (desk.folder / "shipment.csv").open("a") as file:
        file.write("ACME99999,12,34,no-user,no-device\n")
    result = desk.oathbulk("run", "shipment.csv", "--json")
    assert result.code == 1
    assert (result.json["counts"], result.json["rows_refused"]) == (NOTHING | {"active": 2}, 1)


@pytest.mark.faults
def test_beside_a_run_everything_works_but_a_second_run(set_up):
    desk, pingone = set_up(make_tokens(16))
    write_shipment(desk.folder / "other.csv", make_tokens(3, prefix="OTHER"))
    pingone.hold_after(4)
    run = desk.start("run", "shipment.csv")
    wait_until(lambda: pingone.held == 4, PATIENCE, "four calls are in flight")

    second = desk.oathbulk("run", "other.csv")
    assert second.code == 3
    assert f"in use by process {run.pid}, `oathbulk run shipment`, which works on shipment alone" in second.stderr
    # It has a home of its own.
    assert desk.oathbulk("rehearse", "--tokens", "1").code == 0
    assert desk.oathbulk("load", "other.csv").code == 0
    assert desk.oathbulk("cancel", "other").code == 0
    assert desk.status()["counts"] == NOTHING | {"active": 4, "activating": 4, "queued": 8}
    listing = desk.oathbulk("status", "--json").json
    assert [(batch["batch"], batch["total"]) for batch in listing["batches"]] == [("other", 3), ("shipment", 16)]
    assert desk.oathbulk("export", "shipment", "-o", "beside.csv").code == 0
    assert (examined := desk.oathbulk("doctor")).code == 0, examined.stdout

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
    pingone.hold_after(4)
    run = desk.start("run", "shipment.csv")
    wait_until(lambda: pingone.held == 4, PATIENCE, "four calls are in flight")
    # Nobody works on the others, whatever lives here.
    beside = desk.oathbulk("status", "wave-1")
    assert "shipment alone" in " ".join(beside.stdout.split())
    pingone.let_go()
    result = run.wait()
    assert result.code == 0
    assert "Not worked on here: wave-1, wave-2. To work on all that run: oathbulk run\n" in result.stderr
    assert [desk.status(f"wave-{number}")["counts"]["pending"] for number in (1, 2)] == [4, 4]
    assert len(pingone.posts) == len(pingone.active) == 8

    everything = desk.oathbulk("run")
    assert everything.code == 0, everything.stderr
    assert "Works on wave-1, wave-2.\n" in everything.stderr
    assert len(pingone.posts) == len(pingone.active) == 16
    # There is nothing more, and it says so.
    idle = desk.oathbulk("run")
    assert idle.code == 2
    assert "no batch runs" in idle.stderr


def test_credentials_that_are_refused_while_it_runs_pause_it(set_up):
    desk, pingone = set_up(make_tokens(6))
    pingone.refusals.extend([Refusal(401, "ACCESS_FAILED", "INVALID_TOKEN")] * 100)
    result = desk.oathbulk("run", "shipment.csv", "--json")
    assert result.code == 4
    assert (result.json["state"], result.json["reason"]) == ("paused", "credentials")
    assert result.json["counts"] == NOTHING | {"pending": 6}
    # Nothing was spent: the same OTPs go once the credentials are mended.
    assert (result.json["otp_posts"], result.json["attempts"]) == (0, 0)


def test_credentials_that_are_refused_from_the_beginning_are_named(set_up):
    desk, pingone = set_up(make_tokens(2))
    pingone.knows_client = False
    result = desk.oathbulk("run", "shipment.csv")
    assert result.code == 3
    assert "PINGONE_CLIENT_SECRET" in result.stderr
    assert not pingone.posts
    # Nothing was loaded unexamined: mended, the same command begins.
    assert desk.oathbulk("status", "--json").json["batches"] == []
    pingone.knows_client = True
    assert desk.oathbulk("run", "shipment.csv").code == 0


def test_no_otp_and_no_secret_lies_readable_in_the_home(set_up):
    tokens = make_tokens(20, out_of_step=4, wrong=2)
    desk, _ = set_up(tokens)
    assert desk.oathbulk("run", "shipment.csv").code == 1
    assert desk.home.stat().st_mode & 0o777 == 0o700
    kept = b"\n".join(path.read_bytes() for path in desk.home.rglob("*") if path.is_file())
    # All of it was looked at.
    assert tokens[0].serial.encode() in kept
    # Eight digits among hexadecimal ones are part of somebody's id.
    alone = rb"(?<![0-9a-f])%s(?![0-9a-f])"
    shown = [otp for token in tokens for otp in token.otps if re.search(alone % otp.encode(), kept)]
    assert not shown
    assert b"a secret: with" not in kept
    assert b"stand-in-access-token" not in kept
