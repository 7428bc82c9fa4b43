"""Made-up tokens: their OTPs by the tables of RFC 4226 and RFC 6238, how the server's side judges an OTP, the files of
shipments and boxes, and whether each record ends as `expected` says. And `oathbulk simulator`, which makes them up and
serves them, as a process of its own."""

import csv
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict

import httpx
import pytest
import typer
from support.processes.waiting import wait_until
from typer.testing import CliRunner

from worker.cli.simulator import simulator
from worker.intake.files import Hints
from worker.intake.lists import open_assignment
from worker.intake.shipment import open_shipment
from worker.simulator.oath import FIRST_OTP_REMEMBERED, Token, Verdict, hotp, time_step_at
from worker.simulator.shipment import (
    A_FEW_HOPELESS,
    MENDED_BY_FRESH_OTPS,
    SPECIAL,
    Expected,
    PairRow,
    a_few_of_each,
    make_box,
    make_shipment,
)
from worker.simulator.world import (
    CLIENT_ID,
    CLIENT_SECRET,
    ENVIRONMENT_ID,
    Settings,
    World,
    WorldSeed,
    add_to_world,
)

SECRET = b"12345678901234567890"
SECRETS = {"sha1": SECRET, "sha256": (SECRET * 2)[:32], "sha512": (SECRET * 4)[:64]}
HOTP_TABLE = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]
TOTP_TABLE = {
    59: ("94287082", "46119246", "90693936"),
    1111111109: ("07081804", "68084774", "25091201"),
    1111111111: ("14050471", "67062674", "99943326"),
    1234567890: ("89005924", "91819424", "93441116"),
    2000000000: ("69279037", "90698825", "38618901"),
    20000000000: ("65353130", "77737706", "47863826"),
}
ACCEPTED, EXTRA, REFUSED = Verdict.ACCEPTED, Verdict.EXTRA_OTP_REQUIRED, Verdict.REFUSED
NOW = 1_000_000_000.0
STEP = time_step_at(NOW, 30)


def test_otps_are_those_of_the_rfcs():
    assert [hotp(SECRET, counter) for counter in range(10)] == HOTP_TABLE
    for now, otps in TOTP_TABLE.items():
        found = [hotp(secret, time_step_at(now, 30), 8, name) for name, secret in SECRETS.items()]
        assert tuple(found) == otps
    assert hotp(bytes.fromhex("a087daeb6fffc0811cccc88dfaf9cb509e3361cf"), 2) == "000634"


# What is offered one after the other: the position, whether with `oathResync`, after so many seconds, and what the
# server says of it. Of a clock, positions are time steps ahead of the server's.
FROM_FIVE, CLOCK = {"counter": 5}, {"type": "totp"}
STORIES = {
    "in the window, its first and last": (FROM_FIVE, [(5, False, 0, ACCEPTED), (15, False, 0, ACCEPTED)]),
    "beyond the window it asks for another": (
        FROM_FIVE,
        [(15, False, 0, EXTRA), (16, True, 0, ACCEPTED), (15, False, 0, REFUSED)],
    ),
    "as far as it looks": (FROM_FIVE, [(104, False, 0, EXTRA)]),
    "out of range, or passed": (FROM_FIVE, [(105, False, 0, REFUSED), (4, False, 0, REFUSED)]),
    "never twice": (
        FROM_FIVE,
        [(8, False, 0, ACCEPTED), (8, False, 0, REFUSED), (7, False, 0, REFUSED), (9, False, 0, ACCEPTED)],
    ),
    "the second without oathResync": (FROM_FIVE, [(50, False, 0, EXTRA), (51, False, 0, REFUSED)]),
    "a second that does not follow": (FROM_FIVE, [(50, False, 0, EXTRA), (52, True, 0, REFUSED)]),
    "a refusal ends the resync": (
        FROM_FIVE,
        [(50, False, 0, EXTRA), (49, True, 0, REFUSED), (51, True, 0, EXTRA)],
    ),
    "another pair begins anew": (
        FROM_FIVE,
        [(50, False, 0, EXTRA), (60, False, 0, EXTRA), (61, True, 0, ACCEPTED)],
    ),
    "the first once more": (FROM_FIVE, [(50, False, 0, EXTRA), (50, True, 0, EXTRA), (51, True, 0, ACCEPTED)]),
    "the first is forgotten in time": ({}, [(50, False, 0, EXTRA), (51, True, FIRST_OTP_REMEMBERED, EXTRA)]),
    "out of step it needs two wherever it stands": (
        {"out_of_step": True},
        [(0, False, 0, EXTRA), (1, True, 0, ACCEPTED), (2, False, 0, ACCEPTED)],
    ),
    "around the time": (CLOCK, [(1, False, 0, ACCEPTED)]),
    "the step before": (CLOCK, [(-1, False, 0, ACCEPTED), (-1, False, 0, REFUSED), (1, False, 30, ACCEPTED)]),
    "too late, or too early": (CLOCK, [(2, False, 0, EXTRA), (-20, False, 0, EXTRA), (21, False, 0, REFUSED)]),
    "a clock's drift is learned": (CLOCK, [(5, False, 0, EXTRA), (6, True, 0, ACCEPTED), (16, False, 300, ACCEPTED)]),
}


