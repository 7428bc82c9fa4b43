"""What is kept secret. The encrypted column: what is encrypted, and what cannot be decrypted. How its keys are loaded,
from the settings or from the file in the home. One-time passwords and seeds: their form, the OTPs of the RFCs' own
tables, and that nothing prints them."""

import base64
import copy
import hashlib
import json
import pickle
import traceback
from itertools import product
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import example, given
from hypothesis import strategies as st

from models.encrypted import DecryptionError, Keyring, generate_key, identify_row
from worker.config.settings import ConfigError, Settings
from worker.embedded.home import home_key
from worker.vault.keys import KEY_FILE, load_keyring
from worker.vault.otps import MASK, Otp, OtpPair, Secret, Seed, read_otp_source

KEY = base64.urlsafe_b64encode(bytes(range(32))).decode()
OTHER = base64.urlsafe_b64encode(bytes(range(32, 64))).decode()
ROW = identify_row(7, 12)
PLAINTEXT = b'{"otp1": "308714", "otp2": "367299"}'


def key_id(key: str) -> bytes:
    return hashlib.sha256(b"oathbulk key id" + base64.urlsafe_b64decode(key)).digest()[:4]


def test_a_sealed_value_is_one_of_aes_256_gcm_and_of_nothing_of_ours():
    sealed = Keyring([KEY]).seal(PLAINTEXT, b"record:7:12")
    assert sealed[:4] == key_id(KEY)
    assert AESGCM(bytes(range(32))).decrypt(sealed[4:16], sealed[16:], b"record:7:12") == PLAINTEXT
    nonce = bytes(12)
    elsewhere = key_id(KEY) + nonce + AESGCM(bytes(range(32))).encrypt(nonce, PLAINTEXT, b"record:7:12")
    assert Keyring([KEY]).open(elsewhere, ROW) == PLAINTEXT


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_what_is_sealed_opens(plaintext, identity):
    keyring = Keyring([KEY])
    assert keyring.open(keyring.seal(plaintext, identity), identity) == plaintext


def test_the_same_plaintext_is_never_sealed_the_same_way():
    keyring = Keyring([KEY])
    sealed = [keyring.seal(PLAINTEXT, ROW) for _ in range(100)]
    assert len({each[4:16] for each in sealed}) == 100
    assert not [each for each in sealed if b"308714" in each]


@pytest.mark.parametrize("elsewhere", [identify_row(7, 13), identify_row(8, 12), identify_row(71, 2), b""])
def test_a_value_that_was_copied_to_another_row_does_not_open(elsewhere):
    keyring = Keyring([KEY])
    with pytest.raises(DecryptionError, match="do not belong to this record"):
        keyring.open(keyring.seal(PLAINTEXT, ROW), elsewhere)


@given(st.tuples(*[st.integers(1, 10**12)] * 4))
@example((1, 11, 11, 1))
def test_no_two_rows_have_the_same_identity(numbers):
    batch, row, other_batch, other_row = numbers
    assert (identify_row(batch, row) == identify_row(other_batch, other_row)) == (
        (batch, row) == (other_batch, other_row)
    )


@given(st.data())
def test_a_value_that_was_changed_does_not_open(data):
    keyring = Keyring([KEY])
    sealed = keyring.seal(PLAINTEXT, ROW)
    place = data.draw(st.integers(0, len(sealed) - 1))
    changed = bytearray(sealed)
    changed[place] ^= data.draw(st.integers(1, 255))
    # Nor does one that was cut off there.
    for each in (bytes(changed), sealed[:place]):
        with pytest.raises(DecryptionError):
            keyring.open(each, ROW)


@given(st.binary(max_size=80))
def test_bytes_that_were_never_sealed_do_not_open(value):
    for sealed in (value, key_id(KEY) + value):
        with pytest.raises(DecryptionError):
            Keyring([KEY]).open(sealed, ROW)


def test_after_a_rotation_the_old_key_opens_and_the_new_one_seals():
    old = Keyring([KEY]).seal(PLAINTEXT, ROW)
    rotated = Keyring([OTHER, KEY])
    assert rotated.open(old, ROW) == PLAINTEXT
    assert not rotated.is_sealed_by_first_key(old)
    new = rotated.seal(rotated.open(old, ROW), ROW)
    assert rotated.is_sealed_by_first_key(new)
    assert Keyring([OTHER]).open(new, ROW) == PLAINTEXT


def test_a_key_that_left_the_ring_is_named_as_the_cause():
    with pytest.raises(DecryptionError, match="not among OATHBULK_ENCRYPTION_KEYS: add it"):
        Keyring([OTHER]).open(Keyring([KEY]).seal(PLAINTEXT, ROW), ROW)


def test_another_key_under_the_same_id_does_not_open():
    sealed = Keyring([KEY]).seal(PLAINTEXT, ROW)
    forged = key_id(OTHER) + sealed[4:]
    with pytest.raises(DecryptionError) as failure:
        Keyring([KEY, OTHER]).open(forged, ROW)
    assert isinstance(failure.value.__cause__, InvalidTag)


def test_a_new_key_is_32_random_bytes():
    keys = {generate_key() for _ in range(20)}
    assert (len(keys), {len(base64.urlsafe_b64decode(key)) for key in keys}) == (20, {32})


