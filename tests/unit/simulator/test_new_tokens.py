"""Tokens that a client sends for the import: what is taken, and what is refused with which field."""

import pytest

from worker.simulator.new_tokens import BadToken, read_new_token
from worker.simulator.settings import Settings

HOTP = {"serialNumber": "MADE1", "secret": "c0ffee", "type": "HOTP", "otpLength": 6}
TOTP = HOTP | {"type": "TOTP", "totp": {"timeStep": 30}}


def fault(fields):
    with pytest.raises(BadToken) as bad:
        read_new_token(fields, Settings())
    return bad.value.target, bad.value.detail_code


def test_what_is_left_out_has_a_default():
    token = read_new_token(HOTP, Settings())
    assert (token.hash, token.counter, token.secret) == ("sha1", 0, b"\xc0\xff\xee")
    assert "c0ffee" not in repr(token).lower()
    assert "xc0" not in repr(token)


@pytest.mark.parametrize("reading", ["sha1", "sha256"])
def test_a_totp_token_without_a_hash_gets_one(reading):
    settings = Settings(absent_totp_hash=reading)
    assert read_new_token(TOTP, settings).hash == reading
    assert read_new_token(HOTP, settings).hash == "sha1"


@pytest.mark.parametrize("name", ["serialNumber", "secret", "type", "otpLength"])
def test_a_field_that_is_missing_is_named(name):
    assert fault({key: value for key, value in HOTP.items() if key != name}) == (name, "REQUIRED_VALUE")


@pytest.mark.parametrize(
    ("fields", "target"),
    [
        (HOTP | {"serialNumber": "MADE-1"}, "serialNumber"),
        (HOTP | {"serialNumber": "9" * 51}, "serialNumber"),
        (HOTP | {"serialNumber": 9}, "serialNumber"),
        (HOTP | {"secret": "c0ffe"}, "secret"),
        (HOTP | {"secret": "JBSWY3DP"}, "secret"),
        (HOTP | {"secret": "ab" * 101}, "secret"),
        (HOTP | {"type": "hotp"}, "type"),
        (HOTP | {"otpLength": 7}, "otpLength"),
        (HOTP | {"otpLength": "6"}, "otpLength"),
        (HOTP | {"hashAlgorithm": "HmacSHA256"}, "hashAlgorithm"),
        (TOTP | {"hashAlgorithm": "SHA256"}, "hashAlgorithm"),
        (HOTP | {"hotp": {"counter": -1}}, "hotp.counter"),
        (HOTP | {"hotp": {"counter": True}}, "hotp.counter"),
        (HOTP | {"hotp": 7}, "hotp"),
        (TOTP | {"totp": {"timeStep": 45}}, "totp.timeStep"),
    ],
)
def test_a_wrong_value_is_named(fields, target):
    assert fault(fields) == (target, "INVALID_VALUE")


def test_a_totp_token_has_a_time_step():
    assert fault(HOTP | {"type": "TOTP"}) == ("totp.timeStep", "REQUIRED_VALUE")


@pytest.mark.parametrize("hash_name", ["HmacSHA1", "HmacSHA256", "HmacSHA512"])
def test_a_totp_token_may_have_any_hash(hash_name):
    assert read_new_token(TOTP | {"hashAlgorithm": hash_name}, Settings()).hash == hash_name[4:].lower()


def test_the_longest_serial_number_and_secret_are_taken():
    token = read_new_token(HOTP | {"serialNumber": "9" * 50, "secret": "ab" * 100}, Settings())
    assert (len(token.serial_number), len(token.secret)) == (50, 100)
