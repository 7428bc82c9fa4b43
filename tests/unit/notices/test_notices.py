"""What is to be told of a batch, in which words and after which delay; and a notice on its way to a webhook, against
servers that answer in every way."""

import hmac
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr
from support.data.facts import batch
from support.servers.raw_server import RawServer

from models.batch import BatchState
from models.notice import Event
from models.reason import PASSING, PAUSE_CURES, PauseReason
from worker.notices import NEWS_FOR, LastTold, Webhook, choose_delay, describe, find_event
from worker.reports.facts import BatchStatus, Outage
from worker.reports.stall import STILL_AFTER, Cause, Stall

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
RUNS = replace(batch(pending=1), read_at=NOW)
FINISHED = replace(batch("finished", active=1), read_at=NOW, finished_at=NOW - SECOND)
EMPTY = replace(FINISHED, finished_at=None, created_at=NOW - SECOND)
STALLED = replace(RUNS, still_for=STILL_AFTER)
PROBING = replace(RUNS, outage=Outage(None, None))


def paused(reason: str) -> BatchStatus:
    return replace(RUNS, state=BatchState.PAUSED, reason=reason)


def told(event: Event, reason: str | None = None, at: datetime = NOW) -> LastTold:
    return LastTold(event, reason, at)


OUT = told(Event.PAUSED_FOR_NOW, "outage")
ENDED = told(Event.FINISHED, at=NOW - 10 * SECOND)


@pytest.mark.parametrize(
    ("status", "before", "runs_for", "event"),
    [
        (RUNS, None, HOUR, None),
        (FINISHED, None, HOUR, Event.FINISHED),
        (FINISHED, told(Event.FINISHED), HOUR, None),
        (FINISHED, told(Event.PAUSED, PauseReason.CANARY), HOUR, Event.FINISHED),
        # A batch without a record ended when it was loaded.
        (EMPTY, None, HOUR, Event.FINISHED),
        (replace(EMPTY, created_at=NOW - NEWS_FOR), None, HOUR, None),
        # What was finished long before anybody could be told is no news, and otherwise however late.
        (replace(FINISHED, finished_at=NOW - NEWS_FOR - SECOND), None, HOUR, None),
        (replace(FINISHED, finished_at=NOW - NEWS_FOR + SECOND), None, HOUR, Event.FINISHED),
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
        (RUNS, told(Event.PAUSED), HOUR, Event.RESUMED),
        (RUNS, told(Event.FINISHED), HOUR, Event.RESUMED),
        (RUNS, told(Event.RESUMED), HOUR, None),
        # It only tries whether the outage is over.
        (PROBING, OUT, HOUR, None),
        (paused(PauseReason.OUTAGE), OUT, HOUR, None),
        (RUNS, OUT, HOUR, Event.RESUMED),
        (STALLED, None, HOUR, Event.STALLED),
        (STALLED, told(Event.STALLED, "tick"), HOUR, None),
        (RUNS, told(Event.STALLED, "tick"), HOUR, Event.RESUMED),
        (replace(FINISHED, state=BatchState.CANCELLED), None, HOUR, None),
        (replace(FINISHED, state=BatchState.CANCELLED), told(Event.PAUSED), HOUR, None),
    ],
)
def test_what_people_do_not_know_yet_is_told(
    status: BatchStatus, before: LastTold | None, runs_for: timedelta, event: Event | None
) -> None:
    assert find_event(status, NOW - runs_for, before) == event


def test_a_pause_that_passes_by_itself_has_another_name_than_one_for_a_person_and_each_has_a_cure() -> None:
    for reason in PauseReason:
        event = Event.PAUSED_FOR_NOW if reason in PASSING else Event.PAUSED
        assert find_event(paused(reason), NOW, None) == event
        assert find_event(paused(reason), NOW, told(event, reason)) is None
        assert describe(event, paused(reason), NOW)["cure"] == PAUSE_CURES[reason]


def test_a_pause_with_another_cause_than_usual_is_not_told_the_usual_cure() -> None:
    reason = PauseReason.PERMISSIONS
    usual = replace(paused(reason), detail=f"25 records ended as forbidden. {PAUSE_CURES[reason]}")
    other = replace(paused(reason), detail="None of the first people was found by name: ada@example.com, …")
    cures = [describe(Event.PAUSED, status, NOW)["cure"] for status in (usual, other)]
    assert cures == [PAUSE_CURES[reason], "Its cause and cure stand in its status."]


JULY = replace(batch(active=2959, dead_letter=41), name="july")
LEFT = "2,959 of 3,000 tokens are active, 41 are not."
TICK = Stall(Cause.TICK, "No tick ever came.", "Start beat, once: celery -A worker beat")


