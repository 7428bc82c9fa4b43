"""Records with a date, and those that a person keeps back by a column: nothing goes out for them before. On both
databases."""

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update
from support.data.batches import ENVIRONMENT_ID, TESTER, look, look_at_batch, make_batch, make_environment
from support.data.loading import LoadingDesk, token
from support.data.moving_clock import MovingDatabase
from support.fleets.scripted_fleet import ScriptedFleet

from models.batch import BatchState
from models.encrypted import Keyring
from models.reason import PauseReason, Reason
from models.record import Record
from models.record_states import UNTIL_LET_GO, OtpState, PairingState, Status
from worker.batches.commands import Batches, NotPossible, distrust_all
from worker.batches.finding import UnknownColumn
from worker.batches.loading import Loader
from worker.batches.mending import Mended, Mender
from worker.config.environment import Environment
from worker.config.settings import Settings
from worker.intake.files import Hints
from worker.intake.rows import read_not_before
from worker.intake.shipment import open_shipment
from worker.leases.lease import Leases
from worker.leases.queue import Queue
from worker.reports.export import export
from worker.reports.facts import read_parts, read_statuses
from worker.reports.search import Sought, search
from worker.reports.token_history import describe_next, read_histories
from worker.rules.hours import format_time
from worker.rules.steps import Active

A_WEEK = timedelta(days=7)
WAVE = datetime(2026, 10, 25, 1, tzinfo=UTC)


@pytest.fixture
def desk(database: MovingDatabase, keyring: Keyring, tmp_path: Path) -> LoadingDesk:
    return LoadingDesk(database, keyring, tmp_path)


def enqueue(database: MovingDatabase, batch_id: int) -> list[int]:
    with database.writing() as connection:
        return Queue(database).enqueue(connection, batch_id, 100, 60.0)


def load_two_waves(desk: LoadingDesk, into: Environment | None = None) -> tuple[int, list[int]]:
    """Two tokens for Basel, at once, and two for Zürich, in a week; the batch, and the ids of its records."""
    later = (datetime.now(UTC) + A_WEEK).isoformat(timespec="seconds")
    sites = [("Basel", ""), ("Basel", ""), ("Zürich", later), ("Zürich", later)]
    loaded = desk.load([token(n, site=site, not_before=date) for n, (site, date) in enumerate(sites)], into=into)
    return loaded.batch_id, [record.id for record in desk.records(loaded)]


def test_a_record_is_due_from_its_date_on(desk: LoadingDesk) -> None:
    batch_id, ids = load_two_waves(desk)
    assert enqueue(desk.database, batch_id) == ids[:2]
    desk.database.ahead = A_WEEK.total_seconds() - 60
    assert enqueue(desk.database, batch_id) == []
    desk.database.ahead = A_WEEK.total_seconds() + 60
    assert enqueue(desk.database, batch_id) == ids[2:]


def test_what_has_not_begun_is_kept_back_by_a_column_until_it_is_let_go(desk: LoadingDesk) -> None:
    batch_id, ids = load_two_waves(desk)
    commands, leases = Batches(desk.database, TESTER), Leases(desk.database)
    assert enqueue(desk.database, batch_id) == ids[:2]
    assert commands.pause("shipment", ["site=Basel"]) == 2
    assert look(desk.database, ids[0]).not_before == UNTIL_LET_GO
    # Its message still comes, and finds nothing to do.
    assert leases.claim(ids[0], "tenant-1") is None
    desk.database.ahead = 2 * A_WEEK.total_seconds()
    assert enqueue(desk.database, batch_id) == ids[2:]
    assert commands.let_begin("shipment", ["site=Basel"]) == 2
    assert enqueue(desk.database, batch_id) == ids[:2]


def test_of_a_cancelled_batch_nothing_is_let_go(desk: LoadingDesk) -> None:
    load_two_waves(desk)
    commands = Batches(desk.database, TESTER)
    commands.cancel("shipment")
    with pytest.raises(NotPossible, match="oathbulk replay shipment"):
        commands.let_begin("shipment", ["site=Zürich"])


