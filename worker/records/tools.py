"""What the attempts of one thread work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from models.encrypted import Keyring
from worker.leases.claim import Claim
from worker.leases.worker import Leases
from worker.pace.slots import Pace
from worker.pingone.client import Client, PingOneClock
from worker.pingone.pairing import Pairings
from worker.rules.limits import Limits
from worker.rules.steps import Decision
from worker.tenants import Resync

# Called with a settled attempt: its claim, how it ended, and how many OTPs it spent.
OnSettled = Callable[[Claim, Decision, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptTools:
    """The same for all attempts of one thread. Times in seconds."""

    leases: Leases
    client: Client
    pairings: Pairings
    pace: Pace
    keyring: Keyring
    # PingOne's time, by which the OTPs of TOTP seeds are made.
    clock: PingOneClock
    # No OTP of a TOTP seed goes out in so many last seconds of its time step.
    step_margin: float
    limits: Limits
    # An OTP goes out within this time after it was marked as sent, or not at all.
    send_within: float
    # An OTP goes out within this time after the claim, so that enough of the lease is left, or not at all.
    last_send: float
    # Knows, or learns, whether OTP 1 goes with `oathResync` already.
    resync: Resync
    on_settled: OnSettled
    is_stopping: Callable[[], bool]
