"""The encrypted column: what is encrypted, and what cannot be decrypted."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import example, given
from hypothesis import strategies as st

from models.encrypted import DecryptionError, Keyring, generate_key, identify_row

KEY = base64.urlsafe_b64encode(bytes(range(32))).decode()
OTHER = base64.urlsafe_b64encode(bytes(range(32, 64))).decode()
ROW = identify_row(7, 12)
PLAINTEXT = b'{"otp1": "308714", "otp2": "367299"}'


def key_id(key: str) -> bytes:
    return hashlib.sha256(b"oathbulk key id" + base64.urlsafe_b64decode(key)).digest()[:4]


def test_a_sealed_value_opens_with_aes_256_gcm_and_nothing_of_ours():
    sealed = Keyring([KEY]).seal(PLAINTEXT, b"record:7:12")
    assert sealed[:4] == key_id(KEY)
    assert AESGCM(bytes(range(32))).decrypt(sealed[4:16], sealed[16:], b"record:7:12") == PLAINTEXT


def test_a_value_that_was_sealed_by_nothing_of_ours_opens():
    nonce = bytes(12)
    sealed = key_id(KEY) + nonce + AESGCM(bytes(range(32))).encrypt(nonce, PLAINTEXT, b"record:7:12")
    assert Keyring([KEY]).open(sealed, ROW) == PLAINTEXT


@given(st.binary(max_size=200), st.binary(max_size=50))
def test_what_is_sealed_opens(plaintext, identity):
    keyring = Keyring([KEY])
    assert keyring.open(keyring.seal(plaintext, identity), identity) == plaintext


def test_the_same_plaintext_is_never_sealed_the_same_way():
    keyring = Keyring([KEY])
    nonces = {keyring.seal(PLAINTEXT, ROW)[4:16] for _ in range(100)}
    assert len(nonces) == 100


def test_the_plaintext_does_not_show():
    assert b"308714" not in Keyring([KEY]).seal(PLAINTEXT, ROW)


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
    with pytest.raises(DecryptionError):
        keyring.open(bytes(changed), ROW)


@given(st.integers(0, 60))
def test_a_value_that_was_cut_off_does_not_open(length):
    keyring = Keyring([KEY])
    with pytest.raises(DecryptionError):
        keyring.open(keyring.seal(PLAINTEXT, ROW)[:length], ROW)


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
    assert len(keys) == 20
    assert {len(base64.urlsafe_b64decode(key)) for key in keys} == {32}
    Keyring(sorted(keys))


@pytest.mark.parametrize("key", ["", "short", KEY[:-4], KEY + OTHER, "ü" * 44, KEY[:-1], f"'{KEY}'"])
def test_a_key_of_the_wrong_form_is_refused_without_being_quoted(key):
    with pytest.raises(ValueError, match="oathbulk keygen") as refusal:
        Keyring([KEY, key])
    assert not key or key not in str(refusal.value)


def test_a_ring_without_keys_is_refused():
    with pytest.raises(ValueError, match="at least one key"):
        Keyring([])


def test_neither_a_ring_nor_its_failures_show_a_key():
    keyring = Keyring([KEY])
    with pytest.raises(DecryptionError) as failure:
        keyring.open(b"", ROW)
    for text in (repr(keyring), str(failure.value)):
        assert KEY not in text
        assert bytes(range(32)).hex() not in text