@pytest.mark.parametrize("command", ["pause", "let_begin"])
def test_a_row_that_a_person_closed_keeps_its_date(desk: LoadingDesk, command: str) -> None:
    _, ids = load_two_waves(desk)
    commands, where = Batches(desk.database, TESTER), ["site=Zürich"]
    before = look(desk.database, ids[2]).not_before
    desk.database.change(update(Record).where(Record.id == ids[2]).values(status=Status.CANCELLED))
    assert getattr(commands, command)("shipment", where) == 1
    assert look(desk.database, ids[2]).not_before == before


def test_a_wave_is_let_go_before_its_date(desk: LoadingDesk) -> None:
    batch_id, ids = load_two_waves(desk)
    assert Batches(desk.database, TESTER).let_begin("shipment", ["site=Zürich", f"serial={token(3)['serial']}"]) == 1
    assert enqueue(desk.database, batch_id) == [*ids[:2], ids[3]]


@pytest.mark.parametrize(
    "begun",
    [
        {"otp1_state": OtpState.SENT, "otp1_posts": 1},
        {"otp1_state": OtpState.ANSWERED, "otp1_posts": 1},
        {"pairing": PairingState.SENT, "pairings": 1, "device_id": ""},
        {"pairing": PairingState.PAIRED, "is_device_made": True},
    ],
    ids=["an OTP was sent", "an OTP was answered", "a pairing was sent", "a device was made"],
)
def test_what_has_begun_goes_on(database: MovingDatabase, begun: dict[str, object]) -> None:
    """PingOne deletes a device that waits for longer than a day, and what is of unknown fate is read."""
    made = make_batch(database, [begun | {"not_before": UNTIL_LET_GO}])
    assert enqueue(database, made.batch_id) == [made.id]
    assert Leases(database).claim(made.id, ENVIRONMENT_ID) is not None


def test_what_became_active_is_kept_back_no_more_and_has_its_own_date(database: MovingDatabase) -> None:
    """It was in hand when the others were kept back; an undo and a mend may let it go again."""
    made = make_batch(database, [{"not_before": UNTIL_LET_GO}, {"not_before": WAVE}], status=Status.ACTIVE, lot="L-7")
    assert Batches(database, TESTER).let_begin("shipment", ["lot=L-7"]) == 0
    assert [look(database, each).not_before for each in made.ids] == [None, WAVE]


def test_a_worker_that_holds_a_fresh_record_marks_nothing_once_it_is_kept_back(database: MovingDatabase) -> None:
    made = make_batch(database, [{"device_id": "", "pairing": PairingState.UNSENT, "lot": "L-7"}], name="july")
    enqueue(database, made.batch_id)
    leases = Leases(database)
    claim = leases.claim(made.id, ENVIRONMENT_ID)
    assert claim is not None
    assert Batches(database, TESTER).pause("july", ["lot=L-7"]) == 1
    assert not leases.mark_pairing(claim)
    assert not leases.mark_sent(claim, 1)


@pytest.fixture
def three_first(desk: LoadingDesk, database: MovingDatabase) -> list[int]:
    """The ids of two records for next week, and then three without a date, of a batch with a canary of two and a trial
    of one."""
    later = (datetime.now(UTC) + A_WEEK).isoformat(timespec="seconds")
    file = desk.write([token(number, not_before=date) for number, date in enumerate((later, later, "", "", ""))])
    loader = Loader(database, desk.keyring, make_environment(), TESTER, first_records=1)
    return [record.id for record in desk.records(loader.load(open_shipment(file), "shipment", 2))]


def test_a_canary_and_the_first_records_are_those_that_go_first(
    scripted_fleet: ScriptedFleet, database: MovingDatabase, three_first: list[int]
) -> None:
    first, second, _ = three_first[2:]
    assert scripted_fleet.tick() == [first]
    (history,) = read_histories(database, f"#{second}")
    assert describe_next(history, lease=60.0).sentence == "waits: 1 record of its batch goes first"
    # Even when the date of the others has come.
    database.ahead = A_WEEK.total_seconds() + 60
    scripted_fleet.end(first, Active())
    assert scripted_fleet.tick() == [second]
    scripted_fleet.end(second, Active())
    assert scripted_fleet.tick() == []
    batch = look_at_batch(database, 1)
    assert (batch.state, batch.reason) == (BatchState.PAUSED, PauseReason.CANARY)


def test_what_is_kept_back_goes_first_no_more_and_others_do(
    scripted_fleet: ScriptedFleet, database: MovingDatabase, three_first: list[int]
) -> None:
    Batches(database, TESTER).pause("shipment", [f"serial={token(2)['serial']}"])
    assert scripted_fleet.tick() == [three_first[3]]


