"""Devices of the persons of a shipment: how long those that the rows name have waited, and how many a person has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from worker.intake import Row
from worker.observability.progress import OnProgress, tell_nobody, telling
from worker.pingone.devices import ACTIVATION_REQUIRED, UserDevice
from worker.pingone.errors import NotFound
from worker.preflight.findings import Finding, Level, Verdicts, name_tokens

# Lists the devices of the user with this id.
ListDevices = Callable[[str], Sequence[UserDevice]]

# PingOne deletes a device that is not active 24 hours after it was made; a batch takes its time too.
OLD = timedelta(hours=20)
# Persons whose devices are read, at one request each.
SAMPLE = 50
# Persons after whom it is told how many were read.
EACH = 25

TEXTS = {
    "devices_old": "Waiting for activation longer than 20 hours: {n} of the devices. PingOne deletes a device that is"
    " not active after 24 hours: begin at once, or pair these tokens anew and write the new device ids into the file.",
    "device_not_found": "With a device id that PingOne does not find with this user: {n} of the tokens. It deletes a"
    " device that is not active after 24 hours: pair these tokens anew, or correct the ids.",
    "too_many_devices": "Of persons who have as many devices as they may already: {n} of the tokens. Remove a device"
    " of theirs, or raise maxAllowedDevices in PingOne's MFA settings.",
}


def choose_persons(user_ids: Iterable[str | None], most: int = SAMPLE) -> list[str]:
    """Choose the users whose devices are read: all of them, or `most`, evenly spread over the file. None: that of a row
    is not known."""
    persons = list(dict.fromkeys(filter(None, user_ids)))
    if len(persons) <= most:
        return persons
    return [persons[number * len(persons) // most] for number in range(most)]


def check_devices(
    verdicts: Verdicts,
    list_devices: ListDevices,
    *,
    max_devices: int | None,
    most: int = SAMPLE,
    on_progress: OnProgress = tell_nobody,
) -> list[Finding]:
    """Read the devices of some persons, and compare them with the rows. `max_devices`: how many a person may have, None
    if that is not known. Raises what the reads raise."""
    user_ids = {row.row_number: verdicts.find_user_id(row) for row in verdicts.good}
    persons = choose_persons(user_ids.values(), most)
    asked = telling(persons, on_progress, "Reading the persons' devices", len(persons), each=EACH)
    devices = {person: _list_or_nothing(list_devices, person) for person in asked}
    everybody = set(filter(None, user_ids.values()))
    for row in verdicts.good:
        person = user_ids[row.row_number]
        if person in devices:
            _judge(verdicts, row, devices[person], max_devices)
    is_sample = len(persons) < len(everybody)
    among = f"Among {len(persons)} of the {len(everybody)} persons, evenly spread over the file: " if is_sample else ""
    findings = [
        finding
        for name, text in TEXTS.items()
        for finding in name_tokens(name, Level.ASK, among + text, verdicts.doubted(name))
    ]
    if is_sample:
        text = (
            f"The devices of {len(persons)} of the {len(everybody)} persons were read, evenly spread over the file;"
            " those of the others are not known."
        )
        findings.append(Finding("devices_sampled", Level.NOTE, text))
    return findings


def _list_or_nothing(list_devices: ListDevices, person: str) -> Sequence[UserDevice]:
    """List the devices of a person; none if PingOne knows nobody of this id."""
    try:
        return list_devices(person)
    except NotFound:
        return ()


def _judge(verdicts: Verdicts, row: Row, devices: Sequence[UserDevice], max_devices: int | None) -> None:
    """Note what the devices of its person say against a row, if anything."""
    if row.device_id is None:
        if max_devices is not None and len(devices) >= max_devices:
            verdicts.doubt(row, "too_many_devices", f"the person has {len(devices)} devices, and may have no more")
        return
    device = next((device for device in devices if device.id.lower() == row.device_id), None)
    if device is None:
        verdicts.doubt(row, "device_not_found", "PingOne does not find this device with this user")
    elif device.status == ACTIVATION_REQUIRED and device.age and device.age > OLD:
        verdicts.doubt(row, "devices_old", "its device has waited longer than 20 hours, and is deleted at 24")
