"""One-time passwords: their form, and that nothing prints them; and seeds, which make the OTPs of the RFCs' own tables,
and show nothing of their secrets."""

import copy
import json
import logging
import pickle
import traceback
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.vault.otps import MASK, Otp, OtpPair, Secret, Seed, read_otp_source

codes = st.from_regex(r"[0-9]{6}|[0-9]{8}", fullmatch=True)


@given(codes)
def test_an_otp_keeps_its_digits_with_leading_zeros(code):
    assert Otp(code).reveal() == code


@pytest.mark.parametrize(
    "text", ["", "12345", "1234567", "123456789", "12345a", " 123456", "123456\n", "+12345", "١٢٣٤٥٦", "①②③④⑤⑥"]
)
def test_an_otp_has_6_or_8_ascii_digits(text):
    with pytest.raises(ValueError, match=r"^an OTP has 6 or 8 digits$"):
        Otp(text)


def test_an_empty_secret_is_none() -> None:
    with pytest.raises(ValueError, match="at least one byte"):
        Secret(b"")


@given(codes, codes)
def test_nothing_prints_an_otp(first, second):
    pair = OtpPair(Otp(first), Otp(second))
    for value in (pair.first, pair, [pair.first], {"otp": pair.first}):
        for text in (repr(value), str(value), f"{value}", f"{value!r}", "%s" % (value,), "{}".format(value)):  # noqa: UP031, UP032
            assert first not in text
            assert MASK in text


def test_a_log_line_does_not_show_an_otp(caplog):
    logging.getLogger("test").warning("sending %s of %r", Otp("308714"), OtpPair(Otp("308714"), None))
    assert "308714" not in caplog.text


PAIR = OtpPair(Otp("308714"), Otp("367299"))


@pytest.mark.parametrize(
    ("travel", "value"),
    [
        *product((pickle.dumps, copy.deepcopy), (PAIR, PAIR.first, [PAIR.first])),
        (copy.copy, PAIR.first),
        (json.dumps, PAIR.first),
        (pickle.dumps, Seed(secret=Secret(b"12345678901234567890"))),
    ],
)
def test_an_otp_and_a_secret_do_not_travel(travel, value):
    with pytest.raises(TypeError, match=r"not pickled|not JSON") as refusal:
        travel(value)
    assert "308714" not in str(refusal.value)


def test_otps_are_equal_by_their_digits_and_to_nothing_else():
    assert Otp("000634") == Otp("000634")
    assert Otp("000634") != Otp("000635")
    assert Otp("000634") != "000634"
    assert {Otp("000634"), Otp("000634")} == {Otp("000634")}


@given(codes, st.none() | codes)
def test_a_pair_goes_into_the_record_and_comes_back(first, second):
    pair = OtpPair(Otp(first), Otp(second) if second is not None else None)
    assert read_otp_source(pair.to_plaintext()) == pair


def test_what_is_encrypted_is_json():
    assert json.loads(OtpPair(Otp("000634"), None).to_plaintext()) == {"otp1": "000634", "otp2": None}


@pytest.mark.parametrize("plaintext", [b"", b"308714", b'{"otp1": "308714x", "otp2": null}', b'{"otp1": "308714"}'])
def test_a_damaged_plaintext_fails_without_being_quoted(plaintext):
    with pytest.raises((ValueError, KeyError, TypeError)) as failure:
        read_otp_source(plaintext)
    assert "308714" not in str(failure.value)


# Seeds.

# https://www.rfc-editor.org/rfc/rfc4226#page-32
RFC_4226 = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]
SECRET = b"12345678901234567890"
# https://www.rfc-editor.org/rfc/rfc6238#appendix-B: time, and the OTPs for SHA-1, SHA-256 and SHA-512.
RFC_6238 = [
    (59, "94287082", "46119246", "90693936"),
    (1111111109, "07081804", "68084774", "25091201"),
    (1111111111, "14050471", "67062674", "99943326"),
    (1234567890, "89005924", "91819424", "93441116"),
    (2000000000, "69279037", "90698825", "38618901"),
    (20000000000, "65353130", "77737706", "47863826"),
]
# The RFC's secrets have the length of their hash.
LONG = {"sha1": SECRET, "sha256": SECRET + SECRET[:12], "sha512": SECRET * 3 + b"1234"}


def test_hotp_makes_the_otps_of_rfc_4226() -> None:
    assert [Seed(secret=Secret(SECRET)).mint(counter).reveal() for counter in range(10)] == RFC_4226


@pytest.mark.parametrize(("time", "sha1", "sha256", "sha512"), RFC_6238)
def test_totp_makes_the_otps_of_rfc_6238(time: int, sha1: str, sha256: str, sha512: str) -> None:
    for name, otp in (("sha1", sha1), ("sha256", sha256), ("sha512", sha512)):
        seed = Seed(secret=Secret(LONG[name]), otp_type="totp", digits=8, hash_algorithm=name, time_step=30)
        assert seed.mint(time // 30).reveal() == otp


@pytest.mark.parametrize(
    "seed",
    [
        Seed(secret=Secret(SECRET), counter=7),
        Seed(secret=Secret(SECRET), digits=8),
        Seed(secret=Secret(LONG["sha512"]), otp_type="totp", hash_algorithm="sha512", time_step=60),
    ],
)
def test_a_seed_goes_into_the_record_and_comes_back(seed: Seed) -> None:
    read = read_otp_source(seed.to_plaintext())
    assert read == seed
    assert not isinstance(read, OtpPair)


def test_nothing_shows_a_digit_of_the_secret() -> None:
    seed = Seed(secret=Secret(SECRET))
    shown = f"{seed} {seed!r} {seed.secret}"
    try:
        raise ValueError(seed)
    except ValueError:
        shown += traceback.format_exc()
    assert "20 bytes, SHA-256 " in shown
    for form in (SECRET.decode(), SECRET.hex(), repr(SECRET)):
        assert form not in shown
        assert form[:8] not in shown


@pytest.mark.parametrize(
    "wrong",
    [
        {"otp_type": "totp"},
        {"time_step": 30},
        {"digits": 7},
        {"counter": -1},
        {"hash_algorithm": "md5"},
        {"otp_type": "totp", "time_step": 0},
    ],
)
def test_a_seed_that_makes_no_sense_is_none(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is for a programmer
        Seed(secret=Secret(SECRET), **wrong)  # type: ignore[arg-type]
