"""How often a token is pressed before its first sign-on, and how a person is told."""

import pytest

from worker.reports.export import IF_REFUSED, advise, count_presses


@pytest.mark.parametrize(
    ("first", "following", "presses"),
    [
        (0, 1, 1),  # the first OTP was accepted
        (0, 2, 2),  # it was out of step: both were sent
        (7, 9, 2),  # the file does not begin with 0
        (7, 7, 0),  # nothing was sent: the device was ACTIVE already
        (0, 60, 60),  # many replays
        (2**63 - 3, 2**63 - 1, 2),  # the highest counters of all
        (None, 60_000_002, 0),  # TOTP, whose next counter is the number of a time step
        (None, None, 0),  # a pair, read off the token
    ],
)
def test_a_token_is_pressed_beyond_every_otp_that_was_sent_on_its_behalf(first, following, presses):
    assert count_presses(first, following) == presses


@pytest.mark.parametrize(
    ("otp_type", "presses", "said"),
    [
        ("hotp", 0, "Press the token and sign on with the number that it shows."),
        ("hotp", 1, "Press once and throw the number away; sign on with the second."),
        ("hotp", 2, "Press 2 times and throw these 2 numbers away; sign on with the next one, number 3."),
        ("totp", 0, "Sign on with the number that the token shows now."),
    ],
)
def test_a_person_is_told_what_to_do(otp_type, presses, said):
    assert advise(otp_type, presses) == f"{said} {IF_REFUSED}"
