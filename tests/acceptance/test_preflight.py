"""The preflight before a load or a run, as a person meets it: what it refuses, what it asks, and what it lets pass.
What each finding says is in unit/preflight/."""

import csv
import re
import shlex
from datetime import UTC, datetime, timedelta

import pytest
from support.data.tokens import make_tokens, write_shipment

from worker.simulator.shipment import make_shipment

OLD = {"createdAt": (datetime.now(UTC) - timedelta(hours=21)).isoformat()}
POLICIES = "deviceAuthenticationPolicies"
LOCKS_EARLY = {"oathToken": {"enabled": True, "otp": {"failure": {"count": 2}}}}
ALL_READS = {"capabilities", POLICIES, "mfaSettings", "oathTokens"}


def age_devices(pingone, tokens):
    """Let the devices of these tokens be 21 hours old."""
    pingone.tenant |= {f"users/{token.user_id}/devices": OLD for token in tokens}


def batches(desk):
    return [batch["batch"] for batch in desk.oathbulk("status", "--json").json["batches"]]


def test_what_stops_a_shipment_is_a_2_and_nothing_is_written(set_up):
    desk, pingone = set_up(make_tokens(3))
    pingone.tenant[POLICIES] = {"oathToken": {"enabled": False}}
    # No --accept helps.
    assert "--accept" in desk.oathbulk("load", "shipment.csv", "--accept", "method_off").stderr
    result = desk.oathbulk("load", "shipment.csv", "--accept", "notification")
    off = "The policy Office does not permit OATH tokens"
    assert (result.code, f"✗ method_off: {off}: enable them" in result.stdout) == (2, True)
    assert f"oathbulk: shipment.csv: nothing was loaded. {off}" in result.stderr
    assert (batches(desk), pingone.posts) == ([], [])


def test_what_is_asked_goes_on_when_the_printed_command_is_pasted_and_is_kept_in_the_audit(set_up):
    tokens = make_tokens(3)
    desk, pingone = set_up(tokens)
    age_devices(pingone, tokens[:2])
    pingone.tenant[POLICIES] = LOCKS_EARLY
    words = ("run", "shipment.csv", "--batch", "pallet 7", "--ticket", "CHG 4711", "--canary", "2")
    assert desk.oathbulk(*words, "--json").json["blocking"] == ["locks_early", "devices_old"]
    # Who accepts one thing is asked about the other.
    asked = desk.oathbulk(*words, "--accept", "locks_early")
    assert re.search(r"\? devices_old \(.+\): Devices that have waited for activation .+: 2", asked.stdout)
    assert "nothing was loaded, because of questions about devices_old." in asked.stderr
    assert (asked.code, batches(desk), pingone.posts) == (2, [], [])

    (line,) = [line for line in asked.stderr.splitlines() if line.startswith("To accept: oathbulk ")]
    typed = desk.oathbulk(*shlex.split(line.removeprefix("To accept: oathbulk ")))

    assert (typed.code, "? devices_old (accepted" in typed.stdout) == (4, True), typed.stderr
    line = desk.oathbulk("audit", "pallet 7", "--json").json["lines"][0]
    assert (line["action"], line["ticket"], line["facts"]["canary"]) == ("load", "CHG 4711", 2)
    assert line["facts"]["accepted"] == ["locks_early", "devices_old"]


@pytest.mark.parametrize("command", ["load", "check", "run"])
def test_a_load_a_check_and_a_run_name_the_hosts_before_they_call_them(desk, command):
    write_shipment(desk.folder / "shipment.csv", make_tokens(2))
    (desk.folder / ".env").write_text("PINGONE_API_URL='http://127.0.0.2:1/v1'\n")
    result = desk.oathbulk(command, "shipment.csv", PINGONE_API_URL="http://localhost:1/v1")
    hosts = "PingOne's API is called at localhost, and access tokens come from 127.0.0.1.\n"
    if command == "run":
        not_read = f"./.env is not read: settings come from {desk.home / '.env'}; use --env-file .env\n"
        before = f"Home: {desk.home}\n{not_read}{hosts}oathbulk: PingOne is out of reach"
        assert (result.code, result.stderr.startswith(before)) == (3, True), result.stderr
        return
    assert result.stderr.startswith(hosts)
    assert "not known: what PingOne would say: PingOne is out of reach" in result.stdout
    assert "PingOne's API" not in desk.oathbulk(command, "shipment.csv", "--offline").stderr


