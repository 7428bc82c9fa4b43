"""A backup is made while others work, put back elsewhere with its keys, and the work goes on from it; docs/operating.md
says it in these steps."""

from __future__ import annotations

import shlex
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import URL, make_url
from support.processes.waiting import wait_until

from worker.simulator.shipment import make_shipment

ROWS = 40
SLOW = {"PINGONE_RATE": "20", "PINGONE_RATE_MAX": "20"}
SLOW |= {"_OATHBULK_TUNING__call_deadline": "10", "_OATHBULK_TUNING__lease_left_for_post": "11"}
SLOW |= {"_OATHBULK_TUNING__lease": "15"}


def put_back(backup: Path, old: Path, new: Path, *keys: str) -> None:
    """A new home, with the database of the backup, and these keys of the old home."""
    new.mkdir(mode=0o700)
    shutil.copyfile(backup, new / "oathbulk.db")
    for name in keys:
        shutil.copy(old / name, new / name)


def back_up_half_way(desk, simulator) -> Path:
    """A backup that was made while a run was at work."""
    running = desk.start("run", "shipment.csv")
    wait_until(lambda: simulator.posts() > 5 or not running.is_alive, 60, "some are posted")
    made = desk.oathbulk("db", "backup", "copy.db")
    assert made.code == 0, made.stderr
    assert "Keep the keys elsewhere, they are not in it: " in made.stdout
    assert f"{desk.home}/encryption.key and {desk.home}/audit.key." in made.stdout.replace("\n", " ")
    assert running.is_alive
    running.interrupt()
    assert running.wait().code == 130
    return desk.folder / "copy.db"


@pytest.mark.faults
def test_a_backup_of_a_run_at_work_goes_on_elsewhere_with_its_keys_and_its_audit(set_out) -> None:
    desk, simulator = set_out(make_shipment(ROWS), SLOW)
    backup = back_up_half_way(desk, simulator)
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert [path.name for path in desk.folder.glob("copy.db*")] == ["copy.db"]
    old, desk.home = desk.home, desk.folder / "restored"
    put_back(backup, old, desk.home, "encryption.key", "audit.key", "audit.heads")
    elsewhere = {"OATHBULK_HOME": str(desk.home)}

    # Who worked when it was made counts as alive for a while.
    wait_until(lambda: desk.oathbulk("db", "restored", **elsewhere).code == 0, 60, "no worker lives any more")
    finished = desk.oathbulk("run", "shipment.csv", "--json", **elsewhere, PINGONE_RATE="400", PINGONE_RATE_MAX="400")

    assert (finished.code, finished.json["counts"]["active"]) == (0, ROWS), finished.stderr
    audited = desk.oathbulk("audit", "--json", **elsewhere).json
    assert (audited["broken"], audited["is_authenticity_checked"]) == (None, True)


def test_a_backup_replaces_the_last_one_and_is_whole(desk) -> None:
    make_shipment(5).write_pairs(desk.folder / "shipment.csv")
    assert desk.oathbulk("load", "shipment.csv", "--offline").code == 0
    (desk.folder / "copy.db").write_text("an earlier one")

    assert desk.oathbulk("db", "backup", "copy.db").code == 0

    with closing(sqlite3.connect(desk.folder / "copy.db")) as copy:
        assert copy.execute("SELECT count(*) FROM record").fetchone() == (5,)


def test_a_place_that_takes_no_backup_is_told_in_one_line(desk) -> None:
    make_shipment(2).write_pairs(desk.folder / "shipment.csv")
    assert desk.oathbulk("load", "shipment.csv", "--offline").code == 0
    (desk.folder / "link").symlink_to("elsewhere.db")

    assert "name a file" in desk.oathbulk("db", "backup", "link").stderr
    refused = desk.oathbulk("db", "backup", "nowhere/copy.db")
    assert (refused.code, "cannot be written: No such file or directory" in refused.stderr) == (2, True)
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("lost", "told"),
    [("encryption.key", "is missing, and the database holds OTPs that it encrypted: put it back"), ("audit.key", "")],
)
def test_without_a_key_a_restored_database_says_which_is_missing(desk, lost: str, told: str) -> None:
    make_shipment(5).write_pairs(desk.folder / "shipment.csv")
    assert desk.oathbulk("load", "shipment.csv", "--offline").code == 0
    assert desk.oathbulk("db", "backup", "copy.db").code == 0
    home = desk.folder / "restored"
    put_back(desk.folder / "copy.db", desk.home, home, *({"encryption.key", "audit.key"} - {lost}))
    elsewhere = {"OATHBULK_HOME": str(home)}

    exported = desk.oathbulk("export", "shipment", "-o", "out.csv", "--with-otps", **elsewhere)
    paused = desk.oathbulk("pause", "shipment", **elsewhere)

    refused = exported if lost == "encryption.key" else paused
    assert refused.code == 3
    assert str(home / lost) in refused.stderr
    assert told in refused.stderr
    assert refused.stderr.count("\n") == 1
    # What needs no key goes on, and no new key was made in place of the lost one.
    assert desk.oathbulk("status", "shipment", **elsewhere).code == 0
    assert not (home / lost).exists()


