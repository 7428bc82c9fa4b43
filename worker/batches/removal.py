"""Removes the devices that a batch made: reads each back, and deletes it if it is the record's own. What another batch
goes on with stays, whoever made it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import partial
from shlex import quote
from typing import Any

from sqlalchemy import ColumnElement, Label, Row, and_, func, or_, select, true
from sqlalchemy.orm import aliased

from models.batch import Batch
from models.record import Record
from models.record_states import NOBODY, PairingState, Status
from worker.config.environment import Environment
from worker.pace.errors import PaceOutOfReach
from worker.pace.slots import call_patiently
from worker.pingone.client import Call
from worker.pingone.clients import Clients
from worker.pingone.devices import ACTIVE, OATH_TOKEN, Pairing, UserDevice
from worker.pingone.errors import CredentialsRefused, Forbidden, NotDelivered, NotFound, OutcomeUnknown, PingOneError
from worker.rules.progress import SentAgo, may_be_made_by

# This batch made a device, and knows its id.
HAS_DEVICE = and_(Record.is_device_made, Record.device_id != "", Record.user_id != "")
# A request to pair may have made one. A final record's token was looked up, so that nothing is open.
HAS_OPEN_PAIRING = and_(
    Record.status == Status.PENDING,
    Record.pairing.in_((PairingState.SENT, PairingState.MISSED)),
    Record.device_id == "",
    Record.user_id != "",
)
_OTHER = aliased(Record, name="other")
# PingOne may write a serial number in other letters than a file. Compared as `lower(...)`, no index would be used.
_SPELLINGS = (Record.serial_number, func.lower(Record.serial_number), func.upper(Record.serial_number))

# How often a device is deleted whose answer gets lost, each time after it was read back.
TRIES = 3
# Seconds between two look-ups that find a token free whose pairing is of unknown fate, and between two tries to delete.
LOOK_AGAIN = 5.0


class Sight(StrEnum):
    """What the list of a user's devices says of one of them."""

    # It is there, and it is this token's.
    OURS = "ours"
    # It is there, and the list does not tell which token it is: the token has to be looked up.
    UNNAMED = "unnamed"
    # It is not there: the token has to be looked up, to be sure.
    MISSING = "missing"
    # It is there, and it is something else: it stays.
    FOREIGN = "foreign"
    # It may be there, and nothing that we may read shows which token it is: it stays.
    HIDDEN = "hidden"


class Heir(StrEnum):
    """What PingOne asks a person for first once our devices are removed."""

    # The next of their devices.
    NEXT = "next"
    # Nothing: no active device is left.
    NONE = "none"


@dataclass(frozen=True, slots=True)
class DefaultChange:
    """A person whose default device goes away, by one of the records whose device it is."""

    row_number: int
    serial_number: str
    user_id: str
    heir: Heir


class End(StrEnum):
    """What became of a record's device."""

    # It is there and ours; it was to be shown only.
    THERE = "there"
    REMOVED = "removed"
    # It was gone already.
    GONE = "gone"
    # A pairing of unknown fate has made no device.
    NEVER_MADE = "never_made"
    # It stays, or it is not known whether it does.
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class DeviceOutcome:
    """How the removal of a record's device ended; `why` it was left, and what it means for its user's default.
    `device_id`, in small letters: that of a device that is there and goes, or is gone."""

    end: End
    why: str = ""
    heir: Heir | None = None
    device_id: str = ""


# Why a device is left that was seen in this way.
_WHY = {
    Sight.FOREIGN: "this id is another token's device, or no token's, in PingOne: it stays",
    Sight.UNNAMED: "PingOne shows the device in one place and not in another: give the command again",
    Sight.HIDDEN: "PingOne does not show which token the device is: let the worker application read the inventory",
}
_NOT_KNOWN_FREE = "the token was not known to be free before it was paired, so the device may not be this batch's"
_OTHER_TIME = "it was not made when this batch asked for it, so it is somebody else's: it stays"
_TAKEN = "the token is another person's device now: it stays"


