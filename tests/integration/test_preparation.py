"""The preparation of a batch, with a PingOne in memory: people are looked up, the inventory is compared, tokens are
imported, every job is written down before its request goes out, and whatever fails pauses the batch or passes."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, update
from support.data.batches import TESTER, Made, look, look_at_batch, make_batch, make_environment
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
from models.encrypted import Keyring, generate_key
from models.inventory_job import InventoryJob, JobKind
from models.inventory_job import JobState as Written
from models.reason import CURES, PauseReason, Reason, find_cure
from models.record import Record
from models.record_states import NOBODY, PairingState, Status
from worker.batches import hours, preparation
from worker.batches.commands import Batches
from worker.batches.long_list import Turns
from worker.batches.people import judge_person
from worker.batches.preparation import MOST_REFUSALS
from worker.batches.tokens import LONGEST_JOB, MOST_REFUSED, Tokens, find_difference
from worker.config.tuning import Tuning
from worker.pace.rate_groups import SlotTooFar
from worker.pingone.errors import (
    AlreadyImported,
    Answer,
    CredentialsRefused,
    InventoryFull,
    NotDelivered,
    NotFound,
    OutcomeUnknown,
    ProtocolFault,
    RateLimited,
    Rejected,
    TooManyTokens,
    Unauthorized,
)
from worker.pingone.inventory import ImportJob, InventoryToken, JobStatus
from worker.pingone.users import User
from worker.reports.facts import FEWEST_SETTLED, BatchStatus, read_statuses
from worker.vault.otps import Seed

# The statements differ in nothing between the databases.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

RUNNING = (BatchState.RUNNING, None)
IMPORTER = {"import_client_id": "importer", "import_client_secret": "s"}
UNAUTHORIZED, NOT_FOUND = Unauthorized(Answer(status=401)), NotFound(Answer(status=404, code="NOT_FOUND"))


@pytest.fixture
def site(database: MovingDatabase, keyring: Keyring) -> Site:
    return Site(database, keyring)


def people(count: int, **common: Any) -> list[dict[str, Any]]:
    """Records of people who are to be looked up."""
    return [{"user_id": "", "username": f"person{number}"} | common for number in range(count)]


def state(site: Site, made: Made) -> tuple[str, str | None]:
    batch = look_at_batch(site.database, made.batch_id)
    return batch.state, batch.reason


def change(site: Site, **values: Any) -> None:
    """Change all batches."""
    with site.database.writing() as connection:
        connection.execute(update(Batch).values(values))


def resume(site: Site) -> None:
    change(site, state=BatchState.RUNNING, reason=None, running_since=site.database.now())
    site.database.ahead += 6.0


def go_on(site: Site, after: float = 6.0) -> None:
    """Finish after so many seconds, when what failed may be tried again."""
    site.database.ahead += after
    finish(site)


def note_job(database: MovingDatabase, batch_id: int, state: Written, size: int = 1, sent_ago: float = 0.0) -> int:
    """Write an import down, as sent so many seconds ago. Returns the id of its row."""
    values = {"batch_id": batch_id, "kind": JobKind.IMPORT, "state": state, "size": size}
    job = insert(InventoryJob).values(values | {"sent_at": database.now(-sent_ago)}).returning(InventoryJob.id)
    with database.writing() as connection:
        return connection.scalars(job).one()


def look_first(site: Site, act: Callable[[str], object]) -> None:
    """Do this before each call, whose name it is told."""
    do = site.pingone.do

    def act_and_do(name: str, *rest: Any) -> None:
        act(name)
        do(name, *rest)

    site.pingone.do = act_and_do  # type: ignore[method-assign]


# People.


@pytest.mark.parametrize(
    ("names", "person", "call"),
    [
        ({"username": "ALICE"}, User(ALICE.upper(), username="Alice"), "find username 1"),
        ({"email": "alice@example.test"}, User(ALICE, email="alice@example.test"), "find email 1"),
        ({"external_id": "E-17"}, User(ALICE, external_id="E-17"), "find externalId 1"),
        # The first name that a row has counts.
        ({"username": "alice", "email": "bob@example.test"}, User(ALICE, username="alice"), "find username 1"),
    ],
)
def test_a_person_is_found_by_each_kind_of_name_in_whatever_case_and_asked_for_once(
    site: Site, names: dict[str, str], person: User, call: str
) -> None:
    site.pingone.people = [User(BOB, username="bob", email="bob@example.test", external_id="E-18"), person]
    make(site, [{"user_id": "", "is_in_inventory": True} | names] * 2)
    finish(site)
    assert (site.count(Record.user_id == ALICE), site.pingone.log) == (2, [call])


def test_a_name_with_other_letters_is_another_person_though_both_are_asked_for_at_once(site: Site) -> None:
    site.pingone.people = [User(ALICE, username="weiß")]
    lacking = {"user_id": "", "is_in_inventory": True}
    made = make(site, [lacking | {"username": name} for name in ("weiß", "weiss")])
    finish(site)
    first, second = (look(site.database, number) for number in made.ids)
    assert (first.user_id, second.user_id, second.reason) == (ALICE, "", Reason.USER_NOT_FOUND)


@pytest.mark.parametrize(
    ("users", "reason", "told"),
    [
        ([], Reason.USER_NOT_FOUND, ""),
        (
            [User(ALICE, username="alice"), User(BOB.upper(), username="Alice")],
            Reason.USER_AMBIGUOUS,
            f" They are the users {ALICE}, {BOB}.",
        ),
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
    site: Site, users: list[User], reason: Reason, told: str
) -> None:
    site.pingone.people = users
    made = make(site, 1, user_id="", username="alice", is_in_inventory=True)
    finish(site)
    record = of(site, made)
    assert (record.status, record.reason, record.user_id) == (Status.DEAD_LETTER, reason, "")
    # The record has a seed.
    assert record.detail == find_cure(reason, has_seed=True) + told


def test_of_many_persons_of_one_name_a_few_are_told(database: MovingDatabase) -> None:
    users = [User(str(uuid.UUID(int=number)), username="alice") for number in range(7)]
    _, told = judge_person(users) or ("", "")
    assert told == f"They are the users {', '.join(user.id for user in users[:5])} and 2 more."


def test_where_a_filter_is_too_long_half_of_the_names_are_asked_for(site: Site) -> None:
    site.pingone.most_names = 10
    site.pingone.people = [User(str(uuid.UUID(int=number)), username=f"person{number}") for number in range(45)]
    make(site, people(45, is_in_inventory=True))
    finish(site)
    assert site.pingone.log[:6] == ["find username 40", "find username 20", *["find username 10"] * 4]
    assert site.count(Record.user_id != "") == 45


@pytest.mark.parametrize("first", [0, 3])
def test_where_none_of_the_first_people_is_found_the_batch_pauses_once(site: Site, first: int) -> None:
    """Some of them were looked up in a canary before, which says nothing yet."""
    made = make(site, people(90))
    if first:
        change(site, canary=first)
        finish(site)
        assert state(site, made) == RUNNING
        change(site, canary=None)
        site.database.ahead += 6.0
    site.prepare()
    assert state(site, made) == (BatchState.PAUSED, PauseReason.PERMISSIONS)
    assert "Identity Data Read Only" in look_at_batch(site.database, made.batch_id).detail
    assert site.count(Record.reason == Reason.USER_NOT_FOUND) == first + 40

    resume(site)
    finish(site)
    assert site.count(Record.reason == Reason.USER_NOT_FOUND) == 90


def test_where_a_batch_is_paused_meanwhile_nobody_is_given_up_before_that_is_said(site: Site) -> None:
    made = make(site, people(40))
    pauses = [{"state": BatchState.PAUSED, "reason": PauseReason.PERSON}]
    look_first(site, lambda name: name.startswith("find") and pauses and change(site, **pauses.pop()))
    site.prepare()
    assert site.count(Record.status == Status.PENDING) == 40

    resume(site)
    site.prepare()
    assert state(site, made) == (BatchState.PAUSED, PauseReason.PERMISSIONS)


@pytest.mark.parametrize(
    ("count", "found"),
    [
        (9, []),
        (40, [User(ALICE, username="person0")]),
        (60, [User(ALICE, username="person0", is_enabled=False)]),
        (60, [User(ALICE, username="person0"), User(BOB, username="person0")]),
    ],
    ids=["a few", "one is found", "one is disabled", "one is ambiguous"],
)
def test_a_few_people_who_are_not_found_and_many_beside_one_who_is_shown_pause_nothing(
    site: Site, count: int, found: list[User]
) -> None:
    site.pingone.people = found
    made = make(site, people(count))
    finish(site)
    assert state(site, made) == RUNNING
    assert site.count(Record.reason == Reason.USER_NOT_FOUND) == count - bool(found)


# The inventory.


def test_a_token_that_is_there_and_free_is_prepared_and_not_ours(site: Site) -> None:
    made = make(site)
    site.pingone.tokens = {serial(site, made): describe(serial(site, made))}
    finish(site)
    record = of(site, made)
    assert (record.is_in_inventory, record.owner_id, record.is_token_made) == (True, NOBODY, False)
    assert (record.device_id, site.pingone.log) == ("", ["list"])


@pytest.mark.parametrize(
    ("shown", "ends"),
    [
        ({"type": "TOTP"}, (Reason.TOKEN_DIFFERS, None, "")),
        ({"digits": 8}, (Reason.TOKEN_DIFFERS, None, "")),
        ({"hash_name": "sha256"}, (Reason.TOKEN_DIFFERS, None, "")),
        ({"user_id": ALICE.upper(), "device_id": "DEVICE-1"}, (None, ALICE, "device-1")),
        ({"user_id": BOB, "device_id": "device-1"}, (Reason.TOKEN_TAKEN, None, "")),
        # A device whose user is not told is not nobody's.
        ({"device_id": "device-1"}, (None, None, "")),
    ],
)
def test_what_the_inventory_shows_of_a_token_decides_whether_it_goes_and_on_which_device(
    site: Site, shown: dict[str, Any], ends: tuple[Reason | None, str | None, str]
) -> None:
    made = make(site, 1, user_id=ALICE)
    site.pingone.tokens = {serial(site, made): describe(serial(site, made), **shown)}
    finish(site)
    record = of(site, made)
    assert (record.reason, record.owner_id, record.device_id) == ends
    assert (record.is_device_made, record.is_token_made) == (False, False)
    if ends[0] == Reason.TOKEN_TAKEN:
        assert record.detail == f"{CURES[Reason.TOKEN_TAKEN]} It is the device of user {BOB}."


def test_what_the_inventory_does_not_tell_of_a_token_is_no_difference(database: MovingDatabase) -> None:
    totp = Seed(secret=HOTP.secret, otp_type="totp", time_step=30)
    assert find_difference(HOTP, InventoryToken("1")) is None
    assert find_difference(totp, InventoryToken("1", type="TOTP", time_step=60)) == "time step"
    assert find_difference(totp, InventoryToken("1", type="TOTP", time_step=30, hash_name="HmacSHA1")) is None


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


def test_a_device_that_the_file_named_and_that_is_gone_is_made(site: Site) -> None:
    made = make(site, 1, user_id=ALICE, device_id="device-1", pairing=PairingState.PAIRED, is_in_inventory=False)
    site.pingone.tokens = {serial(site, made): describe(serial(site, made))}
    finish(site)
    record = of(site, made)
    assert (record.device_id, record.pairing, record.owner_id) == ("", PairingState.UNSENT, NOBODY)


def test_a_device_that_another_record_has_is_left_to_the_pairing(site: Site) -> None:
    before = make_batch(site.database, 1, name="before", device_id="device-1")
    made = make(site, 2, user_id=ALICE)
    first, second = serial(site, made), serial(site, made, 1)
    site.pingone.tokens = {
        first: describe(first, user_id=ALICE, device_id="device-1"),
        second: describe(second),
    }
    finish(site)
    assert site.count(Record.batch_id == made.batch_id, Record.is_in_inventory) == 2
    assert [look(site.database, each).device_id for each in (made.ids[0], before.id)] == ["", "device-1"]


@pytest.mark.parametrize(
    ("instead", "seed", "ends"),
    [
        ([], HOTP, (False, Reason.TOKEN_NOT_IN_INVENTORY)),
        # The pairing will show whether it is there.
        ([FORBIDDEN], HOTP, (True, None)),
        ([], None, (False, Reason.TOKEN_NOT_IN_INVENTORY)),
    ],
    ids=["not permitted", "not readable", "no seed"],
)
def test_where_nothing_can_be_imported_what_is_not_there_is_given_up(
    site: Site, instead: list[Any], seed: Seed | None, ends: tuple[bool, Reason | None]
) -> None:
    site.pingone.instead["list"] = instead
    made = make(site, may_import=seed is None, seed=seed)
    finish(site)
    record = of(site, made)
    assert (record.is_in_inventory, record.reason, record.owner_id) == (*ends, None)
    assert (site.jobs(made), site.pingone.log) == ([], ["list"])


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
    go_on(site)
    assert site.count(Record.is_in_inventory) == 2
    assert not site.pingone.results, "what was there is imported"


def test_a_reading_of_a_time_to_come_is_not_believed_after_the_clock_was_set_back(site: Site) -> None:
    make(site)
    change(site, inventory_read_at=site.database.now(7200.0))
    with site.database.writing() as connection:
        preparation.restart_times(site.database, connection)
    finish(site)
    assert "list" in site.pingone.log


# Imports.


def test_a_job_is_written_down_before_its_request_goes_out_and_its_tokens_are_ours(site: Site) -> None:
    made, seen = make(site, 3), list[Any]()
    look_first(site, lambda name: seen.append((site.jobs(made), site.count(Record.import_job_id.is_not(None)))))
    finish(site)
    assert site.pingone.log == ["list", "import 3", "start", "answer", "job"]
    before = dict(zip(site.pingone.log, seen, strict=True))
    assert before["start"] == ([(Written.SENT, 3)], 3)
    assert before["job"] == ([(Written.RUNNING, 3)], 3)
    assert site.jobs(made) == [(Written.DONE, 3)]
    assert site.count(Record.is_in_inventory, Record.is_token_made, Record.owner_id == NOBODY) == 3


@dataclass(frozen=True)
class Import:
    """Tokens to import, in places from 0; what PingOne does with them; and how they end: whether each is in the
    inventory, whether it is ours, and why it was given up. `jobs` are the first of the jobs."""

    ends: list[tuple[bool, bool, Reason | None]]
    jobs: list[tuple[str, int]]
    most: int = 500
    bad: tuple[int, ...] = ()
    left_out: tuple[int, ...] = ()
    # What somebody else imports after the inventory was read.
    theirs: dict[int, dict[str, Any]] = field(default_factory=dict)
    instead: dict[str, Any] = field(default_factory=dict)


OURS, THEIRS = (True, True, None), (True, False, None)
REFUSED, DIFFERS = ((False, False, reason) for reason in (Reason.TOKEN_REFUSED, Reason.TOKEN_DIFFERS))
THERE = AlreadyImported(Answer(status=409, detail_code="UNIQUENESS_VIOLATION"))


def job(state: JobStatus = JobStatus.DONE, **told: Any) -> dict[str, ImportJob]:
    return {"job": ImportJob("job-1", state, OK, **told)}


IMPORTS = {
    "they are made": Import([OURS] * 3, [(Written.DONE, 3)]),
    "more than the setting's size": Import([OURS] * 4, [(Written.DONE, 3), (Written.DONE, 1)], most=3),
    "the first is refused": Import([REFUSED, *[OURS] * 6], [(Written.FAILED, 7), (Written.FAILED, 3)], bad=(0,)),
    "the last is refused": Import([*[OURS] * 6, REFUSED], [(Written.FAILED, 7), (Written.DONE, 3)], bad=(6,)),
    # They are given up once they stand alone.
    "left out without a word": Import(
        [OURS, REFUSED, OURS, REFUSED, OURS],
        [(Written.LOST, 5), (Written.FAILED, 2), (Written.FAILED, 1), (Written.FAILED, 1)],
        left_out=(1, 3),
    ),
    "the list is too long": Import(
        [OURS] * 4,
        [(Written.FAILED, 4), (Written.DONE, 2), (Written.DONE, 2)],
        instead={"start": TooManyTokens(Answer(status=413))},
    ),
    "the job failed": Import(
        [THEIRS] * 4, [(Written.FAILED, 4), (Written.DONE, 2)], instead=job(JobStatus.FAILED, reason="no room")
    ),
    "somebody imported two meanwhile": Import(
        [THEIRS, DIFFERS, OURS], [(Written.DONE, 3)], theirs={0: {}, 1: {"digits": 8}}
    ),
    # An import of before has made it, after its answer got lost; the list shows it later.
    "refused since it is there": Import([THEIRS], [(Written.LOST, 1)], theirs={0: {}}, instead={"start": THERE}),
    "refused since it is there, and not shown": Import([THEIRS], [(Written.LOST, 1)], instead={"start": THERE}),
    # Where the counts do not add up the inventory is read, and a duplicate that PingOne names is not ours.
    "fewer made": Import([OURS] * 2, [(Written.LOST, 2)], instead=job(created=1)),
    "no counts": Import([OURS] * 2, [(Written.LOST, 2)], instead=job()),
    "more made": Import([OURS] * 2, [(Written.LOST, 2)], instead=job(created=2, duplicates=("X1",))),
    "another's duplicate": Import([OURS] * 2, [(Written.LOST, 2)], instead=job(created=1, duplicates=("OTHER9",))),
    "none made": Import([THEIRS] * 2, [(Written.FAILED, 2)], instead=job(created=0)),
    "a duplicate in other letters": Import(
        [THEIRS, OURS, OURS], [(Written.LOST, 3)], instead=job(created=1, duplicates=("mADE001000000",))
    ),
}


@pytest.mark.parametrize("what", IMPORTS)
def test_what_comes_of_an_import_decides_which_tokens_are_ours_and_what_goes_next(
    database: MovingDatabase, keyring: Keyring, what: str
) -> None:
    case = IMPORTS[what]
    site = Site(database, keyring, most_tokens=case.most)
    made = make(site, len(case.ends))
    serials = [serial(site, made, place) for place in range(len(case.ends))]
    site.pingone.bad, site.pingone.left_out = ({serials[each] for each in those} for those in (case.bad, case.left_out))
    site.pingone.instead.update({name: [answer] for name, answer in case.instead.items()})
    theirs = {serials[place]: describe(serials[place], **fields) for place, fields in case.theirs.items()}
    look_first(site, lambda name: name == "start" and site.pingone.tokens.update(theirs))

    finish(site)

    records = [look(site.database, each) for each in made.ids]
    assert [(record.is_in_inventory, record.is_token_made, record.reason) for record in records] == case.ends
    assert site.jobs(made)[: len(case.jobs)] == case.jobs
    assert all("INVALID_DATA" in records[place].detail for place in case.bad)


@pytest.mark.parametrize("failure", [NotDelivered(), RateLimited(Answer(status=429)), SlotTooFar(9.0)])
def test_a_request_that_did_nothing_is_forgotten_and_goes_again(site: Site, failure: Exception) -> None:
    made = make(site, 2)
    site.pingone.instead["start"] = [failure]
    site.prepare()
    assert (site.jobs(made), site.count(Record.import_job_id.is_not(None))) == ([(Written.LOST, 2)], 0)
    go_on(site)
    assert site.jobs(made) == [(Written.LOST, 2), (Written.DONE, 2)]
    assert site.pingone.log.count("list") == 1, "nothing came of it, so nothing has to be looked for"


@pytest.mark.parametrize("call", ["answer", "start"])
def test_a_lost_answer_is_waited_for_from_when_the_request_went_out_and_what_came_of_it_is_ours(
    site: Site, call: str
) -> None:
    made = make(site, 2)
    # It waits to go out.
    waits = [ANSWER_WITHIN + 1]
    site.pingone.before_import = lambda: setattr(site.database, "ahead", site.database.ahead + sum(waits))
    site.pingone.instead[call] = [LOST]
    site.prepare()
    waits.clear()
    site.database.ahead += 6.0
    for _ in range(3):
        assert site.prepare()
    assert site.jobs(made) == [(Written.SENT, 2)], "it was taken for lost while its answer might come"

    go_on(site, ANSWER_WITHIN)
    # What made nothing goes again.
    assert site.jobs(made) == [(Written.LOST, 2)] + [(Written.DONE, 2)] * (call == "start")
    assert site.count(Record.is_in_inventory, Record.is_token_made, Record.owner_id == NOBODY) == 2


@pytest.mark.parametrize(
    ("shown", "is_made"),
    [
        ({"age": timedelta(minutes=4)}, True),
        ({"age": None}, True),
        ({"age": timedelta(hours=2)}, False),
        ({"age": timedelta(0)}, False),
        ({"user_id": ALICE, "device_id": "device-1"}, False),
    ],
    ids=["of then", "of unknown age", "older", "younger", "paired meanwhile"],
)
def test_what_is_older_or_younger_than_a_lost_import_or_somebodys_by_now_is_not_ours(
    site: Site, shown: dict[str, Any], is_made: bool
) -> None:
    """PingOne failed the job, or was done with it, while the batch was paused for the night."""
    made = make(site, 1, user_id=ALICE)
    site.pingone.instead["start"] = [LOST]
    site.prepare()
    site.pingone.tokens = {serial(site, made): describe(serial(site, made), **shown)}
    go_on(site, 200.0 if shown.get("age") == timedelta(minutes=4) else 16 * 3600.0)
    assert of(site, made).is_token_made is is_made
    assert of(site, made).device_id == shown.get("device_id", "")


def test_a_lost_job_keeps_the_time_of_its_request_when_nothing_ran_for_days(site: Site) -> None:
    """The worker died after its post. What somebody else imported meanwhile is not ours."""
    made = make(site)
    site.pingone.tokens = {serial(site, made): replace(describe(serial(site, made)), age=timedelta(hours=3))}
    job = note_job(site.database, made.batch_id, Written.SENT, sent_ago=172800.0)
    with site.database.writing() as connection:
        connection.execute(update(Record).values(import_job_id=job))
        preparation.restart_times(site.database, connection)
    # The request may have gone out a moment ago by another clock: it is not over yet.
    site.prepare()
    assert site.jobs(made) == [("sent", 1)]

    go_on(site, ANSWER_WITHIN + 1)
    record = of(site, made)
    assert (site.jobs(made), record.is_in_inventory, record.is_token_made) == ([("lost", 1)], True, False)


def test_a_duplicate_that_was_not_compared_does_not_become_ours_when_a_later_answer_gets_lost(site: Site) -> None:
    made = make(site, 2)
    here = serial(site, made)
    theirs = {here: describe(here)}
    look_first(site, lambda name: name == "start" and site.pingone.tokens.setdefault(here, theirs[here]))
    # The process dies before the duplicate is compared.
    site.pingone.instead["find_token"] = [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        site.prepare()
    site.pingone.instead["answer"] = [LOST]
    go_on(site)
    assert [look(site.database, each).is_token_made for each in made.ids] == [False, True]


@pytest.mark.parametrize("is_there", [True, False])
def test_a_duplicate_in_other_letters_is_found_and_one_that_cannot_be_read_is_left_to_its_pairing(
    site: Site, is_there: bool
) -> None:
    made = make(site, [{"serial_number": "MiXed01"}])
    site.pingone.instead["job"] = [ImportJob("job", JobStatus.DONE, OK, created=0, duplicates=("mIxED01",))]
    site.pingone.tokens = {"MiXed01": describe("mIxED01")} if is_there else {}
    site.pingone.create = lambda tokens: "job"  # type: ignore[method-assign]
    finish(site)
    record = of(site, made)
    assert (record.is_in_inventory, record.is_token_made) == (True, False)
    assert (record.owner_id, len(site.jobs(made))) == (NOBODY if is_there else None, 1)


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_job_that_never_ends_or_is_gone_is_asked_about_for_a_while_and_then_looked_for(
    site: Site, is_gone: bool
) -> None:
    made = make(site, 2)
    site.pingone.instead["job"] = [ImportJob("job-1", JobStatus.RUNNING, OK)] * 2
    site.prepare()
    assert (site.jobs(made), len(site.waited)) == ([(Written.RUNNING, 2)], 1)
    if is_gone:
        site.pingone.instead.clear()
        site.pingone.results.clear()
        site.prepare()
        assert site.jobs(made) == [(Written.RUNNING, 2)], "it may only not be seen everywhere yet"
    go_on(site, ANSWER_WITHIN + 1 if is_gone else LONGEST_JOB.total_seconds() + 1)
    assert site.jobs(made) == [(Written.LOST, 2)]
    assert site.count(Record.is_token_made) == 2


@pytest.mark.parametrize("is_clock_set_back", [False, True])
def test_jobs_that_are_all_refused_pause_the_batch_before_every_token_is_given_up_and_again_after_a_resume(
    site: Site, is_clock_set_back: bool
) -> None:
    made = make(site, 40)
    if is_clock_set_back:
        change(site, running_since=site.database.now(7200.0))
        with site.database.writing() as connection:
            hours.restart_times(site.database, connection)
    site.pingone.instead["job"] = [ImportJob("job", JobStatus.FAILED, Answer(), reason="no room")] * 100
    for times in (1, 2):
        for _ in range(20):
            site.prepare()
            site.database.ahead += 6.0
        assert state(site, made) == (BatchState.PAUSED, PauseReason.REFUSED)
        assert "no room" in look_at_batch(site.database, made.batch_id).detail
        assert site.count(Record.reason == Reason.TOKEN_REFUSED) == times * MOST_REFUSED
        resume(site)


# Failures.


UNREADABLE = OutcomeUnknown(Answer(status=200, correlation_id="3f0c", message="the pages of a list lead back"))
QUOTA = RateLimited(Answer(status=429, code="QUOTA_EXCEEDED"), 3600.0, datetime.now(UTC) + timedelta(hours=1))
FULL = InventoryFull(Answer(status=400, detail_code="LIMIT_EXCEEDED"))
BAD_REQUEST = Rejected(Answer(status=400, code="INVALID_REQUEST"))


@pytest.mark.parametrize(
    ("call", "failure", "times", "reason", "said"),
    [
        ("find username", FORBIDDEN, 1, PauseReason.PERMISSIONS, "may not read users"),
        ("find username", UNREADABLE, MOST_REFUSALS, PauseReason.REFUSED, "the pages of a list lead back"),
        ("list", FORBIDDEN, 1, PauseReason.PERMISSIONS, "PINGONE_IMPORT_CLIENT_ID"),
        ("list", CredentialsRefused(), 1, PauseReason.CREDENTIALS, ""),
        ("list", ProtocolFault(Answer(status=405)), 1, PauseReason.PROTOCOL, ""),
        ("list", QUOTA, 1, PauseReason.QUOTA, ""),
        ("list", UNAUTHORIZED, MOST_REFUSALS, PauseReason.CREDENTIALS, "PINGONE_CLIENT_SECRET"),
        ("list", NOT_FOUND, MOST_REFUSALS, PauseReason.REFUSED, "NOT_FOUND"),
        ("list", BAD_REQUEST, MOST_REFUSALS, PauseReason.REFUSED, "INVALID_REQUEST"),
        ("start", FORBIDDEN, 1, PauseReason.PERMISSIONS, ""),
        ("start", FULL, 1, PauseReason.REFUSED, "LIMIT_EXCEEDED"),
    ],
)
def test_what_only_a_person_can_mend_pauses_the_batch_with_the_cure_and_leaves_its_tokens_free(
    site: Site, call: str, failure: Exception, times: int, reason: PauseReason, said: str
) -> None:
    site.pingone.people = [User(ALICE, username="person0")]
    site.pingone.instead[call] = [failure] * times
    made = make(site, people(1, is_in_inventory=call == "find username"))
    for _ in range(times):
        assert state(site, made) == RUNNING
        site.prepare()
        site.database.ahead += 6.0
    batch = look_at_batch(site.database, made.batch_id)
    assert (batch.state, batch.reason, said in batch.detail) == (BatchState.PAUSED, reason, True)
    assert (batch.resumes_at is not None) == (reason == PauseReason.QUOTA)
    assert site.count(Record.import_job_id.is_not(None)) == 0
    assert of(site, made).status == Status.PENDING

    resume(site)
    finish(site)
    assert site.count(Record.is_in_inventory, Record.user_id == ALICE) == 1


@pytest.mark.parametrize(
    "refused",
    [
        {"list": [UNAUTHORIZED] * (MOST_REFUSALS - 1), "start": [UNAUTHORIZED] * (MOST_REFUSALS - 1)},
        {"list": [UNAUTHORIZED, NOT_FOUND] * (MOST_REFUSALS - 1)},
        {name: [UNAUTHORIZED] * (MOST_REFUSALS - 1) for name in ("find username", "list")},
    ],
    ids=["not in a row", "of two kinds", "of two parts"],
)
def test_refusals_are_not_added_up(site: Site, refused: dict[str, list[Exception]]) -> None:
    site.pingone.people = [User(ALICE, username="person0")]
    site.pingone.instead.update(refused)
    made = make(site, people(1))
    finish(site)
    assert (state(site, made), of(site, made).is_token_made) == (RUNNING, True)


def test_refused_credentials_take_only_this_process_out_of_work_where_another_is_well(site: Site) -> None:
    site.is_spared = True
    site.pingone.instead["list"] = [CredentialsRefused()]
    made = make(site)
    site.prepare()
    assert [sickness.reason for sickness in site.sick] == [PauseReason.CREDENTIALS]
    assert state(site, made) == RUNNING


@pytest.mark.parametrize("failures", [[CredentialsRefused()], [UNAUTHORIZED] * MOST_REFUSALS])
def test_refused_credentials_of_the_other_application_pause_the_batch_and_are_named(
    database: MovingDatabase, keyring: Keyring, failures: list[Exception]
) -> None:
    site = Site(database, keyring, environment=make_environment(**IMPORTER), is_spared=True)
    site.pingone.instead["list"] = list(failures)
    made = make(site)
    for _ in failures:
        site.prepare()
        database.ahead += 6.0
    assert state(site, made) == (BatchState.PAUSED, PauseReason.CREDENTIALS)
    assert "PINGONE_IMPORT_CLIENT_SECRET" in look_at_batch(database, made.batch_id).detail
    assert site.sick == []


@pytest.mark.parametrize("is_key_lost", [True, False])
def test_a_failure_of_our_own_pauses_the_batch(site: Site, is_key_lost: bool) -> None:
    made = make(site)
    if is_key_lost:
        site.keyring = Keyring([generate_key()])
    else:
        site.pingone.instead["list"] = [ValueError("a fault of ours")]
    with pytest.raises(Exception, match=r"key|decrypt|a fault of ours"):
        site.prepare()
    assert state(site, made) == (BatchState.PAUSED, PauseReason.INTERNAL)


@pytest.mark.parametrize("failure", [LOST, NotDelivered(), RateLimited(Answer(status=429)), SlotTooFar(60.0)])
def test_what_time_mends_is_tried_again_some_seconds_later(site: Site, failure: Exception) -> None:
    site.pingone.instead["list"] = [failure]
    made = make(site)
    assert site.prepare()
    assert not site.prepare(), "it was tried again at once"
    assert state(site, made) == RUNNING
    go_on(site)
    assert of(site, made).is_in_inventory


def test_one_part_goes_on_while_the_other_waits_after_a_failure(site: Site) -> None:
    site.pingone.people = [User(ALICE, username="person0")]
    site.pingone.instead["list"] = [LOST] * 9
    made = make(site, people(1))
    site.prepare()
    assert of(site, made).user_id == ALICE
    site.database.ahead += 6.0
    site.pingone.instead.update({"list": [], "find username": [LOST]})
    other = make(site, [{"user_id": "", "username": "alice"}, {}], name="other")
    site.prepare()
    site.prepare()
    assert look(site.database, other.ids[1]).is_token_made


def test_a_part_that_had_to_wait_goes_on_in_the_same_turn(site: Site) -> None:
    site.pingone.people = [User(f"{ALICE[:-3]}{number:03}", username=f"person{number}") for number in range(400)]
    site.pingone.instead["list"] = [SlotTooFar(0.001)]
    make(site, people(400))
    site.prepare()
    assert site.pingone.log.count("list") == 2
    assert site.pingone.log.index("list") < site.pingone.log.index("find username 40", 5)


def test_while_people_wait_after_a_failure_nothing_turns_in_a_circle(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(site, people(1), may_import=False)
    site.pingone.instead["find username"] = [LOST] * 9
    renewals, check = list[int](), Turns.renew

    def counted(turns: Turns, batch_id: int) -> bool:
        renewals.append(batch_id)
        assert len(renewals) < 10, "it turns in a circle"
        return check(turns, batch_id)

    monkeypatch.setattr(Turns, "renew", counted)
    site.prepare()


# Turns, and what is held back.


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
    # Or when all turns are ended, which are then lost to whoever had them.
    first.end_all()
    assert not second.renew(made.batch_id)
    assert first.begin() is not None


def test_the_batch_that_has_waited_longest_has_its_turn_and_a_run_of_one_prepares_no_other(site: Site) -> None:
    one, two = make(site), make(site, name="second")
    turns, order = Turns(site.database), list[int]()
    for _ in range(4):
        taken = turns.begin()
        assert taken is not None
        order.append(taken.batch_id)
        turns.end(taken.batch_id, 0.0)
        site.database.ahead += 1.0
    assert order == [one.batch_id, two.batch_id] * 2
    only = Turns(site.database, two.batch_id)
    taken = only.begin()
    assert taken is not None
    assert (taken.batch_id, only.begin()) == (two.batch_id, None)


@pytest.mark.parametrize(
    "batch", [{"state": BatchState.PAUSED}, {"state": BatchState.CANCELLED}, {"closes_at": -1.0}, {"closes_at": 10.0}]
)
def test_a_batch_that_does_not_run_is_not_prepared_and_no_import_begins_that_would_outlast_its_hours(
    site: Site, batch: dict[str, Any]
) -> None:
    made = make(site)
    change(site, **{name: site.database.now(value) if name == "closes_at" else value for name, value in batch.items()})
    assert site.prepare() == (batch.get("closes_at") == 10.0)
    assert site.jobs(made) == []


@pytest.mark.parametrize("is_paused", [True, False])
def test_a_batch_that_is_paused_or_closed_meanwhile_is_left_alone_after_the_call_at_hand(
    site: Site, is_paused: bool
) -> None:
    made = make(site, 2)
    change(site, closes_at=site.database.now(30.0))

    def stop() -> None:
        change(site, state=BatchState.PAUSED) if is_paused else setattr(site.database, "ahead", 31.0)

    site.on_renew = stop
    site.prepare()
    assert (site.pingone.log, site.jobs(made)) == (["list"], [])
    assert look_at_batch(site.database, made.batch_id).inventory_read_at is None


@pytest.mark.parametrize("held", ["canary", "trial"])
@pytest.mark.parametrize("is_known", [True, False])
def test_beyond_a_canary_or_a_trial_nothing_is_looked_up_imported_or_given_up(
    site: Site, held: str, is_known: bool
) -> None:
    site.pingone.people = [User(f"{ALICE[:-2]}{number:02}", username=f"person{number}") for number in range(6)]
    made = make(site, 6 if is_known else people(6))
    change(site, **{held: 2})
    finish(site)
    records = [look(site.database, each) for each in made.ids]
    assert [record.is_token_made for record in records] == [True, True, False, False, False, False]
    assert is_known or [bool(record.user_id) for record in records] == [True, True, False, False, False, False]
    assert site.count(Record.status == Status.PENDING) == 6

    change(site, **{held: None})
    finish(site)
    assert site.count(Record.is_token_made) == 6


def test_beyond_a_canary_a_token_that_differs_or_is_not_there_is_given_up_only_when_it_goes(site: Site) -> None:
    made = make(site, 4, may_import=False)
    serials = [serial(site, made, place) for place in range(3)]
    site.pingone.tokens = {each: describe(each, digits=8) for each in serials}
    change(site, canary=1)
    finish(site)
    given_up = [Status.DEAD_LETTER, *[Status.PENDING] * 3]
    assert [look(site.database, each).status for each in made.ids] == given_up

    site.database.ahead += 1.0
    change(site, state=BatchState.PAUSED, reason=PauseReason.CANARY)
    Batches(site.database, TESTER).resume(made.name)
    finish(site)
    reasons = [look(site.database, each).reason for each in made.ids]
    assert reasons == [*[Reason.TOKEN_DIFFERS] * 3, Reason.TOKEN_NOT_IN_INVENTORY]


# How fast it is prepared.

LACKS_USER = {"user_id": "", "is_in_inventory": False, "email": "ada@example.com", "device_id": ""}
LACKS_TOKEN = LACKS_USER | {"user_id": "u1"}
PREPARED = LACKS_TOKEN | {"is_in_inventory": True}


def read(site: Site) -> BatchStatus:
    (status,) = read_statuses(site.database)
    return status


def test_the_tokens_of_the_jobs_that_have_ended_since_a_pause_give_the_pace(site: Site) -> None:
    made = make_batch(site.database, [LACKS_TOKEN] * 3)
    change(site, may_import=True)
    for size, job in ((500, Written.DONE), (300, Written.DONE), (9000, Written.RUNNING)):
        note_job(site.database, made.batch_id, job, size)
    site.database.ahead = 80.0

    status = read(site)
    assert (status.waiting, status.may_import) == ({"user": 0, "token": 3}, True)
    assert 9.0 < status.preparation_pace <= 10.0
    change(site, running_since=site.database.read_clock())
    assert read(site).preparation_pace == 0.0


def test_without_imports_the_persons_found_since_the_load_give_the_pace(site: Site) -> None:
    make_batch(site.database, [LACKS_USER] * 5 + [PREPARED] * 20)
    site.database.ahead = 10.0
    assert 1.5 < read(site).preparation_pace <= 2.0
    # Nobody has prepared it since; now a worker has it, until then.
    assert 9.0 < (read(site).unprepared_for or 0.0) < 60.0
    change(site, prepared_until=site.database.read_clock() + timedelta(seconds=180))
    assert read(site).unprepared_for == 0.0

    # When persons were found is not written down, so after a pause that is no measure.
    change(site, running_since=site.database.read_clock() - timedelta(seconds=1))
    assert read(site).preparation_pace == 0.0
    change(site, state=BatchState.PAUSED, reason="person", detail="A person paused it.")
    assert read(site).unprepared_for is None


@pytest.mark.parametrize("lacking", [[], [LACKS_USER]])
def test_what_is_prepared_and_records_that_their_preparation_gave_up_give_no_pace(
    site: Site, lacking: list[dict[str, Any]]
) -> None:
    given_up = {"status": Status.DEAD_LETTER, "reason": Reason.USER_NOT_FOUND}
    finalized = {"finalized_at": site.database.read_clock()}
    make_batch(site.database, [LACKS_USER | given_up | finalized] * (FEWEST_SETTLED * 10) + [PREPARED] + lacking)
    site.database.ahead = 2.0

    status = read(site)

    assert (status.pace, status.eta_seconds) == (0.0, None)
    assert lacking or (status.preparation_pace, status.unprepared_for) == (0.0, None)
