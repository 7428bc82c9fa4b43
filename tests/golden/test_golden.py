"""Golden files: all that a person or a script is shown, held as it was when somebody last looked at it and agreed.

Here is what is typed and opened. `prepared` makes the database that all of it is shown from, `frozen_desk` types
commands in a home and at a moment that are the same on every day and machine, `conftest` compares with the files.
"""

import json
import re
import shlex
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from unittest.mock import Mock

import pytest
from golden.frozen_desk import FrozenDesk
from golden.prepared import BOX, FAILED_ROWS, PAIRS, SECOND_ID
from support.data.batches import ENVIRONMENT_ID
from support.judges.secret_search import Secrets
from support.servers.web_desk import WebDesk

from models.attempt import Failure, Outcome
from models.reason import Reason
from worker.cli.application import make_command
from worker.cli.command_list import COMMANDS
from worker.installation.installation import Installation
from worker.notices import Notifier

# Holds what is shown, by the name of its golden file.
Compare = Callable[[str, str], None]
BATCHES = {
    name: shlex.quote(name)
    for name in (
        *("done", "letters", "again", "seeds", "given up", "last year", "running", "still", "held", "later"),
        *("by person", "outage", "refused", "wrong otps", "at night", "quota", "spring's canary", "people", "box"),
        "waves",
    )
}
CANARY = BATCHES["spring's canary"]
TOKENS = {
    "active": "MADE002000000",
    "resynced": "MADE002000003",
    "mended": "MADE002000006",
    "came_back": "MADE003000005",
    "rejected_with_history": "MADE003000011",
    "row_refused": "MADE000000018",
    "user_not_found": "MADE005000002",
    "device_made_then_refused": "MADE005000007",
    "cancelled_fate_unknown": "MADE006000004",
    "in_work": "MADE007000014",
    "half_done": "MADE007000015",
    "fate_unknown": "MADE007000016",
    "lost_and_handed_back": "MADE007000017",
    "verdict": "MADE007000018",
    "totp": "MADE007000019",
    "fleet_holds": "MADE009000000",
    "batch_paused": "MADE012000003",
    "person_is_sought": "MADE018000000",
    "token_is_imported": "MADE018000003",
    "pairing_unknown": "MADE018000006",
    "box_half_done": "MADE0000003",
    "kept_back": "MADE020000010",
    "waits_for_its_date": "MADE020000005",
    "unknown": "NOPE1",
}
# Of these, `--json` is a form too.
SHOWN = {
    "status/all": "status",
    "status/unknown": "status nope",
    **{f"status/{name}": f"status {typed}" for name, typed in BATCHES.items()},
    **{f"show/{name}": f"show {token}" for name, token in TOKENS.items()},
    "status/by": "status waves --by Site",
    "status/by_date": "status waves --by not_before --where site=Zürich",
    "show/where": "show --batch waves --where site=Genf",
    "show/beginning": "show MADE003",
    "show/not_loaded": "show --status not_loaded",
    "show/reason": "show --reason locked",
    "show/of_batch": "show MADE --batch letters --limit 3",
    "show/user": "show --user user1 --batch running",
    "show/former": "show lea.sant --limit 5 --batch done",
    "show/nothing": "show NOPE --batch letters",
    "check/pairs": "check pairs.csv --offline",
    "check/totp": "check totp.csv --offline",
    "check/box": f"check {BOX}",
    "check/box_without_key": "check box.xml --offline",
    "check/unusable": "check otp1_column_missing.csv --offline",
    "check/hours": "check hall.csv --offline --canary 1 --share 60% --window 22:00-05:30 --zone UTC",
    "check/loaded_before": "check box.xml --key-file key.txt --assign who.csv --offline",
    "audit/all": "audit",
    "audit/of_batch": "audit still",
    "audit/head_missing": "audit --verify heads.txt",
    "config/default": "config",
    "config/second": "config --environment second",
    "formats/all": "formats",
    "doctor/default": "doctor",
    "pace/default": "pace",
    "pace/second": "pace --environment second",
    "purge/old": "purge --older-than 1d",
    "purge/with_dead_letters": "purge --older-than 1d --with-dead-letters",
    "purge/person": "purge --person user2",
    "run/done": "run done",
    "run/letters": "run letters",
    "run/canary": f"run {CANARY}",
    "load/pairs": "load pairs.csv --offline --ticket CHG-3",
    "load/twice": f"load {BOX}",
    "mend/letters": "mend letters failed.csv --offline --ticket CHG-4",
    "load/dates": "load dates.csv --offline --zone Europe/Zurich --accept devices_expire",
    "load/hours": "load hall.csv --offline --batch east --canary 1 --window 22:00-05:30 --zone UTC",
}
# These ask PingOne, and have JSON too.
ASKING = {
    "verify/done": "verify done",
    "verify/given up": "verify 'given up'",
    "undo/seeds": "undo seeds",
    "undo/running": "undo people",
    "undo/done": "undo seeds --yes",
    "undo/only": "undo seeds --only leavers.csv",
    "undo/all": "undo --all --only leavers.csv",
}
# These have no JSON.
SAID = {
    "status/cures": "status letters --cures",
    "pause/running": "pause running",
    "pause/done": "pause done",
    "pause/where": "pause waves --where site=Chur",
    "resume/where": "resume waves --where site=Genf --where serial=MADE020000010",
    "resume/by person": "resume 'by person'",
    "resume/hold": "resume held --now",
    "resume/hours": "resume outage --window 22:00-05:30 --zone UTC",
    "resume/done": "resume done",
    "cancel/running": "cancel running",
    "replay/letters": "replay letters",
    "replay/reason": "replay letters --reason locked",
    "replay/cancelled": "replay 'given up'",
    "replay/hopeless": "replay letters --reason invalid_otp",
    "export/letters": "export letters -o rows.csv",
    "export/hand_out": "export done --hand-out -o rows.csv",
    "report/letters": "report letters -o report.html",
    "report/waves": "report waves -o report.html --by Site",
    "load/unusable": "load otp1_column_missing.csv --offline",
    "db/upgrade": "db upgrade",
    "db/backup": "db backup copy.db",
    "db/reencrypt": "db reencrypt",
    "oathbulk/no_command": "",
    "oathbulk/unknown_command": "stauts",
    "oathbulk/unknown_option": "status --jsn",
}
# Files that are written to stdout.
WRITTEN = {
    "export/letters.csv": "export letters -o -",
    "export/failed.csv": "export letters --failed -o -",
    "export/not_loaded.csv": "export letters --status not_loaded -o -",
    "export/reason.csv": "export letters --reason resync_failed -o -",
    "export/with_otps.csv": "export running --with-otps -o -",
    "export/box.csv": "export box -o -",
    "export/hand_out.csv": "export done --hand-out -o -",
    **{
        f"report/{name}.html": f"report {BATCHES[name]} -o -"
        for name in ("letters", "done", "running", "people", "outage")
    },
    "metrics/once.txt": "metrics --once",
}
PAGES = {
    "shipments": "/",
    **{f"batch {name}": f"/batch?name={name}" for name in BATCHES},
    **{f"{command} running": f"/batch/{command}?name=running" for command in ("pause", "cancel", "pace", "give")},
    "resume by person": "/batch/resume?name=by person",
    "replay letters": "/batch/replay?name=letters",
    **{f"token {name}": f"/token?of={token}" for name, token in TOKENS.items()},
    "otps letters": "/batch/otps?name=letters&serial=MADE003000008",
    "search": "/search",
    "search found": "/search?text=MADE003&status=dead_letter",
    "search not loaded": "/search?status=not_loaded",
    "search nothing": "/search?text=NOPE",
    "audit": "/audit",
    "no such page": "/nope",
    "no such batch": "/batch?name=nope",
    "without the link": "/",
}
WIDTHS = (80, 120)


