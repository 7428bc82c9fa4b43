"""How the history of a token looks."""

from __future__ import annotations

import io

from rich.console import Console
from support.data.facts import DEVICE, NOW, USER, history_of, past_attempt, past_record, refused_line

from models.reason import CURES, Reason
from models.record_states import Status
from worker.cli.console import Room
from worker.cli.show import draw_history
from worker.reports.token_history import NextStep, TokenHistory, describe_attempt, tell_attempts

REFUSED = past_attempt(
    number=2,
    outcome="dead_letter",
    reason="invalid_otp",
    http_status=400,
    code="INVALID_DATA",
    detail_code="INVALID_OTP",
    pingone_error_id="9c3b1d0a-7e9b-4c01-8ad2-4b5e4c5a9c3b",
    correlation_id="1d0a7e9b-6c01-4c5a-9c3b-2f6d8ad24b5e",
    requests=2,
)
GIVEN_UP = past_record(
    Status.DEAD_LETTER,
    reason="invalid_otp",
    finalized_at=NOW,
    username="alice",
    email="alice@example.test",
    lot="L-7",
    extra={"Carton": "12"},
    otp1_state="answered",
    otp1_posts=1,
    attempts=[past_attempt(outcome="retry", reason="outcome_unknown", http_status=503), REFUSED],
)
AGAIN = past_record(Status.ACTIVE, id=71, batch={"name": "july-2", "file": "july-2.csv"}, are_otps_kept=False)
STEP = NextStep("nothing by itself", "A replay has no OTP of it to send.", "oathbulk export july -o july.csv")


def seen(token: TokenHistory, width: int = 400, step: NextStep = STEP) -> str:
    """Render the drawing as text, as a terminal without colours shows it."""
    page = io.StringIO()
    Console(file=page, width=width, highlight=False, markup=False).print(draw_history(token, step, Room(width, 24)))
    return page.getvalue()


def test_a_record_tells_where_it_stands_whose_it_is_and_how_it_stands():
    lines = seen(history_of(GIVEN_UP)).splitlines()

    assert lines[0] == "MADE7 in environment default (id)"
    assert "Batch july, row 9 of july.csv (#8)" in lines
    assert "  status    dead_letter (invalid_otp) since 2026-11-28 12:30:00 UTC" in lines
    assert f"  meaning   {CURES[Reason.INVALID_OTP]}" in lines
    for label, value in (("user", USER), ("username", "alice"), ("email", "alice@example.test"), ("device", DEVICE)):
        assert f"  {label:9} {value}" in lines
    assert "  lot       L-7" in lines
    assert "  Carton    12" in lines


def test_otps_are_told_in_words():
    lines = seen(history_of(GIVEN_UP)).splitlines()

    assert "  OTPs      HOTP pair, kept encrypted" in lines
    assert "  OTP 1     answered by PingOne, posted once" in lines
    assert "  OTP 2     not sent" in lines


def test_every_attempt_is_one_line():
    lines = seen(history_of(GIVEN_UP)).splitlines()

    (place,) = [number for number, line in enumerate(lines) if line.startswith("  attempts")]
    assert (
        lines[place]
        .split(maxsplit=1)[1]
        .startswith("1. 2026-11-28 12:30:00 UTC, retry (outcome_unknown), OTP 1 → HTTP 503,")
    )
    assert lines[place + 1].strip() == describe_attempt(tell_attempts(GIVEN_UP)[1])
    assert lines[place + 2].split(maxsplit=2)[:2] == ["in", "all"]


def test_an_attempt_names_all_that_support_asks_for():
    assert describe_attempt(tell_attempts(GIVEN_UP)[1]) == (
        "2. 2026-11-28 12:30:00 UTC, dead_letter (invalid_otp), OTP 1 → HTTP 400 INVALID_DATA/INVALID_OTP, 2 requests, "
        "error_id=9c3b1d0a-7e9b-4c01-8ad2-4b5e4c5a9c3b, correlation_id=1d0a7e9b-6c01-4c5a-9c3b-2f6d8ad24b5e"
    )


def test_what_happens_next_stands_at_the_end():
    assert seen(history_of(GIVEN_UP)).splitlines()[-3:] == [
        "Next      nothing by itself",
        "          A replay has no OTP of it to send.",
        "Command   oathbulk export july -o july.csv",
    ]
    assert seen(history_of(GIVEN_UP), step=NextStep("nothing")).splitlines()[-1] == "Next      nothing"


def test_no_id_is_cut_at_80_columns():
    page = seen(history_of(GIVEN_UP, AGAIN), width=80)

    assert max(map(len, page.splitlines())) <= 80
    for whole in (USER, DEVICE, REFUSED.pingone_error_id, REFUSED.correlation_id):
        assert str(whole) in page


def test_a_record_without_device_or_attempts_says_so():
    page = seen(history_of(past_record(user_id="", device_id="")))

    assert "  user      not known yet" in page
    assert "  device    none yet" in page
    assert "  attempts  none yet" in page


def test_what_a_file_brought_cannot_pass_for_a_line_of_ours():
    page = seen(history_of(past_record(username="eve\nNext  nothing: it is active", extra={"a\nb": "[bold]c"})))

    assert "eve\\nNext" in page
    assert "  a\\nb      [bold]c" in page


def test_a_column_of_the_file_takes_the_place_of_none_of_ours():
    page = seen(history_of(past_record(extra={"device": "blue", "OTPs": "two"})))

    assert f"  device    {DEVICE}" in page
    assert "  device    blue" in page
    assert "  OTPs      HOTP pair, kept encrypted" in page


def test_texts_stand_below_each_other_however_long_the_name_of_a_column_is():
    lines = seen(history_of(past_record(extra={"Cost centre": "4711"}))).splitlines()

    assert "  Cost centre  4711" in lines
    assert "  status       pending" in lines


def test_a_refused_row_is_told_above_the_records_or_alone():
    said = "Row 17 of july was refused: otp1 is missing: write it there"
    assert said in seen(history_of(refused=[refused_line()]))
    both = seen(history_of(AGAIN, refused=[refused_line()]))
    assert both.index(said) < both.index("july-2.csv")
