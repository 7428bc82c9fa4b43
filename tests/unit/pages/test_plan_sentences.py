"""What a plan says in sentences, for each way in which a batch can be made."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.data.plans import ASKED, NOTE, STOP, make_numbers, make_plan, make_preflight

from worker.pages import plan_sentences as say
from worker.pages.plan_contents import FindingLine, Plan, Target, Timing


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [
        (
            make_plan(),
            "3 tokens of july.csv are to be imported, paired and activated in the PingOne environment default at"
            " api.pingone.com.",
        ),
        (
            make_plan(may_import=False, may_pair=False, numbers=make_numbers(tokens=1)),
            "1 token of july.csv is to be activated in the PingOne environment default at api.pingone.com.",
        ),
    ],
)
def test_the_purpose_is_one_sentence(plan: Plan, sentence: str) -> None:
    assert say.describe_purpose(plan) == sentence


def test_nothing_stands_in_the_way_of_what_is_accepted() -> None:
    assert say.list_obstacles(make_plan(preflight=make_preflight(replace(ASKED, is_accepted=True), NOTE))) == []


def test_what_stops_and_what_is_asked_are_told_apart() -> None:
    stops, asks = say.list_obstacles(make_plan(preflight=make_preflight(STOP, ASKED, NOTE)))
    assert "nothing would be loaded: license. Mend that" in stops
    assert "it is asked about devices_old. Mend that, or accept it by --accept" in asks


@pytest.mark.parametrize(("is_complete", "words"), [(True, "was asked nothing"), (False, "could not be asked")])
def test_it_is_told_if_pingone_was_not_asked(is_complete: bool, words: str) -> None:
    preflight = make_preflight(is_asked=False, is_complete=is_complete)
    (obstacle,) = say.list_obstacles(make_plan(preflight=preflight))
    assert words in obstacle


def counts_of(plan: Plan) -> dict[str, str]:
    return {where: number for where, _, number in say.list_writes(plan) if where.startswith("PingOne")}


def test_what_is_written_in_pingone_is_counted() -> None:
    assert counts_of(make_plan()) == {
        "PingOne: inventory": "2",
        "PingOne: users": "3",
        "PingOne: devices": "at most 3",
        "PingOne: OTPs": "at most 9",
    }


def test_what_is_not_permitted_is_not_made() -> None:
    counts = counts_of(make_plan(may_import=False, may_pair=False))
    assert (counts["PingOne: inventory"], counts["PingOne: users"]) == ("none: not permitted", "none: not permitted")


def test_without_the_inventory_the_numbers_are_limits() -> None:
    assert counts_of(make_plan(numbers=make_numbers(is_exact=False)))["PingOne: inventory"] == "at most 2"


def test_a_share_of_the_rate_is_something_that_is_written() -> None:
    timing = Timing(7, 95.0, 30.0, share=0.6)
    assert any(
        where == "our pace" and number == "60 %" for where, _, number in say.list_writes(make_plan(timing=timing))
    )
    assert ("our pace" in {where for where, _, _ in say.list_writes(make_plan())}) is False


def test_the_command_is_called_what_it_is_for() -> None:
    said = [
        say.name_next_step(make_plan(preflight=make_preflight(*found))) for found in ((NOTE,), (ASKED,), (ASKED, STOP))
    ]
    assert said == [
        "To start it",
        "To make a new plan that accepts it",
        "To make a new plan, once that is mended",
    ]


def test_the_duration_says_that_the_license_has_no_more() -> None:
    told = say.describe_duration(Timing(7, 95.0, 3.0, is_rate_bought=True))
    assert told == "About 7 requests, which take 1 min 35 s at the 3 requests a second that the license has."


def test_the_duration_names_requests_and_rate() -> None:
    told = say.describe_duration(Timing(7, 95.0, 30.0))
    assert "About 7 requests, which take 1 min 35 s at the 30 requests a second" in told
    assert "60 % of what the license permits" in say.describe_duration(Timing(7, 95.0, 30.0, share=0.6))


@pytest.mark.parametrize(("seconds", "days"), [(1.0, "1 day"), (3600.0, "1 day"), (3601.0, "2 days")])
def test_hours_tell_in_how_many_days_it_is_done(seconds: float, days: str) -> None:
    told = say.describe_hours(Timing(7, seconds, 30.0, hours="22:00-23:00 UTC", hours_seconds=3600.0))
    assert "from 22:00-23:00 UTC only, 1 h 0 min a day" in told
    assert told.endswith(f"done in {days}.")
    assert "at any hour" in say.describe_hours(Timing(7, seconds, 30.0))


NOTIFIES = FindingLine("notification", "note", "PingOne may write to 3 people.")


@pytest.mark.parametrize(
    ("preflight", "told"),
    [
        (make_preflight(NOTIFIES), "PingOne may write to 3 people."),
        (make_preflight(), "policy sends people no message"),
        (make_preflight(is_asked=False), "is not known"),
        (make_preflight(unknown=("the policies: refused",)), "is not known"),
        (make_preflight(FindingLine("policy_unknown", "note", "No policy.")), "is not known"),
    ],
)
def test_messages_to_people_are_told_as_far_as_they_are_known(preflight: object, told: str) -> None:
    assert told in say.list_notices(make_plan(preflight=preflight))[0]


def test_presses_on_the_first_morning_and_locks_are_told() -> None:
    notices = say.list_notices(make_plan(preflight=make_preflight(NOTE)))
    assert any("3 HOTP tokens will lie behind" in notice for notice in notices)
    assert notices[-1] == f"Locks: {NOTE.text}"
    assert len(say.list_notices(make_plan(numbers=make_numbers(hotp_seeds=0)))) == 2


def test_commands_name_the_batch_as_a_shell_takes_it() -> None:
    plan = make_plan(target=Target("pallet 7", "default", "env-1", "a", "b", "license-1"))
    for command, _ in (*say.list_stops(plan), *say.list_undoing(plan)):
        assert "'pallet 7'" in command


def test_what_was_not_made_is_not_undone() -> None:
    whole = [command for command, _ in say.list_undoing(make_plan())]
    assert whole == [
        "oathbulk cancel july",
        "oathbulk unpair july",
        "oathbulk unpair july --yes",
        "oathbulk revoke july",
        "oathbulk revoke july --yes",
        "oathbulk verify july",
    ]
    little = make_plan(may_import=False, may_pair=False)
    assert [command for command, _ in say.list_undoing(little)] == ["oathbulk cancel july", "oathbulk verify july"]
    assert any("oathbulk removes none" in limit for limit in say.list_limits_of_undoing(little))
    assert not any("oathbulk removes none" in limit for limit in say.list_limits_of_undoing(make_plan()))
