"""PSKC: what RFC 6030 and RFC 4226 say, and keys, passwords and elements that are wrong or missing."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from pskc import PSKC
from support.data.seed_files import KEY as KEY_BYTES
from support.data.seed_files import SAMPLES, SECRETS, read
from unit.intake.test_samples import EXPECTED

from models.row_fault import RowFault
from worker.intake.files import Hints
from worker.intake.rows import Row, RowError, UnusableFile
from worker.vault.otps import Secret, Seed

PSKC_SAMPLES = SAMPLES / "pskc"
KEY = Hints(key=KEY_BYTES)


def test_the_password_of_the_rfc_makes_the_key_of_the_rfc() -> None:
    document = PSKC(str(PSKC_SAMPLES / "rfc6030_figure7.xml"))
    assert document.encryption.derivation.derive("qwerty").hex() == "651e63cd57008476af1ff6422cd02e41"


@pytest.mark.parametrize("sample", ["rfc6030_figure5.xml", "rfc6030_figure6.xml", "rfc6030_figure7.xml"])
def test_the_seed_of_the_rfc_makes_the_otps_of_rfc_4226(sample: str) -> None:
    row = read(PSKC_SAMPLES / sample, EXPECTED[f"pskc/{sample}"][0])[0]
    assert isinstance(row, Row)
    assert isinstance(row.otps, Seed)
    assert row.otps.secret == Secret(b"12345678901234567890")
    # RFC 4226, appendix D: 1284755224, 1094287082, 137359152.
    assert [row.otps.mint(counter).reveal() for counter in range(3)] == ["84755224", "94287082", "37359152"]


@pytest.mark.parametrize(
    ("sample", "hints", "problem", "cure"),
    [
        ("pskc_psk_aes128cbc.xml", Hints(), "encrypted with a pre-shared key", "--key-file"),
        ("pskc_psk_aes128cbc.xml", Hints(password=b"x"), "encrypted with a pre-shared key", "--key-file"),
        ("pskc_psk_aes128cbc.xml", Hints(key=b"k" * 16), "not opened by this key", "--key-file"),
        ("pskc_psk_aes128cbc.xml", Hints(key=b"k" * 32), "needs a key of 16 bytes, and the key has 32", "--key-file"),
        ("pskc_pbkdf2.xml", Hints(), "encrypted with a password", "--password-file"),
        ("pskc_pbkdf2.xml", KEY, "encrypted with a password", "--password-file"),
        ("pskc_pbkdf2.xml", Hints(password=b"wrong"), "not opened by this password", "--password-file"),
        ("key_wrap.xml", Hints(key=b"k" * 16), "not opened by this key", "--key-file"),
        ("no_mac_key.xml", Hints(key=b"k" * 16), "not opened by this key", "--key-file"),
        ("draft_global_iv.xml", Hints(), "encrypted with a pre-shared key", "--key-file"),
        ("draft_global_iv.xml", Hints(key=b"k" * 16), "not opened by this key", "--key-file"),
    ],
)
def test_a_key_that_is_missing_or_wrong_is_said(sample: str, hints: Hints, problem: str, cure: str) -> None:
    with pytest.raises(UnusableFile) as caught:
        read(PSKC_SAMPLES / sample, hints)
    assert problem in caught.value.problem
    assert cure in caught.value.cure


def test_no_wrong_key_is_believed_even_where_its_padding_looks_right() -> None:
    # One wrong key in 256 decrypts the key of the MACs to something whose padding looks right.
    for guess in range(600):
        with pytest.raises(UnusableFile, match="not opened by this key"):
            read(PSKC_SAMPLES / "pskc_psk_aes128cbc.xml", Hints(key=bytes(divmod(guess, 10)) * 8))


def spoil(content: bytes) -> Iterator[bytes]:
    """Spoil a document in every way in which one element or attribute is missing, or has another name."""
    places = len(list(ElementTree.fromstring(content).iter()))
    for place in range(places):
        for attribute in (None, *list(ElementTree.fromstring(content).iter())[place].attrib):
            for new in (None, "misspelt"):
                root = ElementTree.fromstring(content)
                element = list(root.iter())[place]
                parent = next((each for each in root.iter() if element in list(each)), None)
                if attribute is not None:
                    value = element.attrib.pop(attribute)
                    element.attrib |= {new: value} if new else {}
                elif new:
                    element.tag = new
                elif parent is not None:
                    parent.remove(element)
                yield ElementTree.tostring(root)


KNOWN = [Secret(bytes.fromhex(secret)) for secret in SECRETS.values()]
ENCRYPTED = [each for each, (hints, _) in EXPECTED.items() if each.startswith("pskc/") and hints != Hints()]


@pytest.mark.parametrize("sample", ENCRYPTED)
def test_no_ciphertext_is_taken_for_a_secret_whatever_name_is_missing_or_misspelt(tmp_path: Path, sample: str) -> None:
    hints, _ = EXPECTED[sample]
    content = (SAMPLES / sample).read_bytes().replace(b">20000<", b">1<")
    path = tmp_path / "keys.xml"
    for spoilt in spoil(content):
        path.write_bytes(spoilt)
        for said in (hints, Hints()):
            with contextlib.suppress(UnusableFile):
                seeds = [row.otps for row in read(path, said, "pskc") if isinstance(row, Row)]
                assert all(isinstance(seed, Seed) and seed.secret in KNOWN for seed in seeds), spoilt


def test_a_key_that_a_plain_file_does_not_need_is_left_alone() -> None:
    assert read(PSKC_SAMPLES / "pskc_plain.xml", KEY) == read(PSKC_SAMPLES / "pskc_plain.xml")


PLAIN = (PSKC_SAMPLES / "default_namespace.xml").read_text()
HOTP = 'Algorithm="urn:ietf:params:xml:ns:keyprov:pskc:hotp"'


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('Encoding="DECIMAL"', 'Encoding="HEXADECIMAL"', "other characters than digits"),
        ('Encoding="DECIMAL"', 'Encoding="DECIMAL" CheckDigits="true"', "check digit"),
        ('Length="6"', 'Length="7"', "neither 6 nor 8 digits"),
        ('Length="6"', 'Length="six"', "not written as RFC 6030 says"),
        ("</Policy>", "<KeyUsage>CR</KeyUsage></Policy>", "not for one-time passwords"),
        ("</Policy>", '<PINPolicy PINUsageMode="Algorithmic"/></Policy>', "a PIN goes into"),
        ("2036-01-01T00:00:00Z", "next year", "not a date"),
        ("2036-01-01T00:00:00Z", "02/05/2026", "not a date"),
        ("2036-01-01T00:00:00Z", "01/02/2026", "expired"),
        ("2036-01-01T00:00:00Z", "2026-03-01T12:30:00+01:00", "expired"),
        (HOTP, HOTP.replace("hotp", "totp"), "does not say the time step"),
        (HOTP, "", "HOTP or TOTP"),
        ("<ResponseFormat", "<Suite>HMAC-SHA256</Suite><ResponseFormat", "another hash than SHA-1"),
        ("<ResponseFormat", "<Suite>MD5</Suite><ResponseFormat", "none of SHA-1"),
        ("<Counter><PlainValue>0<", "<Counter><PlainValue>none<", "not a whole number"),
        ("<Counter><PlainValue>0<", "<Counter><PlainValue>99999999999999999999<", "not a whole number"),
        ("<Counter><PlainValue>0<", "<Counter><PlainValue>9999999999999999999<", "not a whole number"),
        ("0vekr/sWOtlfNZP0xvmwW4moEFs=", "", "secret is missing"),
        ("0vekr/sWOtlfNZP0xvmwW4moEFs=", "0vekr/sW!OtlfNZP0xvmwW4moEFs=", "not Base64"),
        ("0vekr/sWOtlfNZP0xvmwW4moEFs=", "0vekr/sWOtlfNZP0xvmwW4moEF==", "not Base64 of whole bytes"),
        ("0vekr/sWOtlfNZP0xvmwW4moEFs=", "d2f7a4affb163ad95f3593f4c6f9b05b89a8105b", "not Base64"),
        ("0vekr/sWOtlfNZP0xvmwW4moEFs=", "QUFB" * 34, "more than 100 bytes"),
        ("<SerialNo>MADE0000001<", "<SerialNo>" + "M" * 51 + "<", "more than 50 characters"),
    ],
)
def test_a_key_that_pingone_would_not_take_is_refused(tmp_path: Path, old: str, new: str, reason: str) -> None:
    assert old in PLAIN
    path = tmp_path / "keys.xml"
    path.write_text(PLAIN.replace(old, new))
    (row,) = read(path)
    assert isinstance(row, RowError)
    assert reason in row.reason
    assert row.reason.startswith("key 1 of the file: ")


def test_a_package_without_a_key_is_a_row_that_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.xml"
    path.write_text(
        "<KeyContainer><KeyPackage><DeviceInfo><SerialNo>MADE1</SerialNo></DeviceInfo></KeyPackage></KeyContainer>"
    )
    (row,) = read(path)
    reason = "key 1 of the file: the package has no key: ask the vendor for the file again"
    assert row == RowError(1, reason, "MADE1", RowFault.SEED_UNFIT)
