"""Mutants that write down too late, or not what was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import worker.leases.settlement
from hunt import initial_state
from hunt.mutants.patching import Patch, around, execute, mutant
from models.encrypted import Keyring
from models.record import Record
from worker.dispatch import Dispatcher, Messages
from worker.leases.worker import Leases
from worker.pingone.client import Client
from worker.rules.progress import OtpProgress


@mutant("goes out while its OTP is committed as unsent")
def writes_sending_after_the_post() -> list[Patch]:
    late: list[Callable[[], object]] = []

    def claim(real: Any, self: Leases, record_id: int, *rest: Any) -> Any:
        claimed = real(self, record_id, *rest)
        if claimed is None or not claimed.is_otp1_marked:
            return claimed
        with initial_state.database().writing():
            execute("UPDATE record SET otp1_state='unsent', otp1_posts=0 WHERE id=?", record_id)
        progress = replace(claimed.progress, first=OtpProgress())
        return replace(claimed, progress=progress, is_otp1_marked=False)

    def mark_sent(real: Any, self: Leases, claimed: Any, *rest: Any) -> bool:
        late.append(lambda: real(self, claimed, *rest))
        return True

    def activate(real: Any, self: Client, *arguments: Any, **named: Any) -> Any:
        try:
            return real(self, *arguments, **named)
        finally:
            late.pop()()

    return [
        around(Leases, "claim", claim),
        around(Leases, "mark_sent", mark_sent),
        around(Client, "activate", activate),
    ]


@mutant("goes out while OTP 1 is committed as sent")
def does_not_write_that_it_was_answered() -> list[Patch]:
    return [around(Leases, "write_progress", lambda *_: True)]


@mutant("is published before it is committed as queued")
def publishes_before_it_commits() -> list[Patch]:
    def enqueue(real: Any, self: Dispatcher, *rest: Any) -> list[Messages]:
        self._publish(real(self, *rest), {})
        return []

    return [around(Dispatcher, "_enqueue", enqueue)]


@mutant("attempts are written down, and its history has")
def counts_no_attempt() -> list[Patch]:
    def parameters(real: Any, *arguments: Any) -> dict[str, Any]:
        return {**real(*arguments), "uncounted": 1}

    return [around(worker.leases.settlement, "_parameters", parameters)]


@mutant("it is active and keeps its OTPs")
def keeps_the_otps_of_an_active_device() -> list[Patch]:
    def settle(real: Any, database: Any, kind: str, given: Any) -> Any:
        return real(database, kind, given).values(otps=Record.otps) if kind == "active" else real(database, kind, given)

    return [around(worker.leases.settlement, "_settle", settle)]


@mutant("a secret stands in the clear")
def stores_otps_in_the_clear() -> list[Patch]:
    return [
        around(Keyring, "seal", lambda _real, _self, plaintext, _identity: plaintext),
        around(Keyring, "open", lambda _real, _self, sealed, _identity: sealed),
    ]
