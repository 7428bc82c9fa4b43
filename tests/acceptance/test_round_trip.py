"""What failed goes again in its batch: exported, corrected in a spreadsheet, and mended, as a person types it."""

from __future__ import annotations

import csv
import re
import shlex
import uuid
from pathlib import Path

import pytest
from support.processes.command_desk import CommandDesk, Result
from support.servers.simulator import Simulator

from worker.simulator.shipment import MENDED_BY_FRESH_OTPS, make_shipment

SECRETS = ("3132333435363738393031323334353637383930", "6b1f85dfcd2763697c6e3d6af46643520fda2d9b")
# PingOne knows nothing of one of the tokens.
GONE = ("--accept", "token_not_in_inventory")


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def save_as_excel(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)


def correct(simulator: Simulator, path: Path) -> None:
    """Press each token of an export twice, and write the OTPs into the file in a spreadsheet, as a help desk does."""
    rows = read(path)
    otps = simulator.press([row["serial"] for row in rows])
    save_as_excel(path, [row | dict(zip(("otp1", "otp2"), otps[row["serial"]], strict=True)) for row in rows])


def type_printed(desk: CommandDesk, printed: str, sentence: str) -> Result:
    """Type the command that stands behind a sentence."""
    (command,) = re.findall(rf"{re.escape(sentence)} oathbulk (.*)", printed)
    return desk.oathbulk(*shlex.split(command))


@pytest.mark.faults
def test_what_fails_twice_goes_again_twice_by_the_commands_that_are_printed(set_out):
    desk, simulator = set_out(make_shipment(9, hopeless=dict.fromkeys(MENDED_BY_FRESH_OTPS, 1)))
    ran = desk.oathbulk("run", "shipment.csv")
    left = desk.folder / "shipment-left.csv"
    for tokens in (3, 1):
        assert ran.code == 1
        told = desk.oathbulk("status", "shipment").stdout
        assert f"{tokens} token{'s are' if tokens > 1 else ' is'} not active" in told
        exported = type_printed(desk, told, "Those that are left, with their reasons:")
        assert (exported.code, len(read(left))) == (0, tokens)
        correct(simulator, left)
        if tokens > 1:
            with left.open(newline="", encoding="utf-8-sig") as file:
                first, *others = csv.DictReader(file, delimiter=";")
            save_as_excel(left, [first | {"otp1": "000000", "otp2": "000001"}, *others])
            # OTPs that somebody wrote are not lost.
            assert type_printed(desk, told, "Those that are left, with their reasons:").code == 2
        mended = type_printed(desk, told, "Corrected, they go again:")
        assert mended.code == 0
        # The export names the same command; a second time it changes nothing.
        assert type_printed(desk, exported.stdout, "then:").stdout.endswith("Nothing was changed.\n")
        left.unlink()
        (run,) = re.findall(r"`oathbulk (run shipment)`", mended.stdout)
        ran = desk.oathbulk(*run.split())

    assert ran.code == 0, ran.stdout
    assert len(simulator.active()) == 9
    status = desk.status()
    assert (status["state"], status["tokens_active"], status["tokens_left"]) == ("finished", 9, 0)
    assert desk.oathbulk("run", "shipment.csv").code == 0
    assert [batch["batch"] for batch in desk.oathbulk("status", "--json").json["batches"]] == ["shipment"]


@pytest.mark.faults
def test_a_whole_export_lets_only_what_failed_go_again(set_out):
    shipment = make_shipment(8, hopeless={"wrong_otp": 2})
    desk, simulator = set_out(shipment)
    assert desk.oathbulk("run", "shipment.csv").code == 1
    assert desk.oathbulk("export", "shipment", "-o", "all.csv").code == 0
    rows = read(desk.folder / "all.csv")
    wrong = [row["serial"] for row in rows if row["status"] == "dead_letter"]
    otps = simulator.press(wrong)
    corrected = [row | dict(zip(("otp1", "otp2"), otps.get(row["serial"], ("", "")), strict=True)) for row in rows]
    save_as_excel(desk.folder / "corrected.csv", corrected[::-1])

    mended = desk.oathbulk("mend", "shipment", "corrected.csv", "--ticket", "CHG-1", "--json")

    assert mended.code == 0, mended.stderr
    counts = {"again": 2, "added": 0, "active": 6, "in_work": 0, "rows_refused": 0}
    assert {name: mended.json[name] for name in counts} == counts
    assert desk.oathbulk("run", "shipment").code == 0
    status = desk.status()
    assert (status["total"], status["counts"]["active"]) == (8, 8)
    assert simulator.active() == {row.device_id for row in shipment.rows}
    assert desk.oathbulk("export", "shipment", "--hand-out", "-o", "hand-out.csv").code == 0
    assert len(read(desk.folder / "hand-out.csv")) == 8
    left = desk.oathbulk("export", "shipment", "--left", "-o", "left.csv")
    assert (left.code, left.stdout) == (0, "Wrote 0 tokens that are left of shipment to left.csv.\n")
    # The whole of it once more: there is nothing left to do.
    again = desk.oathbulk("mend", "shipment", "corrected.csv", "--json")
    assert (again.code, again.json["again"], again.json["active"]) == (0, 0, 8)
    lines = [line for line in desk.oathbulk("audit", "shipment", "--json").json["lines"] if line["action"] == "mend"]
    assert [(line["ticket"], line["facts"]["again"], line["facts"]["active"]) for line in lines] == [
        ("CHG-1", 2, 6),
        (None, 0, 8),
    ]


