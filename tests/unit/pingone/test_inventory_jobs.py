"""Tokens are imported and revoked over HTTP, by a server that answers as told."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from worker.pace.paces import Paces
from worker.pace.rate_groups import RateGroup
from worker.pingone.client import Call
from worker.pingone.clients import InventoryJobs
from worker.pingone.errors import BadToken, NotFound, OutcomeUnknown, TooLateToSend, TooManyTokens
from worker.pingone.inventory import JobState, NewToken
from worker.vault.otps import Secret, Seed

ENVIRONMENT = "/v1/environments/5a5b7c9d-0e1f-4a2b-8c3d-4e5f6a7b8c9d"
JOB_ID = "c1d7a2f0-5b9e-4a63-8f24-7e0d9b1c3a58"
TOKEN = NewToken(
    serial_number="2308734700388",
    seed=Seed(secret=Secret(b"12345678901234567890")),
    row_number=2,
)


def new_call(**options: Any) -> Call:
    return Call("batch-1", "chunk-1", **options)


@pytest.fixture
def connect(connect_clients: Any) -> Any:
    """Makes the jobs of an environment whose API answers as told; returns them and the API."""

    def make(*answers: Any) -> tuple[InventoryJobs, Any]:
        clients, environment, api = connect_clients(*answers)
        return clients.jobs(environment), api

    return make


def test_an_import_is_started_and_followed_to_its_end(connect: Any, answer: Any) -> None:
    jobs, api = connect(answer("started_job/accepted"), answer("job/in_progress"), answer("job/done"))
    call = new_call()
    job_id = jobs.start_import([TOKEN], call=call)
    assert jobs.read_job(job_id, call=call).state == JobState.RUNNING
    job = jobs.read_job(job_id, call=call)
    assert (job.state, job.created, job.duplicates) == (JobState.DONE, 6, ("2308734700412",))
    start, *reads = api.received
    assert (start.method, start.target) == ("POST", f"{ENVIRONMENT}/oathJobs")
    assert start.headers["content-type"] == "application/vnd.pingidentity.job.oathtokens.create+json"
    assert start.headers["x-ping-external-transaction-id"] == "chunk-1"
    assert json.loads(start.body)["tokens"][0]["secret"] == TOKEN.seed.secret.reveal().hex().upper()
    # By the id, not by the link that the answer gives.
    assert {(each.method, each.target) for each in reads} == {("GET", f"{ENVIRONMENT}/oathJobs/{JOB_ID}")}
    assert call.requests == 3


def test_tokens_are_revoked(connect: Any, answer: Any) -> None:
    jobs, api = connect(answer("started_job/location_alone"), answer("job/revoked"))
    job_id = jobs.start_revocation(["7a1d", "7a1e"], call=new_call())
    assert jobs.read_job(job_id, call=new_call()).revoked == 4
    assert json.loads(api.received[0].body)["forceUnpair"] is False


@pytest.mark.parametrize("lost", ["activation/unexpected_error", "activation/unavailable", "started_job/id_empty"])
def test_a_job_of_unknown_fate_is_not_started_again(
    connect: Any, answer: Any, paces: Paces, make_environment: Any, lost: str
) -> None:
    jobs, api = connect(answer(lost))
    for start in (
        lambda: jobs.start_import([TOKEN], call=new_call()),
        lambda: jobs.start_revocation(["7a1d"], call=new_call()),
    ):
        paces.of(make_environment(), RateGroup.INVENTORY).lift()
        with pytest.raises(OutcomeUnknown):
            start()
    assert len(api.received) == 2


def test_a_connection_that_breaks_does_not_start_a_job_again(connect: Any) -> None:
    def hang_up(request: Any) -> bytes:
        raise ConnectionError

    jobs, api = connect(hang_up)
    with pytest.raises(OutcomeUnknown):
        jobs.start_import([TOKEN], call=new_call())
    assert len(api.received) == 1


def test_a_refused_list_is_told_and_sent_once(connect: Any, answer: Any) -> None:
    jobs, api = connect(answer("started_job/content_too_large_by_proxy"), answer("started_job/token_is_paired"))
    with pytest.raises(TooManyTokens):
        jobs.start_import([TOKEN], call=new_call())
    with pytest.raises(BadToken) as caught:
        jobs.start_revocation(["7a1d", "7a1e"], call=new_call())
    assert caught.value.index == 1
    assert len(api.received) == 2


def test_a_place_beyond_the_list_names_no_token(connect: Any, answer: Any) -> None:
    jobs, _ = connect(answer("started_job/bad_secret"))
    with pytest.raises(BadToken) as caught:
        jobs.start_import([TOKEN], call=new_call())
    assert (caught.value.index, caught.value.field) == (None, "secret")


def test_a_429_holds_imports_alone_and_the_import_follows(
    connect_clients: Any, answer: Any, http: Any, paces: Paces
) -> None:
    limited = http(429, b'{"code": "REQUEST_LIMITED"}', Retry_After="55")
    clients, environment, api = connect_clients(limited, answer("started_job/created"))
    held = []

    def end_hold(seconds: float) -> None:
        held.extend(group for group in RateGroup if paces.of(environment, group).read_hold_left() > 0)
        paces.of(environment, RateGroup.INVENTORY).lift()

    client = clients.of(environment, RateGroup.INVENTORY)
    client._policy = replace(client._policy, sleep=end_hold)
    assert clients.jobs(environment).start_import([TOKEN], call=new_call()) == JOB_ID
    assert held == [RateGroup.INVENTORY]
    assert api.received[0].body == api.received[1].body


def test_an_import_whose_time_to_send_is_over_does_not_go_out(connect: Any, answer: Any) -> None:
    jobs, api = connect(answer("started_job/created"))
    with pytest.raises(TooLateToSend):
        jobs.start_import([TOKEN], call=new_call(send_before=0.0))
    assert not api.received


def test_a_job_that_is_gone_is_told_and_one_that_is_another_is_not_believed(connect: Any, answer: Any) -> None:
    jobs, api = connect(answer("job/cleaned_up"), answer("job/another_job"), answer("job/done"))
    with pytest.raises(NotFound):
        jobs.read_job(JOB_ID, call=new_call())
    # What comes next by the connection of another's answer may be another's as well.
    assert jobs.read_job(JOB_ID, call=new_call()).state == JobState.DONE
    assert [request.connection for request in api.received] == [1, 1, 2]


def test_nothing_is_sent_without_a_token_or_an_id(connect: Any, answer: Any) -> None:
    jobs, api = connect(answer("started_job/created"))
    for wrong in (
        lambda: jobs.start_import([], call=new_call()),
        lambda: jobs.start_revocation([], call=new_call()),
        lambda: jobs.start_revocation([""], call=new_call()),
        lambda: jobs.read_job("", call=new_call()),
    ):
        with pytest.raises(ValueError, match=r"no token|empty"):
            wrong()
    assert not api.received
