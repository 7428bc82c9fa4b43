"""The devices that wait for their activation, the oldest first: PingOne deletes those that wait for too long."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.simulator.world import Device


class WaitingDevices:
    """The devices that wait for their activation. One that is activated or removed stays in here until its time is
    over, and is passed over then."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Device]] = []
        self._numbers = count()

    def add(self, device: Device) -> None:
        """Add a device that waits for its activation."""
        heapq.heappush(self._heap, (device.created_at, next(self._numbers), device))

    def take_older(self, before: float) -> Iterator[Device]:
        """Take out the devices that were made before this Unix time."""
        while self._heap and self._heap[0][0] < before:
            yield heapq.heappop(self._heap)[2]

    def age(self, seconds: float, devices: Iterable[Device]) -> int:
        """Make those of the devices that wait so many seconds older; how many there are."""
        self._heap.clear()
        for device in devices:
            if device.status == "ACTIVATION_REQUIRED":
                device.created_at -= seconds
                self.add(device)
        return len(self._heap)