@pytest.mark.parametrize("which", [("--status", "dead_letter"), ()])
def test_an_export_that_nobody_corrected_changes_nothing_and_says_why_once(set_out, which):
    desk, _ = set_out(make_shipment(8, hopeless={"wrong_otp": 3}))
    assert desk.oathbulk("run", "shipment.csv").code == 1
    assert desk.oathbulk("export", "shipment", *which, "-o", "same.csv").code == 0
    before = desk.status()
    mended = desk.oathbulk("mend", "shipment", "same.csv")
    assert (mended.code, mended.stderr.count("those that it has cannot go again")) == (1, 1), mended.stderr
    assert "3 are refused." in mended.stdout
    assert mended.stdout.endswith("Nothing was changed.\n")
    after = desk.status()
    assert (after["counts"], after["attempts"]) == (before["counts"], before["attempts"])


def test_an_export_is_no_shipment_and_its_refusal_names_the_way(set_out):
    desk, _ = set_out(make_shipment(3, hopeless={"wrong_otp": 1}))
    assert desk.oathbulk("run", "shipment.csv").code == 1
    assert desk.oathbulk("export", "shipment", "-o", "all.csv").code == 0
    for words in (("run", "all.csv"), ("load", "all.csv"), ("check", "all.csv")):
        refused = desk.oathbulk(*words)
        assert (refused.code, "oathbulk mend BATCH FILE" in refused.stderr) == (2, True)
    row = read(desk.folder / "shipment.csv")[0]
    save_as_excel(desk.folder / "shipment.csv", [row | {"serial": "NEW1", "device_id": str(uuid.UUID(int=5))}])
    taken = desk.oathbulk("load", "shipment.csv", "--offline")
    assert taken.code == 2
    assert "bring corrected rows into it with `oathbulk mend shipment FILE`, or give another name" in taken.stderr
    assert [batch["batch"] for batch in desk.oathbulk("status", "--json").json["batches"]] == ["shipment"]


@pytest.mark.faults
def test_a_seed_whose_device_was_deleted_goes_again_without_the_vendors_file(set_out):
    desk, simulator = set_out(make_shipment(1))
    tokens = [
        {"serial": f"BOXED{n:07}", "user_id": str(uuid.UUID(int=n)), "device_id": str(uuid.UUID(int=1 << 100 | n))}
        for n in range(2)
    ]
    box, who = desk.folder / "box.txt", desk.folder / "who.csv"
    box.write_text("".join(f"{token['serial']},{secret}\n" for token, secret in zip(tokens, SECRETS, strict=True)))
    save_as_excel(who, tokens)
    simulator.seed(devices=[tokens[0] | {"secret": SECRETS[0]}])
    command = ("run", "box.txt", "--assign", "who.csv", "--otp-type", "hotp", "--json")
    assert desk.oathbulk(*command).json["blocking"] == ["token_not_in_inventory"]
    first = desk.oathbulk(*command, *GONE)
    assert (first.code, first.json["dead_letters"]) == (1, {"device_not_found": 1}), first.stderr
    box.unlink()
    assert desk.oathbulk("export", "box", "--status", "dead_letter", "-o", "gone.csv").code == 0
    # A person pairs the token again, and writes the new id into the file.
    (row,) = read(desk.folder / "gone.csv")
    paired = tokens[1] | {"device_id": str(uuid.UUID(int=99))}
    simulator.seed(devices=[paired | {"secret": SECRETS[1]}])
    save_as_excel(desk.folder / "gone.csv", [row | paired])

    mended = desk.oathbulk("mend", "box", "gone.csv")

    assert (mended.code, "box, tokens of the file: 1 goes again." in mended.stdout.splitlines()) == (0, True)
    assert desk.oathbulk("run", "box").code == 0
    assert desk.status("box")["counts"]["active"] == 2
    assert paired["device_id"] in simulator.active()
    assert not any(secret in (desk.folder / "gone.csv").read_text().lower() for secret in SECRETS)
