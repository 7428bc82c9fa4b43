"""`oathbulk plan`, and `--plan` of `load` and `run`: what a person types, and what is refused."""

from __future__ import annotations

import json
import shlex
import subprocess

import pytest
from support.data.tokens import make_tokens, write_shipment

POLICIES = "deviceAuthenticationPolicies"
LOTS = ("L-1", "L-1", "L-1", "L-1", "L-1", "L-2", "L-2", "L-2", "L-2", "L-2")


@pytest.fixture
def desk(set_up):
    """A desk with a shipment of two lots that was never loaded, and a PingOne in good order."""
    desk, _ = set_up(make_tokens(10))
    write_shipment(desk.folder / "shipment.csv", make_tokens(10), lot=LOTS)
    return desk


def make_plan(desk, *options, file="plan.json"):
    """Write a plan, and return it."""
    made = desk.oathbulk("plan", "shipment.csv", *options, "-o", file)
    assert made.code == 0, made.stderr
    return json.loads((desk.folder / file).read_text())


def batches(desk):
    return desk.oathbulk("status", "--json").json["batches"] if desk.home.exists() else []


def test_a_plan_is_approved_and_then_run_and_the_audit_has_its_hash(desk):
    options = ("--batch", "july", "--canary", "10", "--ticket", "CHG-7")
    planned = make_plan(desk, *options)
    # Nothing was changed for it, and the page has the same hash.
    assert not desk.home.exists()
    printed = desk.oathbulk("plan", "shipment.csv", *options, "-o", "plan.html").stdout
    assert f"Wrote plan {planned['plan']} to plan.html" in printed
    page = (desk.folder / "plan.html").read_text()
    assert page.startswith("<!doctype html>")
    assert planned["plan"] in page
    assert planned["columns"] == [{"column": "lot", "values": {"L-1": 5, "L-2": 5}}]

    name, *words = planned["command"].split()
    assert (name, words[0], words[-2:]) == ("oathbulk", "run", ["--plan", planned["plan"]])
    ran = desk.oathbulk(*words)

    assert ran.code == 0, ran.stderr
    (line,) = desk.oathbulk("audit", "july", "--json").json["lines"][:1]
    assert (line["action"], line["ticket"], line["facts"]["plan"]) == ("load", "CHG-7", planned["plan"])


def test_each_form_is_a_private_file_that_sha256sum_takes(desk):
    for name in ("plan.html", "plan.json"):
        assert desk.oathbulk("plan", "shipment.csv", "-o", name).code == 0
        for each in (name, f"{name}.sha256"):
            assert (desk.folder / each).stat().st_mode & 0o777 == 0o600
    sums = ["sha256sum", "--strict", "-c", "plan.html.sha256", "plan.json.sha256"]
    assert subprocess.run(sums, cwd=desk.folder, capture_output=True).returncode == 0


def test_standard_output_gets_the_plan_and_nothing_else(desk):
    assert desk.oathbulk("plan", "shipment.csv", "-o", "-").stdout.startswith("<!doctype html>")
    printed = desk.oathbulk("plan", "shipment.csv", "-o", "-", "--output-format", "json")
    assert printed.json["target"]["batch"] == "shipment"
    assert list(desk.folder.glob("*sha256")) == []


def test_a_name_that_tells_no_form_is_refused(desk):
    refused = desk.oathbulk("plan", "shipment.csv", "-o", "plan.txt")
    assert refused.code == 2
    assert "--output-format" in refused.stderr


@pytest.mark.parametrize("command", ["load", "run"])
def test_what_is_not_what_was_planned_is_refused_and_nothing_is_loaded(desk, command):
    planned = make_plan(desk)
    write_shipment(desk.folder / "shipment.csv", make_tokens(9))
    by_hash = desk.oathbulk(command, "shipment.csv", "--plan", planned["plan"])
    by_file = desk.oathbulk(command, "shipment.csv", "--plan", "plan.json", OATHBULK_MAX_ATTEMPTS="3")
    assert (by_hash.code, by_file.code) == (2, 2)
    assert f"and not {planned['plan']}. Make the plan again" in by_hash.stderr
    assert "not what plan.json says: the file; OATHBULK_MAX_ATTEMPTS (8 in the plan, 3 now)" in by_file.stderr
    assert (by_hash.stderr.count("oathbulk: "), by_file.stderr.count("oathbulk: ")) == (1, 1)
    assert batches(desk) == []


def test_load_keeps_to_a_plan_by_its_file_and_the_audit_has_its_hash(desk):
    planned = make_plan(desk)
    assert desk.oathbulk("load", "shipment.csv", "--plan", "plan.json").code == 0
    (line,) = desk.oathbulk("audit", "shipment", "--json").json["lines"]
    assert line["facts"]["plan"] == planned["plan"]


def test_who_only_examines_it_is_told_of_another_plan_too(desk):
    planned = make_plan(desk)["plan"]
    assert desk.oathbulk("load", "shipment.csv", "--check", "--plan", planned.upper()).code == 0
    assert desk.oathbulk("load", "shipment.csv", "--check", "--canary", "2", "--plan", planned).code == 2


