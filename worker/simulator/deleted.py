"""Devices that were deleted, and that reads show for a while: PingOne asks its clients not to delete them again."""

from __future__ import annotations

from worker.simulator.users import User
from worker.simulator.world import Device


class DeletedDevices:
    """Deleted devices by their id, each with the Unix time until which it can be read."""

    def __init__(self) -> None:
        self._devices: dict[str, tuple[Device, float]] = {}

    def add(self, device: Device, readable_until: float) -> None:
        """Add a device that was just deleted."""
        self._devices[device.id] = device, readable_until

    def find(self, environment_id: str, user_id: str, device_id: str, now: float) -> Device | None:
        """Find a device that reads still show."""
        device, readable_until = self._devices.get(device_id, (None, 0.0))
        if device is None or now >= readable_until:
            return None
        return device if (device.environment_id, device.user.id) == (environment_id, user_id) else None

    def of_user(self, user: User, now: float) -> list[Device]:
        """The devices of a user that reads still show."""
        return [device for device, until in self._devices.values() if device.user is user and now < until]
