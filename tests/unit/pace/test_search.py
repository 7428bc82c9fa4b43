"""How the rate climbs, stays and gives way, and what a path of answers and refusals tells of a limit; over the whole of
a job: test_limits.py."""

from dataclasses import replace
from math import exp, inf
from typing import Any

import pytest

from worker.pace.search import (
    CLIMB,
    FIRST_CLIMB,
    KEPT_LEGS,
    KEPT_REFUSALS,
    LEAST_PART,
    LONGER_WAIT,
    LONGEST_WAIT,
    LOWEST_RATE,
    PART_OF_CEILING,
    PROBE_AFTER,
    Leg,
    Path,
    Search,
    add_leg,
    add_refusal,
    count_refusals,
    count_sent,
    estimate_limit,
    explain,
    find_count,
    find_excess,
    find_limit,
    hold_rate,
    learn_from_answers,
    learn_from_refusal,
    restart_counting,
    settle,
    stay_below,
    walk,
)


def make_stay(seconds: float = 10.0, sent: float = 1990.0, **changes: Any) -> Search:
    """A stay below 200 a second for so many seconds, in which so many requests were sent."""
    path = (Leg(1.0, 0.0), Leg(seconds, sent)) if seconds else (Leg(1.0, 0.0),)
    stay = hold_rate(restart_counting(Search(199.0, ceiling=200.0), now=10.0), PROBE_AFTER)
    return replace(stay, **{"since": 10.0 + seconds, "refused_at": 9.0, "path": path} | changes)


CLIMBING = Search(100.0, climb=0.06)


def answer(search: Search, slots: int, at: float, *, highest: float = 500.0) -> Search:
    """The search after an answer at this time to the last of so many slots."""
    return learn_from_answers(search, slots, last=at, now=at, highest=highest, next_slot=at)


def refuse(search: Search, slot: float, rate: float = 199.0) -> Search:
    return learn_from_refusal(search, rate, slot, count=5, resumes_at=slot + 1.06)


def knock(search: Search, slot: float) -> Search:
    return learn_from_refusal(search, search.rate, slot, count=0, resumes_at=slot + 1.0)


def test_a_climb_grows_by_its_speed_where_it_is_used_and_waits_for_an_answer() -> None:
    assert learn_from_answers(CLIMBING, slots=9, last=0.05, now=0.06, highest=500, next_slot=0.09) is CLIMBING
    grown = learn_from_answers(CLIMBING, slots=20, last=0.1, now=0.16, highest=500, next_slot=0.2)
    assert grown.rate == pytest.approx(100 * (1 + 0.06 * 0.2), rel=0.001)
    assert (grown.since, grown.path) == (0.2, (Leg(0.2, 20.0),))
    unused = learn_from_answers(CLIMBING, slots=10, last=0.1, now=0.16, highest=500, next_slot=0.2)
    assert unused == replace(CLIMBING, since=0.2, path=(Leg(0.2, 10.0),))


def test_the_second_climb_is_slow_and_begins_further_down() -> None:
    refused = refuse(Search(200.0, since=2.0, path=(Leg(1.0, 60.0), Leg(1.0, 150.0))), 2.0, 200.0)
    assert (refused.climb, refused.ceiling) == (CLIMB, 0)
    assert LEAST_PART * 200 <= refused.rate < 0.7 * 200


def test_a_climb_speeds_up_the_more_is_let_through_than_what_was_known_explains() -> None:
    """A bucket of 200 a second was known to forgive 50 requests."""
    known = (Leg(1.0, 250.0, is_refused=True), Leg(1.0, 0.0))
    paths = [(*known, Leg(2.0, 400.0 + more)) for more in (20.0, 100.0, 400.0)]
    climbing = [make_stay(climb=CLIMB, path=path, since=20.0) for path in paths]
    slow, quick, quicker = (answer(search, 20, 20.1, highest=900).rate / search.rate - 1 for search in climbing)
    assert slow == pytest.approx(CLIMB * 0.1, rel=0.01)
    assert 1.5 * slow < quick < quicker / 2 < FIRST_CLIMB * 0.1


