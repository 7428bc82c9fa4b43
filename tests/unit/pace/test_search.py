"""How the rate climbs, stays and gives way, and what a path of answers and refusals tells of a limit; over the whole of
a job: test_limits.py."""

from dataclasses import replace
from math import exp, inf
from typing import Any

import pytest

from worker.pace.search import (
    KNOCKS,
    LEAST_START,
    LONGEST_KNOCK_WAIT,
    LONGEST_PROBE_WAIT,
    LOWEST_RATE,
    PROBE_AFTER,
    PROBING_CLIMB,
    SECOND_CLIMB,
    SLOWEST_CLIMB,
    SPRINT,
    Search,
    compute_waste,
    hold_rate,
    learn_from_answers,
    learn_from_refusal,
    restart_counting,
    settle,
    stay_below,
)
from worker.pace.token_bucket import (
    KEPT_LEGS,
    Estimate,
    Leg,
    Path,
    Refusal,
    add_leg,
    add_refusal,
    count_refusals,
    count_sent,
    estimate_limit,
    explain,
    find_level,
    find_limit,
    forget_before,
    read_refusals,
)

# The hold after a refusal at 9, which lasted until 10.
HELD: Path = (Leg(1.0, 0.0),)


def make_stay(seconds: float = 10.0, sent: float = 1990.0, **changes: Any) -> Search:
    """A stay below 200 a second, which forgives 100, for so many seconds, in which so many requests were sent."""
    path = (*HELD, Leg(seconds, sent)) if seconds else HELD
    stay = hold_rate(restart_counting(Search(199.0, ceiling=200.0, burst=100.0), now=10.0, path=path), PROBE_AFTER)
    return replace(stay, **{"since": 10.0 + seconds, "refused_at": 9.0} | changes)


CLIMBING = Search(100.0, climb=0.07)


def answer(search: Search, slots: int, at: float, *, since: float = 0.0, highest: float = 500.0) -> Search:
    """The search after an answer at this time, to the last of so many slots, which was now or `since` seconds ago."""
    return learn_from_answers(search, slots, last=at - since, now=at, highest=highest, next_slot=at)


def test_a_climb_grows_by_its_speed_where_it_is_used_and_waits_for_an_answer() -> None:
    assert learn_from_answers(CLIMBING, slots=9, last=0.05, now=0.06, highest=500, next_slot=0.09) is CLIMBING
    grown = learn_from_answers(CLIMBING, slots=20, last=0.1, now=0.16, highest=500, next_slot=0.2)
    assert grown.rate == pytest.approx(100 * (1 + 0.07 * 0.2), rel=0.001)
    assert (grown.since, grown.path) == (0.2, (Leg(0.2, 20.0),))
    unused = learn_from_answers(CLIMBING, slots=10, last=0.1, now=0.16, highest=500, next_slot=0.2)
    assert unused == replace(CLIMBING, since=0.2, path=(Leg(0.2, 10.0),))


@pytest.mark.parametrize(("latency", "speed"), [(0.01, 0.8), (0.2, 0.25), (1.0, 0.12)])
def test_the_first_climb_is_slower_where_answers_are_slow(latency: float, speed: float) -> None:
    now = 0.2 + latency
    search = answer(Search(30.0), round(30 * now), now, since=latency)
    assert (search.rate / 30 - 1) / now == pytest.approx(speed, rel=0.1)


def refuse(search: Search, slot: float, rate: float = 199.0) -> Search:
    return learn_from_refusal(search, rate, slot, count=5, resumes_at=slot + 1.06)


def test_the_second_climb_is_slow_and_begins_further_down() -> None:
    refused = refuse(Search(200.0, since=2.0, path=(Leg(1.0, 60.0), Leg(1.0, 150.0))), 2.0, 200.0)
    assert (refused.climb, refused.ceiling) == (SECOND_CLIMB, 0)
    assert LEAST_START * 200 <= refused.rate < 0.7 * 200


def test_a_climb_that_comes_further_than_expected_speeds_up() -> None:
    climbing = make_stay(climb=0.05, expected=220.0)
    rates = (215.0, 230.0, 245.0)
    slow, quick, quicker = (answer(replace(climbing, rate=rate), 50, 20.2, highest=900).rate / rate for rate in rates)
    assert slow - 1 == pytest.approx(0.05 * 0.2, rel=0.01)
    assert quick - 1 > 1.8 * (slow - 1)
    assert quicker - 1 > 1.1 * (quick - 1)


