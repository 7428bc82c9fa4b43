"""The devices of the simulated PingOne, their users and environments, and what an OTP does to them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from worker.simulator.inventory import Inventory, InventoryToken, Pairing
from worker.simulator.settings import Settings
from worker.simulator.token import Token, Verdict
from worker.simulator.users import Directory, User
from worker.simulator.waiting import WaitingDevices


class Outcome(Enum):
    """What an activation or a sign-on came to. Only with the first four was the OTP checked, and so something
    changed."""

    ACTIVE = "ACTIVE"
    SIGNED_ON = "SIGNED_ON"
    EXTRA_OTP_REQUIRED = "EXTRA_OTP_REQUIRED"
    INVALID_OTP = "INVALID_OTP"
    ALREADY_ACTIVE = "ALREADY_ACTIVE"
    NOT_ACTIVE = "NOT_ACTIVE"
    LOCKED = "LOCKED"
    BLOCKED = "BLOCKED"
    ACCOUNT_NOT_USABLE = "ACCOUNT_NOT_USABLE"

    @property
    def took_effect(self) -> bool:
        """Whether the device or its token was changed."""
        return self in (Outcome.ACTIVE, Outcome.SIGNED_ON, Outcome.EXTRA_OTP_REQUIRED, Outcome.INVALID_OTP)


@dataclass(slots=True)
class Device:
    """A device as PingOne keeps it. Times are Unix times; if `locked_until` is infinity, the lock has no end.

    The device is not found before `appears_at` (replication lag), and can be activated but not read before
    `readable_at`. `forbidden`: calls about it are answered with a 403, as if the client lacked its role. `made_by`: the
    number of the call that paired it; None for a device that was there to begin with.
    """

    id: str
    serial_number: str
    environment_id: str
    user: User
    token: Token
    created_at: float
    updated_at: float
    status: str = "ACTIVATION_REQUIRED"
    locked_until: float | None = None
    blocked_at: float | None = None
    failures: int = 0
    appears_at: float = -math.inf
    forbidden: bool = False
    readable_at: float = -math.inf
    made_by: int | None = None

    def is_readable(self, now: float) -> bool:
        """Whether reads and lists show the device by now."""
        return now >= max(self.appears_at, self.readable_at)

    def is_locked(self, now: float) -> bool:
        """Whether the device is locked at `now`. When a lock has run out, the failures count from 0 again."""
        if self.locked_until is not None and now >= self.locked_until:
            self.locked_until, self.failures = None, 0
        return self.locked_until is not None

    def activate(self, otp: str, *, resync: bool, now: float, settings: Settings) -> Outcome:
        """Check an OTP and change the device accordingly; `resync` is `oathResync` of the request."""
        if obstacle := self._find_obstacle(now):
            return obstacle
        if self.status == "ACTIVE":
            return Outcome.ALREADY_ACTIVE
        self.updated_at = now
        match self.token.check_otp(otp, resync=resync, now=now, rules=settings.rules):
            case Verdict.ACCEPTED:
                self.status, self.failures, self.user.failures = "ACTIVE", 0, 0
                self.user.order.append(self.id)
                return Outcome.ACTIVE
            case Verdict.EXTRA_OTP_REQUIRED:
                if settings.extra_otp_counts_as_failure:
                    self._count_failure(now, settings)
                return Outcome.EXTRA_OTP_REQUIRED
            case Verdict.REFUSED:
                self._count_failure(now, settings)
                return Outcome.INVALID_OTP

    def sign_on(self, otp: str, *, now: float, settings: Settings) -> Outcome:
        """Check an OTP as the sign-on of the device's user does, with the same count of failures as an activation."""
        if obstacle := self._find_obstacle(now):
            return obstacle
        if self.status != "ACTIVE":
            return Outcome.NOT_ACTIVE
        if not self.token.accepts_sign_on(otp, now=now, rules=settings.rules):
            self._count_failure(now, settings)
            return Outcome.INVALID_OTP
        self.failures = self.user.failures = 0
        return Outcome.SIGNED_ON

    def unlock(self, now: float) -> None:
        """Remove the lock, and count failures from 0 again."""
        self.locked_until, self.failures, self.updated_at = None, 0, now

    def block(self, now: float) -> None:
        self.blocked_at = self.updated_at = now

    def unblock(self, now: float) -> None:
        self.blocked_at, self.updated_at = None, now

    def _find_obstacle(self, now: float) -> Outcome | None:
        """Why an OTP is refused without being checked; None if it is checked."""
        if not self.user.can_act:
            return Outcome.ACCOUNT_NOT_USABLE
        if self.blocked_at is not None:
            return Outcome.BLOCKED
        return Outcome.LOCKED if self.is_locked(now) else None

    def _count_failure(self, now: float, settings: Settings) -> None:
        """Count a failure of device and user, and lock them when it was the last one permitted."""
        self.failures += 1
        self.user.failures += 1
        if self.failures >= settings.failure_count:
            self.locked_until = now + settings.cool_down
        if settings.account_lock_after is not None and self.user.failures >= settings.account_lock_after:
            self.user.is_usable = False


