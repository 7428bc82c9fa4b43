"""Devices of the persons of a shipment, with the sentences that a person reads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest
from support.data.progress import Heard

from worker.intake import Row
from worker.pingone.devices import UserDevice
from worker.pingone.errors import NotFound
from worker.preflight.findings import Finding, Level, Verdicts
from worker.preflight.tenant import SAMPLE, check_devices, choose_persons
from worker.vault.otps import Secret, Seed

HOTP = Seed(secret=Secret(b"12345678901234567890"))


def row(number: int, **fields: object) -> Row:
    ids = {"user_id": f"user-{number}", "device_id": f"device-{number}"}
    given: dict[str, object] = {"row_number": number, "serial_number": f"MADE{number}", "otps": HOTP}
    return Row(**given | ids | fields)  # type: ignore[arg-type]


class People:
    """The devices of each person; nobody else is known."""

    def __init__(self, devices: dict[str, Sequence[UserDevice]]) -> None:
        self.devices = devices
        self.asked: list[str] = []

    def list(self, person: str) -> Sequence[UserDevice]:
        self.asked.append(person)
        if person not in self.devices:
            raise NotFound
        return self.devices[person]


def waiting(number: int, hours: float | None, status: str = "ACTIVATION_REQUIRED") -> UserDevice:
    age = None if hours is None else timedelta(hours=hours)
    return UserDevice(f"device-{number}", "OATH_TOKEN", status, age=age)


def look(rows: Sequence[Row], people: People, max_devices: int | None = 5) -> list[Finding]:
    return check_devices(Verdicts(good=list(rows)), people.list, max_devices=max_devices)


@pytest.mark.parametrize(
    ("device", "is_told"),
    [
        (waiting(1, 20.1), True),
        (waiting(1, 19.9), False),
        (waiting(1, 300, "ACTIVE"), False),
        (waiting(1, None), False),
        (UserDevice("DEVICE-1", "OATH_TOKEN", "ACTIVATION_REQUIRED", age=timedelta(hours=23)), True),
    ],
)
def test_a_device_that_is_soon_deleted_is_asked_about(device: UserDevice, is_told: bool) -> None:
    findings = look([row(1)], People({"user-1": [device]}))
    assert [finding.name for finding in findings] == (["devices_old"] if is_told else [])
    for found in findings:
        assert (found.level, found.serials) == (Level.ASK, ("MADE1",))
        assert found.text.startswith("Waiting for activation longer than 20 hours: 1 of the devices.")
        assert "deletes a device that is not active after 24 hours" in found.text


def test_a_device_or_a_person_that_is_not_there_is_asked_about() -> None:
    people = People({"user-1": [waiting(1, 1)], "user-2": [waiting(1, 1)]})
    (found,) = look([row(1), row(2), row(3)], people)
    assert (found.name, found.level, found.serials) == ("device_not_found", Level.ASK, ("MADE2", "MADE3"))
    assert found.text.startswith("With a device id that PingOne does not find with this user: 2 of the tokens.")


@pytest.mark.parametrize(("count", "most", "is_told"), [(5, 5, True), (4, 5, False), (9, None, False)])
def test_a_person_who_may_have_no_further_device_is_asked_about(count: int, most: int | None, is_told: bool) -> None:
    people = People({"user-1": [waiting(number, 1) for number in range(10, 10 + count)]})
    findings = look([row(1, device_id=None)], people, most)
    assert [finding.name for finding in findings] == (["too_many_devices"] if is_told else [])
    assert all(found.text.startswith("Of persons who have as many devices as they may") for found in findings)


def test_who_has_this_very_device_already_may_have_as_many_as_allowed() -> None:
    assert look([row(1)], People({"user-1": [waiting(1, 1), waiting(2, 1)]}), 2) == []


def test_of_many_persons_some_are_asked_about_evenly_spread_and_it_says_so() -> None:
    rows = [row(number) for number in range(1000)]
    people = People({f"user-{number}": [waiting(number, 30 if number == 0 else 1)] for number in range(1000)})
    old, sampled = look(rows, people)
    assert people.asked == [f"user-{number}" for number in range(0, 1000, 1000 // SAMPLE)]
    assert old.text.startswith("Among 50 of the 1000 persons, evenly spread over the file: Waiting for activation")
    assert (sampled.name, sampled.level) == ("devices_sampled", Level.NOTE)
    assert sampled.text.startswith("The devices of 50 of the 1000 persons were read, evenly spread over the file;")


def test_a_person_with_several_tokens_is_asked_about_once() -> None:
    rows = [row(1, user_id="same"), row(2, user_id="same"), row(3, user_id=None)]
    assert choose_persons(row.user_id for row in rows) == ["same"]
    assert choose_persons((row(number).user_id for number in range(3)), 2) == ["user-0", "user-1"]


def test_it_is_told_how_many_persons_were_asked_about() -> None:
    heard = Heard()

    check_devices(Verdicts(good=[row(number) for number in range(30)]), lambda _: (), max_devices=5, on_progress=heard)

    assert heard == [("Reading the persons' devices", 25, 30)]
