"""`oathbulk doctor`: each thing that can be wrong, found and explained before a run."""

from __future__ import annotations

import json

import pytest
import redis
from support.processes.command_desk import CommandDesk
from support.processes.waiting import wait_until

from worker.installation.broker_check import RULES

CHECKS = [
    "home",
    "configuration",
    "encryption keys",
    "database",
    "audit",
    "workers",
    "webhook",
    "broker",
    "journal",
    "learnt",
    "hosts",
    "access token",
    "clock",
]


@pytest.fixture
def desk(tmp_path):
    with CommandDesk(tmp_path / "desk") as desk:
        desk.make_home()
        yield desk


def serve(desk, *settings):
    """A simulated PingOne with these settings; the variables that lead to it."""
    ready = desk.folder / "ready.json"
    given = [argument for setting in settings for argument in ("--set", setting)]
    simulator = desk.start("simulator", "--port", "0", "--ready-file", ready, *given)
    wait_until(lambda: ready.exists() or not simulator.is_alive, 60, "the simulator listens")
    root = f"http://127.0.0.1:{json.loads(ready.read_text())['port']}"
    wait_until(lambda: "PINGONE_API_URL" in simulator.stdout, 60, "it says how it is reached")
    said = dict(line.split(" ", 1)[1].split("=", 1) for line in simulator.stdout.splitlines() if "export " in line)
    assert said["PINGONE_API_URL"] == f"{root}/v1"
    return said


def examine(desk, **settings):
    """The exit code, and the findings by their check."""
    result = desk.oathbulk("doctor", "--json", **settings)
    assert "Traceback" not in result.stderr
    findings = result.json["checks"]
    assert all(set(finding) == {"check", "is_well", "detail"} for finding in findings)
    return result.code, {finding["check"]: (finding["is_well"], finding["detail"]) for finding in findings}


def test_all_is_well_with_a_pingone_that_answers(desk):
    pingone = serve(desk)
    code, findings = examine(desk, **pingone)
    assert list(findings) == CHECKS
    assert all(is_well for is_well, _ in findings.values()), findings
    assert code == 0
    told = desk.oathbulk("doctor", **pingone)
    assert told.code == 0
    assert [line.split(":")[0] for line in told.stdout.splitlines()] == [f"✓ {check}" for check in CHECKS]
    assert pingone["PINGONE_CLIENT_SECRET"] not in told.stdout


def test_each_fault_is_explained_and_the_rest_is_examined_all_the_same(desk):
    pingone = serve(desk)
    faults = {
        "OATHBULK_DATABASE_URL": "postgresql+psycopg://nobody:hidden@127.0.0.1:1/none",
        "OATHBULK_REDIS_URL": "redis://:hidden@127.0.0.1:1/0",
        "PINGONE_CLIENT_SECRET": "wrong",
    }
    code, findings = examine(desk, **pingone | faults)
    assert code == 3
    # Without a database nobody knows of workers, nor of what was learnt.
    assert list(findings) == [check for check in CHECKS if check not in ("workers", "webhook", "learnt")]
    assert {check: is_well for check, (is_well, _) in findings.items()} == {
        "home": True,
        "configuration": True,
        # With a database of one's own, so must be the keys.
        "encryption keys": False,
        "database": False,
        "audit": True,
        "broker": False,
        # None is kept beside a database elsewhere: no fault.
        "journal": True,
        "hosts": True,
        "access token": False,
        "clock": True,
    }
    assert "OATHBULK_ENCRYPTION_KEYS" in findings["encryption keys"][1]
    assert "refused" in findings["database"][1].lower()
    assert "refused" in findings["broker"][1].lower()
    assert "401" in findings["access token"][1]
    assert "hidden" not in str(findings)


def test_a_database_without_its_schema_is_told_from_one_that_is_out_of_reach(desk):
    pingone = serve(desk)
    key = desk.oathbulk("keygen").stdout.strip()
    own = {"OATHBULK_DATABASE_URL": f"sqlite:///{desk.folder / 'own.db'}", "OATHBULK_ENCRYPTION_KEYS": key}
    code, findings = examine(desk, **pingone, **own)
    assert code == 3
    assert not findings["database"][0]
    assert "oathbulk db upgrade" in findings["database"][1]
    assert desk.oathbulk("db", "upgrade", **own).code == 0
    code, findings = examine(desk, **pingone, **own)
    assert code == 0, findings


def test_without_settings_the_missing_ones_are_named_and_no_pingone_is_asked(desk):
    code, findings = examine(desk)
    assert code == 3
    assert list(findings) == CHECKS[: CHECKS.index("learnt")]
    is_well, detail = findings["configuration"]
    assert not is_well
    for name in ("PINGONE_ENVIRONMENT_ID", "PINGONE_CLIENT_ID", "PINGONE_CLIENT_SECRET"):
        assert f"{name} is not set" in detail