class World:
    """All users, tokens and devices, in all environments. Changed by one thread at a time, which holds the simulation's
    lock. `outlived` counts the devices that were deleted because they waited for too long. `out_of_step`: the serial
    numbers of tokens that are out of step with the server from their import on."""

    def __init__(self) -> None:
        self.directory = Directory()
        self.inventory = Inventory()
        self.outlived = 0
        self.out_of_step: set[str] = set()
        self._devices: dict[str, Device] = {}
        self._waiting = WaitingDevices()

    def add(self, device: Device, *, shown_at: float = -math.inf) -> None:
        """Add a device to its user, and remove another of the same id; its token is paired from now on, which the
        inventory shows from the Unix time `shown_at` on."""
        if former := self._devices.get(device.id):
            self.remove(former)
        self._devices[device.id] = device
        device.user.devices[device.id] = device
        if device.status == "ACTIVE":
            device.user.order.append(device.id)
        else:
            self._waiting.add(device)
        pairing = Pairing(device.id, device.user.id, shown_at)
        self.inventory.pair(device.environment_id, device.serial_number, pairing)

    def remove(self, device: Device) -> None:
        """Remove a device; its token stays in the inventory, and is free."""
        del self._devices[device.id]
        del device.user.devices[device.id]
        if device.id in device.user.order:
            device.user.order.remove(device.id)
        self.inventory.unpair(device.environment_id, device.serial_number, device.id)

    def revoke(self, token: InventoryToken) -> None:
        """Remove a token from the inventory, and the device that it is paired as."""
        if token.pairing is not None and (device := self._devices.get(token.pairing.device_id)):
            self.remove(device)
        self.inventory.remove(token)

    def find(self, environment_id: str, user_id: str, device_id: str, now: float) -> Device | None:
        """Find a device by its id, if it belongs to this user in this environment and can be seen by now."""
        device = self._devices.get(device_id)
        if device is None or device.user.id != user_id or device.environment_id != environment_id:
            return None
        return device if now >= device.appears_at else None

    def devices(self) -> Iterator[Device]:
        """All devices, in every environment."""
        return iter(self._devices.values())

    def find_by_id(self, device_id: str) -> Device | None:
        """Find a device by its id alone, whether or not it can be seen yet."""
        return self._devices.get(device_id)

    def delete_outlived(self, now: float, life: float | None) -> None:
        """Delete the devices that have waited for their activation for more than `life` seconds; None: none."""
        if life is None:
            return
        for device in self._waiting.take_older(now - life):
            if self._devices.get(device.id) is device and device.status == "ACTIVATION_REQUIRED":
                self.remove(device)
                self.outlived += 1

    def age_waiting(self, seconds: float) -> int:
        """Make all devices that wait for their activation so many seconds older; how many there are."""
        return self._waiting.age(seconds, self._devices.values())
