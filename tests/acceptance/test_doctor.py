"""`oathbulk doctor` beside a PingOne, a broker and a PostgreSQL that run: what can be wrong with them is found and
explained before a run. What each check says is in unit/cli/test_doctor.py."""

import contextlib
import os
import re
import sqlite3
import time

import pytest
import redis
from support.processes.waiting import wait_until
from support.servers.raw_server import RawServer

from worker.installation.broker_check import RULES
from worker.simulator.shipment import MadeShipment
from worker.simulator.world import UserSeed, WorldSeed

STORED = ["keys", "database", "audit", "workers", "batches", "backup"]
OF_PINGONE = ["learned", "network", "access token", "roles", "clock"]
CHECKS = ["home", "configuration", *STORED, "broker", *OF_PINGONE]
USER = UserSeed(user_id="0a7b0000-5e1f-4c0d-8000-0000000000a1")
ADD_ROLE = "→ give the worker application the role"


@pytest.fixture
def set_out(set_out):
    """A desk with a home, and a simulator with one user."""
    desk, simulator = set_out(MadeShipment((), WorldSeed(users=(USER,)), {}))
    del desk.settings["PINGONE_RESYNC_ON_FIRST_CALL"]
    desk.make_home()
    return desk, simulator


def examine(desk, **settings):
    """The names of the checks that found a fault, and what each check says."""
    result = desk.oathbulk("doctor", "--json", **settings)
    assert "Traceback" not in result.stderr
    findings = result.json["checks"]
    assert ("./.env is not read" in result.stderr) == (desk.folder / ".env").exists()
    # Nobody is left alone with a fault.
    assert all(finding["cure"] for finding in findings if finding["state"] == "fault"), findings
    faults = [finding["check"] for finding in findings if not finding["is_well"]]
    assert result.json["is_well"] == (not faults) == (result.code == 0)
    assert "hidden" not in str(findings)
    return faults, {
        finding["check"]: " → ".join(filter(None, [finding["detail"], finding["cure"]])) for finding in findings
    }


def test_all_is_well_with_a_pingone_that_answers_and_what_grew_old_or_open_or_is_off_is_found(set_out):
    desk, simulator = set_out
    faults, told = examine(desk)
    assert (faults, list(told)) == ([], CHECKS)
    stamp = desk.folder / "backup.stamp"
    desk.settings["OATHBULK_BACKUP_STAMP"] = str(stamp)
    assert examine(desk)[0] == ["backup"]
    stamp.touch()
    faults, told = examine(desk)
    assert (faults, told["backup"].startswith("the last one was made ")) == ([], True)

    os.utime(stamp, (time.time() - 30 * 3600,) * 2)
    (desk.home / "encryption.key").chmod(0o640)
    simulator.change(clock_skew=-90)
    faults, told = examine(desk)
    assert {*faults} >= {"keys", "backup", "clock"}
    assert "1 day 6 h ago" in told["backup"]
    assert f"chmod 600 {desk.home / 'encryption.key'}" in told["keys"]
    assert re.match(r"(8[5-9]|9[0-5]) s ahead of PingOne's.*NTP", told["clock"]), told["clock"]


def test_each_fault_is_explained_and_the_rest_is_examined_all_the_same(set_out):
    desk, _ = set_out
    (desk.folder / ".env").touch()
    wrong = {
        "OATHBULK_DATABASE_URL": "postgresql+psycopg://nobody:hidden@127.0.0.1:1/none",
        "OATHBULK_REDIS_URL": "redis://:hidden@127.0.0.1:1/0",
        "PINGONE_CLIENT_SECRET": "wrong",
    }
    faults, told = examine(desk, **wrong)
    # Without a database nobody knows of workers, nor of what was learned.
    assert list(told) == [check for check in CHECKS if check not in ("workers", "batches", "learned")]
    # With a database of one's own, so must be the keys.
    assert faults == ["keys", "database", "broker", "access token"]
    assert told["roles"] == "not known: there is no access token"
    said = {"keys": "OATHBULK_ENCRYPTION_KEYS", "database": "refused", "broker": "refused", "access token": "401"}
    assert {check: told[check] for check, words in said.items() if words.lower() not in told[check].lower()} == {}

    unset = dict.fromkeys(("PINGONE_ENVIRONMENT_ID", "PINGONE_CLIENT_ID", "PINGONE_CLIENT_SECRET"), "")
    faults, told = examine(desk, **unset)
    assert (faults, list(told)) == (["configuration"], CHECKS[: CHECKS.index("learned")])
    assert [name for name in unset if f"{name} is not set" not in told["configuration"]] == []


