from __future__ import annotations

import pytest

from worker.pingone.client import explain_hold
from worker.pingone.errors import Answer, NotDelivered, OutcomeUnknown, RateLimited


@pytest.mark.parametrize(
    ("failure", "why"),
    [
        (RateLimited(Answer(429), 30.0), "PingOne answered 429 and asks for 30 s"),
        (RateLimited(Answer(429)), "PingOne answered 429 and does not say for how long"),
        (OutcomeUnknown(Answer(503), 119.2), "PingOne answered 503 and asks for 120 s"),
        (NotDelivered(Answer(503), 86400.0), "the token endpoint answered 503 and asks for 86400 s"),
        (NotDelivered(Answer(message="connection refused")), "PingOne cannot be reached"),
        (NotDelivered(), "PingOne cannot be reached"),
    ],
)
def test_a_hold_says_who_asked_for_it(failure: NotDelivered | OutcomeUnknown | RateLimited, why: str) -> None:
    assert explain_hold(failure) == why