class Removal:
    """Removes devices of one environment; thread-safe. `removed`: the ids, in small letters, of all devices that go.
    `is_real`: they are removed, and not only read back. `wait` waits so many seconds; `count_ago` tells how long ago
    the requests to pair of a record went out, each of which is over after `lasts`."""

    def __init__(
        self,
        clients: Clients,
        environment: Environment,
        batch_id: int,
        removed: frozenset[str],
        wait: Callable[[float], object],
        count_ago: Callable[[Row[*tuple[Any, ...]]], SentAgo | None],
        lasts: timedelta,
        *,
        is_real: bool,
    ) -> None:
        self._clients = clients
        self._environment = environment
        self._batch_id = batch_id
        self._removed = removed
        self._wait = wait
        self._count_ago = count_ago
        self._lasts = lasts
        self._is_real = is_real

    def remove(self, record: Row[*tuple[Any, ...]]) -> DeviceOutcome:
        """Remove the device that the record's row names, or that came of its pairing of unknown fate. Raises what means
        that no other record will fare better: NotDelivered, CredentialsRefused."""
        call = Call(f"oathbulk-batch-{self._batch_id}", f"oathbulk-record-{record.id}")
        try:
            if record.other_batch:
                return DeviceOutcome(End.LEFT, explain_other_batch(record.other_batch))
            if record.device_id:
                return self._remove(record, record.device_id, call)
            return self._settle(record, call)
        except (NotDelivered, CredentialsRefused):
            raise
        except (PingOneError, PaceOutOfReach) as failure:
            return DeviceOutcome(End.LEFT, f"not known: {failure}")

    def _settle(self, record: Row[*tuple[Any, ...]], call: Call) -> DeviceOutcome:
        """Find out what came of a pairing of unknown fate, and remove what it made. A token that is found free is
        looked up once more: what was made moments ago is not seen everywhere at once."""
        if (found := self._find_pairing(record, call)) is None:
            self._wait(LOOK_AGAIN)
            found = self._find_pairing(record, call)
        if found is None:
            return DeviceOutcome(End.NEVER_MADE)
        if found.user_id is not None and found.user_id.lower() != record.user_id.lower():
            return DeviceOutcome(End.LEFT, _TAKEN)
        if record.owner_id != NOBODY:
            return DeviceOutcome(End.LEFT, _NOT_KNOWN_FREE)
        sent_ago, age = self._count_ago(record), self._read_age(record.user_id, found.device_id, call)
        if not may_be_made_by(sent_ago, age, self._lasts):
            return DeviceOutcome(End.LEFT, _OTHER_TIME)
        return self._remove(record, found.device_id, call)

    def _remove(self, record: Row[*tuple[Any, ...]], device_id: str, call: Call) -> DeviceOutcome:
        heir = None
        for left in reversed(range(TRIES)):
            sight, now_heir = self._read_back(record, device_id, call)
            heir = heir or now_heir
            if sight is Sight.MISSING:
                # After a lost answer, it was that request that removed it.
                end = End.REMOVED if left < TRIES - 1 else End.GONE
                return DeviceOutcome(end, heir=heir, device_id=device_id.lower())
            if sight is not Sight.OURS:
                return DeviceOutcome(End.LEFT, _WHY[sight])
            if not self._is_real:
                return DeviceOutcome(End.THERE, heir=heir, device_id=device_id.lower())
            try:
                unpair = partial(self._clients.pairings(self._environment).unpair, record.user_id, device_id, call=call)
                end = End.REMOVED if call_patiently(unpair) else End.GONE
                return DeviceOutcome(end, heir=heir, device_id=device_id.lower())
            except OutcomeUnknown:
                if not left:
                    raise
            # What was removed may be shown for a while.
            self._wait(LOOK_AGAIN)
        raise AssertionError("the last try returns or raises")

    def _read_back(self, record: Row[*tuple[Any, ...]], device_id: str, call: Call) -> tuple[Sight, Heir | None]:
        """Look at a device, in the list of its user's and, where that leaves something open, by its token."""
        devices = self._list_devices(record.user_id, call) or []
        sight = see(devices, device_id, record.serial_number)
        if sight in (Sight.UNNAMED, Sight.MISSING):
            try:
                sight = see_by_token(self._find_pairing(record, call), sight, device_id)
            except Forbidden:
                sight = Sight.HIDDEN
        return sight, find_heir(devices, self._removed | {device_id.lower()})

    def _list_devices(self, user_id: str, call: Call) -> list[UserDevice] | None:
        """List the devices of a user; None if the user is gone, and every device with them."""
        reads = self._clients.reads(self._environment)
        try:
            return call_patiently(lambda: reads.list_devices(user_id, call=call))
        except NotFound:
            return None

    def _read_age(self, user_id: str, device_id: str, call: Call) -> timedelta | None:
        """Read how old a device of a user is; None: PingOne does not tell."""
        devices = self._list_devices(user_id, call) or []
        return next((device.age for device in devices if device.id.lower() == device_id.lower()), None)

    def _find_pairing(self, record: Row[*tuple[Any, ...]], call: Call) -> Pairing | None:
        """Look up whom the token is paired with; None if it is with nobody, or its user is gone."""
        pairings = self._clients.pairings(self._environment)
        try:
            return call_patiently(partial(pairings.find_pairing, record.serial_number, record.user_id, call=call))
        except NotFound:
            # Where the inventory may not be read, it is the user that is not found.
            if self._list_devices(record.user_id, call) is None:
                return None
            raise


