"""The format "PSKC": documents that follow the RFC or a draft before it. A row's number is the position of its key in
the document, counted from 1.

python-pskc reads one package of keys at a time. Two things that it does not check are checked here first: whether a
value is encrypted, and whether a MAC proves that it is decrypted correctly.

https://www.rfc-editor.org/rfc/rfc6030
"""

import base64
import re
from collections.abc import Iterator, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from xml.etree.ElementTree import Element

from pskc import PSKC
from pskc.algorithms import normalise_algorithm
from pskc.device import Device
from pskc.encryption import algorithm_key_lengths
from pskc.exceptions import DecryptionError, KeyDerivationError, PSKCError
from pskc.key import Key
from pskc.parser import PSKCParser

from worker.intake.files import Hints, OpenFile
from worker.intake.other_formats import cut_namespace, is_xml, read_parts
from worker.intake.rows import Row, RowError, RowRefused, SecretMissing, UnusableFile, find_reason
from worker.intake.tokens import Token, make_rows, tell_other_encoding

# Element names, the RFC's first, then those of earlier drafts: the root, packages of keys, keys, the parent of the
# serial number, MACs, and values that are not marked as encrypted.
ROOTS = ("KeyContainer", "SecretContainer")
PACKAGES = ("KeyPackage", "Device")
KEYS = ("Key", "Secret")
DEVICES = ("DeviceInfo", "DeviceId")
MACS = ("ValueMAC", "ValueDigest")
PLAIN = ("PlainValue", "Value")
# Elements of the head. A signature is read separately and ignored, including its own DigestMethod, which is not the
# head's.
HEAD = ("EncryptionKey", "EncryptionMethod", "MACMethod", "DigestMethod", "MACAlgorithm")
SIGNATURE = "Signature"
# The head's element for anything that the RFC does not define. Other unknown names may be misspelled.
EXTENSIONS = "Extensions"
# Elements of a key that must not be repeated with another value.
SINGLE = ("AlgorithmParameters", "Suite", "ResponseFormat")
# Whole numbers of the head; python-pskc would also read full-width digits.
NUMBERS_OF_HEAD = ("IterationCount", "KeyLength", "PBEIterationCount")
# Elements of an EncryptionKey that belongs to a certificate.
CERTIFICATES = ("X509Data", "RSAKeyValue", "EncryptedKey")
# Names, in lower case, of the values that are whole numbers, and of all values that are read.
NUMBERS = ("counter", "time", "timeinterval", "time_interval")
VALUES = ("secret", *NUMBERS, "timedrift")
# Values of a key that can be encrypted, by python-pskc's names.
ENCRYPTABLE = ("secret", "counter", "time_offset", "time_interval", "time_drift")
# Columns that a row keeps from its key, each with python-pskc's name for it.
KEPT = {"manufacturer": "manufacturer", "model": "model", "pskc_userid": "userid"}
# Names from the RFC, the standards that it builds on, and the drafts before it, by their lowercase form. privacyIDEA
# exports all names in lowercase (its `export_pskc`), and a name in the wrong case, which would otherwise not be found,
# may say how a value is encrypted.
NAMES = {
    name.lower(): name
    for name in (
        *("KeyContainer", "EncryptionKey", "KeyName", "MACMethod", "MACKey", "EncryptionMethod", "CipherData"),
        *("CipherValue", "DerivedKey", "KeyDerivationMethod", "MasterKeyName", "PBKDF2-params", "Salt", "Specified"),
        *("IterationCount", "KeyLength", "PRF", "X509Data", "RSAKeyValue", "EncryptedKey", "KeyPackage", "DeviceInfo"),
        *("Manufacturer", "SerialNo", "Model", "UserId", "Key", "Issuer", "Policy", "PINPolicy", "Signature"),
        *("AlgorithmParameters", "Suite", "ResponseFormat", "Data", "Secret", "PlainValue", "EncryptedValue"),
        *("ValueMAC", "Counter", "Time", "TimeInterval", "TimeDrift", "KeyUsage"),
        *("SecretContainer", "DigestMethod", "MACAlgorithm", "EncryptionScheme", "IV", "PBESalt", "PBEIterationCount"),
        *("Device", "DeviceId", "Usage", "Value", "ValueDigest"),
    )
    # Dates get names that python-pskc does not know: it reads dates with dateutil, which guesses, and refuses the
    # package if the guess fails.
} | {"expirydate": "Expires", "expiry": "Expires", "startdate": "Starts"}
ATTRIBUTES = {
    name.lower(): name
    for name in (
        *("Algorithm", "CheckDigits", "Encoding", "Id", "Length", "PINUsageMode", "Version", "Name", "Format"),
        *("KeyAlgorithm", "KeyId", "SecretAlgorithm", "SecretId", "CheckDigit"),
        *("OTP", "CR", "Integrity", "Encrypt", "Unlock"),
    )
}