def test_a_trial_goes_on_until_a_wave_begins_although_its_preparation_gave_one_up(
    scripted_fleet: ScriptedFleet, database: MovingDatabase
) -> None:
    later = {"not_before": UNTIL_LET_GO, "scheduled_at": UNTIL_LET_GO}
    lost = {"status": Status.DEAD_LETTER, "reason": Reason.USER_NOT_FOUND, "finalized_at": datetime.now(UTC)}
    made = make_batch(database, [later | lost, later, later])
    scripted_fleet.set_trial(made, 2)
    assert scripted_fleet.tick() == []
    assert look_at_batch(database, made.batch_id).state == BatchState.RUNNING


def test_a_restored_database_trusts_what_waits_for_a_date(desk: LoadingDesk) -> None:
    _, ids = load_two_waves(desk)
    assert distrust_all(desk.database, Settings(), TESTER) == (2, 2)
    assert [look(desk.database, each).otp1_state for each in ids] == [*2 * [OtpState.SENT], *2 * [OtpState.UNSENT]]
    assert {look(desk.database, each).scheduled_at for each in ids[2:]} == {look(desk.database, ids[2]).not_before}
    # Let go again, they may have gone out since the backup.
    Batches(desk.database, TESTER).let_begin("shipment", ["site=Zürich"])
    assert distrust_all(desk.database, Settings(), TESTER) == (2, 0)


def test_what_has_begun_and_turns_out_not_to_have_is_kept_back(database: MovingDatabase) -> None:
    made = make_batch(database, [{"otp1_state": OtpState.SENT, "otp1_posts": 1}], name="july")
    assert Batches(database, TESTER).pause("july", ["lot="]) == 0
    with database.writing() as connection:
        connection.execute(update(Record).values(otp1_state=OtpState.UNSENT, otp1_posts=0))
    assert enqueue(database, made.batch_id) == []


def test_a_clock_that_was_set_leaves_dates_alone(desk: LoadingDesk) -> None:
    batch_id, ids = load_two_waves(desk)
    with desk.database.writing() as connection:
        Queue(desk.database).restart_times(connection, 60.0)
    assert {look(desk.database, each).scheduled_at for each in ids[2:]} == {look(desk.database, ids[2]).not_before}
    assert enqueue(desk.database, batch_id) == ids[:2]


def test_a_mend_brings_another_date_for_what_has_not_begun(desk: LoadingDesk) -> None:
    batch_id, ids = load_two_waves(desk)
    sooner = datetime.now(UTC).replace(microsecond=0) + A_WEEK / 7
    rows = [token(number, not_before=sooner.isoformat()) for number in range(4)]
    with desk.database.writing() as connection:
        connection.execute(update(Record).where(Record.id == ids[1]).values(otp1_state=OtpState.SENT, otp1_posts=1))
    mender = Mender(desk.database, desk.keyring, TESTER)

    def mend() -> Mended:
        return mender.mend(open_shipment(desk.write(rows), hints=Hints(mends=True)), "shipment")

    assert mend() == Mended(dated=3, in_work=1)
    assert [look(desk.database, each).not_before for each in ids] == [sooner, None, sooner, sooner]
    assert enqueue(desk.database, batch_id) == [ids[1]]
    assert mend() == Mended(in_work=4)
    desk.database.ahead = (A_WEEK / 7).total_seconds() + 60
    assert enqueue(desk.database, batch_id) == [ids[0], *ids[2:]]