@pytest.mark.parametrize("story", STORIES)
def test_an_otp_is_judged_by_where_the_token_stands(story):
    fields, offered = STORIES[story]
    token = Token(secret=SECRET, **fields)
    for position, resync, later, verdict in offered:
        otp = hotp(SECRET, position + (STEP if token.type == "totp" else 0))
        assert token.check_otp(otp, resync=resync, now=NOW + later) is verdict


def test_where_only_oath_resync_brings_the_request_for_another():
    token = Token(secret=SECRET)
    offered = ((50, False, REFUSED), (50, True, EXTRA), (5, False, ACCEPTED))
    for position, resync, verdict in offered:
        assert token.check_otp(hotp(SECRET, position), resync=resync, now=NOW, needs_resync=True) is verdict


def test_a_token_without_a_secret_refuses_every_otp():
    assert Token().check_otp("755224", resync=False, now=NOW) is REFUSED


def put_down(shipment):
    world = World()
    add_to_world(world, shipment.world, NOW)
    return world


def end(world, shipment, row):
    """How a record ends if the client sends OTP 1, and OTP 2 when asked for it."""
    device = world.find(shipment.world.environment_id, row.user_id, row.device_id)
    if device is None:
        return Expected("dead_letter", "device_not_found")
    troubles = {
        "account_not_usable": not device.user.can_act,
        "blocked": device.blocked_at,
        "locked": device.is_locked(NOW),
    }
    if reasons := [reason for reason, is_there in troubles.items() if is_there]:
        return Expected("dead_letter", *reasons)
    verdict = device.activate(row.otp1, resync=False, now=NOW, settings=Settings())
    if verdict is not EXTRA:
        return Expected("active") if verdict is ACCEPTED else Expected("dead_letter", "invalid_otp")
    if row.otp2 is None:
        return Expected("dead_letter", "second_otp_missing")
    is_active = device.activate(row.otp2, resync=True, now=NOW, settings=Settings()) is ACCEPTED
    return Expected("active", resynced=True) if is_active else Expected("dead_letter", "resync_failed")


@pytest.mark.parametrize(
    ("count", "seed", "kinds"),
    [
        (400, 3, {"hopeless": dict.fromkeys(A_FEW_HOPELESS, 20)}),
        # With these seeds a token is drawn whose OTP is that of an earlier counter, too, and one whose wrong OTP is
        # good by chance. Such are drawn again.
        (1000, 1, {"out_of_step": 1}),
        (300, 42, {"hopeless": {"wrong_otp": 300}}),
    ],
)
def test_every_row_ends_as_constructed(count, seed, kinds):
    shipment = make_shipment(count, seed=seed, **kinds)
    world = put_down(shipment)
    assert {row.serial: end(world, shipment, row) for row in shipment.rows} == shipment.expected