def test_a_database_without_its_schema_or_with_a_later_one_is_one_fault_and_no_traceback(set_out):
    desk, _ = set_out
    key = desk.oathbulk("keygen").stdout.strip()
    own = {"OATHBULK_DATABASE_URL": f"sqlite:///{desk.folder / 'own.db'}", "OATHBULK_ENCRYPTION_KEYS": key}
    faults, told = examine(desk, **own)
    assert ("database" in faults, told["database"]) == (True, "the database is empty → run `oathbulk db upgrade`")
    assert desk.oathbulk("db", "upgrade", **own).code == 0
    assert examine(desk, **own)[0] == []

    (desk.folder / "own.db").write_bytes(b"garbage " * 1000)
    faults, told = examine(desk, **own)
    found = "the database failed (file is not a database) → check which other program has its file open"
    assert ("database" in faults, told["database"].startswith(found)) == (True, True)

    with contextlib.closing(sqlite3.connect(desk.home / "oathbulk.db")) as database, database:
        database.execute("UPDATE schema_revision SET version_num = '9999'")
    faults, told = examine(desk)
    assert (faults, "run commands with the" in told["database"]) == (["database"], True)
    for command in ("status", "db upgrade"):
        refused = desk.oathbulk(*command.split())
        told = refused.stderr.splitlines()
        assert (refused.code, len(told), "the database is at revision 9999" in told[0]) == (3, 1, True)


