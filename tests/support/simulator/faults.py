"""Faults on demand: a seed decides which call is hit, and not the order in which a client's threads arrive."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

from support.simulator.settings import FaultKind, WatchedSettings
from worker.simulator.calls import HTML, Answer, refusal


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that hits one call. `variant`, from 0 to 1, chooses among the variants of its kind."""

    kind: FaultKind
    variant: float = 0.0

    @property
    def does_operation(self) -> bool:
        """Whether the operation is done in spite of the fault."""
        return not self.kind.endswith("_before")


@dataclass(frozen=True, slots=True)
class FaultOrder:
    """A fault that was ordered for the next call that matches; None matches any operation, device or token."""

    kind: FaultKind
    operation: str | None = None
    device_id: str | None = None
    serial_number: str | None = None

    def matches(self, operation: str, device_id: str | None, serial_number: str | None) -> bool:
        """Whether a call for this operation, device and token is one that the fault was ordered for."""
        is_device, is_token = self.device_id in (None, device_id), self.serial_number in (None, serial_number)
        return self.operation in (None, operation) and is_device and is_token


class Faults:
    """Decides which calls are hit by a fault: by `fault_seed`, the device or the token that is to be paired, the
    operation, and how many such calls came before."""

    def __init__(self) -> None:
        self.orders: list[FaultOrder] = []
        self._calls: Counter[tuple[str | None, str]] = Counter()
        self._hits: Counter[str | None] = Counter()

    def draw(
        self, operation: str, device_id: str | None, settings: WatchedSettings, serial_number: str | None = None
    ) -> Fault | None:
        """The fault for this call, ordered or drawn; None for a call that goes well."""
        for index, order in enumerate(self.orders):
            if order.matches(operation, device_id, serial_number):
                del self.orders[index]
                return Fault(order.kind)
        if not settings.faults or operation not in settings.fault_operations:
            return None
        subject = device_id or serial_number
        key = (subject, operation)
        self._calls[key] += 1
        kind = _choose_kind(settings, _hash_to_fraction(settings.fault_seed, *key, self._calls[key], "kind"))
        most = settings.faults_per_device
        if kind is None or (subject is not None and most is not None and self._hits[subject] >= most):
            return None
        self._hits[subject] += 1
        return Fault(kind, _hash_to_fraction(settings.fault_seed, *key, self._calls[key], "variant"))


def error_answer(fault: Fault, settings: WatchedSettings) -> Answer:
    """An answer with a 5xx, in the vendor's envelope or as a proxy's page."""
    scaled = fault.variant * len(settings.error_statuses)
    choice = min(int(scaled), len(settings.error_statuses) - 1)
    status, is_page = settings.error_statuses[choice], scaled - choice < settings.error_html_share
    page = f"<!doctype html><title>{status}</title><h1>{status} Try again</h1>\n".encode()
    answer = Answer(status, page, HTML) if is_page else refusal(status, "UNEXPECTED_ERROR")
    if settings.error_retry_after is None:
        return answer
    return answer.with_header("retry-after", str(settings.error_retry_after))


def garbled_answer() -> Answer:
    """A 200 with a web page instead of JSON."""
    return Answer(200, b"<!doctype html><title>Please wait</title>", HTML)


def _choose_kind(settings: WatchedSettings, drawn: float) -> FaultKind | None:
    """The kind of fault into whose share the drawn number from 0 to 1 falls; None beyond all shares."""
    for kind, share in settings.faults.items():
        if drawn < share:
            return kind
        drawn -= share
    return None


def _hash_to_fraction(*about: object) -> float:
    """A number from 0 to 1 that looks random and is always the same for the same arguments."""
    digest = hashlib.blake2b(repr(about).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
