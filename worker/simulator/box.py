"""A box to rehearse with: a vendor's encrypted file, its key, the list of who gets what, the tenant that they are for,
and how each record must end.

The file is PSKC 1.0 as vendors write it, each secret encrypted with a pre-shared key, and with a MAC:
https://www.rfc-editor.org/rfc/rfc6030#section-6.1
"""

from __future__ import annotations

import csv
import hmac
import random
import uuid
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO
from xml.sax.saxutils import escape

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7
from pydantic import Field

from worker.simulator.seeding import DeviceSeed, TokenSeed, UserSeed, WorldSeed
from worker.simulator.shipment import Expected, MadeShipment, MadeToken, draw_kinds, draw_other_secret, draw_token
from worker.simulator.world import Settings

# The names of the files in the box's folder.
SEEDS, KEY, LIST, EXPECTED = "box.pskc", "box.key", "who.csv", "expected.json"
# Where people work, for a column of the list's own.
SITES = ("Oslo", "Porto", "Riga")
BoxKind = Literal[
    # Nothing is the matter; or PingOne asks for a second OTP.
    "in_step",
    "out_of_step",
    # Somebody was here before, and all is well: the token is in the inventory already; it is paired with the right user
    # too; it is even ACTIVE.
    "imported_before",
    "paired_before",
    "active_before",
    # The list names a user that is not there, or an address that two users have.
    "user_not_found",
    "user_ambiguous",
    # The user's account is disabled or locked, or has as many devices as it may.
    "user_disabled",
    "user_locked",
    "too_many_devices",
    # The token is in the inventory with other digits or another hash; it is paired with another user; or it is there
    # with another secret, so that every OTP is refused.
    "token_differs",
    "token_taken",
    "wrong_seed",
]
# How the record of each kind must end. A device that is ACTIVE already proves nothing, but it is ACTIVE.
BOX_EXPECTED: Mapping[BoxKind, Expected] = {
    "in_step": Expected("active"),
    "out_of_step": Expected("active", resynced=True),
    "imported_before": Expected("active"),
    "paired_before": Expected("active"),
    "active_before": Expected("active"),
    "user_not_found": Expected("dead_letter", "user_not_found"),
    "user_ambiguous": Expected("dead_letter", "user_ambiguous"),
    "user_disabled": Expected("dead_letter", "account_not_usable"),
    "user_locked": Expected("dead_letter", "account_not_usable"),
    "too_many_devices": Expected("dead_letter", "too_many_devices"),
    "token_differs": Expected("dead_letter", "token_differs"),
    "token_taken": Expected("dead_letter", "token_taken"),
    "wrong_seed": Expected("dead_letter", "invalid_otp"),
}
# Kinds of tokens that a plain box does without.
SPECIAL: tuple[BoxKind, ...] = tuple(kind for kind in BOX_EXPECTED if kind not in ("in_step", "out_of_step"))
# Kinds of tokens that are in the inventory and not paired.
_UNPAIRED: tuple[BoxKind, ...] = ("imported_before", "token_differs", "wrong_seed")
# Of ids that are made of others.
_NAMESPACE = uuid.UUID("0a7b0000-5e1f-4c0d-8000-00000000000d")
# Bytes of the keys for AES-128 and for HMAC-SHA1, and of an initialization vector.
_KEY_LENGTH, _MAC_KEY_LENGTH, _IV_LENGTH = 16, 20, 16


class BoxToken(MadeToken):
    """One token of the box, and its user. `other_secret` is the one that the inventory has of a token with the wrong
    seed."""

    kind: BoxKind
    other_secret: str | None = Field(default=None, repr=False)
    username: str
    email: str
    external_id: str


