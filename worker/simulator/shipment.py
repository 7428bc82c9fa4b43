"""Made-up tokens, and shipments of them: rows for a client to load, devices for the simulator, and how each record must
end."""

import csv
import hmac
import json
import random
import uuid
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TextIO, TypeVar
from xml.sax.saxutils import escape

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7
from pydantic import Field

from worker.simulator.oath import LOOK_AHEAD, RESYNC_RANGE, hotp
from worker.simulator.world import DeviceSeed, Settings, TokenSeed, UserSeed, WorldSeed

K = TypeVar("K", bound=str)
Kind = Literal[
    "in_step",
    "out_of_step",
    "wrong_otp",
    "wrong_second_otp",
    "second_otp_missing",
    "locked",
    "blocked",
    "account_not_usable",
    "unknown_device",
]


@dataclass(frozen=True, slots=True)
class Expected:
    """How a record must end: its status, the reason of a dead letter, and whether it needs the second OTP."""

    status: Literal["active", "dead_letter"]
    reason: str | None = None
    resynced: bool = False


EXPECTED: Mapping[Kind, Expected] = {
    "in_step": Expected("active"),
    "out_of_step": Expected("active", resynced=True),
    "wrong_otp": Expected("dead_letter", "invalid_otp"),
    "wrong_second_otp": Expected("dead_letter", "resync_failed"),
    "second_otp_missing": Expected("dead_letter", "second_otp_missing"),
    "locked": Expected("dead_letter", "locked"),
    "blocked": Expected("dead_letter", "blocked"),
    "account_not_usable": Expected("dead_letter", "account_not_usable"),
    "unknown_device": Expected("dead_letter", "device_not_found"),
}

# One row of each kind that must end as a dead letter.
A_FEW_HOPELESS: Mapping[Kind, int] = {
    kind: 1 for kind, expected in EXPECTED.items() if expected.status == "dead_letter"
}

# Kinds of dead letters that are mended with two fresh OTPs from the token.
MENDED_BY_FRESH_OTPS: tuple[Kind, ...] = ("wrong_otp", "wrong_second_otp", "second_otp_missing")

# How far a token is ahead of the server's counter: within the look-ahead window, or far enough to need a resync.
IN_STEP, AHEAD = range(LOOK_AHEAD - 1), range(LOOK_AHEAD, 40)
# How many OTPs to compare: none may equal the OTP of another counter nearby. In thousands of tokens, two OTPs of six
# digits are equal by chance once or twice.
_COMPARED = 10


class MadeToken(TokenSeed):
    """A made-up token, its user, and its device. `counter` is the token's, and `server_counter` the server's."""

    secret: str = Field(repr=False)
    server_counter: int = 0
    user_id: str
    device_id: str

    def otps(self, count: int) -> list[str]:
        """The next OTPs of an HOTP token."""
        return _list_otps(bytes.fromhex(self.secret), range(self.counter, self.counter + count))

    def seed_fields(self) -> dict[str, Any]:
        """The fields of a seed for this token; the server gets the token's counter."""
        return self.model_dump(include=set(TokenSeed.model_fields), exclude_defaults=True)


def draw_token(serial: str, dice: random.Random, ahead: range = range(1), **fields: Any) -> dict[str, Any]:
    """Make up the fields of a MadeToken that is this far `ahead` of the server. A TOTP token uses the clock instead."""
    while True:
        secret, server_counter = dice.randbytes(20), dice.randrange(50)
        counter = server_counter + dice.choice(ahead)
        otps = _list_otps(secret, range(server_counter, counter + _COMPARED))
        if len(set(otps)) == len(otps):
            break
    if fields.get("type") == "totp":
        server_counter = counter = 0
    return {
        "serial": serial,
        "secret": secret.hex(),
        "counter": counter,
        "server_counter": server_counter,
        "user_id": make_id(dice),
        "device_id": make_id(dice),
        **fields,
    }


