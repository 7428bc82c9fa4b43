"""One-time passwords: their form, and that nothing prints them."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.vault.otps import MASK, Otp, OtpPair, read_otp_source

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


def test_a_refused_otp_is_not_quoted():
    with pytest.raises(ValueError, match="digits") as refusal:
        Otp("1234567")
    assert "1234567" not in "".join(traceback.format_exception_only(refusal.value))


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
    [*product((pickle.dumps, copy.deepcopy), (PAIR, PAIR.first, [PAIR.first])), (copy.copy, PAIR.first)],
)
def test_an_otp_is_not_pickled(travel, value):
    with pytest.raises(TypeError, match="not pickled") as refusal:
        travel(value)
    assert "308714" not in str(refusal.value)


def test_an_otp_is_not_json():
    with pytest.raises(TypeError):
        json.dumps(Otp("308714"))


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