def hold_displays(desk: FrozenDesk, hold: Compare, name: str, words: list[str]) -> None:
    """Type a command into a pipe and on two terminals."""
    hold(f"{name}.txt", str(desk.type_afresh(*words)))
    for width in WIDTHS:
        hold(f"{name}.{width}.txt", str(desk.type_afresh(*words, width=width)))


def hold_json(desk: FrozenDesk, hold: Compare, name: str, words: list[str]) -> None:
    """Type a command for a script, which reads JSON, or the exit code of a command that was refused."""
    printed = desk.type_afresh(*words, "--json")
    hold(f"{name}.json", printed.stdout or json.dumps({"exit": printed.code}))


@pytest.mark.parametrize("name", [*SHOWN, *SAID])
def test_a_command_is_displayed(name: str, desk: FrozenDesk, hold: Compare) -> None:
    hold_displays(desk, hold, name, shlex.split((SHOWN | SAID)[name]))


@pytest.mark.parametrize("name", ASKING)
def test_a_command_that_asks_pingone_is_displayed(name: str, asking_desk: FrozenDesk, hold: Compare) -> None:
    words = shlex.split(ASKING[name])
    hold_displays(asking_desk, hold, name, words)
    hold_json(asking_desk, hold, name, words)


@pytest.mark.parametrize("name", SHOWN)
def test_a_script_reads_a_command(name: str, desk: FrozenDesk, hold: Compare) -> None:
    hold_json(desk, hold, name, shlex.split(SHOWN[name]))