def test_at_the_highest_rate_nothing_is_known_of_the_limit_but_that_it_is_higher() -> None:
    highest = answer(make_stay(climb=0.05), 50, 20.2, highest=200)
    assert (highest.rate, highest.climb, highest.ceiling) == (200, 0, 0)
    assert answer(replace(highest, probe_at=0.0), 220, 21.3).climb > 0


@pytest.mark.parametrize(("highest", "climb"), [(500, CLIMB), (199, 0)])
def test_a_stay_climbs_again_when_it_is_time(highest: float, climb: float) -> None:
    search = make_stay()
    due = answer(search, 199 * 31, search.probe_at, highest=highest)
    assert (due.climb, due.rate) == (climb, search.rate)


@pytest.mark.parametrize(("refused_at", "ceiling"), [(9.0, 200.0), (0.0, 0.0)])
def test_a_limit_that_fell_is_met_from_further_down_and_may_be_what_it_was_unless_it_fell_at_once(
    refused_at: float, ceiling: float
) -> None:
    fallen = refuse(make_stay(path=(Leg(10.0, 1990.0),), refused_at=refused_at), 20.5)
    assert (fallen.climb, fallen.ceiling, len(fallen.path)) == (CLIMB, ceiling, 2)
    assert LEAST_PART * 199 <= fallen.rate < 0.7 * 199


KNOWN = Search(120.0, climb=CLIMB, ceiling=100.0, probe_after=60.0)


@pytest.mark.parametrize(
    ("search", "limit", "wasted", "ceiling", "probe_after"),
    [
        # The more a refusal wastes, the longer until the next.
        (Search(120.0), 100.0, 2.0, 100.0, 2 * PROBE_AFTER),
        (Search(120.0), 100.0, 600.0, 100.0, LONGEST_WAIT),
        # A climb that finds nothing is followed by a longer wait, but not by any longer one.
        (KNOWN, 101.0, 2.0, 101.0, LONGER_WAIT * 60.0),
        (replace(KNOWN, probe_after=3000.0), 101.0, 2.0, 101.0, LONGEST_WAIT),
        (KNOWN, 150.0, 2.0, 150.0, 2 * PROBE_AFTER),
        # A rate that was refused while it stayed is lowered, and what fell by more is looked at sooner.
        (replace(KNOWN, climb=0.0), 100.0, 2.0, 99.5, 2 * PROBE_AFTER),
        (replace(KNOWN, climb=0.0), 80.0, 2.0, 80.0, PROBE_AFTER),
    ],
)
def test_the_rate_stays_below_the_limit_and_climbs_again_after_a_while(
    search: Search, limit: float, wasted: float, ceiling: float, probe_after: float
) -> None:
    stay = settle(search, limit, wasted)
    assert (stay.ceiling, stay.rate) == (pytest.approx(ceiling), pytest.approx(ceiling * PART_OF_CEILING))
    assert (stay.climb, stay.probe_after) == (0, probe_after)


@pytest.mark.parametrize(("rate", "lowest"), [(200.0, LOWEST_RATE), (1.0, 1.0)])
def test_no_refusal_lowers_the_rate_below_the_lowest_or_what_a_person_began_with(rate: float, lowest: float) -> None:
    assert stay_below(Search(rate), 0.1, 30.0).rate == pytest.approx(lowest)


def test_a_share_makes_room_where_it_is_refused_and_keeps_the_ceiling() -> None:
    refused = refuse(make_stay(share=0.5, rate=99.0), 20.0, 99.0)
    assert (refused.rate, refused.ceiling, refused.probe_after) == (49.5, 200.0, LONGER_WAIT * PROBE_AFTER)


def test_where_the_first_request_after_a_hold_is_refused_few_ask() -> None:
    closed = knock(make_stay(0.0), 10.0)
    assert (closed.rate, closed.open_rate, closed.lasting_rate) == (LOWEST_RATE, 199.0, 199.0)
    waits = []
    for _ in range(40):
        slot = closed.begun_at
        closed = knock(closed, slot)
        waits.append(closed.begun_at - slot)
    assert waits == pytest.approx(sorted(waits))
    assert (waits[0] < 3, waits[-1]) == (True, pytest.approx(PROBE_AFTER / 2))


