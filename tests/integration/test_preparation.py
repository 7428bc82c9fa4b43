"""The preparation of a batch on both databases, with a PingOne in memory: people are looked up, the inventory is
compared, tokens are imported, and every job is written down before its request goes out."""

from __future__ import annotations

import uuid
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import insert, update
from support.data.batches import look, look_at_batch, make_batch, make_environment
from support.data.moving_clock import MovingDatabase
from support.data.preparations import (
    ALICE,
    ANSWER_WITHIN,
    BOB,
    FORBIDDEN,
    HOTP,
    LOST,
    OK,
    Site,
    describe,
    finish,
    make,
    of,
    serial,
)

from models.batch import Batch, BatchState
from models.encrypted import Keyring
from models.inventory_job import InventoryJob, JobKind
from models.inventory_job import JobState as Written
from models.reason import CURES, Reason, find_cure
from models.record import Record
from models.record_states import NOBODY, Status
from worker.batches.long_list import Turns
from worker.batches.people import judge_person
from worker.batches.tokens import LONGEST_JOB, Tokens, find_difference
from worker.config.settings import Tuning
from worker.pace.errors import SlotTooFar
from worker.pingone.errors import (
    AlreadyImported,
    Answer,
    CredentialsRefused,
    NotDelivered,
    PingOneError,
    ProtocolFault,
    RateLimited,
    TooManyTokens,
)
from worker.pingone.inventory import ImportJob, InventoryToken, JobState
from worker.pingone.users import User
from worker.vault.otps import Seed


@pytest.fixture
def site(database: MovingDatabase, keyring: Keyring) -> Site:
    return Site(database, keyring)


# People.


def unknown_person(**name: str) -> dict[str, Any]:
    return {"user_id": "", "is_in_inventory": True} | name


@pytest.mark.parametrize(
    ("column", "person", "call"),
    [
        ("username", User(ALICE, username="alice"), "find username 1"),
        ("email", User(ALICE, email="alice@example.test"), "find email 1"),
        ("external_id", User(ALICE, external_id="E-17"), "find externalId 1"),
    ],
)
def test_a_person_is_found_by_each_kind_of_name(site: Site, column: str, person: User, call: str) -> None:
    site.pingone.people = [User(BOB, username="bob", email="bob@example.test", external_id="E-18"), person]
    name = person.username or person.email or person.external_id
    made = make(site, 1, **unknown_person(**{column: str(name)}))
    finish(site)
    assert of(site, made).user_id == ALICE
    assert site.pingone.log == [call]


def test_the_first_name_that_a_row_has_is_the_one_that_counts(site: Site) -> None:
    site.pingone.people = [User(ALICE, username="alice"), User(BOB, email="alice@example.test")]
    made = make(site, 1, **unknown_person(username="alice", email="alice@example.test"))
    finish(site)
    assert of(site, made).user_id == ALICE


def test_names_are_not_told_apart_by_case(site: Site) -> None:
    site.pingone.people = [User(ALICE.upper(), username="Alice")]
    made = make(site, 1, **unknown_person(username="ALICE"))
    finish(site)
    assert of(site, made).user_id == ALICE


def test_a_name_with_other_letters_is_another_person_though_both_are_asked_for_at_once(site: Site) -> None:
    site.pingone.people = [User(ALICE, username="weiß")]
    made = make(site, [unknown_person(username="weiß"), unknown_person(username="weiss")])
    finish(site)
    first, second = (look(site.database, number) for number in made.ids)
    assert (first.user_id, second.user_id) == (ALICE, "")
    assert second.reason == Reason.USER_NOT_FOUND