def test_a_damaged_database_is_told_although_what_is_read_of_it_can_be_read(set_out):
    desk, _ = set_out
    with contextlib.closing(sqlite3.connect(desk.home / "oathbulk.db")) as database:
        database.executescript("PRAGMA journal_mode = DELETE; VACUUM")
        (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'ix_change_unnamed'").fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    with (desk.home / "oathbulk.db").open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    faults, told = examine(desk)
    assert ("database" in faults, "restore a backup" in told["database"]) == (True, True)


def test_a_database_that_was_lost_is_not_made_anew_and_doctor_names_one_cure(set_out):
    desk, _ = set_out
    database, log = desk.home / "oathbulk.db", desk.home / "oathbulk.db-wal"
    database.unlink()
    log.touch()
    for trace, cure in ((log, "remove oathbulk.db-wal"), (desk.home / "audit.heads", "remove audit.heads")):
        trace.touch()
        faults, told = examine(desk)
        assert (faults, cure in told["database"], "server" in told["database"]) == (["database"], True, False)
        refused = desk.oathbulk("status")
        assert (refused.code, trace.name in refused.stderr, database.exists()) == (3, True, False)
        trace.unlink()
    # Heads that are noted elsewhere may be those of another home.
    elsewhere = desk.folder / "heads"
    elsewhere.touch()
    assert desk.oathbulk("status", OATHBULK_AUDIT_HEAD=str(elsewhere)).code == 0


def test_a_broker_whose_user_may_not_do_what_workers_do_is_found_with_the_cure(set_out, own_valkey):
    desk, _ = set_out
    lacking = {
        "": "",
        "-@scripting": "scripts (EVALSHA, SCRIPT LOAD)",
        "-lpush -brpop": "LPUSH, BRPOP.",
        "resetchannels": "PUBLISH",
    }
    for less, named in lacking.items():
        faults, told = examine(desk, OATHBULK_REDIS_URL=own_valkey.let_in("limited", f"{RULES} {less}"))
        assert ("broker" in faults, named in told["broker"]) == (bool(less), True), told["broker"]
        assert less == "" or f"ACL SETUSER name {RULES}" in told["broker"]
    with redis.Redis.from_url(own_valkey.url) as client:
        wait_until(lambda: not client.keys("oathbulk:doctor:*"), "nothing is left of it")


def test_postgresql_is_examined_as_oathbulk_uses_it_and_its_limit_of_connections_told(
    set_out, postgres_server, postgres_url
):
    desk, _ = set_out
    name = postgres_url.rpartition("/")[2]
    for default in ("synchronous_commit = off", "default_transaction_isolation = serializable"):
        postgres_server.execute(f"ALTER DATABASE {name} SET {default}")
    key = desk.oathbulk("keygen").stdout.strip()
    desk.settings |= {"OATHBULK_DATABASE_URL": postgres_url, "OATHBULK_ENCRYPTION_KEYS": key}
    faults, told = examine(desk)
    assert "database" not in faults
    # An administrator's defaults are not what is in force.
    said = ("synchronous_commit is on, isolation is read committed", "no synchronous standby")
    assert [words for words in said if words not in told["database"]] == []

    postgres_server.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 0")
    postgres_server.execute("CREATE ROLE crowded LOGIN PASSWORD 'x'")
    try:
        url = f"postgresql+psycopg://crowded:x@127.0.0.1:{postgres_server.port}/{name}"
        refused = desk.oathbulk("pause", "july", OATHBULK_DATABASE_URL=url)
    finally:
        postgres_server.execute("DROP ROLE crowded")
    assert (refused.code, refused.stderr.count("\n")) == (3, 1)
    assert re.search("PostgreSQL has no connection left.*OATHBULK_DATABASE_CONNECTIONS", refused.stderr)


def test_a_role_that_is_missing_is_named_as_pingone_calls_it_and_is_a_fault_where_nothing_goes_without_it(set_out):
    desk, simulator = set_out
    expected = {
        ("mfa",): (["roles"], ["users and devices forbidden, the role Identity Data Admin is missing"]),
        ("inventory",): (
            [],
            [
                "users and devices permitted; inventory forbidden, the role Environment Admin is missing",
                "without it, --import and reading the inventory are impossible; MFA policies permitted "
                f"{ADD_ROLE} Environment Admin in this environment",
            ],
        ),
        # PingOne does not tell its roles then.
        ("inventory", "configuration"): (
            [],
            ["PingOne does not say which role permits it. Try Environment Admin, in this environment"],
        ),
        ("mfa", "directory"): (["roles"], ["INSUFFICIENT_PERMISSIONS", f"{ADD_ROLE} Identity Data Admin"]),
    }
    for groups, (faulty, words) in expected.items():
        simulator.change(forbidden_groups=groups)
        faults, told = examine(desk)
        assert (faults, [word for word in words if word not in told["roles"]]) == (faulty, []), told["roles"]

    simulator.change(forbidden_groups=[])
    importer = {"PINGONE_IMPORT_CLIENT_ID": "another", "PINGONE_IMPORT_CLIENT_SECRET": "wrong"}
    faults, told = examine(desk, **importer)
    assert (faults, told["access token"].startswith("another: PingOne refused")) == (["access token"], True)
    assert "not known: inventory, because there is no access token" in told["roles"]


def test_a_proxy_that_is_in_force_is_named_and_tried(desk):
    desk.settings |= {"PINGONE_API_URL": "https://api.pingone.example/v1"}
    # It takes each connection, and closes it without a word.
    with RawServer(lambda: []) as proxy:
        name = proxy.url.removeprefix("http://")
        faults, told = examine(desk, HTTPS_PROXY=f"http://user:hidden@{name}")
    found = f"not known: through the proxy {name}, which can be reached; certificates are verified"
    assert ("network" in faults, told["network"].startswith(found)) == (False, True)
    # Of a port of this machine at which nobody listens, a refusal comes at once.
    faults, told = examine(desk, HTTPS_PROXY="http://user:hidden@127.0.0.1:1")
    assert ("network" in faults, "127.0.0.1:1: Connection refused" in told["network"]) == (True, True)


@pytest.mark.parametrize(
    ("redis_url", "why"),
    [("", "they are known only during a run."), ("redis://127.0.0.1:1/0", "Redis, which has them, cannot be reached.")],
)
def test_the_paces_of_other_calls_are_out_of_reach_only_where_a_redis_should_be_there(
    set_out, redis_url: str, why: str
) -> None:
    desk, _ = set_out
    shown = desk.oathbulk("pace", **({"OATHBULK_REDIS_URL": redis_url} if redis_url else {}))
    assert (shown.code, " ".join(shown.stdout.split()).endswith(why)) == (0, True), shown.stdout + shown.stderr
