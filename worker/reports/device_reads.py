"""Reads one device back from PingOne, for a verification: the device, or why nothing is known of it."""

from __future__ import annotations

from collections.abc import Callable

from worker.pace.errors import SlotTooFar
from worker.pace.slots import call_patiently
from worker.pingone.client import Call, Client
from worker.pingone.errors import PingOneError
from worker.pingone.wire import Device

# What the read of a device brings: the device, or why nothing is known of it.
Answer = Device | PingOneError | SlotTooFar
# Reads a device by user id and device id. The Call has the ids of the read in PingOne's audit, and counts its requests.
Read = Callable[[str, str, Call], Answer]


def make_device_reader(client: Callable[[], Client], active: set[str] | None = None) -> Read:
    """Make the function that reads a device, with the calling thread's client, and adds its id to `active` if it is
    ACTIVE. It waits for a slot however long that takes, since there is nobody to hand the read back to."""

    def read(user_id: str, device_id: str, call: Call) -> Answer:
        try:
            device = call_patiently(lambda: client().read_device(user_id, device_id, call=call))
        except (PingOneError, SlotTooFar) as failure:
            return failure
        if device.is_active and active is not None:
            active.add(device_id)
        return device

    return read


def make_read_call(record_id: int) -> Call:
    """Make the ids by which PingOne's own audit tells the read for this record from others."""
    return Call(session_id="oathbulk-verify", transaction_id=f"oathbulk-record-{record_id}")
