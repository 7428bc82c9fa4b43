"""What is broken in every stack, whatever it is made of, and how its end is judged."""

import abc
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from chaos.links import Link, Network
from support.data.shipments import Records
from support.judges.status_moves import watch_moves
from support.judges.verdict import deliver_verdict
from support.servers.simulator import Simulator

from models.attempt import Outcome
from worker.database.engine import Database
from worker.reports.facts import BatchStatus, read_statuses
from worker.simulator.shipment import MadeShipment

BATCH = "shipment"
# Seconds.
TIMEOUT = 180.0
LOOK = 0.2

# Threads of each of the two workers.
THREADS = 4
SETTINGS = {
    "_OATHBULK_TUNING__call_deadline": "2",
    "_OATHBULK_TUNING__send_within": "1",
    "_OATHBULK_TUNING__lease_left_for_post": "3",
    "_OATHBULK_TUNING__lease": "5",
    "_OATHBULK_TUNING__queue_lease": "5",
    "_OATHBULK_TUNING__read_delay": "1",
    "_OATHBULK_TUNING__not_found_delay": "1",
    "_OATHBULK_TUNING__outage_hold": "1",
    "_OATHBULK_TUNING__tick": "0.3",
    "OATHBULK_CONCURRENCY": str(THREADS),
}
# Disturbances may cost a device all the posts that it may have, or a record all its attempts or pairings.
SPENT = frozenset({"budget_spent", "attempts_spent", "pairing_failed"})


class Stack(abc.ABC):
    """Two workers, beat, a queue, a database, and a simulated PingOne; the batch is loaded, and worked on from `start`.

    What is killed or stopped stays so until it is started again, unless it is a part of the stack to see to that. Each
    stack can start, kill, stop, freeze and thaw a worker by its name, start and kill beat and a server, and flush the
    queue."""

    # The servers that lie behind a network, and those that can be killed.
    links_to: frozenset[str]
    servers: frozenset[str]
    workers: Sequence[str]
    database: Database
    budget: int

    def __init__(self, directory: Path, shipment: MadeShipment) -> None:
        self.directory = directory
        self.shipment = shipment
        self.links: dict[str, dict[str, Link]] = {}
        self.stack = ExitStack()
        self.network = self.stack.enter_context(Network())
        self.simulator: Simulator
        self.counts: dict[str, Any] = {}

    @abc.abstractmethod
    def end_programs(self) -> None:
        """All that works, when there is nothing left to do."""

    @abc.abstractmethod
    def testimony(self) -> str:
        """The last that each program said."""

    @abc.abstractmethod
    def tend(self) -> None:
        """What whoever runs the stack does unasked: called while somebody waits."""

    @property
    def records(self) -> Records:
        return Records(self.database, self.shipment)

    def status(self) -> BatchStatus:
        (status,) = read_statuses(self.database, BATCH)
        return status

    def is_finished(self) -> bool:
        """Raises AssertionError if the batch waits for a person."""
        status = self.status()
        waits = status.state == "paused" and status.reason != "outage"
        assert not waits, f"it paused by itself: {status.reason}\n{self.testimony()}"
        return not status.left

    def lost(self) -> int:
        """Attempts so far whose lease ran out."""
        return self.records.attempts(Outcome.LOST)

    def wait_until(self, condition: Callable[[], object], what: str, timeout: float = TIMEOUT) -> None:
        """Raises TimeoutError, with the records that are left and what the programs say."""
        give_up_at = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > give_up_at:
                left = self.records.describe_unfinished()
                raise TimeoutError(f"not within {timeout:g} s: {what}\n{left}\n{self.testimony()}")
            self.tend()
            time.sleep(LOOK)

    def wait_until_finished(self) -> BatchStatus:
        self.wait_until(self.is_finished, "the batch is finished by itself")
        return self.status()

    def judge(self) -> None:
        """End everything, and fail if a promise was broken or a record ended as it was not made to."""
        self.end_programs()
        tenant, self.counts = self.simulator.tenant(), self.simulator.counts()
        self.simulator.stop()
        deliver_verdict(self.database, self.simulator, tenant, budget=self.budget, excused=SPENT)
        wrong = self.records.wrong_endings(excused=SPENT)
        assert not wrong, f"not as they were made to end: {wrong}"

    def lay_links(self, worker: str, ports: Mapping[str, int]) -> None:
        """Ways of this worker's own to the servers on these ports of this machine."""
        for server, port in ports.items():
            self.links.setdefault(server, {})[worker] = self.network.link(port)

    def watch(self, database: Database) -> None:
        """This is the database that holds the batch: from here on, changes of a status are noted."""
        self.database = database
        self.stack.callback(database.close)
        watch_moves(database)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()
