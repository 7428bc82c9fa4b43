"""The hunt, in short: some hundred bad days in the life of a fleet, and mutants that it has to find; and streams of
answers, of which none may cost many OTPs. `python -m hunt` goes on for longer."""

import gc
import re
from collections.abc import Iterator

import pytest
from hunt import initial_state, seeds, streams, walk
from hunt.__main__ import main
from hunt.database import HuntedPostgres
from hunt.mutants import MUTANTS, at_large
from hunt.schedule import Broken
from hunt.seeds import Finding
from support.servers.postgres import EmptiedDatabases

from worker.batches.upkeep import Upkeep

CHUNK, CHUNK_ON_POSTGRESQL = 80, 40
CHUNKS = 2
# In these schedules, always the same, every mutant has to be found. Most take a handful, the rarest a hundred.
HUNTED = range(1000, 1500)
# Of those that take long to come to: a schedule that found each, tried first.
FOUND_BY = {
    "forgets_the_posts_of_earlier_budgets": 1504,
    "sets_the_counter_of_a_seed_back_by_a_mend": 1500,
    "forgets_who_had_the_token": 1500,
    "tells_who_has_the_token_now": 1504,
    "believes_what_it_wrote_before_it_is_committed": 1793,
    "tells_the_result_of_one_thread_to_another": 1175,
    "forgets_a_thread_that_waits": 1069,
    "does_not_pair_a_deleted_device_again": 1049,
    "repeats_a_lost_import_without_reading_the_inventory": 1614,
    "takes_a_fault_of_its_own_for_not_delivered": 1181,
    "has_no_budget": 1109,
    "claims_although_the_batch_is_paused": 1050,
    "calls_every_token_imported_by_itself": 1500,
    "reads_at_once_after_a_loss": 1100,
    "sends_an_otp_although_the_pairing_was_answered_with_active": 1043,
    "pairs_again_without_a_look_up": 1039,
    "takes_a_lost_pairing_for_not_delivered": 1039,
    "settles_as_cancelled_although_a_read_is_owed": 1064,
    "takes_another_persons_device": 1034,
    "sends_however_late_it_is": 1079,
    "calls_every_device_its_own": 1034,
    "believes_one_look_up": 1039,
    "waits_for_a_tick_to_notice_that_a_window_has_closed": 1094,
    "prepares_a_batch_that_was_paused": 1043,
    "replays_a_seed_from_its_first_counter": 1049,
    "takes_an_otp_that_was_sent_for_a_fresh_one": 1327,
    "begins_a_new_budget_with_the_same_otps": 1708,
    "gives_a_token_to_another_person_whose_device_was_made": 251,
    "takes_the_answer_to_an_earlier_otp_for_that_to_a_fresh_one": 1625,
    "repeats_an_import_with_another_hash": 1027,
    "claims_what_another_holds": 1004,
    "hands_back_whatever_it_is": 1005,
    "sends_although_the_batch_is_paused": 1018,
    "asks_no_permit_between_tries": 1045,
    "mends_a_record_that_is_in_work": 1672,
    "takes_a_proxys_page_for_pingones_word": 1055,
    "believes_an_answer_about_another_device": 1012,
    "keeps_a_connection_by_which_more_came_than_the_answer": 1026,
    "cancels_although_a_read_is_owed": 1018,
    "moves_the_counter_only_with_the_answer": 1000,
    "gives_the_counter_of_a_lost_otp_back": 1014,
    "goes_on_with_a_pair_whose_second_otp_was_lost": 1011,
    "sends_otp_2_in_the_time_step_of_otp_1": 1011,
    "sends_otp_2_after_its_time_step": 1727,
    "takes_its_own_clock_for_pingones": 1011,
    "lets_records_go_before_their_date": 1506,
    "goes_on_with_a_claim_although_its_record_is_kept_back": 1030,
    "gives_out_what_somebody_has": 1579,
    "takes_back_what_was_paired": 2041,
    "trusts_a_database_that_was_put_back": 1429,
    "calls_no_device_its_own_that_a_restore_forgot": 3386,
    "overlooks_the_tokens_of_records_in_work": 9001827,
    "erases_no_name": 1054,
    "purges_no_record": 1015,
    "seals_nothing_anew": 1003,
    "removes_every_device_that_a_row_names": 1015,
    "takes_a_lost_removal_for_done": 1306,
    "removes_without_reading_back": 1424,
    "leaves_what_a_lost_pairing_made": 1018,
    "revokes_every_token": 1038,
    "tells_no_device_that_an_undo_removed": 1031,
}
# The same on PostgreSQL, where what several threads write together is one statement, which commits by itself: of those
# that write together and get it wrong.
HUNTED_ON_POSTGRESQL = range(1000, 1150)
FOUND_ON_POSTGRESQL_BY = {
    "tells_the_result_of_one_thread_to_another": 1175,
    "forgets_a_thread_that_waits": 1558,
    "lets_nobody_lead_next": 1050,
}
# What is made came later than these.
OLD = {"creation", "token_given_away"}
# Schedules that once broke a promise: the seed, the evils that are left out, and how long the storm lasts.
ONCE_BROKEN: tuple[tuple[int, set[str], int | None], ...] = (
    # A worker stood still between the commit of its mark and the moment when it heard of it.
    (7700000767, {"replayed"} | OLD, 337),
    # An OTP expired between two tries of a call.
    (7700000203, {"clock_drifts", "device_locked", "message_delayed", "process_freezes"} | OLD, 47),
    # A worker stood still in a call, past its deadline, and died; and the request was still on its way.
    (20200001093, {"device_blocked", "reordered", "replayed"} | OLD, None),
    # The clock was set back by an hour while a batch was being prepared.
    (829, set(), None),
    # A worker died that was about to read a device which the version before had loaded, and for which nothing was sent.
    (100000034, {"job_fails", "message_delayed", "refused", "reordered", "slow_answer"}, None),
    # A mend let a record go again while the inventory was read, which said nothing more of its token.
    (500000021, set(), None),
    # A mend named another person for a device that a file had named, and that was gone.
    (
        115000000309,
        {"broker_out_of_reach", "clock_stepped", "message_doubled", "process_dies", "replayed_some", "server_error"},
        337,
    ),
    # A person kept a record back, and a mend let it go again while the inventory was read.
    (115000000082, {"account_disabled", "clock_set", "clock_stepped", "handed_back", "redis_wiped"}, None),
    # A mend let records go again while the inventory was read, and another worker had a whole turn meanwhile.
    (
        910000000000380,
        {"answers_doubled", "clock_set", "prepared_twice", "replayed_some", "replayed_transient"},
        None,
    ),
    (
        920000000003607,
        {"account_disabled", "clock_drifts", "device_locked", "handed_back", "kept_back", "process_stops"}
        | {"replayed_some", "token_given_away"},
        252,
    ),
)
# Schedules that are told twice.
TOLD = range(3000, 3002)
STREAMS = 20