@pytest.mark.parametrize(
    ("people", "reason", "told"),
    [
        ([], Reason.USER_NOT_FOUND, ""),
        (
            [User(ALICE, username="alice"), User(BOB.upper(), username="Alice")],
            Reason.USER_AMBIGUOUS,
            f" They are the users {ALICE}, {BOB}.",
        ),
        ([User(ALICE, username="alice", is_enabled=False)], Reason.ACCOUNT_NOT_USABLE, " It is disabled."),
        ([User(ALICE, username="alice", is_locked=True)], Reason.ACCOUNT_NOT_USABLE, " It is locked."),
        (
            [User(ALICE, username="alice", is_enabled=False, is_locked=True)],
            Reason.ACCOUNT_NOT_USABLE,
            " It is disabled and locked.",
        ),
        (
            [User(ALICE, username="alice", can_authenticate=False)],
            Reason.ACCOUNT_NOT_USABLE,
            " It may not authenticate.",
        ),
    ],
)
def test_who_can_get_no_token_is_given_up_with_what_pingone_shows_of_them(
    site: Site, people: list[User], reason: Reason, told: str
) -> None:
    site.pingone.people = people
    made = make(site, 1, **unknown_person(username="alice"))
    finish(site)
    record = of(site, made)
    assert (record.status, record.reason, record.user_id) == (Status.DEAD_LETTER, reason, "")
    # The record has a seed.
    assert record.detail == find_cure(reason, has_seed=True) + told


def test_of_many_persons_of_one_name_a_few_are_told() -> None:
    people = [User(str(uuid.UUID(int=number)), username="alice") for number in range(7)]
    _, told = judge_person(people) or ("", "")
    assert told == f"They are the users {', '.join(user.id for user in people[:5])} and 2 more."


def test_where_a_filter_is_too_long_half_of_the_names_are_asked_for(site: Site) -> None:
    site.pingone.most_names = 10
    site.pingone.people = [User(str(uuid.UUID(int=number)), username=f"u{number}") for number in range(45)]
    made = make(site, [unknown_person(username=f"u{number}") for number in range(45)])
    finish(site)
    assert site.pingone.log[:6] == ["find username 40", "find username 20", *["find username 10"] * 4]
    assert site.count(Record.user_id != "") == len(made.ids)


def test_a_name_that_stands_on_two_rows_is_asked_for_once(site: Site) -> None:
    site.pingone.people = [User(ALICE, username="alice")]
    make(site, [unknown_person(username="alice")] * 2)
    finish(site)
    assert site.pingone.log == ["find username 1"]
    assert site.count(Record.user_id == ALICE) == 2


def test_users_that_may_not_be_read_pause_the_batch_with_the_cure(site: Site) -> None:
    site.pingone.instead["find username"] = [FORBIDDEN]
    made = make(site, 1, **unknown_person(username="alice"))
    site.prepare()
    batch = look_at_batch(site.database, made.batch_id)
    assert (batch.state, batch.reason) == (BatchState.PAUSED, "permissions")
    assert "may not read users" in batch.detail
    assert "Identity Data Read Only" in batch.detail
    assert of(site, made).status == Status.PENDING


# The inventory.


def test_a_token_that_is_there_and_free_is_prepared(site: Site) -> None:
    made = make(site)
    site.pingone.tokens = {serial(site, made): describe(serial(site, made))}
    finish(site)
    record = of(site, made)
    assert (record.is_in_inventory, record.owner_id, record.is_token_made, record.device_id) == (
        True,
        NOBODY,
        False,
        "",
    )
    assert site.pingone.log == ["list"]


@pytest.mark.parametrize("differing", [{"type": "TOTP"}, {"digits": 8}, {"hash_name": "sha256"}, {"type": "OCRA"}])
def test_a_token_with_other_parameters_is_given_up(site: Site, differing: dict[str, Any]) -> None:
    made = make(site)
    site.pingone.tokens = {serial(site, made): describe(serial(site, made), **differing)}
    finish(site)
    assert (of(site, made).status, of(site, made).reason) == (Status.DEAD_LETTER, Reason.TOKEN_DIFFERS)


def test_what_the_inventory_does_not_tell_of_a_token_is_no_difference() -> None:
    totp = Seed(secret=HOTP.secret, otp_type="totp", time_step=30)
    assert find_difference(HOTP, InventoryToken("1")) is None
    assert find_difference(totp, InventoryToken("1", type="TOTP", time_step=60)) == "time step"
    assert find_difference(totp, InventoryToken("1", type="TOTP", time_step=30, hash_name="HmacSHA1")) is None


