"""What PingOne has when all work is over, and what it had before: the evidence about tokens and devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any


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