def test_two_fresh_otps_of_the_token_mend_what_they_are_said_to_mend():
    shipment = make_shipment(60, seed=3, hopeless=dict.fromkeys(MENDED_BY_FRESH_OTPS, 20))
    world = put_down(shipment)
    assert {end(world, shipment, row).status for row in shipment.rows} == {"dead_letter"}
    for row, fresh in zip(shipment.rows, shipment.fresh, strict=True):
        assert {fresh.otp1, fresh.otp2}.isdisjoint({row.otp1, row.otp2})
        assert end(world, shipment, fresh).status == "active"


def test_a_fifth_of_the_others_is_out_of_step_and_a_big_box_has_a_few_of_each_kind():
    shipment, box = make_shipment(107, hopeless=A_FEW_HOPELESS), make_box(100)
    counts = Counter((expected.status, expected.resynced) for expected in shipment.expected.values())
    assert counts == {("active", True): 20, ("active", False): 80, ("dead_letter", False): 7}
    assert sum(expected.resynced for expected in box.expected.values()) == len(box.world.out_of_step) == 20
    assert (box.world.tokens, box.world.devices, len(box.world.users)) == ((), (), 100)
    assert (a_few_of_each(109), a_few_of_each(110)) == ({}, dict.fromkeys(SPECIAL, 1))
    assert a_few_of_each(220, each=2) == dict.fromkeys(SPECIAL, 2)


def test_the_files_of_pairs_say_what_the_shipment_says(tmp_path):
    shipment = make_shipment(20, hopeless=A_FEW_HOPELESS)
    shipment.write_pairs(tmp_path / "pairs.csv")
    shipment.write_world(tmp_path / "world.json")
    with (tmp_path / "pairs.csv").open(newline="") as file:
        rows = [PairRow(**fields | {"otp2": fields["otp2"] or None}) for fields in csv.DictReader(file)]
    assert tuple(rows) == shipment.rows
    assert WorldSeed.model_validate_json((tmp_path / "world.json").read_bytes()) == shipment.world


def test_our_intake_reads_the_files_of_a_box(tmp_path):
    (tmp_path / "box.key").write_text("readable before")
    box = make_box(60, special=dict.fromkeys(SPECIAL, 2))
    box.write(tmp_path)
    assert stat.S_IMODE((tmp_path / "box.key").stat().st_mode) == 0o600
    key, people = bytes.fromhex((tmp_path / "box.key").read_text()), open_assignment(tmp_path / "who.csv")
    rows = list(open_shipment(tmp_path / "box.pskc", hints=Hints(key=key), assignment=people).tokens())
    read = [(row.serial_number, row.email, row.otps.secret.reveal().hex(), row.otps.otp_type) for row in rows]
    assert read == [(token.serial, token.email, token.secret, token.type) for token in box.tokens]
    kinds = [(row.otps.hash_algorithm, row.otps.counter) for row in rows]
    assert kinds == [(token.hash, token.counter) for token in box.tokens]
    assert {row.otps.otp_type for row in rows} | {row.extra["site"] for row in rows} == {
        *("hotp", "totp", "Oslo", "Porto", "Riga")
    }
    expected = json.loads((tmp_path / "expected.json").read_text())
    assert expected == {serial: asdict(end) for serial, end in box.expected.items()}


def test_the_same_number_makes_the_same_tokens(tmp_path):
    for name, seed in (("one", 7), ("same", 7), ("another", 8)):
        make_box(30, seed=seed, special=dict.fromkeys(SPECIAL, 1)).write(tmp_path / name)
    files = {name: (tmp_path / name / "box.pskc").read_bytes() for name in ("one", "same", "another")}
    assert files["one"] == files["same"] != files["another"]
    assert make_shipment(50, seed=1) == make_shipment(50, seed=1) != make_shipment(50, seed=2)


