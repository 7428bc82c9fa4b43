"""PSKC whose names have letters of the wrong case: elements and attributes get the names of RFC 6030 back, so that none
is overlooked that says how a value is encrypted. privacyIDEA exports all names in small letters.

https://github.com/privacyidea/privacyidea, `export_pskc`: it is written by a parser of HTML, which knows no capitals.
"""

from __future__ import annotations

from functools import lru_cache
from xml.etree.ElementTree import Element

from worker.intake.formats.xml_stream import cut_namespace

# The names of RFC 6030, of the standards that it stands on, and of the drafts before it, by their small letters.
ELEMENTS = {
    name.lower(): name
    for name in (
        *("KeyContainer", "EncryptionKey", "KeyName", "MACMethod", "MACKey", "EncryptionMethod", "CipherData"),
        *("CipherValue", "DerivedKey", "KeyDerivationMethod", "MasterKeyName", "PBKDF2-params", "Salt", "Specified"),
        *("IterationCount", "KeyLength", "PRF", "X509Data", "RSAKeyValue", "EncryptedKey", "KeyPackage", "DeviceInfo"),
        *("Manufacturer", "SerialNo", "Model", "StartDate", "ExpiryDate", "UserId", "Key", "Issuer", "Policy"),
        *("AlgorithmParameters", "Suite", "ResponseFormat", "Data", "Secret", "PlainValue", "EncryptedValue"),
        *("ValueMAC", "Counter", "Time", "TimeInterval", "TimeDrift", "KeyUsage", "PINPolicy", "Signature"),
        *("SecretContainer", "DigestMethod", "MACAlgorithm", "EncryptionScheme", "IV", "PBESalt", "PBEIterationCount"),
        *("Device", "DeviceId", "Expiry", "Usage", "Value", "ValueDigest"),
    )
}
ATTRIBUTES = {
    name.lower(): name
    for name in (
        *("Algorithm", "CheckDigits", "Encoding", "Id", "Length", "PINUsageMode", "Version", "Name", "Format"),
        *("KeyAlgorithm", "KeyId", "SecretAlgorithm", "SecretId", "CheckDigit"),
        *("OTP", "CR", "Integrity", "Encrypt", "Unlock"),
    )
}


@lru_cache(maxsize=256)
def restore_name(name: str) -> str:
    """Give an element its name of RFC 6030, without its namespace. A document has few names, and each of them often."""
    name = cut_namespace(name)
    return ELEMENTS.get(name.lower(), name)


def restore_attributes(element: Element) -> Element:
    """Give the attributes of an element and of all below it their names back; the hash, which privacyIDEA writes as an
    attribute of Suite, becomes its text."""
    for each in element.iter():
        for name in each.keys():  # noqa: SIM118 - an element is no dictionary: it yields its children
            right = ATTRIBUTES.get(name.lower(), name)
            if right != name:
                each.attrib.setdefault(right, each.attrib.pop(name))
        if each.tag == "Suite" and "hashalgo" in each.attrib:
            each.text = each.get("hashalgo")
    return element
