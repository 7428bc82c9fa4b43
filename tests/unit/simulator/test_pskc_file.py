"""PSKC as the simulator writes it, read by python-pskc and by our own intake."""

import io
import random
import re
from base64 import b64decode

import pytest
from pskc import PSKC

from worker.intake import Hints, open_shipment
from worker.simulator.pskc_file import Keys, PskcWriter

SECRETS = {"MADE1": b"12345678901234567890", "MADE2": b"a secret of 32 bytes, for SHA256"}


@pytest.fixture
def keys():
    return Keys.draw(random.Random(1))


@pytest.fixture
def document(keys):
    file = io.StringIO()
    writer = PskcWriter(file, keys, random.Random(2))
    hotp = {"otp_type": "hotp", "digits": 6, "hash_name": "sha1", "counter": 17, "time_step": 30}
    totp = {"otp_type": "totp", "digits": 8, "hash_name": "sha256", "counter": 0, "time_step": 60}
    for (serial, secret), kind in zip(SECRETS.items(), (hotp, totp), strict=True):
        writer.write(serial=serial, secret=secret, **kind)
    writer.close()
    return file.getvalue()


def test_it_is_read_with_its_key_and_every_mac_is_right(document, keys):
    pskc = PSKC(io.StringIO(document))
    pskc.encryption.key = keys.pre_shared
    hotp, totp = pskc.keys
    assert [hotp.secret, totp.secret] == list(SECRETS.values())
    assert (hotp.check(), totp.check()) == (True, True)
    assert (hotp.serial, hotp.counter, hotp.response_length) == ("MADE1", 17, 6)
    assert (totp.serial, totp.time_interval, totp.response_length) == ("MADE2", 60, 8)
    assert pskc.mac.algorithm.endswith("#hmac-sha1")
    assert pskc.mac.key == keys.mac


def test_no_secret_stands_in_it(document, keys):
    for secret in (*SECRETS.values(), keys.pre_shared, keys.mac):
        assert secret.hex() not in document
    assert "12345678901234567890" not in document


def test_no_initialization_vector_is_used_twice(document):
    values = re.findall("<xenc:CipherValue>([^<]+)<", document)
    assert len(values) == len({b64decode(value)[:16] for value in values}) == 3


def test_our_intake_reads_it(document, keys, tmp_path):
    (tmp_path / "box.pskc").write_text(document)
    rows = list(open_shipment(tmp_path / "box.pskc", hints=Hints(key=keys.pre_shared)).tokens())
    hotp, totp = (row.otps for row in rows)
    assert [row.serial_number for row in rows] == list(SECRETS)
    assert (hotp.otp_type, hotp.digits, hotp.hash_algorithm, hotp.counter) == ("hotp", 6, "sha1", 17)
    assert (totp.otp_type, totp.digits, totp.hash_algorithm, totp.time_step) == ("totp", 8, "sha256", 60)
    assert [seed.secret.reveal() for seed in (hotp, totp)] == list(SECRETS.values())
