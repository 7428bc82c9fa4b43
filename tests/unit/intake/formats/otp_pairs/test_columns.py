"""What the names of columns mean, and which say that they hold a secret."""

from __future__ import annotations

import pytest

from worker.intake import CANONICAL, canonical_column
from worker.intake.formats.otp_pairs.columns import names_secret


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("serial", "serial"),
        ("Serial Number", "serial"),
        ("serialNumber", "serial"),
        ("SERIAL-NUMBER", "serial"),
        ("otp", "otp1"),
        ("OTP 1", "otp1"),
        ("First_OTP", "otp1"),
        ("otp_2", "otp2"),
        ("second otp", "otp2"),
        ("Next-OTP", "otp2"),
        ("User ID", "user_id"),
        ("deviceId", "device_id"),
        ("UPN", "username"),
        ("user", "username"),
        ("email", "email"),
        ("E-Mail", "email"),
        ("type", "otp_type"),
        ("OTP type", "otp_type"),
        ("generatedAt", "generated_at"),
        ("Lot", "lot"),
        ("\ufeffserial", "serial"),
        ("device", None),
        ("serial no.", None),
        ("", None),
    ],
)
def test_a_name_means_a_column_whatever_its_case_blanks_and_hyphens(name: str, column: str | None) -> None:
    assert canonical_column(name) == column


def test_every_column_is_known_by_its_own_name() -> None:
    for column in set(CANONICAL.values()):
        assert canonical_column(column) == column


SECRET = (
    "seed|HexSeed|seed_b32|secret|Secret Key|secretKey|client-secret|key|KEY|keys|aes_key|hexkey|tokenKey",
    "key1|key hex|keyData|AES key (hex)|private_id|PIN|pin code|PINCode|User PIN|initialPin|pins|PUK",
    "puk_code|adminPuk|password|Passphrase|otp3|third otp|previous_otp",
)
HARMLESS = (
    "keyboard|keycard|shipping|shipping date|pingone_id|PingID|mapping|opinion|Spinoff|secretary|department",
    "note|model|otp_length|hotp|is_totp|counter|location",
)


@pytest.mark.parametrize("name", "|".join(SECRET).split("|"))
def test_a_column_that_says_it_holds_a_secret_is_told(name: str) -> None:
    assert names_secret(name)


@pytest.mark.parametrize("name", "|".join(HARMLESS).split("|"))
def test_a_harmless_name_is_not_taken_for_a_secret(name: str) -> None:
    assert not names_secret(name)
