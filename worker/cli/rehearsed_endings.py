"""How the tokens of a rehearsal ended, beside how they were made to end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sqlalchemy import select

from models.record import Record
from worker.cli.console import console, name_program
from worker.cli.exit_codes import ALL_ACTIVE, SOME_LEFT
from worker.installation.installation import Installation
from worker.observability.counting import agree, count_things
from worker.reports.stall import Rehearsal

if TYPE_CHECKING:
    from worker.simulator.shipment import Expected

# Tokens that did not end as made, as many as a person reads.
SHOWN = 10


def judge_endings(installation: Installation, batch: str, expected: Mapping[str, Expected]) -> int:
    """Compare how every token of the home's one batch ended with how it was made to end, print the outcome, and choose
    the exit code."""
    if wrong := _find_wrong(installation, expected):
        for serial, end in list(wrong.items())[:SHOWN]:
            console.print(f"{serial} was made to end as {expected[serial]}, and ended as {end}.")
        console.print(f"The rehearsal failed: {len(wrong)} of {len(expected)} tokens did not end as made.", style="red")
        return SOME_LEFT
    hopeless = sum(end.status != "active" for end in expected.values())
    active = len(expected) - hopeless
    home = installation.settings.home
    console.print(
        f"The rehearsal went as it should: {count_things(active, 'token')} "
        f"{agree(active, 'is', 'are')} active, and {hopeless:,} {agree(hopeless, 'was', 'were')} made hopeless on "
        f"purpose. All of it is kept in {home}."
    )
    rehearsal = Rehearsal(home, name_program())
    console.print(f"To look at it: {rehearsal.write(f'oathbulk status {batch}')}", soft_wrap=True)
    return ALL_ACTIVE


def _find_wrong(installation: Installation, expected: Mapping[str, Expected]) -> dict[str, object]:
    """Find the tokens that did not end as made, with how they ended; None where there is no record."""
    columns = select(Record.serial_number, Record.status, Record.reason, Record.resynced)
    with installation.database.reading() as connection:
        ended = {serial: tuple(end) for serial, *end in connection.execute(columns)}
    return {
        serial: ended.get(serial)
        for serial, end in expected.items()
        if ended.get(serial) != (end.status, end.reason, end.resynced)
    }
