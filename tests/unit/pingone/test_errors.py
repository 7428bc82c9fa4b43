from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime

import pytest

from worker.pace.errors import SlotTooFar
from worker.pingone import errors
from worker.pingone.errors import (
    Answer,
    BadToken,
    InvalidOtp,
    NotDelivered,
    OtherDevice,
    OutcomeUnknown,
    PingOneError,
    RateLimited,
    TooManyDevices,
)

ANSWER = Answer(429, "REQUEST_LIMITED", "LIMIT_EXCEEDED", "b8ee5b23", "3f0c8a52", "Too many requests")


def drawn_tree() -> dict[str, str]:
    """Each error in the tree at the top of errors.py, with its parent."""
    tree, path = {}, [(-1, "")]
    for line in (errors.__doc__ or "").splitlines():
        drawing, _, rest = line.partition("── ")
        if rest:
            depth, name = len(drawing), rest.split()[0]
        elif line.startswith("PingOneError"):
            depth, name = 0, line
        else:
            continue
        path = [(d, n) for d, n in path if d < depth]
        tree[name] = path[-1][1]
        path.append((depth, name))
    return tree


def test_the_drawn_tree_is_the_tree() -> None:
    named = vars(errors).values()
    classes = {each for each in named if isinstance(each, type) and issubclass(each, Exception)}
    assert len(classes) > 10
    assert drawn_tree() == {
        each.__name__: each.__base__.__name__ if each is not PingOneError else ""  # type: ignore[union-attr]
        for each in classes
    }


def test_an_error_tells_all_that_the_answer_told() -> None:
    text = str(InvalidOtp(ANSWER))
    assert text == (
        "HTTP 429, REQUEST_LIMITED, LIMIT_EXCEEDED, Too many requests, error id b8ee5b23, correlation id 3f0c8a52"
    )


@pytest.mark.parametrize(
    "error",
    [
        PingOneError(),
        InvalidOtp(ANSWER),
        NotDelivered(ANSWER, 3.0),
        OutcomeUnknown(ANSWER, retry_after=4.0),
        OtherDevice(ANSWER),
        RateLimited(ANSWER, retry_after=5.0, quota_reset_at=datetime(2026, 3, 3, tzinfo=UTC)),
        BadToken(ANSWER, 7, "secret"),
        TooManyDevices(ANSWER, 5),
        SlotTooFar(2.5),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_copying_and_pickling_whole(error: PingOneError | SlotTooFar) -> None:
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is type(error)
        assert vars(twin) == vars(error)
        assert str(twin) == str(error)
