"""A whole installation of oathbulk: database, queue, a simulated PingOne, and the programs that work, as processes."""

import os
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from models.encrypted import generate_key
from support.data.batches import TESTER
from support.data.shipments import MadeSeeds, Records, Unpaired, open_box
from support.judges.status_moves import watch_moves
from support.judges.verdict import deliver_verdict
from support.processes.program import Program
from support.servers.simulator import Simulator
from worker.batches.commands import Batches
from worker.batches.loading import Loader
from worker.config.settings import TUNING, Tuning
from worker.config.sources import load_environment, load_settings
from worker.database.engine import Database
from worker.embedded.home import home_key
from worker.intake.lists import open_assignment
from worker.intake.shipment import Shipment, open_shipment
from worker.reports.facts import BatchStatus, read_statuses
from worker.simulator.shipment import Box, MadeShipment
from worker.vault.keys import load_keyring

BATCH = "shipment"
TIMEOUT = 300.0
LOOK = 0.2

# Seconds: all that takes a minute in production takes a few of them here.
QUICK = {
    "_OATHBULK_TUNING__call_deadline": "2",
    "_OATHBULK_TUNING__lease_left_for_post": "3",
    "_OATHBULK_TUNING__lease": "6",
    "_OATHBULK_TUNING__queue_lease": "5",
    "_OATHBULK_TUNING__read_delay": "1",
    "_OATHBULK_TUNING__not_found_delay": "1",
    "_OATHBULK_TUNING__outage_hold": "1",
    "_OATHBULK_TUNING__tick": "0.3",
    "_OATHBULK_TUNING__window": "128",
    "OATHBULK_CONCURRENCY": "8",
    "PINGONE_RATE": "200",
}
# As a user has it who sets none of these.
PRODUCTION = {f"{TUNING}__{name}": str(value) for name, value in Tuning() if value is not None}
# Where no call is to be lost, a busy machine must not make one too slow.
PATIENT = {
    "_OATHBULK_TUNING__call_deadline": "15",
    "_OATHBULK_TUNING__lease_left_for_post": "16",
    "_OATHBULK_TUNING__lease": "40",
    "_OATHBULK_TUNING__queue_lease": "20",
}


class Worked:
    """A batch that is worked on: how it stands, and waiting for it. `was_out`: it was seen paused for an outage, the
    one pause that ends by itself. `testimony`: the last that each program said."""

    database: Database
    records: Records
    testimony: Callable[[], str]
    patience = TIMEOUT
    was_out = False

    def tend(self) -> None:
        """What whoever runs it does unasked: called while somebody waits."""

    def status(self) -> BatchStatus:
        (status,) = read_statuses(self.database, BATCH)
        return status

    def is_finished(self) -> bool:
        """Raises AssertionError if it waits for a person."""
        status = self.status()
        self.was_out = self.was_out or status.reason == "outage"
        is_stopped = status.state == "paused" and status.reason != "outage"
        assert not is_stopped, f"it paused by itself: {status.reason}\n{self.testimony()}"
        return not status.to_do

    def wait_until(self, condition: Callable[[], object], what: str, timeout: float | None = None) -> None:
        """Raises TimeoutError, with the records that are left and what the programs say."""
        patience = timeout or self.patience
        give_up_at = time.monotonic() + patience
        while not condition():
            if time.monotonic() > give_up_at:
                left = self.records.describe_unfinished()
                raise TimeoutError(f"not within {patience:g} s: {what}\n{left}\n{self.testimony()}")
            self.tend()
            # Looking costs those who work.
            time.sleep(LOOK)

    def wait_until_finished(self) -> BatchStatus:
        """Raises AssertionError if it waits for a person, TimeoutError if it never ends."""
        self.wait_until(self.is_finished, "the batch is finished by itself")
        return self.status()