def test_a_token_that_is_paired_with_its_person_has_its_device_and_is_not_ours(site: Site) -> None:
    made = make(site, 1, user_id=ALICE)
    paired = describe(serial(site, made), user_id=ALICE.upper(), device_id="DEVICE-1")
    site.pingone.tokens = {serial(site, made): paired}
    finish(site)
    record = of(site, made)
    assert (record.device_id, record.owner_id) == ("device-1", ALICE)
    assert not record.is_device_made
    assert not record.is_token_made


def test_a_token_that_is_another_person_s_is_given_up(site: Site) -> None:
    made = make(site, 1, user_id=ALICE)
    site.pingone.tokens = {serial(site, made): describe(serial(site, made), user_id=BOB, device_id="device-1")}
    finish(site)
    record = of(site, made)
    assert (record.reason, record.device_id) == (Reason.TOKEN_TAKEN, "")
    assert record.detail == f"{CURES[Reason.TOKEN_TAKEN]} It is the device of user {BOB}."


@pytest.mark.parametrize(("owner", "reason"), [(ALICE, None), (BOB, Reason.TOKEN_TAKEN)])
def test_a_token_whose_owner_is_known_before_its_person_is_compared_when_that_is_found(
    site: Site, owner: str, reason: Reason | None
) -> None:
    made = make(site, 1, user_id="", username="alice")
    site.pingone.people = [User(ALICE, username="alice")]
    paired = describe(serial(site, made), user_id=owner, device_id="device-1")
    tokens = Tokens(site.database, site.keyring, site.pingone, site.waited.append, Tuning())  # type: ignore[arg-type]
    tokens.take_in(made.batch_id, [paired])
    assert (of(site, made).owner_id, of(site, made).status) == (owner, Status.PENDING)
    finish(site)
    told = reason and f"{CURES[reason]} It is the device of user {BOB}."
    assert (of(site, made).reason, of(site, made).detail) == (reason, told)


def test_a_device_that_another_record_has_is_left_to_the_pairing(site: Site) -> None:
    before = make_batch(site.database, 1, name="before", device_id="device-1")
    made = make(site, 2, user_id=ALICE)
    site.pingone.tokens = {
        serial(site, made): describe(serial(site, made), user_id=ALICE, device_id="device-1"),
        serial(site, made, 1): describe(serial(site, made, 1)),
    }
    finish(site)
    assert [look(site.database, each).is_in_inventory for each in made.ids] == [True, True]
    assert look(site.database, made.ids[0]).device_id == ""
    assert look(site.database, before.id).device_id == "device-1"


def test_where_nothing_may_be_imported_what_is_not_there_is_given_up(site: Site) -> None:
    made = make(site, may_import=False)
    finish(site)
    assert of(site, made).reason == Reason.TOKEN_NOT_IN_INVENTORY
    assert site.pingone.log == ["list"]


def test_where_the_inventory_may_not_be_read_and_nothing_is_imported_the_pairing_will_show(site: Site) -> None:
    site.pingone.instead["list"] = [FORBIDDEN]
    made = make(site, may_import=False)
    finish(site)
    record = of(site, made)
    assert (record.is_in_inventory, record.owner_id, record.status) == (True, None, Status.PENDING)


def test_an_inventory_that_may_not_be_read_for_an_import_pauses_the_batch(site: Site) -> None:
    site.pingone.instead["list"] = [FORBIDDEN]
    made = make(site)
    site.prepare()
    batch = look_at_batch(site.database, made.batch_id)
    assert (batch.state, batch.reason) == (BatchState.PAUSED, "permissions")
    assert "PINGONE_IMPORT_CLIENT_ID" in batch.detail
    assert not of(site, made).is_in_inventory


