"""The tables of RFC 4226 appendix D and RFC 6238 appendix B, and how the server's side of a token judges an OTP."""

import pytest

from worker.simulator.oath import FIRST_OTP_REMEMBERED, Token, Verdict, hotp, time_step_at

SECRET = b"12345678901234567890"
SECRETS = {"sha1": SECRET, "sha256": (SECRET * 2)[:32], "sha512": (SECRET * 4)[:64]}
HOTP_TABLE = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]
TOTP_TABLE = {
    59: ("94287082", "46119246", "90693936"),
    1111111109: ("07081804", "68084774", "25091201"),
    1111111111: ("14050471", "67062674", "99943326"),
    1234567890: ("89005924", "91819424", "93441116"),
    2000000000: ("69279037", "90698825", "38618901"),
    20000000000: ("65353130", "77737706", "47863826"),
}
ACCEPTED, EXTRA, REFUSED = Verdict.ACCEPTED, Verdict.EXTRA_OTP_REQUIRED, Verdict.REFUSED
NOW = 1_000_000_000.0
STEP = time_step_at(NOW, 30)


def test_otps_are_those_of_the_rfcs():
    assert [hotp(SECRET, counter) for counter in range(10)] == HOTP_TABLE
    for now, otps in TOTP_TABLE.items():
        found = [hotp(secret, time_step_at(now, 30), 8, name) for name, secret in SECRETS.items()]
        assert tuple(found) == otps
    assert hotp(bytes.fromhex("a087daeb6fffc0811cccc88dfaf9cb509e3361cf"), 2) == "000634"


# What is offered one after the other, with `oathResync` if it says so, and what the server says of each.
HOTP_STORIES = {
    "in the window, its first and last": [(5, False, ACCEPTED), (15, False, ACCEPTED)],
    "beyond the window it asks for another": [(15, False, EXTRA), (16, True, ACCEPTED), (15, False, REFUSED)],
    "as far as it looks": [(104, False, EXTRA)],
    "out of range, or passed": [(105, False, REFUSED), (4, False, REFUSED)],
    "never twice": [(8, False, ACCEPTED), (8, False, REFUSED), (7, False, REFUSED), (9, False, ACCEPTED)],
    "the second without oathResync": [(50, False, EXTRA), (51, False, REFUSED)],
    "a second that does not follow": [(50, False, EXTRA), (52, True, REFUSED)],
    "a refusal ends the resync": [(50, False, EXTRA), (49, True, REFUSED), (51, True, EXTRA)],
    "another pair begins anew": [(50, False, EXTRA), (60, False, EXTRA), (61, True, ACCEPTED)],
    "the first once more": [(50, False, EXTRA), (50, True, EXTRA), (51, True, ACCEPTED)],
}


@pytest.mark.parametrize("story", HOTP_STORIES)
def test_the_otps_of_a_counter(story):
    token = Token(secret=SECRET, counter=5)
    for position, resync, verdict in HOTP_STORIES[story]:
        assert token.check_otp(hotp(SECRET, position), resync=resync, now=NOW) is verdict


# Time steps ahead of the server's, at so many seconds from now.
TOTP_STORIES = {
    "around the time": [(1, 0, ACCEPTED)],
    "the step before": [(-1, 0, ACCEPTED), (-1, 0, REFUSED), (1, 30, ACCEPTED)],
    "too late, or too early": [(2, 0, EXTRA), (-20, 0, EXTRA), (21, 0, REFUSED)],
    "a clock's drift is learnt": [(5, 0, EXTRA), (6, 0, ACCEPTED), (16, 300, ACCEPTED)],
}


@pytest.mark.parametrize("story", TOTP_STORIES)
def test_the_otps_of_a_clock(story):
    token = Token(secret=SECRET, type="totp")
    for ahead, later, verdict in TOTP_STORIES[story]:
        resync = token.first is not None and token.first.position + 1 == STEP + ahead
        assert token.check_otp(hotp(SECRET, STEP + ahead), resync=resync, now=NOW + later) is verdict


def test_the_first_otp_is_forgotten_in_time():
    token = Token(secret=SECRET)
    token.check_otp(hotp(SECRET, 50), resync=False, now=NOW)
    assert token.check_otp(hotp(SECRET, 51), resync=True, now=NOW + FIRST_OTP_REMEMBERED) is EXTRA


def test_where_only_oath_resync_brings_the_request_for_another():
    token = Token(secret=SECRET)
    assert token.check_otp(hotp(SECRET, 50), resync=False, now=NOW, needs_resync=True) is REFUSED
    assert token.check_otp(hotp(SECRET, 50), resync=True, now=NOW, needs_resync=True) is EXTRA
    assert token.check_otp(hotp(SECRET, 5), resync=False, now=NOW, needs_resync=True) is ACCEPTED


def test_a_token_out_of_step_needs_two_otps_wherever_it_stands():
    token = Token(secret=SECRET, out_of_step=True)
    verdicts = [token.check_otp(hotp(SECRET, n), resync=n == 1, now=NOW) for n in range(3)]
    assert verdicts == [EXTRA, ACCEPTED, ACCEPTED]


def test_a_button_shows_the_next_two_otps_and_the_server_learns_nothing():
    token = Token(secret=SECRET, pressed=6)
    pressed = [token.press_twice(), token.press_twice()]
    assert (pressed, token.counter) == ([("287922", "162583"), ("399871", "520489")], 0)
    assert Token(secret=SECRET, type="totp").press_twice() is None


def test_a_token_without_a_secret_refuses_all_and_no_secret_shows_in_a_repr():
    assert Token().check_otp("755224", resync=False, now=NOW) is REFUSED
    assert (Token().press_twice(), "123456" in repr(Token(secret=SECRET))) == (None, False)