# Maximum rounds of PBKDF2: with more, a file could occupy a machine for hours.
MAX_ITERATIONS = 10_000_000
# Maximum bytes of a derived key; AES-256 needs 32.
MAX_KEY_LENGTH = 64
# The supported ciphers. python-pskc has more, but cryptography is dropping Triple DES and others of them.
CIPHERS = re.compile(r".*#(?:aes(?:128|192|256)-cbc|kw-aes(?:128|192|256))", re.DOTALL)

ASK_AGAIN = "Ask the vendor for the file again"
ASK_FOR_OTHER = "Ask the vendor for the file with a pre-shared key (AES-128-CBC) or a password"
UNREADABLE = "the key is not written as RFC 6030 says: ask the vendor for the file again"
IN_TWO_WAYS = (
    "the value is marked as plain, but a MAC or another value beside it marks it as encrypted: ask the vendor for the "
    "file again"
)
BAD_MAC = (
    "the secret does not match its MAC: the file is damaged here, or the key is wrong; ask the vendor for the file "
    "again"
)


def is_pskc(head: bytes) -> bool:
    return is_xml(head) and any(root.lower().encode() in head.lower() for root in ROOTS)


def read_pskc(file: OpenFile, now: datetime) -> tuple[list[str], Iterator[Row | RowError]]:
    """Return the columns that an export repeats, and the rows. Raises UnusableFile, also after the last row if the key
    opened nothing."""
    container, packages = _read_container(file)
    # Contains True if some values could be decrypted, and False if some could not: one success proves that the key is
    # right.
    opened: set[bool] = set()

    def read(found: FoundKey) -> Token:
        try:
            found.check_mac()
        except RowRefused:
            opened.update({False} if found.is_encrypted and not found.fault else ())
            raise
        opened.update({True} if found.is_encrypted else ())
        return _make_token(found, now)

    def rows() -> Iterator[Row | RowError]:
        keys = (found for package in packages for found in find_keys(container, package))
        yield from make_rows(enumerate(keys, 1), read, file.hints, counted="key")
        if opened == {False}:
            raise container.make_wrong_key()

    return ["serial", "otp_type", *KEPT], rows()


# The head: how the values are encrypted, and the key that opens them