def draw_other_secret(token: MadeToken, dice: random.Random) -> str:
    """Make up another token's secret, in hexadecimal, for which none of this token's OTPs is valid."""
    sent = token.otps(_COMPARED)
    while True:
        secret = dice.randbytes(20)
        accepted = _list_otps(secret, range(token.server_counter, token.counter + RESYNC_RANGE + _COMPARED))
        if set(sent).isdisjoint(accepted):
            return secret.hex()


def draw_kinds(
    count: int, special: Mapping[K, int], plain: tuple[K, K], out_of_step: float, dice: random.Random
) -> list[K]:
    """Choose the kind of each of `count` tokens: the given number of each special kind; of the others, the share
    `out_of_step` is of the first plain kind, and the rest of the second. Raises ValueError if `count` is too small for
    the special ones."""
    kinds = [kind for kind, tokens in special.items() for _ in range(tokens)]
    left = count - len(kinds)
    if left < 0:
        raise ValueError(f"{len(kinds)} tokens with troubles do not fit into {count}")
    kinds += [plain[number >= round(left * out_of_step)] for number in range(left)]
    dice.shuffle(kinds)
    return kinds


def make_id(dice: random.Random) -> str:
    """A random UUID that is the same for the same seed."""
    return str(uuid.UUID(int=dice.getrandbits(128), version=4))


def _list_otps(secret: bytes, positions: Sequence[int]) -> list[str]:
    return [hotp(secret, position) for position in positions]


@dataclass(frozen=True, slots=True)
class PairRow:
    """One row of an OTP-pair file."""

    serial: str
    otp1: str = field(repr=False)
    otp2: str | None = field(repr=False)
    user_id: str
    device_id: str


@dataclass(frozen=True, slots=True)
class MadeShipment:
    """A made-up shipment: `rows` for the client, `world` for the simulator, and how each record must end (`expected`,
    by serial number). `fresh`: the rows with the next two OTPs of each token, for mends."""

    rows: tuple[PairRow, ...]
    world: WorldSeed
    expected: Mapping[str, Expected]
    fresh: tuple[PairRow, ...] = field(default=(), kw_only=True)

    def write_world(self, path: Path) -> None:
        """Write the world as JSON, for `oathbulk simulator --world`."""
        path.write_text(json.dumps(self.world_json()), encoding="utf-8")

    def world_json(self) -> dict[str, Any]:
        """The world as JSON, for `oathbulk simulator --world`."""
        return self.world.model_dump(mode="json", exclude_defaults=True)

    def write_pairs(self, path: Path) -> None:
        """Write the rows as a CSV of OTP pairs, for `oathbulk load`."""
        _write_rows(path, self.rows)

    def write_fresh_pairs(self, path: Path) -> None:
        """Write fresh OTP pairs of the tokens that will not become active, for `oathbulk mend`."""
        _write_rows(path, [row for row in self.fresh if self.expected[row.serial].status == "dead_letter"])


def _write_rows(path: Path, rows: Iterable[PairRow]) -> None:
    lines = ([row.serial, row.otp1, row.otp2 or "", row.user_id, row.device_id] for row in rows)
    write_csv(path, [["serial", "otp1", "otp2", "user_id", "device_id"], *lines])


