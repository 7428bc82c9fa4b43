"""PSKC whose names are in small letters, as privacyIDEA exports it: the elements get their names back.

https://github.com/privacyidea/privacyidea, `export_pskc`: it is written by a parser of HTML, which knows no capitals.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element

# The root of such a document, and those of its elements that are parts.
ROOT = "keycontainer"
PARTS = ("encryptionkey", "macmethod", "keypackage")

# The names of RFC 6030 and of the standards that it stands on, by their small letters.
ELEMENTS = {
    name.lower(): name
    for name in (
        *("KeyContainer", "EncryptionKey", "KeyName", "MACMethod", "MACKey", "EncryptionMethod", "CipherData"),
        *("CipherValue", "DerivedKey", "KeyDerivationMethod", "MasterKeyName", "PBKDF2-params", "Salt", "Specified"),
        *("IterationCount", "KeyLength", "PRF", "X509Data", "RSAKeyValue", "EncryptedKey", "KeyPackage", "DeviceInfo"),
        *("Manufacturer", "SerialNo", "Model", "StartDate", "ExpiryDate", "UserId", "Key", "Issuer", "Policy"),
        *("AlgorithmParameters", "Suite", "ResponseFormat", "Data", "Secret", "PlainValue", "EncryptedValue"),
        *("ValueMAC", "Counter", "Time", "TimeInterval", "TimeDrift", "KeyUsage", "PINPolicy"),
    )
}
ATTRIBUTES = {
    name.lower(): name for name in ("Algorithm", "CheckDigits", "Encoding", "Id", "Length", "PINUsageMode", "Version")
}


def restore_names(element: Element) -> Element:
    """Give an element and all below it the names of RFC 6030 back; the hash, which privacyIDEA writes as an attribute
    of Suite, becomes its text."""
    for each in element.iter():
        each.tag = ELEMENTS.get(each.tag, each.tag)
        for name in ATTRIBUTES.keys() & each.attrib.keys():
            each.set(ATTRIBUTES[name], each.attrib.pop(name))
        if each.tag == "Suite" and "hashalgo" in each.attrib:
            each.text = each.get("hashalgo")
    return element
