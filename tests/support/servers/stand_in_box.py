"""A tenant for a small box, and its judge: people, an inventory that takes imports, devices that check HOTP. It keeps a
record of all that was asked of it and of what it made. It shares no code with oathbulk or its simulator.
"""

import hashlib
import hmac
import random
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# OTPs ahead of the counter that are taken at once, and further ones for which a second OTP is asked.
NEAR, FAR = 5, 50


@dataclass
class Person:
    """Somebody who gets a token."""

    id: str
    username: str


@dataclass
class BoxedToken:
    """A token as the vendor made it: `server_lag` is how far PingOne's counter will be behind it."""

    serial: str
    secret: bytes = field(repr=False)
    counter: int
    person: Person
    server_lag: int = 0


@dataclass
class HeldToken:
    """A token of the inventory, and its device. `position` is the next counter that is taken; `asked_at` the counter of
    an OTP whose follower is awaited."""

    serial: str
    secret: bytes = field(repr=False)
    position: int
    owner: str | None = None
    device_id: str = ""
    is_active: bool = False
    asked_at: int | None = None

    @property
    def id(self) -> str:
        return f"token-{self.serial}"


def make_tokens(count: int) -> list[BoxedToken]:
    """Make up so many tokens, a fifth of which will be out of step."""
    lots = random.Random(count)
    return [
        BoxedToken(
            serial=f"DRAWER{number:04}",
            secret=lots.randbytes(20),
            counter=100,
            person=Person(str(uuid.UUID(int=lots.getrandbits(128), version=4)), f"o'{number:04}@example.test"),
            server_lag=20 if number % 5 == 0 else 0,
        )
        for number in range(count)
    ]


def write_box(folder: Path, tokens: Sequence[BoxedToken]) -> None:
    """Write the vendor's file, in the clear, and the list of who gets what."""
    seeds = [f"{token.serial}, {token.secret.hex()}, hotp, 6, {token.counter}, sha1\n" for token in tokens]
    (folder / "box.csv").write_text("".join(seeds))
    (folder / "box.csv").chmod(0o600)
    people = [f"{token.serial},{token.person.username}\n" for token in tokens]
    (folder / "who.csv").write_text("serial,username\n" + "".join(people))


def hotp(secret: bytes, counter: int) -> str:
    """https://www.rfc-editor.org/rfc/rfc4226#section-5.3"""
    digest = hmac.digest(secret, counter.to_bytes(8, "big"), hashlib.sha1)
    offset = digest[19] & 15
    return f"{(int.from_bytes(digest[offset : offset + 4], 'big') & 0x7FFFFFFF) % 10**6:06}"


# Status, body, and perhaps headers.
Answer = tuple[Any, ...]