def test_a_list_that_breaks_off_counts_for_what_came_and_is_read_again(site: Site) -> None:
    made = make(site, 2)
    site.pingone.page_size = 1
    site.pingone.tokens = {serial(site, made, number): describe(serial(site, made, number)) for number in range(2)}

    def fail_at_second_page() -> None:
        site.pingone.instead["list"] = [LOST]
        site.on_renew = lambda: None

    site.on_renew = fail_at_second_page
    site.prepare()
    assert site.count(Record.is_in_inventory) == 1
    assert look_at_batch(site.database, made.batch_id).inventory_read_at is None
    site.database.ahead += 6.0
    finish(site)
    assert site.count(Record.is_in_inventory) == 2
    assert not site.pingone.results, "what was there is imported"


# Imports.


def test_a_token_is_imported_with_the_parameters_of_its_seed_and_is_ours(site: Site) -> None:
    made = make(site, 3)
    finish(site)
    assert site.pingone.log == ["list", "import 3", "start", "answer", "job"]
    assert site.jobs(made) == [(Written.DONE, 3)]
    assert site.count(Record.is_in_inventory, Record.is_token_made, Record.owner_id == NOBODY) == 3
    assert site.count(Record.import_job_id.is_not(None)) == 3


def test_a_job_is_written_down_before_its_request_goes_out(site: Site) -> None:
    made = make(site, 2)
    seen: list[Any] = []
    do = site.pingone.do

    def look_first(name: str, *rest: Any) -> None:
        if name in ("start", "job"):
            seen.append((name, site.jobs(made), site.count(Record.import_job_id.is_not(None))))
        do(name, *rest)

    site.pingone.do = look_first  # type: ignore[method-assign]
    finish(site)
    assert seen == [("start", [(Written.SENT, 2)], 2), ("job", [(Written.RUNNING, 2)], 2)]


def test_tokens_are_imported_by_the_other_worker_application(database: MovingDatabase, keyring: Keyring) -> None:
    other = make_environment(client_id="c", import_client_id="importer", import_client_secret="s")
    site = Site(database, keyring, environment=other)
    site.pingone.people = [User(ALICE, username="alice")]
    make(site, 1, user_id="", username="alice")
    finish(site)
    applications = {name: found for name, found in site.pingone.applications.items() if found}
    assert applications.pop("find username") == {"c"}
    assert set(applications) == {"list", "import", "start", "answer", "job"}
    assert all(found == {"importer"} for found in applications.values())


@pytest.mark.parametrize("bad", [0, 3, 6])
def test_a_token_that_is_refused_is_found_and_the_others_are_imported(site: Site, bad: int) -> None:
    made = make(site, 7)
    site.pingone.bad = {serial(site, made, bad)}
    finish(site)
    ended = Counter(look(site.database, each).reason for each in made.ids)
    assert ended == {None: 6, Reason.TOKEN_REFUSED: 1}
    assert look(site.database, made.ids[bad]).reason == Reason.TOKEN_REFUSED
    assert site.count(Record.is_token_made) == 6
    assert site.jobs(made)[:2] == [(Written.FAILED, 7), (Written.FAILED if bad < 3 else Written.DONE, 3)]


def test_a_list_that_is_too_long_is_imported_in_halves(site: Site) -> None:
    made = make(site, 4)
    site.pingone.instead["start"] = [TooManyTokens(Answer(status=413))]
    finish(site)
    assert site.jobs(made)[:3] == [(Written.FAILED, 4), (Written.DONE, 2), (Written.DONE, 2)]
    assert site.count(Record.is_token_made) == 4


def test_a_batch_is_imported_in_jobs_of_the_setting_s_size(database: MovingDatabase, keyring: Keyring) -> None:
    site = Site(database, keyring, most_tokens=3)
    made = make(site, 7)
    finish(site)
    assert [size for _, size in site.jobs(made)] == [3, 3, 1]


@pytest.mark.parametrize("failure", [NotDelivered(), RateLimited(Answer(status=429)), SlotTooFar(9.0)])
def test_a_request_that_did_nothing_is_forgotten_and_goes_again(site: Site, failure: Exception) -> None:
    made = make(site, 2)
    site.pingone.instead["start"] = [failure]
    site.prepare()
    assert site.jobs(made) == [(Written.LOST, 2)]
    assert site.count(Record.import_job_id.is_not(None)) == 0
    site.database.ahead += 6.0
    finish(site)
    assert site.jobs(made) == [(Written.LOST, 2), (Written.DONE, 2)]
    assert site.pingone.log.count("list") == 1, "nothing came of it, so nothing has to be looked for"


