"""The head of a PSKC document: how its values are encrypted, and the key that opens them.

https://www.rfc-editor.org/rfc/rfc6030#section-6
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from pskc import PSKC
from pskc.algorithms import normalise_algorithm
from pskc.encryption import algorithm_key_lengths
from pskc.exceptions import KeyDerivationError, PSKCError
from pskc.parser import PSKCParser

from worker.intake.formats.format import Hints, OpenFile, SecretMissing
from worker.intake.formats.pskc.letter_case import restore_attributes, restore_name
from worker.intake.formats.pskc.macs import OneCallMac
from worker.intake.formats.xml_stream import read_parts
from worker.intake.rows import UnusableFile

# Names of the root: in the RFC, and in drafts before it.
ROOTS = ("KeyContainer", "SecretContainer")
# Elements of the head, in the RFC and in drafts.
HEAD = ("EncryptionKey", "EncryptionMethod", "MACMethod", "DigestMethod", "MACAlgorithm")
# Elements that hold keys, in the RFC and in drafts.
PACKAGES = ("KeyPackage", "Device")
# Elements with a MAC, in the RFC and in drafts.
MACS = ("ValueMAC", "ValueDigest")
# The element of a signature. It is left out, with its DigestMethod, which is none of the head.
SIGNATURE = "Signature"
# Elements of an EncryptionKey that is a certificate's.
CERTIFICATES = ("X509Data", "RSAKeyValue", "EncryptedKey")

# Rounds of PBKDF2 at most: with more, a file could occupy a machine for hours.
MAX_ITERATIONS = 10_000_000
# Bytes of a derived key at most; AES-256 needs 32.
MAX_KEY_LENGTH = 64
# The ciphers that are read. python-pskc has more, of which cryptography drops Triple DES and others.
CIPHERS = re.compile(r".*#(?:aes(?:128|192|256)-cbc|kw-aes(?:128|192|256))", re.DOTALL)
# Names of algorithms that a message may repeat.
NAMEABLE = re.compile(r"[A-Za-z0-9_-]{1,40}")

ASK_AGAIN = "Ask the vendor for the file again"
ASK_FOR_OTHER = "Ask the vendor for the file with a pre-shared key (AES-128-CBC) or a password"
SAY_KEY = "Give the key that the vendor sent apart from it, by --key-file, in hexadecimal or as its bytes alone"
SAY_PASSWORD = "Give the password that the vendor sent apart from it, by --password-file"  # noqa: S105 - a sentence


class Container:
    """The head of a document. It is locked until `unlock` finds that a value is encrypted, and has the key."""

    def __init__(self, path: Path, hints: Hints, root: Element, head: list[Element]) -> None:
        self.pskc = PSKC()
        self.pskc.mac = self._mac = OneCallMac(self.pskc)
        self._path = path
        self._hints = hints
        self._head = Element(root.tag, root.attrib)
        self._head.extend(head)
        self._is_locked = True
        self._lacks_mac_method = False
        if root.tag not in ROOTS:
            raise UnusableFile(path, "is XML, but no PSKC", "Give the vendor's file as it was sent")
        try:
            PSKCParser.parse_document(self.pskc, self._head)
        except (PSKCError, ValueError, TypeError):
            problem = "is PSKC with a head that cannot be read, or of another version than 1.0"
            raise UnusableFile(path, problem, ASK_AGAIN) from None
        # The cipher of the values that do not name one themselves. python-pskc would take that of the first value that
        # does for it, from then on.
        self.cipher = self.pskc.encryption.algorithm
        # Drafts write a value, its digest, and a head with the cipher NONE: nothing is encrypted then.
        # https://datatracker.ietf.org/doc/html/draft-hoyer-keyprov-portable-symmetric-key-container-01#section-10.1
        ciphers = [(each.get("Algorithm") or "").lower() for each in head if each.tag == "EncryptionMethod"]
        self.is_plain = set(ciphers) == {"none"}
        # Whether a draft's secret without a digest is encrypted, even if the cipher is misspelt.
        self.is_encrypted = bool(head) and not self.is_plain

    @property
    def cure(self) -> str:
        """What to do about a key or password that is wrong."""
        return SAY_PASSWORD if self.pskc.encryption.derivation.algorithm else SAY_KEY

    def unlock(self, package: Element) -> None:
        """Take the key or the password of the hints, once, because a value in this package is encrypted. Raises
        UnusableFile if there is none, if it is wrong, or if the way of encryption is not read."""
        if not self._is_locked:
            return
        algorithms = [*find_algorithms(self._head), *find_algorithms(package)]
        self._refuse_unread(algorithms)
        encryption = self.pskc.encryption
        encryption.key = self._derive_key(algorithms) if encryption.derivation.algorithm else self._take_key()
        for algorithm in algorithms:
            if len(encryption.key) not in (lengths := algorithm_key_lengths(algorithm)):
                problem = (
                    f"is encrypted with {_name(algorithm)}, which needs a key of {' or '.join(map(str, lengths))} "
                    f"bytes, and the key has {len(encryption.key)}"
                )
                raise UnusableFile(self._path, problem, self.cure)
        self._open_mac_key()
        has_macs = any(next(package.iter(name), None) is not None for name in MACS)
        self._lacks_mac_method = has_macs and not self._mac.algorithm
        self._is_locked = False

    def _refuse_unread(self, algorithms: list[str]) -> None:
        """Raise UnusableFile for a certificate, and for a cipher that is not read or not named."""
        is_certificate = any(each.tag in CERTIFICATES for each in self._head.iter())
        if is_certificate or any("rsa" in algorithm.lower().rpartition("#")[2] for algorithm in algorithms):
            raise UnusableFile(self._path, "is encrypted for a certificate (X.509, RSA)", ASK_FOR_OTHER)
        mac_keys = [] if self.cipher else self._head.findall("MACMethod/MACKey")
        if not algorithms or not all(map(find_algorithms, mac_keys)):
            raise UnusableFile(self._path, "has encrypted values and does not say with which cipher", ASK_AGAIN)
        for algorithm in algorithms:
            if not CIPHERS.fullmatch(algorithm):
                problem = f"is encrypted with {_name(algorithm)}, which is not read"
                raise UnusableFile(self._path, problem, ASK_FOR_OTHER)

    def _take_key(self) -> bytes:
        """Take the pre-shared key of the hints. Raises UnusableFile if there is none."""
        if self._hints.key is None:
            raise SecretMissing(self._path, "key")
        return self._hints.key

    def _derive_key(self, algorithms: list[str]) -> bytes:
        """Derive the key from the password of the hints. Raises UnusableFile."""
        if self._hints.password is None:
            raise SecretMissing(self._path, "password")
        derivation = self.pskc.encryption.derivation
        if derivation.pbkdf2_key_length is None and algorithms:
            derivation.pbkdf2_key_length = algorithm_key_lengths(algorithms[0])[0]
        rounds, length = derivation.pbkdf2_iterations or 0, derivation.pbkdf2_key_length or 0
        if not 0 <= rounds <= MAX_ITERATIONS or not 0 <= length <= MAX_KEY_LENGTH:
            problem = f"asks for more than {MAX_ITERATIONS} rounds of PBKDF2, or for an endless key"
            raise UnusableFile(self._path, problem, ASK_AGAIN)
        try:
            return derivation.derive(self._hints.password)
        except (KeyDerivationError, ValueError):
            problem = "derives its key from a password in another way than by PBKDF2, or does not say how"
            raise UnusableFile(self._path, problem, ASK_FOR_OTHER) from None

    def _open_mac_key(self) -> None:
        """Decrypt the key of the MACs once, instead of for every value. Raises UnusableFile if that fails, or if the
        MACs are of a kind that python-pskc does not have."""
        mac = self._mac
        try:
            mac.key = mac.key
        except (PSKCError, ValueError, TypeError):
            raise self.make_wrong_key() from None
        if not mac.key:
            raise self.make_wrong_key()
        try:
            if mac.algorithm:
                mac.generate_mac(b"")
                mac.hash_name = mac.algorithm.rpartition("hmac-")[2]
        except PSKCError:
            problem = "has MACs of another kind than HMAC with SHA-1, SHA-256 or SHA-512"
            raise UnusableFile(self._path, problem, ASK_FOR_OTHER) from None

    def make_wrong_key(self) -> UnusableFile:
        """Make the error for a key or password that opens nothing in the file."""
        if self._lacks_mac_method:
            return UnusableFile(self._path, "has MACs and does not say of which kind (MACMethod)", ASK_AGAIN)
        what = "password" if self.pskc.encryption.derivation.algorithm else "key"
        return UnusableFile(
            self._path, f"is not opened by this {what}: it is the wrong one, or the file is damaged", self.cure
        )


def read_container(file: OpenFile) -> tuple[Container, Iterator[Element]]:
    """Read the head of the document, and yield its packages of keys, one after the other. Raises UnusableFile."""
    elements = map(restore_attributes, read_parts(file, {*HEAD, *PACKAGES, SIGNATURE}, restore_name))
    root = next(elements)
    parts = (element for element in elements if element.tag in (*HEAD, *PACKAGES))
    head: list[Element] = []
    first = None
    for part in parts:
        if part.tag in PACKAGES:
            first = part
            break
        head.append(part)
    return Container(file.path, file.hints, root, head), _read_packages(file, first, parts)


def _read_packages(file: OpenFile, first: Element | None, parts: Iterator[Element]) -> Iterator[Element]:
    """Yield the packages, of which the first has been read already. Raises UnusableFile."""
    if first is not None:
        yield first
    for part in parts:
        if part.tag not in PACKAGES:
            raise UnusableFile(file.path, "says how it is encrypted behind the first of its keys", ASK_AGAIN)
        yield part


def find_algorithms(element: Element) -> list[str]:
    """Find the names of the ciphers that an element says its values are encrypted with."""
    found = []
    for method in element.iter("EncryptionMethod"):
        scheme = method.find("EncryptionScheme")
        named = method if scheme is None else scheme
        algorithm = normalise_algorithm(named.get("Algorithm") or named.get("algorithm"))
        if algorithm:
            found.append(algorithm)
    return found


def _name(algorithm: str) -> str:
    """Name an algorithm by the end of its URI, unless that is none."""
    name = algorithm.rpartition("#")[2]
    return name if NAMEABLE.fullmatch(name) else "an unknown algorithm"
