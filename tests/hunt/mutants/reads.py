"""Mutants that do not read a device when they should."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import false

import worker.leases.moves
import worker.leases.settlement
from hunt.model_network import ModelTransport
from hunt.mutants.patching import Patch, around, mutant
from worker.pingone import devices, errors
from worker.pingone.client import Client
from worker.pingone.wire import Envelope
from worker.rules import decisions
from worker.rules.progress import Retry


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
    def decide_after_post(real: Any, progress: Any, ordinal: int, answer: Any, limits: Any) -> Any:
        return real(progress, ordinal, answer, replace(limits, read_delay=0.0))

    return [around(decisions, "decide_after_post", decide_after_post)]


@mutant("are written down", amid=("proxy_not_found",))
def takes_a_proxys_page_for_pingones_word() -> list[Patch]:
    return [(Envelope, "is_from_pingone", True)]


@mutant("it is active here, and not ACTIVE at PingOne")
def believes_an_answer_about_another_device() -> list[Patch]:
    return [around(devices, "_differs", lambda *_: False)]


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