def test_a_dump_of_postgresql_is_put_back_with_its_keys_and_its_audit(desk, postgres_server, postgres_url) -> None:
    key, audit_key = (desk.oathbulk("keygen").stdout.strip() for _ in range(2))
    keys = {"OATHBULK_ENCRYPTION_KEYS": key, "OATHBULK_AUDIT_KEY": audit_key}
    here = keys | {"OATHBULK_DATABASE_URL": postgres_url}
    shipment = make_shipment(5)
    shipment.write_pairs(desk.folder / "shipment.csv")
    assert desk.oathbulk("load", "shipment.csv", "--offline", **here).code == 0
    told = desk.oathbulk("db", "backup", "copy.dump", **here)
    assert told.code == 2
    assert "Compose see docs/operating.md, Back up): pg_dump --format=custom --file=FILE postgresql://" in told.stderr
    assert str(make_url(postgres_url).password) not in told.stderr
    dump = str(desk.folder / "copy.dump")
    # The command that was named, with a file of ours.
    postgres_server.run_tool(*shlex.split(told.stderr.partition(" Back up): ")[2].replace("FILE", dump)))

    with postgres_server.database() as restored_url:
        url = make_url(restored_url)
        into = URL.create("postgresql", url.username, None, url.host, url.port, url.database).render_as_string()
        postgres_server.run_tool("pg_restore", "--exit-on-error", f"--dbname={into}", dump)
        there = keys | {"OATHBULK_DATABASE_URL": restored_url}
        assert desk.oathbulk("db", "upgrade", **there).code == 0
        exported = desk.oathbulk("export", "shipment", "-o", "out.csv", "--with-otps", **there)
        assert exported.code == 0, exported.stderr
        assert [row.otp1 for row in shipment.rows if row.otp1 not in (desk.folder / "out.csv").read_text()] == []
        audited = desk.oathbulk("audit", "--json", **there).json
        assert (audited["broken"], [line["action"] for line in audited["lines"]]) == (
            None,
            ["load", "export_with_otps"],
        )
        wrong = there | {"OATHBULK_ENCRYPTION_KEYS": desk.oathbulk("keygen").stdout.strip()}
        refused = desk.oathbulk("export", "shipment", "-o", "again.csv", "--with-otps", **wrong)
        assert refused.code == 3
        assert "the key that encrypted this record is not among OATHBULK_ENCRYPTION_KEYS" in refused.stderr
        without = desk.oathbulk("pause", "shipment", **(there | {"OATHBULK_AUDIT_KEY": ""}))
        assert (without.code, "OATHBULK_AUDIT_KEY" in without.stderr) == (3, True), without.stderr


def test_after_a_restore_it_is_told_what_is_looked_up_and_which_lines_of_the_audit_are_lacking(desk) -> None:
    make_shipment(5).write_pairs(desk.folder / "shipment.csv")
    assert desk.oathbulk("load", "shipment.csv", "--offline").code == 0
    assert desk.oathbulk("db", "backup", "copy.db").code == 0
    assert desk.oathbulk("pause", "shipment").code == 0
    for path in desk.home.glob("oathbulk.db*"):
        path.unlink()
    shutil.copyfile(desk.folder / "copy.db", desk.home / "oathbulk.db")

    told = desk.oathbulk("db", "restored")

    assert told.code == 0, told.stderr
    assert "5 records that are not final may have been worked on since the backup" in told.stdout
    lacking = f"1 head in {desk.home}/audit.heads is of a line that this database lacks, so oathbulk audit ends with 1"
    assert lacking in told.stderr
    assert desk.oathbulk("audit").code == 1
    # The batch runs, as it did when the backup was made.
    assert desk.status()["state"] == "running"
