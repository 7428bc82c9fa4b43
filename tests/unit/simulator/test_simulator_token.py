"""How the server's side of a token judges an OTP."""

from dataclasses import replace

import pytest

from worker.simulator.oath import SecretOtps, SequenceOtps, hotp, time_step_at
from worker.simulator.token import Rules, Token, Verdict

ACCEPTED, EXTRA, REFUSED = Verdict.ACCEPTED, Verdict.EXTRA_OTP_REQUIRED, Verdict.REFUSED
SECRET = b"12345678901234567890"
RULES = Rules()
NOW = 1_000_000_000.0


def otp(position):
    return hotp(SECRET, position)


def make(counter=0, **fields):
    return Token(SecretOtps(SECRET), counter, **fields)


def offer(token, code, *, resync=False, now=NOW, rules=RULES):
    return token.check_otp(code, resync=resync, now=now, rules=rules)


@pytest.mark.parametrize("position", [5, 14])
def test_an_otp_inside_the_window_is_accepted(position):
    assert offer(make(5), otp(position)) is ACCEPTED


@pytest.mark.parametrize("position", [15, 104])
def test_an_otp_beyond_the_window_asks_for_another(position):
    assert offer(make(5), otp(position)) is EXTRA


@pytest.mark.parametrize("position", [4, 105])
def test_an_otp_that_was_passed_or_is_out_of_range_is_refused(position):
    assert offer(make(5), otp(position)) is REFUSED


def test_an_accepted_otp_is_never_accepted_again():
    token = make()
    assert offer(token, otp(3)) is ACCEPTED
    assert offer(token, otp(3)) is REFUSED
    assert offer(token, otp(2)) is REFUSED
    assert offer(token, otp(4)) is ACCEPTED


def test_the_next_consecutive_otp_completes_a_resync():
    token = make()
    offer(token, otp(50))
    assert offer(token, otp(51), resync=True) is ACCEPTED
    assert token.counter == 52
    assert offer(token, otp(50)) is REFUSED


def test_a_second_otp_without_oath_resync_is_refused():
    token = make()
    offer(token, otp(50))
    assert offer(token, otp(51)) is REFUSED


@pytest.mark.parametrize("second", [otp(52), otp(49), "000000"])
def test_a_second_otp_that_does_not_follow_is_refused(second):
    token = make()
    offer(token, otp(50))
    assert offer(token, second, resync=True) is REFUSED


def test_a_refusal_ends_the_resync():
    token = make()
    offer(token, otp(50))
    offer(token, "000000", resync=True)
    assert offer(token, otp(51), resync=True) is EXTRA


def test_another_pair_begins_another_resync():
    token = make()
    offer(token, otp(50))
    assert offer(token, otp(60)) is EXTRA
    assert offer(token, otp(61), resync=True) is ACCEPTED


def test_the_first_otp_is_forgotten_in_time():
    token = make()
    rules = replace(RULES, first_otp_remembered=60)
    offer(token, otp(50), rules=rules)
    assert offer(token, otp(51), resync=True, now=NOW + 60, rules=rules) is EXTRA
    assert offer(token, otp(52), resync=True, now=NOW + 119, rules=rules) is ACCEPTED


def test_the_first_otp_may_be_sent_again():
    token = make()
    offer(token, otp(50))
    assert offer(token, otp(50)) is EXTRA
    assert offer(token, otp(51), resync=True) is ACCEPTED


def test_in_the_other_reading_the_first_otp_is_used_up():
    rules = replace(RULES, first_otp_used_up=True)
    token = make()
    assert offer(token, otp(50), rules=rules) is EXTRA
    assert offer(token, otp(50), rules=rules) is REFUSED


def test_a_used_up_first_otp_still_leads_to_the_second():
    rules = replace(RULES, first_otp_used_up=True)
    token = make()
    offer(token, otp(50), rules=rules)
    assert offer(token, otp(51), resync=True, rules=rules) is ACCEPTED