def test_a_lost_answer_is_waited_for_and_what_came_of_it_is_found_and_ours(site: Site) -> None:
    made = make(site, 2)
    site.pingone.instead["answer"] = [LOST]
    site.prepare()
    assert site.jobs(made) == [(Written.SENT, 2)]
    site.database.ahead += 6.0
    for _ in range(3):
        assert site.prepare()
    assert site.jobs(made) == [(Written.SENT, 2)], "it was taken for lost while its answer might come"

    site.database.ahead += ANSWER_WITHIN
    finish(site)
    assert site.jobs(made) == [(Written.LOST, 2)]
    assert site.pingone.log.count("import 2") == 1
    assert site.count(Record.is_in_inventory, Record.is_token_made, Record.owner_id == NOBODY) == 2


def test_an_answer_is_waited_for_from_when_the_request_really_went_out(site: Site) -> None:
    made = make(site, 2)

    def wait() -> None:
        site.database.ahead += ANSWER_WITHIN + 1

    site.pingone.before_import = wait
    site.pingone.instead["answer"] = [LOST]
    site.prepare()
    site.database.ahead += 6.0
    assert site.prepare()
    assert site.jobs(made) == [(Written.SENT, 2)], "it was taken for lost while its answer might come"


def test_an_import_whose_answer_got_lost_and_that_made_nothing_goes_again(site: Site) -> None:
    made = make(site, 2)
    site.pingone.instead["start"] = [LOST]
    site.prepare()
    site.database.ahead += ANSWER_WITHIN + 1
    finish(site)
    assert site.jobs(made) == [(Written.LOST, 2), (Written.DONE, 2)]
    assert site.count(Record.is_token_made) == 2


def test_what_a_lost_import_made_and_somebody_paired_meanwhile_is_not_ours(site: Site) -> None:
    made = make(site, 1, user_id=ALICE)
    site.pingone.instead["answer"] = [LOST]
    site.prepare()
    site.pingone.tokens = {serial(site, made): describe(serial(site, made), user_id=ALICE, device_id="device-1")}
    site.database.ahead += ANSWER_WITHIN + 1
    finish(site)
    assert (of(site, made).is_token_made, of(site, made).device_id) == (False, "device-1")


def test_a_token_that_was_there_all_the_same_is_compared_and_is_not_ours(site: Site) -> None:
    """Somebody imported two of them after the inventory was read."""
    made = make(site, 3)
    here, differs = serial(site, made), serial(site, made, 1)
    do = site.pingone.do

    def import_first(name: str, *rest: Any) -> None:
        if name == "start":
            site.pingone.tokens = {here: describe(here), differs: describe(differs, digits=8)}
        do(name, *rest)

    site.pingone.do = import_first  # type: ignore[method-assign]
    finish(site)
    records = [look(site.database, each) for each in made.ids]
    assert [record.is_token_made for record in records] == [False, False, True]
    assert [record.reason for record in records] == [None, Reason.TOKEN_DIFFERS, None]
    assert [record.is_in_inventory for record in records] == [True, False, True]
    assert site.jobs(made) == [(Written.DONE, 3)]


@pytest.mark.parametrize("is_shown", [True, False])
def test_a_token_that_is_refused_since_it_is_there_is_compared_and_is_not_ours(site: Site, is_shown: bool) -> None:
    """An import of before has made it, after its answer got lost; the list shows it later."""
    made = make(site)
    here = serial(site, made)
    if is_shown:
        site.pingone.before_import = lambda: site.pingone.tokens.update({here: describe(here)})
    site.pingone.instead["start"] = [AlreadyImported(Answer(status=409, detail_code="UNIQUENESS_VIOLATION"))]
    finish(site)
    record = of(site, made)
    assert (record.status, record.is_in_inventory, record.is_token_made) == (Status.PENDING, True, False)


def job(state: JobState = JobState.DONE, **fields: Any) -> ImportJob:
    return ImportJob("job-1", state, OK, **fields)