def test_a_mend_gives_what_is_kept_back_a_date(desk: LoadingDesk) -> None:
    batch_id, ids = load_two_waves(desk)
    Batches(desk.database, TESTER).pause("shipment", ["site=Zürich"])
    mender = Mender(desk.database, desk.keyring, TESTER)
    file = desk.write([token(2, not_before="2026-01-01T00:00Z"), token(3)])
    assert mender.mend(open_shipment(file, hints=Hints(mends=True)), "shipment") == Mended(dated=1, in_work=1)
    assert enqueue(desk.database, batch_id) == ids[:3]


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        (["not_before="], [2, 3]),
        (["not_before=kept back"], [5]),
        (["Not Before=2027-05-01T08:00Z"], [4]),
        (["not_before=2027-05-01 08:00 UTC"], [4]),
        (["site=x=y"], [3]),
        (["a.b[0]=1"], [2]),
    ],
)
def test_a_value_is_found_as_it_is_written_and_as_it_is_listed(
    desk: LoadingDesk, where: list[str], rows: list[int]
) -> None:
    columns = [{"a.b[0]": "1"}, {"site": "x=y"}, {"not_before": "2027-05-01T08:00Z"}, {}]
    desk.load([token(number, **more) for number, more in enumerate(columns)])
    Batches(desk.database, TESTER).pause("shipment", [f"serial={token(3)['serial']}"])
    found = search(desk.database, Sought(batch="shipment", where=tuple(where)), 10)
    assert sorted(each.row for each in found.found) == rows


def test_what_nobody_can_mean_is_refused(desk: LoadingDesk) -> None:
    desk.load([token(0, **{'Ort "neu"': "x"})])
    commands = Batches(desk.database, TESTER)
    with pytest.raises(UnknownColumn, match=r"has lot=L-9: .oathbulk status shipment --by lot. lists"):
        commands.pause("shipment", ["lot=L-9"])
    with pytest.raises(UnknownColumn, match="quotation mark"):
        commands.pause("shipment", ['ort "neu"='])
    with pytest.raises(UnknownColumn, match="not_before is not a date"):
        commands.pause("shipment", ["not_before=tomorrow"])


def test_lists_and_exports_have_what_a_column_says(desk: LoadingDesk) -> None:
    load_two_waves(desk)
    found = search(desk.database, Sought(batch="shipment", where=("site=Zürich",)), 10)
    assert [each.row for each in found.found] == [4, 5]
    export(desk.database, "shipment", file := io.StringIO(), where=("site=Basel", "lot="))
    assert file.getvalue().count("\n") == 3
    Batches(desk.database, TESTER).pause("shipment", ["site=Zürich"])
    export(desk.database, "shipment", file := io.StringIO(), where=("site=Zürich",))
    # Brought back by a mend, it says nothing of the date.
    assert file.getvalue().count(",kept back,") == 2
    assert read_not_before("kept back", None) is None
    export(desk.database, "shipment", file := io.StringIO(), where=("Site=Basel", f"serial={token(1)['serial']}"))
    assert [line.split(",")[0] for line in file.getvalue().splitlines()] == ["serial", token(1)["serial"]]


def test_what_waits_says_for_what(desk: LoadingDesk) -> None:
    _, ids = load_two_waves(desk)
    Batches(desk.database, TESTER).pause("shipment", ["site=Basel"])
    for place, says in (
        (0, "is kept back"),
        (2, f"waits for its date, {format_time(look(desk.database, ids[2]).not_before)}"),
    ):
        (history,) = read_histories(desk.database, f"#{ids[place]}")
        step = describe_next(history, lease=60.0)
        serial = token(place)["serial"]
        assert (step.sentence, step.command) == (says, f"oathbulk resume shipment --where serial={serial}")


def test_an_unknown_column_is_named_with_those_that_there_are(desk: LoadingDesk) -> None:
    load_two_waves(desk)
    with pytest.raises(UnknownColumn, match=r"no column 'city': the batch has serial, .*, site"):
        Batches(desk.database, TESTER).pause("shipment", ["city=Basel"])
    with pytest.raises(UnknownColumn, match="write COLUMN=VALUE"):
        Batches(desk.database, TESTER).pause("shipment", ["Basel"])


def test_a_batch_is_told_by_the_values_of_a_column(desk: LoadingDesk) -> None:
    load_two_waves(desk)
    for place in (1, 2):
        Batches(desk.database, TESTER).pause("shipment", ["serial=" + token(place)["serial"]])
    parts = read_parts(desk.database, "shipment", "Site")
    assert [(part.value, part.rows, part.active, part.to_do) for part in parts] == [
        ("Zürich", 2, 0, 2),
        ("Basel", 2, 0, 2),
    ]
    (status,) = read_statuses(desk.database, "shipment")
    (wave,) = status.coming
    assert [(part.not_before, part.kept_back) for part in parts] == [(wave.at, 1), (None, 1)]
    assert status.next_due_at is not None
    assert (status.dated, status.kept_back) == (3, 2)
