"""Pairs of OTPs beside the seed of their token."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from worker.intake import Row
from worker.preflight.files import HOTP_WINDOW, TOTP_WINDOW, is_consecutive
from worker.vault.otps import Otp, OtpPair, Secret, Seed

# The secret of the tables of RFC 4226 and 6238.
SECRET = Secret(b"12345678901234567890")
HOTP = Seed(secret=SECRET, counter=3)
TOTP = Seed(secret=SECRET, otp_type="totp", time_step=30)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def pair(seed: Seed, first: int, second: int, generated_at: datetime | None = None) -> Row:
    otps = OtpPair(seed.mint(first), seed.mint(second))
    kind = seed.otp_type
    return Row(row_number=1, serial_number="MADE1", otps=otps, otp_type=kind, generated_at=generated_at)


def test_the_pairs_of_rfc_4226_follow_each_other_and_others_do_not() -> None:
    row = Row(row_number=1, serial_number="MADE1", otps=OtpPair(Otp("969429"), Otp("338314")))
    assert is_consecutive(row, HOTP, None)
    turned = Row(row_number=1, serial_number="MADE1", otps=OtpPair(Otp("338314"), Otp("969429")))
    assert not is_consecutive(turned, HOTP, None)


@pytest.mark.parametrize(
    ("first", "second", "reached", "expected"),
    [
        (3, 4, None, True),
        (3, 5, None, False),
        (2, 3, None, False),
        (3 + HOTP_WINDOW - 2, 3 + HOTP_WINDOW - 1, None, True),
        (3 + HOTP_WINDOW - 1, 3 + HOTP_WINDOW, None, False),
        (3 + HOTP_WINDOW - 1, 3 + HOTP_WINDOW, 10, True),
    ],
)
def test_a_hotp_pair_is_looked_for_from_where_the_token_stands(
    first: int, second: int, reached: int | None, expected: bool
) -> None:
    assert is_consecutive(pair(HOTP, first, second), HOTP, reached) is expected


@pytest.mark.parametrize(
    ("ahead", "gap", "expected"),
    [(0, 1, True), (0, 2, False), (TOTP_WINDOW - 1, 1, True), (TOTP_WINDOW, 1, False), (-TOTP_WINDOW, 1, True)],
)
def test_a_totp_pair_is_looked_for_around_the_time_at_which_it_was_made(ahead: int, gap: int, expected: bool) -> None:
    step = int(NOW.timestamp() // 30) + ahead
    assert is_consecutive(pair(TOTP, step, step + gap, NOW), TOTP, None) is expected


def test_a_totp_pair_without_its_time_is_left_alone() -> None:
    assert is_consecutive(pair(TOTP, 1, 3), TOTP, None)
    assert not is_consecutive(pair(TOTP, 1, 3, NOW + timedelta(days=1)), TOTP, None)
