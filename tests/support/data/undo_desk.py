"""The command that undoes a batch, with waits that pass at once, beside a simulator whose world is that of the batch's
devices."""

from typing import Any

from pydantic import SecretStr
from sqlalchemy import Row
from support.data.audit_lines import read
from support.data.batches import ENVIRONMENT_ID, TESTER, Made, look, make_batch
from support.data.moving_clock import MovingDatabase
from support.data.progress import Heard
from support.simulator.simulation import FaultOrder, WatchedSimulation

from models.batch import BatchState
from models.encrypted import Keyring
from models.record_states import NOBODY, PairingState, Status
from worker.batches.undo import Undo
from worker.config.environment import Environment
from worker.config.settings import Settings, Tuning
from worker.pace.search import RateGroup
from worker.pingone.client import Client
from worker.process.parts import Parts
from worker.simulator.world import CLIENT_ID, CLIENT_SECRET, WorldSeed

OURS = {"is_device_made": True, "pairing": PairingState.PAIRED}

OPEN = {"device_id": "", "pairing": PairingState.SENT, "pairings": 1, "owner_id": NOBODY}

TOKEN = {
    "device_id": "",
    "is_token_made": True,
    "is_in_inventory": True,
    "owner_id": NOBODY,
    "status": Status.CANCELLED,
}

# The status of a device by that of its record.
STATUSES = {Status.ACTIVE: "ACTIVE"}


class PingOne:
    """A simulator that begins anew. Its world is that of a batch's devices."""

    def __init__(self, simulation: WatchedSimulation, url: str) -> None:
        self.simulation = simulation
        self.url = url
        simulation.reset()
        simulation.change({"job_takes": 0})
        self.seed()

    def seed(self, **world: Any) -> None:
        self.simulation.seed(WorldSeed.model_validate({"environment_id": ENVIRONMENT_ID} | world))

    def give(self, record: Row[Any], **differing: Any) -> None:
        """Let it have the token of a record as a device of its person's, but for what differs."""
        device = {"serial": record.serial_number, "user_id": record.user_id, "device_id": record.device_id}
        self.seed(devices=[device | differing])

    def devices(self) -> set[str]:
        return {device.id for device in self.simulation.world.devices.values()}

    def tokens(self) -> set[str]:
        return {token.serial_number for token in self.simulation.world.token_ids.values()}

    def calls(self, *operations: str) -> list[str]:
        """Operations that were called, in their order."""
        called = (entry.operation for entry in self.simulation.call_log.entries())
        return [operation for operation in called if operation in operations]

    def order(self, kind: str, operation: str, device_id: str | None = None) -> None:
        self.simulation.faults.orders.append(FaultOrder(kind, operation, device_id))  # type: ignore[arg-type]


class Desk(Parts):
    """The command, with waits that are written down and pass at once."""

    def __init__(self, database: MovingDatabase, pingone: PingOne, redis_url: str, keyring: Keyring) -> None:
        self.environment = Environment(
            name="default",
            environment_id=ENVIRONMENT_ID,
            client_id=CLIENT_ID,
            client_secret=SecretStr(CLIENT_SECRET),
            api_url=f"{pingone.url}/v1",
            token_url=f"{pingone.url}/{{env}}/as/token",
            rate=1000,
        )
        settings = Settings(redis_url=SecretStr(redis_url), tuning=Tuning(furthest_slot=0.2, tokens_per_import=4))
        super().__init__(settings, lambda _: self.environment)
        self.database = database
        self.keyring = keyring
        self._moving = database
        self.waits = list[float]()
        self.told = Heard()
        # Of every thread, to be closed in the end.
        self._made = list[Client]()
        client_of = self.clients.client

        def find_and_keep(environment: Environment, group: RateGroup = RateGroup.MFA) -> Client:
            self._made.append(client := client_of(environment, group))
            return client

        self.clients.client = find_and_keep  # type: ignore[method-assign]

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self._moving.ahead += seconds

    @property
    def command(self) -> Undo:
        return self.undo(self.environment, TESTER, self.told)

    def close(self) -> None:
        for client in self._made:
            client.close()
        self.redis.close()


def make(database: MovingDatabase, pingone: PingOne, records: list[dict[str, Any]], **common: Any) -> Made:
    """A cancelled batch, and the devices of its records in PingOne."""
    made = make_batch(database, records, **({"state": BatchState.CANCELLED} | common))
    for record in (look(database, record_id) for record_id in made.ids):
        if record.device_id:
            pingone.give(record, status=STATUSES.get(record.status, "ACTIVATION_REQUIRED"))
    return made


def make_tokens(database: MovingDatabase, pingone: PingOne, records: list[dict[str, Any]], **common: Any) -> Made:
    """A cancelled batch whose tokens are in the inventory."""
    made = make_batch(database, records, **({"state": BatchState.CANCELLED} | common))
    pingone.seed(tokens=[{"serial": look(database, record_id).serial_number} for record_id in made.ids])
    return made


def actions(database: MovingDatabase) -> list[tuple[str, dict[str, Any]]]:
    """What the audit says: actions, and their facts."""
    return [(line.action, line.facts) for line in read(database)]
