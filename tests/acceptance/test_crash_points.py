"""A process dies at each of its steps, by SIGKILL, and those who come after it keep every promise."""

from contextlib import ExitStack

import pytest
from crash_points.names import CLAIM, CLAIM_AGAIN, COMMANDS, POST, SLOT, TICK
from crash_points.orders import TESTS, Zygote
from crash_points.pairing_ways import PAIRING_WAYS
from crash_points.preparation_ways import PREPARATION_WAYS
from crash_points.seed_ways import SEED_WAYS
from crash_points.stage import TIME_STEP, Stage
from crash_points.steps import COMMIT, COMMITTED
from crash_points.way import ACTIVE, CANCELLED
from crash_points.ways import WAYS
from crash_points.whole_stage import WholeStage
from support.data.shipments import make_seeds, unpair
from support.fleets.real_fleet import BATCH, PRODUCTION, batch_name

from models.attempt import Outcome
from worker.simulator.shipment import A_FEW_HOPELESS, make_shipment

pytestmark = pytest.mark.faults

# All at once; and no breaker, since what befalls one record of a batch here befalls each.
SETTINGS = PRODUCTION | {
    "_OATHBULK_TUNING__window": "1000",
    "_OATHBULK_TUNING__breaker__devices_gone": "1000",
    "_OATHBULK_TUNING__breaker__refused": "1000",
    "_OATHBULK_TUNING__breaker__spent": "1000",
    "_OATHBULK_TUNING__first_records": "0",
    "_OATHBULK_TUNING__breaker__unanswered": "1000",
    "PINGONE_RATE": "2000",
}
ALL_WAYS = WAYS | SEED_WAYS | PAIRING_WAYS
# A record is in hand from here on.
LAST_OF_CLAIM, LAST_OF_CLAIM_AGAIN = len(SLOT + CLAIM) - 1, len(SLOT + CLAIM_AGAIN) - 1


@pytest.fixture(scope="module")
def zygote(tmp_path_factory):
    with Zygote(tmp_path_factory.mktemp("zygote")) as zygote:
        yield zygote


@pytest.fixture
def set_stage(make_fleet, database_url, valkey_url, zygote):
    """Makes a stage for so many records of a kind, with or without a device."""
    with ExitStack() as stack:

        def make(records, kind="in_step", settings=None, otp_type=None, lacks_device=False, may_import=False, **named):
            made = {"out_of_step": 1.0} if kind == "out_of_step" else {"out_of_step": 0.0, "hopeless": {kind: records}}
            if otp_type is None:
                shipment = make_shipment(records, **made)
            else:
                shipment = make_seeds(**{otp_type: records}, time_step=TIME_STEP, **made)
            if lacks_device:
                shipment = unpair(shipment, may_import=may_import)
            fleet = make_fleet(database_url, valkey_url, shipment, settings=SETTINGS | (settings or {}), **named)
            stack.enter_context(zygote.installed(fleet.variables))
            stage = WholeStage(fleet, zygote, shipment) if lacks_device else Stage(fleet, zygote)
            stack.enter_context(stage)
            if otp_type == "totp":
                stage.stop_pingones_clock()
            if lacks_device and not may_import:
                stage.prepare()
            return stage

        yield make


@pytest.mark.parametrize(
    ("database_url", "name"),
    [(database, name) for name, way in ALL_WAYS.items() for database in way.databases],
    indirect=["database_url"],
)
def test_a_worker_may_die_at_any_step_of_this_way(set_stage, name):
    way = ALL_WAYS[name]
    stage = set_stage(
        len(way.deaths) + 1,
        way.kind,
        way.settings,
        way.otp_type,
        way.lacks_device,
        batch_of=1 if way.pauses else None,
        **way.simulated,
    )
    spared, *victims = ids = way.prepare(stage)
    assert len(victims) == len(way.deaths)

    life = stage.work(spared)
    assert life.steps == way.steps, "the code has other steps than the table: what does a death at the new ones cost?"
    for number, record_id in zip(way.deaths, victims, strict=True):
        life = stage.work(record_id, dies_at=number)
        assert (life.was_killed, life.steps) == (True, way.steps[: number + 1])
        assert stage.look(record_id).device_id or not life.steps[-1].startswith(POST)
    assert set(stage.paused()) == ({spared, victims[-1]} if way.pauses else set())
    way.mend(stage)
    stage.finish()

    deaths = dict(zip(victims, way.deaths.items(), strict=True))
    stage.judge({record_id for record_id, (_, stretch) in deaths.items() if stretch.is_unclear})
    ends, posts = stage.ends(), stage.posts(ids)
    costs = dict(zip(ids, zip(posts, map(ends.get, ids), strict=True), strict=True))
    assert costs.pop(spared) == (way.posts, way.end)
    told = [
        (way.steps[number], costs[record_id], way.find_cost(stretch)) for record_id, (number, stretch) in deaths.items()
    ]
    assert [(step, cost) for step, cost, written in told if cost != written] == []


