"""Promise 6, held against every commit and request: nothing is made twice, and nobody gets a token that the assignment
did not give them. What is said of a look-up after a loss counts from the loss: while the request may still act, no
look-up tells what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hunt.committed_rows import Row
from hunt.model_pingone import ModelPingOne
from hunt.strands import Broken, Clock
from hunt.tenant import FIND, FREE, IMPORT, JOB, LIST, PAIR, REFUSED, SEEN_AFTER, TAKEN, Call, ModelDevice
from models.batch import BatchState
from models.record_states import OtpState, PairingState, Status
from worker.rules.decisions import MOST_PAIRINGS

if TYPE_CHECKING:
    from hunt.step_judge import StepJudge

# How a job ended, as far as somebody heard of it.
_ENDED = ("DONE", "FAILED")


class CreationJudge:
    """Looks at tokens and devices; the step judge, which it is a part of, looks at leases and OTPs."""

    def __init__(self, judge: StepJudge, connection: Any, clock: Clock, pingone: ModelPingOne) -> None:
        self._judge = judge
        self._connection = connection
        self._clock = clock
        self._pingone = pingone
        # Requests to pair of each record up to its last replay.
        self._forgiven: dict[int, int] = {}
        # The device with which a person's command let each record go again: whosever it is, a row named it.
        self._named: dict[int, str] = {}

    def arriving(self, call: Call) -> None:
        """A request's first byte is about to go out."""
        if call.kind == PAIR and call.device is not None:
            for charge in self._pairing(call, call.device):
                raise Broken(f"{call} {charge}")
        if call.is_post and call.device is not None:
            for charge in self._otp(call, call.device):
                raise Broken(f"{call} {charge}")
        for serial in call.serial_numbers if call.kind == IMPORT else ():
            for charge in self._import(call, serial):
                raise Broken(f"{call}, with token {serial}, {charge}")

    def check(self, old: Row, new: Row) -> Iterator[str]:
        """What a commit says of a record's token and device."""
        device = self._pingone.devices[new.serial_number]
        if self._judge.is_asked_for and old.is_final and not new.is_final and new.device_id:
            self._named[new.id] = new.device_id
        yield from self._person(old, new, device)
        if old.is_final and not new.is_final:
            self._forgiven[new.id] = len(self._pairings_of(device))
        if new.device_id != old.device_id:
            yield from self._device(old, new, device)
        is_named = new.device_id == self._named.get(new.id)
        if new.device_id in device.foreign_ids and new.user_id and not new.is_final and not is_named:
            yield "it goes on with another person's device"
        if new.is_device_made and new.device_id and new.device_id not in device.our_ids:
            yield "it calls a device its own that it did not make"
        if new.is_token_made and device.imported_by is None:
            yield "it calls a token imported by us, which was there before"
        if new.pairings > MOST_PAIRINGS:
            yield f"it is paired {new.pairings} times"
        made = len(self._pairings_of(device)) - self._forgiven.get(new.id, 0)
        if made > new.pairings:
            yield f"{made} requests to pair went out, and {new.pairings} are written down"
        yield from self._marks(old, new)

    def _person(self, old: Row, new: Row, device: ModelDevice) -> Iterator[str]:
        """Who gets the token. Another row than that of the load may name somebody else, by a mend."""
        if (new.user_id, new.username) == (old.user_id, old.username):
            return
        if self._judge.is_asked_for:
            named = device.find_person(new.user_id, new.username)
            if named is None:
                yield "it goes to somebody whom no row names"
            elif named != device.person:
                if device.device_id in device.our_ids:
                    yield "it goes to another person, and its device was made for the one before"
                device.person = named
        if new.user_id not in ("", device.user_id):
            yield "it goes to somebody whom the assignment does not name"

    def _marks(self, old: Row, new: Row) -> Iterator[str]:
        is_marked = new.pairings > old.pairings and new.status == Status.ACTIVATING
        if is_marked and self._judge.batches[new.batch_id].state != BatchState.RUNNING:
            yield "it is to be paired although its batch does not run"
        is_sent_now = new.otp1_state == OtpState.SENT != old.otp1_state
        if is_sent_now and not new.device_id:
            yield "OTP 1 is to go out, and no device is written down"

    def _device(self, old: Row, new: Row, device: ModelDevice) -> Iterator[str]:
        if new.device_id and new.device_id not in (device.device_id, *device.former_ids):
            yield f"its device {new.device_id} is another token's"
        if not new.device_id and old.device_id == device.device_id and not self._judge.is_asked_for:
            yield "it forgets its device, which is there"

    def _pairings_of(self, device: ModelDevice) -> list[Call]:
        """Those that made a device, or may have, for all that we could know."""
        calls = self._pingone.calls
        mine = [call for call in calls if call.kind == PAIR and call.device is device and not call.did_nothing]
        return [call for call in mine if call.heard_at is None or call.verdict not in (REFUSED, TAKEN)]

    def _pairing(self, call: Call, device: ModelDevice) -> Iterator[str]:
        row = self._judge.row_of(device)
        yield from self._judge.check_lease(call, row)
        if row.pairing != PairingState.SENT:
            yield f"goes out while its pairing is committed as {row.pairing}"
            return
        yield from self._judge.check_mark(call, row)
        if len(self._pairings_of(device)) - self._forgiven.get(row.id, 0) >= MOST_PAIRINGS:
            yield f"is one pairing more than {MOST_PAIRINGS}"
        for earlier in self._pairings_of(device):
            is_unknown = earlier.heard_at is None or earlier.device_id == device.device_id
            if is_unknown and not self._is_looked_up(earlier):
                yield f"goes out while no two look-ups have told what became of {earlier}"

    def _is_looked_up(self, pairing: Call) -> bool:
        """Two look-ups that began when the pairing was over found the token free, or one found a device, which is gone
        by now."""
        if pairing.is_pending:
            return False
        over_at = pairing.sent_at if pairing.acted_at is None else pairing.acted_at
        later = [call for call in self._pingone.calls if call.kind == FIND and call.device is pairing.device]
        later = [call for call in later if call.heard_at is not None and (call.acted_at or 0.0) >= over_at]
        if any(call.verdict == TAKEN and call.device_id in pairing.device.former_ids for call in later):
            return True
        free = [call.acted_at or 0.0 for call in later if call.verdict == FREE]
        is_apart = not self._judge.is_clock_trusted or (len(free) > 1 and free[-1] - free[0] >= SEEN_AFTER)
        return len(free) > 1 and is_apart

    def _otp(self, call: Call, device: ModelDevice) -> Iterator[str]:
        row = self._judge.row_of(device)
        if call.device_id in device.foreign_ids and call.device_id != self._named.get(row.id):
            yield "brings an OTP to another person's device"
        if call.device_id != row.device_id:
            yield f"goes to a device that is not written down; {row.device_id or 'none'} is"
        if call.device_id in device.told_active_ids:
            yield "brings an OTP to a device that was ACTIVE from its pairing, as the answer said"

    def _import(self, call: Call, serial: str) -> Iterator[str]:
        device = self._pingone.devices[serial]
        row = self._judge.row_of(device)
        found = self._connection.execute("SELECT state FROM inventory_job WHERE id = ?", (row.import_job_id,))
        if found.fetchone() != ("sent",):
            yield "goes out, and its job is not written down as sent"
        if not self._judge.is_clock_trusted:
            return
        if device.imported_by is not None:
            yield f"imports it again, as {device.imported_by} did"
        for earlier in self._pingone.calls:
            is_mine = earlier.kind == IMPORT and serial in earlier.serial_numbers and not earlier.did_nothing
            if is_mine and not self._is_job_told(earlier) and not self._is_inventory_read(earlier):
                yield f"goes out while nothing has told what became of {earlier}"

    def _is_job_told(self, imported: Call) -> bool:
        return any(
            call.kind == JOB and call.previous is imported and call.heard_at is not None and call.verdict in _ENDED
            for call in self._pingone.calls
        )

    def _is_inventory_read(self, imported: Call) -> bool:
        """To its end, and from its beginning when the import was over."""
        if imported.is_pending:
            return False
        job_end = self._pingone.inventory.jobs.find_end(imported)
        over_at = imported.sent_at if job_end is None else job_end
        last_pages = [call for call in self._pingone.calls if call.kind == LIST and call.is_last]
        return any(call.heard_at is not None and (_first_page(call).acted_at or 0.0) >= over_at for call in last_pages)


def _first_page(call: Call) -> Call:
    return _first_page(call.previous) if call.previous else call