@dataclass(frozen=True, slots=True)
class Keys:
    """The pre-shared key of a file, and the key of its MACs, which the file brings along encrypted."""

    pre_shared: bytes = field(repr=False)
    mac: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Box(MadeShipment):
    """A made-up box. `world` is the tenant, `expected` says by serial number how each record must end."""

    tokens: tuple[BoxToken, ...]
    keys: Keys
    seed: int = field(default=0)

    def write(self, folder: Path) -> None:
        """Write the vendor's file, its key, the list and what is expected into the folder, which is made if need
        be."""
        folder.mkdir(parents=True, exist_ok=True)
        self._write_seeds(folder / SEEDS)
        self._write_key(folder / KEY)
        self._write_list(folder / LIST)
        self.write_expected(folder / EXPECTED)

    def _write_seeds(self, path: Path) -> None:
        """Write the vendor's file: PSKC, encrypted with the pre-shared key."""
        dice = random.Random(self.seed)  # noqa: S311 - reproducible, and opens nothing but the simulator
        with path.open("w", encoding="utf-8", newline="\n") as file:
            write_pskc(file, self.tokens, self.keys, dice)

    def _write_key(self, path: Path) -> None:
        """Write the pre-shared key, in hexadecimal, to a file that nobody else may read."""
        path.unlink(missing_ok=True)
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(self.keys.pre_shared.hex() + "\n", encoding="ascii")

    def _write_list(self, path: Path) -> None:
        """Write the list of who gets what, with a column of its own: the site."""
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["serial", "email", "site"])
            for number, token in enumerate(self.tokens):
                writer.writerow([token.serial, token.email, SITES[number % len(SITES)]])


def make_box(
    count: int,
    *,
    seed: int = 0,
    out_of_step: float = 0.2,
    totp: float = 0.3,
    special: Mapping[BoxKind, int] | None = None,
    prefix: str = "BOX",
) -> Box:
    """Make up a box of `count` tokens. The same arguments always give the same box.

    `special`: how many tokens there are of which kind of SPECIAL; none by default. Of the others, `out_of_step` is the
    share that needs a second OTP. `totp` is the share of TOTP tokens. Raises ValueError if the special ones do not fit.
    """
    dice = random.Random(seed)  # noqa: S311 - reproducible, and opens nothing but the simulator
    keys = Keys(dice.randbytes(_KEY_LENGTH), dice.randbytes(_MAC_KEY_LENGTH))
    kinds = draw_kinds(count, special or {}, ("out_of_step", "in_step"), out_of_step, dice)
    tokens = tuple(_make_token(number, kind, totp, prefix, dice) for number, kind in enumerate(kinds, start=1))
    return Box(
        rows=(),
        world=_make_tenant(tokens),
        expected={token.serial: BOX_EXPECTED[token.kind] for token in tokens},
        tokens=tokens,
        keys=keys,
        seed=seed,
    )


def _make_token(number: int, kind: BoxKind, totp: float, prefix: str, dice: random.Random) -> BoxToken:
    """Make up a token of this kind; `totp` is the share of TOTP tokens."""
    # Which OTPs go out for a TOTP token depends on the clock, so one with the wrong seed is of HOTP.
    is_totp = dice.random() < totp and kind != "wrong_seed"
    person = f"person{number:07d}"
    token = BoxToken(
        **draw_token(
            f"{prefix}{number:07d}",
            dice,
            type="totp" if is_totp else "hotp",
            hash="sha256" if is_totp and dice.random() < 0.5 else "sha1",
        ),
        kind=kind,
        username=person,
        email=f"{person}@example.com",
        external_id=f"E{number:07d}",
    )
    if kind != "wrong_seed":
        return token
    return token.model_copy(update={"other_secret": draw_other_secret(token, dice)})


def a_few_of_each(count: int, *, each: int = 1) -> Mapping[BoxKind, int]:
    """Which special tokens a box of `count` has: so many of each kind, or none if they were more than a tenth of it."""
    return dict.fromkeys(SPECIAL, each) if count >= 10 * each * len(SPECIAL) else {}