def test_at_the_highest_rate_nothing_is_known_of_the_limit_but_that_it_is_higher() -> None:
    highest = answer(make_stay(climb=0.05), 50, 20.2, highest=200)
    assert (highest.rate, highest.climb, highest.ceiling) == (200, 0, 0)
    assert answer(replace(highest, probe_at=0.0), 220, 21.3).climb > 0


@pytest.mark.parametrize(("lasted", "climb"), [(10.0, 0.025), (600.0, SLOWEST_CLIMB)])
def test_after_a_slow_first_climb_the_second_is_slower_still_but_no_slower_than_any(
    lasted: float, climb: float
) -> None:
    refused = refuse(Search(100.0, climb=0.1, since=lasted, path=(Leg(lasted, 100 * lasted),)), lasted, 100.0)
    assert refused.climb == pytest.approx(climb)


IDLE = [(Leg(0.2, 40.0),), (*HELD, Leg(0.1, 5.0), Leg(0.1, 20.0))]


@pytest.mark.parametrize(
    ("stay", "slot", "lowest", "highest"),
    [
        # 1,990 in 10 s, of which 100 were forgiven.
        (make_stay(), 20.0, 187, 191),
        # Refused late, it goes down a little; soon, it is of a limit that fell, but it falls by half at the most.
        (make_stay(190.0, 199.0 * 190), 200.0, 198, 199.6),
        (make_stay(0.5, 0.5 * 199), 10.9, 98, 102),
        (make_stay(0.1, 19.9), 10.3, 99.999, 100.001),
        # What leaves at once after an idle moment, as when it begins, tells little, while it stays and while it climbs.
        *((make_stay(climb=climb, since=10.2, path=path), 10.5, 188, 192) for climb in (0.0, 0.05) for path in IDLE),
    ],
)
def test_a_stay_that_is_refused_goes_down_by_what_the_refusal_tells(
    stay: Search, slot: float, lowest: float, highest: float
) -> None:
    assert lowest < refuse(stay, slot).ceiling < highest


def test_a_limit_that_fell_is_looked_at_for_a_rise_soon_and_after_a_small_drop_the_rate_waits_a_while() -> None:
    fallen = refuse(make_stay(0.5, 0.5 * 199), 10.9)
    assert count_refusals(fallen.path) == 1
    assert fallen.probe_after < PROBE_AFTER
    lowered = refuse(make_stay(190.0, 199.0 * 190, probe_at=200.5), 200.0)
    assert lowered.probe_at == pytest.approx(lowered.begun_at + PROBE_AFTER / 4)


def test_what_a_hold_has_given_to_a_bucket_is_spent_in_a_sprint() -> None:
    """The bucket of 100 was empty, and nothing was sent for a second: three quarters of it are spent."""
    sprinting = refuse(make_stay(), 20.0)
    assert sprinting.rate == pytest.approx(SPRINT * sprinting.ceiling)
    assert sprinting.lasting_rate == sprinting.rate_below_ceiling
    slots = 0
    while sprinting.is_sprinting:
        used = round(sprinting.rate * 0.1)
        slots += used
        sprinting = answer(sprinting, used, sprinting.review_due_at)
    lasted = sprinting.since - sprinting.begun_at
    assert slots - sprinting.ceiling * lasted == pytest.approx(0.75 * 100, abs=5)
    assert sprinting.rate == sprinting.rate_below_ceiling


def test_what_an_idle_moment_has_given_to_a_bucket_is_spent_too() -> None:
    idle = answer(make_stay(path=(Leg(9.0, 0.0),)), 5, 21.0)
    assert idle.is_sprinting
    assert not answer(replace(idle, rate=119.4, share=0.6), 60, 22.0).is_sprinting


@pytest.mark.parametrize(("highest", "climb"), [(500, PROBING_CLIMB), (199, 0)])
def test_a_stay_climbs_again_when_it_is_time(highest: float, climb: float) -> None:
    search = make_stay()
    due = answer(search, 199 * 31, search.probe_at, highest=highest)
    assert (due.climb, due.rate) == (climb, search.rate)


