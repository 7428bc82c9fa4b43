"""The preflight before a load or a run, as a person meets it: what it refuses, what it asks, and what it lets pass."""

from __future__ import annotations

import csv
import shlex
from datetime import UTC, datetime, timedelta

import pytest
from support.data.tokens import make_tokens, write_shipment

from worker.simulator.shipment import make_shipment

OLD = {"createdAt": (datetime.now(UTC) - timedelta(hours=21)).isoformat()}
POLICIES = "deviceAuthenticationPolicies"
ALL_READS = {"capabilities", POLICIES, "mfaSettings", "oathTokens"}


def age_devices(pingone, tokens):
    """Let the devices of these tokens be 21 hours old."""
    pingone.tenant |= {f"users/{token.user_id}/devices": OLD for token in tokens}


def batches(desk):
    return [batch["batch"] for batch in desk.oathbulk("status", "--json").json["batches"]]


def type_again(desk, result):
    """Paste the command that was printed."""
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Accept it: ")]
    name, *words = shlex.split(line.removeprefix("Accept it: "))
    assert name == "oathbulk"
    return desk.oathbulk(*words)


@pytest.mark.parametrize("command", ["load", "run"])
def test_what_stops_a_shipment_is_a_2_and_nothing_is_written(set_up, command):
    desk, pingone = set_up(make_tokens(3))
    pingone.tenant[POLICIES] = {"oathToken": {"enabled": False}}
    # No --accept helps.
    assert "--accept" in desk.oathbulk(command, "shipment.csv", "--accept", "method_off").stderr
    result = desk.oathbulk(command, "shipment.csv", "--accept", "notification")
    assert result.code == 2
    assert "✗ method_off: The policy Office does not permit OATH tokens: enable them in it" in result.stdout
    assert "oathbulk: shipment.csv: nothing was loaded. The policy Office does not permit OATH tokens" in result.stderr
    assert (batches(desk), pingone.posts) == ([], [])


@pytest.mark.parametrize("command", ["load", "run"])
def test_what_is_asked_goes_on_when_the_printed_command_is_pasted_and_is_kept_in_the_audit(set_up, command):
    tokens = make_tokens(3)
    desk, pingone = set_up(tokens)
    age_devices(pingone, tokens[:2])
    pingone.tenant[POLICIES] = {"oathToken": {"enabled": True, "otp": {"failure": {"count": 2}}}}
    options = ("--batch", "pallet 7", "--ticket", "CHG 4711", "--canary", "2")
    asked = desk.oathbulk(command, "shipment.csv", *options)
    assert asked.code == 2
    assert "? devices_old: Waiting for activation longer than 20 hours: 2 of the devices." in asked.stdout
    assert "nothing was loaded, since it is asked about locks_early, devices_old." in asked.stderr
    assert (batches(desk), pingone.posts) == ([], [])

    typed = type_again(desk, asked)

    assert typed.code == (0 if command == "load" else 4), typed.stderr
    assert "? devices_old (accepted): " in typed.stdout
    (line,) = desk.oathbulk("audit", "pallet 7", "--json").json["lines"][:1]
    assert (line["action"], line["ticket"], line["facts"]["canary"]) == ("load", "CHG 4711", 2)
    assert line["facts"]["accepted"] == ["locks_early", "devices_old"]


def test_who_accepts_one_thing_is_asked_about_the_other(set_up):
    tokens = make_tokens(2)
    desk, pingone = set_up(tokens)
    age_devices(pingone, tokens)
    pingone.tenant[POLICIES] = {"oathToken": {"enabled": True, "otp": {"failure": {"count": 2}}}}
    asked = desk.oathbulk("load", "shipment.csv", "--accept", "locks_early", "--accept", "clock")
    assert "since it is asked about devices_old. " in asked.stderr
    assert type_again(desk, asked).code == 0
    (line,) = desk.oathbulk("audit", "shipment", "--json").json["lines"]
    assert line["facts"]["accepted"] == ["locks_early", "devices_old"]


def test_what_is_good_to_know_is_printed_and_asks_nobody(set_up):
    desk, pingone = set_up(make_tokens(2))
    pingone.tenant[POLICIES] = {"newDeviceNotification": None}
    result = desk.oathbulk("run", "shipment.csv")
    assert result.code == 0
    told = "PingOne writes to people when their token becomes a device: the policy Office says nothing of it."
    assert f"· notification: {told}" in result.stdout