class Container:
    """The head of a document. It stays locked until the first encrypted value, for which `unlock` gets the key."""

    def __init__(self, path: Path, hints: Hints, root: Element, head: list[Element], others: Set[bool]) -> None:
        self.pskc = PSKC()
        # For the other children of the root that were read so far: True if one is `Extensions`, False if one is
        # unknown.
        self._others = others
        self._path = path
        self._hints = hints
        self._head = Element(root.tag, root.attrib)
        self._head.extend(head)
        self._is_locked = True
        self._lacks_mac_method = False
        if root.tag not in ROOTS:
            raise UnusableFile(path, "is XML, but not PSKC", "Give the vendor's file as it was sent")
        try:
            if not all((each.text or "").isascii() for name in NUMBERS_OF_HEAD for each in self._head.iter(name)):
                raise ValueError
            PSKCParser.parse_document(self.pskc, self._head)
        except (PSKCError, ValueError, TypeError):
            raise UnusableFile(
                path, "is PSKC, but its header cannot be read, or its version is not 1.0", ASK_AGAIN
            ) from None
        # The cipher of values that do not name one. python-pskc would use the cipher of the first value that names one
        # for all later values.
        self.cipher = self.pskc.encryption.algorithm
        # In drafts, a value can have a digest below a head with the cipher NONE: nothing is encrypted then.
        # https://datatracker.ietf.org/doc/html/draft-hoyer-keyprov-portable-symmetric-key-container-01#section-10.1
        ciphers = [(each.get("Algorithm") or "").lower() for each in head if each.tag == "EncryptionMethod"]
        self.is_plain = set(ciphers) == {"none"}
        # Whether a draft's secret without a digest is encrypted, even if the cipher is misspelled.
        self.is_encrypted = bool(head) and not self.is_plain

    def unlock(self, package: Element) -> None:
        """Take the key or the password from the hints, once, because a value in this package is encrypted. Raises
        UnusableFile if the hints have neither, if it is wrong, or if the encryption is not supported."""
        if not self._is_locked:
            return
        algorithms = [*find_algorithms(self._head), *find_algorithms(package)]
        self._refuse_unread(algorithms)
        if False in self._others:
            raise UnusableFile(
                self._path, "mixes encrypted values with elements that RFC 6030 does not define", ASK_AGAIN
            )
        encryption = self.pskc.encryption
        encryption.key = key = self._derive_key(algorithms) if encryption.derivation.algorithm else self._take_key()
        for algorithm in algorithms:
            if len(key) not in (lengths := algorithm_key_lengths(algorithm)):
                needed = f"{' or '.join(map(str, lengths))} bytes, and the key has {len(key)}"
                raise UnusableFile(
                    self._path, f"is encrypted with {_name(algorithm)}, which needs a key of {needed}", self._cure
                )
        self._open_mac_key()
        has_macs = any(next(package.iter(name), None) is not None for name in MACS)
        self._lacks_mac_method = has_macs and not self.pskc.mac.algorithm
        self._is_locked = False

    @property
    def _cure(self) -> str:
        """Say what to do about a wrong key or password."""
        if self.pskc.encryption.derivation.algorithm:
            return "Give the password that the vendor sent separately, with --password-file"
        return "Give the key that the vendor sent separately, with --key-file, in hexadecimal or as raw bytes"

    def _refuse_unread(self, algorithms: list[str]) -> None:
        """Raise UnusableFile for a certificate, and for an unsupported or unnamed cipher."""
        is_certificate = any(each.tag in CERTIFICATES for each in self._head.iter())
        if is_certificate or any("rsa" in algorithm.lower().rpartition("#")[2] for algorithm in algorithms):
            raise UnusableFile(self._path, "is encrypted for a certificate (X.509, RSA)", ASK_FOR_OTHER)
        mac_keys = [] if self.cipher else self._head.findall("MACMethod/MACKey")
        if not algorithms or not all(map(find_algorithms, mac_keys)):
            raise UnusableFile(self._path, "has encrypted values but does not name their cipher", ASK_AGAIN)
        if unread := [algorithm for algorithm in algorithms if not CIPHERS.fullmatch(algorithm)]:
            raise UnusableFile(
                self._path, f"is encrypted with {_name(unread[0])}, which is not supported", ASK_FOR_OTHER
            )

    def _take_key(self) -> bytes:
        """Take the pre-shared key from the hints. Raises UnusableFile if they have none."""
        if self._hints.key is None:
            raise SecretMissing(self._path, "key")
        return self._hints.key

    def _derive_key(self, algorithms: list[str]) -> bytes:
        """Derive the key from the password in the hints. Raises UnusableFile."""
        if self._hints.password is None:
            raise SecretMissing(self._path, "password")
        derivation = self.pskc.encryption.derivation
        if derivation.pbkdf2_key_length is None and algorithms:
            derivation.pbkdf2_key_length = algorithm_key_lengths(algorithms[0])[0]
        rounds, length = derivation.pbkdf2_iterations or 0, derivation.pbkdf2_key_length or 0
        if not 0 <= rounds <= MAX_ITERATIONS or not 0 <= length <= MAX_KEY_LENGTH:
            raise UnusableFile(
                self._path,
                f"has a PBKDF2 iteration count or a key length out of range (at most {MAX_ITERATIONS} iterations)",
                ASK_AGAIN,
            )
        try:
            return derivation.derive(self._hints.password)
        except (KeyDerivationError, ValueError):
            raise UnusableFile(
                self._path,
                "derives its key from a password in a way other than PBKDF2, or does not say how",
                ASK_FOR_OTHER,
            ) from None

    def _open_mac_key(self) -> None:
        """Decrypt the key of the MACs once, instead of for every value. Raises UnusableFile if that fails, or if the
        MACs are of a kind that python-pskc does not support."""
        mac = self.pskc.mac
        try:
            mac.key = mac.key
        except (PSKCError, ValueError, TypeError):
            raise self.make_wrong_key() from None
        if not mac.key:
            raise self.make_wrong_key()
        try:
            if mac.algorithm:
                mac.generate_mac(b"")
        except PSKCError:
            raise UnusableFile(
                self._path, "has MACs other than HMAC with SHA-1, SHA-256, or SHA-512", ASK_FOR_OTHER
            ) from None

    def make_wrong_key(self) -> UnusableFile:
        """Make the error for a key or password that opens nothing in the file."""
        if self._lacks_mac_method:
            return UnusableFile(self._path, "has MACs but does not say which kind (MACMethod)", ASK_AGAIN)
        what = "password" if self.pskc.encryption.derivation.algorithm else "key"
        return UnusableFile(
            self._path, f"does not open with this {what}: it is the wrong one, or the file is damaged", self._cure
        )


