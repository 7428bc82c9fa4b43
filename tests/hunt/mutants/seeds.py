"""Mutants that use a counter or a time step wrongly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import worker.leases.commands
import worker.leases.settlement
import worker.leases.worker
from hunt.mutants.patching import Patch, around, mutant
from models.record import Record
from worker import records
from worker.pingone.client import PingOneClock
from worker.rules.progress import Mint, Progress, StepMissed, WaitForStep


@mutant("is committed as unused")
def moves_the_counter_only_with_the_answer() -> list[Patch]:
    def mark_otp(real: Any, *arguments: Any) -> dict[Any, Any]:
        return real(*arguments) | {Record.next_counter: Record.next_counter}

    return [around(module, "mark_otp", mark_otp) for module in (worker.leases.settlement, worker.leases.worker)]


@mutant("and that one or a later one went before")
def gives_the_counter_of_a_lost_otp_back() -> list[Patch]:
    def with_device_waiting(real: Any, self: Progress) -> Progress:
        known = real(self)
        is_lost = known.next_counter is not None and self.next_counter is not None and self.is_open
        return replace(known, next_counter=self.next_counter - 1) if is_lost else known

    return [around(Progress, "with_device_waiting", with_device_waiting)]


@mutant("although a read is owed")
def goes_on_with_a_pair_whose_second_otp_was_lost() -> list[Patch]:
    def with_new_pair(real: Any, self: Progress) -> Progress:
        assert self.second is not None
        return replace(self, second=replace(self.second, state="unsent"))

    return [around(Progress, "with_new_pair", with_new_pair)]


@mutant("brings an OTP outside its time step")
def sends_otp_2_in_the_time_step_of_otp_1() -> list[Patch]:
    def choose(real: Any, progress: Progress, ordinal: int, *rest: Any) -> Any:
        chosen = real(progress, ordinal, *rest)
        return Mint(progress.next_counter or 0) if isinstance(chosen, WaitForStep) and ordinal == 2 else chosen

    return [around(records, "choose_time_step", choose)]


@mutant("brings an OTP that its seed did not make for now")
def sends_otp_2_after_its_time_step() -> list[Patch]:
    def choose(real: Any, progress: Progress, *rest: Any) -> Any:
        chosen = real(progress, *rest)
        return Mint(progress.next_counter or 0) if isinstance(chosen, StepMissed) else chosen

    return [around(records, "choose_time_step", choose)]


@mutant("brings an OTP outside its time step")
def takes_its_own_clock_for_pingones() -> list[Patch]:
    def now(real: Any, self: PingOneClock) -> tuple[float, float]:
        earliest, _ = real(self)
        return earliest + 11.0, earliest + 11.0

    return [around(PingOneClock, "now", now)]


@mutant("brings an OTP that its seed did not make for now", amid=("replayed",))
def replays_a_seed_from_its_first_counter() -> list[Patch]:
    return [
        around(
            worker.leases.commands, "_begin_new_budget", lambda real: real() | {"next_counter": Record.next_counter - 1}
        )
    ]