def test_what_is_done_for_a_moment_does_not_outlive_a_redis_that_forgets() -> None:
    assert make_stay(rate=2.0, closed_since=9.0, open_rate=199.0).lasting_rate == 199.0
    assert make_stay(rate=220.0).lasting_rate == pytest.approx(199.0)


@pytest.mark.parametrize(("burst", "waste"), [(0.0, 5.0), (1.0, 5 - 0.75), (60.0, 5 * 0.25)])
def test_what_a_hold_gives_to_a_bucket_is_not_wasted(burst: float, waste: float) -> None:
    assert compute_waste(5.0, burst) == pytest.approx(waste)


KNOWN = replace(Search(120.0), ceiling=100.0, probe_after=60.0)


@pytest.mark.parametrize(
    ("hold", "search", "ceiling", "probe_after"),
    [
        # The more a refusal wastes, the further below the limit the rate stays; where holds are long, below all that
        # the limit may be.
        (2.0, Search(120.0), 99.9, 60.0),
        (8.0, Search(120.0), 99.6, 240.0),
        (20.0, Search(120.0), 95 * 0.99, 600.0),
        # A climb that finds nothing is followed by a longer wait, but not by any longer one.
        (2.0, KNOWN, 99.9, 90.0),
        (2.0, replace(KNOWN, probe_after=3000.0), 99.9, LONGEST_PROBE_WAIT),
    ],
)
def test_the_rate_stays_below_the_limit_that_climbs_have_told(
    hold: float, search: Search, ceiling: float, probe_after: float
) -> None:
    """A count of 100 a second, as two climbs have told it; nothing was sent for `hold` seconds after."""
    estimate = Estimate(limit=100.0, low=95.0, high=105.0, burst=0.0, is_count=False, contradiction=0.0)
    stay = settle(search, hold, estimate)
    assert (stay.ceiling, stay.probe_after) == (pytest.approx(ceiling), probe_after)


@pytest.mark.parametrize(("rate", "lowest"), [(200.0, LOWEST_RATE), (1.0, 1.0)])
def test_no_refusal_lowers_the_rate_below_the_lowest_or_what_a_person_began_with(rate: float, lowest: float) -> None:
    stay = stay_below(Search(rate), limit=0.1, burst=0.0, wait=30.0)
    assert stay.rate == stay.rate_below_ceiling == pytest.approx(lowest)


def knock(search: Search, slot: float) -> Search:
    return learn_from_refusal(search, search.rate, slot, count=0, resumes_at=slot + 1.0)


def test_where_the_first_request_after_a_hold_is_refused_few_ask() -> None:
    closed = knock(make_stay(0.0), 10.0)
    assert (closed.rate, closed.closed_since, closed.open_rate) == (KNOCKS, 9.0, 199.0)
    waits = []
    for _ in range(40):
        slot = closed.begun_at
        closed = knock(closed, slot)
        waits.append(closed.begun_at - slot)
    assert waits == pytest.approx(sorted(waits))
    assert (waits[0], waits[-1]) == (1.0, pytest.approx(LONGEST_KNOCK_WAIT))
    assert closed.knock_at == pytest.approx(closed.begun_at)


def test_what_was_out_of_order_goes_on_as_before() -> None:
    """The limit was known before, and 1,990 in ten seconds and two are not one that counts over twelve."""
    closed = knock(make_stay(0.0, path=(Leg(10.0, 1990.0, is_refused=True), *HELD)), 10.0)
    slot = closed.begun_at
    opened = learn_from_answers(closed, 1, last=slot, now=slot + 0.06, highest=500, next_slot=slot + 0.5)
    assert (opened.rate, opened.ceiling, opened.closed_since) == (199.0, 200.0, 0.0)
    assert knock(opened, opened.begun_at).open_rate == 199.0 / 2


# 1,200 requests in ten seconds, and then a refusal.
USED_UP = learn_from_refusal(
    Search(200.0, since=10.0, path=(Leg(10.0, 1200.0),)), 200.0, slot=10.0, count=5, resumes_at=11.0
)


@pytest.mark.parametrize(
    ("opens", "period", "ceiling"),
    # What is closed for longer than any count lasts tells of no count.
    [(60.0, 60, pytest.approx(20, rel=0.01)), (200.0, 0, 0)],
)
def test_a_count_of_many_seconds_is_told_by_how_long_it_was_closed(opens: float, period: float, ceiling: Any) -> None:
    closed = replace(knock(USED_UP, 11.0), refused_at=opens - 1, begun_at=opens, since=opens)
    opened = learn_from_answers(closed, 1, last=opens + 1, now=opens + 1.06, highest=500, next_slot=opens + 1.1)
    assert opened.period == pytest.approx(period, abs=1)
    assert not period or opened.ceiling == ceiling


