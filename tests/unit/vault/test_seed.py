"""Seeds make the OTPs of the RFCs' own tables, and show nothing of their secrets."""

from __future__ import annotations

import pickle
import traceback

import pytest

from worker.vault.otps import OtpPair, Secret, Seed, read_otp_source

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


@pytest.mark.parametrize(("counter", "otp"), list(enumerate(RFC_4226)))
def test_hotp_makes_the_otps_of_rfc_4226(counter: int, otp: str) -> None:
    assert Seed(secret=Secret(SECRET)).mint(counter).reveal() == otp


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


def test_a_secret_does_not_travel_by_pickle() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Seed(secret=Secret(SECRET)))


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


def test_an_empty_secret_is_none() -> None:
    with pytest.raises(ValueError, match="at least one byte"):
        Secret(b"")
