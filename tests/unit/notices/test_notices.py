"""What is to be told of a batch, and in which words; and a notice on its way to a webhook, against servers that answer
in every way."""

import hmac
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest
from pydantic import SecretStr
from support.data.facts import batch
from support.servers.raw_server import RawServer

from models.batch import BatchState
from models.reason import PASSING, PAUSE_CURES, PauseReason
from worker.notices import NEWS_FOR, Event, NotTaken, Webhook, describe, find_event
from worker.reports.facts import BatchStatus, Outage
from worker.reports.stall import STILL_AFTER, Fleet
from worker.rules.hours import format_time

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
RUNS = replace(batch(pending=1), read_at=NOW)
FINISHED = replace(batch("finished", active=1), read_at=NOW, finished_at=NOW - SECOND)
EMPTY = replace(FINISHED, finished_at=None, created_at=NOW - SECOND)
STALLED = replace(RUNS, still_for=STILL_AFTER)
PROBING = replace(RUNS, outage=Outage(None, None))


def paused(reason: str) -> BatchStatus:
    return replace(RUNS, state=BatchState.PAUSED, reason=reason)


class Told(NamedTuple):
    """What a batch keeps of its last notice."""

    notice: str | None = None
    notice_at: datetime | None = None
    running_since: datetime = NOW


def told(event: Event, reason: str | None = None, at: datetime = NOW) -> Told:
    return Told(f"{event} {reason}" if reason else event, at)


OUT = told(Event.PAUSED_FOR_NOW, "outage")
ENDED = told(Event.FINISHED, at=NOW - 10 * SECOND)


@pytest.mark.parametrize(
    ("status", "before", "runs_for", "event"),
    [
        (RUNS, Told(), HOUR, None),
        (FINISHED, Told(), HOUR, Event.FINISHED),
        (FINISHED, told(Event.FINISHED), HOUR, None),
        (FINISHED, told(Event.PAUSED, PauseReason.CANARY), HOUR, Event.FINISHED),
        # A batch without a record ended when it was loaded.
        (EMPTY, Told(), HOUR, Event.FINISHED),
        (replace(EMPTY, created_at=NOW - NEWS_FOR), Told(), HOUR, None),
        # What was finished long before anybody could be told is no news, and otherwise however late.
        (replace(FINISHED, finished_at=NOW - NEWS_FOR - SECOND), Told(), HOUR, None),
        (replace(FINISHED, finished_at=NOW - NEWS_FOR + SECOND), Told(), HOUR, Event.FINISHED),
        (
            replace(FINISHED, finished_at=NOW - 3 * NEWS_FOR),
            told(Event.PAUSED, "credentials", NOW - 4 * NEWS_FOR),
            HOUR,
            Event.FINISHED,
        ),
        # Replayed, and finished again before anybody looked; not so if it was only resumed or undone.
        (FINISHED, ENDED, 5 * SECOND, Event.FINISHED),
        (replace(FINISHED, finished_at=NOW - HOUR), ENDED, 0 * SECOND, None),
        (replace(FINISHED, finished_at=NOW), ENDED, HOUR, None),
        (paused(PauseReason.CREDENTIALS), told(Event.PAUSED, "permissions"), HOUR, Event.PAUSED),
        (paused(PauseReason.CREDENTIALS), OUT, HOUR, Event.PAUSED),
        (RUNS, told(Event.PAUSED, "person"), HOUR, Event.RESUMED),
        (RUNS, told(Event.FINISHED), HOUR, Event.RESUMED),
        (RUNS, told(Event.RESUMED), HOUR, None),
        # It only tries whether the outage is over.
        (PROBING, OUT, HOUR, None),
        (paused(PauseReason.OUTAGE), OUT, HOUR, None),
        (RUNS, OUT, HOUR, Event.RESUMED),
        (STALLED, Told(), HOUR, Event.STALLED),
        (STALLED, told(Event.STALLED), HOUR, None),
        (RUNS, told(Event.STALLED), HOUR, Event.RESUMED),
        (replace(FINISHED, state=BatchState.CANCELLED), Told(), HOUR, None),
        (replace(FINISHED, state=BatchState.CANCELLED), told(Event.PAUSED, "person"), HOUR, None),
    ],
)
def test_what_people_do_not_know_yet_is_told(
    status: BatchStatus, before: Told, runs_for: timedelta, event: Event | None
) -> None:
    assert find_event(status, before._replace(running_since=NOW - runs_for)) == event


def test_a_pause_that_passes_by_itself_has_another_name_than_one_for_a_person_and_each_has_a_cure() -> None:
    for reason in PauseReason:
        event = Event.PAUSED_FOR_NOW if reason in PASSING else Event.PAUSED
        assert find_event(paused(reason), Told()) == event
        assert find_event(paused(reason), told(event, reason)) is None
        assert describe(event, paused(reason))["cure"] == PAUSE_CURES[reason]


def test_a_pause_with_another_cause_than_usual_is_not_told_the_usual_cure() -> None:
    reason = PauseReason.PERMISSIONS
    usual = replace(paused(reason), detail=f"25 records ended as forbidden. {PAUSE_CURES[reason]}")
    other = replace(
        paused(reason), detail="PingOne found none of the people looked up by name so far: ada@example.com, …"
    )
    cures = [describe(Event.PAUSED, status)["cure"] for status in (usual, other)]
    assert cures == [PAUSE_CURES[reason], "Its status shows the cause and the cure."]