@pytest.mark.parametrize(
    ("database_url", "name"),
    [(way.database, name) for name, way in PREPARATION_WAYS.items()],
    indirect=["database_url"],
)
def test_a_worker_may_die_at_any_step_of_this_preparation(set_stage, name):
    way = PREPARATION_WAYS[name]
    named = {"otp_type": "hotp", "lacks_device": True, "may_import": True, "batch_of": 1, "job_takes": 0}
    stage = set_stage(len(way.deaths) + 2, **named)
    # Whoever is first has to learn from the database what share of the pace is ours.
    stage.prepare()
    way.prepare(stage)

    life = stage.prepare()
    assert life.steps == list(way.steps), "the code has other steps than the table: what does a death at them cost?"
    for number in way.deaths:
        life = stage.prepare(dies_at=number)
        assert (life.was_killed, life.steps) == (True, list(way.steps[: number + 1]))
    is_there_another = name == "imported_by_another"
    unclear = stage.of_unknown_job() if is_there_another else set()
    assert bool(unclear) == is_there_another
    stage.finish_preparing()
    stage.finish()

    stage.judge(unclear)
    ends = stage.ends()
    assert set(ends.values()) == {ACTIVE}
    assert set(stage.posts(list(ends))) == {1}


@pytest.mark.parametrize("name", ["in_step", "out_of_step", "wrong_otp", "hotp_out_of_step"])
def test_a_worker_that_hears_the_answer_when_another_has_its_record_changes_nothing(set_stage, name):
    way = ALL_WAYS[name]
    stage = set_stage(1, way.kind, otp_type=way.otp_type)
    (record_id,) = stage.enqueue()
    sleeper = stage.freeze(record_id, at=way.steps.index("Client.activate: the answer was read"))
    stage.go_on()
    assert stage.enqueue() == [record_id]
    # The next has the record in hand, and can do nothing with it.
    assert stage.work(record_id, dies_at=LAST_OF_CLAIM_AGAIN).was_killed
    before = stage.look(record_id)
    late = stage.thaw(sleeper)
    assert not {step.partition(":")[0] for step in late.steps} & {"Client.activate", "Client.read_device"}
    assert stage.look(record_id) == before
    stage.finish()

    stage.fleet.judge()
    assert stage.ends()[record_id] == way.end


def test_a_seed_is_replayed_while_pingone_waits_for_its_second_otp(set_stage):
    way = ALL_WAYS["hotp_out_of_step"]
    stage = set_stage(1, way.kind, otp_type=way.otp_type)
    (record_id,) = stage.enqueue()
    assert stage.work(record_id, dies_at=way.steps.index("Leases.write_progress: after its commit")).was_killed
    stage.command("cancel", BATCH)
    stage.finish()
    assert stage.ends()[record_id] == CANCELLED
    stage.command("replay", BATCH)
    stage.finish()

    stage.fleet.judge(was_replayed=True)
    assert stage.ends()[record_id] == ACTIVE


def test_the_dispatcher_may_die_at_any_step_of_a_tick(set_stage):
    stage = set_stage(len(TICK) + 3)
    in_hand, in_queue, *fresh = sorted(stage.ends())
    stage.keep_back()
    stage.release(in_hand, in_queue)
    assert sorted(stage.enqueue()) == [in_hand, in_queue]
    # A worker dies with one of them in hand, and takes the other's message with it.
    assert stage.work(in_hand, dies_at=LAST_OF_CLAIM).was_killed
    for record_id, dies_at in zip(fresh, [*range(len(TICK)), None], strict=True):
        stage.go_on()
        stage.release(record_id)
        life = stage.tick(dies_at=dies_at)
        assert (life.was_killed, life.steps) == (dies_at is not None, TICK[: None if dies_at is None else dies_at + 1])
        # What it published gets lost, so that the next has something to rescue again.
        published = stage.take_messages()
        assert bool(published) == (dies_at is None or dies_at == len(TICK) - 1)
    stage.finish()

    stage.fleet.judge()
    assert set(stage.ends().values()) == {ACTIVE}
    assert set(stage.posts([in_hand, in_queue, *fresh])) == {1}


