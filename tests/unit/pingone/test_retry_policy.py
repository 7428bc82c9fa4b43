"""How often and for how long a call is tried, and what holds the fleet."""

from contextlib import suppress
from itertools import chain, repeat
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import tenacity

from worker.pace.search import SlotTooFar
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
from worker.pingone.retry_policy import RetriedCall, RetryPolicy, explain_hold


class Recorder:
    """Stands for the pace, the caller and the service: each try ends as the next of `endings` says, the last of them
    for ever."""

    def __init__(self, *endings: Exception | str, **policy: Any) -> None:
        self.pace, self.sleeps, self.story = Mock(), list[float](), list[str]()
        self.endings = chain(endings, repeat(endings[-1]))
        self.policy = RetryPolicy(self.pace, sleep=self.sleeps.append, **policy)

    def run(self, **named: bool) -> str:
        attempt = Mock(side_effect=self.endings)
        tell = {word: lambda word=word: self.story.append(word) for word in ("permit", "renew")}
        return self.policy.run(RetriedCall(lambda: self.story.append("try") or attempt(), **tell, **named))

    def fail(self, kind: type[Exception], **named: bool) -> list[str]:
        """Fail with this very kind of error; what was done until then."""
        with pytest.raises(kind) as caught:
            self.run(**named)
        assert type(caught.value) is kind
        return self.story


# Errors, and what else the policy is told.
PASSING = [
    (NotDelivered(), {}),
    (RateLimited(), {}),
    (RateLimited(), {"repeats_forbidden": False}),
    (Forbidden(), {}),
    (OutcomeUnknown(), {"repeats_lost": True}),
    (OutcomeUnknown(Answer(503)), {"repeats_lost": True}),
    (OtherDevice(Answer(200, correlation_id="3f0c8a52")), {"repeats_lost": True}),
]
LASTING = [
    (OutcomeUnknown(), {}),
    (ResyncRequired(), {}),
    (InvalidOtp(), {}),
    (Rejected(), {}),
    (NotFound(), {}),
    (LicenseExceeded(), {}),
    (ProtocolFault(), {}),
    (CredentialsRefused(), {}),
    (SlotTooFar(3), {}),
    (TooLateToSend(), {}),
    (Forbidden(), {"repeats_forbidden": False}),
]


@pytest.mark.parametrize(("error", "named"), PASSING)
def test_what_may_pass_is_tried_again_and_bounded_in_tries(error: PingOneError, named: dict[str, bool]) -> None:
    recorder = Recorder(error, error, "done")
    assert recorder.run(**named) == "done"
    assert (recorder.story, len(recorder.sleeps)) == (["try", "permit", "try", "permit", "try"], 2)
    assert Recorder(error).fail(type(error), **named).count("try") == 4


@pytest.mark.parametrize(("error", "named"), LASTING)
def test_everything_else_is_raised_at_once(error: Exception, named: dict[str, bool]) -> None:
    recorder = Recorder(error)
    assert (recorder.fail(type(error), **named), recorder.sleeps) == (["try"], [])


@pytest.mark.parametrize(
    ("error", "policy"),
    [
        # No time is left, or not as much as the service asks for.
        *((error, {"seconds": 0}) for error in (NotDelivered(), RateLimited(), Forbidden())),
        (RateLimited(retry_after=60.0), {}),
    ],
)
def test_time_is_bounded(error: PingOneError, policy: dict[str, Any]) -> None:
    assert Recorder(error, **policy).fail(type(error)) == ["try"]


def test_a_lost_read_is_bounded_in_time_beyond_a_time_out_of_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(OutcomeUnknown())
    # Each answer is waited for as long as a call may take.
    clock = SimpleNamespace(monotonic=lambda: 20.0 * recorder.story.count("try"))
    monkeypatch.setattr(tenacity, "time", clock)
    assert recorder.fail(OutcomeUnknown, repeats_lost=True).count("try") == 3


@pytest.mark.parametrize("error", [RateLimited(retry_after=7.0), OutcomeUnknown(Answer(503), retry_after=7.0)])
def test_the_same_call_is_not_made_sooner_than_the_service_asks(error: PingOneError) -> None:
    recorder = Recorder(error, "done")
    assert (recorder.run(repeats_lost=True), recorder.sleeps) == ("done", [7.0])


def test_pauses_grow_and_are_jittered() -> None:
    recorders = [Recorder(Forbidden()) for _ in range(50)]
    for recorder in recorders:
        recorder.fail(Forbidden)
    first, _, third = zip(*(recorder.sleeps for recorder in recorders), strict=True)
    assert len(set(first)) > 10
    assert max(first) <= 0.5 < max(third) <= 2


@pytest.mark.parametrize(
    ("endings", "undelivered"),
    [
        ([NotDelivered(), "done"], []),
        ([NotDelivered()], [(7.0, "PingOne cannot be reached")]),
        (
            [NotDelivered(Answer(429), retry_after=30.0)],
            [(30.0, "the token endpoint answered 429 and asks for 30 s")],
        ),
    ],
)
def test_an_outage_is_told_after_the_last_try_only_and_lasts_as_long_as_the_token_endpoint_says(
    endings: list[Exception | str], undelivered: list[tuple[float, str]]
) -> None:
    recorder = Recorder(*endings, outage_hold=7.0)
    with suppress(NotDelivered):
        recorder.run()
    told = [(name, arguments) for name, arguments, _ in recorder.pace.mock_calls]
    assert told == [("report_undelivered", each) for each in undelivered]


def test_a_refused_access_token_is_renewed_at_once_and_once_in_all_tries() -> None:
    recorder = Recorder(Unauthorized(), Forbidden(), Unauthorized(), "never reached")
    assert recorder.fail(Unauthorized) == ["try", "renew", "permit", "try", "permit", "try"]
    assert len(recorder.sleeps) == 1


def test_a_hold_says_who_asked_for_it() -> None:
    assert explain_hold(OutcomeUnknown(Answer(503), 119.2)) == "PingOne answered 503 and asks for 120 s"
