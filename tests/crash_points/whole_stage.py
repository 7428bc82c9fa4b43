"""A stage for records without a device: their batches are prepared, their tokens are paired, and the sixth promise is
judged as well."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import httpx
from sqlalchemy import select
from support.data.shipments import Unpaired, free_token
from support.fleets.real_fleet import Fleet
from support.judges.call_log import Tenant
from support.judges.creations import judge_creations
from support.judges.final_records import judge_records
from support.judges.final_tables import find_unwritten

from crash_points.orders import Life, Zygote
from crash_points.stage import Stage
from models.inventory_job import InventoryJob, JobState
from models.record import Record
from worker.batches.long_list import LEASE
from worker.simulator.world import DeviceSeed

# What a judge says of a record that calls something ours which somebody else made.
DEVICE_OF_ANOTHER = "it calls a device ours that was there before"
TOKEN_OF_ANOTHER = "it calls a token ours that no call imported"
# Rounds in which every batch is prepared: the last may find a job lost, read the inventory, and import again.
PREPARATION_ROUNDS = 3


class WholeStage(Stage):
    """The records of a fleet that loaded `unpaired`."""

    def __init__(self, fleet: Fleet, zygote: Zygote, unpaired: Unpaired) -> None:
        super().__init__(fleet, zygote)
        self.unpaired = unpaired
        # What the judge says of records for which it is unclear who made what is theirs.
        self.charge = TOKEN_OF_ANOTHER if unpaired.may_import else DEVICE_OF_ANOTHER
        # The user of each device that somebody else paired, by its id.
        self._devices_of_others: dict[str, str] = {}

    def prepare(self, batches: int = 1, dies_at: int | None = None) -> Life:
        """A worker that prepares so many batches, each for a turn."""
        return self._obey(preparations=batches, dies_at=dies_at)

    def go_on_preparing(self) -> None:
        """Time passes, until the turns of the dead are over and no answer comes any more."""
        self.ahead += LEASE
        self.go_on()

    def finish_preparing(self) -> None:
        """Healthy workers do what is left."""
        for _ in range(PREPARATION_ROUNDS):
            self.go_on_preparing()
            self.prepare(len(self.ends()))
        assert self.count_unprepared() == 0

    def count_unprepared(self) -> int:
        """Count the records whose token was not found or imported yet."""
        return list(self._read(Record.is_in_inventory).values()).count(False)

    def import_as_another(self) -> None:
        """Somebody else imports the tokens of all records that the inventory lacks."""
        there = self.fleet.simulator.tenant().tokens_by_serial
        devices = self.unpaired.paired.world.devices
        tokens = [free_token(device) for device in devices if device.serial not in there]
        self.fleet.simulator.seed(tokens=[token.model_dump(mode="json", exclude_defaults=True) for token in tokens])

    def pair_as_another(self, *devices: DeviceSeed) -> None:
        """Somebody else pairs these."""
        self._devices_of_others |= {device.device_id: device.user_id for device in devices}
        seeds = [device.model_dump(mode="json", exclude_defaults=True) for device in devices]
        self.fleet.simulator.seed(devices=seeds)

    def of_unknown_job(self) -> set[int]:
        """Records whose token goes with a job of which nobody knows an id."""
        sent = select(Record.id).join(InventoryJob, InventoryJob.id == Record.import_job_id)
        with self.fleet.database.reading() as connection:
            return set(connection.scalars(sent.where(InventoryJob.state == JobState.SENT)))

    def lose_pairing(self, *records: int, fault: str) -> None:
        """To the next request of each to be paired: the connection will break."""
        serials = self.serials()
        orders = [{"kind": fault, "operation": "pair", "serial_number": serials[record]} for record in records]
        self.fleet.simulator.order_faults(*orders)

    def age_devices(self) -> None:
        """A day passes for the devices that wait, and PingOne deletes them."""
        httpx.post(f"{self.fleet.simulator.url}/simulator/age", json={"hours": 25}).raise_for_status()

    def serials(self) -> dict[int, str]:
        """Serial numbers by record."""
        return self._read(Record.serial_number)

    def _read(self, column: Any) -> dict[int, Any]:
        """A column of all records."""
        with self.fleet.database.reading() as connection:
            return {row.id: row[1] for row in connection.execute(select(Record.id, column))}

    def judge(self, unclear: Collection[int] = ()) -> None:
        simulator, serials = self.fleet.simulator, self.serials()
        tenant = self._read_tenant()
        simulator.shipment = self.unpaired.with_devices(self._find_devices(tenant))
        super().judge()
        calls, unwritten = simulator.whole_log(), find_unwritten(self.fleet.database)
        assigned = {row.serial: row.user_id for row in self.unpaired.tokens}
        charges = judge_creations(calls, tenant, assigned, unwritten)
        charges += judge_records(self.fleet.database, calls, tenant, assigned, unwritten)
        expected = {f"{serials[record_id]}: {self.charge}" for record_id in unclear}
        assert set(charges) == expected, "\n".join(["the judge convicts:", *sorted(set(charges) ^ expected)[:20]])

    def _read_tenant(self) -> Tenant:
        """The tenant as it is; what somebody else paired meanwhile was there before."""
        return replace(self.fleet.simulator.tenant(), devices_before=self._devices_of_others)

    def _find_devices(self, tenant: Tenant) -> dict[str, Sequence[str]]:
        """All that ever were devices, by the serial numbers of their tokens."""
        found: dict[str, list[str]] = {device.serial: [device.id] for device in tenant.devices}
        for call in self.fleet.simulator.whole_log():
            if call.made_device_id is not None and call.made_device_id not in found.get(call.serial_number or "", ()):
                found.setdefault(call.serial_number or "", []).append(call.made_device_id)
        return dict(found)
