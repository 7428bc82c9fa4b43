"""Notices on their way, on both databases: what is not taken goes again, what is taken goes once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from pydantic import SecretStr
from support.data.batches import make_batch
from support.data.notice_desk import NoticeDesk
from support.servers.raw_server import RawServer

from models.record_states import Status
from worker.notices.outbox import GIVEN_UP_AFTER, LEASE, Outbox, read_deliveries
from worker.notices.webhook import Reply, Webhook

FAILS = Reply(500, "HTTP 500")


@pytest.fixture
def finished(desk: NoticeDesk) -> NoticeDesk:
    """A batch of which people are to be told."""
    make_batch(desk.database, [{"status": Status.ACTIVE}])
    return desk


def describe(desk: NoticeDesk) -> str:
    with desk.database.reading() as connection:
        return str(read_deliveries(connection))


def is_well(desk: NoticeDesk) -> bool:
    with desk.database.reading() as connection:
        return read_deliveries(connection).is_well


def wait_for(desk: NoticeDesk) -> float:
    """Seconds until the only notice goes again."""
    (notice,) = desk.notices()
    return float((notice.next_try_at - desk.database.read_clock()).total_seconds())


def test_what_is_taken_goes_once(finished: NoticeDesk) -> None:
    assert finished.run() == ["finished"]
    finished.database.ahead += 2 * GIVEN_UP_AFTER
    assert finished.run() == []
    (notice,) = finished.notices()
    assert (notice.tries, notice.next_try_at, notice.last_error) == (1, None, None)
    assert notice.delivered_at is not None
    assert is_well(finished)
    assert describe(finished).startswith("1 notice delivered, the last one at ")


def test_what_is_not_taken_goes_again_later_with_the_same_id_and_content(finished: NoticeDesk) -> None:
    finished.webhook.answer = lambda: FAILS
    for delay in (5, 10, 20):
        assert finished.run() == ["finished"]
        assert wait_for(finished) == pytest.approx(delay, abs=3)
        assert finished.run() == []
        assert not is_well(finished)
        assert "1 to be sent (last error: HTTP 500)" in describe(finished)
        finished.database.ahead += delay + 1

    finished.webhook.answer = lambda: Reply(200)
    assert finished.run() == ["finished"]

    assert len(set(finished.webhook.ids)) == 1
    assert all(facts == finished.webhook.posted[0][1] for _, facts in finished.webhook.posted)
    assert is_well(finished)


def test_retry_after_is_obeyed(finished: NoticeDesk) -> None:
    finished.webhook.answer = lambda: Reply(429, "HTTP 429", retry_after=1000.0)
    finished.run()
    finished.database.ahead += 990
    assert finished.run() == []
    finished.database.ahead += 11
    assert finished.run() == ["finished"]


def test_a_webhook_that_is_gone_is_asked_more_slowly_and_still_told(finished: NoticeDesk) -> None:
    finished.webhook.answer = lambda: Reply(410, "HTTP 410")
    finished.run()
    assert wait_for(finished) == pytest.approx(300, abs=3)
    finished.database.ahead += 301
    finished.webhook.answer = lambda: Reply(200)
    assert finished.run() == ["finished"]
    assert is_well(finished)


def test_what_is_not_taken_for_a_day_is_given_up_and_doctor_tells(finished: NoticeDesk) -> None:
    finished.webhook.answer = lambda: FAILS
    finished.run()
    finished.database.ahead += GIVEN_UP_AFTER - 60
    assert finished.run() == ["finished"]
    finished.database.ahead += 300
    assert finished.run() == ["finished"]

    finished.database.ahead += 10 * GIVEN_UP_AFTER
    assert finished.run() == []
    (notice,) = finished.notices()
    assert (notice.next_try_at, notice.delivered_at, notice.last_error) == (None, None, "HTTP 500")
    assert not is_well(finished)
    assert "1 given up after 24 hours" in describe(finished)


def test_a_given_up_notice_is_no_fault_any_more_once_a_later_one_was_delivered(finished: NoticeDesk) -> None:
    finished.webhook.answer = lambda: FAILS
    finished.run()
    finished.database.ahead += GIVEN_UP_AFTER
    finished.run()
    assert not is_well(finished)

    finished.webhook.answer = lambda: Reply(200)
    make_batch(finished.database, [{"status": Status.ACTIVE}], name="august")
    assert finished.run() == ["finished"]
    assert is_well(finished)
    assert "1 given up" in describe(finished)


class Killed(BaseException):
    """Ends a worker at once, as SIGKILL does: nothing of it is done any more."""


def test_what_a_worker_posted_that_was_killed_before_its_commit_goes_again_with_its_id(
    finished: NoticeDesk,
) -> None:
    def die() -> Reply:
        raise Killed

    finished.webhook.answer = die
    with pytest.raises(Killed):
        finished.run()
    finished.webhook.answer = lambda: Reply(200)
    finished.database.ahead += LEASE - 5
    assert finished.run() == []
    finished.database.ahead += 6
    assert finished.run() == ["finished"]
    assert len(finished.webhook.ids) == 2
    assert len(set(finished.webhook.ids)) == 1


def test_a_worker_killed_between_look_and_claim_loses_nothing(finished: NoticeDesk) -> None:
    def die(_: Outbox) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Outbox, "claim", die)
        with pytest.raises(Killed):
            finished.run()
    assert finished.run() == ["finished"]


def test_two_workers_at_once_make_one_post(finished: NoticeDesk) -> None:
    """The second runs while the first waits for its answer."""
    others: list[list[str]] = []

    def answer() -> Reply:
        thread = threading.Thread(target=lambda: others.append(finished.run()))
        thread.start()
        thread.join(30)
        return Reply(200)

    finished.webhook.answer = answer
    finished.make_notifier().run()

    assert others == [[]]
    assert finished.webhook.events == ["finished"]


def test_many_workers_that_begin_at_once_make_one_post(finished: NoticeDesk) -> None:
    barrier = threading.Barrier(4)

    def run(_: int) -> None:
        notifier = finished.make_notifier()
        barrier.wait(30)
        notifier.run()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(4)))
    assert finished.webhook.events == ["finished"]


def test_a_notice_that_another_worker_is_about_to_claim_is_left_alone(finished: NoticeDesk) -> None:
    if finished.database.is_sqlite:
        pytest.skip("SQLite has one writer at a time anyway")
    finished.make_recorder().record()
    outbox = Outbox(finished.database)
    with finished.database.writing() as connection:
        assert connection.execute(outbox._due.with_for_update()).one_or_none() is not None
        assert outbox.claim() is None
    assert outbox.claim() is not None


def test_no_transaction_is_open_while_the_webhook_answers(finished: NoticeDesk) -> None:
    written: list[int] = []

    def answer() -> Reply:
        # On SQLite this would wait for the only writer.
        make_batch(finished.database, 1, name="august")
        written.append(1)
        return Reply(200)

    finished.webhook.answer = answer
    finished.run()
    assert written == [1]


def test_two_claims_at_once_take_two_notices(desk: NoticeDesk) -> None:
    for name in ("july", "august"):
        make_batch(desk.database, [{"status": Status.ACTIVE}], name=name)
    desk.webhook.answer = lambda: FAILS
    desk.run()
    desk.database.ahead += 60
    outbox = Outbox(desk.database)
    claims = [outbox.claim(), outbox.claim(), outbox.claim()]
    assert len({claimed.id for claimed in claims if claimed}) == 2
    assert claims[2] is None


def test_a_late_worker_does_not_undo_what_another_has_written(finished: NoticeDesk) -> None:
    finished.make_recorder().record()
    outbox = Outbox(finished.database)
    late = outbox.claim()
    finished.database.ahead += LEASE + 1
    second = outbox.claim()
    assert late is not None
    assert second is not None
    outbox.settle_delivered(second)
    outbox.settle_failed(late, "HTTP 500", 5.0)
    (notice,) = finished.notices()
    assert (notice.next_try_at, notice.last_error) == (None, None)


def test_after_a_notice_that_is_not_taken_no_other_goes_in_the_same_run(desk: NoticeDesk) -> None:
    for name in ("july", "august", "september"):
        make_batch(desk.database, [{"status": Status.ACTIVE}], name=name)
    desk.webhook.answer = lambda: FAILS
    assert len(desk.run()) == 1
    desk.webhook.answer = lambda: Reply(200)
    assert len(desk.run()) == 2


def test_what_went_wrong_is_kept_in_a_short_harmless_line(finished: NoticeDesk) -> None:
    finished.webhook.answer = lambda: Reply(None, "\x1b[31m" + "x" * 1000 + "\n")
    finished.run()
    (notice,) = finished.notices()
    assert notice.last_error.startswith("\\u001b[31mxxx")
    assert len(notice.last_error) == 200


def test_a_server_that_fails_in_every_way_and_then_takes_it_is_told_once(finished: NoticeDesk) -> None:
    """A real server, through the real transport."""
    replies = iter([b"HTTP/1.1 500 Oops\r\n\r\n", b"", b"HTTP/1.1 429 Slow\r\nRetry-After: 30\r\n\r\n", b"nonsense"])

    def answer() -> Iterator[bytes]:
        yield next(replies, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with RawServer(answer) as server:
        webhook = Webhook(SecretStr(server.url), SecretStr("secret"))
        for _ in range(10):
            finished.make_notifier(webhook).run()
            finished.database.ahead += 100

    bodies = [request.partition(b"\r\n\r\n")[2] for request in server.requests]
    assert len(bodies) == 5
    assert len(set(bodies)) == 1
    (notice,) = finished.notices()
    assert (notice.tries, notice.last_error) == (5, None)
    assert notice.delivered_at - notice.created_at >= timedelta(seconds=100)
