"""Batches that are to be prepared, and a worker's preparation before a PingOne in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from sqlalchemy import Row, func, select, update

from models.batch import Batch
from models.encrypted import Keyring, identify_row
from models.inventory_job import InventoryJob
from models.record import Record
from support.data.batches import Made, look, make_batch, make_environment
from support.data.moving_clock import MovingDatabase
from support.data.scripted_inventory import ScriptedInventory
from worker.batches.long_list import Superseded, Turns
from worker.batches.preparation import Failures, People, Preparation
from worker.batches.tokens import Tokens
from worker.batches.upkeep import Consequences, Upkeep
from worker.config.environment import Environment, Environments
from worker.config.settings import Tuning
from worker.fleet import Fitness, Sickness
from worker.pingone.clients import Clients
from worker.pingone.errors import Answer, Forbidden, OutcomeUnknown
from worker.rules.breaker import Thresholds
from worker.vault.otps import Secret, Seed

HOTP = Seed(secret=Secret(b"12345678901234567890"))
SEND_WITHIN = 5.0
ANSWER_WITHIN = 170.0
ALICE, BOB = "a11ce000-0000-4000-8000-000000000001", "b0b00000-0000-4000-8000-000000000002"
LOST = OutcomeUnknown(Answer(status=502))
FORBIDDEN = Forbidden(Answer(status=403))


class ToldTurns(Turns):
    """Turns that tell when one is renewed amid a reading of the inventory."""

    on_renew: Callable[[], object]

    def renew(self, batch_id: int) -> bool:
        self.on_renew()
        return super().renew(batch_id)

    def check(self, batch_id: int) -> None:
        if not super().renew(batch_id):
            raise Superseded


@dataclass
class Site:
    """A worker's preparation, and the PingOne that it calls."""

    database: MovingDatabase
    keyring: Keyring
    most_tokens: int = 500
    environment: Environment = field(default_factory=make_environment)
    pingone: ScriptedInventory = field(default_factory=ScriptedInventory)
    waited: list[float] = field(default_factory=list)
    # What waits in the place of a turn that ends.
    wait: Callable[[float], object] | None = None
    on_renew: Callable[[], object] = lambda: None
    # Why this process takes no more work.
    sick: list[Sickness] = field(default_factory=list)
    # Whether another process is well.
    is_spared: bool = False

    def __post_init__(self) -> None:
        self.upkeep = Upkeep(self.database, Thresholds())
        fitness = cast(Fitness, SimpleNamespace(fall_sick=self.fall_sick))
        licenses = cast(Environments, SimpleNamespace(license_of=lambda _: self.environment.license))
        self.failures = Failures(Consequences(self.upkeep, fitness, licenses), longest_hold=120.0)

    def fall_sick(self, sickness: Sickness) -> bool:
        self.sick.append(sickness)
        return self.is_spared

    def prepare(self) -> bool:
        """One turn; it ends when it would have to wait for PingOne."""
        self.waited.clear()
        turns = ToldTurns(self.database)
        turns.on_renew = lambda: self.on_renew()
        clients = cast(Clients, self.pingone)
        tokens = Tokens(
            self.database,
            self.keyring,
            clients,
            self.wait or self.waited.append,
            Tuning(
                tokens_per_import=self.most_tokens,
                send_within=SEND_WITHIN,
                call_deadline=ANSWER_WITHIN - SEND_WITHIN,
                read_delay=0.0,
            ),
        )
        return Preparation(
            self.database,
            cast(Environments, {"default": self.environment}),
            clients,
            turns,
            People(self.database, 40),
            tokens,
            self.failures,
            self.upkeep,
            self.wait or self.waited.append,
            is_stopping=lambda: bool(self.waited),
        ).run()

    def jobs(self, made: Made) -> list[tuple[str, int]]:
        """State and size of each job, in their order."""
        mine = select(InventoryJob.state, InventoryJob.size).where(InventoryJob.batch_id == made.batch_id)
        with self.database.reading() as connection:
            return [(row.state, row.size) for row in connection.execute(mine.order_by(InventoryJob.id))]

    def count(self, *conditions: Any) -> int:
        with self.database.reading() as connection:
            return connection.scalar(select(func.count()).select_from(Record).where(*conditions)) or 0


def make(
    site: Site,
    records: int | list[dict[str, Any]] = 1,
    *,
    may_import: bool = True,
    seed: Seed | None = HOTP,
    **common: Any,
) -> Made:
    """A batch of tokens with seeds that are to be found or imported; None: with pairs of OTPs."""
    lacking = {"device_id": "", "is_in_inventory": False} | common
    made = make_batch(site.database, records, keyring=site.keyring, **lacking)
    with site.database.writing() as connection:
        mine = {"may_import": may_import, "may_pair": True}
        connection.execute(update(Batch).where(Batch.id == made.batch_id).values(mine))
        for number, record_id in enumerate(made.ids if seed else []):
            assert seed is not None
            otps = site.keyring.seal(seed.to_plaintext(), identify_row(made.batch_id, number + 2))
            values = {"otps": otps, "next_counter": 0}
            connection.execute(update(Record).where(Record.id == record_id).values(values))
    return made


def of(site: Site, made: Made) -> Row[Any]:
    return look(site.database, made.id)


def serial(site: Site, made: Made, number: int = 0) -> str:
    return str(look(site.database, made.ids[number]).serial_number)


def finish(site: Site, most: int = 60) -> None:
    """Turns until nothing is left to prepare, with some seconds between two of them."""
    for _ in range(most):
        if not site.prepare():
            return
        site.database.ahead += 6.0
    raise AssertionError(f"the preparation does not end: {site.pingone.log[-10:]}")