@pytest.mark.parametrize(("ceiling", "climb", "rate"), [(200.0, 0.0, 198.0), (0.0, 0.0, 199.0), (0.0, CLIMB, 20.0)])
def test_once_open_again_it_goes_on_as_before_or_at_the_mean_of_a_count_over_many_seconds(
    ceiling: float, climb: float, rate: float
) -> None:
    """1,200 requests in ten seconds; then nothing for fifty."""
    closed = knock(
        make_stay(ceiling=ceiling, climb=climb, path=(Leg(10.0, 1200.0, is_refused=True),), since=10.0), 10.0
    )
    opened = answer(replace(closed, path=(*closed.path, Leg(46.5, 0.0))), 1, closed.since + 2)
    assert (opened.rate, opened.open_rate) == (pytest.approx(rate, rel=0.02), 0)
    # A refusal right after that is one of its own.
    assert not knock(opened, opened.since + 0.01).open_rate


# What a path tells.

STEP = 0.05


def climb(path: Path, limit: float, burst: float, start: float, speed: float, level: float = 0.0) -> Path:
    """Lengthen the path by a climb that a bucket of `burst` requests refuses, and by a hold of a second."""
    rate = start
    while True:
        level = max(level + (rate - limit) * STEP, 0.0)
        if level >= burst:
            return (*add_refusal(path, STEP, rate), Leg(1.0, 0.0))
        path = add_leg(path, Leg(STEP, rate * STEP))
        rate *= exp(speed * STEP)


def count(path: Path, limit: float, phase: float, start: float, speed: float) -> Path:
    """Lengthen the path by a climb that a count refuses, which begins anew each second, and by a hold of a second."""
    at, counted, rate = phase, 0.0, start
    while True:
        at, counted = at + STEP, counted + rate * STEP if int(at + STEP) == int(at) else rate * STEP
        if counted >= limit:
            return (*add_refusal(path, STEP, rate), Leg(1.0, 0.0))
        path = add_leg(path, Leg(STEP, rate * STEP))
        rate *= exp(speed * STEP)


@pytest.mark.parametrize("burst", [10, 60, 110])
def test_two_climbs_of_different_speed_tell_limit_and_burst(burst: float) -> None:
    path = climb(climb((), 120, burst, 30, 0.8), 120, burst, 90, 0.06)
    limit = estimate_limit(path)
    assert limit == pytest.approx(120, rel=0.02)
    assert walk(path, limit)[1] == pytest.approx(burst, rel=0.1, abs=3)
    assert find_excess(path, limit) < 1


def test_slots_that_were_left_unused_while_climbing_are_no_reason_to_forget_what_was_sent() -> None:
    slow = (Leg(1.0, 9.0), Leg(1.0, 36.0), Leg(1.0, 69.0))
    path = climb(climb(slow, 120, 120, 140, 0.3), 120, 120, 150, 0.07)
    assert estimate_limit(path) == pytest.approx(120, rel=0.02)


def test_what_is_known_stays_where_it_explains_what_was_seen_as_well() -> None:
    """One refusal leaves nearly all open."""
    path = climb((), 120, 60, 30, 0.8)
    assert estimate_limit(path, known=110.0) == pytest.approx(110.0)
    assert estimate_limit(path, known=500.0) < 300


def test_refusals_from_before_the_limit_has_changed_are_forgotten() -> None:
    before = climb(climb((), 120, 60, 30, 0.8), 120, 60, 90, 0.06)
    path, limit, _ = explain(climb(before, 60, 60, 115, 0.01), 120.0)
    assert count_refusals(path) < 3
    assert limit < 100


