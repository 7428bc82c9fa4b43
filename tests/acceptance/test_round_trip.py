"""What failed comes back: exported, mended in a spreadsheet, and run again, as a person types it."""

from __future__ import annotations

import csv
import uuid
from pathlib import Path

import pytest
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


def press(simulator: Simulator, path: Path) -> None:
    """Press each token of an export twice, and write the OTPs into the file in a spreadsheet, as a help desk does."""
    rows = read(path)
    otps = simulator.press([row["serial"] for row in rows])
    save_as_excel(path, [row | dict(zip(("otp1", "otp2"), otps[row["serial"]], strict=True)) for row in rows])


@pytest.mark.faults
def test_what_needs_fresh_otps_is_active_after_one_more_run(set_out):
    desk, simulator = set_out(make_shipment(9, hopeless=dict.fromkeys(MENDED_BY_FRESH_OTPS, 1)))
    assert desk.oathbulk("run", "shipment.csv").code == 1
    exported = desk.oathbulk("export", "shipment", "--status", "dead_letter", "-o", "failed.csv")
    assert exported.stdout.endswith("then: oathbulk run failed.csv\n")
    press(simulator, desk.folder / "failed.csv")
    assert desk.oathbulk("run", "failed.csv").code == 0
    assert "9 of 9 tokens are active: 6 in shipment, 3 in failed; 0 left." in desk.oathbulk("status", "shipment").stdout


@pytest.mark.faults
def test_what_fails_twice_comes_back_twice_by_the_commands_that_are_printed(set_out):
    desk, simulator = set_out(make_shipment(4, hopeless={"wrong_otp": 2}))

    def export_left(to: str) -> str:
        command = f"export shipment --left -o {to}"
        assert f"oathbulk {command}\n" in desk.oathbulk("status", "shipment").stdout
        return desk.oathbulk(*command.split()).stdout

    assert desk.oathbulk("run", "shipment.csv").code == 1
    left = desk.folder / "shipment-left.csv"
    assert "then: oathbulk run shipment-left.csv\n" in export_left(left.name)
    press(simulator, left)
    with left.open(newline="", encoding="utf-8-sig") as file:
        first, second = csv.DictReader(file, delimiter=";")
    pressed_badly = [first, second | {"otp1": "000000", "otp2": "000001"}]
    save_as_excel(left, pressed_badly)
    assert desk.oathbulk("run", left.name).code == 1

    # Who gives the file the name of before is told under which name it is loaded.
    assert "then: oathbulk run shipment-left-2.csv\n" in export_left("shipment-left-2.csv")
    again = desk.oathbulk("export", "shipment", "--left", "-o", left.name, "--overwrite").stdout
    command = "run shipment-left.csv --batch shipment-left-2"
    assert f"then: oathbulk {command}\n" in again
    press(simulator, left)
    for typed in ("run", "load"):
        refused = desk.oathbulk(typed, left.name, "--share", "0.5")
        cure = command.replace("run", typed, 1)
        assert refused.code == 2
        assert refused.stderr.splitlines()[-1] == (
            "oathbulk: a batch named 'shipment-left' exists already: give another name, such as: "
            f"oathbulk {cure} --share 0.5"
        )
    assert desk.oathbulk(*command.split(), "--share", "0.5").code == 0
    told = desk.oathbulk("status", "shipment").stdout
    assert "4 of 4 tokens are active: 2 in shipment, 1 in shipment-left, 1 in shipment-left-2; 0 left." in told


@pytest.mark.parametrize(
    ("which", "refusal"),
    [
        (("--status", "dead_letter"), "not one of its 3 rows can be loaded"),
        ((), "3 rows of it cannot be loaded, and 5 others are active already"),
    ],
)
def test_an_export_that_nobody_mended_is_refused_in_so_many_words_once(set_out, which, refusal):
    desk, _ = set_out(make_shipment(8, hopeless={"wrong_otp": 3}))
    assert desk.oathbulk("run", "shipment.csv").code == 1
    assert desk.oathbulk("export", "shipment", *which, "-o", "same.csv").code == 0
    for words, code in (("run", 2), ("load", 2), ("check", 1)):
        result = desk.oathbulk(words, "same.csv")
        said = result.stdout + result.stderr
        assert (result.code, said.count("those of the earlier load cannot go again")) == (code, 1), said
        assert said.count(refusal) == (words != "check" or bool(which)), said