def test_a_load_goes_on_where_pingone_cannot_be_asked_and_a_run_does_not(set_up):
    desk, pingone = set_up(make_tokens(2))
    write_shipment(desk.folder / "more.csv", make_tokens(2, prefix="MORE"))
    untold = "· not known: what PingOne would say: "
    away = desk.oathbulk("load", "more.csv", OATHBULK_REDIS_URL="redis://127.0.0.1:1/0")
    assert (away.code, f"{untold}Redis is out of reach" in away.stdout) == (0, True), away.stdout

    pingone.knows_client = False
    assert (desk.oathbulk("run", "shipment.csv").code, batches(desk)) == (3, ["more"])
    checked = desk.oathbulk("check", "shipment.csv")
    mend = "PingOne could not be asked: fix that, or skip it with --offline."
    assert (checked.code, mend in checked.stderr) == (1, True)
    loaded = desk.oathbulk("load", "shipment.csv")
    assert f"{untold}PingOne refused the worker application's credentials" in loaded.stdout
    assert (loaded.code, pingone.tenant_reads) == (0, [])


def test_a_file_that_is_a_batch_already_is_not_examined_again_and_told_so(set_up):
    tokens = make_tokens(4, wrong=1)
    desk, pingone = set_up(tokens)
    assert desk.oathbulk("load", "shipment.csv").code == 0
    reads = len(pingone.tenant_reads)
    assert set(pingone.tenant_reads[: len(ALL_READS)]) == ALL_READS
    age_devices(pingone, tokens)
    assert desk.oathbulk("run", "shipment.csv").code == 1
    assert (len(pingone.active), len(pingone.tenant_reads)) == (3, reads)
    checked = desk.oathbulk("check", "shipment.csv", "--json")
    (finding,) = checked.json["findings"]
    assert (checked.code, finding["name"], finding["level"], finding["tokens"]) == (1, "loaded_already", "note", 4)


@pytest.mark.parametrize(
    ("command", "token_path", "told"),
    [
        ("run", "", "PingOne answered none of the reads: the answer from PINGONE_API_URL={}/v1 was HTTP 404."),
        ("load", "/elsewhere", "PINGONE_TOKEN_URL={}/elsewhere was HTTP 404"),
    ],
)
def test_what_answers_in_pingones_place_is_told_in_one_line_and_nothing_is_written(set_up, command, token_path, told):
    desk, pingone = set_up(make_tokens(2))
    pingone.gateway_answers = 404
    elsewhere = {"PINGONE_TOKEN_URL": f"{pingone.url}{token_path}"} if token_path else {}
    result = desk.oathbulk(command, "shipment.csv", **elsewhere)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("oathbulk: ")]
    assert (result.code, told.format(pingone.url) in line) == (3, True), line
    assert batches(desk) == []


def test_a_check_gives_each_row_the_verdict_that_the_load_then_acts_on(set_up):
    tokens = make_tokens(5)
    desk, pingone = set_up(tokens)
    write_shipment(desk.folder / "first.csv", tokens[:2])
    assert desk.oathbulk("run", "first.csv").code == 0
    write_shipment(desk.folder / "second.csv", tokens[2:3])
    assert desk.oathbulk("load", "second.csv").code == 0
    write_shipment(desk.folder / "shipment.csv", [*tokens, tokens[4]])
    age_devices(pingone, tokens[3:4])
    for options, verdict in ((), "refused"), (("--only-new",), "left_out"):
        checked = desk.oathbulk("check", "shipment.csv", *options, "--json", "-o", "verdicts.csv", "--overwrite")
        counts = [checked.json[name] for name in ("rows", "rows_refused", "left_out", "doubtful")]
        assert (checked.code, counts) == (1, [2, 2, 2, 1] if options else [2, 4, 0, 1])
        with (desk.folder / "verdicts.csv").open(newline="") as file:
            verdicts = [line["verdict"] for line in csv.DictReader(file)]
        assert verdicts == [verdict, verdict, "refused", "devices_old", "ready", "refused"]

    loaded = desk.oathbulk("load", "shipment.csv", "--only-new", "--accept", "devices_old", "--json")

    assert (loaded.code, [loaded.json[name] for name in ("total", "rows_refused", "left_out")]) == (1, [2, 2, 2])
    assert loaded.json["refused"] == checked.json["refused"]


def test_a_large_shipment_costs_a_bounded_number_of_requests_and_says_whom_it_asked(set_out):
    """A constant, one request for 40 users, and one for a page of the inventory."""
    desk, simulator = set_out(make_shipment(400), page_size=100)
    header, *rows = (desk.folder / "shipment.csv").read_text().splitlines()
    named = [f"{row},person-{number}" for number, row in enumerate(rows)]
    (desk.folder / "shipment.csv").write_text("\n".join([f"{header},username", *named, ""]))
    persons = enumerate(simulator.shipment.rows)
    simulator.seed(users=[{"user_id": row.user_id, "username": f"person-{number}"} for number, row in persons])

    checked = desk.oathbulk("check", "shipment.csv", "--json")

    assert checked.code == 0, checked.stdout
    assert [finding["name"] for finding in checked.json["findings"]] == ["devices_sampled"]
    assert checked.json["requests"] == 3 + 400 / 40 + 400 / 100 + 50
