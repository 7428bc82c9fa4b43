"""Persons at their keyboards, each a strand that others come between: they mend a batch with a file, load some of its
tokens as another one, undo it, purge what is over, and encrypt all of it with a new key."""

from __future__ import annotations

import csv
import io
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from hunt import initial_state
from hunt.processes import ModelParts, excused
from hunt.tenant import ModelDevice, ModelPair, Person
from models.audit import Action
from worker import audit
from worker.audit import Actor
from worker.batches.commands import NotPossible
from worker.batches.finding import BatchPurged
from worker.batches.loading import AllActive, Loader
from worker.batches.mending import Mender, allow_as_before
from worker.batches.removal import End
from worker.intake.files import Hints
from worker.intake.lists import Assignment, TokenList, open_assignment, open_token_list
from worker.intake.rows import UnusableFile
from worker.intake.shipment import Shipment, Switches, open_shipment
from worker.pace.search import SlotTooFar
from worker.pingone.errors import PingOneError
from worker.purging import Purging
from worker.reports.export import export
from worker.vault.keys import reencrypt

if TYPE_CHECKING:
    from hunt.scenario import Scenario

PERSON = Actor("a person")
# How often a person types an undo that is not possible yet.
TRIES = 3


# Seconds that a person takes for a file, if it is not done at once.
LONGEST = 60.0
# What is done to the OTPs of a row, as often as it stands here.
_DOINGS = ("fresh",) * 6 + ("empty",) * 3 + ("old",) * 3 + ("first again", "second again")

_Rows = list[dict[str, str]]


class Mending:
    """A person mends a batch: exports it, corrects rows or does something foolish to them, and brings the file back; at
    once or later, once or twice, while the batch goes on and somebody else mends it too. Raises what the database
    does."""

    # Of the file, beside those of a batch's own file.
    _columns: Sequence[str] = ("file_row",)

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._dice = scenario.dice
        self._name = self._dice.pick("mend", scenario.batch_names)

    def run(self) -> None:
        """Mend the batch."""
        with tempfile.TemporaryDirectory() as directory:
            is_whole = self._dice.chance("mend", 0.5)
            text = io.StringIO(newline="")
            export(self._scenario.database, self._name, text, failed=not is_whole)
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
            initial_state.BOTH_KEYS,
            PERSON,
            totp_max_age=initial_state.GOOD_FOR,
            on_refused=lambda error: scenario.note(f"row {error.row_number} is refused: {error.reason}"),
        )
        try:
            shipment = self._open(file, open_assignment(who) if who else None)
            with scenario.database.reading() as connection:
                shipment = allow_as_before(connection, self._name, shipment)
            scenario.note(f"mends {self._name}: {mender.mend(shipment, self._name)}")
        except UnusableFile as error:
            scenario.note(f"cannot mend {self._name}: {str(error).replace(str(file.parent), '')}")

    def _open(self, file: Path, assignment: Assignment | None) -> Shipment:
        hints = Hints(mends=True)
        return open_shipment(file, hints=hints, assignment=assignment, only_assigned=True, clock=self._read_clock)

    def _read_clock(self) -> datetime:
        return datetime.fromisoformat(self._scenario.clock.text()).replace(tzinfo=UTC)

    def _write_export(self, file: Path, rows: _Rows) -> None:
        """The export, of whose rows some are corrected, some not, and some wrongly."""
        corrected = [each for row in rows for each in self._correct(row)]
        if not corrected or self._dice.chance("mend", 0.05):
            # A token that may be of another batch.
            device = self._dice.pick("mend", list(self._scenario.pingone.devices.values()))
            corrected.append({"serial": device.serial_number})
        with file.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, [*initial_state.COLUMNS, *self._columns], extrasaction="ignore")
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

    def _write_vendors_file(self, file: Path, rows: _Rows, *, needs_list: bool = False) -> Path | None:
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
        if not needs_list and self._dice.chance("mend", 0.6):
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