def test_a_pingone_that_is_not_there_is_found_out(desk):
    nowhere = {
        "PINGONE_ENVIRONMENT_ID": "environment",
        "PINGONE_CLIENT_ID": "client",
        "PINGONE_CLIENT_SECRET": "hidden",
        "PINGONE_API_URL": "http://127.0.0.1:1/v1",
        "PINGONE_TOKEN_URL": "http://127.0.0.1:1/token",
    }
    code, findings = examine(desk, **nowhere)
    assert code == 3
    assert [check for check, (is_well, _) in findings.items() if not is_well] == ["access token", "clock"]
    assert "hidden" not in str(findings)


@pytest.mark.parametrize(
    ("less", "named"),
    [
        ("", ""),
        ("-@scripting", "scripts (EVALSHA, SCRIPT LOAD)"),
        ("-hset", "scripts (EVALSHA, SCRIPT LOAD)"),
        ("-lpush -brpop", "LPUSH, BRPOP."),
        ("resetchannels", "PUBLISH"),
    ],
)
def test_a_broker_whose_user_may_not_do_what_workers_do_is_found_with_the_cure(desk, own_valkey, less, named):
    url = own_valkey.let_in("limited", f"{RULES} {less}")
    _, findings = examine(desk, OATHBULK_REDIS_URL=url)
    is_well, detail = findings["broker"]
    assert is_well == (not less), detail
    assert named in detail
    assert less == "" or f"ACL SETUSER name {RULES}" in detail
    with redis.Redis.from_url(own_valkey.url) as client:
        wait_until(lambda: not client.keys("oathbulk:doctor:*"), 10, "nothing is left of it")


def test_a_clock_that_is_off_is_found(desk):
    code, findings = examine(desk, **serve(desk, "clock_skew=-90"))
    assert code == 3
    assert [check for check, (is_well, _) in findings.items() if not is_well] == ["clock"]
    detail = findings["clock"][1]
    seconds = int(detail.split(" s ")[0])
    assert 85 <= seconds <= 95
    assert "ahead of PingOne's" in detail
    assert "NTP" in detail


def test_a_journal_that_cannot_be_written_or_that_others_may_read_is_found(desk):
    pingone = serve(desk)
    (desk.folder / "file").touch()
    code, findings = examine(desk, **pingone, OATHBULK_JOURNAL=str(desk.folder / "file" / "journal"))
    assert code == 3
    assert [check for check, (is_well, _) in findings.items() if not is_well] == ["journal"]
    assert "cannot be written (Not a directory)" in findings["journal"][1]
    assert "OATHBULK_JOURNAL" in findings["journal"][1]
    open_directory = desk.folder / "open"
    open_directory.mkdir()
    open_directory.chmod(0o755)
    code, findings = examine(desk, **pingone, OATHBULK_JOURNAL=str(open_directory))
    assert (code, findings["journal"]) == (
        3,
        (False, f"{open_directory} is open to other users: chmod 700 {open_directory}"),
    )


def test_without_a_journal_beside_a_database_elsewhere_there_is_a_note_and_no_fault(desk):
    _, findings = examine(desk)
    assert findings["journal"] == (True, f"in {desk.home / 'journal'}")
    _, findings = examine(desk, OATHBULK_DATABASE_URL="postgresql+psycopg://nobody@127.0.0.1:1/none")
    is_well, note = findings["journal"]
    assert is_well
    assert "none is kept; OATHBULK_JOURNAL" in note


def on_postgresql(desk, url):
    key = desk.oathbulk("keygen").stdout.strip()
    return {"OATHBULK_DATABASE_URL": url, "OATHBULK_ENCRYPTION_KEYS": key}


def test_what_postgresql_does_with_a_commit_is_told(desk, postgres_url):
    code, findings = examine(desk, **serve(desk), **on_postgresql(desk, postgres_url))
    assert code == 0, findings
    assert list(findings) == [*CHECKS[:4], "commits", *CHECKS[4:]]
    is_well, detail = findings["commits"]
    assert is_well
    assert "synchronous_commit is on" in detail
    assert "no synchronous standby" in detail


def test_an_administrators_defaults_are_not_what_is_in_force(desk, postgres_server, postgres_url):
    name = postgres_url.rpartition("/")[2]
    postgres_server.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    postgres_server.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = serializable")
    _, findings = examine(desk, **on_postgresql(desk, postgres_url))
    is_well, detail = findings["commits"]
    assert is_well
    assert "synchronous_commit is on, isolation is read committed" in detail


def test_a_command_that_gets_no_connection_is_told_the_cure(desk, postgres_server, postgres_url):
    database = postgres_url.rpartition("/")[2]
    postgres_server.execute(f"ALTER DATABASE {database} CONNECTION LIMIT 0")
    postgres_server.execute("CREATE ROLE crowded LOGIN PASSWORD 'x'")
    try:
        url = f"postgresql+psycopg://crowded:x@127.0.0.1:{postgres_server.port}/{database}"
        told = desk.oathbulk("pause", "july", **on_postgresql(desk, url))
    finally:
        postgres_server.execute("DROP ROLE crowded")
    assert told.code == 3
    (line,) = told.stderr.strip().splitlines()
    assert "PostgreSQL has no connection left" in line
    assert "OATHBULK_DATABASE_CONNECTIONS" in line