@pytest.mark.parametrize("result", [job(created=1), job(), job(created=2, duplicates=("X1",))])
def test_where_the_counts_do_not_add_up_the_inventory_is_read(site: Site, result: ImportJob) -> None:
    made = make(site, 2)
    site.pingone.instead["job"] = [result]
    finish(site)
    assert site.pingone.log.count("list") == 2
    assert site.jobs(made) == [(Written.LOST, 2)]
    assert site.count(Record.is_in_inventory) == 2


def test_tokens_that_jobs_leave_out_without_a_word_are_given_up_once_they_stand_alone(site: Site) -> None:
    made = make(site, 5)
    site.pingone.left_out = {serial(site, made, 1), serial(site, made, 3)}
    finish(site)
    refused = [look(site.database, made.ids[place]) for place in (1, 3)]
    assert {(record.status, record.reason) for record in refused} == {(Status.DEAD_LETTER, Reason.TOKEN_REFUSED)}
    assert site.count(Record.is_in_inventory) == 3
    assert site.jobs(made) == [(Written.LOST, 5), (Written.FAILED, 2), (Written.FAILED, 1), (Written.FAILED, 1)]


def test_a_token_that_pingone_names_as_a_duplicate_is_not_ours_even_where_the_counts_do_not_add_up(site: Site) -> None:
    made = make(site, 3)
    site.pingone.instead["job"] = [job(created=1, duplicates=(serial(site, made).upper(),))]
    finish(site)
    assert [look(site.database, each).is_token_made for each in made.ids] == [False, True, True]


def test_a_job_that_failed_goes_again_with_half_of_its_tokens(site: Site) -> None:
    made = make(site, 4)
    site.pingone.instead["job"] = [job(JobState.FAILED, reason="no room")]
    finish(site)
    assert site.jobs(made)[:2] == [(Written.FAILED, 4), (Written.DONE, 2)]


def test_a_job_that_runs_is_asked_for_again_and_one_that_never_ends_is_looked_for(site: Site) -> None:
    made = make(site, 2)
    site.pingone.instead["job"] = [job(JobState.RUNNING)] * 2
    site.prepare()
    assert (site.jobs(made), len(site.waited)) == ([(Written.RUNNING, 2)], 1)
    site.database.ahead += LONGEST_JOB.total_seconds() + 1
    finish(site)
    assert site.jobs(made) == [(Written.LOST, 2)]
    assert site.count(Record.is_token_made) == 2


def test_a_job_that_is_gone_is_looked_for_in_the_inventory(site: Site) -> None:
    made = make(site, 2)
    site.pingone.instead["job"] = [job(JobState.RUNNING)]
    site.prepare()
    site.pingone.results.clear()
    site.prepare()
    assert site.jobs(made) == [(Written.RUNNING, 2)], "it may only not be seen everywhere yet"
    site.database.ahead += ANSWER_WITHIN + 1
    finish(site)
    assert site.jobs(made) == [(Written.LOST, 2)]
    assert site.count(Record.is_token_made) == 2


def test_an_import_that_is_forbidden_pauses_the_batch_and_leaves_its_tokens_free(site: Site) -> None:
    made = make(site, 2)
    site.pingone.instead["start"] = [FORBIDDEN]
    site.prepare()
    batch = look_at_batch(site.database, made.batch_id)
    assert (batch.state, batch.reason) == (BatchState.PAUSED, "permissions")
    assert site.count(Record.import_job_id.is_not(None)) == 0


def test_a_token_with_a_pair_of_otps_that_is_not_there_cannot_be_imported(site: Site) -> None:
    made = make(site, seed=None)
    finish(site)
    assert of(site, made).reason == Reason.TOKEN_NOT_IN_INVENTORY
    assert site.jobs(made) == []


# Turns.


@pytest.mark.parametrize(
    ("failure", "reason"), [(CredentialsRefused(), "credentials"), (ProtocolFault(Answer(status=405)), "protocol")]
)
def test_what_only_a_person_can_mend_pauses_the_batch(site: Site, failure: PingOneError, reason: str) -> None:
    site.pingone.instead["list"] = [failure]
    made = make(site)
    site.prepare()
    batch = look_at_batch(site.database, made.batch_id)
    assert (batch.state, batch.reason) == (BatchState.PAUSED, reason)