def _read_container(file: OpenFile) -> tuple[Container, Iterator[Element]]:
    """Read the head of the document. Returns it, and an iterator over the packages of keys. Raises UnusableFile."""
    others: set[bool] = set()
    parts = read_parts(
        file,
        {*HEAD, *PACKAGES, *KEYS, SIGNATURE},
        _restore_name,
        left_out=lambda name: others.add(name == EXTENSIONS),
    )
    elements = map(_restore_attributes, parts)
    root = next(elements)
    parts = (_refuse_lone_key(file.path, part) for part in elements if part.tag != SIGNATURE)
    head: list[Element] = []
    first = None
    for part in parts:
        if part.tag in PACKAGES:
            first = part
            break
        head.append(part)

    def packages() -> Iterator[Element]:
        if first is not None:
            yield first
        for part in parts:
            if part.tag in HEAD:
                raise UnusableFile(file.path, "says how it is encrypted only after the first of its keys", ASK_AGAIN)
            yield part

    return Container(file.path, file.hints, root, head, others), packages()


def _refuse_lone_key(path: Path, part: Element) -> Element:
    """Return a part of the document, unless it is a key outside a package. Raises UnusableFile."""
    if part.tag in KEYS:
        raise UnusableFile(path, "has a key outside a package, so its serial number is not known", ASK_AGAIN)
    return part


@lru_cache(maxsize=256)
def _restore_name(name: str) -> str:
    """Return an element's name as the RFC spells it, without its namespace. Cached, since a document repeats its few
    names often."""
    name = cut_namespace(name)
    return NAMES.get(name.lower(), name)


def _restore_attributes(element: Element) -> Element:
    """Give the attributes of an element, and of all elements below it, the RFC's names. The hash, which privacyIDEA
    writes as an attribute of Suite, becomes the text of Suite."""
    for each in element.iter():
        for name, value in list(each.attrib.items()):
            each.attrib.setdefault(ATTRIBUTES.get(name.lower(), name), value)
        if each.tag == "Suite" and "hashalgo" in each.attrib:
            each.text = each.get("hashalgo")
    return element