def _make_tenant(tokens: tuple[BoxToken, ...]) -> WorldSeed:
    """Make the tenant: the users, and what was in the inventory before."""
    return WorldSeed(
        users=tuple(user for token in tokens for user in _make_users(token)),
        tokens=tuple(_make_imported(token) for token in tokens if token.kind in _UNPAIRED),
        devices=tuple(device for token in tokens for device in _make_devices(token)),
        out_of_step=tuple(token.serial for token in tokens if token.kind == "out_of_step"),
    )


def _make_users(token: BoxToken) -> Iterator[UserSeed]:
    """Make the users whom a token's line in the list names: one, none or two."""
    if token.kind == "user_not_found":
        return
    names: dict[str, Any] = {"username": token.username, "email": token.email, "external_id": token.external_id}
    yield UserSeed(
        user_id=token.user_id,
        enabled=token.kind != "user_disabled",
        locked=token.kind == "user_locked",
        **names,
    )
    if token.kind == "user_ambiguous":
        other = {name: f"other-{value}" for name, value in names.items()}
        yield UserSeed(user_id=_derive_id("other user", token), **(other | {"email": names["email"]}))


def _make_imported(token: BoxToken) -> TokenSeed:
    """Make the inventory's token, as somebody imported it before."""
    fields = token.seed_fields()
    if token.kind == "wrong_seed":
        fields["secret"] = token.other_secret
    elif token.kind == "token_differs":
        # Only TOTP can have another hash.
        other_hash = "sha256" if token.hash == "sha1" else "sha1"
        fields |= {"hash": other_hash} if token.type == "totp" else {"digits": 8}
    return TokenSeed(**fields)


def _make_devices(token: BoxToken) -> Iterator[DeviceSeed]:
    """Make the devices that were there before: the token's own, or others of its user."""
    own: dict[str, Any] = {"device_id": token.device_id, "user_id": token.user_id}
    match token.kind:
        case "paired_before":
            yield DeviceSeed(**token.seed_fields(), **own)
        case "active_before":
            yield DeviceSeed(**token.seed_fields(), **own, status="ACTIVE")
        case "token_taken":
            yield DeviceSeed(**token.seed_fields(), **own | {"user_id": _derive_id("owner", token)})
        case "too_many_devices":
            for number in range(Settings().max_allowed_devices):
                own["device_id"] = _derive_id(f"old device {number}", token)
                yield DeviceSeed(serial=f"OLD{number}{token.serial}", status="ACTIVE", **own)


def _derive_id(what: str, token: BoxToken) -> str:
    """Make the id of something that belongs to a token."""
    return str(uuid.uuid5(_NAMESPACE, f"{what} of {token.user_id}"))


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


def write_pskc(file: TextIO, tokens: Iterable[MadeToken], keys: Keys, dice: random.Random) -> None:
    """Write a vendor's file of these tokens. `dice` gives the initialization vectors."""

    def encrypt(plain: bytes) -> bytes:
        """Encrypt with AES-128-CBC: the initialization vector, then the ciphertext."""
        iv = dice.randbytes(_IV_LENGTH)
        padder, encryptor = PKCS7(128).padder(), Cipher(AES128(keys.pre_shared), CBC(iv)).encryptor()
        padded = padder.update(plain) + padder.finalize()
        return iv + encryptor.update(padded) + encryptor.finalize()

    file.write(_HEAD.format(mac_key=b64encode(encrypt(keys.mac)).decode()))
    for token in tokens:
        encrypted = encrypt(bytes.fromhex(token.secret))
        values = {
            "serial": escape(token.serial),
            "type": token.type,
            "hash": token.hash.upper(),
            "digits": token.digits,
            "secret": b64encode(encrypted).decode(),
            "mac": b64encode(hmac.digest(keys.mac, encrypted, "sha1")).decode(),
            "moving": _MOVING[token.type].format(counter=token.counter, time_step=token.time_step),
        }
        file.write(_PACKAGE.format(**values))
    file.write(_TAIL)