WRONG_KEYS = ("", "short", KEY[:-4], KEY + OTHER, "ü" * 44, KEY[:-1], f"'{KEY}'")


@pytest.mark.parametrize("keys", [[], *([KEY, key] for key in WRONG_KEYS)])
def test_a_key_of_the_wrong_form_or_none_is_refused_without_being_quoted(keys):
    with pytest.raises(ValueError, match=r"oathbulk keygen|at least one key") as refusal:
        Keyring(keys)
    assert not [key for key in keys[1:] if key and key in str(refusal.value)]


def test_neither_a_ring_nor_its_failures_show_a_key():
    keyring = Keyring([KEY])
    with pytest.raises(DecryptionError) as failure:
        keyring.open(b"", ROW)
    told = f"{keyring!r} {failure.value}"
    assert not [each for each in (KEY, bytes(range(32)).hex()) if each in told]


# How they are loaded.

POSTGRESQL = "postgresql+psycopg://db/oathbulk"


def is_first(keyring: Keyring, key: str) -> bool:
    return keyring.is_sealed_by_first_key(Keyring([key]).seal(b"", ROW))


def test_the_first_key_of_the_setting_seals_and_every_key_opens():
    new, old = generate_key(), generate_key()
    keyring = load_keyring(Settings(encryption_keys=f" {new} ,{old},\n"))
    assert is_first(keyring, new)
    assert not is_first(keyring, old)
    assert keyring.open(Keyring([old]).seal(b"otps", ROW), ROW) == b"otps"


def test_the_embedded_stack_uses_the_key_file_of_its_home_where_the_setting_has_no_key(tmp_path):
    key, other = home_key(tmp_path), generate_key()
    assert (tmp_path / KEY_FILE).is_file()
    assert is_first(load_keyring(Settings(home=tmp_path)), key)
    assert is_first(load_keyring(Settings(home=tmp_path, encryption_keys=other)), other)


@pytest.mark.parametrize(
    ("content", "settings", "told"),
    [
        # PostgreSQL needs the setting, even if a home has a key.
        (KEY.encode(), {"database_url": POSTGRESQL}, ("OATHBULK_ENCRYPTION_KEYS is not set", "oathbulk keygen")),
        (None, {}, (KEY_FILE,)),
        (b"", {}, (KEY_FILE,)),
        (b"c2hvcnQ=", {}, (KEY_FILE,)),
        (b"\xff" * 40, {}, (KEY_FILE,)),
        (None, {"encryption_keys": f"{KEY},made-up-key"}, ("OATHBULK_ENCRYPTION_KEYS", "oathbulk keygen")),
        (None, {"encryption_keys": "", "database_url": POSTGRESQL}, ("at least one key is needed",)),
        (None, {"encryption_keys": " , ,", "database_url": POSTGRESQL}, ("at least one key is needed",)),
    ],
)
def test_keys_that_cannot_be_used_are_named_and_not_quoted(tmp_path, content, settings, told):
    if content is not None:
        (tmp_path / KEY_FILE).write_bytes(content)
        (tmp_path / KEY_FILE).chmod(0o600)
    with pytest.raises(ConfigError) as refusal:
        load_keyring(Settings(home=tmp_path, **settings))
    assert all(each in str(refusal.value) for each in told)
    assert not [key for key in (KEY, "made-up-key") if key in str(refusal.value)]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o611])
def test_a_key_file_that_is_open_to_others_is_refused_with_the_cure(tmp_path, mode):
    key, path = home_key(tmp_path), tmp_path / KEY_FILE
    path.chmod(mode)
    with pytest.raises(ConfigError, match=f"chmod 600 {path}") as refusal:
        load_keyring(Settings(home=tmp_path))
    assert key not in str(refusal.value)


# One-time passwords.

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


@given(codes, codes)
def test_nothing_prints_an_otp(first, second):
    pair = OtpPair(Otp(first), Otp(second))
    for value in (pair.first, pair, [pair.first], {"otp": pair.first}):
        for text in (repr(value), str(value), f"{value}", f"{value!r}", "%s" % (value,), "{}".format(value)):  # noqa: UP031, UP032
            assert first not in text
            assert MASK in text


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
    assert {Otp("000634"), Otp("000634")} == {Otp("000634")} != {Otp("000635")}
    assert Otp("000634") != "000634"


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
    error = ValueError(seed)
    shown = "".join([str(seed), repr(seed), str(seed.secret), *traceback.format_exception(error)])
    assert "20 bytes, SHA-256 " in shown
    forms = [form for text in (SECRET.decode(), SECRET.hex(), repr(SECRET)) for form in (text, text[:8])]
    assert not [form for form in forms if form in shown]


@pytest.mark.parametrize(
    "wrong",
    [
        {"otp_type": "totp"},
        {"time_step": 30},
        {"digits": 7},
        {"counter": -1},
        {"hash_algorithm": "md5"},
        {"otp_type": "totp", "time_step": 0},
        {"secret": b""},
    ],
)
def test_a_seed_that_makes_no_sense_is_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is for a programmer
        Seed(secret=Secret(wrong.pop("secret", SECRET)), **wrong)