def find_algorithms(element: Element) -> list[str]:
    """Find the names of the ciphers that an element says its values are encrypted with."""
    found = []
    for method in element.iter("EncryptionMethod"):
        scheme = method.find("EncryptionScheme")
        named = method if scheme is None else scheme
        if algorithm := normalise_algorithm(named.get("Algorithm") or named.get("algorithm")):
            found.append(algorithm)
    return found


def _name(algorithm: str) -> str:
    """Name an algorithm by the end of its URI, unless that does not look like a name."""
    name = algorithm.rpartition("#")[2]
    return name if re.fullmatch(r"[A-Za-z0-9_-]{1,40}", name) else "an unknown algorithm"


# The packages: their keys, and the faults of their values


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A key of a package, as python-pskc reads it, and its expiry, as written. `fault`: why it is refused."""

    serial: str
    key: Key
    expires: tuple[str, ...]
    is_encrypted: bool
    fault: str

    def check_mac(self) -> None:
        """Decrypt all values of the key and compare their MACs. Raises RowRefused."""
        if self.fault:
            raise RowRefused(self.fault, self.serial)
        try:
            # Every access to a value decrypts it and compares its MAC again, unless the decrypted value is written
            # back.
            for name in ENCRYPTABLE:
                setattr(self.key, name, getattr(self.key, name))
        except DecryptionError:
            raise RowRefused(BAD_MAC, self.serial) from None
        # python-pskc says that it lets other libraries' exceptions through, but not which ones.
        except Exception:
            raise RowRefused(BAD_MAC if self.is_encrypted else UNREADABLE, self.serial) from None


def find_keys(container: Container, package: Element) -> Iterator[FoundKey]:
    """Find the keys of a package, and unlock the container if any value is encrypted. Raises UnusableFile if that
    fails."""
    elements = [element for name in KEYS for element in package.findall(name)]
    infos = [info for name in DEVICES for info in package.findall(name)]
    serial = next((text for info in infos if (text := (info.findtext("SerialNo") or "").strip())), "")
    fault_of_package = _find_fault_of_package(package, infos)
    encrypted = [any(_is_encrypted(container, *value) for value in _find_values(element)) for element in elements]
    if any(encrypted):
        container.unlock(package)
    device = Device(container.pskc)
    try:
        PSKCParser.parse_key_package(device, package)
    # Faulty values raise whatever int, base64, and setattr raise.
    except Exception:
        device.keys.clear()
    if len(device.keys) != len(elements) or not elements:
        fault = UNREADABLE if elements else "the package has no key: ask the vendor for the file again"
        fault = fault_of_package or fault
        yield from [FoundKey(serial, Key(device), (), is_encrypted=False, fault=fault)] * max(1, len(elements))
        return
    for element in elements:
        package.remove(element)
    for key, element, is_encrypted in zip(device.keys, elements, encrypted, strict=True):
        # The rest of the package applies to all of its keys.
        expires = _find_dates(package) + _find_dates(element)
        fault = fault_of_package or _find_fault_of_parameters(element) or _find_fault(container, element)
        yield FoundKey(serial or (key.id or "").strip(), key, expires, is_encrypted, fault)


def _find_fault_of_package(package: Element, infos: list[Element]) -> str:
    """Explain why the serial number of a package's keys is unclear; empty if it is clear."""
    serials = [serial for info in infos for serial in info.findall("SerialNo")]
    inside = [each.tag for each in package.iter() if each is not package]
    faults = {
        "the package has more than one serial number, or its serial number contains other elements: ask the vendor for "
        "the file again": (len(infos) > 1 or len(serials) > 1 or any(map(len, serials))),
        "a package or a key is inside another: ask the vendor for the file again": (
            any(name in inside for name in PACKAGES) or inside.count("Key") > len(package.findall("Key"))
        ),
    }
    return find_reason(faults) or ""


