from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import tenacity

from worker.pace.errors import SlotTooFar
from worker.pingone.client import RetryPolicy
from worker.pingone.errors import (
    Answer,
    CredentialsRefused,
    Forbidden,
    InvalidOtp,
    LicenseExceeded,
    NotDelivered,
    NotFound,
    OtherDevice,
    OutcomeUnknown,
    PingOneError,
    ProtocolFault,
    RateLimited,
    Rejected,
    ResyncRequired,
    TooLateToSend,
    Unauthorized,
)


@dataclass
class Recorder:
    """Stands for the pace, the caller and the service: each try ends as the next of `endings` says."""

    endings: list[Exception | str]
    policy: dict[str, Any] = field(default_factory=dict)
    holds: list[tuple[float, str]] = field(default_factory=list)
    undelivered_for: list[tuple[float, str]] = field(default_factory=list)
    sleeps: list[float] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    permit: Callable[[], None] | None = None

    def hold(self, seconds: float, why: str) -> None:
        if seconds > 0:
            self.holds.append((seconds, why))

    def report_undelivered(self, seconds: float, why: str) -> None:
        self.undelivered_for.append((seconds, why))

    def run(self, **named: bool) -> str:
        policy = RetryPolicy(self, sleep=self.sleeps.append, **self.policy)  # type: ignore[arg-type]
        return policy.run(self._attempt, permit=self.permit or self._permit, renew=self._renew, **named)

    def _attempt(self) -> str:
        self.story.append("try")
        ending = self.endings.pop(0) if len(self.endings) > 1 else self.endings[0]
        if isinstance(ending, Exception):
            raise ending
        return ending

    def _permit(self) -> None:
        self.story.append("permit")

    def _renew(self) -> None:
        self.story.append("renew")


PASSING = [NotDelivered(), RateLimited(), Forbidden()]
LASTING = [
    OutcomeUnknown(),
    ResyncRequired(),
    InvalidOtp(),
    Rejected(),
    NotFound(),
    LicenseExceeded(),
    ProtocolFault(),
    CredentialsRefused(),
    SlotTooFar(3),
    TooLateToSend(),
]


def name_of(value: object) -> str:
    return type(value).__name__


def test_a_result_comes_back_from_the_first_try() -> None:
    recorder = Recorder(["done"])
    assert recorder.run() == "done"
    assert (recorder.story, recorder.sleeps, recorder.holds) == (["try"], [], [])


@pytest.mark.parametrize("error", PASSING, ids=name_of)
def test_what_may_pass_is_tried_again(error: PingOneError) -> None:
    recorder = Recorder([error, error, "done"])
    assert recorder.run() == "done"
    assert recorder.story == ["try", "permit", "try", "permit", "try"]
    assert len(recorder.sleeps) == 2


@pytest.mark.parametrize("error", PASSING, ids=name_of)
def test_tries_are_bounded(error: PingOneError) -> None:
    recorder = Recorder([error])
    with pytest.raises(type(error)):
        recorder.run()
    assert recorder.story.count("try") == 4


@pytest.mark.parametrize("error", PASSING, ids=name_of)
def test_time_is_bounded(error: PingOneError) -> None:
    recorder = Recorder([error], policy={"seconds": 0})
    with pytest.raises(type(error)):
        recorder.run()
    assert recorder.story == ["try"]


@pytest.mark.parametrize("error", LASTING, ids=name_of)
def test_everything_else_is_raised_at_once(error: Exception) -> None:
    recorder = Recorder([error])
    with pytest.raises(type(error)) as caught:
        recorder.run()
    assert caught.value is error
    assert (recorder.story, recorder.holds) == (["try"], [])


def test_a_403_is_repeated_for_an_activation_and_an_answer_where_nothing_is_made() -> None:
    recorder = Recorder([Forbidden(), "done"])
    with pytest.raises(Forbidden):
        recorder.run(repeats_forbidden=False)
    assert (recorder.story, recorder.sleeps) == (["try"], [])
    # What passes by itself is repeated all the same.
    assert Recorder([RateLimited(), "done"]).run(repeats_forbidden=False) == "done"
    assert Recorder([Forbidden(), "done"]).run() == "done"


LOST = [OutcomeUnknown(), OutcomeUnknown(Answer(503)), OtherDevice(Answer(200, correlation_id="3f0c8a52"))]


