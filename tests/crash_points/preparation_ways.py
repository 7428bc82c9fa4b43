"""The ways of a batch's preparation: its person is looked up, the inventory is read, its token is imported by a job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from crash_points.names import ACCESS_TOKEN, FIND, OPEN, READ_TOKEN, SLOT, exchange, reading, writing
from crash_points.steps import BEGIN as BEGIN_TRANSACTION
from crash_points.way import POSTGRESQL, SQLITE
from crash_points.whole_stage import WholeStage

TURN = reading("Turns.begin") + writing("Turns.begin")
CHECK = writing("Turns.check")
# Each call asks once more whether the batch may be prepared, when its slot has come.
PERMIT = SLOT + CHECK
LOOK = reading("People.list_unknown.<locals>.take")
# The three attributes by which people may be named; nobody is left to be looked up.
NOBODY_LEFT = LOOK * 3
STATE = reading("JobLog.find_unfinished") + reading("Preparation.run")

PEOPLE_READ = CHECK + LOOK + ACCESS_TOKEN + PERMIT + exchange("Reads.find_users")
LOOKED_UP = PEOPLE_READ + writing("People._write")
READ = STATE + reading("Tokens.read_inventory") + PERMIT + exchange("Reads._read")
READ += writing("Tokens.read_inventory") + writing("Turns.renew")
READ += writing("Tokens.read_inventory")
BEGIN, COMMIT, COMMITTED = writing("Tokens.start_next")
WRITTEN_DOWN = CHECK + NOBODY_LEFT + STATE + (BEGIN, *OPEN, COMMIT, COMMITTED)
START = writing("JobLog.send.<locals>.mark_again") + exchange("InventoryJobs.start_import") + writing("JobLog.send")
RESULT = CHECK + NOBODY_LEFT + reading("JobLog.find_unfinished") + PERMIT + exchange("InventoryJobs.read_job")
RESULT += writing("Tokens.follow")
TAKE, TAKEN = writing("Tokens.follow")[:1], writing("Tokens.follow")[1:]
COMPARED = PERMIT + exchange(FIND) + PERMIT + exchange(READ_TOKEN) + TAKE + OPEN + TAKEN
DONE = CHECK + NOBODY_LEFT + STATE + writing("Turns.end")

FOUND_OUT = TURN + LOOKED_UP + READ
# Of a worker that finds the inventory read.
ABOUT_TO_START = TURN + WRITTEN_DOWN + ACCESS_TOKEN + PERMIT


@dataclass(frozen=True)
class PreparationWay:
    """What a worker does with a batch of one record in a turn. `prepare` brings every batch to where the turn
    begins. Nobody dies at the steps before number `tried_from`: nothing is written down there but the turn, or another
    way has them."""

    steps: tuple[str, ...]
    database: str
    prepare: Callable[[WholeStage], object] = lambda _: None
    tried_from: int = 0

    @property
    def deaths(self) -> list[int]:
        """The numbers of the steps at which somebody dies: of those with one name the first; and none that only
        begins a transaction, since nothing has happened since the step before."""
        tried = range(self.tried_from, len(self.steps))
        first = {self.steps[number]: number for number in reversed(tried)}
        return [number for number in tried if first[self.steps[number]] == number and not self._begins(number)]

    def _begins(self, number: int) -> bool:
        return self.steps[number].endswith(BEGIN_TRANSACTION)


def imported_meanwhile(stage: WholeStage) -> None:
    """Workers died when they had seen that the inventory lacks the tokens; then somebody else imported these."""
    for _ in range(stage.count_unprepared()):
        assert stage.prepare(dies_at=len(FOUND_OUT) - 1).steps == list(FOUND_OUT)
    stage.import_as_another()
    stage.go_on_preparing()


PREPARATION_WAYS: dict[str, PreparationWay] = {
    "imported": PreparationWay(
        FOUND_OUT + WRITTEN_DOWN + PERMIT + START + RESULT + DONE, POSTGRESQL, tried_from=len(TURN + PEOPLE_READ)
    ),
    "imported_by_another": PreparationWay(
        ABOUT_TO_START + START + RESULT + COMPARED + DONE, SQLITE, imported_meanwhile, tried_from=len(ABOUT_TO_START)
    ),
}