def write_csv(path: Path, lines: Iterable[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)


def make_shipment(
    count: int,
    *,
    seed: int = 0,
    out_of_step: float = 0.2,
    hopeless: Mapping[Kind, int] | None = None,
    prefix: str = "MADE",
) -> MadeShipment:
    """Make up `count` HOTP tokens, each paired with a user. The same arguments always give the same shipment.

    `hopeless`: how many rows of each kind must end as dead letters; none by default. `out_of_step` is the share of the
    other rows whose tokens need the second OTP. Raises ValueError if `count` is too small for the hopeless ones.
    """
    dice = random.Random(seed)  # noqa: S311 - reproducible, and opens nothing but the simulator
    kinds = draw_kinds(count, hopeless or {}, ("out_of_step", "in_step"), out_of_step, dice)
    made = [_make_pair(f"{prefix}{number:07d}", kind, dice) for number, kind in enumerate(kinds, start=1)]
    rows = tuple(row for row, _, _ in made)
    devices = tuple(device for _, _, device in made if device is not None)
    expected = {row.serial: EXPECTED[kind] for row, kind in zip(rows, kinds, strict=True)}
    return MadeShipment(rows, WorldSeed(devices=devices), expected, fresh=tuple(fresh for _, fresh, _ in made))


def _make_pair(serial: str, kind: Kind, dice: random.Random) -> tuple[PairRow, PairRow, DeviceSeed | None]:
    """Make up a row of this kind, the same row with two fresh OTPs, and its device, or None if PingOne must not know
    the device. The fresh OTPs come after three earlier ones."""
    is_drifted = kind in ("out_of_step", "wrong_second_otp", "second_otp_missing")
    token = MadeToken(**draw_token(serial, dice, AHEAD if is_drifted else IN_STEP))
    first, second, third = token.otps(3)
    otp2 = {"wrong_second_otp": third, "second_otp_missing": None}.get(kind, second)
    row = PairRow(serial, first, otp2, token.user_id, token.device_id)
    secret = draw_other_secret(token, dice) if kind == "wrong_otp" else token.secret
    *_, otp1, otp2 = token.model_copy(update={"secret": secret}).otps(5)
    return row, replace(row, otp1=otp1, otp2=otp2), make_device(token, kind, secret=secret)


def make_device(token: MadeToken, kind: Kind, **fields: Any) -> DeviceSeed | None:
    """Make the device that PingOne has for a token of this kind, with these `fields` in place of the token's; None if
    it has none."""
    if kind == "unknown_device":
        return None
    known = token.seed_fields() | {
        "counter": token.server_counter,
        "out_of_step": token.counter - token.server_counter >= LOOK_AHEAD,
    }
    return DeviceSeed(
        user_id=token.user_id,
        device_id=token.device_id,
        locked=kind == "locked",
        blocked=kind == "blocked",
        account_usable=kind != "account_not_usable",
        **known | fields,
    )


# The names of the files in the box's folder.
SEEDS, KEY, LIST, ENDINGS = "box.pskc", "box.key", "who.csv", "expected.json"
# Where people work, for an additional column of the list.
SITES = ("Oslo", "Porto", "Riga")
BoxKind = Literal[
    # Nothing is wrong; or PingOne asks for a second OTP.
    "in_step",
    "out_of_step",
    # Somebody was here before, and all is well: the token is in the inventory, paired with the right user, or even
    # ACTIVE.
    "imported_before",
    "paired_before",
    "active_before",
    # The list names a user who does not exist, or an address that two users have.
    "user_not_found",
    "user_ambiguous",
    # The user's account is disabled or locked, or has the maximum number of devices.
    "user_disabled",
    "user_locked",
    "too_many_devices",
    # The inventory has the token with other digits or another hash; paired with another user; or with another secret,
    # so that every OTP is refused.
    "token_differs",
    "token_taken",
    "wrong_seed",
]
# How the record of each kind must end. A device that was ACTIVE before does not prove its seed right, but it is ACTIVE.
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
# Kinds of tokens that a plain box omits.
SPECIAL: tuple[BoxKind, ...] = tuple(kind for kind in BOX_EXPECTED if kind not in ("in_step", "out_of_step"))
# Kinds of tokens that are in the inventory but not paired.
_UNPAIRED: tuple[BoxKind, ...] = ("imported_before", "token_differs", "wrong_seed")
# The namespace of derived ids.
_NAMESPACE = uuid.UUID("0a7b0000-5e1f-4c0d-8000-00000000000d")
# Bytes of the keys for AES-128 and for HMAC-SHA1, and of an initialization vector.
_KEY_LENGTH, _MAC_KEY_LENGTH, _IV_LENGTH = 16, 20, 16


class BoxToken(MadeToken):
    """One token of the box, and its user. `other_secret` is the inventory's secret for a token with the wrong seed."""

    kind: BoxKind
    other_secret: str | None = Field(default=None, repr=False)
    username: str
    email: str
    external_id: str


@dataclass(frozen=True, slots=True)
class Keys:
    """The pre-shared key of a file, and the key of its MACs, which the file contains in encrypted form."""

    pre_shared: bytes = field(repr=False)
    mac: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Box(MadeShipment):
    """A made-up box. `world` is the tenant; `expected` says by serial number how each record must end."""

    tokens: tuple[BoxToken, ...]
    keys: Keys
    seed: int = field(default=0)

    def write(self, folder: Path) -> None:
        """Write four files into the folder, which is created if necessary: the vendor's file; its key, in hexadecimal;
        the list of who gets which token, with an additional column; and, by serial number, how each record must end
        (`status`, `reason` and `resynced`)."""
        folder.mkdir(parents=True, exist_ok=True)
        dice = random.Random(self.seed)  # noqa: S311 - reproducible, and opens nothing but the simulator
        with (folder / SEEDS).open("w", encoding="utf-8", newline="\n") as file:
            write_pskc(file, self.tokens, self.keys, dice)
        # Only the owner may read the key.
        key = folder / KEY
        key.unlink(missing_ok=True)
        key.touch(mode=0o600, exist_ok=False)
        key.write_text(self.keys.pre_shared.hex() + "\n", encoding="ascii")
        lines = ([token.serial, token.email, SITES[number % len(SITES)]] for number, token in enumerate(self.tokens))
        write_csv(folder / LIST, [["serial", "email", "site"], *lines])
        endings = {serial: asdict(expected) for serial, expected in self.expected.items()}
        (folder / ENDINGS).write_text(json.dumps(endings, indent=1) + "\n", encoding="utf-8")


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

    `special`: how many tokens there are of each kind in SPECIAL; none by default. Of the others, `out_of_step` is the
    share that needs a second OTP. `totp` is the share of TOTP tokens. Raises ValueError if `count` is too small for the
    special ones.
    """
    dice = random.Random(seed)  # noqa: S311 - reproducible, and opens nothing but the simulator
    keys = Keys(dice.randbytes(_KEY_LENGTH), dice.randbytes(_MAC_KEY_LENGTH))
    kinds = draw_kinds(count, special or {}, ("out_of_step", "in_step"), out_of_step, dice)
    tokens = tuple(_make_token(number, kind, totp, prefix, dice) for number, kind in enumerate(kinds, start=1))
    return Box(
        rows=(),
        # The users, and what the inventory had before.
        world=WorldSeed(
            users=tuple(user for token in tokens for user in _make_users(token)),
            tokens=tuple(_make_imported(token) for token in tokens if token.kind in _UNPAIRED),
            devices=tuple(device for token in tokens for device in _make_devices(token)),
            out_of_step=tuple(token.serial for token in tokens if token.kind == "out_of_step"),
        ),
        expected={token.serial: BOX_EXPECTED[token.kind] for token in tokens},
        tokens=tokens,
        keys=keys,
        seed=seed,
    )


def _make_token(number: int, kind: BoxKind, totp: float, prefix: str, dice: random.Random) -> BoxToken:
    """Make up a token of this kind; `totp` is the share of TOTP tokens."""
    # Which OTPs a TOTP token sends depends on the clock, so a token with the wrong seed is HOTP.
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
    """Which special tokens a box of `count` has: a fixed number of each kind, or none if they would be more than a
    tenth."""
    return dict.fromkeys(SPECIAL, each) if count >= 10 * each * len(SPECIAL) else {}


def _make_users(token: BoxToken) -> Iterator[UserSeed]:
    """Make the users that a token's line in the list names: one, none, or two."""
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
    """Make the inventory's token as somebody imported it before."""
    fields = token.seed_fields()
    if token.kind == "wrong_seed":
        fields["secret"] = token.other_secret
    elif token.kind == "token_differs":
        # Only TOTP can have another hash.
        other_hash = "sha256" if token.hash == "sha1" else "sha1"
        fields |= {"hash": other_hash} if token.type == "totp" else {"digits": 8}
    return TokenSeed(**fields)


def _make_devices(token: BoxToken) -> Iterator[DeviceSeed]:
    """Make the devices that existed before: the token's own, or others of its user."""
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
    """Derive the id of something that belongs to a token."""
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
