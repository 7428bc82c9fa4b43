"""Writes PSKC 1.0 as vendors do: each secret encrypted with a pre-shared key, and with a MAC.

https://www.rfc-editor.org/rfc/rfc6030#section-6.1
"""

from __future__ import annotations

import hmac
import random
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Literal, TextIO
from xml.sax.saxutils import escape

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

# Bytes of the keys for AES-128 and for HMAC-SHA1, and of an initialization vector.
KEY_LENGTH = 16
MAC_KEY_LENGTH = 20
IV_LENGTH = 16

_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<pskc:KeyContainer xmlns:ds="http://www.w3.org/2000/09/xmldsig#" xmlns:pskc="urn:ietf:params:xml:ns:keyprov:pskc" \
xmlns:xenc="http://www.w3.org/2001/04/xmlenc#" Version="1.0">
 <pskc:EncryptionKey>
  <ds:KeyName>made-up-transport-key</ds:KeyName>
 </pskc:EncryptionKey>
 <pskc:MACMethod Algorithm="http://www.w3.org/2000/09/xmldsig#hmac-sha1">
  <pskc:MACKey>
   <xenc:EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc"/>
   <xenc:CipherData>
    <xenc:CipherValue>{mac_key}</xenc:CipherValue>
   </xenc:CipherData>
  </pskc:MACKey>
 </pskc:MACMethod>
"""
_PACKAGE = """ <pskc:KeyPackage>
  <pskc:DeviceInfo>
   <pskc:Manufacturer>oath.MADE</pskc:Manufacturer>
   <pskc:SerialNo>{serial}</pskc:SerialNo>
  </pskc:DeviceInfo>
  <pskc:Key Algorithm="urn:ietf:params:xml:ns:keyprov:pskc:{type}" Id="{serial}">
   <pskc:Issuer>Made-Up Vendor</pskc:Issuer>
   <pskc:AlgorithmParameters>
    <pskc:Suite>HMAC-{hash}</pskc:Suite>
    <pskc:ResponseFormat Encoding="DECIMAL" Length="{digits}"/>
   </pskc:AlgorithmParameters>
   <pskc:Data>
    <pskc:Secret>
     <pskc:EncryptedValue>
      <xenc:EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc"/>
      <xenc:CipherData>
       <xenc:CipherValue>{secret}</xenc:CipherValue>
      </xenc:CipherData>
     </pskc:EncryptedValue>
     <pskc:ValueMAC>{mac}</pskc:ValueMAC>
    </pskc:Secret>
{moving}
   </pskc:Data>
  </pskc:Key>
 </pskc:KeyPackage>
"""
_MOVING = {
    "hotp": "    <pskc:Counter><pskc:PlainValue>{counter}</pskc:PlainValue></pskc:Counter>",
    "totp": "    <pskc:Time><pskc:PlainValue>0</pskc:PlainValue></pskc:Time>\n"
    "    <pskc:TimeInterval><pskc:PlainValue>{time_step}</pskc:PlainValue></pskc:TimeInterval>",
}
_TAIL = "</pskc:KeyContainer>\n"


@dataclass(frozen=True, slots=True)
class Keys:
    """The pre-shared key of a file, and the key of its MACs, which the file brings along encrypted."""

    pre_shared: bytes = field(repr=False)
    mac: bytes = field(repr=False)

    @classmethod
    def draw(cls, dice: random.Random) -> Keys:
        """Make up keys."""
        return cls(dice.randbytes(KEY_LENGTH), dice.randbytes(MAC_KEY_LENGTH))


class PskcWriter:
    """Writes a document package by package. `dice` gives the initialization vectors."""

    def __init__(self, file: TextIO, keys: Keys, dice: random.Random) -> None:
        self._file, self._keys, self._dice = file, keys, dice
        file.write(_HEAD.format(mac_key=b64encode(self._encrypt(keys.mac)).decode()))

    def write(
        self,
        *,
        serial: str,
        secret: bytes,
        otp_type: Literal["hotp", "totp"],
        digits: int,
        hash_name: str,
        counter: int,
        time_step: int,
    ) -> None:
        """Write the package of one token. `time_step` is in seconds."""
        encrypted = self._encrypt(secret)
        mac = hmac.digest(self._keys.mac, encrypted, "sha1")
        values = {
            "serial": escape(serial),
            "type": otp_type,
            "hash": hash_name.upper(),
            "digits": digits,
            "secret": b64encode(encrypted).decode(),
            "mac": b64encode(mac).decode(),
            "moving": _MOVING[otp_type].format(counter=counter, time_step=time_step),
        }
        self._file.write(_PACKAGE.format(**values))

    def close(self) -> None:
        """Write the end of the document."""
        self._file.write(_TAIL)

    def _encrypt(self, plain: bytes) -> bytes:
        """Encrypt with AES-128-CBC: the initialization vector, then the ciphertext."""
        iv = self._dice.randbytes(IV_LENGTH)
        padder, encryptor = PKCS7(128).padder(), Cipher(AES128(self._keys.pre_shared), CBC(iv)).encryptor()
        padded = padder.update(plain) + padder.finalize()
        return iv + encryptor.update(padded) + encryptor.finalize()
