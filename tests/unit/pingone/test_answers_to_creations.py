"""Whatever a server answers to an import, a pairing or an unpairing becomes a result or an error, and never a crash."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from worker.pingone.devices import PairedDevice, parse_pairing, parse_unpaired
from worker.pingone.errors import BadToken, PingOneError
from worker.pingone.inventory import ImportJob, parse_job, parse_started_job
from worker.pingone.wire import open_envelope

WORDS = [
    *("id", "code", "details", "target", "innerError", "maximumAllowed", "status", "result", "created", "duplicates"),
    *(
        "serialNumber",
        "maskedSecret",
        "revoked",
        "reason",
        "user",
        "type",
        "oathToken",
        "message",
        "_links",
        "NOT_FOUND",
    ),
    *("DONE", "FAILED", "OATH_TOKEN", "ACTIVE", "INVALID_DATA", "LIMIT_EXCEEDED", "UNIQUENESS_VIOLATION", "J1", "u1"),
    *(
        "LICENSE_EXCEEDED",
        "SIZE_LIMIT_EXCEEDED",
        "ACCOUNT_NOT_USABLE",
        "tokens[7].secret",
        "tokenIds[999999]",
        "tokens",
    ),
    *("", ".", "..", "../users", "\0", "\ud800", "²"),
]
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(WORDS)
JSON = st.recursive(
    LEAVES,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.sampled_from(WORDS), children, max_size=6),
    max_leaves=20,
)
OBJECTS = st.dictionaries(st.sampled_from(WORDS), JSON, max_size=6)
BODIES = (OBJECTS | JSON).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60)
STATUSES = st.sampled_from([200, 201, 202, 204, 302, 400, 403, 404, 409, 413, 422, 500]) | st.integers(-1, 1000)
HEADERS = st.dictionaries(
    st.sampled_from(["Location", "Correlation-Id", "Retry-After"]),
    st.sampled_from(["/oathJobs/J1", "/oathJobs/..", "http://[", "/oathJobs/%2e", ""]) | st.text(max_size=20),
    max_size=3,
)
PARSERS = [
    partial(parse_started_job, count=10),
    partial(parse_job, job_id="J1"),
    partial(parse_pairing, serial_number="2308", user_id="u1"),
    parse_unpaired,
]
PLAIN_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


def check(error: PingOneError) -> None:
    """Check that the error is short enough for a log, and names no token that was not sent."""
    assert len(f"{error} {error!r}".encode()) < 4000
    if isinstance(error, BadToken):
        assert error.index is None or 0 <= error.index < 10


@pytest.mark.parametrize("parse", PARSERS, ids=["started_job", "job", "pairing", "unpaired"])
@settings(max_examples=50)
@given(STATUSES, HEADERS, BODIES)
@example(200, {}, b"[" * 100_000)
@example(201, {"Location": "/oathJobs/\u0661"}, b'{"id": ""}')
@example(201, {}, b'{"id": "a\\n"}')
def test_any_answer_is_a_result_or_a_pingone_error(
    parse: Callable[..., object], status: int, headers: Mapping[str, str], body: bytes
) -> None:
    try:
        result = parse(open_envelope(status, headers, body))
    except PingOneError as error:
        check(error)
        return
    if isinstance(result, bool):
        assert result == (200 <= status < 300)
        return
    assert 200 <= status < 300
    named = result.id if isinstance(result, ImportJob | PairedDevice) else result
    assert isinstance(named, str)
    assert PLAIN_ID.fullmatch(named)