class Loading(Mending):
    """Some tokens of a batch are loaded as another one, whose rows write their serial numbers in other letters: with
    fresh OTPs or those of before, for the same person or another."""

    _columns = ()

    def run(self) -> None:
        """Load the batch."""
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory, "again.csv")
            text = io.StringIO(newline="")
            export(self._scenario.database, self._name, text)
            rows = list(csv.DictReader(io.StringIO(text.getvalue(), newline="")))
            over = [row for row in rows if row["status"] in ("active", "dead_letter", "cancelled")]
            chosen = [row for row in over or rows if self._dice.chance("load", 0.7)]
            pairs = [row for row in chosen if not self._device_of(row).seed]
            if pairs:
                self._write_export(file, [self._write_anew(row) for row in pairs])
                self._load(file, None)
            elif chosen:
                self._load(file, self._write_vendors_file(file, chosen, needs_list=True))

    def _write_anew(self, row: dict[str, str]) -> dict[str, str]:
        device = self._device_of(row)
        row |= {"file_row": "", "device_id": device.device_id if self._dice.chance("load", 0.8) else ""}
        if not row["user_id"] and not row["username"]:
            row["user_id"] = device.user_id
        if self._dice.chance("load", 0.5):
            row["serial"] = row["serial"].lower()
        return row

    def _load(self, file: Path, who: Path | None) -> None:
        scenario = self._scenario
        scenario.loads += 1
        name = f"again {scenario.loads}"
        is_whole = self._dice.chance("load", 0.7)
        loader = Loader(
            scenario.database,
            initial_state.BOTH_KEYS,
            scenario.environment,
            PERSON,
            totp_max_age=initial_state.GOOD_FOR,
            on_refused=lambda error: scenario.note(f"row {error.row_number} is refused: {error.reason}"),
        )
        try:
            assignment = open_assignment(who) if who else None
            switches = Switches(may_import=is_whole, may_pair=is_whole)
            shipment = open_shipment(
                file, assignment=assignment, only_assigned=True, switches=switches, clock=self._read_clock
            )
            loaded = loader.load(shipment, name)
            scenario.note(f"loads {name}: {loaded}")
            scenario.dice.happened["records_loaded_again"] += loaded.total
        except (UnusableFile, AllActive) as error:
            # The file is in a directory of another name each time.
            scenario.note(f"cannot load {name}: {str(error).replace(str(file.parent), '')}")


class Undoing:
    """A person undoes a batch, whole or in part, and types the command again where its process died."""

    def __init__(self, scenario: Scenario, name: str) -> None:
        dice = scenario.dice
        self._scenario = scenario
        self.name = name
        self._devices_only = dice.chance("undo", 0.3)
        rows = [
            row for row in scenario.step_judge.rows.values() if scenario.step_judge.batches[row.batch_id].name == name
        ]
        self._serials = [row.serial_number for row in rows if dice.chance("undo", 0.5)]
        self._of_list = bool(self._serials) and dice.pick("undo", (False, False, True))
        self.is_done = False

    def run(self) -> None:
        """Undo the batch, or say why that is not possible."""
        scenario = self._scenario
        for _ in range(TRIES):
            self._undo()
            if self.is_done:
                return
            # What is in hand has ended in a minute.
            scenario.strands.sleep(61.0)
        self.is_done = True

    def _undo(self) -> None:
        scenario = self._scenario
        parts = ModelParts(scenario)
        try:
            with tempfile.TemporaryDirectory() as directory:
                only = self._write_list(Path(directory, "leavers.txt")) if self._of_list else None
            undone = parts.undo(scenario.environment, PERSON).undo(self.name, only, devices_only=self._devices_only)
            scenario.note(f"undid {self.name}: {undone}")
            scenario.dice.happened["devices_undone"] += undone.devices.ends[End.REMOVED]
            scenario.dice.happened["tokens_revoked"] += undone.tokens.revoked if undone.tokens else 0
            self.is_done = True
        except (NotPossible, PingOneError, SlotTooFar) as error:
            scenario.note(f"cannot undo {self.name}: {error}")

    def _write_list(self, file: Path) -> TokenList:
        file.write_text("".join(f"{serial.lower()}\n" for serial in self._serials))
        return open_token_list(file)


def purge(scenario: Scenario) -> None:
    """Purge what ended some seconds ago."""
    purging = Purging(scenario.database, PERSON, timedelta(seconds=10), gives_up=scenario.dice.chance("purge", 0.7))
    done = purging.purge(purging.examine())
    scenario.note(f"purged {[each.name for each in done.candidates]}")
    scenario.dice.happened["batches_purged"] += len(done.candidates)


def encrypt_anew(scenario: Scenario) -> None:
    """Encrypt everything with the new key, which all processes have got in front of the old one."""

    def write_down(connection: Connection, records: int) -> None:
        audit.append(scenario.database, connection, PERSON, Action.REENCRYPT, None, {"records": records})

    scenario.note(f"encrypted {reencrypt(scenario.database, initial_state.BOTH_KEYS, write_down)} records anew")
    scenario.is_encrypted_anew = True


def command(scenario: Scenario, body: Callable[[], None]) -> Callable[[], None]:
    """The body of a strand. It raises Broken where the real code fails by itself."""

    def run() -> None:
        with excused(scenario), suppress(BatchPurged):
            body()

    return run