def test_the_json_of_a_load_has_the_findings_whether_it_loads_or_not(set_up):
    tokens = make_tokens(2)
    desk, pingone = set_up(tokens)
    age_devices(pingone, tokens[1:])
    refused = desk.oathbulk("load", "shipment.csv", "--json")
    assert (refused.code, refused.json["blocking"]) == (2, ["devices_old"])
    loaded = desk.oathbulk("load", "shipment.csv", "--json", "--accept", "devices_old")
    assert loaded.code == 0
    (found,) = loaded.json["findings"]
    assert (found["name"], found["level"], found["serials"]) == ("devices_old", "ask", [tokens[1].serial])
    assert loaded.json["not_known"] == []


@pytest.mark.parametrize("command", ["load", "check"])
def test_a_load_and_a_check_name_the_hosts_before_they_call_them(desk, command):
    write_shipment(desk.folder / "shipment.csv", make_tokens(2))
    result = desk.oathbulk(command, "shipment.csv", PINGONE_API_URL="http://localhost:1/v1")
    assert result.stderr.startswith("PingOne's API is called at localhost, access tokens come from 127.0.0.1.\n")
    assert "not known: what PingOne would tell: PingOne is out of reach" in result.stdout
    assert "PingOne's API" not in desk.oathbulk(command, "shipment.csv", "--offline").stderr


def test_offline_pingone_is_asked_nothing(set_up):
    tokens = make_tokens(2)
    desk, pingone = set_up(tokens)
    age_devices(pingone, tokens)
    assert desk.oathbulk("load", "shipment.csv", "--offline").code == 0
    assert desk.oathbulk("check", "shipment.csv", "--offline").code == 1
    assert pingone.tenant_reads == []


def test_a_file_that_is_a_batch_already_is_not_examined_again(set_up):
    tokens = make_tokens(4)
    desk, pingone = set_up(tokens)
    assert desk.oathbulk("load", "shipment.csv").code == 0
    reads = len(pingone.tenant_reads)
    assert set(pingone.tenant_reads[: len(ALL_READS)]) == ALL_READS
    age_devices(pingone, tokens)
    result = desk.oathbulk("run", "shipment.csv")
    assert (result.code, len(pingone.active)) == (0, 4)
    assert len(pingone.tenant_reads) == reads


def test_a_load_goes_on_where_pingone_refuses_the_credentials_and_a_run_does_not(set_up):
    desk, pingone = set_up(make_tokens(2))
    pingone.knows_client = False
    assert desk.oathbulk("run", "shipment.csv").code == 3
    assert batches(desk) == []
    checked = desk.oathbulk("check", "shipment.csv")
    assert checked.code == 1
    assert "PingOne could not be asked: mend that, or leave it out by --offline." in checked.stderr
    loaded = desk.oathbulk("load", "shipment.csv")
    assert loaded.code == 0
    (line,) = [line for line in loaded.stdout.splitlines() if "not known" in line]
    assert line.startswith("· not known: what PingOne would tell: PingOne refused the worker application's credentials")


@pytest.mark.parametrize("command", ["check", "load", "run"])
def test_what_answers_in_pingones_place_is_told_in_one_line_and_nothing_is_written(set_up, command):
    desk, pingone = set_up(make_tokens(2))
    pingone.gateway_answers = 404
    result = desk.oathbulk(command, "shipment.csv")
    assert result.code == 3
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("oathbulk: ")]
    assert line.startswith(f"oathbulk: PingOne answered no read: at PINGONE_API_URL={pingone.url}/v1 came HTTP 404.")
    assert "`oathbulk doctor`" in line
    assert batches(desk) == []


def test_a_token_endpoint_that_is_none_is_told_so_and_offline_goes_on(set_up):
    desk, pingone = set_up(make_tokens(2))
    pingone.gateway_answers = 404
    elsewhere = {"PINGONE_TOKEN_URL": f"{pingone.url}/elsewhere"}
    result = desk.oathbulk("load", "shipment.csv", **elsewhere)
    assert (result.code, batches(desk)) == (3, [])
    assert f"PINGONE_TOKEN_URL={pingone.url}/elsewhere came HTTP 404" in result.stderr
    assert desk.oathbulk("load", "shipment.csv", "--offline", **elsewhere).code == 0


def test_a_load_goes_on_where_the_redis_that_keeps_the_pace_is_away(set_up):
    desk, pingone = set_up(make_tokens(2))
    loaded = desk.oathbulk("load", "shipment.csv", OATHBULK_REDIS_URL="redis://127.0.0.1:1/0")
    assert loaded.code == 0
    assert "not known: what PingOne would tell: Redis is out of reach" in loaded.stdout
    assert pingone.tenant_reads == []


