"""The preparation of a batch, with a PingOne in memory: people are looked up, the inventory is compared, tokens are
imported, every job is written down before its request goes out, and whatever fails pauses the batch or passes; and
PingOne out of reach meanwhile."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update
from support.data.batches import TESTER, Made, enqueue, look, look_at_batch, make_batch, make_environment, note_job
from support.data.moving_clock import ON_SQLITE, MovingDatabase
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
from support.fleets.scripted_fleet import ScriptedFleet

from models.batch import Batch, BatchState
from models.encrypted import Keyring, generate_key
from models.inventory_job import JobState as Written
from models.reason import CURES, OUTAGE_CURE, PauseReason, Reason, find_cure
from models.record import Record
from models.record_states import NOBODY, OtpState, PairingState, Status
from worker.batches import hours, preparation
from worker.batches.commands import Batches, distrust_all
from worker.batches.imports import LONGEST_JOB, MOST_REFUSED, Tokens, find_difference
from worker.batches.long_list import Turns
from worker.batches.mending import give
from worker.batches.preparation import MOST_REFUSALS
from worker.cli.exit_codes import ALL_ACTIVE, STALLED
from worker.cli.status import choose_check_code
from worker.config.settings import Settings, Tuning
from worker.leases import moves
from worker.leases.lease import Leases
from worker.pace.search import SlotTooFar
from worker.pingone.devices import Device, Pairing, User
from worker.pingone.errors import (
    AlreadyImported,
    Answer,
    CredentialsRefused,
    InventoryFull,
    NotDelivered,
    NotFound,
    OutcomeUnknown,
    PingOneError,
    ProtocolFault,
    RateLimited,
    Rejected,
    TooLateToSend,
    TooManyTokens,
    Unauthorized,
)
from worker.pingone.inventory import ImportJob, InventoryToken, JobStatus
from worker.reports.facts import BatchStatus, read_statuses
from worker.rules import decisions
from worker.rules.breaker import FIRST_PROBE
from worker.rules.steps import Active, FindDevice, Limits, ReadDevice
from worker.vault.otps import Seed

# The statements differ in nothing between the databases.
pytestmark = ON_SQLITE

TOTP = Seed(secret=HOTP.secret, otp_type="totp", time_step=30)
RUNNING = (BatchState.RUNNING, None)
OUTAGE = (BatchState.PAUSED, PauseReason.OUTAGE)
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
    site.database.change(update(Batch).values(values))


def resume(site: Site) -> None:
    change(site, state=BatchState.RUNNING, reason=None, running_since=site.database.now())
    site.database.ahead += 6.0


def go_on(site: Site, after: float = 6.0) -> None:
    """Finish after so many seconds, when what failed may be tried again."""
    site.database.ahead += after
    finish(site)


def restart_times(site: Site, restart: Callable[..., object] = preparation.restart_times) -> None:
    """As where the clock was set."""
    with site.database.writing() as connection:
        restart(site.database, connection)


def look_first(site: Site, act: Callable[[str], object]) -> None:
    """Do this before each call, whose name it is told."""
    do = site.pingone.do

    def act_and_do(name: str, *rest: Any) -> None:
        act(name)
        do(name, *rest)

    site.pingone.do = act_and_do  # type: ignore[method-assign]


# People.


def gives_up(reason: Reason, more: str = "") -> tuple[str, Reason, str]:
    """How a record ends whose person was not found; it has a seed."""
    return "", reason, find_cure(reason, has_seed=True) + more


SEVEN = [str(uuid.UUID(int=number)) for number in range(7)]


@pytest.mark.parametrize(
    ("call", "names", "users", "ends"),
    [
        (
            "find username 1",
            [{"username": "ALICE"}] * 2,
            [User(ALICE.upper(), username="Alice")],
            [(ALICE, None, None)] * 2,
        ),
        (
            "find email 1",
            [{"email": "alice@x.test"}] * 2,
            [User(ALICE, email="alice@x.test")],
            [(ALICE, None, None)] * 2,
        ),
        (
            "find externalId 1",
            [{"external_id": "E-17"}] * 2,
            [User(ALICE, external_id="E-17")],
            [(ALICE, None, None)] * 2,
        ),
        # The first name that a row has counts.
        (
            "find username 1",
            [{"username": "alice", "email": "bob@x.test"}],
            [User(ALICE, username="alice")],
            [(ALICE, None, None)],
        ),
        # With other letters it is another person, though both are asked for at once.
        (
            "find username 2",
            [{"username": "weiß"}, {"username": "weiss"}],
            [User(ALICE, username="weiß")],
            [(ALICE, None, None), gives_up(Reason.USER_NOT_FOUND)],
        ),
        # Who can get no token is given up with what PingOne shows of them.
        ("find username 1", [{"username": "alice"}], [], [gives_up(Reason.USER_NOT_FOUND)]),
        (
            "find username 1",
            [{"username": "alice"}],
            [User(ALICE, username="alice"), User(BOB.upper(), username="Alice")],
            [gives_up(Reason.USER_AMBIGUOUS, f" The matching users are {ALICE}, {BOB}.")],
        ),
        (
            "find username 1",
            [{"username": "alice"}],
            [User(each, username="alice") for each in SEVEN],
            [gives_up(Reason.USER_AMBIGUOUS, f" The matching users are {', '.join(SEVEN[:5])} and 2 more.")],
        ),
        (
            "find username 1",
            [{"username": "alice"}],
            [User(ALICE, username="alice", is_enabled=False, is_locked=True)],
            [gives_up(Reason.ACCOUNT_NOT_USABLE, " The account is disabled and locked.")],
        ),
        (
            "find username 1",
            [{"username": "alice"}],
            [User(ALICE, username="alice", can_authenticate=False)],
            [gives_up(Reason.ACCOUNT_NOT_USABLE, " PingOne does not allow the account to authenticate.")],
        ),
    ],
)
def test_a_person_is_found_by_each_kind_of_name_in_whatever_case_and_asked_for_once_or_given_up_with_the_cause(
    site: Site,
    call: str,
    names: list[dict[str, str]],
    users: list[User],
    ends: list[tuple[str, Reason | None, str | None]],
) -> None:
    site.pingone.people = [User(BOB, username="bob", email="bob@x.test", external_id="E-18"), *users]
    made = make(site, [{"user_id": "", "is_in_inventory": True} | each for each in names])
    finish(site)
    records = [look(site.database, each) for each in made.ids]
    assert [(record.user_id, record.reason, record.detail) for record in records] == ends
    assert [record.status == Status.DEAD_LETTER for record in records] == [reason is not None for _, reason, _ in ends]
    assert site.pingone.log == [call]


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
    assert (state(site, made), site.count(Record.reason == Reason.USER_NOT_FOUND)) == (RUNNING, count - bool(found))


# The inventory.


@pytest.mark.parametrize(
    ("brought", "shown", "ends"),
    [
        ({}, {}, (None, NOBODY, "")),
        # A device that the file named and that is gone is made.
        ({"device_id": "device-1", "pairing": PairingState.PAIRED}, {}, (None, NOBODY, "")),
        ({}, {"type": "TOTP"}, (Reason.TOKEN_DIFFERS, None, "")),
        ({}, {"digits": 8}, (Reason.TOKEN_DIFFERS, None, "")),
        ({}, {"hash_name": "sha256"}, (Reason.TOKEN_DIFFERS, None, "")),
        ({}, {"user_id": ALICE.upper(), "device_id": "DEVICE-1"}, (None, ALICE, "device-1")),
        # Another device than the file named may be ACTIVE, and is read before an OTP goes.
        (
            {"device_id": "device-1", "pairing": PairingState.PAIRED},
            {"user_id": ALICE, "device_id": "device-2"},
            (None, ALICE, "device-2"),
        ),
        ({}, {"user_id": BOB, "device_id": "device-1"}, (Reason.TOKEN_TAKEN, None, "")),
        # A device whose user is not told is not nobody's.
        ({}, {"device_id": "device-1"}, (None, None, "")),
    ],
)
def test_what_the_inventory_shows_of_a_token_decides_whether_it_goes_and_on_which_device(
    site: Site, brought: dict[str, Any], shown: dict[str, Any], ends: tuple[Reason | None, str | None, str]
) -> None:
    made = make(site, 1, **{"user_id": ALICE} | brought)
    site.pingone.tokens = {serial(site, made): describe(serial(site, made), **shown)}
    finish(site)
    record = of(site, made)
    assert (record.reason, record.owner_id, record.device_id) == ends
    assert (record.pairing, record.is_in_inventory) == (PairingState.UNSENT, ends[0] is None)
    assert (record.is_device_made, record.is_token_made, site.pingone.log) == (False, False, ["list"])


@pytest.mark.parametrize(
    ("seed", "token", "difference"),
    [
        (HOTP, InventoryToken("1"), None),
        (TOTP, InventoryToken("1", type="TOTP", time_step=60), "time step"),
        (TOTP, InventoryToken("1", type="TOTP", time_step=30, hash_name="HmacSHA1"), None),
    ],
)
def test_what_the_inventory_does_not_tell_of_a_token_is_no_difference(
    seed: Seed, token: InventoryToken, difference: str | None, database_url: str
) -> None:
    assert find_difference(seed, token) == difference


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
    told = reason and f"{CURES[reason]} The device belongs to user {BOB}."
    assert (of(site, made).reason, of(site, made).detail) == (reason, told)


@pytest.mark.parametrize("is_looked_up", [True, False])
@pytest.mark.parametrize(("age", "is_made"), [(timedelta(minutes=30), True), (timedelta(hours=2), False)])
def test_after_a_restore_a_device_that_is_younger_than_the_batch_is_the_batch_s_although_the_backup_had_not_looked(
    site: Site, age: timedelta, is_made: bool, is_looked_up: bool
) -> None:
    """The backup was made before the inventory was read, and then the batch imported and paired everything. A mend that
    was typed again has let the batch run anew."""
    made = make(site, 1, user_id=ALICE if is_looked_up else "", username="alice")
    site.database.change(update(Batch).values(may_pair=True))
    site.database.ahead += 3600
    site.database.change(update(Batch).values(running_since=site.database.now()))
    distrust_all(site.database, Settings(), TESTER)
    site.pingone.people = [User(ALICE, username="alice")]
    site.pingone.tokens = {
        serial(site, made): describe(serial(site, made), user_id=ALICE, device_id="device-1", age=age)
    }
    finish(site)

    site.database.ahead += 100
    enqueue(site.database, made)
    progress = Leases(site.database).claim(made.id, of(site, made).environment_id).progress
    assert decisions.choose_first_step(progress, Limits())[1] == FindDevice()
    found, step = decisions.decide_after_search(progress, Pairing("device-1", ALICE), ALICE, Limits())
    active = Device("ACTIVE", is_locked=False, is_blocked=False, answer=OK, age=age)
    ended, decision = decisions.decide_after_read(found, active, Limits())
    assert (step, decision) == (ReadDevice(), Active())
    assert (ended.pairing.is_made, ended.pairing.device_id) == (is_made, "device-1")


def test_a_device_that_another_record_has_is_left_to_the_pairing(site: Site) -> None:
    before = make_batch(site.database, 1, name="before", device_id="device-1")
    made = make(site, 2, user_id=ALICE)
    first, second = serial(site, made), serial(site, made, 1)
    theirs = describe(first, user_id=ALICE, device_id="device-1")
    site.pingone.tokens = {first: theirs, second: describe(second)}
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


def test_after_a_restore_a_token_that_is_not_there_is_given_up_only_once_its_device_was_looked_for(site: Site) -> None:
    """Its batch may pair, and not import: a request to pair may have gone out since the backup."""
    made = make(site, may_import=False)
    distrust_all(site.database, Settings(), TESTER)
    site.prepare()
    assert (of(site, made).status, site.pingone.log) == (Status.PENDING, ["list"])
    looked_for = {"pairing": PairingState.UNSENT, "otp1_state": OtpState.UNSENT, "otp2_state": OtpState.UNSENT}
    site.database.change(update(Record).values(looked_for))
    finish(site)
    assert of(site, made).reason == Reason.TOKEN_NOT_IN_INVENTORY


def test_the_token_of_a_record_that_is_in_work_meanwhile_is_found_too(site: Site) -> None:
    """As after a restore, which lets each device be looked for at once."""
    made = make(site, 2)
    site.pingone.tokens = {serial(site, made, number): describe(serial(site, made, number)) for number in range(2)}
    in_work = update(Record).where(Record.id == made.ids[1])
    site.database.change(in_work.values(pairing=PairingState.SENT, user_id=ALICE))
    assert enqueue(site.database, made) == [made.ids[1]]
    finish(site)
    record = look(site.database, made.ids[1])
    assert (record.status, record.is_in_inventory, record.owner_id) == (Status.QUEUED, True, None)


def test_a_list_that_breaks_off_counts_for_what_came_and_is_read_again(site: Site) -> None:
    made = make(site, 2)
    site.pingone.page_size = 1
    site.pingone.tokens = {serial(site, made, number): describe(serial(site, made, number)) for number in range(2)}
    # The second page is lost, once.
    answers = iter([[LOST]])
    site.on_renew = lambda: site.pingone.instead.update(list=next(answers, []))
    site.prepare()
    batch = look_at_batch(site.database, made.batch_id)
    assert (site.count(Record.is_in_inventory), batch.inventory_read_at) == (1, None)
    go_on(site)
    assert site.count(Record.is_in_inventory) == 2
    assert not site.pingone.results, "what was there is imported"


def test_a_reading_of_a_time_to_come_is_not_believed_after_the_clock_was_set_back(site: Site) -> None:
    make(site)
    change(site, inventory_read_at=site.database.now(7200.0))
    restart_times(site)
    finish(site)
    assert "list" in site.pingone.log


# Imports.


def test_a_job_is_written_down_before_its_request_goes_out_and_its_tokens_are_ours(site: Site) -> None:
    made, seen = make(site, 3), list[Any]()
    look_first(site, lambda name: seen.append((site.jobs(made), site.count(Record.import_job_id.is_not(None)))))
    finish(site)
    assert site.pingone.log == ["list", "import 3", "start", "answer", "job"]
    before = dict(zip(site.pingone.log, seen, strict=True))
    assert (before["start"], before["job"]) == (([(Written.SENT, 3)], 3), ([(Written.RUNNING, 3)], 3))
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
    note_job(site.database, made, Written.SENT, made.id, sent_ago=172800.0)
    restart_times(site)
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

    def create(_: object) -> str:
        # The list shows it later than PingOne knows it.
        site.pingone.tokens = {"MiXed01": describe("mIxED01")} if is_there else {}
        return "job"

    site.pingone.create = create  # type: ignore[method-assign]
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
    assert (site.jobs(made), site.count(Record.is_token_made)) == ([(Written.LOST, 2)], 2)


@pytest.mark.parametrize("is_clock_set_back", [False, True])
def test_jobs_that_are_all_refused_pause_the_batch_before_every_token_is_given_up_and_again_after_a_resume(
    site: Site, is_clock_set_back: bool
) -> None:
    made = make(site, 40)
    if is_clock_set_back:
        change(site, running_since=site.database.now(7200.0))
        restart_times(site, hours.restart_times)
    site.pingone.instead["job"] = [ImportJob("job", JobStatus.FAILED, Answer(), reason="no room")] * 100
    for times in (1, 2):
        for _ in range(20):
            site.prepare()
            site.database.ahead += 6.0
        batch = look_at_batch(site.database, made.batch_id)
        assert (batch.state, batch.reason, "no room" in batch.detail) == (BatchState.PAUSED, PauseReason.REFUSED, True)
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
        ("find username", FORBIDDEN, 1, PauseReason.PERMISSIONS, "is not allowed to read users"),
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
    assert (site.count(Record.import_job_id.is_not(None)), of(site, made).status) == (0, Status.PENDING)

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


@pytest.mark.parametrize(
    ("application", "failures", "sick", "ends"),
    [
        ({}, [CredentialsRefused()], [PauseReason.CREDENTIALS], RUNNING),
        # Those of the other application are the same in every process.
        (IMPORTER, [CredentialsRefused()], [], (BatchState.PAUSED, PauseReason.CREDENTIALS)),
        (IMPORTER, [UNAUTHORIZED] * MOST_REFUSALS, [], (BatchState.PAUSED, PauseReason.CREDENTIALS)),
    ],
)
def test_refused_credentials_take_only_this_process_out_of_work_where_another_is_well(
    database: MovingDatabase,
    keyring: Keyring,
    application: dict[str, str],
    failures: list[Exception],
    sick: list[PauseReason],
    ends: tuple[str, str | None],
) -> None:
    site = Site(database, keyring, environment=make_environment(**application), is_spared=True)
    site.pingone.instead["list"] = list(failures)
    made = make(site)
    for _ in failures:
        site.prepare()
        database.ahead += 6.0
    assert (state(site, made), [sickness.reason for sickness in site.sick]) == (ends, sick)
    assert sick or "PINGONE_IMPORT_CLIENT_SECRET" in look_at_batch(database, made.batch_id).detail


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
    assert [site.prepare(), site.prepare()] == [True, False], "it was tried again at once"
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


# Turns, and what is held back.


def test_nothing_is_done_where_nothing_is_lacking(site: Site) -> None:
    make_batch(site.database, 3)
    assert (site.prepare(), site.pingone.log) == (False, [])


def take(turns: Turns) -> int | None:
    """Take the next turn; the batch whose it is."""
    taken = turns.begin()
    return taken and taken.batch_id


def test_one_worker_prepares_a_batch_at_a_time_and_another_goes_on_a_minute_after_it_died(site: Site) -> None:
    made = make(site)
    first, second = Turns(site.database), Turns(site.database)
    assert [take(first), take(second)] == [made.batch_id, None]
    site.database.ahead += 61.0
    assert take(second) == made.batch_id
    # Or when all turns are ended, which are then lost to whoever had them.
    first.end_all()
    assert (second.renew(made.batch_id), take(first)) == (False, made.batch_id)


def test_the_batch_that_has_waited_longest_has_its_turn_and_a_run_of_one_prepares_no_other(site: Site) -> None:
    one, two = make(site), make(site, name="second")
    turns = Turns(site.database)
    for expected in [one.batch_id, two.batch_id] * 2:
        assert take(turns) == expected
        turns.end(expected, 0.0)
        site.database.ahead += 1.0
    only = Turns(site.database, two.batch_id)
    assert [take(only), take(only)] == [two.batch_id, None]


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
    pause, close = lambda: change(site, state=BatchState.PAUSED), lambda: setattr(site.database, "ahead", 31.0)
    site.on_renew = pause if is_paused else close
    site.prepare()
    inventory_read_at = look_at_batch(site.database, made.batch_id).inventory_read_at
    assert (site.pingone.log, site.jobs(made), inventory_read_at) == (["list"], [], None)


def give_out(site: Site, made: Made, number: int, **names: str) -> None:
    """Somebody who stands at the table gets the token."""
    with site.database.changing_many() as connection:
        assert moves.give_out(connection, made.batch_id, {made.ids[number]: names}) == 1


def test_what_is_given_out_is_looked_up_and_imported_before_all_others_by_whatever_name(site: Site) -> None:
    made = make(site, [*people(41), *[{"user_id": ""}] * 2])
    site.pingone.people = [User(ALICE, email="ada@example.com"), User(BOB, username="person0")]
    site.most_tokens = 1
    give_out(site, made, 42, email="ada@example.com")
    imported: list[int] = []
    site.pingone.before_import = lambda: imported.extend(
        number for number, each in enumerate(made.ids) if look(site.database, each).import_job_id
    )
    site.prepare()
    assert [call for call in site.pingone.log if "find" in call][:2] == ["find email 1", "find username 40"]
    assert imported[0] == 42


def test_who_gets_a_token_while_the_inventory_is_read_is_looked_up_before_its_next_page(site: Site) -> None:
    made = make(site, [{"user_id": ""}] * 2)
    site.pingone.page_size = 1
    site.pingone.tokens = {serial(site, made, number): describe(serial(site, made, number)) for number in range(2)}
    site.pingone.people = [User(ALICE, email="ada@example.com")]
    given = iter([lambda: give(site.database, TESTER, "shipment", serial(site, made, 1), "ada@example.com")])
    site.on_renew = lambda: next(given, lambda: None)()
    site.prepare()
    assert site.pingone.log == ["list", "find email 1", "list"]
    assert look(site.database, made.ids[1]).user_id == ALICE
    assert look_at_batch(site.database, made.batch_id).inventory_read_at


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
    done = [True, True, False, False, False, False]
    assert [(record.is_token_made, is_known or bool(record.user_id)) for record in records] == [
        (each, is_known or each) for each in done
    ]
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


# PingOne out of reach: what counts as an outage.

# Every way in which PingOne is not there.
NOT_THERE = [
    NotDelivered(Answer(message="ConnectError: [Errno 111] Connection refused")),
    OutcomeUnknown(Answer(message="ReadTimeout: timed out")),
    OutcomeUnknown(Answer(status=404)),
    OutcomeUnknown(Answer(status=403)),
    OutcomeUnknown(Answer(status=502)),
    OutcomeUnknown(Answer(status=500, code="UNEXPECTED_ERROR", correlation_id="3f0c")),
]
PREPARED = {"device_id": "device-1", "is_in_inventory": True}


def make_people(site: Site, count: int = 1) -> Made:
    """A batch of which only people are to be looked up, whom PingOne has."""
    site.pingone.people = [User(f"{ALICE[:-3]}{number:03}", username=f"person{number}") for number in range(count)]
    made = make(site, people(count, is_in_inventory=True))
    change(site, inventory_read_at=site.database.now())
    return made


def lose(site: Site, *names: str, failure: PingOneError = NOT_THERE[0], times: int = 99) -> None:
    """Let PingOne answer none of the calls of these names."""
    site.pingone.instead.update({name: [failure] * times for name in names})


def prepare_again(site: Site, times: int) -> None:
    """So many turns, with some seconds between two of them."""
    for _ in range(times):
        site.prepare()
        site.database.ahead += 6.0


@pytest.mark.parametrize(
    ("call", "failure"),
    [
        *(("find username", failure) for failure in NOT_THERE),
        *((call, NOT_THERE[0]) for call in ("list", "start")),
    ],
    ids=str,
)
def test_calls_in_a_row_that_get_no_answer_are_an_outage_whatever_calls_they_are(
    site: Site, call: str, failure: PingOneError
) -> None:
    made = make_people(site) if call == "find username" else make(site)
    # An import whose answer got lost is not sent again before the inventory was read.
    lose(site, call, *(["list"] if call == "start" else []), failure=failure)
    prepare_again(site, MOST_REFUSALS - 1)
    assert state(site, made) == RUNNING
    site.prepare()
    assert state(site, made) == OUTAGE
    detail = look_at_batch(site.database, made.batch_id).detail
    assert detail == f"The last call ended with: {failure}. {OUTAGE_CURE}"


@pytest.mark.parametrize(
    "failure",
    [
        NotFound(Answer(status=404, code="NOT_FOUND", correlation_id="3f0c")),
        UNREADABLE,
        OutcomeUnknown(Answer(status=408, correlation_id="3f0c")),
        SlotTooFar(1.0),
        TooLateToSend(),
    ],
    ids=["refused", "unreadable", "time-out of PingOne's own", "no slot", "too late to send"],
)
def test_what_pingone_answers_itself_is_no_outage_and_neither_is_what_never_went_to_it(
    site: Site, failure: PingOneError
) -> None:
    made = make_people(site)
    silent, others = [LOST] * (MOST_REFUSALS - 1), [failure] * 2
    is_answer = not isinstance(failure, SlotTooFar | TooLateToSend)
    site.pingone.instead["find username"] = [*silent, *others, *(silent if is_answer else ())]
    finish(site)
    assert (state(site, made), of(site, made).user_id) == (RUNNING, f"{ALICE[:-3]}000")


def test_while_imports_are_answered_it_is_none(site: Site) -> None:
    made = make(site, [{"user_id": "", "username": "alice"}, *[{}] * 9])
    site.most_tokens = 1
    lose(site, "find username", failure=LOST)
    while not look(site.database, made.ids[-1]).is_token_made:
        prepare_again(site, 1)
        assert state(site, made) == RUNNING
    prepare_again(site, MOST_REFUSALS)
    assert state(site, made) == OUTAGE


def test_while_attempts_are_answered_it_is_none(site: Site, scripted_fleet: ScriptedFleet) -> None:
    made = make(site, [PREPARED | {"user_id": "", "username": "alice"}, PREPARED | {"device_id": "device-2"}])
    change(site, inventory_read_at=site.database.now())
    lose(site, "find username", failure=LOST)
    prepare_again(site, MOST_REFUSALS - 1)
    scripted_fleet.fail(made, 1, Active())
    prepare_again(site, MOST_REFUSALS)
    assert state(site, made) == RUNNING
    # And nobody is active after that.
    prepare_again(site, 1)
    assert state(site, made) == OUTAGE


# Who is told of it, and how it goes on.


def read_status(site: Site) -> BatchStatus:
    (status,) = read_statuses(site.database)
    return status


def test_an_outage_is_told_until_it_is_over_and_tried_again_ever_more_seldom(
    site: Site, scripted_fleet: ScriptedFleet
) -> None:
    """The displays are golden files; what a webhook is told stands in test_notices.py."""
    made = make_people(site, 3)
    lose(site, "find username", "list")
    prepare_again(site, MOST_REFUSALS)

    status = read_status(site)
    assert (status.outage is not None, status.waiting["user"], choose_check_code(status)) == (True, 3, STALLED)

    # Nobody is looked up before the next try, which is told as well.
    assert not site.prepare()
    scripted_fleet.pass_time(FIRST_PROBE + 1)
    scripted_fleet.tick()
    assert choose_check_code(read_status(site)) == STALLED
    prepare_again(site, MOST_REFUSALS - 1)
    assert state(site, made) == RUNNING
    site.prepare()
    assert state(site, made) == OUTAGE
    assert scripted_fleet.seconds_to_probe(made) == pytest.approx(2 * FIRST_PROBE, abs=2)

    site.pingone.instead.clear()
    scripted_fleet.pass_time(2 * FIRST_PROBE + 1)
    scripted_fleet.tick()
    finish(site)
    assert look_at_batch(site.database, made.batch_id).outages == 0
    status = read_status(site)
    assert (status.outage, status.waiting["user"], choose_check_code(status)) == (None, 0, ALL_ACTIVE)


def test_a_batch_whose_attempts_are_not_answered_goes_on_probing_whatever_its_preparation_is_answered(
    site: Site, scripted_fleet: ScriptedFleet
) -> None:
    prepared = [PREPARED | {"device_id": f"device-{number}"} for number in range(9)]
    made = make(site, [{"user_id": "", "username": "alice"}, *prepared])
    scripted_fleet.begin_outage(made)
    scripted_fleet.pass_time(FIRST_PROBE + 1)
    scripted_fleet.tick()
    assert state(site, made) == RUNNING
    site.prepare()
    assert "find username 1" in site.pingone.log
    assert look_at_batch(site.database, made.batch_id).outages == 1
