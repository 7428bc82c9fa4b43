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

from worker.intake.formats.pskc.encryption import CIPHERS, MACS, Container, find_algorithms
from worker.intake.formats.refusals import RowRefused
from worker.intake.formats.secrets import HEX_AS_BASE64

# Elements of a package that are keys, in the RFC and in drafts.
KEYS = ("Key", "Secret")
# Elements of a package with its serial number, in the RFC and in drafts.
DEVICES = ("DeviceInfo", "DeviceId")
# Elements with a value that does not say that it is encrypted, in the RFC and in drafts.
PLAIN = ("PlainValue", "Value")
# Elements with a date. They are read here: dateutil, which python-pskc has for them, takes longer than all the rest.
EXPIRES = ("ExpiryDate", "Expiry")
DATES = (*EXPIRES, "StartDate")
# Names of the values that are whole numbers, in the RFC and in drafts, in lower case.
NUMBERS = ("counter", "time", "timeinterval", "time_interval")
# Names of all values that are read.
VALUES = ("secret", *NUMBERS, "timedrift")
# Values of a key that may be encrypted, by what python-pskc calls them.
ENCRYPTABLE = ("secret", "counter", "time_offset", "time_interval", "time_drift")
# Whole numbers as they should be written.
NUMBER = re.compile(r"[0-9]{1,19}")

UNREADABLE = "the key is not written as RFC 6030 says: ask the vendor for the file again"
NO_KEY = "the package has no key: ask the vendor for the file again"
NOT_BASE64 = "the secret is not Base64 of whole bytes, as RFC 6030 demands: ask the vendor for the file again"
NOT_A_NUMBER = "the counter or a time is not a whole number: ask the vendor for the file again"
IN_TWO_WAYS = (
    "the value is plain, says its element, and encrypted, says the MAC or another value beside it: "
    "ask the vendor for the file again"
)
NO_CIPHER = "the encrypted value does not say with which cipher: ask the vendor for the file again"
OTHER_CIPHER = "the value is encrypted with a cipher that is not read: ask the vendor for the file with AES-128-CBC"
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
        fault = _find_fault(container, element)
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
        for name, each in ((data.get("Name", ""), data), *((child.tag, child) for child in data)):
            if (lower := name.lower()) in VALUES:
                yield lower, each


def _is_encrypted(container: Container, element: Element) -> bool:
    """Whether a value of a key is encrypted."""
    return any(_is_encrypted_value(container, name, data) for name, data in _find_data(element))


def _is_encrypted_value(container: Container, name: str, data: Element) -> bool:
    """Whether a value is encrypted: it says so; or in drafts, whose ciphertexts look like secrets, it is a Value with a
    MAC, or the secret below a head that says how values are encrypted."""
    if data.find("EncryptedValue") is not None:
        return True
    if container.is_plain or data.find("Value") is None:
        return False
    return _find_mac(data) is not None or (name == "secret" and container.is_encrypted)


def _find_fault(container: Container, element: Element) -> str:
    """Find what is wrong with the values of a key as they are written; empty if nothing is."""
    seen = set()
    for name, data in _find_data(element):
        is_twice = name in seen or sum(child.tag in (*PLAIN, "EncryptedValue") for child in data) > 1
        seen.add(name)
        if _is_encrypted_value(container, name, data):
            fault = IN_TWO_WAYS if is_twice else _find_fault_of_encrypted(container, data)
        else:
            # A plain value stands alone; what stands beside it may be a MAC whose name is misspelt.
            has_other = any(child.tag not in PLAIN for child in data) and not container.is_plain
            fault = IN_TWO_WAYS if is_twice or has_other else _find_fault_of_plain(name, data)
        if fault:
            return fault
    return ""


def _find_fault_of_encrypted(container: Container, data: Element) -> str:
    """Find what keeps an encrypted value from being decrypted and proven; empty if nothing does."""
    cipher = next(iter(find_algorithms(data)), container.cipher)
    if cipher is None:
        return NO_CIPHER
    if not CIPHERS.fullmatch(cipher):
        return OTHER_CIPHER
    mac = _find_mac(data)
    # A key wrap has a check of its own. Of a Value, python-pskc would take the ciphertext for the secret.
    needs_mac = "#kw-" not in cipher or data.find("Value") is not None
    return NO_MAC if needs_mac and (mac is None or not _has_bytes(mac.text or "")) else ""


def _find_fault_of_plain(name: str, data: Element) -> str:
    """Find what is wrong with a plain value; empty if nothing is."""
    text = next((each.text or "" for each in data if each.tag in PLAIN), "")
    if name == "secret":
        return "" if _is_base64(text) else NOT_BASE64
    return NOT_A_NUMBER if name in NUMBERS and not _is_number(text.strip()) else ""


def _find_mac(data: Element) -> Element | None:
    """Find the element with the MAC of a value."""
    return next((mac for name in MACS for mac in data.findall(name)), None)


def _has_bytes(text: str) -> bool:
    """Whether Base64 has any bytes, as python-pskc reads it: it compares no MAC without."""
    try:
        return bool(base64.b64decode(text))
    except ValueError:
        return False


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