def test_nothing_secret_is_in_a_description():
    box, shipment = make_box(2), make_shipment(2)
    told = f"{box!r} {shipment!r} {Token(secret=SECRET)!r}"
    secrets = [box.tokens[0].secret, box.keys.pre_shared.hex(), shipment.rows[0].otp1, "123456"]
    assert [secret for secret in secrets if secret in told] == []


# The command.

PROGRAM = "import typer; from worker.cli.simulator import simulator; typer.run(simulator)"


@contextmanager
def serving(tmp_path, *arguments):
    """The process, and its port."""
    ready = tmp_path / "ready"
    command = [sys.executable, "-c", PROGRAM, "--port", "0", "--ready-file", ready, *arguments]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            wait_until(lambda: ready.exists() or process.poll() is not None, "it listens or has failed")
            yield process, json.loads(ready.read_text())["port"]
        finally:
            process.kill()


def refused(*arguments):
    """The exit code and complaint of a command line that serves nothing."""
    app = typer.Typer()
    app.command()(simulator)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stderr


def test_it_serves_a_world_until_interrupted(tmp_path):
    device = {"serial": "MADE1", "user_id": "user", "device_id": "device", "secret": b"12345678901234567890".hex()}
    settings = {"page_size": 9, "cool_down": 7}
    (tmp_path / "world.json").write_text(json.dumps({"devices": [device], "settings": settings}))
    options = ["--world", tmp_path / "world.json", "--rate", "50", "--latency", "5", "--set", "failure_count=2"]
    with serving(tmp_path, *options) as (process, port):
        url = f"http://127.0.0.1:{port}"
        token_url = f"{url}/{ENVIRONMENT_ID}/as/token"
        form = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        granted = httpx.post(token_url, data=form).json()
        bearer = {"headers": {"Authorization": f"Bearer {granted['access_token']}"}}
        environment = f"{url}/v1/environments/{ENVIRONMENT_ID}"
        policies = httpx.get(f"{environment}/deviceAuthenticationPolicies", **bearer)
        capabilities = httpx.get(f"{environment}/capabilities", **bearer)
        process.send_signal(signal.SIGINT)
        printed, complaints = process.communicate(timeout=60)
    assert (process.returncode, complaints) == (0, "")
    (policy,) = policies.json()["_embedded"]["deviceAuthenticationPolicies"]
    failure = {"count": 2, "coolDown": {"duration": 7, "timeUnit": "SECONDS"}}
    assert policy["oathToken"]["otp"]["failure"] == failure
    assert capabilities.json()["licenseQuantities"]["rlgMfaRps"] == {"limit": 50}
    told = {"ENVIRONMENT_ID": ENVIRONMENT_ID, "API_URL": f"{url}/v1", "TOKEN_URL": token_url}
    assert [name for name, value in told.items() if f"export PINGONE_{name}={value}\n" not in printed] == []
    assert "OATHBULK_HOME" not in printed


def test_pairs_come_with_the_command_to_run_them_and_their_troubles(tmp_path):
    pairs = tmp_path / "two pairs.csv"
    with serving(tmp_path, "--tokens", "6", "--pairs", pairs, "--troubles", "1") as (process, _):
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
    assert [line for line in printed.splitlines() if line.startswith("oathbulk")] == [f"oathbulk run '{pairs}'"]
    files = [(tmp_path / name).read_text() for name in ("two pairs.csv", "two pairs-fresh.csv")]
    rows, fresh = (list(csv.DictReader(file.splitlines())) for file in files)
    assert (sum(row["otp2"] == "" for row in rows), len(fresh)) == (1, len(MENDED_BY_FRESH_OTPS))
    assert f"Fresh OTPs of those that fail: {tmp_path / 'two pairs-fresh.csv'}\n" in printed


