"""What a batch's preparation does, on both databases, when PingOne refuses, shows nobody, or oathbulk itself fails."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update
from support.data.batches import Made, look, look_at_batch, make_environment
from support.data.moving_clock import MovingDatabase
from support.data.preparations import ALICE, BOB, LOST, Site, describe, finish, make, of, serial

from models.batch import Batch, BatchState
from models.encrypted import Keyring, generate_key
from models.reason import PauseReason, Reason
from models.record import Record
from models.record_states import Status
from worker.batches.hours import restart_times
from worker.batches.long_list import Turns
from worker.batches.preparation import MOST_REFUSALS
from worker.batches.tokens import MOST_REFUSED
from worker.pace.errors import SlotTooFar
from worker.pingone.errors import (
    Answer,
    CredentialsRefused,
    InventoryFull,
    NotFound,
    OutcomeUnknown,
    PingOneError,
    RateLimited,
    Rejected,
    Unauthorized,
)
from worker.pingone.inventory import ImportJob, JobState
from worker.pingone.users import User


@pytest.fixture
def site(database: MovingDatabase, keyring: Keyring) -> Site:
    return Site(database, keyring)


def count_renewals(site: Site, act: Callable[[], object]) -> int:
    """How often the turn is kept during this."""
    renewals = 0
    renew = Turns.renew

    def counted(turns: Turns, batch_id: int) -> bool:
        nonlocal renewals
        renewals += 1
        assert renewals < 100, "it turns in a circle"
        return renew(turns, batch_id)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Turns, "renew", counted)
        act()
    return renewals


def people(count: int, **common: Any) -> list[dict[str, Any]]:
    """Records of people who are to be looked up."""
    return [{"user_id": "", "username": f"person{number}"} | common for number in range(count)]


def batch_of(site: Site, made: Made) -> tuple[str, str | None]:
    batch = look_at_batch(site.database, made.batch_id)
    return batch.state, batch.reason


def change(site: Site, made: Made, **values: Any) -> None:
    with site.database.writing() as connection:
        connection.execute(update(Batch).where(Batch.id == made.batch_id).values(values))


# A part that fails.


def test_imports_go_on_while_people_cannot_be_looked_up(site: Site) -> None:
    site.pingone.instead["find username"] = [LOST]
    made = make(site, [{"user_id": "", "username": "alice"}, {}])
    site.prepare()
    assert look(site.database, made.ids[1]).is_token_made


def test_people_are_looked_up_while_the_inventory_cannot_be_read(site: Site) -> None:
    site.pingone.people = [User(ALICE, username="person0")]
    site.pingone.instead["list"] = [LOST] * 9
    made = make(site, people(1))
    site.prepare()
    assert of(site, made).user_id == ALICE


def test_a_part_that_had_to_wait_goes_on_in_the_same_turn(site: Site) -> None:
    site.pingone.people = [User(f"{ALICE[:-3]}{number:03}", username=f"person{number}") for number in range(400)]
    site.pingone.instead["list"] = [SlotTooFar(0.001)]
    make(site, people(400))
    site.prepare()
    assert site.pingone.log.count("list") == 2
    assert site.pingone.log.index("list") < site.pingone.log.index("find username 40", 5)


def test_while_people_wait_after_a_failure_nothing_turns_in_a_circle(site: Site) -> None:
    make(site, people(1), may_import=False)
    site.pingone.instead["find username"] = [LOST] * 9
    assert count_renewals(site, site.prepare) < 10


# Refusals.


@pytest.mark.parametrize(
    ("failure", "reason", "said"),
    [
        (Unauthorized(Answer(status=401)), PauseReason.CREDENTIALS, "PINGONE_CLIENT_SECRET"),
        (NotFound(Answer(status=404, code="NOT_FOUND")), PauseReason.REFUSED, "NOT_FOUND"),
        (Rejected(Answer(status=400, code="INVALID_REQUEST")), PauseReason.REFUSED, "INVALID_REQUEST"),
    ],
)
def test_a_read_that_is_refused_again_and_again_pauses_the_batch(
    site: Site, failure: PingOneError, reason: PauseReason, said: str
) -> None:
    site.pingone.instead["list"] = [failure] * MOST_REFUSALS
    made = make(site)
    for _ in range(MOST_REFUSALS - 1):
        site.prepare()
        assert batch_of(site, made) == (BatchState.RUNNING, None)
        site.database.ahead += 6.0
    site.prepare()
    assert batch_of(site, made) == (BatchState.PAUSED, reason)
    assert said in look_at_batch(site.database, made.batch_id).detail


def test_answers_of_pingone_that_cannot_be_read_again_and_again_pause_the_batch(site: Site) -> None:
    unreadable = OutcomeUnknown(Answer(status=200, correlation_id="3f0c", message="the pages of a list lead back"))
    site.pingone.instead["find username"] = [unreadable] * MOST_REFUSALS
    made = make(site, people(1))
    for _ in range(MOST_REFUSALS):
        assert batch_of(site, made) == (BatchState.RUNNING, None)
        site.prepare()
        site.database.ahead += 6.0
    assert batch_of(site, made) == (BatchState.PAUSED, PauseReason.REFUSED)
    assert "the pages of a list lead back" in look_at_batch(site.database, made.batch_id).detail


def test_refusals_that_are_not_in_a_row_pause_nothing(site: Site) -> None:
    made = make(site)
    refused = [Unauthorized(Answer(status=401))] * (MOST_REFUSALS - 1)
    # After those it is read, and imported; then what came of that is asked for.
    site.pingone.instead["list"] = list(refused)
    site.pingone.instead["start"] = list(refused)
    finish(site)
    assert batch_of(site, made) == (BatchState.RUNNING, None)
    assert of(site, made).is_token_made


def test_refusals_of_different_kinds_are_not_added_up(site: Site) -> None:
    made = make(site)
    site.pingone.instead["list"] = [Unauthorized(Answer(status=401)), NotFound(Answer(status=404))] * (
        MOST_REFUSALS - 1
    )
    finish(site)
    assert batch_of(site, made) == (BatchState.RUNNING, None)


def test_refusals_of_two_parts_are_not_added_up(site: Site) -> None:
    site.pingone.people = [User(ALICE, username="person0")]
    made = make(site, people(1))
    refused = Unauthorized(Answer(status=401))
    site.pingone.instead["find username"] = [refused] * (MOST_REFUSALS - 1)
    site.pingone.instead["list"] = [refused] * (MOST_REFUSALS - 1)
    finish(site)
    assert batch_of(site, made) == (BatchState.RUNNING, None)


def test_refused_credentials_take_only_this_process_out_of_work_where_another_is_well(site: Site) -> None:
    site.is_spared = True
    site.pingone.instead["list"] = [CredentialsRefused()]
    made = make(site)
    site.prepare()
    assert [sickness.reason for sickness in site.sick] == [PauseReason.CREDENTIALS]
    assert batch_of(site, made) == (BatchState.RUNNING, None)


def test_refused_credentials_of_the_other_application_pause_the_batch_and_are_named(
    database: MovingDatabase, keyring: Keyring
) -> None:
    other = make_environment(import_client_id="importer", import_client_secret="s")
    site = Site(database, keyring, environment=other, is_spared=True)
    site.pingone.instead["list"] = [CredentialsRefused()]
    made = make(site)
    site.prepare()
    assert batch_of(site, made) == (BatchState.PAUSED, PauseReason.CREDENTIALS)
    assert "PINGONE_IMPORT_CLIENT_SECRET" in look_at_batch(database, made.batch_id).detail
    assert site.sick == []


def test_a_used_up_quota_pauses_the_batch_until_it_resets(site: Site) -> None:
    site.pingone.instead["list"] = [
        RateLimited(Answer(status=429, code="QUOTA_EXCEEDED"), 3600.0, datetime.now(UTC) + timedelta(hours=1))
    ]
    made = make(site)
    site.prepare()
    assert batch_of(site, made) == (BatchState.PAUSED, PauseReason.QUOTA)
    assert look_at_batch(site.database, made.batch_id).resumes_at is not None


def test_seeds_that_cannot_be_decrypted_pause_the_batch(site: Site) -> None:
    made = make(site)
    site.keyring = Keyring([generate_key()])
    with pytest.raises(Exception, match=r"key|decrypt"):
        site.prepare()
    assert batch_of(site, made) == (BatchState.PAUSED, PauseReason.INTERNAL)


def test_a_failure_of_our_own_pauses_the_batch(site: Site) -> None:
    made = make(site)
    site.pingone.instead["list"] = [ValueError("a fault of ours")]
    with pytest.raises(ValueError, match="a fault of ours"):
        site.prepare()
    assert batch_of(site, made) == (BatchState.PAUSED, PauseReason.INTERNAL)


def test_where_the_importing_application_is_refused_again_and_again_its_settings_are_named(
    database: MovingDatabase, keyring: Keyring
) -> None:
    other = make_environment(import_client_id="importer", import_client_secret="s")
    site = Site(database, keyring, environment=other)
    site.pingone.instead["list"] = [Unauthorized(Answer(status=401))] * MOST_REFUSALS
    made = make(site)
    for _ in range(MOST_REFUSALS):
        site.prepare()
        site.database.ahead += 6.0
    assert "PINGONE_IMPORT_CLIENT_SECRET" in look_at_batch(database, made.batch_id).detail


# Imports that are refused.


def test_an_inventory_that_is_full_pauses_the_batch_and_leaves_its_tokens_free(site: Site) -> None:
    site.pingone.instead["start"] = [InventoryFull(Answer(status=400, detail_code="LIMIT_EXCEEDED"))]
    made = make(site, 2)
    site.prepare()
    assert batch_of(site, made) == (BatchState.PAUSED, PauseReason.REFUSED)
    assert "LIMIT_EXCEEDED" in look_at_batch(site.database, made.batch_id).detail
    assert site.count(Record.import_job_id.is_not(None)) == 0
    change(site, made, state=BatchState.RUNNING, reason=None)
    site.database.ahead += 6.0
    finish(site)
    assert site.count(Record.is_token_made) == 2


def test_a_token_that_is_refused_has_pingone_s_codes_in_its_detail(site: Site) -> None:
    made = make(site)
    site.pingone.bad = {serial(site, made)}
    finish(site)
    assert of(site, made).reason == Reason.TOKEN_REFUSED
    assert "INVALID_DATA" in of(site, made).detail


def test_jobs_that_are_all_refused_pause_the_batch_before_every_token_is_given_up(site: Site) -> None:
    made = make(site, 40)
    site.pingone.instead["job"] = [ImportJob("job", JobState.FAILED, Answer(), reason="no room")] * 100
    for _ in range(20):
        site.prepare()
        site.database.ahead += 6.0
    assert batch_of(site, made) == (BatchState.PAUSED, PauseReason.REFUSED)
    assert "no room" in look_at_batch(site.database, made.batch_id).detail
    assert site.count(Record.reason == Reason.TOKEN_REFUSED) == MOST_REFUSED


def test_a_batch_that_is_resumed_after_refusals_may_have_as_many_again(site: Site) -> None:
    made = make(site, 40)
    site.pingone.instead["job"] = [ImportJob("job", JobState.FAILED, Answer(), reason="no room")] * 100
    for _ in range(2):
        for _ in range(20):
            site.prepare()
            site.database.ahead += 6.0
        assert batch_of(site, made) == (BatchState.PAUSED, PauseReason.REFUSED)
        change(site, made, state=BatchState.RUNNING, reason=None, running_since=site.database.now())
    assert site.count(Record.reason == Reason.TOKEN_REFUSED) == 2 * MOST_REFUSED


def test_refusals_count_where_the_clock_was_set_back_since_the_batch_began_to_run(site: Site) -> None:
    made = make(site, 40)
    change(site, made, running_since=site.database.now(7200.0))
    with site.database.writing() as connection:
        restart_times(site.database, connection)
    site.pingone.instead["job"] = [ImportJob("job", JobState.FAILED, Answer(), reason="no room")] * 100
    for _ in range(20):
        site.prepare()
        site.database.ahead += 6.0
    assert batch_of(site, made) == (BatchState.PAUSED, PauseReason.REFUSED)


def test_where_pingone_names_a_duplicate_that_is_none_of_ours_no_token_is_called_ours_unseen(site: Site) -> None:
    make(site, 2)
    site.pingone.instead["job"] = [ImportJob("job", JobState.DONE, Answer(), created=1, duplicates=("OTHER9",))]
    finish(site)
    assert site.pingone.log.count("list") == 2


def test_where_pingone_says_that_it_made_none_none_is_ours(site: Site) -> None:
    made = make(site, 2)
    site.pingone.instead["job"] = [ImportJob("job", JobState.DONE, Answer(), created=0)]
    finish(site)
    assert site.count(Record.is_in_inventory) == 2
    assert [look(site.database, each).is_token_made for each in made.ids] == [False, False]


@pytest.mark.parametrize(
    ("age", "is_made"),
    [(timedelta(minutes=4), True), (timedelta(hours=2), False), (timedelta(0), False), (None, True)],
)
def test_what_is_older_or_younger_than_a_lost_import_is_not_ours(
    site: Site, age: timedelta | None, is_made: bool
) -> None:
    """PingOne failed the job, or was done with it, while the batch was paused for the night."""
    made = make(site)
    site.pingone.instead["start"] = [LOST]
    site.prepare()
    site.database.ahead += 200.0 if age == timedelta(minutes=4) else 16 * 3600.0
    site.pingone.tokens = {serial(site, made): describe(serial(site, made), age=age)}
    finish(site)
    assert of(site, made).is_token_made is is_made


def test_a_token_that_pingone_writes_in_other_letters_is_found_and_not_imported_again(site: Site) -> None:
    made = make(site, [{"serial_number": "MiXed01"}])
    site.pingone.instead["job"] = [ImportJob("job", JobState.DONE, Answer(), created=0, duplicates=("mIxED01",))]
    site.pingone.tokens = {"MiXed01": describe("mIxED01")}
    finish(site)
    assert (of(site, made).is_in_inventory, of(site, made).is_token_made) == (True, False)
    assert len(site.jobs(made)) == 1


def test_a_token_that_is_there_and_cannot_be_read_is_left_to_its_pairing(site: Site) -> None:
    made = make(site)
    site.pingone.instead["job"] = [
        ImportJob("job", JobState.DONE, Answer(), created=0, duplicates=(serial(site, made),))
    ]
    site.pingone.tokens = {}
    site.pingone.create = lambda tokens: "job"  # type: ignore[method-assign]
    finish(site)
    record = of(site, made)
    assert (record.is_in_inventory, record.is_token_made, record.owner_id) == (True, False, None)


def test_a_duplicate_that_was_not_compared_does_not_become_ours_when_a_later_answer_gets_lost(site: Site) -> None:
    made = make(site, 2)
    here = serial(site, made)
    do = site.pingone.do

    def import_first(name: str, *rest: Any) -> None:
        if name == "start" and not site.pingone.results:
            site.pingone.tokens = {here: describe(here)}
        do(name, *rest)

    site.pingone.do = import_first  # type: ignore[method-assign]
    # The process dies before the duplicate is compared.
    site.pingone.instead["find_token"] = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        site.prepare()
    site.pingone.instead["answer"] = [LOST]
    site.database.ahead += 6.0
    finish(site)
    assert [look(site.database, each).is_token_made for each in made.ids] == [False, True]


def test_a_device_whose_user_is_not_told_is_not_taken_for_nobody_s(site: Site) -> None:
    made = make(site)
    site.pingone.tokens = {serial(site, made): describe(serial(site, made), device_id="device-1")}
    finish(site)
    record = of(site, made)
    assert (record.is_in_inventory, record.owner_id, record.device_id) == (True, None, "")


# Nobody is found.


@pytest.mark.parametrize("first", [0, 3])
def test_where_none_of_the_first_people_is_found_the_batch_pauses_once(site: Site, first: int) -> None:
    """Some of them were looked up in a canary before, which says nothing yet."""
    made = make(site, people(90))
    if first:
        change(site, made, canary_row=look(site.database, made.ids[first - 1]).row_number)
        finish(site)
        assert batch_of(site, made) == (BatchState.RUNNING, None)
        change(site, made, canary_row=None)
        site.database.ahead += 6.0
    site.prepare()
    assert batch_of(site, made) == (BatchState.PAUSED, PauseReason.PERMISSIONS)
    assert "Identity Data Read Only" in look_at_batch(site.database, made.batch_id).detail
    assert site.count(Record.reason == Reason.USER_NOT_FOUND) == first + 40

    change(site, made, state=BatchState.RUNNING, reason=None)
    site.database.ahead += 6.0
    finish(site)
    assert site.count(Record.reason == Reason.USER_NOT_FOUND) == 90


def test_where_a_batch_is_paused_meanwhile_nobody_is_given_up_before_that_is_said(site: Site) -> None:
    made = make(site, people(40))
    do = site.pingone.do

    def pause_first(name: str, *rest: Any) -> None:
        if name.startswith("find"):
            change(site, made, state=BatchState.PAUSED, reason=PauseReason.PERSON)
        do(name, *rest)

    site.pingone.do = pause_first  # type: ignore[method-assign]
    site.prepare()
    assert site.count(Record.status == Status.PENDING) == 40

    site.pingone.do = do  # type: ignore[method-assign]
    change(site, made, state=BatchState.RUNNING, reason=None)
    site.database.ahead += 6.0
    site.prepare()
    assert batch_of(site, made) == (BatchState.PAUSED, PauseReason.PERMISSIONS)


@pytest.mark.parametrize("reason", [Reason.ACCOUNT_NOT_USABLE, Reason.USER_AMBIGUOUS])
def test_a_person_who_was_found_and_given_up_shows_that_pingone_shows_people(site: Site, reason: Reason) -> None:
    is_enabled = reason != Reason.ACCOUNT_NOT_USABLE
    site.pingone.people = [User(ALICE, username="person0", is_enabled=is_enabled)]
    site.pingone.people += [User(BOB, username="person0")] if is_enabled else []
    made = make(site, people(60))
    finish(site)
    assert (batch_of(site, made), site.count(Record.reason == reason)) == ((BatchState.RUNNING, None), 1)


@pytest.mark.parametrize("count", [9, 40])
def test_a_few_people_who_are_not_found_pause_nothing(site: Site, count: int) -> None:
    site.pingone.people = [User(ALICE, username="person0")] if count == 40 else []
    made = make(site, people(count))
    finish(site)
    assert batch_of(site, made) == (BatchState.RUNNING, None)