@pytest.fixture(autouse=True, scope="module")
def hunted_database() -> Iterator[None]:
    """The one that all scenarios of a process share; closed when the module's tests are done. Garbage is looked for
    less often: a scenario makes much that stays to its end, and looking through it costs a part of the time."""
    before = gc.get_threshold()
    gc.set_threshold(20_000, 20, 20)
    yield
    gc.set_threshold(*before)
    initial_state.close_database()


@pytest.fixture
def hunted_postgres(migrated_databases: EmptiedDatabases) -> Iterator[None]:
    with migrated_databases.database() as url:
        initial_state.hunt_on(HuntedPostgres(url))
        yield
        initial_state.close_database()


def test_in_a_few_bad_days_the_promises_are_kept() -> None:
    assert list(map(str, seeds.find(CHUNKS * CHUNK, CHUNK // 10).findings)) == []


@pytest.mark.faults
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_whatever_happens_the_promises_are_kept(chunk: int) -> None:
    assert list(map(str, seeds.find(chunk * CHUNK, CHUNK).findings)) == []


def test_a_schedule_that_once_broke_a_promise_keeps_it() -> None:
    assert [str(found) for schedule in ONCE_BROKEN if (found := seeds.run(*schedule))] == []


def assert_found(name: str, tried_first: int, then: range) -> None:
    mutant = MUTANTS[name]
    with at_large(name):
        finding = seeds.first([tried_first, *then], mutant.charge, mutant.amid)
    assert finding is not None, f"no schedule of these ends with the charge {mutant.charge!r}"


@pytest.mark.faults
@pytest.mark.parametrize("name", MUTANTS)
def test_the_hunt_finds_code_that(name: str) -> None:
    assert_found(name, FOUND_BY.get(name, HUNTED.start), HUNTED)


@pytest.mark.faults
def test_a_day_keeps_the_promises_wherever_one_fault_comes() -> None:
    walked = walk.walk(walk.SHORTEST)
    assert walked.broken == []
    assert walked.places["process_dies"] > 20


@pytest.mark.faults
@pytest.mark.usefixtures("hunted_postgres")
def test_whatever_happens_the_promises_are_kept_on_postgresql() -> None:
    assert list(map(str, seeds.find(0, CHUNK_ON_POSTGRESQL).findings)) == []


@pytest.mark.faults
@pytest.mark.usefixtures("hunted_postgres")
@pytest.mark.parametrize("name", FOUND_ON_POSTGRESQL_BY)
def test_the_hunt_finds_on_postgresql_code_that(name: str) -> None:
    assert_found(name, FOUND_ON_POSTGRESQL_BY[name], HUNTED_ON_POSTGRESQL)


@pytest.mark.faults
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_stream_spends_more_than_it_may(chunk: int) -> None:
    spent, _ = streams.worst(chunk * STREAMS, STREAMS)
    assert spent <= 25 + 2 * streams.WORKERS


@pytest.mark.faults
def test_a_batch_that_is_not_judged_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Upkeep, "apply_breaker", lambda *_: None)
    with pytest.raises(Broken, match="spent"):
        streams.worst(0, STREAMS)


def test_a_seed_tells_the_same_story_every_time() -> None:
    told = {seed: seeds.tell(Finding(seed, "")) for seed in TOLD}
    # Other stories came before each of them now.
    told_again = {seed: seeds.tell(Finding(seed, "")) for seed in reversed(TOLD)}

    for seed in TOLD:
        assert list(map(_without_lease_ids, told[seed])) == list(map(_without_lease_ids, told_again[seed]))
    assert max(map(len, told.values())) > 20


def test_a_finding_is_shrunk_to_what_it_needs_and_can_be_told() -> None:
    with at_large("sends_although_the_batch_is_paused"):
        finding = seeds.first(HUNTED)
        assert finding is not None
        shrunk = seeds.shrink(finding)
        told = seeds.tell(shrunk)

    assert {"cancelled", "paused"} - set(shrunk.without)
    assert len(shrunk.without) > 0
    assert told[-1].startswith("BROKEN")


def test_the_long_form_hunts_until_its_time_is_over(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A process hunts through so many before it looks at the time.
    monkeypatch.setattr("hunt.__main__.CHUNK", 4)
    assert main(["--minutes", "0", "--seed", "2", "--processes", "1"]) == 0

    assert re.search(
        r"^4 schedules of \d+ records in .* [1-9]\d+ evils; 0 broke a promise$", capsys.readouterr().out, re.M
    )


def test_the_long_form_tells_one_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--replay", "3"]) == 0

    assert capsys.readouterr().out.endswith("kept every promise\n")


def _without_lease_ids(line: str) -> str:
    """They are random, and nothing depends on them."""
    return re.sub(r"\b[0-9a-f]{8}\b", "lease", line)