@pytest.mark.parametrize("name", WRITTEN)
def test_a_file_is_written(name: str, desk: FrozenDesk, hold: Compare) -> None:
    printed = desk.type(*shlex.split(WRITTEN[name]))
    assert printed.stdout, printed
    # Without what nobody reads: the style sheet, which is a file of its own.
    hold(name, re.sub(r"<style>.*?</style>", "<style></style>", printed.stdout, flags=re.DOTALL))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_a_help_page(command: str, desk: FrozenDesk, hold: Compare) -> None:
    below = getattr(make_command(command), "commands", ())
    for words in (command, *(f"{command} {name}" for name in below)):
        for width in WIDTHS:
            hold(f"help/{words}.{width}.txt", str(desk.type(*words.split(), "--help", width=width)))


def test_the_commands_are_listed(desk: FrozenDesk, hold: Compare) -> None:
    for width in WIDTHS:
        hold(f"help/oathbulk.{width}.txt", str(desk.type("--help", width=width)))


def test_a_standstill_without_a_worker_is_told(desk: FrozenDesk, hold: Compare) -> None:
    with closing(sqlite3.connect(desk.home / "oathbulk.db")) as connection, connection:
        connection.execute("DELETE FROM process")
    for batch in ("still", "running", "people"):
        hold(f"status/{batch} without a worker.80.txt", str(desk.type("status", batch, width=80)))


@pytest.mark.parametrize("command", ["status", "audit", "pace", "show MADE1", "export july -o -"])
def test_before_anything_was_loaded_a_command_says_so(command: str, desk: FrozenDesk, hold: Compare) -> None:
    shutil.rmtree(desk.home)
    hold(f"{command.split()[0]}/nothing loaded.txt", str(desk.type(*command.split())))


