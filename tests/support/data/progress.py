"""Progress: of records that have a device, as rows of a shipment that brings its devices do; and what is told of the
progress of some work."""

from typing import Any

from worker.rules.steps import PairingProgress, Progress


def progress_with_device(*otps: Any, **fields: Any) -> Progress:
    """Make the progress of a record that has a device. Takes what `Progress` takes, but for the pairing."""
    return Progress(*otps, pairing=PairingProgress(device_id="device-1"), **fields)


class Heard(list[tuple[str, int, int | None]]):
    """Keeps every step that it hears: what, how many are done, and of how many."""

    def __call__(self, what: str, done: int, total: int | None = None) -> None:
        self.append((what, done, total))
