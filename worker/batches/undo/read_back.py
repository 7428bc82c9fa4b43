"""Says of a device that a record calls its own whether it is still there and may be removed. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from worker.pingone.pairing import OATH_TOKEN, Pairing
from worker.pingone.user_devices import UserDevice
from worker.pingone.wire import ACTIVE


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