def test_a_bundle_for_a_maintainer_names_no_person_and_no_token_and_holds_nothing_secret(desk: FrozenDesk) -> None:
    """Of batches with every kind of failure, where each place that a server can write into holds a person's address or
    a serial number."""
    spoilt, kept = "ann.lee@example.test", "5d0c1ad0-5c6c-4a30-9a5a-3b2a3c1f7e55"
    spoilt_call = dict.fromkeys(("call", "status", "code", "detail_code", "milliseconds"), spoilt)
    calls = [
        {"call": "otp2", "resync": True, "status": 400, "code": "INVALID_DATA", "error_id": kept, "milliseconds": 71},
        spoilt_call | {"error_id": "MADE003000006", "correlation_id": "28392007", "person": spoilt},
    ]
    endings = [(Outcome.DEAD_LETTER, reason) for reason in Reason] + [(Outcome.RETRY, failure) for failure in Failure]
    with closing(sqlite3.connect(desk.home / "oathbulk.db")) as connection, connection:
        connection.execute("UPDATE batch SET detail = ?, name = name || ' of Ann Lee' WHERE name = 'still'", [spoilt])
        connection.execute("UPDATE process SET detail = ?", [f"MADE003000006 of 'Ann Lee' <{spoilt}> at /home/ann/x"])
        connection.executemany(
            "INSERT INTO attempt (record_id, batch_id, number, outcome, reason, lease_id, calls, requests, otp_posts,"
            " ended_at) SELECT id, batch_id, 1, ?, ?, 'lease', ?, 1, 1, '2026-03-02' FROM record LIMIT 1",
            [(*ending, json.dumps(calls)) for ending in endings],
        )
        columns = "serial_number, username, email, external_id, user_id, device_id"
        known = {str(word) for row in connection.execute(f"SELECT {columns} FROM record") for word in row if word}
        known |= {word for (word,) in connection.execute("SELECT name FROM batch") if " " in word}
    known |= {spoilt, "Ann Lee", "alice", ENVIRONMENT_ID, SECOND_ID, "host-2", "/home", str(desk.folder), "MADE"}
    otps = [tuple(row.split(",")[1:3]) for row in f"{PAIRS}{FAILED_ROWS}".splitlines() if row[:3] in ("NEW", "MAD")]
    settings = {name: desk.variables[name] for name in ("OATHBULK_ENCRYPTION_KEYS", "PINGONE_CLIENT_SECRET")}
    printed = desk.type("doctor", "--bundle", "-")
    assert (printed.stderr, [word for word in sorted(known) if word in printed.stdout]) == ("", [])
    pairs = [pair for pair in otps if all(len(otp) == 6 for otp in pair)]
    assert not [otp for pair in pairs for otp in pair if otp in printed.stdout]
    assert Secrets(pairs, settings).found_in(printed.stdout.encode()) == set()
    told = json.loads(printed.stdout)
    assert {(line["outcome"], line["reason"]) for line in told["attempts"]} >= {*endings}
    assert told["attempts"][-1]["calls"] == [calls[0], {}]
    assert {line["check"] for line in told["checks"]} >= {"workers", "batches", "roles"}
    assert {"name": "PINGONE_CLIENT_SECRET", "value": "set"} in told["settings"]
    assert sum(line["records"] for line in told["records"]) > len(known) / 3


def test_a_bundle_is_shown_and_is_sent_nowhere(desk: FrozenDesk) -> None:
    printed = desk.type("doctor", "--bundle", "bundle.json")
    written = (desk.folder / "bundle.json").read_text(encoding="utf-8")
    assert written in printed.stdout
    assert printed.stdout.startswith("✓ home")
    assert printed.stderr == "bundle.json holds these lines. Nothing was sent: read it, and send it yourself.\n"
    assert "bundle.json exists" in desk.type("doctor", "--bundle", "bundle.json").stderr
    assert json.loads(desk.type("doctor", "--bundle", "bundle.json", "--overwrite", "--json").stdout)["checks"]


def test_a_webhook_is_told(desk: FrozenDesk, hold: Compare) -> None:
    installation, webhook = Installation(desk.variables), Mock()
    Notifier(installation.database, installation.license_of, webhook).send_notices()
    bodies = [call.args[0] | {"id": "the same for each try"} for call in webhook.post.call_args_list]
    hold("webhook/bodies.json", json.dumps(bodies))


@pytest.mark.parametrize("name", PAGES)
def test_the_desk_has_a_page(name: str, desk: FrozenDesk, hold: Compare) -> None:
    pages = WebDesk(Installation(desk.variables))
    if name != "without the link":
        pages.enter()
    answer = pages.request("GET", PAGES[name].replace(" ", "%20"))
    hold(f"desk/{name}.html", f"<!-- {answer.status_code} -->\n{answer.text}")


def test_what_was_commanded_at_the_desk_is_said(desk: FrozenDesk, hold: Compare) -> None:
    pages = WebDesk(Installation(desk.variables))
    pages.enter()
    done = {
        "pause": pages.command_well("pause", "running"),
        "resume": pages.command_well("resume", "running"),
        "replay": pages.command_well("replay", "letters", reason="locked"),
        "pace": pages.command_well("pace", "running", pace="fixed", rate="20"),
        "cancel": pages.command_well("cancel", "running", typed_name="running"),
    }
    hold("desk/commanded.json", json.dumps(done))
