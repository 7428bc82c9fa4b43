"""One stack, from its begin to its judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.simulator.settings import DEVICE_OPERATIONS, PROVISIONING_OPERATIONS

from chaos.disturbances import LATENCY
from chaos.postgresql_stack import PostgresqlStack
from chaos.schedule import Say, disturb
from chaos.single_machine import SingleMachine
from chaos.stack import Stack
from worker.simulator.shipment import A_FEW_HOPELESS, a_few_of_each, make_box, make_shipment

Kind = Callable[..., Stack]
STACKS: dict[str, Kind] = {"postgresql": PostgresqlStack, "embedded": SingleMachine}

# The share of a box's tokens that are of TOTP: each that is out of step waits for the next time step.
TOTP = 0.1
WEATHER: dict[str, Any] = {
    "faults": {
        "reset_before": 0.01,
        "reset_after": 0.01,
        "reset_late": 0.01,
        "error_before": 0.01,
        "error_after": 0.01,
        "hang_before": 0.005,
        "hang_after": 0.005,
        "drip": 0.005,
        "garbled": 0.01,
    },
    # More of them might use all the posts of a device up.
    "faults_per_device": 1,
    "fault_operations": [*DEVICE_OPERATIONS, "find_users", "list_tokens", "read_token", *PROVISIONING_OPERATIONS],
    "late_effect_after": 0.3,
    "latency": LATENCY,
}
# Requests a second of the other kinds of calls, which only a box needs.
GROUP_RATES = {"directory": 5, "inventory": 5, "configuration": 5}


def make_stack(kind: str, directory: Path, *, records: int, rate: float, seed: int = 0, is_box: bool = False) -> Stack:
    """`rate`: requests a second. `is_box`: the shipment is a vendor's box, and goes the whole way."""
    shipment = (
        make_box(records, seed=seed, totp=TOTP, special=a_few_of_each(records))
        if is_box
        else make_shipment(records, seed=seed, hopeless=A_FEW_HOPELESS)
    )
    settings = {"PINGONE_RATE": str(rate), "PINGONE_RATE_MAX": str(rate)}
    return STACKS[kind](directory, shipment, settings, WEATHER | {"group_rates": GROUP_RATES, "fault_seed": seed})


def run(
    kind: str, directory: Path, seed: int, say: Say, *, records: int, rate: float, is_box: bool = False
) -> Counter[str]:
    """What happened to it. Raises AssertionError or TimeoutError where a promise was broken."""
    with make_stack(kind, directory, records=records, rate=rate, seed=seed, is_box=is_box) as stack:
        stack.start()
        happened = disturb(stack, seed, say)
        status = stack.wait_until_finished()
        stack.judge()
        faults = Counter({f"fault {name}": count for name, count in stack.counts["faults"].items()})
    say(f"acquitted: {status.counts['active']} active, {status.dead_letters}")
    return happened + faults