def test_a_command_of_a_person_may_die_at_any_step_and_is_typed_again(set_stage):
    deaths = [(command, number) for command, steps in COMMANDS.items() for number in range(len(steps))]
    stage = set_stage(3 * len(deaths), batch_of=3)
    records = sorted(stage.ends())
    stage.keep_back()
    for number, (command, dies_at) in enumerate(deaths):
        name, mine = batch_name(number), records[3 * number :][:3]
        set_up_for(command, stage, name, mine)
        before = stage.audit(name)
        life = stage.command(command, name, dies_at=dies_at)
        assert (life.was_killed, life.steps) == (True, COMMANDS[command][: dies_at + 1])
        was_done = life.steps[-1].endswith(COMMITTED)
        assert stage.audit(name) == before + [command] * was_done
        stage.command(command, name)
        undo(command, stage, name, mine)
        stage.finish(mine)
        assert set(stage.ends(mine).values()) == {ACTIVE}

    stage.fleet.judge(was_replayed=True)
    assert set(stage.posts(records)) == {1}


def set_up_for(command, stage, name, records):
    """One record is of unknown fate, one waits in the queue, one is fresh; and the batch is such that the command makes
    sense."""
    unknown, queued, fresh = records
    stage.lose_answer(unknown)
    stage.release(unknown, queued)
    assert sorted(stage.enqueue()) == [unknown, queued]
    stage.work(unknown)
    stage.release(fresh)
    if command == "resume":
        stage.command("pause", name)
    if command == "replay":
        stage.command("cancel", name)
        stage.finish(records)


def undo(command, stage, name, records):
    """A paused batch stands, and a cancelled one ends, until a person says otherwise."""
    _, queued, _ = records
    if command == "pause":
        stage.go_on()
        assert stage.enqueue() == []
        # Its message has come all the same.
        assert "Keyring.open: before" not in stage.work(queued).steps
        stage.command("resume", name)
    if command == "cancel":
        stage.finish(records)
        assert sorted(stage.ends(records).values()) == [ACTIVE, CANCELLED, CANCELLED]
        stage.command("replay", name)


def test_a_whole_worker_may_die_at_a_step_of_one_of_its_threads(make_fleet, postgres_url, valkey_url):
    shipment = make_shipment(100, out_of_step=0.5, hopeless=A_FEW_HOPELESS)
    fleet = make_fleet(postgres_url, valkey_url, shipment, latency=0.05)
    # Seven others are somewhere else just then.
    let_one_of_two_workers_die(fleet, {"CRASH_POINT": f"Leases.write_progress: {COMMIT}", "CRASH_TIME": "10"})


@pytest.mark.parametrize("writes", ["Leases.claim", "Settlement.write"])
@pytest.mark.parametrize(("moment", "later"), [(COMMIT, 0), (COMMIT, 0.001), (COMMITTED, 0)])
def test_a_whole_worker_may_die_when_several_of_its_threads_write_together(
    make_fleet, database_url, valkey_url, writes, moment, later
):
    fleet = make_fleet(database_url, valkey_url, make_shipment(150, out_of_step=0.5, hopeless=A_FEW_HOPELESS))
    crash = {"CRASH_POINT": f"{writes}: {moment}", "CRASH_AMONG": "several", "CRASH_LATER": str(later)}
    let_one_of_two_workers_die(fleet, crash | {"CRASH_TIME": "2", "OATHBULK_CONCURRENCY": "16"})


def let_one_of_two_workers_die(fleet, crash):
    """One worker dies by its variables, and the other finishes the batch."""
    fleet.variables |= crash | {"PYTHONPATH": TESTS}
    victim = fleet.worker("victim", "--include", "crash_points.in_worker")
    fleet.worker("second")
    fleet.beat()
    fleet.wait_until(lambda: not victim.is_running, "the victim dies")
    fleet.wait_until_finished()
    fleet.judge()
    assert fleet.records.wrong_endings() == []
    assert fleet.records.attempts(Outcome.LOST) >= 1