JULY = replace(batch(active=2959, dead_letter=41), name="july")
ACTIVE = "2,959 of 3,000 rows are active; 41 failed."
# What a machine answered may name a user.
CUT_OFF = replace(JULY, still_for=STILL_AFTER, fleet=Fleet(broker="user a@b.example said no"))
CHECK = "Check OATHBULK_REDIS_URL and the server with: oathbulk doctor"
CLOSED = replace(JULY, state=BatchState.PAUSED, reason=PauseReason.WINDOW, resumes_at=NOW)


@pytest.mark.parametrize(
    ("event", "status", "text"),
    [
        (Event.FINISHED, JULY, f"july is finished: {ACTIVE} Next: oathbulk status july"),
        (Event.FINISHED, replace(batch(active=2), name="july"), "july is finished: 2 of 2 rows are active."),
        (Event.RESUMED, JULY, f"july continues: {ACTIVE} Next: oathbulk status july"),
        (Event.STALLED, CUT_OFF, f"july is stalled (broker): {ACTIVE} {CHECK} Next: oathbulk status july"),
        (
            Event.PAUSED_FOR_NOW,
            CLOSED,
            f"july is paused temporarily until {format_time(NOW)} (window): {ACTIVE} {PAUSE_CURES[PauseReason.WINDOW]} "
            "Next: oathbulk status july",
        ),
        # A name is no command for a chat tool or a shell.
        (
            Event.FINISHED,
            replace(JULY, name="<!channel> & co"),
            f"‹!channel› + co is finished: {ACTIVE} Next: oathbulk status '‹!channel› + co'",
        ),
    ],
)
def test_a_notice_is_one_line_in_words_of_ours(event: Event, status: BatchStatus, text: str) -> None:
    facts = describe(event, status)
    assert (facts["text"], facts["batch"]) == (text, status.name)
    assert "example" not in json.dumps(facts)


SECRET = "a secret that nobody guesses"
FACTS = {"text": "july is finished", "event": "finished", "batch": "jüly"}


def answer(status: str, *headers: str) -> Iterator[bytes]:
    yield "\r\n".join([f"HTTP/1.1 {status}", "Content-Length: 0", *headers, "", ""]).encode()


def answer_without_end(status: str) -> Iterator[bytes]:
    yield f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    while True:
        yield b"2000\r\n" + b"x" * 0x2000 + b"\r\n"


@pytest.fixture
def server() -> Iterator[RawServer]:
    with RawServer(lambda: answer("204 No Content")) as server:
        yield server


def make_webhook(url: str, secret: str | None = SECRET, deadline: float = 10.0) -> Webhook:
    return Webhook(SecretStr(url), SecretStr(secret) if secret else None, deadline=deadline)


def test_the_signature_is_what_a_receiver_computes(server: RawServer) -> None:
    webhook = make_webhook(f"{server.url}/hook?to=people")
    webhook.post(FACTS)
    make_webhook(server.url, None).post(FACTS)
    (head, _, body), (unsigned, _, _) = (request.partition(b"\r\n\r\n") for request in server.requests)
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert (first, json.loads(body)) == ("POST /hook?to=people HTTP/1.1", FACTS)
    assert headers["content-type"] == "application/json"
    assert headers["x-oathbulk-signature"] == f"sha256={hmac.digest(SECRET.encode(), body, 'sha256').hex()}"
    assert b"signature" not in unsigned.lower()
    assert SECRET not in f"{head!r}{vars(webhook)}"


@pytest.mark.parametrize(
    ("give", "why"),
    [
        (lambda: answer("500 Oops"), "HTTP 500"),
        # It is not followed.
        (lambda: answer("302 Found", "Location: /elsewhere"), "HTTP 302"),
        (lambda: answer("429 Too Many Requests", "Retry-After: 90"), "HTTP 429"),
        (lambda: [b"nonsense"], "OutcomeUnknown"),
        (lambda: answer_without_end("200 Said"), "OutcomeUnknown"),
    ],
)
def test_an_answer_that_is_no_success_is_no_delivery(
    server: RawServer, give: Callable[[], Iterator[bytes]], why: str
) -> None:
    server.answer = give
    with pytest.raises(NotTaken, match=f"^{why}$"):
        make_webhook(server.url).post(FACTS)
    assert len(server.requests) == 1


def test_a_server_that_hangs_or_is_not_there_is_given_up_without_its_url(server: RawServer) -> None:
    released = threading.Event()

    def hang() -> Iterator[bytes]:
        yield b"HTTP/1.1 200"
        released.wait(30)

    server.answer = hang
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        nobody = f"http://127.0.0.1:{listener.getsockname()[1]}"
    for url, why in ((server.url, "OutcomeUnknown"), (nobody, "NotDelivered")):
        with pytest.raises(NotTaken, match=f"^{why}$"):
            make_webhook(f"{url}/secret-path", deadline=0.5).post(FACTS)
    released.set()