@pytest.mark.parametrize("failure", [LOST, NotDelivered(), RateLimited(Answer(status=429)), SlotTooFar(60.0)])
def test_what_time_mends_is_tried_again_some_seconds_later(site: Site, failure: Exception) -> None:
    site.pingone.instead["list"] = [failure]
    made = make(site)
    assert site.prepare()
    assert not site.prepare(), "it was tried again at once"
    assert look_at_batch(site.database, made.batch_id).state == BatchState.RUNNING
    site.database.ahead += 6.0
    finish(site)
    assert of(site, made).is_in_inventory


def test_nothing_is_done_where_nothing_is_lacking(site: Site) -> None:
    make_batch(site.database, 3)
    assert not site.prepare()
    assert site.pingone.log == []


def test_one_worker_prepares_a_batch_at_a_time_and_another_goes_on_a_minute_after_it_died(site: Site) -> None:
    made = make(site)
    first, second = Turns(site.database), Turns(site.database)
    taken = first.begin()
    assert taken is not None
    assert taken.batch_id == made.batch_id
    assert second.begin() is None
    site.database.ahead += 61.0
    assert second.begin() is not None


def test_turns_that_are_all_ended_are_lost_to_whoever_had_them(site: Site) -> None:
    make(site)
    first, second = Turns(site.database), Turns(site.database)
    taken = first.begin()
    assert taken is not None
    second.end_all()
    assert not first.renew(taken.batch_id)
    assert second.begin() is not None


def test_the_batch_that_has_waited_longest_has_its_turn(site: Site) -> None:
    one, two = make(site), make(site, name="second")
    turns = Turns(site.database)
    order = []
    for _ in range(4):
        taken = turns.begin()
        assert taken is not None
        order.append(taken.batch_id)
        turns.end(taken.batch_id, 0.0)
        site.database.ahead += 1.0
    assert order == [one.batch_id, two.batch_id] * 2


def test_a_run_of_one_batch_prepares_no_other(site: Site) -> None:
    _, two = make(site), make(site, name="second")
    turns = Turns(site.database, two.batch_id)
    taken = turns.begin()
    assert taken is not None
    assert taken.batch_id == two.batch_id
    assert turns.begin() is None


@pytest.mark.parametrize("state", [BatchState.PAUSED, BatchState.CANCELLED])
def test_a_batch_that_does_not_run_is_not_prepared(site: Site, state: BatchState) -> None:
    make(site, state=state)
    assert not site.prepare()


def test_a_batch_that_is_paused_meanwhile_is_left_alone_after_the_call_at_hand(site: Site) -> None:
    made = make(site, 2)

    def pause() -> None:
        with site.database.writing() as connection:
            connection.execute(update(Batch).where(Batch.id == made.batch_id).values(state=BatchState.PAUSED))

    site.on_renew = pause
    site.prepare()
    assert site.pingone.log == ["list"]
    assert look_at_batch(site.database, made.batch_id).inventory_read_at is None


def test_a_worker_that_died_after_its_post_is_followed_by_another(site: Site) -> None:
    """The job is written down, and its answer was not."""
    made = make(site, 1)
    site.pingone.tokens = {serial(site, made): describe(serial(site, made))}
    with site.database.writing() as connection:
        values = {"batch_id": made.batch_id, "kind": JobKind.IMPORT, "state": Written.SENT, "size": 1}
        sent_at = site.database.now(-ANSWER_WITHIN - 1)
        job_id = connection.scalar(
            insert(InventoryJob).values(values | {"sent_at": sent_at}).returning(InventoryJob.id)
        )
        connection.execute(update(Record).where(Record.id == made.id).values(import_job_id=job_id))
    finish(site)
    assert (of(site, made).is_token_made, site.jobs(made)) == (True, [(Written.LOST, 1)])
    assert "import 1" not in site.pingone.log