def test_in_the_other_reading_only_oath_resync_brings_the_request_for_another():
    rules = replace(RULES, extra_otp_needs_resync=True)
    assert offer(make(), otp(50), rules=rules) is REFUSED
    assert offer(make(), otp(50), resync=True, rules=rules) is EXTRA
    assert offer(make(), otp(5), rules=rules) is ACCEPTED


def test_a_token_out_of_step_needs_two_otps_wherever_it_stands():
    token = make(out_of_step=True)
    assert offer(token, otp(0)) is EXTRA
    assert offer(token, otp(1), resync=True) is ACCEPTED
    assert offer(token, otp(2)) is ACCEPTED


def test_a_known_sequence_follows_the_same_rules():
    token = Token(SequenceOtps(("111111", "222222")))
    assert offer(token, "333333") is REFUSED
    assert offer(token, "111111") is ACCEPTED
    assert offer(token, "111111") is REFUSED


def test_a_known_sequence_out_of_step_takes_both_otps():
    token = Token(SequenceOtps(("111111", "222222")), out_of_step=True)
    assert offer(token, "111111") is EXTRA
    assert offer(token, "222222", resync=True) is ACCEPTED


def test_a_token_without_otps_refuses_all():
    assert offer(Token(SequenceOtps(())), "111111") is REFUSED


def test_an_otp_that_is_used_up_is_refused_and_the_next_is_not():
    token = make()
    token.use_up(otp(3), now=NOW, rules=RULES)
    assert offer(token, otp(3)) is REFUSED
    assert offer(token, otp(4)) is ACCEPTED


STEP = time_step_at(NOW, 30)


@pytest.mark.parametrize(
    ("ahead", "verdict"), [(0, ACCEPTED), (1, ACCEPTED), (-1, ACCEPTED), (2, EXTRA), (-20, EXTRA), (21, REFUSED)]
)
def test_a_totp_is_looked_for_around_the_time(ahead, verdict):
    assert offer(make(time_step=30), otp(STEP + ahead)) is verdict


def test_a_totp_is_accepted_once():
    token = make(time_step=30)
    offer(token, otp(STEP))
    assert offer(token, otp(STEP)) is REFUSED
    assert offer(token, otp(STEP + 1), now=NOW + 30) is ACCEPTED


def test_a_resync_teaches_the_server_the_drift_of_a_clock():
    token = make(time_step=30)
    assert offer(token, otp(STEP + 5)) is EXTRA
    assert offer(token, otp(STEP + 6), resync=True) is ACCEPTED
    assert token.drift == 6
    assert offer(token, otp(STEP + 10 + 6), now=NOW + 300) is ACCEPTED


@pytest.mark.parametrize(("position", "is_accepted"), [(4, False), (5, True), (14, True), (15, False)])
def test_a_sign_on_takes_an_otp_of_the_look_ahead_window_alone_and_once(position, is_accepted):
    token = make(5)
    assert token.accepts_sign_on(otp(position), now=NOW, rules=RULES) is is_accepted
    assert token.counter == (position + 1 if is_accepted else 5)
    assert not token.accepts_sign_on(otp(position), now=NOW, rules=RULES)


def test_a_sign_on_by_time_takes_the_steps_around_now():
    step = time_step_at(NOW, 30)
    for ahead, is_accepted in ((-2, False), (-1, True), (1, True), (2, False)):
        assert make(time_step=30).accepts_sign_on(otp(step + ahead), now=NOW, rules=RULES) is is_accepted


def test_a_button_shows_the_next_two_otps_and_the_server_learns_nothing():
    token = make(5, pressed=9)
    assert token.press_twice() == (otp(9), otp(10))
    assert token.press_twice() == (otp(11), otp(12))
    assert token.counter == 5


def test_a_token_by_the_clock_has_no_button_and_one_with_few_known_otps_ends():
    assert Token(SecretOtps(SECRET), time_step=30).press_twice() is None
    few = Token(SequenceOtps(("111111", "222222", "333333")))
    assert few.press_twice() == ("111111", "222222")
    assert few.press_twice() is None
