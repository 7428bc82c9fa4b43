"""Keys are changed as docs/operating.md says it: while workers work, and on one machine; and what a wrong key costs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.fleets.real_fleet import BATCH, PATIENT

from models.encrypted import generate_key
from worker.simulator.shipment import make_shipment

SLOW = PATIENT | {"PINGONE_RATE": "12", "PINGONE_RATE_MAX": "12"}


@pytest.mark.faults
def test_the_encryption_key_is_changed_while_workers_work(make_fleet, postgres_url, valkey_url) -> None:
    fleet = make_fleet(postgres_url, valkey_url, make_shipment(120, out_of_step=0.2), settings=SLOW)
    old, new = fleet.encryption_key, generate_key()
    fleet.beat()
    before = fleet.worker("before")
    fleet.wait_until_posted(5)

    # First the workers get both keys, each in its turn.
    both = fleet.worker("both", OATHBULK_ENCRYPTION_KEYS=f"{new},{old}")
    before.stop()
    fleet.variables["OATHBULK_ENCRYPTION_KEYS"] = f"{new},{old}"
    told = fleet.oathbulk("reencrypt", "db", "reencrypt")
    count = re.search(r"(\d+) records are encrypted with the first key now", told)
    assert count is not None, told
    assert int(count[1]) > 0
    # Then the old one goes.
    fleet.worker("after", OATHBULK_ENCRYPTION_KEYS=new)
    both.stop()
    status = fleet.wait_until_finished()

    fleet.judge()
    assert fleet.records.wrong_endings() == []
    assert status.otp_posts == fleet.records.posts_as_made()


@pytest.mark.faults
def test_a_worker_with_a_wrong_key_spends_no_otp_and_says_what_is_missing(make_fleet, postgres_url, valkey_url) -> None:
    fleet = make_fleet(postgres_url, valkey_url, make_shipment(10), settings=PATIENT)
    fleet.beat()
    wrong = fleet.worker("wrong", OATHBULK_ENCRYPTION_KEYS=generate_key())
    fleet.wait_until(lambda: fleet.status().reason == "internal", "the batch is paused")
    assert fleet.simulator.posts() == 0
    assert "is not among OATHBULK_ENCRYPTION_KEYS: add it behind the first" in (fleet.status().detail or "")
    wrong.stop()

    fleet.batches.resume(BATCH)
    fleet.worker("right")
    fleet.wait_until_finished()

    fleet.judge()
    assert fleet.records.wrong_endings() == []


def write_keys(path: Path, *keys: str) -> str:
    """Several keys in a file, as a setting that ends with _FILE names it."""
    path.write_text(",".join(keys) + "\n")
    path.chmod(0o600)
    return str(path)


def read_key(path: Path) -> str:
    return path.read_text().strip()


@pytest.mark.faults
def test_the_encryption_key_of_one_machine_is_changed_between_two_runs(set_out) -> None:
    desk, _ = set_out(make_shipment(12))
    assert desk.oathbulk("run", "shipment.csv", "--canary", "4").code == 4
    old, new = read_key(desk.home / "encryption.key"), desk.oathbulk("keygen").stdout.strip()
    keys = write_keys(desk.home / "rotating.keys", new, old)

    resealed = desk.oathbulk("db", "reencrypt", OATHBULK_ENCRYPTION_KEYS_FILE=keys)
    assert "8 records are encrypted with the first key now." in resealed.stdout, resealed.stderr
    # Until it is the new one that lies there, nothing can be sent.
    refused = desk.oathbulk("export", "shipment", "-o", "out.csv", "--with-otps")
    assert (refused.code, "is not among OATHBULK_ENCRYPTION_KEYS" in refused.stderr) == (3, True)
    write_keys(desk.home / "encryption.key", new)
    assert desk.oathbulk("resume", "shipment").code == 0

    finished = desk.oathbulk("run", "shipment.csv", "--json")
    assert (finished.code, finished.json["counts"]["active"]) == (0, 12), finished.stderr


def test_the_audit_key_is_changed_and_the_old_one_stays_to_check_its_lines(desk) -> None:
    make_shipment(3).write_pairs(desk.folder / "shipment.csv")
    assert desk.oathbulk("load", "shipment.csv", "--offline").code == 0
    old, new = read_key(desk.home / "audit.key"), desk.oathbulk("keygen").stdout.strip()
    both = {"OATHBULK_AUDIT_KEY_FILE": write_keys(desk.home / "audit.keys", new, old)}

    assert desk.oathbulk("pause", "shipment", **both).code == 0

    audited = desk.oathbulk("audit", "--json", **both)
    first, second = (line["mac"].partition(":")[0] for line in audited.json["lines"])
    assert (audited.code, audited.json["broken"], first == second) == (0, None, False)
    alone = desk.oathbulk("audit", OATHBULK_AUDIT_KEY_FILE=write_keys(desk.home / "new.key", new))
    assert alone.code == 1
    assert "broken at line 1: it was authenticated under a key that is not among the audit keys" in alone.stderr