def test_holds_that_end_when_a_count_begins_anew_tell_it_too() -> None:
    search = Search(200.0, since=10.0, path=(Leg(10.0, 1200.0),))
    refused = learn_from_refusal(search, 200.0, slot=10.0, count=5, resumes_at=30.0)
    again = replace(refused, since=60.0, path=(*refused.path, Leg(30.0, 1200.0)))
    found = learn_from_refusal(again, again.rate, slot=60.0, count=5, resumes_at=90.5)
    assert found.ceiling == pytest.approx(20, rel=0.01)


@pytest.mark.parametrize("slots", [100, 3], ids=["used", "unused"])
def test_once_open_the_rate_from_before_is_forgotten_whether_the_slots_are_used_or_not(slots: int) -> None:
    later = answer(make_stay(rate=100.0, ceiling=101.0, open_rate=800.0), slots, 21.1, highest=900)
    assert (later.open_rate, later.lasting_rate) == (0, pytest.approx(100, rel=0.01))


def test_where_the_rate_is_hardly_more_than_a_knock_a_refusal_by_chance_is_no_count_of_many_seconds() -> None:
    search = Search(3.0, since=10.0, path=(Leg(10.0, 30.0),))
    closed = knock(learn_from_refusal(search, 3.0, slot=10.0, count=5, resumes_at=11.0), 11.0)
    last = closed.begun_at
    opened = learn_from_answers(closed, 1, last=last, now=last, highest=500, next_slot=last + 0.5)
    assert (opened.period, opened.closed_since) == (0, 0)


# What a path tells.

STEP = 0.05


def climb(path: Path, limit: float, burst: float, start: float, speed: float, hold: float = 1.0) -> Path:
    """Lengthen the path by a climb that a bucket of `burst` requests refuses, and by the hold after it."""
    level, rate = find_level(path, limit, burst), start
    while True:
        level = max(level + (rate - limit) * STEP, 0.0)
        if level >= burst:
            return (*add_refusal(path, STEP, rate), Leg(hold, 0.0))
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


@pytest.mark.parametrize("burst", [10, 60, 480])
def test_two_climbs_of_different_speed_tell_limit_and_burst_where_one_leaves_nearly_all_open(burst: float) -> None:
    one = climb((), 120, burst, 30, 0.8)
    estimate = estimate_limit(climb(one, 120, burst, 90, 0.07))
    assert (estimate.limit, estimate.is_contradicted) == (pytest.approx(120, rel=0.02), False)
    assert estimate.burst == pytest.approx(burst, rel=0.1, abs=3)
    assert estimate.low <= estimate.limit <= estimate.high
    assert estimate_limit(one).high - estimate_limit(one).low > 3 * (estimate.high - estimate.low)


def test_slots_that_were_left_unused_while_climbing_are_no_reason_to_forget_what_was_sent() -> None:
    slow = (Leg(1.0, 9.0), Leg(1.0, 36.0), Leg(1.0, 69.0))
    assert estimate_limit(climb(climb(slow, 120, 120, 140, 0.3), 120, 120, 150, 0.07)).limit == pytest.approx(120, 0.02)


def test_what_was_let_through_tells_as_well_as_what_was_refused() -> None:
    """A stretch at 150 a second for two seconds cannot be of a limit of less than 125 that forgives 50."""
    let = (Leg(2.0, 300.0), Leg(10.0, 500.0))
    path = (*let, Leg(5.0, 650.0, is_refused=True), Leg(1.0, 0.0))
    assert estimate_limit(path).low > estimate_limit(path[2:]).low + 10


@pytest.mark.parametrize("known", [0.0, 60.0])
def test_spans_from_before_the_limit_has_changed_are_forgotten(known: float) -> None:
    before = climb(climb((), 120, 60, 30, 0.8), 120, 60, 90, 0.07)
    path, estimate = explain(climb(before, 60, 60, 115, 0.01), known)
    assert count_refusals(path) == 1
    assert estimate.low < 70
    if known:
        assert estimate.limit == pytest.approx(60, rel=0.1)
        assert estimate.low < estimate.limit < estimate.high


