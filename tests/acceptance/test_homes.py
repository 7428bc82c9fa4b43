"""Where commands keep what they load, and how a person hears of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.data.tokens import make_tokens, write_shipment
from support.processes.command_desk import OATHBULK, CommandDesk
from support.servers.stand_in import StandIn


@pytest.fixture
def pingone() -> Iterator[StandIn]:
    with StandIn(make_tokens(3)) as pingone:
        yield pingone


@pytest.fixture
def desk(tmp_path: Path, pingone: StandIn) -> Iterator[CommandDesk]:
    """A person's machine: nothing is set, and nothing was loaded."""
    with CommandDesk(tmp_path / "desk", pingone.settings) as desk:
        del desk.settings["OATHBULK_HOME"]
        write_shipment(desk.folder / "shipment.csv", list(pingone.tokens.values()))
        yield desk


def home_of(desk: CommandDesk) -> Path:
    return desk.folder / "state" / "oathbulk"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("status", 0),
        ("status --json", 0),
        ("status july", 2),
        ("pause july", 2),
        ("export july -o july.csv", 2),
        ("verify july", 2),
        ("audit", 2),
        ("doctor", 0),
        ("check shipment.csv", 0),
        ("db upgrade", 2),
    ],
)
def test_a_command_that_loads_nothing_makes_no_home(desk: CommandDesk, words: str, code: int) -> None:
    result = desk.oathbulk(*words.split())
    assert result.code == code, result.stderr
    assert not home_of(desk).exists()
    assert "Traceback" not in result.stderr
    if code:
        assert "oathbulk run FILE" in result.stderr


def test_a_shipment_is_known_from_every_directory_and_goes_out_once(desk: CommandDesk, pingone: StandIn) -> None:
    first = desk.oathbulk("run", "shipment.csv")
    assert first.code == 0, first.stderr
    assert first.stderr.startswith(f"Home: {home_of(desk)}")

    elsewhere = desk.folder / "elsewhere"
    elsewhere.mkdir()
    again = desk.start_program("sh", "-c", f"cd elsewhere && exec {OATHBULK[0]} run ../shipment.csv").wait()
    assert again.code == 0, again.stderr
    assert "Finished" in again.stdout
    assert len(pingone.posts) == 3
    assert "shipment  finished  3 of 3 active" in desk.oathbulk("status", "shipment").stdout
    assert f"Home: {home_of(desk)}" in desk.oathbulk("status").stdout


def test_a_home_of_an_earlier_version_is_used_and_named_with_the_way_to_move_it(desk: CommandDesk) -> None:
    earlier = desk.folder / ".oathbulk"
    assert desk.oathbulk("run", "shipment.csv", OATHBULK_HOME=str(earlier)).code == 0

    result = desk.oathbulk("status")
    assert "shipment" in result.stdout
    (note,) = [line for line in result.stderr.splitlines() if line.startswith("The home is")]
    assert str(earlier) in note

    command = note.rpartition(": ")[2]
    assert desk.start_program("sh", "-c", command).wait().code == 0
    moved = desk.oathbulk("status")
    assert "shipment" in moved.stdout
    assert "The home is" not in moved.stderr
    assert f"Home: {home_of(desk)}" in moved.stdout


@pytest.mark.faults
def test_what_was_rehearsed_is_found_until_something_is_loaded(desk: CommandDesk) -> None:
    """Doctor and config tell what a run would meet, so they name it and do not go there, as `status` does."""
    empty = f"{home_of(desk)}: nothing was loaded into it yet"
    assert empty in " ".join(desk.oathbulk("doctor").stdout.split())
    assert f"Home: {empty}\n" in desk.oathbulk("config").stderr
    assert desk.oathbulk("rehearse", "--tokens", "12").code == 0
    rehearsal = desk.folder / "state" / "oathbulk-rehearsals" / "rehearsal"
    assert not home_of(desk).exists()

    found = desk.oathbulk("status", "rehearsal")
    assert found.code == 0
    assert f"Home: {rehearsal}" in found.stderr
    every = desk.oathbulk("status")
    assert "rehearsal" in every.stdout
    assert (every.stdout + every.stderr).count("Home: ") == 1
    assert desk.oathbulk("export", "rehearsal", "-o", "rehearsal.csv").code == 0
    for command in ("doctor", "config"):
        result = desk.oathbulk(command)
        there = f"{empty}; the latest rehearsal's is another: OATHBULK_HOME={rehearsal} oathbulk {command}"
        assert there in " ".join((result.stdout + result.stderr).split())
        looked_at = desk.oathbulk(command, OATHBULK_HOME=str(rehearsal))
        assert (looked_at.code, "nothing was loaded" in looked_at.stdout + looked_at.stderr) == (0, False)

    assert desk.oathbulk("run", "shipment.csv").code == 0
    assert not [line for line in desk.oathbulk("config").stderr.splitlines() if line.startswith("Home")]
    assert "rehearsal" not in desk.oathbulk("status").stdout
    assert desk.oathbulk("status", "rehearsal").code == 0
