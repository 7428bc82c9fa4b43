"""A box was loaded by mistake, and its run died half-way: what it made is taken away again, and nothing else."""

from __future__ import annotations

import re

import pytest
from support.processes.waiting import wait_until

from worker.simulator.shipment import a_few_of_each, make_box

# Seconds.
PATIENCE = 120
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


def accept_all(desk):
    """What a person accepts who has read the check."""
    result = desk.oathbulk("check", *RUN[1:-2], "--json")
    assert result.stdout, result.stderr
    found = result.json
    return [part for name in found["blocking"] for part in ("--accept", name)]


def stands(simulator):
    """What a person would find in the tenant: whose each device is, and every token."""
    devices = {name: (found["serial"], found["user_id"]) for name, found in simulator.devices().items()}
    tokens = {name: (found["token_id"], found["device_id"]) for name, found in simulator.tokens().items()}
    return devices, tokens


def defaults(simulator):
    """The devices that people are asked for first."""
    return {name for name, found in simulator.devices().items() if found["is_default"]}


@pytest.fixture
def half_done(set_out):
    """A run that was killed while some devices were made and others were not; answers got lost meanwhile, those to
    these `orders` for certain."""

    def run(has_begun, *orders):
        desk, simulator = set_out(BOX, QUICK, faults=LOST, fault_operations=("pair", "import_tokens"), job_takes=0.2)
        simulator.order_faults(*orders)
        BOX.write(desk.folder)
        desk.make_home()
        before = (*stands(simulator), defaults(simulator))
        running = desk.start(*RUN, *accept_all(desk))
        wait_until(lambda: not running.is_alive or has_begun(simulator, before), PATIENCE, "something is made")
        assert running.is_alive, running.stderr
        wait_until(lambda: desk.kill(*desk.processes()) or not desk.processes(), PATIENCE, "all are dead")
        return desk, simulator, before

    return run


def some_devices(simulator, before):
    return len(simulator.devices()) > len(before[0]) + 40


def some_tokens(simulator, before):
    return len(simulator.tokens()) > len(before[1])


def undo(desk, *options):
    """Give it again until nobody works on the batch any more: what the dead had in hand is held for a while."""
    results = []

    def is_done():
        results.append(desk.oathbulk("undo", "box", *options))
        return "in hand: wait" not in results[-1].stderr

    wait_until(is_done, PATIENCE, "nothing is in hand")
    return results[-1]


@pytest.mark.faults
def test_after_an_undo_the_tenant_is_as_it_was_before_the_run(half_done):
    """The undo is killed as well, and its answers get lost."""
    desk, simulator, before = half_done(some_devices)
    assert "oathbulk cancel box" in desk.oathbulk("undo", "box").stderr
    assert desk.oathbulk("cancel", "box").code == 0

    middle = stands(simulator)
    shown = undo(desk, "--json")
    assert shown.json["devices"]["there"] > 0
    assert stands(simulator) == middle
    simulator.change(faults=LOST, fault_operations=("unpair", "revoke_tokens"), latency=0.2)

    killed = desk.start("undo", "box", "--yes")
    wait_until(lambda: not killed.is_alive or len(simulator.devices()) < len(middle[0]), PATIENCE, "some are gone")
    assert killed.is_alive, killed.stderr
    wait_until(lambda: desk.kill(*desk.processes()) or not desk.processes(), PATIENCE, "all are dead")
    assert stands(simulator)[0] != before[0]
    simulator.change(latency=0)
    devices = undo(desk, "--devices-only", "--yes", "--ticket", "INC-7")
    assert (devices.code, devices.stderr.count("Traceback")) == (0, 0), devices.stdout + devices.stderr
    assert stands(simulator)[0] == before[0]
    assert stands(simulator)[1] != before[1]

    tokens = undo(desk, "--yes", "--ticket", "INC-7")
    assert tokens.code == 0, tokens.stdout + tokens.stderr
    assert stands(simulator) == before[:2]
    assert defaults(simulator) >= before[2]

    again = desk.oathbulk("undo", "box", "--json").json
    assert (again["devices"]["made"], again["devices"]["unknown_pairings"], again["tokens"]["own"]) == (0, 0, 0)
    lines = [line for line in desk.oathbulk("audit", "box", "--json").json["lines"] if line["ticket"] == "INC-7"]
    actions = [line["action"] for line in lines]
    assert actions == sorted(actions, reverse=True)
    assert (actions[:2], actions[-2:]) == (["unpair"] * 2, ["revoke"] * 2)
    verified = desk.oathbulk("verify", "box", "--json")
    assert {found["theirs"] for found in verified.json["differences"]} <= {
        "ACTIVE",
        "paired with this person, as a device that the record does not have",
        "paired with another person",
    }