def test_who_knows_how_much_is_forgiven_needs_one_refusal() -> None:
    path = climb((), 120, 60, 100, 0.07)
    assert find_limit(path, 60) == pytest.approx(120, rel=0.02)
    assert find_limit(path, 0, 0.5) == pytest.approx(120, rel=0.02)


@pytest.mark.parametrize("phase", [0.0, 0.4, 0.9])
def test_a_count_is_believed_where_no_bucket_explains_what_was_refused(phase: float) -> None:
    path: Path = ()
    for number, (start, speed) in enumerate([(30, 0.8), (100, 0.07), (118, 0.01)]):
        path = count(path, 120, (phase + 0.37 * number) % 1, start, speed)
    estimate = estimate_limit(path)
    assert estimate.is_count
    assert estimate.limit == pytest.approx(120, rel=0.03)
    longer = tuple(leg._replace(seconds=5.0) if not leg.sent else leg for leg in path)
    assert not estimate_limit(longer).is_count


TWO_LEGS = (Leg(1.0, 10.0), Leg(1.0, 100.0))
HELD_ONCE = (Leg(1.0, 100.0, is_refused=True), Leg(1.0, 0.0))


@pytest.mark.parametrize(
    ("found", "path"),
    [
        # A refusal of a request from before cuts the path there.
        (add_refusal(TWO_LEGS, -0.5, 100.0), (Leg(1.0, 10.0), Leg(0.5, 50.0, is_refused=True))),
        (add_refusal(TWO_LEGS, -1.0, 100.0), (Leg(1.0, 10.0, is_refused=True),)),
        (add_refusal(TWO_LEGS, 0.5, 100.0), (*TWO_LEGS, Leg(0.5, 50.0, is_refused=True))),
        # Legs of one rate are one, but a hold stays what it is.
        (add_leg((Leg(1.0, 100.0),), Leg(2.0, 201.0)), (Leg(3.0, 301.0),)),
        (add_leg((Leg(1.0, 100.0),), Leg(2.0, 220.0)), (Leg(1.0, 100.0), Leg(2.0, 220.0))),
        (add_leg(HELD_ONCE, Leg(2.0, 0.0)), (*HELD_ONCE, Leg(2.0, 0.0))),
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


def test_what_is_known_of_each_refusal_is_read_from_the_path() -> None:
    first = (Leg(1.0, 30.0), Leg(2.0, 120.0, is_refused=True), Leg(5.0, 0.0))
    path = (*first, Leg(3.0, 200.0), Leg(1.0, 90.0, is_refused=True), Leg(2.0, 0.0))
    assert read_refusals(path) == [Refusal(3.0, 150.0, 5.0), Refusal(4.0, 290.0, 2.0)]
    assert forget_before(path) == path[2:]


LEGS = (Leg(3.0, 200.0), Leg(1.0, 90.0))


@pytest.mark.parametrize(
    ("path", "seconds", "sent"),
    [(LEGS, 0.5, 45), (LEGS, 1.0, 90), (LEGS, 2.5, 190), (LEGS, inf, 290), (add_refusal((), 0.0, 100.0), inf, 1)],
)
def test_how_much_was_sent_in_the_last_seconds_lies_between_the_legs(path: Path, seconds: float, sent: float) -> None:
    assert count_sent(path, seconds) == pytest.approx(sent)


@pytest.mark.parametrize(("held", "level"), [((), 60), ((Leg(0.5, 0.0),), 10), ((Leg(9.0, 0.0),), 0)])
def test_a_refusal_empties_a_bucket_and_a_hold_fills_it_no_further_than_it_goes(held: Path, level: float) -> None:
    path = (Leg(1.0, 10.0), Leg(1.0, 150.0, is_refused=True), *held)
    assert find_level(path, limit=100.0, burst=60.0) == pytest.approx(level)


def test_what_is_contradicted_by_a_tenth_of_the_burst_and_a_few_requests_may_be_chance() -> None:
    estimate = replace(estimate_limit(climb((), 120, 100, 30, 0.8)), limit=100.0, burst=100.0)
    assert not replace(estimate, contradiction=0.12).is_contradicted
    assert replace(estimate, contradiction=0.14).is_contradicted
