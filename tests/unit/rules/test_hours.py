"""The hours of a day by the clocks of a zone: over midnight, and in nights in which clocks are put forward or back."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.rules.hours import DailyHours, UnfitHours, format_time

NIGHT = DailyHours(time(22), time(5, 30), "Europe/Berlin")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def berlin(hours: str) -> DailyHours:
    return DailyHours.parse(hours, "Europe/Berlin")


# What is understood, and what is not.


@pytest.mark.parametrize(
    ("hours", "zone", "text"),
    [
        ("22:00-05:30", "Europe/Berlin", "22:00-05:30 Europe/Berlin"),
        (" 8:05-9:00 ", " UTC ", "08:05-09:00 UTC"),
        ("20:00-24:00", "America/New_York", "20:00-00:00 America/New_York"),
        ("00:00-23:59", "Pacific/Auckland", "00:00-23:59 Pacific/Auckland"),
    ],
)
def test_hours_and_zone_are_understood(hours: str, zone: str, text: str) -> None:
    window = DailyHours.parse(hours, zone)

    assert str(window) == text
    assert DailyHours.parse(window.hours, window.zone) == window


@pytest.mark.parametrize(
    "hours",
    ["", "22:00", "22-05", "22:00-5", "24:00-05:00", "22:60-05:00", "25:00-05:00", "22:00-05:30Z", "22:00–05:30"],
)
def test_what_are_no_hours_is_told_with_the_form(hours: str) -> None:
    with pytest.raises(UnfitHours, match="write it as 22:00-05:30"):
        DailyHours.parse(hours, "UTC")


@pytest.mark.parametrize("hours", ["22:00-22:00", "00:00-24:00", "7:30-07:30"])
def test_a_window_without_an_end_is_refused(hours: str) -> None:
    with pytest.raises(UnfitHours, match=r"begins and ends at the same time.*runs all day"):
        DailyHours.parse(hours, "UTC")


@pytest.mark.parametrize(
    ("zone", "guess"),
    [
        ("Europe/Belin", "did you mean Europe/Berlin"),
        ("europe/berlin", "did you mean Europe/Berlin"),
        ("Berlin", "did you mean Europe/Berlin"),
        ("new york", "did you mean America/New_York"),
        ("", "Use a name from the IANA database"),
        ("+01:00", "such as Europe/Berlin"),
        ("../../etc/passwd", "such as Europe/Berlin"),
        ("/etc/localtime", "such as Europe/Berlin"),
        ("localtime", "such as Europe/Berlin"),
    ],
)
def test_what_is_no_zone_is_told_with_what_is_one(zone: str, guess: str) -> None:
    with pytest.raises(UnfitHours, match="is not a time zone") as caught:
        DailyHours.parse("22:00-05:30", zone)
    assert guess in str(caught.value)


# Open or closed.


@pytest.mark.parametrize(
    ("moment_", "is_open"),
    [
        ("2026-11-25 20:59:59.999", False),
        ("2026-11-25 21:00", True),
        ("2026-11-25 23:00", True),
        ("2026-11-26 04:29:59.999", True),
        ("2026-11-26 04:30", False),
        # In summer the same clocks show the same times an hour sooner.
        ("2026-07-25 20:00", True),
        ("2026-07-26 03:29", True),
        ("2026-07-26 03:30", False),
    ],
)
def test_a_window_over_midnight(moment_: str, is_open: bool) -> None:
    assert NIGHT.contains(at(moment_)) == is_open


def test_the_next_change_is_later_than_the_moment_at_which_it_is_asked_for() -> None:
    opens = at("2026-11-25 21:00")

    assert NIGHT.find_next_change(opens - timedelta(microseconds=1)) == opens
    assert NIGHT.find_next_change(opens) == at("2026-11-26 04:30")


# At 01:00 UTC, Berlin puts its clocks forward on 29 March 2026, from 02:00 to 03:00, and back on 25 October, from 03:00
# to 02:00.


@pytest.mark.parametrize(
    ("window", "after", "changes"),
    [
        # A window within a day opens and closes each day.
        (
            DailyHours.parse("08:00-12:00", "America/New_York"),
            "2026-11-25 00:00",
            ["11-25 13:00", "11-25 17:00", "11-26 13:00", "11-26 17:00"],
        ),
        # The night is an hour shorter, or longer.
        (NIGHT, "2026-03-28 12:00", ["03-28 21:00", "03-29 03:30"]),
        (NIGHT, "2026-10-24 12:00", ["10-24 20:00", "10-25 04:30"]),
        # A beginning or an end that no clock shows is the moment at which clocks are put forward; a window that no
        # clock shows is passed over for a night.
        (berlin("02:30-04:00"), "2026-03-28 12:00", ["03-29 01:00", "03-29 02:00"]),
        (berlin("01:00-02:30"), "2026-03-28 12:00", ["03-29 00:00", "03-29 01:00"]),
        (berlin("02:10-02:50"), "2026-03-28 12:00", ["03-30 00:10", "03-30 00:50"]),
        # An hour that comes twice counts both times: once more after the clocks were put back.
        (berlin("02:10-02:50"), "2026-10-24 12:00", ["10-25 00:10", "10-25 00:50", "10-25 01:10", "10-25 01:50"]),
        # Samoa had no 30 December 2011: 10:00 on the 31st.
        (DailyHours.parse("10:00-11:00", "Pacific/Apia"), "2011-12-29 22:00", ["12-30 20:00"]),
    ],
)
def test_hours_open_and_close_by_the_clocks_of_their_zone(window: DailyHours, after: str, changes: list[str]) -> None:
    found, moment = [], at(after)
    for _ in changes:
        moment = window.find_next_change(moment)
        found.append(f"{moment:%m-%d %H:%M}")
    assert found == changes


ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca")
moments = st.integers(1_577_836_800, 2_114_380_800).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
minutes = st.integers(0, 24 * 60 - 1)


@st.composite
def windows(draw: st.DrawFn) -> DailyHours:
    start, end = draw(st.lists(minutes, min_size=2, max_size=2, unique=True))
    return DailyHours(time(*divmod(start, 60)), time(*divmod(end, 60)), draw(st.sampled_from(ZONES)))


@given(windows(), moments)
def test_it_is_open_while_clocks_show_a_minute_between_its_beginning_and_its_end(
    window: DailyHours, now: datetime
) -> None:
    shown = now.astimezone(ZoneInfo(window.zone))
    minute, start, end = (each.hour * 60 + each.minute for each in (shown, window.start, window.end))

    assert window.contains(now) == ((minute - start) % 1440 < (end - start) % 1440)


@given(windows(), moments, st.floats(0, 0.99))
@example(DailyHours(time(2, 10), time(2, 50), "Europe/Berlin"), at("2026-10-25 00:20"), 0.5)
def test_nothing_changes_before_the_next_change_and_all_does_at_it(
    window: DailyHours, now: datetime, share: float
) -> None:
    then = window.find_next_change(now)

    assert now < then <= now + timedelta(days=2)
    assert window.contains(then) != window.contains(now)
    assert window.contains(now + (then - now) * share) == window.contains(now)
    assert window.contains(then - timedelta(microseconds=1)) == window.contains(now)


def test_a_moment_is_told_in_utc() -> None:
    assert format_time(at("2026-11-25 21:00:59")) == "2026-11-25 21:00 UTC"


@pytest.mark.parametrize(
    ("start", "end", "hours"), [(time(22), time(5, 30), 7.5), (time(9), time(17), 8), (time(22), time(0), 2)]
)
def test_hours_are_measured_over_midnight_too(start: time, end: time, hours: float) -> None:
    assert DailyHours(start, end, "UTC").seconds == hours * 3600