def test_of_older_refusals_the_burst_alone_is_known() -> None:
    """The bucket is so large that a hold of a second does not fill it again."""
    path: Path = ()
    for number in range(KEPT_REFUSALS + 1):
        path = climb(path, 120, 480, 100, 0.8 if not number else 0.06, level=360.0 if number else 0.0)
    kept, limit, burst = explain(path, 120.0)
    assert (count_refusals(kept), limit) == (KEPT_REFUSALS, pytest.approx(120, rel=0.02))
    assert kept[0] == Leg(1 / limit, pytest.approx(burst), is_refused=True)
    assert burst == pytest.approx(480, rel=0.1)


def test_who_knows_how_much_is_forgiven_needs_one_refusal() -> None:
    assert find_limit(climb((), 120, 60, 100, 0.07), 0.5) == pytest.approx(120, rel=0.03)


@pytest.mark.parametrize("phase", [0.0, 0.4, 0.9])
def test_a_count_is_believed_where_it_explains_what_was_refused(phase: float) -> None:
    path = count(count((), 120, phase, 30, 0.8), 120, (phase + 0.37) % 1, 100, 0.06)
    assert 0.9 * 120 < find_count(path) <= 121
    assert explain(path, 0.0)[1] == find_count(path)
    longer = tuple(leg._replace(seconds=5.0) if not leg.sent else leg for leg in path)
    assert find_count(longer) == 0


def test_a_small_bucket_is_no_count() -> None:
    assert find_count(climb(climb((), 120, 10, 30, 0.8), 120, 10, 90, 0.06)) == 0
    assert find_count(climb((), 120, 10, 30, 0.8)) == 0


TWO_LEGS = (Leg(1.0, 10.0), Leg(1.0, 100.0))
HELD_ONCE = (Leg(1.0, 100.0, is_refused=True), Leg(1.0, 0.0))


@pytest.mark.parametrize(
    ("found", "path"),
    [
        # A refusal of a request from before cuts the path there.
        (add_refusal(TWO_LEGS, -0.5, 100.0), (Leg(1.0, 10.0), Leg(0.5, 50.0, is_refused=True))),
        (add_refusal(TWO_LEGS, -1.0, 100.0), (Leg(1.0, 10.0, is_refused=True),)),
        (add_refusal(TWO_LEGS, 0.5, 100.0), (*TWO_LEGS, Leg(0.5, 50.0, is_refused=True))),
        (add_refusal((), 0.0, 100.0), (Leg(0.01, 1.0, is_refused=True),)),
        # Legs of one rate are one.
        (add_leg((Leg(1.0, 100.0),), Leg(2.0, 201.0)), (Leg(3.0, 301.0),)),
        (add_leg((Leg(1.0, 100.0),), Leg(2.0, 220.0)), (Leg(1.0, 100.0), Leg(2.0, 220.0))),
        (add_leg(HELD_ONCE, Leg(2.0, 0.0)), (HELD_ONCE[0], Leg(3.0, 0.0))),
        (add_leg(HELD_ONCE, Leg(0.0, 0.0)), HELD_ONCE),
    ],
)
def test_a_path_becomes_longer_or_is_cut(found: Path, path: Path) -> None:
    assert found == path


def test_a_path_is_no_longer_than_what_is_kept() -> None:
    path: Path = ()
    for number in range(2 * KEPT_LEGS):
        path = add_leg(path, Leg(1.0, 10.0 + 90 * (number % 2)))
    assert len(path) == KEPT_LEGS


LEGS = (Leg(3.0, 200.0), Leg(1.0, 90.0))


@pytest.mark.parametrize(("seconds", "sent"), [(0.5, 45), (1.0, 90), (2.5, 190), (inf, 290)])
def test_how_much_was_sent_in_the_last_seconds_lies_between_the_legs(seconds: float, sent: float) -> None:
    assert count_sent(LEGS, seconds) == pytest.approx(sent)


@pytest.mark.parametrize(("more", "excess"), [(60, 1), (180, 3)])
def test_levels_may_differ_by_a_few_requests_and_the_burst_by_a_part_of_itself(more: float, excess: float) -> None:
    path = (Leg(1.0, 150.0, is_refused=True), Leg(1.0, 0.0), Leg(1.0, 100.0 + more))
    assert find_excess(path, 100.0) == pytest.approx(excess, rel=0.1)
