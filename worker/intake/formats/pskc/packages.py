"""The packages of a PSKC document: finds the keys in one, and refuses what nothing proves to be decrypted rightly."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from pskc.device import Device
from pskc.exceptions import DecryptionError
from pskc.key import Key
from pskc.parser import PSKCParser

from worker.intake.formats.pskc.encryption import Container
from worker.intake.formats.refusals import RowRefused
from worker.intake.formats.secrets import HEX_AS_BASE64

# Elements of a package that are keys, in the RFC and in drafts.
KEYS = ("Key", "Secret")
# Elements of a package with its serial number, in the RFC and in drafts.
DEVICES = ("DeviceInfo", "DeviceId")
# Elements with a MAC, in the RFC and in drafts.
MACS = ("ValueMAC", "ValueDigest")
# Elements with a date. They are read here: dateutil, which python-pskc has for them, takes longer than all the rest.
EXPIRES = ("ExpiryDate", "Expiry")
DATES = (*EXPIRES, "StartDate")
# Names of the values that are whole numbers, in the RFC and in drafts, in lower case.
NUMBERS = ("counter", "time", "timeinterval", "time_interval")
# Values of a key that may be encrypted, by what python-pskc calls them.
ENCRYPTABLE = ("secret", "counter", "time_offset", "time_interval", "time_drift")
# Whole numbers as they should be written.
NUMBER = re.compile(r"[0-9]{1,19}")

UNREADABLE = "the key is not written as RFC 6030 says: ask the vendor for the file again"
NO_KEY = "the package has no key: ask the vendor for the file again"
NOT_BASE64 = "the secret is not Base64 of whole bytes, as RFC 6030 demands: ask the vendor for the file again"
NOT_A_NUMBER = "the counter or a time is not a whole number: ask the vendor for the file again"
NO_MAC = (
    "the encrypted value has no MAC, so that nothing proves that it is decrypted rightly: "
    "ask the vendor for a file with MACs (RFC 6030, section 6.2)"
)
BAD_MAC = (
    "the secret is not the one that the vendor wrote, says its MAC: the file is damaged here, or the key is wrong; "
    "ask the vendor for the file again"
)


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A key of a package: as python-pskc reads it, and when it expires, as written. `fault`: why it is refused."""

    serial: str
    key: Key | None = None
    expires: tuple[str, ...] = ()
    is_encrypted: bool = False
    fault: str = ""

    def check_mac(self) -> None:
        """Decrypt all values of the key and compare their MACs. Raises RowRefused."""
        if self.key is None or self.fault:
            raise RowRefused(self.fault, self.serial)
        try:
            # Every reading of a value decrypts it and compares its MAC, unless it is written back as it was read.
            for name in ENCRYPTABLE:
                setattr(self.key, name, getattr(self.key, name))
        except DecryptionError:
            raise RowRefused(BAD_MAC, self.serial) from None
        # python-pskc says that other libraries' exceptions may come out of it, and does not say which.
        except Exception:
            raise RowRefused(BAD_MAC if self.is_encrypted else UNREADABLE, self.serial) from None


def has_encrypted(container: Container, package: Element) -> bool:
    """Whether a value of a package is encrypted."""
    return any(_is_encrypted(container, key) for key in package.iter() if key.tag in KEYS)


def find_keys(container: Container, package: Element) -> Iterator[FoundKey]:
    """Find the keys of a package, and unlock the container if one is encrypted. Raises UnusableFile if that fails."""
    elements = [element for name in KEYS for element in package.findall(name)]
    serial = _find_serial(package)
    encrypted = [_is_encrypted(container, element) for element in elements]
    if any(encrypted):
        container.unlock(package)
    dates = [_cut_expiry(element) for element in elements]
    expires = _cut_expiry(package)
    keys = _parse(container, package)
    if keys is None or len(keys) != len(elements) or not keys:
        yield from [FoundKey(serial, fault=UNREADABLE if elements else NO_KEY)] * max(1, len(elements))
        return
    for key, element, own, is_encrypted in zip(keys, elements, dates, encrypted, strict=True):
        named = serial or (key.id or "").strip()
        fault = _find_fault(element, is_encrypted)
        yield FoundKey(named, key, expires + own, is_encrypted, fault)