@pytest.mark.parametrize(
    ("event", "status", "stall", "text"),
    [
        (Event.FINISHED, JULY, None, f"july is finished: {LEFT} Next: oathbulk status july"),
        (Event.RESUMED, JULY, None, f"july goes on: {LEFT}"),
        (Event.STALLED, JULY, TICK, f"july does not move: {TICK} Next: oathbulk status july"),
        # What a machine answered may name a user, and is not passed on.
        (
            Event.STALLED,
            JULY,
            Stall(Cause.SICK, "user a@b.example said no", "Mend BATCH"),
            "july does not move: No worker is well. Mend july Next: oathbulk status july",
        ),
        (
            Event.STALLED,
            JULY,
            Stall(Cause.BROKER, "user a@b.example said no", "Mend it."),
            "july does not move: The broker cannot be used. Mend it. Next: oathbulk status july",
        ),
        # A name is no command for a chat tool or a shell.
        (
            Event.FINISHED,
            replace(JULY, name="<!channel> & co"),
            None,
            f"‹!channel› + co is finished: {LEFT} Next: oathbulk status '‹!channel› + co'",
        ),
    ],
)
def test_a_notice_is_one_line_in_words_of_ours(
    event: Event, status: BatchStatus, stall: Stall | None, text: str
) -> None:
    facts = describe(event, status, NOW, stall)
    assert (facts["text"], facts["batch"]) == (text, status.name)
    assert (facts["reason"], "example" in json.dumps(facts)) == (stall and stall.cause, False)


@pytest.mark.parametrize(
    ("status", "retry_after", "delays"),
    [
        # It passes by itself.
        (500, None, [5, 10, 20, 40, 80, 160, 300, 300]),
        (None, None, [5, 10, 20]),
        (100, None, [5]),
        (408, None, [5]),
        # A refusal does not.
        (301, None, [300, 600, 1200, 2400, 3600, 3600]),
        (410, None, [300, 600]),
        # What the webhook asks for never shortens a delay.
        (429, 7200.0, [7200]),
        (503, 7.0, [7, 10]),
        (410, 1.0, [300]),
    ],
)
def test_a_notice_waits_longer_and_longer_for_its_next_try(
    status: int | None, retry_after: float | None, delays: list[float]
) -> None:
    tries = range(1, len(delays) + 1)
    assert [choose_delay(number, status, retry_after) for number in tries] == delays
    assert choose_delay(10**4, status, retry_after) >= delays[-1]


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
    return Webhook(SecretStr(url), SecretStr(secret) if secret else None, deadline=deadline, clock=lambda: 1790.9)


def test_the_signature_is_what_a_receiver_computes(server: RawServer) -> None:
    webhook = make_webhook(f"{server.url}/hook?to=people")
    assert webhook.post(7, FACTS).error is None
    assert make_webhook(server.url, None).post(8, FACTS).error is None
    (head, _, body), (unsigned, _, _) = (request.partition(b"\r\n\r\n") for request in server.requests)
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert (first, json.loads(body)) == ("POST /hook?to=people HTTP/1.1", FACTS | {"id": 7})
    assert (headers["content-type"], headers["x-oathbulk-notice"]) == ("application/json", "7")
    signature = hmac.digest(SECRET.encode(), b"1790." + body, "sha256").hex()
    assert headers["x-oathbulk-signature"] == f"t=1790,v1={signature}"
    assert b"signature" not in unsigned.lower()
    assert SECRET not in f"{head!r}{vars(webhook)}"


@pytest.mark.parametrize(
    ("give", "status", "error", "retry_after"),
    [
        (lambda: answer("500 Oops"), 500, "HTTP 500", None),
        # It is not followed.
        (lambda: answer("302 Found", "Location: /elsewhere"), 302, "HTTP 302", None),
        (lambda: answer("429 Too Many Requests", "Retry-After: 90"), 429, "HTTP 429", 90),
        (lambda: answer("503 Busy", "Retry-After: whenever you like"), 503, "HTTP 503", None),
        (lambda: [b"nonsense"], None, "OutcomeUnknown (RemoteProtocolError)", None),
    ],
)
def test_a_status_that_is_no_success_is_no_delivery(
    server: RawServer, give: Callable[[], Iterator[bytes]], status: int | None, error: str, retry_after: float | None
) -> None:
    server.answer = give
    reply = make_webhook(server.url).post(7, FACTS)
    assert (reply.status, reply.error, reply.retry_after) == (status, error, retry_after)
    assert len(server.requests) == 1


def test_an_answer_without_end_is_not_read_and_its_status_counts(server: RawServer) -> None:
    for status, is_taken in ((200, True), (500, False)):
        server.answer = lambda status=status: answer_without_end(f"{status} Said")  # type: ignore[misc]
        reply = make_webhook(server.url).post(7, FACTS)
        assert (reply.status, reply.error is None) == (status, is_taken)


def test_a_server_that_hangs_or_is_not_there_is_given_up_without_its_url(server: RawServer) -> None:
    released = threading.Event()

    def hang() -> Iterator[bytes]:
        yield b"HTTP/1.1 200"
        released.wait(30)

    server.answer = hang
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        nobody = f"http://127.0.0.1:{listener.getsockname()[1]}"
    replies = [make_webhook(f"{url}/secret-path", deadline=0.5).post(7, FACTS) for url in (server.url, nobody)]
    released.set()
    assert [(reply.status, reply.error is None, "secret-path" in str(reply.error)) for reply in replies] == [
        (None, False, False)
    ] * 2
