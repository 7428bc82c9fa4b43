"""The judges of texts: the search for secrets finds them wherever they are planted, and nothing else; and what a page
shows is held against what was printed, but for what differs each time."""

import base64
import json

import pytest
from support.judges.secret_search import Secrets
from support.pages.typed import is_shown, mask

SECRETS = Secrets([("52817394", "40619285"), ("83264715",)], {"client secret": "S3cr3t~of-a_client"})

PLANTED = {
    "in a log line": b"2025-11-24T23:14:05.123456Z posting 52817394 to the device",
    "in JSON": b'{"otp": "52817394"}',
    "beside letters": b"otp52817394x",
    "as a number": b"[52817394, 1]",
    "in a URL": b"GET /activate?otp=52817394&resync=1",
    "the second of a pair": b"40619285",
    "a pair in one piece": b"5281739440619285",
    "in hexadecimal": b"\\x7b226f7470223a20223532383137333934227d",
    "in a message's body": json.dumps({"body": base64.b64encode(b'[["52817394"], {}, {}]').decode()}).encode(),
    "in base64url without padding": base64.urlsafe_b64encode(b'{"otp": "52817394", "x": "~~?>"}').rstrip(b"="),
    "escaped, as MONITOR prints it": rb'"LPUSH" "queue" "{\"otp\": \"52817394\"}"',
}


@pytest.mark.parametrize("data", PLANTED.values(), ids=PLANTED.keys())
def test_a_planted_otp_is_found(data):
    assert SECRETS.found_in(data) == {"OTP of row 1"}
    assert SECRETS.found_in(b"\x00 nothing \xff " + data + b"\n the end", is_text=False) == {"OTP of row 1"}


def test_in_a_binary_file_an_otp_is_found_whatever_stands_beside_it():
    assert SECRETS.found_in(b"MADE0000001" + b"83264715" + b"2025-11-24", is_text=False) == {"OTP of row 2"}


@pytest.mark.parametrize("pack", [bytes, lambda data: data.hex().encode(), base64.b64encode])
def test_a_planted_word_is_found_as_it_is_and_packed(pack):
    assert SECRETS.found_in(b"Authorization " + pack(b"id:S3cr3t~of-a_client")) == {"client secret"}


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"1764025200528173940", b"at 1764025205.28173941", b"MADE0000001 52817395"),
        # Its own repr shows no secret.
        repr(SECRETS).encode(),
    ],
)
def test_numbers_that_are_no_otp_are_not_taken_for_one(data):
    assert SECRETS.found_in(data) == set()


PRINTED = "Home: /tmp/x/.local/state/oathbulk\njuly  paused  4 of 10\nFinished after 3 s.\n3.5 records/s · 12 OTPs\n"


@pytest.mark.parametrize(
    ("shown", "is_so"),
    [
        # What differs each time, and what is left out, counts for nothing.
        (PRINTED, True),
        ("…\njuly  paused  4 of 10\n…", True),
        ("…\nFinished after 1 min 12 s.\n3.5 records/s · 12 OTPs", True),
        ("Home: ~/.local/state/oathbulk\n…\n0.1 records/s · …", True),
        ("…", True),
        # Another count, order or end is noticed.
        ("july  paused  4 of 10", False),
        ("…\njuly  paused  5 of 10\n…", False),
        ("…\nFinished after 3 s.\njuly  paused  4 of 10\n…", False),
        ("…\njuly  paused\n…", False),
        (PRINTED + "and more", False),
        ("", False),
    ],
)
def test_what_a_page_shows_is_what_was_printed_or_not(shown, is_so):
    assert is_shown(shown, PRINTED) is is_so


SAME = "10 of 12 tokens of july-2 are active; 400 requests, MADE0000001, exit code 3"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (SAME, SAME),
        ("until 2026-11-28 05:10 UTC, plan 62631e3be7bb", "until TIME, plan HASH"),
        ("at 127.0.0.1:8900, 3.5 records/s for 1 min 2 s", "at ADDRESS, RATE for SPAN"),
    ],
)
def test_counts_and_names_are_no_masks(text, masked):
    assert mask(text) == masked