def _find_serial(package: Element) -> str:
    """Find the serial number that a package says, in the RFC's element or a draft's; empty if it says none."""
    infos = [info for name in DEVICES for info in package.findall(name)]
    return next((serial for info in infos if (serial := (info.findtext("SerialNo") or "").strip())), "")


def _parse(container: Container, package: Element) -> list[Key] | None:
    """Let python-pskc parse a package; None if it cannot."""
    device = Device(container.pskc)
    try:
        PSKCParser.parse_key_package(device, package)
    # What is wrong with the values comes out as whatever int, base64 and setattr raise.
    except Exception:
        return None
    return device.keys


def _cut_expiry(element: Element) -> tuple[str, ...]:
    """Cut the dates out of an element, and return those at which it expires."""
    found: list[str] = []
    if all(next(element.iter(name), None) is None for name in DATES):
        return ()
    for parent in [each for each in element.iter() if len(each)]:
        for child in [child for child in parent if child.tag in DATES]:
            if child.tag in EXPIRES and child.text and child.text.strip():
                found.append(child.text.strip())
            parent.remove(child)
    return tuple(found)


def _find_data(element: Element) -> Iterator[tuple[str, Element]]:
    """Find the values of a key: the name of each, in lower case, and its element."""
    for data in element.findall("Data"):
        # Drafts name the value by an attribute, the RFC by an element.
        if name := data.get("Name"):
            yield name.lower(), data
        for child in data:
            yield child.tag.lower(), child


def _is_encrypted(container: Container, element: Element) -> bool:
    """Whether a value of a key is encrypted: it says so, or in drafts, it is a Value where the head names a cipher."""
    if next(element.iter("EncryptedValue"), None) is not None:
        return True
    if container.pskc.encryption.algorithm is None:
        return False
    return any(name == "secret" and data.find("Value") is not None for name, data in _find_data(element))


def _find_fault(element: Element, is_encrypted: bool) -> str:
    """Find what is wrong with the values of a key as they are written; empty if nothing is."""
    for name, data in _find_data(element):
        has_mac = any(data.find(mac) is not None for mac in MACS)
        is_cipher = data.find("EncryptedValue") is not None
        plain = data.findtext("PlainValue")
        legacy = data.findtext("Value")
        if is_cipher and not has_mac and not _is_key_wrap(data):
            return NO_MAC
        if name == "secret" and legacy is not None and is_encrypted and not has_mac:
            return NO_MAC
        if name == "secret" and not is_encrypted and not _is_base64(plain or legacy or ""):
            return NOT_BASE64
        is_plain_number = name in NUMBERS and not is_cipher and not has_mac
        if is_plain_number and not _is_number((plain or legacy or "").strip()):
            return NOT_A_NUMBER
    return ""


def _is_key_wrap(data: Element) -> bool:
    """Whether a value is encrypted by a key wrap, which has a check of its own and needs no MAC."""
    methods = [method.get("Algorithm", "") for method in data.iter("EncryptionMethod")]
    return bool(methods) and all("#kw-" in method for method in methods)


def _is_base64(text: str) -> bool:
    """Whether a secret is Base64, whole, and not hexadecimal; python-pskc would skip whatever is none of its
    characters, and the bits behind its last byte."""
    characters = "".join(text.split())
    try:
        secret = base64.b64decode(characters, validate=True)
    except (binascii.Error, ValueError):
        return False
    return base64.b64encode(secret).decode() == characters and not HEX_AS_BASE64.fullmatch(characters)


def _is_number(text: str) -> bool:
    """Whether a value is a whole number: in digits, or Base64 of its 4 or 8 bytes or of its digits."""
    if not text or NUMBER.fullmatch(text):
        return True
    try:
        value = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(value) in (4, 8) or value.isdigit()
