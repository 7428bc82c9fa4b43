"""The audit's keys: the first signs, each checks what it signed, and no other key is trusted."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from models.authenticated import AuditKeys, UnknownKey
from models.encrypted import decode_key, generate_key

CONTENT = b"the former hash\nthe fields"


def test_a_value_is_the_keys_id_and_the_hmac_of_the_content() -> None:
    key = generate_key()

    key_id, _, mac = AuditKeys([key]).sign(CONTENT).partition(":")

    assert len(key_id) == 8
    assert mac == hmac.new(decode_key(key), CONTENT, hashlib.sha256).hexdigest()


def test_the_first_key_signs_and_every_key_checks() -> None:
    new, old = generate_key(), generate_key()
    both = AuditKeys([new, old])

    assert both.sign(CONTENT) == AuditKeys([new]).sign(CONTENT)
    assert both.is_genuine(AuditKeys([old]).sign(CONTENT), CONTENT)


def test_another_content_or_a_changed_value_is_not_genuine() -> None:
    keys = AuditKeys([generate_key()])
    mac = keys.sign(CONTENT)

    assert keys.is_genuine(mac, CONTENT)
    assert not keys.is_genuine(mac, CONTENT + b" ")
    for changed in (mac[:-1], mac[:9], mac[:-1] + "é", mac + "0"):
        assert not keys.is_genuine(changed, CONTENT), changed


@pytest.mark.parametrize("mac", ["", ":", "00000000:" + "0" * 64, "ééé"])
def test_a_value_of_a_key_that_is_not_there_is_told_from_a_wrong_one(mac: str) -> None:
    with pytest.raises(UnknownKey):
        AuditKeys([generate_key()]).is_genuine(mac, CONTENT)


@pytest.mark.parametrize("keys", [[], ["made-up-key"], [generate_key(), ""]])
def test_what_is_no_key_is_refused_and_not_quoted(keys: list[str]) -> None:
    with pytest.raises(ValueError, match="key") as refusal:
        AuditKeys(keys)
    assert "made-up-key" not in str(refusal.value)
