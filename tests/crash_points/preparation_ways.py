"""The ways of a batch's preparation: its person is looked up, the inventory is read, its token is imported by a job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from crash_points.names import ACCESS_TOKEN, FIND, OPEN, READ_TOKEN, SLOT, exchange, reading, writing
from crash_points.way import POSTGRESQL, SQLITE
from crash_points.whole_stage import WholeStage

TURN = reading("Turns.begin") + writing("Turns.begin")
RENEW = writing("Turns.renew")
# Each call asks once more whether the batch may be prepared, when its slot has come.
PERMIT = SLOT + RENEW
# The three attributes by which people may be named; nobody is left to be looked up.
NOBODY_LEFT = reading("People.look_up") * 3
STATE = reading("Imports.find_unfinished") + reading("TokenWork.advance")

LOOKED_UP = RENEW + reading("People.look_up") + ACCESS_TOKEN + PERMIT + exchange("Reads.find_users")
LOOKED_UP += writing("People.look_up")
READ = STATE + PERMIT + exchange("Reads.list_tokens") + writing("Inventory.take") + RENEW
READ += writing("Inventory.end_reading")
BEGIN, COMMIT, COMMITTED = writing("Imports.begin")
WRITTEN_DOWN = RENEW + NOBODY_LEFT + STATE + (BEGIN, *OPEN, COMMIT, COMMITTED)
START = exchange("InventoryJobs.start_import") + writing("Imports.note_started")
RESULT = RENEW + NOBODY_LEFT + reading("Imports.find_unfinished") + PERMIT + exchange("InventoryJobs.read_job")
RESULT += writing("Imports.note_done")
TAKE, TAKEN = writing("Inventory.take")[:1], writing("Inventory.take")[1:]
COMPARED = PERMIT + exchange(FIND) + PERMIT + exchange(READ_TOKEN) + TAKE + OPEN + TAKEN
DONE = RENEW + NOBODY_LEFT + STATE + writing("Turns.end")

FOUND_OUT = TURN + LOOKED_UP + READ


@dataclass(frozen=True)
class PreparationWay:
    """What a worker does with a batch of one record in a turn. `prepare` brings every batch to where the turn
    begins."""

    steps: tuple[str, ...]
    database: str
    prepare: Callable[[WholeStage], object] = lambda _: None


def imported_meanwhile(stage: WholeStage) -> None:
    """Workers died when they had seen that the inventory lacks the tokens; then somebody else imported these."""
    for _ in stage.ends():
        assert stage.prepare(dies_at=len(FOUND_OUT) - 1).steps == list(FOUND_OUT)
    stage.import_as_another()
    stage.go_on_preparing()


PREPARATION_WAYS: dict[str, PreparationWay] = {
    "imported": PreparationWay(FOUND_OUT + WRITTEN_DOWN + PERMIT + START + RESULT + DONE, POSTGRESQL),
    "imported_by_another": PreparationWay(
        TURN + WRITTEN_DOWN + ACCESS_TOKEN + PERMIT + START + RESULT + COMPARED + DONE, SQLITE, imported_meanwhile
    ),
}
