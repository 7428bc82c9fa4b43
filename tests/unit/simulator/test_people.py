"""People who sign on: what their tokens show, and when they give up."""

from worker.simulator.oath import hotp, time_step_at
from worker.simulator.own_rows import SeedRow
from worker.simulator.people import Person, SignOn
from worker.simulator.world import Outcome

SECRET = b"12345678901234567890"
NOW = 1_000_000_000.0


def make(otp_type="hotp", counter=5, **fields):
    row = SeedRow(
        serial="MADE1",
        secret=SECRET.hex(),
        otp_type=otp_type,
        digits=6,
        hash_name="sha1",
        counter=counter,
        user_id="user",
        device_id="device",
    )
    return Person(row, **fields)


def check_from(first):
    """What a server says that accepts the OTP of this counter alone, and locks after three others."""
    typed = []

    def check(otp):
        typed.append(otp)
        if len(typed) > 3:
            return Outcome.LOCKED
        return Outcome.SIGNED_ON if otp == hotp(SECRET, first) else Outcome.INVALID_OTP

    return check


def test_each_press_of_a_hotp_token_shows_the_next_otp():
    person = make()
    assert [person.press(NOW) for _ in range(3)] == [hotp(SECRET, counter) for counter in (5, 6, 7)]


def test_a_totp_token_shows_the_otp_of_its_own_clock():
    person = make("totp", 0, drift=1)
    assert person.press(NOW) == person.press(NOW) == hotp(SECRET, time_step_at(NOW, 30) + 1)


def test_who_throws_as_many_away_as_were_sent_is_let_in_at_once():
    assert make().sign_on(check_from(7), NOW, discarded=2) == SignOn(is_let_in=True, refused=0)


def test_who_throws_none_away_is_refused_as_often_as_otps_were_sent():
    assert make().sign_on(check_from(7), NOW) == SignOn(is_let_in=True, refused=2)


def test_who_is_refused_three_times_is_locked_out():
    assert make().sign_on(check_from(8), NOW) == SignOn(is_let_in=False, refused=3)