def see(devices: Sequence[UserDevice], device_id: str, serial_number: str) -> Sight:
    """Find a device in the list of its user's, and compare it with the record's token."""
    device = next((each for each in devices if each.id.lower() == device_id.lower()), None)
    if device is None:
        return Sight.MISSING
    if device.type not in (OATH_TOKEN, None):
        return Sight.FOREIGN
    if device.type is None or device.serial_number is None:
        return Sight.UNNAMED
    return Sight.OURS if device.serial_number.lower() == serial_number.lower() else Sight.FOREIGN


def see_by_token(found: Pairing | None, sight: Sight, device_id: str) -> Sight:
    """Decide by what the token is paired as, where the list of devices leaves it open. A device that the list does not
    have, and the token has, is one that PingOne does not show everywhere yet: then nothing is known."""
    is_the_same = found is not None and found.device_id.lower() == device_id.lower()
    if sight is Sight.UNNAMED:
        return Sight.OURS if is_the_same else Sight.FOREIGN
    return Sight.UNNAMED if is_the_same else Sight.MISSING


def find_heir(devices: Sequence[UserDevice], removed: Collection[str]) -> Heir | None:
    """Say what a person is asked for first once the devices of these ids (in small letters) are removed, where that
    changes. By PingOne's default it is the first active device of the list."""
    active = [device.id.lower() for device in devices if device.status == ACTIVE]
    if not active or active[0] not in removed:
        return None
    return Heir.NEXT if any(device_id not in removed for device_id in active) else Heir.NONE


def find_batch_with_token() -> Label[str]:
    """The column `other_batch`: the name of a batch whose record of the same token is active or not final; None if
    there is none."""
    return _find_batch(true())


def find_batch_with_device() -> Label[str]:
    """The column `other_batch`: the name of a batch whose record of the same token is not final, or is active on the
    same device, or may be since the record's own device is not known; None if there is none."""
    is_same = or_(Record.device_id == "", func.lower(_OTHER.device_id) == func.lower(Record.device_id))
    return _find_batch(or_(_OTHER.status != Status.ACTIVE, is_same))


def explain_other_batch(name: str) -> str:
    """Say why something stays that another batch uses, and what ends that."""
    named = quote(name)
    return (
        f"batch {name} goes on with this token, so it stays: `oathbulk cancel {named}` ends that; where it is active "
        f"there, `oathbulk undo {named}`, or remove it in PingOne"
    )


def _find_batch(condition: ColumnElement[bool]) -> Label[str]:
    return (
        select(Batch.name)
        .join(_OTHER, _OTHER.batch_id == Batch.id)
        .where(
            _OTHER.environment_id == Record.environment_id,
            _OTHER.serial_number.in_(_SPELLINGS),
            _OTHER.batch_id != Record.batch_id,
            _OTHER.status.not_in((Status.DEAD_LETTER, Status.CANCELLED)),
            condition,
        )
        .order_by(_OTHER.id.desc())
        .limit(1)
        .correlate(Record)
        .scalar_subquery()
        .label("other_batch")
    )
