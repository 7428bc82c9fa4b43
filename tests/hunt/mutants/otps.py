"""Mutants that waste OTPs, do not read a device when they should, use a counter or a time step wrongly, or come to no
end."""

from dataclasses import replace
from typing import Any

from sqlalchemy import false

import worker.leases.commands
import worker.leases.moves
import worker.leases.settlement
import worker.leases.worker
from hunt.model_network import ModelTransport
from hunt.mutants.patching import Patch, around, mutant
from models.record import Record
from worker import records
from worker.leases.queue import Queue
from worker.pingone import errors, users
from worker.pingone.client import Client, PingOneClock
from worker.pingone.wire import Envelope
from worker.rules import decisions
from worker.rules.steps import Mint, Progress, Retry, SendOtp, StepMissed, WaitForStep


@mutant("is one post more than the budget")
def has_no_budget() -> list[Patch]:
    def tools(real: Any, **given: Any) -> Any:
        return real(**given | {"limits": replace(given["limits"], posts=99)})

    return [around(records, "AttemptTools", tools)]


@mutant("goes out, and PingOne has not asked for OTP 2")
def sends_otp_2_unasked() -> list[Patch]:
    def decide_after_post(real: Any, progress: Any, ordinal: int, answer: Any, limits: Any) -> Any:
        if isinstance(answer, errors.InvalidOtp) and ordinal == 1 and progress.second is not None:
            return progress.with_otp_answered(1), SendOtp(2)
        return real(progress, ordinal, answer, limits)

    return [around(decisions, "decide_after_post", decide_after_post)]


@mutant("not finished")
def rescues_nothing() -> list[Patch]:
    return [around(Queue, "rescue", lambda *_: 0)]


@mutant("not finished")
def rescues_no_lost_message() -> list[Patch]:
    return [around(Queue, "_rescue_queued", lambda *_: 0)]


@mutant("goes out while no read has told what became of")
def sends_again_without_a_read() -> list[Patch]:
    def choose_first_step(real: Any, progress: Any, limits: Any) -> Any:
        return real(progress.with_device_waiting() if progress.is_open else progress, limits)

    return [around(decisions, "choose_first_step", choose_first_step)]


@mutant("times, and")
def takes_no_answer_for_not_delivered() -> list[Patch]:
    def decide_after_post(real: Any, progress: Any, ordinal: int, answer: Any, limits: Any) -> Any:
        is_unknown = isinstance(answer, errors.OutcomeUnknown)
        return real(progress, ordinal, errors.NotDelivered() if is_unknown else answer, limits)

    return [around(decisions, "decide_after_post", decide_after_post)]


@mutant("times, and", amid=("own_fault",))
def takes_a_fault_of_its_own_for_not_delivered() -> list[Patch]:
    def send(real: Any, self: Client, request: Any, slot: Any, parse: Any, call: Any) -> Any:
        before = call.requests
        try:
            return real(self, request, slot, parse, call)
        except errors.PingOneError:
            raise
        except Exception:
            call.requests = before
            raise

    return [around(Client, "_send", send)]


@mutant("and no read has told what became of")
def reads_at_once_after_a_loss() -> list[Patch]:
    def decide_after_post(real: Any, *known: Any) -> Any:
        return real(*known[:-1], replace(known[-1], read_delay=0.0))

    return [around(decisions, "decide_after_post", decide_after_post)]


@mutant("are written down", amid=("proxy_not_found",))
def takes_a_proxys_page_for_pingones_word() -> list[Patch]:
    return [(Envelope, "is_from_pingone", True)]


@mutant("it is active here, and not ACTIVE at PingOne")
def believes_an_answer_about_another_device() -> list[Patch]:
    return [around(users, "_differs", lambda *_: False)]


@mutant("goes out, and PingOne has not asked for OTP 2")
def keeps_a_connection_by_which_more_came_than_the_answer() -> list[Patch]:
    return [around(ModelTransport, "look_behind", lambda *_: None)]


@mutant("it is cancelled although a read is owed")
def cancels_although_a_read_is_owed() -> list[Patch]:
    return [(worker.leases.moves, "needs_read", false)]


@mutant("it is cancelled although a read is owed", amid=("cancelled",))
def settles_as_cancelled_although_a_read_is_owed() -> list[Patch]:
    def kind(real: Any, progress: Any, decision: Any) -> Any:
        if isinstance(decision, Retry):
            progress = replace(progress.with_device_waiting(), verdict=None)
        return real(progress, decision)

    return [around(worker.leases.settlement, "_choose_kind", kind)]


@mutant("is committed as unused")
def moves_the_counter_only_with_the_answer() -> list[Patch]:
    same = {Record.next_counter: Record.next_counter}
    modules = (worker.leases.settlement, worker.leases.worker)
    return [around(module, "mark_otp", lambda real, *given: real(*given) | same) for module in modules]


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