class Fleet(Worked):
    """The shipment is loaded; work begins with the first worker and beat; `judge` ends it and gives the verdict.

    It is one batch, or several of `batch_of` records each. `database_url` None is the single-machine installation:
    SQLite file and encryption key lie in the home. `settings` are oathbulk's variables, `simulated` the simulator's
    settings."""

    def __init__(
        self,
        directory: Path,
        home: Path,
        database_url: str | None,
        redis_url: str,
        shipment: MadeShipment,
        *,
        settings: Mapping[str, str] | None = None,
        batch_of: int | None = None,
        **simulated: Any,
    ) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self.shipment = shipment
        # What is not oathbulk's: PingOne's own files, and the shipment as the vendor sent it.
        self.outside = directory / "outside"
        self.outside.mkdir()
        home.mkdir(mode=0o700, exist_ok=True)
        self.simulator = self._stack.enter_context(Simulator(self.outside, shipment, plain_env(), **simulated))
        self.variables = QUICK | {"OATHBULK_HOME": str(home), "OATHBULK_REDIS_URL": redis_url} | (settings or {})
        self.variables |= self.simulator.variables
        if database_url is None:
            self.encryption_key = home_key(home)
        else:
            self.encryption_key = generate_key()
            self.variables |= {"OATHBULK_DATABASE_URL": database_url, "OATHBULK_ENCRYPTION_KEYS": self.encryption_key}
        self.settings = load_settings(self.variables)
        self.database = Database(self.settings.database)
        self._stack.callback(self.database.close)
        self.batches = Batches(self.database, TESTER)
        self.records = Records(self.database, shipment)
        self.programs: list[Program] = []
        self.simulator_counts: dict[str, Any] = {}
        watch_moves(self.database)
        if batch_of is None:
            self._load(BATCH, shipment)
        else:
            for start in range(0, len(shipment.expected), batch_of):
                self._load(batch_name(start // batch_of), _cut(shipment, start, start + batch_of))

    def worker(self, name: str, *arguments: str, level: str = "INFO", **variables: str) -> Program:
        """`celery -A worker worker`; it is not ready yet when this comes back. `variables` go before the fleet's."""
        return self.celery(name, "worker", "-n", f"{name}@%h", "-l", level, *arguments, **variables)

    def beat(self, name: str = "beat", *arguments: str, level: str = "INFO", **variables: str) -> Program:
        """`celery -A worker beat`, each with a file of its own, as on machines of their own."""
        schedule = str(self._directory / f"{name}-schedule")
        return self.celery(name, "beat", "-l", level, "-s", schedule, *arguments, **variables)

    def celery(self, name: str, *arguments: str, **variables: str) -> Program:
        return self._start(name, "celery", "-A", "worker", *arguments, **variables)

    def command(self, name: str, *arguments: str, **variables: str) -> Program:
        """A command that was started."""
        return self._start(name, "worker", *arguments, **variables)

    def oathbulk(self, name: str, *arguments: str) -> str:
        """A command, to its end: what it printed."""
        program = self.command(name, *arguments)
        assert program.wait() == 0, program.read_log()
        return program.read_log()

    def wait_until_posted(self, posts: int) -> None:
        self.wait_until(lambda: self.simulator.posts() >= posts, f"{posts} OTPs arrived")

    def judge(self, *, was_replayed: bool = False, excused: Collection[str] = ()) -> None:
        """End everything, keep the simulator's counts, and fail if a promise was broken. `excused`: reasons for which a
        token of a box may be given up although it was not made so."""
        for program in self.programs:
            program.kill()
        tenant, self.simulator_counts = self.simulator.tenant(), self.simulator.counts()
        self.simulator.stop()
        budget = self.settings.otp_post_budget
        deliver_verdict(
            self.database, self.simulator, tenant, budget=budget, was_replayed=was_replayed, excused=excused
        )

    def judge_as_made(self) -> BatchStatus:
        """Judge a batch once it is finished; and fail unless every record ended as it was made to, and at no OTP more
        than that takes. Returns how the batch stands."""
        status = self.wait_until_finished()
        self.judge()
        assert self.records.wrong_endings() == []
        assert status.otp_posts == self.records.posts_as_made()
        return status

    def close(self) -> None:
        self._stack.close()

    def _start(self, name: str, module: str, *arguments: str, **variables: str) -> Program:
        program = Program(name, module, arguments, plain_env() | self.variables | variables, self._directory)
        self.programs.append(self._stack.enter_context(program))
        return program

    def _load(self, name: str, shipment: MadeShipment) -> None:
        environment = load_environment(self.settings, variables=self.variables)
        loader = Loader(self.database, load_keyring(self.settings), environment, TESTER)
        loaded = loader.load(self._open(name, shipment), name)
        assert (loaded.total, loaded.rows_refused) == (len(shipment.expected), 0)

    def _open(self, name: str, shipment: MadeShipment) -> Shipment:
        """Write the shipment's files as a vendor and a person would, and open them."""
        if isinstance(shipment, Unpaired):
            return shipment.open(self.outside, name)
        if isinstance(shipment, Box):
            shipment.write(self.outside)
            return open_box(shipment, self.outside)
        file = self.outside / f"{name}.csv"
        if not isinstance(shipment, MadeSeeds):
            shipment.write_pairs(file)
            return open_shipment(file)
        people = self.outside / f"{name}-people.csv"
        shipment.write_seeds(file)
        shipment.write_list(people)
        return open_shipment(file, assignment=open_assignment(people))

    def testimony(self) -> str:
        """How the batch stands, if the database can tell, and the last that each program said."""
        said = [
            f"--- {program.name}, running: {program.is_running}\n{program.read_log()[-3000:]}"
            for program in self.programs
        ]
        return "\n".join([*said, f"--- PingOne\n{self.simulator.counts()}"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def batch_name(number: int) -> str:
    """The name of one batch of several, counted from 0."""
    return f"{BATCH}-{number}"


def _cut(shipment: MadeShipment, start: int, end: int) -> MadeShipment:
    """The rows of one batch of several."""
    if isinstance(shipment, Unpaired):
        return shipment.cut(start, end)
    rows = shipment.rows[start:end]
    return replace(shipment, rows=rows, expected={row.serial: shipment.expected[row.serial] for row in rows})


def plain_env() -> dict[str, str]:
    """The variables of this process, without any that is a setting of oathbulk."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("OATHBULK_", "PINGONE_"))}
