"""What is done once a run has ended: what was a mistake is undone, and what is long done is purged; each as a person
types it. What one of them does in every case, and what PingOne has, is in integration/; how what failed is mended, in
the pages that test_pages.py follows."""

import sqlite3
from contextlib import closing

import pytest
from support.data.tokens import make_tokens, write_shipment
from support.processes.waiting import wait_until

from worker.simulator.shipment import a_few_of_each, make_box

TOKENS = 130
BOX = make_box(TOKENS, seed=3, special=a_few_of_each(TOKENS))
RUN = ("run", "box.pskc", "--key-file", "box.key", "--assign", "who.csv", "--import", "--pair", "--batch", "box")
# What a dead process held comes back soon, and what is of unknown fate may be asked about soon.
QUICK = {
    "_OATHBULK_TUNING__call_deadline": "3",
    "_OATHBULK_TUNING__lease_left_for_post": "3.5",
    "_OATHBULK_TUNING__lease": "5",
    "_OATHBULK_TUNING__send_within": "0.5",
    "_OATHBULK_TUNING__longest_hold": "1",
    "_OATHBULK_TUNING__tokens_per_import": "30",
}
LOST = {"reset_after": 0.15, "error_after": 0.1}


def kill_once(desk, words, has_begun):
    """Type a command, and end all of it by kill -9 when it has done something."""
    running = desk.start(*words)
    wait_until(lambda: not running.is_alive or has_begun(), "something is done")
    assert running.is_alive, running.stderr
    wait_until(lambda: desk.kill(*desk.processes()) or not desk.processes(), "all are dead")


def stands(simulator):
    """What a person would find in the tenant: whose each device is, and every token."""
    devices = {name: (found["serial"], found["user_id"]) for name, found in simulator.devices().items()}
    tokens = {name: (found["token_id"], found["device_id"]) for name, found in simulator.tokens().items()}
    return devices, tokens


def defaults(simulator):
    """The devices that people are asked for first."""
    return {name for name, found in simulator.devices().items() if found["is_default"]}


def undo(desk, *options):
    """Give it again until nobody works on the batch any more: what the dead had in hand is held for a while."""
    results = []

    def is_done():
        results.append(desk.oathbulk("undo", "box", *options))
        return "in progress: wait" not in results[-1].stderr

    wait_until(is_done, "nothing is in hand")
    return results[-1]


@pytest.mark.faults
def test_after_an_undo_the_tenant_is_as_it_was_before_the_run(set_out):
    """The run was killed while some devices were made and others were not; the undo is killed as well. Their answers
    get lost."""
    desk, simulator = set_out(BOX, QUICK, faults=LOST, fault_operations=("pair", "import_tokens"), job_takes=0.2)
    BOX.write(desk.folder)
    desk.make_home()
    before = (*stands(simulator), defaults(simulator))
    blocking = desk.oathbulk("check", *RUN[1:-2], "--json").json["blocking"]
    kill_once(
        desk,
        [*RUN, *(f"--accept={name}" for name in blocking)],
        lambda: len(stands(simulator)[0]) > len(before[0]) + 40,
    )
    assert "oathbulk cancel box" in desk.oathbulk("undo", "box").stderr
    assert desk.oathbulk("cancel", "box").code == 0

    middle = stands(simulator)
    assert undo(desk, "--json").json["devices"]["there"] > 0
    assert stands(simulator) == middle
    simulator.change(faults=LOST, fault_operations=("unpair", "revoke_tokens"), latency=0.2)

    kill_once(desk, ["undo", "box", "--yes"], lambda: len(stands(simulator)[0]) < len(middle[0]))
    assert stands(simulator)[0] != before[0]
    simulator.change(latency=0)
    devices = undo(desk, "--devices-only", "--yes", "--ticket", "INC-7")
    assert (devices.code, devices.stderr.count("Traceback")) == (0, 0), devices.stdout + devices.stderr
    there, tokens_left = stands(simulator)
    assert (there == before[0], tokens_left == before[1]) == (True, False)

    tokens = undo(desk, "--yes", "--ticket", "INC-7")
    assert tokens.code == 0, tokens.stdout + tokens.stderr
    assert (stands(simulator), defaults(simulator) >= before[2]) == (before[:2], True)

    again = desk.oathbulk("undo", "box", "--json").json
    assert (again["devices"]["made"], again["devices"]["unknown_pairings"], again["tokens"]["own"]) == (0, 0, 0)
    audited = desk.oathbulk("audit", "box", "--json").json["lines"]
    actions = [line["action"] for line in audited if line["ticket"] == "INC-7"]
    assert set(actions) == {"undo"}
    assert len(actions) >= 4
    differences = desk.oathbulk("verify", "box", "--json").json["differences"]
    assert {found["theirs"] for found in differences} <= {
        "ACTIVE",
        "paired with this person, as a device that the record does not have",
        "paired with another person",
    }


# Commands on a batch that need its records.
NEED_RECORDS = (
    *(f"{command} shipment" for command in ("pause", "resume", "cancel", "replay", "verify", "undo")),
    "export shipment -o out.csv",
    "export shipment -o out.csv --hand-out",
    "report shipment -o out.html",
    "show --batch shipment",
)


def test_what_is_long_done_is_purged_with_yes_while_another_batch_is_at_work_and_every_command_says_so(set_up):
    tokens = make_tokens(8, wrong=1)
    desk, pingone = set_up(tokens)
    write_shipment(desk.folder / "shipment.csv", tokens[4:], username=[f"{number}.lea" for number in range(4)])
    write_shipment(desk.folder / "new.csv", tokens[:4])
    assert desk.oathbulk("run", "shipment.csv", "--accept", "user_not_found").code == 1
    with closing(sqlite3.connect(desk.home / "oathbulk.db")) as database, database:
        for column in ("record SET finalized_at", "batch SET created_at"):
            then = f"datetime({column.split()[-1]}, '-101 days') || '.000000'"
            database.execute(f"UPDATE {column} = {then}")
    kept = desk.oathbulk("purge", "--older-than", "90d")
    assert (kept.code, "1 dead letter is waiting for someone: replay or mend it" in kept.stdout) == (0, True), (
        kept.stdout
    )
    command = ("purge", "--older-than", "90d", "--with-dead-letters")
    assert "Nothing was changed." in desk.oathbulk(*command).stdout
    pingone.hold_after(0)
    running = desk.start("run", "new.csv")
    wait_until(lambda: pingone.held or not running.is_alive, "calls are under way")
    purged = desk.oathbulk(*command, "--yes", "--ticket", "CHG-4711")
    pingone.let_go()
    assert "shipment: purged, 4 records (3 active, 1 dead_letter)" in purged.stdout, purged.stderr
    assert running.wait().code == 0

    status = desk.status()
    assert (status["total"], status["counts"]["active"], status["dead_letters"]) == (4, 3, {"invalid_otp": 1})
    load, purge = desk.oathbulk("audit", "shipment", "--json").json["lines"]
    assert (load["action"], purge["action"], purge["ticket"]) == ("load", "purge", "CHG-4711")
    for words in NEED_RECORDS:
        refused = desk.oathbulk(*words.split())
        assert (refused.code, "oathbulk: batch 'shipment' was purged on " in refused.stderr) == (2, True), refused
    assert not list(desk.folder.glob("out.*"))
    # The file that comes again is known, and sends nothing.
    posts, ran = pingone.times_posted().total(), desk.oathbulk("run", "shipment.csv")
    assert "This file was already loaded as batch shipment: 4 records, and was purged on " in ran.stdout + ran.stderr
    assert (ran.code, pingone.times_posted().total()) == (1, posts)
