"""A person mends a batch: exports it, corrects rows or does something foolish to them, and brings the file back; at
once or later, once or twice, while the batch goes on and somebody else mends it too."""

from __future__ import annotations

import csv
import io
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hunt import initial_state
from hunt.processes import excused
from hunt.tenant import ModelDevice, ModelPair, Person
from worker.audit import Actor
from worker.batches.mending import Mender, allow_as_before
from worker.intake.files import Hints
from worker.intake.lists import Assignment, open_assignment
from worker.intake.rows import UnusableFile
from worker.intake.shipment import Shipment, open_shipment
from worker.reports.export import export

if TYPE_CHECKING:
    from hunt.scenario import Scenario

# Seconds that a person takes for a file, if it is not done at once.
LONGEST = 60.0
# What is done to the OTPs of a row, as often as it stands here.
_DOINGS = ("fresh",) * 6 + ("empty",) * 3 + ("old",) * 3 + ("first again", "second again")

_Rows = list[dict[str, str]]


class Mending:
    """A mend from the export to the end. Raises what the database does."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._dice = scenario.dice
        self._name = self._dice.pick("mend", scenario.batch_names)

    def run(self) -> None:
        """Mend the batch."""
        with tempfile.TemporaryDirectory() as directory:
            is_whole = self._dice.chance("mend", 0.5)
            text = io.StringIO(newline="")
            export(self._scenario.database, self._name, text, is_left=not is_whole)
            file = Path(directory, "left.csv")
            rows = list(csv.DictReader(io.StringIO(text.getvalue(), newline="")))
            seeds = [row for row in rows if self._device_of(row).seed]
            who = None
            if seeds and self._dice.chance("mend", 0.4):
                who = self._write_vendors_file(file, seeds)
            else:
                self._write_export(file, rows)
            for _ in range(self._dice.pick("mend", (1, 1, 2))):
                if self._dice.chance("mend", 0.6):
                    self._scenario.strands.sleep(self._dice.between("mend", 0.0, LONGEST))
                self._mend(file, who)

    def _mend(self, file: Path, who: Path | None) -> None:
        scenario = self._scenario
        mender = Mender(
            scenario.database,
            initial_state.KEYRING,
            Actor("a person"),
            totp_max_age=initial_state.GOOD_FOR,
            on_refused=lambda error: scenario.note(f"row {error.row_number} is refused: {error.reason}"),
        )
        try:
            shipment = self._open(file, open_assignment(who) if who else None)
            with scenario.database.reading() as connection:
                shipment = allow_as_before(connection, self._name, shipment)
            scenario.note(f"mends {self._name}: {mender.mend(shipment, self._name)}")
        except UnusableFile as error:
            scenario.note(f"cannot mend {self._name}: {error}")

    def _open(self, file: Path, assignment: Assignment | None) -> Shipment:
        def clock() -> datetime:
            return datetime.fromisoformat(self._scenario.clock.text()).replace(tzinfo=UTC)

        return open_shipment(file, hints=Hints(mends=True), assignment=assignment, only_assigned=True, clock=clock)

    def _write_export(self, file: Path, rows: _Rows) -> None:
        """The export, of whose rows some are corrected, some not, and some wrongly."""
        corrected = [each for row in rows for each in self._correct(row)]
        if not corrected or self._dice.chance("mend", 0.05):
            # A token that may be of another batch.
            device = self._dice.pick("mend", list(self._scenario.pingone.devices.values()))
            corrected.append({"serial": device.serial_number})
        with file.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, [*initial_state.COLUMNS, "file_row"], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(corrected)

    def _correct(self, row: dict[str, str]) -> Iterator[dict[str, str]]:
        device = self._device_of(row)
        if self._dice.chance("mend", 0.15):
            row |= self._name_person(row, device)
        elif self._dice.chance("mend", 0.15):
            row["device_id"] = ""
        if not device.seed or self._dice.chance("mend", 0.1):
            row |= self._bring_otps(device, row["otp_type"])
        if self._dice.chance("mend", 0.1):
            row["file_row"] = ""
        yield row
        if self._dice.chance("mend", 0.04):
            yield row | (self._bring_otps(device, row["otp_type"]) if self._dice.chance("mend", 0.5) else {})

    def _bring_otps(self, device: ModelDevice, otp_type: str) -> dict[str, str]:
        """Two cells of OTPs, of which an earlier row of this token may have had one or both."""
        doing = self._dice.pick("mend", _DOINGS)
        now = self._scenario.clock.monotonic()
        fresh = initial_state.make_pair(self._dice, "mend", now)
        if otp_type == "totp" and self._dice.chance("mend", 0.9):
            fresh = replace(fresh, good_until=now + initial_state.GOOD_FOR + initial_state.GRACE)
        old = self._dice.pick("mend", device.pairs)
        pair = {
            "fresh": fresh,
            "old": old,
            "first again": ModelPair(old.first, fresh.second, old.first_is, fresh.second_is_right, fresh.good_until),
            "second again": ModelPair(fresh.first, old.second, fresh.first_is, old.second_is_right, fresh.good_until),
        }.get(doing)
        if pair is None:
            return {"otp1": "", "otp2": ""}
        if pair is not old:
            device.pairs.append(pair)
        time = {"otp_type": "hotp", "generated_at": ""}
        if pair.good_until is not None:
            time = {"otp_type": "totp", "generated_at": f"{self._scenario.clock.text()}+00:00"}
        return {"otp1": pair.first, "otp2": pair.second or ""} | time

    def _name_person(self, row: dict[str, str], device: ModelDevice) -> dict[str, str]:
        """The token is meant for somebody else, who may have its device already."""
        person = self._choose_person(device)
        if device.is_in_inventory and self._dice.chance("mend", 0.3):
            device_id = self._scenario.pingone.inventory.new_device_id(device)
            device.become(device_id, self._scenario.clock.monotonic(), owner_id=person.user_id)
            row["device_id"] = device_id
        elif self._dice.chance("mend", 0.7):
            row["device_id"] = ""
        if row["username"] and self._dice.chance("mend", 0.8):
            return {"user_id": "", "username": person.username}
        return {"user_id": person.user_id, "username": ""}

    def _choose_person(self, device: ModelDevice) -> Person:
        """Somebody new, or whom an earlier file named."""
        if len(device.people) > 1 and self._dice.chance("mend", 0.4):
            return self._dice.pick("mend", device.people)
        first, number = device.people[0], len(device.people)
        person = Person(str(uuid.UUID(int=uuid.UUID(first.user_id).int + number)), f"{first.username}-{number}")
        device.people.append(person)
        return person

    def _write_vendors_file(self, file: Path, rows: _Rows) -> Path | None:
        """The seeds as the vendor sent them, and perhaps a list of who gets what."""
        lines = []
        for row in rows:
            model = self._device_of(row).seed
            assert model is not None
            seed = model.seed
            last = seed.time_step or seed.counter
            secret = seed.secret.reveal().hex()
            lines.append(f"{row['serial']}, {secret}, {seed.otp_type}, {seed.digits}, {last}\n")
        file.write_text("".join(lines))
        if self._dice.chance("mend", 0.6):
            return None
        who = file.with_name("who.csv")
        people = [(row["serial"], self._choose_person(self._device_of(row)), row) for row in rows]
        with who.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["serial", "user_id", "username"])
            for serial, person, row in people:
                is_named = bool(row["username"])
                writer.writerow([serial, "" if is_named else person.user_id, person.username if is_named else ""])
        return who

    def _device_of(self, row: dict[str, str]) -> ModelDevice:
        return self._scenario.pingone.devices[row["serial"]]


def mend(scenario: Scenario) -> None:
    """As the body of a strand. Raises Broken where the real code fails by itself."""
    with excused(scenario):
        Mending(scenario).run()