class BoxTenant:
    """What PingOne has. Each method answers one kind of call; `made` and `asked` are the tenant's own record."""

    def __init__(self, tokens: Sequence[BoxedToken]) -> None:
        self.tokens = {token.serial: token for token in tokens}
        self.held: dict[str, HeldToken] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        # What was made, in its order: ("token", serial) and ("device", serial, user).
        self.made: list[tuple[str, ...]] = []
        # What was asked although it was there already, or was not to be asked at all.
        self.needless: list[str] = []
        self.otps: list[tuple[str, str]] = []
        self.accepted: list[tuple[str, int]] = []

    @property
    def active(self) -> set[str]:
        """The serial numbers of the tokens that are ACTIVE for somebody."""
        return {token.serial for token in self.held.values() if token.is_active}

    def find_users(self, usernames: Sequence[str]) -> Answer:
        people = [token.person for token in self.tokens.values() if token.person.username in usernames]
        shown = [{"id": person.id, "username": person.username, "enabled": True} for person in people]
        return 200, {"_embedded": {"users": shown}}

    def list_tokens(self, serials: Sequence[str] | None, *, with_devices: bool) -> Answer:
        found = [token for token in self.held.values() if serials is None or token.serial in serials]
        return 200, {"_embedded": {"oathTokens": [_show_token(token, with_devices) for token in found]}}

    def read_token(self, token_id: str) -> Answer:
        found = next((token for token in self.held.values() if token.id == token_id), None)
        return (200, _show_token(found, with_devices=True)) if found else refuse(404, "NOT_FOUND")

    def start_import(self, tokens: Sequence[Mapping[str, Any]]) -> Answer:
        serials = [str(token["serialNumber"]) for token in tokens]
        there = [serial for serial in serials if serial in self.held]
        self.needless += [f"{serial}: imported again" for serial in there]
        for token in tokens:
            serial = str(token["serialNumber"])
            if serial not in self.held:
                position = int(token.get("hotp", {}).get("counter", 0)) - self.tokens[serial].server_lag
                self.held[serial] = HeldToken(serial, bytes.fromhex(token["secret"]), position)
                self.made.append(("token", serial))
        job_id = str(uuid.uuid4())
        duplicates = [{"serialNumber": serial, "maskedSecret": "00******"} for serial in there]
        result = {"created": len(serials) - len(there), "duplicates": duplicates}
        self.jobs[job_id] = {"id": job_id, "status": "DONE", "result": result}
        return 202, {"id": job_id, "status": "IN_PROGRESS"}

    def read_job(self, job_id: str) -> Answer:
        return (200, self.jobs[job_id]) if job_id in self.jobs else refuse(404, "NOT_FOUND")

    def pair(self, user_id: str, serial: str) -> Answer:
        token = self.held.get(serial)
        if token is None:
            return refuse(400, "INVALID_DATA", "INVALID_VALUE", "serialNumber")
        if token.owner is not None:
            self.needless.append(f"{serial}: paired again")
            return refuse(409, "REQUEST_FAILED", "UNIQUENESS_VIOLATION", "serialNumber")
        token.owner, token.device_id = user_id, str(uuid.uuid4())
        self.made.append(("device", serial, user_id))
        return 201, _show_device(token)

    def list_devices(self, user_id: str) -> Answer:
        mine = [_show_device(token) for token in self.held.values() if token.owner == user_id]
        return 200, {"_embedded": {"devices": mine}}

    def read_device(self, user_id: str, device_id: str) -> Answer:
        token = self._find_device(user_id, device_id)
        return (200, _show_device(token)) if token else refuse(404, "NOT_FOUND")

    def activate(self, user_id: str, device_id: str, otp: str, *, resync: bool) -> Answer:
        token = self._find_device(user_id, device_id)
        if token is None:
            return refuse(404, "NOT_FOUND")
        self.otps.append((token.serial, otp))
        counter = self._find_counter(token, otp)
        is_second = resync and token.asked_at is not None and counter == token.asked_at + 1
        if counter is None or (resync and not is_second):
            return refuse(400, "INVALID_DATA", "INVALID_OTP", "otp")
        self.accepted.append((token.serial, counter))
        if counter >= token.position + NEAR and not is_second:
            token.asked_at = counter
            return refuse(400, "INVALID_DATA", "EXTRA_OTP_REQUIRED", "otp")
        token.is_active, token.position = True, counter + 1
        return 200, _show_device(token)

    def refuse_to_remove(self, path: str) -> Answer:
        self.needless.append(f"DELETE {path}")
        return refuse(405, "INVALID_REQUEST")

    def _find_device(self, user_id: str, device_id: str) -> HeldToken | None:
        held = self.held.values()
        return next((each for each in held if (each.owner, each.device_id) == (user_id, device_id)), None)

    def _find_counter(self, token: HeldToken, otp: str) -> int | None:
        ahead = range(token.position, token.position + FAR)
        return next((counter for counter in ahead if hotp(token.secret, counter) == otp), None)


def judge_tenant(tenant: BoxTenant) -> Iterator[str]:
    """What was made twice, for another person, or asked for needlessly, a sentence each."""
    yield from tenant.needless
    for thing, times in Counter(made[:2] for made in tenant.made).items():
        if times > 1:
            yield f"{thing[1]}: {thing[0]} made {times} times"
    for what, serial, *owner in tenant.made:
        if what == "device" and owner != [tenant.tokens[serial].person.id]:
            yield f"{serial}: paired with a person who is not to get it"
    for (serial, _), times in Counter(tenant.otps).items():
        if times > 1:
            yield f"{serial}: one OTP came {times} times"
    for serial in {serial for serial, _ in tenant.accepted}:
        counters = [counter for each, counter in tenant.accepted if each == serial]
        if counters != sorted(set(counters)):
            yield f"{serial}: its counters came as {counters}"


def _show_token(token: HeldToken, with_devices: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": token.id, "serialNumber": token.serial, "type": "HOTP", "otpLength": 6}
    if with_devices and token.owner is not None:
        shown["devices"] = [{"id": token.device_id, "user": {"id": token.owner}}]
    return shown | {"hashAlgorithm": "HmacSHA1"}


def _show_device(token: HeldToken) -> dict[str, Any]:
    status = "ACTIVE" if token.is_active else "ACTIVATION_REQUIRED"
    shown = {"id": token.device_id, "type": "OATH_TOKEN", "status": status, "serialNumber": token.serial}
    return shown | {"user": {"id": token.owner}}


def refuse(status: int, code: str, detail: str | None = None, target: str | None = None) -> Answer:
    body: dict[str, Any] = {"id": str(uuid.uuid4()), "code": code, "message": "The request failed."}
    if detail:
        body["details"] = [{"code": detail, "target": target, "message": "See the code."}]
    return status, body
