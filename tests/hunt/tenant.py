"""What PingOne has, what arrived there, and answers as they stand on the wire: the ground on which the promises are
judged."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field

from hunt.schedule import Dice
from worker.vault.otps import Seed

Reply = tuple[int, dict[str, str], bytes]

# What PingOne made of a call.
ACTIVE, EXTRA, INVALID, REFUSED, WAITING, MISSING = "active", "extra", "invalid", "refused", "waiting", "missing"
# Of a pairing: it made a device. Of a look-up: the token is free, or somebody's device.
MADE, FREE, TAKEN = "made", "free", "taken"
# What a call is for.
READ, POST, PAIR, FIND, LIST, IMPORT, JOB, PEOPLE = "read", "post", "pair", "find", "list", "import", "job", "people"
# What an undo does; and of a device that it removed.
UNPAIR, REVOKE, REMOVED = "unpair", "revoke", "removed"
# A read of no consequence, by which it is found out whether PingOne answers.
SETTINGS = "settings"
# Seconds for which a device that was just made is not seen by look-ups, nor by another pairing: less than a record
# waits between two look-ups, whatever the database's clock does meanwhile.
SEEN_AFTER = 0.9

# Unix time at which a scenario begins.
EPOCH = 1_767_225_600.0
# Counters beyond the first one of a seed, and time steps before and after now, in which an OTP is looked for.
COUNTERS, STEPS = 60, 3


@dataclass(frozen=True)
class ModelSeed:
    """The seed of a token, and which of its OTPs is which."""

    seed: Seed

    def find(self, otp: str, now: float) -> int | None:
        """The counter that made this OTP; None if none did that is near. `now` on the processes' clock."""
        counters = range(self.seed.counter, self.seed.counter + COUNTERS)
        if self.seed.time_step is not None:
            step = self.step_at(now)
            counters = range(step - STEPS, step + STEPS + 1)
        return next((counter for counter in counters if self.seed.mint(counter).reveal() == otp), None)

    def step_at(self, now: float) -> int:
        """The number of the time step at this moment on the processes' clock."""
        return int((EPOCH + now) // (self.seed.time_step or 1))


@dataclass(frozen=True)
class ModelPair:
    """Two OTPs that were read off a token. `first_is`: OTP 1 is right as it is, right but out of step, or wrong;
    `good_until`: on the processes' clock, TOTP is no good after it."""

    first: str
    second: str | None
    first_is: str
    second_is_right: bool
    good_until: float | None = None


@dataclass(frozen=True)
class Person:
    """Somebody whom an assignment names, by id or by name. `kind`: what people of this name there are: "one", "none",
    "two" or "disabled"."""

    user_id: str
    username: str
    kind: str = "one"


@dataclass
class ModelDevice:
    """A token that the assignment gives to a user, and PingOne's object for it. Its record brings a pair or a seed."""

    serial_number: str
    # Empty while the token is nobody's device.
    device_id: str
    # The one whom the assignment gives it to.
    person: Person
    # All that any file brought, the latest last. Of a seed's token the only one says how its OTPs are taken.
    pairs: list[ModelPair]
    # On the processes' clock: a device just paired is not seen everywhere before it.
    seen_from: float = 0.0
    is_locked: bool = False
    is_blocked: bool = False
    is_usable: bool = True
    # Devices that it was and is not any more, and those that were ACTIVE at some time.
    former_ids: set[str] = field(default_factory=set)
    active_ids: set[str] = field(default_factory=set)
    # Whose each device was; those that we made, and those of them whose pairing was answered with ACTIVE.
    owners: dict[str, str] = field(default_factory=dict)
    our_ids: set[str] = field(default_factory=set)
    told_active_ids: set[str] = field(default_factory=set)
    failures: int = 0
    # 404s for a device that is there: a client that saw too many may take it for missing.
    misses: int = 0
    # The OTPs 1 of pairs after which PingOne asked for OTP 2.
    asked: set[str] = field(default_factory=set)
    taken: set[str] = field(default_factory=set)
    seed: ModelSeed | None = None
    # The counter of the OTP after which PingOne asked for the next one.
    asked_after: int | None = None
    activated_by: Call | None = None
    # Our call that made the device, if we did, and when it began to wait.
    made_by: Call | None = None
    made_at: float = 0.0
    # Whether the inventory has it, whether with other parameters than the seed's, and our call that imported it.
    is_in_inventory: bool = True
    is_different: bool = False
    imported_by: Call | None = None
    # Everybody whom a file named for it.
    people: list[Person] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.people.append(self.person)
        self.owners[self.device_id] = self.user_id

    @property
    def token_id(self) -> str:
        return f"token-{self.serial_number}"

    @property
    def user_id(self) -> str:
        return self.person.user_id

    @property
    def owner_id(self) -> str:
        """The user whose device it is; empty: nobody's."""
        return self.owners[self.device_id] if self.device_id else ""

    @property
    def foreign_ids(self) -> set[str]:
        """Devices of people whom the assignment does not name."""
        return {device_id for device_id, owner_id in self.owners.items() if owner_id != self.user_id}

    def find_pairs(self, otp: str) -> list[ModelPair]:
        """The pairs that have this OTP; another pair may have it again."""
        return [pair for pair in self.pairs if otp in (pair.first, pair.second)]

    def find_person(self, user_id: str, username: str | None) -> Person | None:
        """The one whom a row names, by id if it has one."""
        named = (each for each in self.people if (each.user_id == user_id if user_id else each.username == username))
        return next(named, None)

    def choose_person(self, dice: Dice, stream: str, share: float) -> Person:
        """Somebody whom an earlier file or hand-out named, in this share of cases, or somebody new."""
        if share and dice.chance(stream, share):
            return dice.pick(stream, self.people)
        first, number = self.people[0], len(self.people)
        person = Person(str(uuid.UUID(int=uuid.UUID(first.user_id).int + number)), f"{first.username}-{number}")
        self.people.append(person)
        return person

    @property
    def is_active(self) -> bool:
        return self.device_id in self.active_ids

    @property
    def was_deleted(self) -> bool:
        return bool(self.former_ids)

    def become_active(self) -> None:
        if self.device_id:
            self.active_ids.add(self.device_id)

    def become(self, device_id: str, now: float, *, owner_id: str = "", made_by: Call | None = None) -> None:
        """PingOne makes a device for it."""
        self.delete()
        self.device_id, self.made_by, self.made_at = device_id, made_by, now
        self.seen_from = now + SEEN_AFTER if made_by else 0.0
        self.owners[device_id] = owner_id or self.user_id
        if made_by:
            self.our_ids.add(device_id)

    def delete(self) -> None:
        """Its device is gone, and with it what PingOne knew of the OTPs that were sent."""
        if self.device_id:
            self.former_ids.add(self.device_id)
        self.device_id = ""
        self.is_locked = self.is_blocked = False
        self.asked.clear()
        self.failures, self.asked_after = 0, None
        self.activated_by = self.made_by = None


@dataclass
class Call:
    """One request whose first byte went out. Times on the processes' clock; None: it did not happen (yet)."""

    number: int
    # None: it is about no single token.
    device: ModelDevice | None
    # Which OTP it brought; 0 is a read.
    ordinal: int
    attempt: str
    sent_at: float
    # The OTP, and the counter that it was made from if its device has a seed.
    otp: str = ""
    counter: int | None = None
    # When PingOne will act on it. What it did nothing with was answered instead.
    acts_at: float | None = None
    acted_at: float | None = None
    did_nothing: bool = False
    verdict: str | None = None
    reply: Reply | None = None
    # When its worker read a whole answer.
    heard_at: float | None = None
    # What reached its worker, readable or not; None: nothing did.
    heard: Reply | None = None
    # The database was put back to a moment before it: nothing that is written down knows of it.
    is_forgotten: bool = False
    # Of an OTP: whether it was posted with `oathResync`.
    has_flag: bool | None = None
    kind: str = READ
    # The device that it is about, or made, and the user in whose name.
    device_id: str = ""
    user_id: str = ""
    # Of a job on the inventory: the serial numbers in it, and when its job has ended.
    serial_numbers: tuple[str, ...] = ()
    # Of a page of the inventory: the first token on it, whether it is the last page, and the one before; of a question
    # about a job, the import that began it.
    begins_with: int = 0
    is_last: bool = False
    previous: Call | None = None

    @property
    def is_post(self) -> bool:
        """It brings an OTP."""
        return self.ordinal > 0

    @property
    def is_change(self) -> bool:
        return self.kind in (POST, PAIR, IMPORT, UNPAIR, REVOKE)

    @property
    def may_have_changed(self) -> bool:
        """It may have taken effect, as far as anybody can tell."""
        return self.is_change and not self.did_nothing

    @property
    def is_pending(self) -> bool:
        """It will still take effect."""
        return self.acts_at is not None and self.acted_at is None

    def __str__(self) -> str:
        what = f"OTP {self.ordinal}" if self.is_post else self.kind
        about = self.device.serial_number if self.device else " ".join(self.serial_numbers)
        return f"call {self.number} ({what}, {about})"


@dataclass(frozen=True)
class Tenant:
    """What is not published, and may be one way or the other."""

    locks_after: int = 99
    # Whether an OTP that was looked at once is good no more.
    uses_up_otps: bool = False
    # The verdict on an OTP for a device that is ACTIVE already.
    says_when_active: str = REFUSED
    resync_on_first_call: bool = False
    # Whether a pairing makes a device that is ACTIVE at once, and whether its answer tells the status.
    pairs_active: bool = False
    tells_status: bool = True
    # Whether a filter by serial number shows the token's device, and whether the inventory may be asked
    # for a token at all.
    shows_devices_with_filter: bool = True
    shows_inventory: bool = True
    # Whether a job that has ended is forgotten as soon as it was asked about.
    forgets_jobs: bool = False
    # Seconds after which a device is deleted that waits for activation.
    deletes_after: float | None = None


def answer(
    status: int,
    code: str | None = None,
    detail: str | None = None,
    /,
    retry_after: int | None = None,
    target: str = "otp",
    **fields: object,
) -> Reply:
    """An answer of PingOne's own."""
    headers = {"content-type": "application/json", "correlation-id": "correlation-1"}
    if retry_after is not None:
        headers["retry-after"] = str(retry_after)
    if code is not None:
        fields |= {"id": "error-1", "code": code, "details": [{"code": detail, "target": target}] if detail else []}
    return status, headers, json.dumps(fields).encode()
