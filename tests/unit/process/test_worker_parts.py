"""What a process' threads share, put together; how an attempt shows in Flower; a task that fails while the database is
away; and the processor on which all threads run."""

import errno
import logging
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs
from support.processes.waiting import wait_until

from worker.config.environment import Environment
from worker.config.settings import Settings, Tuning
from worker.pingone.auth import AccessTokens
from worker.process import affinity
from worker.process.affinity import move_to_this_processor
from worker.process.parts import Parts, part
from worker.process.worker_parts import Activations, AwayLines
from worker.records.activation import NOTHING_TO_DO, DeadLettered


@pytest.fixture
def parts(valkey_url: str) -> Iterator[Parts]:
    def load(name: str) -> Environment:
        license_ = "shared" if name in ("first", "second") else name
        return Environment(name=name, environment_id=name, client_id="id", client_secret="secret", license=license_)

    parts = Parts(
        Settings(redis_url=valkey_url, database_url="sqlite:////nowhere/oathbulk.db", tuning=Tuning(longest_hold=45)),
        load,  # type: ignore[arg-type]
    )
    parts.installation_id = "made-up"  # type: ignore[method-assign]
    # Where the limit was found before is asked of the database, which these tests have none of.
    parts.pace_memory.recall_search = lambda *_: None  # type: ignore[method-assign]
    yield parts
    parts.redis.close()


def test_the_longest_hold_is_a_setting_and_who_hears_that_one_was_lifted_asks_that_license_s_token_endpoints_at_once(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[AccessTokens] = []
    monkeypatch.setattr(AccessTokens, "end_pause", lambda tokens: asked.append(tokens))
    pace = parts.paces.of(parts.environments.get("first"))
    pace.hold(86_400)
    assert 44 < pace.read_hold_left() <= 45
    first, second, _ = (
        parts.clients.access_tokens(parts.environments.get(name)) for name in ("first", "second", "other")
    )
    pace.lift()
    assert asked == [first, second]


def test_a_part_is_built_once_however_many_threads_ask_for_it_first() -> None:
    all_ask, built = threading.Barrier(8), list[object]()

    class SlowParts(Parts):
        @part
        def slow(self) -> object:
            built.append(object())
            time.sleep(0.05)
            return built[-1]

    parts = SlowParts(Settings(), lambda name: None)  # type: ignore[arg-type, return-value]

    def ask() -> object:
        all_ask.wait(30)
        return parts.slow

    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(ask) for _ in range(8)]
    assert [each.result() for each in asked] == built * 8


def activations(said: str) -> Activations:
    environments: Any = SimpleNamespace(get=lambda name: name)
    return Activations(environments, None, None, lambda _: SimpleNamespace(activate_record=lambda _: said))  # type: ignore[arg-type]


def test_a_dead_letter_is_a_failure_that_says_its_reason_and_nothing_else_and_any_other_end_is_none() -> None:
    with pytest.raises(DeadLettered) as failure:
        activations("dead letter: locked").activate_record(1, "default")
    # Flower shows the repr.
    assert repr(failure.value) == str(failure.value) == "dead letter: locked"
    ends = ["active", "again in 30 s: server error", NOTHING_TO_DO]
    assert [activations(said).activate_record(1, "default") for said in ends] == ends


def failed(error: Exception) -> logging.LogRecord:
    """What Celery logs of a task that raised this."""
    told = (type(error), error, None)
    return logging.LogRecord("celery.app.trace", logging.ERROR, "", 0, "Task failed", (), told)


def wrapped(error: psycopg.Error) -> OperationalError:
    return OperationalError("SELECT 1", {}, error)


def test_a_database_that_is_away_is_one_line_with_its_cure_and_said_again_only_after_a_while() -> None:
    lines, line = AwayLines(), failed(wrapped(psycopg.errors.ReadOnlySqlTransaction("cannot execute UPDATE")))
    assert (lines.filter(line), line.exc_info, line.levelname) == (True, None, "WARNING")
    assert line.getMessage().startswith(
        "database_away: the database does not accept writes (cannot execute UPDATE): name"
    )
    away = wrapped(psycopg.OperationalError("connection refused"))
    assert [lines.filter(failed(away)) for _ in range(2)] == [False, False]


@pytest.mark.parametrize("error", [ZeroDivisionError(), wrapped(psycopg.errors.UndefinedColumn("no such column"))])
def test_any_other_failure_stays_as_it_is(error: Exception) -> None:
    line = failed(error)
    assert (AwayLines().filter(line), line.exc_info is None, line.getMessage()) == (True, False, "Task failed")


# The processor.


only_linux = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux lets a process choose")


@only_linux
def test_all_threads_go_to_the_processor_of_whoever_asks_who_stays_free_and_one_that_has_ended_is_no_failure() -> None:
    gate, allowed = threading.Event(), os.sched_getaffinity(0)
    waiting, ended = [threading.Thread(target=gate.wait, args=(60,)) for _ in range(3)], threading.Thread()
    for thread in (ended, *waiting):
        thread.start()
    ended.join()
    others = [thread.native_id or 0 for thread in waiting]

    def gather_at(processor: int) -> list[set[int]]:
        os.sched_setaffinity(0, {processor})
        move_to_this_processor([ended.native_id or 0, *others])
        return [os.sched_getaffinity(thread) for thread in others]

    move_to_this_processor([threading.get_native_id(), *others])
    assert (len(os.sched_getaffinity(others[0])), os.sched_getaffinity(0)) == (1, allowed)
    for processor in sorted(allowed):
        with ThreadPoolExecutor(1) as asking:
            assert asking.submit(gather_at, processor).result() == [{processor}] * 3
    gate.set()


@only_linux
def test_whoever_is_refused_asks_no_more_unless_that_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's processors may change at any time: the next look finds those that are left. A rule of its host's
    does not change."""
    answers = iter([OSError(errno.EINVAL, "Invalid argument"), PermissionError(errno.EPERM, "Not permitted")])

    def refuse(*_: object) -> None:
        raise next(answers)

    monkeypatch.setattr(affinity, "LOOK_INTERVAL", 0.0)
    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    with capture_logs() as told:
        affinity.start()
        wait_until(lambda: told, "it says so")
    assert [line["event"] for line in told] == ["affinity_refused"]
    assert list(answers) == []