@pytest.mark.parametrize("error", LOST, ids=name_of)
def test_a_lost_read_is_made_again_and_bounded_in_tries(error: PingOneError) -> None:
    assert Recorder([error, error, "done"]).run(repeats_lost=True) == "done"
    recorder = Recorder([error])
    with pytest.raises(type(error)):
        recorder.run(repeats_lost=True)
    assert (recorder.story.count("try"), len(recorder.sleeps)) == (4, 3)


def test_a_lost_read_is_bounded_in_time_beyond_a_time_out_of_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder([OutcomeUnknown()])
    # Each answer is waited for as long as a call may take.
    clock = SimpleNamespace(monotonic=lambda: 20.0 * recorder.story.count("try"))
    monkeypatch.setattr(tenacity, "time", clock)
    with pytest.raises(OutcomeUnknown):
        recorder.run(repeats_lost=True)
    assert recorder.story.count("try") == 3


def test_a_lost_read_waits_as_long_as_the_service_asks() -> None:
    recorder = Recorder([OutcomeUnknown(Answer(503), retry_after=7.0), "done"])
    assert recorder.run(repeats_lost=True) == "done"
    assert recorder.sleeps == [7.0]


def test_pauses_grow_and_are_jittered() -> None:
    pauses = []
    for _ in range(50):
        recorder = Recorder([Forbidden()])
        with pytest.raises(Forbidden):
            recorder.run()
        pauses.append(recorder.sleeps)
    first, _, third = zip(*pauses, strict=True)
    assert len(set(first)) > 10
    assert max(first) <= 0.5
    assert 0.5 < max(third) <= 2


def test_the_same_call_is_not_made_sooner_than_the_service_asks() -> None:
    recorder = Recorder([RateLimited(retry_after=3.0), "done"])
    assert recorder.run() == "done"
    assert recorder.sleeps == [3.0]


def test_a_long_retry_after_ends_the_call() -> None:
    recorder = Recorder([RateLimited(retry_after=60.0)])
    with pytest.raises(RateLimited):
        recorder.run()
    assert (recorder.story, recorder.sleeps) == (["try"], [])


def test_an_unknown_outcome_with_a_retry_after_holds_the_fleet() -> None:
    recorder = Recorder([OutcomeUnknown(Answer(503), retry_after=120.0)])
    with pytest.raises(OutcomeUnknown):
        recorder.run()
    assert recorder.holds == [(120.0, "PingOne answered 503 and asks for 120 s")]


def test_an_outage_is_told_after_the_last_try_only() -> None:
    recorder = Recorder([NotDelivered(), "done"])
    recorder.run()
    assert recorder.undelivered_for == []
    recorder = Recorder([NotDelivered()], policy={"outage_hold": 7.0})
    with pytest.raises(NotDelivered):
        recorder.run()
    assert recorder.undelivered_for == [(7.0, "PingOne cannot be reached")]
    assert recorder.holds == []


def test_an_outage_lasts_as_long_as_the_token_endpoint_says() -> None:
    recorder = Recorder([NotDelivered(Answer(429), retry_after=30.0)])
    with pytest.raises(NotDelivered):
        recorder.run()
    told = [(30.0, "the token endpoint answered 429 and asks for 30 s")]
    assert (recorder.story, recorder.undelivered_for) == (["try"], told)


def test_a_refused_access_token_is_renewed_and_the_same_call_made_again_at_once() -> None:
    recorder = Recorder([Unauthorized(), "done"])
    assert recorder.run() == "done"
    assert recorder.story == ["try", "renew", "permit", "try"]
    assert recorder.sleeps == []


def test_a_second_refusal_is_raised() -> None:
    recorder = Recorder([Unauthorized(), Unauthorized(), "never reached"])
    with pytest.raises(Unauthorized):
        recorder.run()
    assert recorder.story == ["try", "renew", "permit", "try"]


def test_the_access_token_is_renewed_once_in_all_tries() -> None:
    recorder = Recorder([Unauthorized(), Forbidden(), Unauthorized(), "never reached"])
    with pytest.raises(Unauthorized):
        recorder.run()
    assert recorder.story.count("renew") == 1


def test_a_permit_that_is_refused_stops_the_call_with_the_callers_own_error() -> None:
    class Stopped(Exception):
        pass

    def refuse() -> None:
        raise Stopped

    recorder = Recorder([NotDelivered(), "never reached"], permit=refuse)
    with pytest.raises(Stopped):
        recorder.run()
    assert recorder.story == ["try"]
