"""The tables of RFC 4226 appendix D and RFC 6238 appendix B."""

import pytest

from worker.simulator.oath import SecretOtps, SequenceOtps, hotp, time_step_at

SECRET = b"12345678901234567890"
SECRETS = {
    "sha1": SECRET,
    "sha256": b"12345678901234567890123456789012",
    "sha512": b"1234567890123456789012345678901234567890123456789012345678901234",
}
HOTP_TABLE = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]
TOTP_TABLE = {
    59: ("94287082", "46119246", "90693936"),
    1111111109: ("07081804", "68084774", "25091201"),
    1111111111: ("14050471", "67062674", "99943326"),
    1234567890: ("89005924", "91819424", "93441116"),
    2000000000: ("69279037", "90698825", "38618901"),
    20000000000: ("65353130", "77737706", "47863826"),
}


@pytest.mark.parametrize(("counter", "otp"), list(enumerate(HOTP_TABLE)))
def test_hotp_is_that_of_the_rfc(counter, otp):
    assert hotp(SECRET, counter) == otp


@pytest.mark.parametrize("now", list(TOTP_TABLE))
@pytest.mark.parametrize(("column", "hash_name"), list(enumerate(SECRETS)))
def test_totp_is_that_of_the_rfc(now, column, hash_name):
    assert hotp(SECRETS[hash_name], time_step_at(now, 30), 8, hash_name) == TOTP_TABLE[now][column]


def test_an_otp_keeps_its_leading_zeros():
    assert hotp(bytes.fromhex("a087daeb6fffc0811cccc88dfaf9cb509e3361cf"), 2) == "000634"


def test_there_is_no_otp_before_position_zero():
    assert SecretOtps(SECRET).at(-1) is None
    assert SequenceOtps(("111111",)).at(-1) is None


def test_a_sequence_ends_after_its_last_otp():
    otps = SequenceOtps(("111111", "222222"))
    assert [otps.at(position) for position in range(3)] == ["111111", "222222", None]


def test_neither_a_secret_nor_an_otp_shows_in_a_repr():
    assert "123456" not in repr(SecretOtps(SECRET))
    assert "111111" not in repr(SequenceOtps(("111111",)))