@pytest.mark.faults
def test_imports_of_unknown_fate_are_undone_too(half_done):
    """The run is killed while its first tokens appear in the inventory, and nobody hears of their import."""
    desk, simulator, before = half_done(some_tokens, {"kind": "reset_after", "operation": "import_tokens"})
    assert desk.oathbulk("cancel", "box").code == 0
    undone = undo(desk, "--yes", "--json")
    assert (undone.code, undone.json["tokens"]["revoked"] > 0) == (0, True), undone.stdout + undone.stderr
    assert stands(simulator) == before[:2]
    assert defaults(simulator) >= before[2]


@pytest.mark.faults
def test_ctrl_c_says_how_far_it_was_and_the_next_run_counts_what_was_removed_before(set_out):
    box = make_box(60, seed=3)
    desk, simulator = set_out(box, {"_OATHBULK_TUNING__call_deadline": "5"}, job_takes=0.2)
    box.write(desk.folder)
    assert desk.oathbulk(*RUN).code == 0
    assert "is left to cancel" in desk.oathbulk("cancel", "box").stderr
    there = len(simulator.devices())
    simulator.change(latency=0.4)

    removing = desk.start("undo", "box", "--yes")
    wait_until(lambda: len(simulator.devices()) < there, PATIENCE, "some are gone")
    removing.interrupt()
    removing.interrupt()
    removing.hang_up()
    result = removing.wait()

    assert (result.code, result.stdout) == (130, ""), result.stderr
    assert '"event"' not in result.stderr
    first, *_, last = [line for line in result.stderr.splitlines() if "Removing devices" in line]
    assert first == "Removing devices: 0 of 60"
    done = re.fullmatch(
        r"Interrupted\. Removing devices: (\d+) of 60\. What was taken away is written down\. "
        r"Go on with: oathbulk undo box --yes",
        last,
    )
    assert done
    earlier, left = int(done[1]), len(simulator.devices())
    assert 0 < earlier < 60
    assert desk.processes() == []

    simulator.change(latency=0)
    again = desk.oathbulk("undo", "box", "--yes")
    assert again.code == 0, again.stderr
    said = rf"60 devices of box: {left} removed now, (\d+) by an earlier run; (\d+) were gone already\."
    told = re.fullmatch(said, again.stdout.splitlines()[0])
    assert told, again.stdout
    # A removal that was under way at Ctrl-C is written down by nobody.
    by_earlier, gone = map(int, told.groups())
    assert by_earlier + gone == 60 - left
    assert by_earlier >= earlier - gone


def test_the_token_of_somebody_who_leaves_is_taken_back_and_the_others_stay(set_out):
    """A list by hand, as the help says it; one that cannot be used is refused with its row, and nothing goes."""
    box = make_box(8, seed=3)
    desk, simulator = set_out(box, {"_OATHBULK_TUNING__call_deadline": "5"}, job_takes=0.2)
    box.write(desk.folder)
    assert desk.oathbulk(*RUN).code == 0
    devices, tokens = stands(simulator)
    leaver = next(iter(devices.values()))[0]

    (desk.folder / "bad.txt").write_text(f"{leaver}\n1.0E+12\n")
    refused = desk.oathbulk("undo", "box", "--only", "bad.txt", "--yes")
    assert (refused.code, stands(simulator)) == (2, (devices, tokens))
    assert "bad.txt, line 2: the serial was turned into a number" in refused.stderr

    (desk.folder / "leavers.csv").write_text(f"name,serial_number\nAda,{leaver}\nBob,NOTOURS1\n")
    shown = desk.oathbulk("undo", "box", "--only", "leavers.csv")
    assert (shown.code, stands(simulator)) == (1, (devices, tokens))
    assert "1 device of box would be removed" in shown.stdout
    assert "1 token of box would be revoked" in shown.stdout
    assert "NOTOURS1: no row of this batch has it" in shown.stdout
    assert "oathbulk undo box --only leavers.csv --yes" in shown.stdout

    assert desk.oathbulk("undo", "box", "--only", "leavers.csv", "--yes", "--ticket", "INC-8").code == 1
    assert len(stands(simulator)[0]) == len(devices) - 1
    assert leaver not in {serial for serial, _ in stands(simulator)[0].values()}
    assert leaver not in stands(simulator)[1]
    # Nothing of it is named that is gone already.
    (desk.folder / "leavers.csv").write_text(f"{leaver}\n")
    assert desk.oathbulk("undo", "box", "--only", "leavers.csv", "--yes").code == 0