def test_load_without_a_plan_leaves_none_in_the_audit(desk):
    assert desk.oathbulk("load", "shipment.csv").code == 0
    (line,) = desk.oathbulk("audit", "shipment", "--json").json["lines"]
    assert "plan" not in line["facts"]


def test_a_batch_that_was_loaded_without_the_plan_is_not_taken_for_it(desk):
    planned = make_plan(desk, "--batch", "july", "--share", "60%")
    words = ("load", "shipment.csv", "--batch", "july", "--share", "60%", "--plan", planned["plan"])
    assert desk.oathbulk("load", "shipment.csv", "--batch", "test").code == 0
    refused = desk.oathbulk(*words)
    assert refused.code == 2
    assert "is batch test already, which was loaded without a plan, and not with plan" in refused.stderr
    # Nor was the pace changed.
    assert [line["action"] for line in desk.oathbulk("audit", "--json").json["lines"]].count("load") == 1
    assert "share" not in json.dumps(desk.oathbulk("audit", "--json").json["lines"])
    assert desk.oathbulk("cancel", "test").code == 0
    assert desk.oathbulk(*words).code == 0
    # The same command again finds what it made.
    assert "is batch july already" in desk.oathbulk(*words).stdout


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (None, "no file can be read"),
        ("no JSON", "is no plan"),
        ("[]", "is no plan"),
        ('{"plan": "0123456789ab"}', "is no plan"),
        ('{"plan": "0123456789ab", "parts": {"batch": "july"}}', "was changed after it was written"),
    ],
)
def test_a_file_that_is_no_plan_is_refused_in_one_line(desk, written, said):
    if written is not None:
        (desk.folder / "approved.json").write_text(written)
    refused = desk.oathbulk("load", "shipment.csv", "--plan", "approved.json")
    assert (refused.code, refused.stderr.count("\n")) == (2, 1)
    assert said in refused.stderr
    assert batches(desk) == []


def test_no_secret_stands_in_a_plan(desk):
    settings = {
        "PINGONE_IMPORT_CLIENT_ID": "importer",
        "PINGONE_IMPORT_CLIENT_SECRET": "made-up-importer-secret",
        "OATHBULK_REPLAY_CRON": "15 * * * *",
    }
    for form in ("html", "json"):
        made = desk.oathbulk("plan", "shipment.csv", "--offline", "-o", "-", "--output-format", form, **settings)
        assert made.code == 0, made.stderr
        secrets = [desk.settings["PINGONE_CLIENT_SECRET"], settings["PINGONE_IMPORT_CLIENT_SECRET"]]
        secrets += [otp for token in make_tokens(10) for otp in token.otps]
        assert [secret for secret in secrets if secret in made.stdout] == []
        assert "PINGONE_IMPORT_CLIENT_SECRET" in made.stdout


def test_what_is_asked_is_on_the_page_and_its_exit_code_tells(set_up):
    desk, pingone = set_up(make_tokens(3))
    pingone.tenant["deviceAuthenticationPolicies"] = {"oathToken": {"enabled": True, "otp": {"failure": {"count": 2}}}}
    asked = desk.oathbulk("plan", "shipment.csv", "-o", "plan.json")
    assert (asked.code, json.loads((desk.folder / "plan.json").read_text())["blocking"]) == (1, ["locks_early"])
    accepted = make_plan(desk, "--accept", "locks_early")
    assert accepted["blocking"] == []
    assert accepted["parts"]["accepted"] == ["locks_early"]
    assert desk.oathbulk("load", "shipment.csv", "--plan", "plan.json").code == 2
    assert desk.oathbulk("load", "shipment.csv", "--accept", "locks_early", "--plan", "plan.json").code == 0


@pytest.mark.faults
def test_what_is_asked_is_accepted_by_a_new_plan_that_is_printed_and_not_by_the_same_hash(set_up):
    desk, pingone = set_up(make_tokens(3))
    planned = make_plan(desk)
    pingone.tenant[POLICIES] = {"oathToken": {"enabled": True, "otp": {"failure": {"count": 2}}}}
    refused = desk.oathbulk("run", "shipment.csv", "--plan", planned["plan"])
    assert refused.code == 2
    assert "Accept it: " not in refused.stderr
    again = paste(desk, refused.stderr, "To make a new plan that accepts it: ")
    assert "To start it: oathbulk run shipment.csv --batch shipment --accept locks_early --plan" in again.stdout

    asked = desk.oathbulk("plan", "shipment.csv", "-o", "asked.html")
    assert asked.code == 1
    assert "To start it" not in asked.stdout + (desk.folder / "asked.html").read_text()
    accepted = paste(desk, asked.stdout, "To make a new plan that accepts it: ")
    ran = paste(desk, accepted.stdout, "To start it: ")
    assert ran.code == 0, ran.stderr


def paste(desk, printed, label):
    """Give the command that was printed behind this label."""
    (line,) = [line for line in printed.splitlines() if line.startswith(label)]
    return desk.oathbulk(*shlex.split(line.removeprefix(label))[1:])
