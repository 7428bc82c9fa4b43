"""A box to rehearse with: a vendor's encrypted file, its key, the list of who gets what, the tenant that they are for,
and how each record must end."""

from __future__ import annotations

import csv
import random
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from worker.simulator.box_tokens import BOX_EXPECTED, BoxKind, BoxToken, make_tokens
from worker.simulator.pskc_file import Keys, PskcWriter
from worker.simulator.seeding import DeviceSeed, TokenSeed, UserSeed, WorldSeed
from worker.simulator.settings import Settings
from worker.simulator.shipment import MadeShipment

# The names of the files in the box's folder.
SEEDS, KEY, LIST, EXPECTED = "box.pskc", "box.key", "who.csv", "expected.json"
# Where people work, for a column of the list's own.
SITES = ("Oslo", "Porto", "Riga")
# What the list may name a user by.
Person = Literal["username", "email", "external_id"]
# Of ids that are made of others.
_NAMESPACE = uuid.UUID("0a7b0000-5e1f-4c0d-8000-00000000000d")
# Kinds of tokens that a plain box does without.
SPECIAL: tuple[BoxKind, ...] = tuple(kind for kind in BOX_EXPECTED if kind not in ("in_step", "out_of_step"))
# Kinds of tokens that are in the inventory and not paired.
_UNPAIRED: tuple[BoxKind, ...] = ("imported_before", "token_differs", "wrong_seed")


@dataclass(frozen=True, slots=True)
class Box(MadeShipment):
    """A made-up box. `world` is the tenant, `expected` says by serial number how each record must end."""

    tokens: tuple[BoxToken, ...]
    by: Person
    keys: Keys
    seed: int = field(default=0)

    def write(self, folder: Path) -> None:
        """Write the vendor's file, its key, the list and what is expected into the folder, which is made if need
        be."""
        folder.mkdir(parents=True, exist_ok=True)
        self.write_seeds(folder / SEEDS)
        self.write_key(folder / KEY)
        self.write_list(folder / LIST)
        self.write_expected(folder / EXPECTED)

    def write_seeds(self, path: Path) -> None:
        """Write the vendor's file: PSKC, encrypted with the pre-shared key."""
        dice = random.Random(self.seed)  # noqa: S311 - reproducible, and opens nothing but the simulator
        with path.open("w", encoding="utf-8", newline="\n") as file:
            writer = PskcWriter(file, self.keys, dice)
            for token in self.tokens:
                writer.write(
                    serial=token.serial,
                    secret=bytes.fromhex(token.secret),
                    otp_type=token.type,
                    digits=token.digits,
                    hash_name=token.hash,
                    counter=token.counter,
                    time_step=token.time_step,
                )
            writer.close()

    def write_key(self, path: Path) -> None:
        """Write the pre-shared key, in hexadecimal, to a file that nobody else may read."""
        path.unlink(missing_ok=True)
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(self.keys.pre_shared.hex() + "\n", encoding="ascii")

    def write_list(self, path: Path) -> None:
        """Write the list of who gets what, with a column of its own: the site."""
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["serial", self.by, "site"])
            for number, token in enumerate(self.tokens):
                writer.writerow([token.serial, getattr(token, self.by), SITES[number % len(SITES)]])


def make_box(
    count: int,
    *,
    seed: int = 0,
    out_of_step: float = 0.2,
    totp: float = 0.3,
    special: Mapping[BoxKind, int] | None = None,
    by: Person = "email",
    prefix: str = "BOX",
) -> Box:
    """Make up a box of `count` tokens. The same arguments always give the same box.

    `special`: how many tokens there are of which kind of SPECIAL; none by default. Of the others, `out_of_step` is the
    share that needs a second OTP. `totp` is the share of TOTP tokens. `by` is what the list names users by.
    """
    if by == "username" and special and special.get("user_ambiguous"):
        raise ValueError("no two users have the same username: leave out user_ambiguous, or name users by email")
    dice = random.Random(seed)  # noqa: S311 - reproducible, and opens nothing but the simulator
    keys = Keys.draw(dice)
    kinds: list[BoxKind] = [kind for kind, tokens in (special or {}).items() for _ in range(tokens)]
    if len(kinds) > count:
        raise ValueError(f"{len(kinds)} special tokens do not fit into a box of {count}")
    plain = count - len(kinds)
    drifted = round(plain * out_of_step)
    kinds.extend("out_of_step" if number < drifted else "in_step" for number in range(plain))
    dice.shuffle(kinds)
    tokens = tuple(make_tokens(kinds, totp, prefix, dice))
    return Box(
        rows=(),
        world=_make_tenant(tokens, by),
        expected={token.serial: BOX_EXPECTED[token.kind] for token in tokens},
        tokens=tokens,
        by=by,
        keys=keys,
        seed=seed,
    )


def a_few_of_each(count: int, *, each: int = 1, by: Person = "email") -> Mapping[BoxKind, int]:
    """Which special tokens a box of `count` has: so many of each kind, or none if they were more than a tenth of it."""
    kinds = [kind for kind in SPECIAL if (kind, by) != ("user_ambiguous", "username")]
    return dict.fromkeys(kinds, each) if count >= 10 * each * len(kinds) else {}


def _make_tenant(tokens: tuple[BoxToken, ...], by: Person) -> WorldSeed:
    """Make the tenant: the users, and what was in the inventory before."""
    return WorldSeed(
        users=tuple(user for token in tokens for user in _make_users(token, by)),
        tokens=tuple(_make_token(token) for token in tokens if token.kind in _UNPAIRED),
        devices=tuple(device for token in tokens for device in _make_devices(token)),
        out_of_step=tuple(token.serial for token in tokens if token.kind == "out_of_step"),
    )


def _make_users(token: BoxToken, by: Person) -> Iterator[UserSeed]:
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
        yield UserSeed(user_id=_derive_id("other user", token), **(other | {by: names[by]}))


def _make_token(token: BoxToken) -> TokenSeed:
    """Make the inventory's token, as somebody imported it before."""
    fields = _fields(token)
    if token.kind == "wrong_seed":
        fields["secret"] = token.other_secret
    elif token.kind == "token_differs":
        fields |= {"hash": token.hash_of_another} if token.type == "totp" else {"digits": 8}
    return TokenSeed(**fields)


def _make_devices(token: BoxToken) -> Iterator[DeviceSeed]:
    """Make the devices that were there before: the token's own, or others of its user."""
    own: dict[str, Any] = {"device_id": _derive_id("device", token), "user_id": token.user_id}
    match token.kind:
        case "paired_before":
            yield DeviceSeed(**_fields(token), **own)
        case "active_before":
            yield DeviceSeed(**_fields(token), **own, status="ACTIVE")
        case "token_taken":
            yield DeviceSeed(**_fields(token), **(own | {"user_id": _derive_id("owner", token)}))
        case "too_many_devices":
            for number in range(Settings().max_allowed_devices):
                own["device_id"] = _derive_id(f"old device {number}", token)
                yield DeviceSeed(serial=f"OLD{number}{token.serial}", status="ACTIVE", **own)


def _derive_id(what: str, token: BoxToken) -> str:
    """Make the id of something that belongs to a token."""
    return str(uuid.uuid5(_NAMESPACE, f"{what} of {token.user_id}"))


def _fields(token: BoxToken) -> dict[str, Any]:
    """The fields of a seed for a token, as the vendor's file has them."""
    names = ("serial", "secret", "type", "digits", "hash", "time_step", "counter")
    return {name: getattr(token, name) for name in names}
