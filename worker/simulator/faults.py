"""Faults on demand: which call is hit is a matter of the seed, not of the order in which threads arrive."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

from worker.simulator.answers import HTML, Answer, page, refusal
from worker.simulator.settings import FaultKind, Operation, Settings


@dataclass(frozen=True, slots=True)
class Fault:
    """What befalls one call. `luck`, from 0 to 1, chooses among the variants of its kind."""

    kind: FaultKind
    luck: float = 0.0

    @property
    def acts(self) -> bool:
        """Whether the operation is done all the same."""
        return not self.kind.endswith("_before")


@dataclass(frozen=True, slots=True)
class FaultOrder:
    """A fault for the next call that fits; None fits any."""

    kind: FaultKind
    operation: Operation | None = None
    device_id: str | None = None

    def fits(self, operation: Operation, device_id: str | None) -> bool:
        return self.operation in (None, operation) and self.device_id in (None, device_id)


class Faults:
    """Draws faults. A call's lot depends on the seed, its device, operation, and how many came before."""

    def __init__(self) -> None:
        self.orders: list[FaultOrder] = []
        self._calls: Counter[tuple[str | None, Operation]] = Counter()
        self._hits: Counter[str | None] = Counter()

    def draw(self, operation: Operation, device_id: str | None, settings: Settings) -> Fault | None:
        for index, order in enumerate(self.orders):
            if order.fits(operation, device_id):
                del self.orders[index]
                return Fault(order.kind)
        if not settings.faults or operation not in settings.fault_operations:
            return None
        key = (device_id, operation)
        self._calls[key] += 1
        kind = _chosen(settings, _lot(settings.fault_seed, *key, self._calls[key], "kind"))
        if kind is None or not self._may_hit(device_id, settings):
            return None
        self._hits[device_id] += 1
        return Fault(kind, _lot(settings.fault_seed, *key, self._calls[key], "variant"))

    def _may_hit(self, device_id: str | None, settings: Settings) -> bool:
        return settings.faults_per_device is None or self._hits[device_id] < settings.faults_per_device


def error_answer(fault: Fault, settings: Settings) -> Answer:
    """A 5xx, as JSON or as a proxy's page."""
    statuses = settings.error_statuses
    share, status = _split(fault.luck, len(statuses))
    is_page = share < settings.error_html_share
    answer = page(statuses[status], "Try again") if is_page else refusal(statuses[status], "UNEXPECTED_ERROR")
    if settings.error_retry_after is None:
        return answer
    return answer.with_headers([(b"retry-after", str(settings.error_retry_after).encode())])


def garbled_answer() -> Answer:
    return Answer(200, b"<!doctype html><title>Please wait</title>", content_type=HTML)


def _chosen(settings: Settings, lot: float) -> FaultKind | None:
    for kind, share in settings.faults.items():
        if lot < share:
            return kind
        lot -= share
    return None


def _split(luck: float, count: int) -> tuple[float, int]:
    """One lot made into two: a share and a choice among `count`."""
    scaled = luck * count
    choice = min(int(scaled), count - 1)
    return scaled - choice, choice


def _lot(*about: object) -> float:
    """A number from 0 to 1 that is always the same for the same arguments."""
    digest = hashlib.blake2b(repr(about).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