def test_fresh_otps_replace_no_file_that_nobody_named(tmp_path):
    mine = tmp_path / "pairs-fresh.csv"
    mine.write_text("serial,otp1,otp2\nREAL1,123456,234567\n")
    code, printed = refused("--port", "0", "--tokens", "6", "--troubles", "1", "--pairs", tmp_path / "pairs.csv")
    assert (code, f"{mine} exists already" in printed) == (2, True)
    assert (mine.read_text().count("REAL1"), [*tmp_path.iterdir()]) == (1, [mine])


def test_a_box_comes_with_its_files_and_the_command_to_run_it(tmp_path):
    box = tmp_path / "a box"
    with serving(tmp_path, "--tokens", "12", "--box", box, "--troubles", "1", "--seed", "3") as (process, _):
        made = make_box(12, seed=3, special=dict.fromkeys(SPECIAL, 1))
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
    assert sorted(path.name for path in box.iterdir()) == ["box.key", "box.pskc", "expected.json", "who.csv"]
    command = f"oathbulk run '{box}/box.pskc' --key-file '{box}/box.key' --assign '{box}/who.csv' --import --pair"
    assert printed.splitlines()[-1] == command
    assert json.loads((box / "expected.json").read_text()).keys() == made.expected.keys()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--tokens", "5"], "give --tokens with --pairs or --box"),
        (["--box", "here"], "--tokens with --pairs or --box"),
        (["--tokens", "5", "--pairs", "pairs.csv", "--box", "here"], "--tokens with --pairs or --box"),
        (["--troubles", "1"], "--troubles needs --tokens"),
        (["--tokens", "5", "--pairs", "pairs.csv", "--troubles", "2"], "6 tokens with troubles do not fit into 5"),
        (["--tokens", "5", "--box", "here", "--troubles", "1"], "11 tokens with troubles do not fit into 5"),
        (["--tokens", "5", "--box", "/dev/null/here"], "/dev/null/here cannot be written: Not a directory"),
        (["--tokens", "5", "--pairs", "/no/such/pairs.csv"], "/no/such/pairs.csv cannot be written"),
        (
            ["--set", "failure_cuont=5"],
            "--set failure_cuont: unknown setting of the simulator; did you mean failure_count?",
        ),
        (["--set", "failure_count"], "must be NAME=VALUE"),
        (["--rate", "-1"], "settings: rate: Input should be greater than or equal to 0"),
        (["--world", "/no/such/world"], "/no/such/world cannot be read: No such file or directory"),
    ],
)
def test_wrong_usage_is_named(arguments, complaint):
    code, printed = refused("--port", "0", *arguments)
    assert code == 2
    assert complaint in printed


def test_a_wrong_world_is_named_without_what_it_holds(tmp_path):
    device = {"serial": "MADE1", "user_id": "user", "device_id": "device", "secret": "no c0ffee"}
    (tmp_path / "world.json").write_text(json.dumps({"devices": [device]}))
    code, printed = refused("--port", "0", "--world", tmp_path / "world.json")
    assert (code, "devices.0.secret: String should match pattern" in printed, "c0ffee" in printed) == (2, True, False)


@pytest.mark.parametrize("option", ["--pairs", "--box"])
@pytest.mark.parametrize(
    ("host", "reason", "cure"),
    [("127.0.0.1", ": Address already in use", "--port"), ("192.0.2.1", "", "--host")],
    ids=["taken", "no address of this machine"],
)
def test_where_it_cannot_listen_that_is_named_with_the_cure_and_no_file_is_written(
    tmp_path, option, host, reason, cure
):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, printed = refused("--port", port, "--host", host, "--tokens", "12", option, tmp_path / "written")
    assert (code, f"cannot serve at {host} port {port}{reason}" in printed) == (3, True)
    assert printed.endswith(f"; give another {cure}\n")
    assert list(tmp_path.iterdir()) == []


def test_without_its_extra_the_cure_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, printed = refused("--port", "0")
    assert code == 3
    assert "install oathbulk again, as docs/deployment.md says, with the extra `local`" in printed
