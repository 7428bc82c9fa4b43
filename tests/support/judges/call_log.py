"""The evidence: what arrived at PingOne and what it was answered, as the simulator's call log has it; what PingOne has
when all work is over, and what it had before."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self

# PingOne says that it did nothing with the request, so its OTP may go again at once.
NOT_ACTED_ON = frozenset({401, 403, 404, 405, 415, 429})


@dataclass(frozen=True, slots=True)
class LoggedCall:
    """One call to a device. Times are the machine's monotonic seconds, as our own `time.monotonic` gives them; `time`
    is Unix time, of its arrival."""

    number: int
    arrived_at: float
    ended_at: float
    device_id: str
    operation: str
    transaction_id: str
    otp: str | None = None
    oath_resync: bool | None = None
    took_effect: bool = False
    effect_at: float | None = None
    outcome: str | None = None
    fault: str | None = None
    status: int | None = None
    detail_code: str | None = None
    client_gone: bool = False
    time: float = 0.0

    @classmethod
    def from_entry(cls, entry: dict[str, Any]) -> Self:
        return cls(**{field.name: entry[field.name] for field in fields(cls)})

    @property
    def is_post(self) -> bool:
        """An OTP arrived, and PingOne did not say that it left it alone. Of a client that was killed in between, the
        headers may have come without it."""
        return self.otp is not None and not (self.fault is None and self.status in NOT_ACTED_ON)

    @property
    def is_answered(self) -> bool:
        """An answer that can be read was handed over, and the client was there to take it."""
        is_readable = self.fault is None and self.status is not None and self.status < 500
        return is_readable and not self.client_gone

    @property
    def done_at(self) -> float:
        """From this moment on the call changes nothing more, even if its client still waits for the answer."""
        if self.effect_at is not None:
            return self.effect_at
        return self.arrived_at if (self.fault or "").startswith("hang") else self.ended_at


@dataclass(frozen=True, slots=True)
class ProvisioningCall(LoggedCall):
    """A call of any kind. One that pairs, imports or looks up names what it is about."""

    user_id: str | None = None
    serial_number: str | None = None
    serial_numbers: Sequence[str] | None = None
    job_id: str | None = None
    made_device_id: str | None = None

    @property
    def is_acted_on(self) -> bool:
        """PingOne may have done what it was asked for: it did not answer that it left it alone."""
        return self.fault is not None or self.status not in NOT_ACTED_ON


def read_whole_call_log(path: Path) -> list[ProvisioningCall]:
    """All calls, in the order of their arrival."""
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return sorted(map(ProvisioningCall.from_entry, entries), key=lambda call: call.number)


def read_call_log(path: Path) -> list[LoggedCall]:
    """The calls to devices, in the order of their arrival."""
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    calls = [LoggedCall.from_entry(entry) for entry in entries if entry["operation"] in ("activate", "read")]
    return sorted(calls, key=lambda call: call.number)


def sent_after_their_answer(calls: Iterable[LoggedCall]) -> list[tuple[str, str]]:
    """Device and OTP of each post that came although an earlier one of the same was answered. `calls` in the order of
    their arrival."""
    answered: set[tuple[str, str]] = set()
    again = []
    for call in calls:
        if call.is_post and call.otp is not None:
            post = (call.device_id, call.otp)
            if post in answered:
                again.append(post)
            if call.is_answered:
                answered.add(post)
    return again


def fingerprint(salt: str, otp: str) -> str:
    """How the call log writes an OTP."""
    return hashlib.sha256(salt.encode() + otp.encode()).hexdigest()


@dataclass(frozen=True)
class FinalDevice:
    """A device that lives. `made_by`: the number of the call that made it; None if it was there before."""

    id: str
    serial: str
    user_id: str
    status: str
    made_by: int | None


@dataclass(frozen=True)
class FinalToken:
    """A token of the inventory. `made_by`: the number of the call that imported it; None if it was there before."""

    id: str
    serial: str
    made_by: int | None


@dataclass(frozen=True)
class ImportJob:
    """A job that imported tokens: its id, its last status, and the ids of those that it made."""

    id: str
    status: str
    token_ids: Sequence[str]


@dataclass(frozen=True)
class Tenant:
    """The tenant in the end. `devices_before`: the user of each device that was there before, by its id;
    `active_before`: those that were ACTIVE; `tokens_before`: the serial numbers that the inventory had."""

    devices: Sequence[FinalDevice] = ()
    tokens: Sequence[FinalToken] = ()
    jobs: Sequence[ImportJob] = ()
    devices_before: Mapping[str, str] = field(default_factory=dict)
    active_before: frozenset[str] = frozenset()
    tokens_before: frozenset[str] = frozenset()

    @cached_property
    def devices_by_id(self) -> dict[str, FinalDevice]:
        """The devices that live, by their ids."""
        return {device.id: device for device in self.devices}

    @cached_property
    def devices_by_serial(self) -> dict[str, FinalDevice]:
        """The devices that live, by the serial numbers of their tokens."""
        return {device.serial: device for device in self.devices}

    @cached_property
    def tokens_by_serial(self) -> dict[str, FinalToken]:
        """The tokens of the inventory, by their serial numbers."""
        return {token.serial: token for token in self.tokens}


def read_tenant(
    devices: Sequence[Mapping[str, Any]],
    tokens: Sequence[Mapping[str, Any]],
    jobs: Sequence[Mapping[str, Any]],
    world: Any,
) -> Tenant:
    """Read the tenant as the simulator's control API shows it; `world` is what it began with."""
    return Tenant(
        devices=[
            FinalDevice(each["device_id"], each["serial"], each["user_id"], each["status"], each["made_by"])
            for each in devices
        ],
        tokens=[FinalToken(each["token_id"], each["serial"], each["made_by"]) for each in tokens],
        jobs=[
            ImportJob(each["job_id"], each["status"], each["token_ids"])
            for each in jobs
            if each["type"] == "CREATE_OATH_TOKENS"
        ],
        devices_before={device.device_id: device.user_id for device in world.devices},
        active_before=frozenset(device.device_id for device in world.devices if device.status == "ACTIVE"),
        tokens_before=frozenset(seed.serial for seed in (*world.tokens, *world.devices)),
    )
