"""`oathbulk doctor`: each thing that can be wrong, found and explained before a run."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import sqlite3
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import mkdtemp

import pytest
import redis
from support.fleets.real_fleet import plain_env
from support.processes.command_desk import CommandDesk
from support.processes.waiting import wait_until
from support.servers.simulator import Simulator

from worker.installation.broker_check import RULES
from worker.simulator.shipment import MadeShipment
from worker.simulator.world import UserSeed, WorldSeed

STORED = ["keys", "database", "audit", "workers", "batches", "backup"]
OF_PINGONE = ["learnt", "network", "access token", "roles", "clock"]
CHECKS = ["home", "configuration", *STORED, "broker", *OF_PINGONE]


@pytest.fixture
def desk(tmp_path):
    with CommandDesk(tmp_path / "desk") as desk:
        desk.make_home()
        yield desk


@pytest.fixture
def watch(tmp_path):
    """Makes a watched simulator with these users and settings; the variables that lead to it."""
    with ExitStack() as stack:

        def make(*users, **settings):
            folder = Path(mkdtemp(dir=tmp_path))
            tenant = MadeShipment((), WorldSeed(users=users), {})
            simulator = stack.enter_context(Simulator(folder, tenant, plain_env(), **settings))
            return {name: value for name, value in simulator.variables.items() if "RESYNC" not in name}

        yield make


def serve(desk):
    """The product's simulator; the variables that lead to it."""
    ready = desk.folder / "ready.json"
    ready.unlink(missing_ok=True)
    simulator = desk.start("simulator", "--port", "0", "--ready-file", ready)
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
    assert all(set(finding) == {"check", "is_well", "state", "detail", "cure"} for finding in findings)
    assert all(finding["is_well"] == (finding["state"] != "fault") for finding in findings)
    # Nobody is left alone with a fault.
    assert all(finding["cure"] for finding in findings if finding["state"] == "fault"), findings
    assert result.json["is_well"] == all(finding["is_well"] for finding in findings) == (result.code == 0)
    return result.code, {
        finding["check"]: (finding["is_well"], " → ".join(filter(None, [finding["detail"], finding["cure"]])))
        for finding in findings
    }


def test_all_is_well_with_a_pingone_that_answers(desk):
    pingone = serve(desk)
    code, findings = examine(desk, **pingone)
    assert list(findings) == CHECKS
    assert all(is_well for is_well, _ in findings.values()), findings
    assert code == 0
    told = desk.oathbulk("doctor", **pingone)
    assert told.code == 0
    lines = [line for line in told.stdout.splitlines() if not line.startswith(" ")]
    marks = [f"{'?' if check == 'backup' else '✓'} {check}" for check in CHECKS]
    assert [line[:17].strip() for line in lines[:-1]] == marks
    assert lines[-1] == f"All is well; 1 of {len(CHECKS)} checks could not be made."
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
    unknown = ("workers", "batches", "learnt")
    assert list(findings) == [check for check in CHECKS if check not in unknown]
    # With a database of one's own, so must be the keys.
    faulty = [check for check, (is_well, _) in findings.items() if not is_well]
    assert faulty == ["keys", "database", "broker", "access token"]
    assert findings["roles"] == (True, "not known: there is no access token")
    assert "OATHBULK_ENCRYPTION_KEYS" in findings["keys"][1]
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
    assert findings["database"] == (False, "the database is empty → run `oathbulk db upgrade`")
    assert desk.oathbulk("db", "upgrade", **own).code == 0
    code, findings = examine(desk, **pingone, **own)
    assert code == 0, findings