def _find_fault_of_parameters(element: Element) -> str:
    """Find out which OTP parameter of a key is repeated, split into pieces, or written in digits other than 0 to 9;
    empty if none is."""
    found = {name: list(element.iter(name)) for name in SINGLE}
    faults = {
        f"the key has more than one {name}, or its {name} contains other elements: ask the vendor for the file again": (
            len(each) > 1 or (name == "Suite" and any(map(len, each)))
        )
        for name, each in found.items()
    }
    lengths = [each.get(name, "") for each in found["ResponseFormat"] for name in ("Length", "length")]
    return find_reason(faults | {UNREADABLE: not "".join(lengths).isascii()}) or ""


def _find_values(element: Element) -> Iterator[tuple[str, Element]]:
    """Find the values of a key: the name of each, in lower case, and its element."""
    for data in element.findall("Data"):
        # Drafts name a value with an attribute, the RFC with the element itself.
        for name, each in ((data.get("Name", ""), data), *((child.tag, child) for child in data)):
            if (lower := name.lower()) in VALUES:
                yield lower, each


def _is_encrypted(container: Container, name: str, value: Element) -> bool:
    """Whether a value is encrypted: it says so; or in a draft, where a ciphertext looks like a secret, it is a Value
    that has a MAC, or that is the secret below a head that says how values are encrypted."""
    if value.find("EncryptedValue") is not None:
        return True
    if container.is_plain or value.find("Value") is None:
        return False
    return _find_mac(value) is not None or (name == "secret" and container.is_encrypted)


def _find_fault(container: Container, element: Element) -> str:
    """Find what is wrong with the values of a key as they are written; empty if nothing is."""
    seen = set()
    for name, value in _find_values(element):
        is_twice = name in seen or sum(child.tag in (*PLAIN, "EncryptedValue") for child in value) > 1
        seen.add(name)
        is_encrypted = _is_encrypted(container, name, value)
        # A plain value is alone; anything beside it may be a MAC with a misspelled name.
        has_other = any(child.tag not in PLAIN for child in value) and not container.is_plain
        if is_twice or (has_other and not is_encrypted):
            return IN_TWO_WAYS
        fault = _find_fault_of_encrypted(container, value) if is_encrypted else _find_fault_of_plain(name, value)
        if fault:
            return fault
    return ""


def _find_fault_of_encrypted(container: Container, value: Element) -> str:
    """Find what keeps an encrypted value from being decrypted and verified; empty if nothing does."""
    cipher, mac = next(iter(find_algorithms(value)), container.cipher) or "", _find_mac(value)
    # A key wrap has its own check, but in a Value, python-pskc would take the ciphertext for the secret.
    needs_mac = "#kw-" not in cipher or value.find("Value") is not None
    faults = {
        "the encrypted value does not name its cipher: ask the vendor for the file again": not cipher,
        "the value is encrypted with an unsupported cipher: ask the vendor for the file with AES-128-CBC": (
            not CIPHERS.fullmatch(cipher)
        ),
        "the encrypted value has no MAC, so nothing proves that it is decrypted correctly: ask the vendor for a file "
        "with MACs (RFC 6030, section 6.2)": (
            needs_mac and (mac is None or not _decode(mac.text or "", is_strict=False))
        ),
    }
    return find_reason(faults) or ""


def _find_fault_of_plain(name: str, value: Element) -> str:
    """Find what is wrong with a plain value; empty if nothing is."""
    plain = [each for each in value if each.tag in PLAIN]
    text = next((each.text or "" for each in plain), "").strip()
    # A secret may span several lines. A number may not: python-pskc would take a number in pieces for Base64.
    text = "".join(text.split()) if name == "secret" else text
    decoded = _decode(text)
    if name == "secret":
        # python-pskc would skip characters that are not Base64, and the bits after the last byte.
        is_whole = decoded is not None and base64.b64encode(decoded).decode() == text
        is_right = is_whole and tell_other_encoding(text) is None
        problem = "the secret is not complete, valid Base64, as RFC 6030 requires"
    else:
        # Digits, or Base64 of the number's 4 or 8 bytes or of its digits.
        is_right = name not in NUMBERS or not text or re.fullmatch(r"[0-9]{1,19}", text) is not None
        is_right = is_right or (decoded is not None and (len(decoded) in (4, 8) or decoded.isdigit()))
        problem = "the counter or a time is not a whole number"
    # The text of a value in pieces is only its beginning, which may look complete.
    return "" if is_right and not any(map(len, plain)) else f"{problem}: ask the vendor for the file again"