def test_a_read_that_our_role_does_not_permit_is_asked_once_and_is_not_known(set_up):
    desk, pingone = set_up(make_tokens(2))
    pingone.forbidden = {"capabilities", "oathTokens"}
    loaded = desk.oathbulk("load", "shipment.csv", "--json")
    assert loaded.code == 0
    assert [line.partition(":")[0] for line in loaded.json["not_known"]] == ["the license", "the inventory"]
    assert all("HTTP 403" in line for line in loaded.json["not_known"])
    assert sorted(pingone.tenant_reads[:4]) == sorted(ALL_READS)


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
        checked = desk.oathbulk("check", "shipment.csv", *options, "--json", "-o", "verdicts.csv")
        assert checked.code == 1
        left_out = 2 if options else 0
        counts = {name: checked.json[name] for name in ("rows", "rows_refused", "left_out", "doubtful")}
        assert counts == {"rows": 2, "rows_refused": 4 - left_out, "left_out": left_out, "doubtful": 1}
        with (desk.folder / "verdicts.csv").open(newline="") as file:
            verdicts = [line["verdict"] for line in csv.DictReader(file)]
        assert verdicts == [verdict, verdict, "refused", "devices_old", "ready", "refused"]

    loaded = desk.oathbulk("load", "shipment.csv", "--only-new", "--accept", "devices_old", "--json")

    assert loaded.code == 1
    assert (loaded.json["total"], loaded.json["rows_refused"], loaded.json["left_out"]) == (2, 2, 2)
    assert loaded.json["refused"] == checked.json["refused"]


def test_a_large_shipment_costs_a_bounded_number_of_requests_and_says_whom_it_asked(set_out):
    """A constant, one request for 40 users, and one for a page of the inventory."""
    desk, simulator = set_out(make_shipment(400), page_size=100)
    header, *rows = (desk.folder / "shipment.csv").read_text().splitlines()
    named = [f"{row},person-{number}" for number, row in enumerate(rows)]
    (desk.folder / "shipment.csv").write_text("\n".join([f"{header},username", *named, ""]))
    people = [
        {"user_id": row.user_id, "username": f"person-{number}"} for number, row in enumerate(simulator.shipment.rows)
    ]
    simulator.seed(users=people)

    checked = desk.oathbulk("check", "shipment.csv", "--json")

    assert checked.code == 0, checked.stdout
    assert [finding["name"] for finding in checked.json["findings"]] == ["devices_sampled"]
    said = checked.json["findings"][0]["text"]
    assert said.startswith("The devices of 50 of the 400 persons were read, evenly spread over the file;")
    assert checked.json["requests"] == 3 + 400 / 40 + 400 / 100 + 50


def test_devices_that_are_gone_are_asked_about_before_anything_is_spent(set_out):
    desk, simulator = set_out(make_shipment(6, hopeless={"unknown_device": 2}))
    asked = desk.oathbulk("run", "shipment.csv")
    assert asked.code == 2
    assert "? token_not_in_inventory: Not in PingOne's inventory: 2 of the tokens." in asked.stdout
    assert simulator.posts() == 0
    assert type_again(desk, asked).code == 1
    assert len(simulator.active()) == 4


def test_a_file_that_is_a_batch_already_is_told_so(set_up):
    desk, _ = set_up(make_tokens(3, wrong=1))
    assert desk.oathbulk("load", "shipment.csv", "--batch", "pallet 7").code == 0
    for ran in (False, True):
        assert not ran or desk.oathbulk("run", "shipment.csv").code == 1
        checked = desk.oathbulk("check", "shipment.csv")
        assert (checked.code, checked.stderr) == (1, "")
        assert checked.stdout.partition("\n\n")[2] == (
            "· loaded_already: This file is batch pallet 7 already: 3 records. `run` goes on with it, and nothing is "
            "loaded again. How it stands: oathbulk status 'pallet 7'\n"
        )
        (finding,) = desk.oathbulk("check", "shipment.csv", "--json").json["findings"]
        assert (finding["name"], finding["level"], finding["tokens"]) == ("loaded_already", "note", 3)
    assert desk.oathbulk("cancel", "pallet 7").code == 0
    assert "loaded_already" not in desk.oathbulk("check", "shipment.csv").stdout