def test_a_database_that_a_later_version_has_upgraded_is_one_fault_and_no_traceback(desk):
    with contextlib.closing(sqlite3.connect(desk.home / "oathbulk.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()
    code, findings = examine(desk, **serve(desk))
    assert code == 3
    assert [check for check, (is_well, _) in findings.items() if not is_well] == ["database"]
    assert "type commands with the later version's oathbulk" in findings["database"][1]
    for command in ("status", "db upgrade"):
        refused = desk.oathbulk(*command.split())
        assert (refused.code, len(refused.stderr.splitlines())) == (3, 1)
        assert "the database is at revision 9999" in refused.stderr


def test_a_batch_whose_workers_are_all_gone_is_named_with_what_brings_one(desk):
    """On a single machine too, where nothing else runs while no `oathbulk run` does."""
    pingone = serve(desk)
    user_id, device_id = "6f1d3c1e-0c52-4b6e-9d1f-000000000001", "6f1d3c1e-0c52-4b6e-9d1f-000000000002"
    row = f"A1,123456,654321,{user_id},{device_id}"
    (desk.folder / "box.csv").write_text(f"serial,otp1,otp2,user_id,device_id\n{row}\n")
    assert desk.oathbulk("load", "box.csv", "--offline", **pingone).code == 0
    code, findings = examine(desk, **pingone)
    assert (code, findings["batches"]) == (0, (True, "work left in box; none stands still"))
    with contextlib.closing(sqlite3.connect(desk.home / "oathbulk.db")) as database:
        for change in ("batch SET running_since", "record SET scheduled_at"):
            database.execute(f"UPDATE {change} = datetime('now', '-70 seconds')")
        database.commit()
    code, findings = examine(desk, **pingone)
    assert code == 3
    assert [check for check, (is_well, _) in findings.items() if not is_well] == ["batches"]
    assert re.match(
        r"box: nothing has moved for 1 min 1\d s\. No worker runs\. → `oathbulk run box` brings one; or start",
        findings["batches"][1],
    )


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
    assert [check for check, (is_well, _) in findings.items() if not is_well] == ["access token"]
    assert "not known: PingOne does not tell the time" in findings["clock"][1]
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


def test_a_clock_that_is_off_is_found(desk, watch):
    code, findings = examine(desk, **watch(clock_skew=-90))
    assert code == 3
    assert [check for check, (is_well, _) in findings.items() if not is_well] == ["clock"]
    detail = findings["clock"][1]
    seconds = int(detail.split(" s ")[0])
    assert 85 <= seconds <= 95
    assert "ahead of PingOne's" in detail
    assert "NTP" in detail


def on_postgresql(desk, url):
    key = desk.oathbulk("keygen").stdout.strip()
    return {"OATHBULK_DATABASE_URL": url, "OATHBULK_ENCRYPTION_KEYS": key}


def test_what_postgresql_does_with_a_commit_is_told(desk, postgres_url):
    code, findings = examine(desk, **serve(desk), **on_postgresql(desk, postgres_url))
    assert code == 0, findings
    is_well, detail = findings["database"]
    assert is_well
    assert "synchronous_commit is on" in detail
    assert "no synchronous standby" in detail


def test_an_administrators_defaults_are_not_what_is_in_force(desk, postgres_server, postgres_url):
    name = postgres_url.rpartition("/")[2]
    postgres_server.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    postgres_server.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = serializable")
    _, findings = examine(desk, **on_postgresql(desk, postgres_url))
    is_well, detail = findings["database"]
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


USER = UserSeed(user_id="0a7b0000-5e1f-4c0d-8000-0000000000a1")


def test_a_role_without_which_nothing_is_activated_is_named(desk, watch):
    code, findings = examine(desk, **watch(USER, forbidden_groups=["mfa", "directory"]))
    assert code == 3
    assert [check for check, (is_well, _) in findings.items() if not is_well] == ["roles"]
    assert "INSUFFICIENT_PERMISSIONS" in findings["roles"][1]
    assert findings["roles"][1].endswith(
        "→ give the worker application the role Identity Data Admin in this environment"
    )
    code, findings = examine(desk, **watch(USER, forbidden_groups=["mfa"]))
    assert [check for check, (is_well, _) in findings.items() if not is_well] == ["roles"]
    assert "users and devices forbidden, the role Identity Data Admin is missing" in findings["roles"][1]


def test_a_role_that_only_an_import_needs_is_named_as_pingone_calls_it_and_is_no_fault(desk, watch):
    code, findings = examine(desk, **watch(USER, forbidden_groups=["inventory"]))
    assert code == 0
    assert findings["roles"][1].endswith(
        "without it there is no --import, nor a look at the inventory; MFA policies permitted"
        " → give the worker application the role Environment Admin in this environment"
    )
    assert findings["roles"][1].startswith("users and devices permitted; inventory forbidden")


def test_where_pingone_does_not_tell_its_roles_the_likely_one_is_named(desk, watch):
    _, findings = examine(desk, **watch(USER, forbidden_groups=["inventory", "configuration"]))
    assert "the role Environment Admin, probably in this environment" in findings["roles"][1]
    assert "the role Configuration Read Only in this environment" in findings["roles"][1]


def test_the_application_that_imports_is_asked_for_its_own_role(desk, watch):
    pingone = watch(USER)
    importer = {"PINGONE_IMPORT_CLIENT_ID": "another", "PINGONE_IMPORT_CLIENT_SECRET": "wrong"}
    code, findings = examine(desk, **pingone, **importer)
    assert code == 3
    assert [check for check, (is_well, _) in findings.items() if not is_well] == ["access token"]
    assert findings["access token"][1].startswith("another: PingOne refused")
    assert findings["roles"] == (
        True,
        "users and devices permitted; not known: inventory, since there is no access token; MFA policies permitted",
    )


def test_the_age_of_the_last_backup_is_told_and_one_that_is_too_old_is_a_fault(desk):
    pingone, stamp = serve(desk), desk.folder / "backup.stamp"
    code, findings = examine(desk, **pingone, OATHBULK_BACKUP_STAMP=str(stamp))
    assert (code, findings["backup"][0]) == (3, False)
    stamp.touch()
    _, findings = examine(desk, **pingone, OATHBULK_BACKUP_STAMP=str(stamp))
    assert findings["backup"][0]
    assert findings["backup"][1].startswith("the last one was made ")
    os.utime(stamp, (time.time() - 30 * 3600,) * 2)
    _, findings = examine(desk, **pingone, OATHBULK_BACKUP_STAMP=str(stamp))
    assert not findings["backup"][0]
    assert "30 h 0 min ago" in findings["backup"][1]


def test_keys_that_others_can_read_are_found(desk):
    (desk.home / "encryption.key").chmod(0o640)
    _, findings = examine(desk)
    assert not findings["keys"][0]
    assert f"chmod 600 {desk.home / 'encryption.key'}" in findings["keys"][1]


def test_a_proxy_that_is_in_force_is_named_and_tried(desk):
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        name = f"127.0.0.1:{proxy.getsockname()[1]}"
        # Of a port of this machine at which nobody listens, a refusal comes at once.
        nowhere = {"PINGONE_ENVIRONMENT_ID": "e", "PINGONE_CLIENT_ID": "c", "PINGONE_CLIENT_SECRET": "hidden"}
        nowhere |= {"PINGONE_API_URL": "https://api.pingone.example/v1", "PINGONE_TOKEN_URL": "http://127.0.0.1:1/t"}
        threading.Thread(target=hang_up, args=(proxy,), daemon=True).start()
        _, findings = examine(desk, **nowhere, HTTPS_PROXY=f"http://user:hidden@{name}")
    told = f"not known: through the proxy {name}, which can be reached; certificates are checked"
    assert findings["network"][0]
    assert findings["network"][1].startswith(told)
    assert "hidden" not in str(findings)
    _, findings = examine(desk, **nowhere, HTTPS_PROXY="http://user:hidden@127.0.0.1:1")
    assert not findings["network"][0]
    assert "127.0.0.1:1: Connection refused" in findings["network"][1]
    assert "hidden" not in str(findings)


def hang_up(listener):
    """Take each connection, and close it without a word."""
    with contextlib.suppress(OSError):
        while True:
            listener.accept()[0].close()


def test_on_a_terminal_long_lines_go_on_below_their_text(desk):
    desk.settings |= serve(desk)
    terminal = desk.start_on_terminal("doctor", columns=80)
    terminal.wait()
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in terminal.read().splitlines()]
    # A path is not broken.
    assert all(len(line) <= 80 or len(line.split()) == 1 for line in lines)
    (number,) = [number for number, line in enumerate(lines) if line.startswith("? backup ")]
    assert lines[number + 1].startswith(" " * 17 + "→ let your backup touch a file")
    assert lines[number + 2].startswith(" " * 17 + "file with OATHBULK_BACKUP_STAMP")