@pytest.mark.faults
def test_pairs_that_were_refused_run_again_with_fresh_otps(set_out):
    shipment = make_shipment(8, hopeless={"wrong_otp": 2})
    desk, simulator = set_out(shipment)
    assert desk.oathbulk("run", "shipment.csv").code == 1
    assert desk.oathbulk("export", "shipment", "-o", "all.csv").code == 0
    rows = read(desk.folder / "all.csv")
    wrong = [row for row in rows if row["status"] == "dead_letter"]
    for number, row in enumerate(wrong):
        row |= {"otp1": f"77777{number}", "otp2": f"88888{number}"}
        ids = {"serial": row["serial"], "user_id": row["user_id"], "device_id": row["device_id"]}
        simulator.seed(devices=[ids | {"otps": [row["otp1"], row["otp2"]]}])
    save_as_excel(desk.folder / "mended.csv", rows[::-1])

    result = desk.oathbulk("run", "mended.csv", "--json")

    assert result.code == 0, result.stderr
    assert (result.json["batch"], result.json["parent"]) == ("mended", "shipment")
    assert (result.json["total"], result.json["counts"]["active"], result.json["otp_posts"]) == (2, 2, 2)
    assert simulator.active() == {row.device_id for row in shipment.rows}
    handed_out = desk.oathbulk("export", "shipment", "--hand-out", "-o", "hand-out.csv")
    later = "2 of its tokens became active in later batches: oathbulk export mended --hand-out -o mended-hand-out.csv"
    assert (handed_out.code, later in handed_out.stderr) == (0, True)
    left = desk.oathbulk("export", "shipment", "--left", "-o", "left.csv")
    assert (left.code, left.stdout) == (0, "Wrote 0 tokens that are left of shipment to left.csv.\n")
    (line,) = [line for line in desk.oathbulk("status").stdout.splitlines() if line.startswith("shipment ")]
    assert line.split()[1:6] == ["finished", "8", "8", "0", "0"]
    assert desk.oathbulk("report", "shipment", "-o", "report.html").stdout.startswith("8 of 8 tokens are active: 6 in ")
    shown = desk.oathbulk("status", "mended").stdout
    assert "Its rows come back from batch shipment." in shown
    # The whole of it once more: there is nothing left to do.
    assert desk.oathbulk("export", "shipment", "-o", "whole.csv").code == 0
    whole = desk.oathbulk("load", "whole.csv", "--json")
    assert whole.code == 0, whole.stderr
    assert (whole.json["batch"], whole.json["total"], whole.json["already_active"]) == (None, 0, 8)
    said = "whole.csv: nothing is left to do. The tokens of all its 8 rows are active already."
    for words in (("load", "whole.csv"), ("run", "whole.csv", "--offline"), ("run", "whole.csv")):
        result = desk.oathbulk(*words)
        assert (result.code, result.stdout) == (0, f"{said} No batch was made of it.\n")
    checked = desk.oathbulk("check", "whole.csv")
    assert (checked.code, said in checked.stdout.splitlines()) == (0, True)
    assert desk.oathbulk("status", "whole").code == 2
    loads = [line["facts"] for line in desk.oathbulk("audit", "mended", "--json").json["lines"]]
    assert [(facts["parent"], facts["already_active"]) for facts in loads] == [("shipment", 6)]


@pytest.mark.faults
def test_seeds_whose_devices_were_deleted_run_again_without_the_vendors_file(set_out):
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

    again = desk.oathbulk("run", "gone.csv", "--json")

    assert again.code == 0, again.stderr
    assert (again.json["parent"], again.json["counts"]["active"]) == ("box", 1)
    assert paired["device_id"] in simulator.active()
    assert not any(secret in (desk.folder / "gone.csv").read_text().lower() for secret in SECRETS)