def _find_mac(value: Element) -> Element | None:
    """Find the element with the MAC of a value."""
    return next((mac for name in MACS for mac in value.findall(name)), None)


def _decode(text: str, *, is_strict: bool = True) -> bytes | None:
    """Decode Base64; None if invalid. `is_strict`: refuse other characters, which python-pskc skips."""
    try:
        return base64.b64decode(text, validate=is_strict)
    except ValueError:
        return None


def _find_dates(element: Element) -> tuple[str, ...]:
    """Find the expiry dates of a key, or of all keys of a package, as written."""
    return tuple(text for each in element.iter("Expires") if (text := (each.text or "").strip()))


# The keys: a token from each


def _make_token(found: FoundKey, now: datetime) -> Token:
    """Make the token from a key, once its MACs are checked. `now` has a zone. Raises RowRefused."""
    if reason := _find_unfit(found, now):
        raise RowRefused(reason, found.serial)
    key = found.key
    return Token(
        serial=found.serial,
        secret=key.secret or b"",
        # The end of the algorithm's URI, in the RFC (`…:pskc:hotp`) and in drafts (`…/pskc#totp`, `HOTP`).
        otp_type=re.split(r"[:#/]", key.algorithm.strip())[-1] if key.algorithm else None,
        digits=key.response_length,
        time_step=key.time_interval,
        hash_algorithm=key.algorithm_suite,
        counter=key.counter,
        extra={name: str(value) for name, field in KEPT.items() if (value := getattr(key, field))},
    )


def _find_unfit(found: FoundKey, now: datetime) -> str | None:
    """Find what keeps PingOne from accepting a key's token; None if nothing does."""
    key, policy = found.key, found.key.policy
    # Whether an expiry date is past, for each way to read it; empty if it is not a date. The first date that may be
    # past, or is not a date, counts.
    dates = ({date < now for date in _read_dates(text)} for text in found.expires)
    past = next((readings for readings in dates if readings != {False}), {False})
    unfit = {
        "the token shows characters other than digits, and PingOne takes only digits: leave it out": (
            (key.response_encoding or "DECIMAL").upper() != "DECIMAL"
        ),
        "the token adds a check digit to its OTPs, which PingOne does not support: leave the token out": (
            key.response_check
        ),
        "the KeyUsage says that the key is not for one-time passwords: leave it out": (
            policy.key_usage and "OTP" not in policy.key_usage
        ),
        "the token combines a PIN with its OTPs (PINUsageMode Algorithmic), which PingOne does not support: leave the "
        "token out": ((policy.pin_usage or "").lower() == "algorithmic"),
        "the token has expired, as its ExpiryDate says: leave it out, or ask the vendor for the right one": (
            past == {True}
        ),
        "its ExpiryDate is not a date such as 2036-01-01T00:00:00Z: ask the vendor for the file again": (
            past != {False}
        ),
    }
    return find_reason(unfit)


@lru_cache(maxsize=64)
def _read_dates(text: str) -> tuple[datetime, ...]:
    """List the possible readings of a date: none if it cannot be read, and two if it may be day/month/year or
    month/day/year, as in drafts. A date without a zone is in UTC."""
    forms = [text]
    if found := re.fullmatch(r"(\d\d)/(\d\d)/(\d{4})", text, re.ASCII):
        first, second, year = found.groups()
        forms = [f"{year}-{second}-{first}", f"{year}-{first}-{second}"]
    dates = []
    for form in forms:
        try:
            date = datetime.fromisoformat(form)
        except ValueError:
            continue
        dates.append(date if date.tzinfo else date.replace(tzinfo=UTC))
    return tuple(dates)
