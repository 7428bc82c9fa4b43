"""Made-up tokens, and a shipment file of them, for the stand-in."""

import csv
import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Token:
    """A token and its device; `otps` is what its row says, `right` what the token showed."""

    serial: str
    otps: tuple[str, str]
    right: tuple[str, str]
    user_id: str
    device_id: str
    is_out_of_step: bool = False
    status: str = "ACTIVATION_REQUIRED"


def make_tokens(count: int, *, out_of_step: int = 0, wrong: int = 0, prefix: str = "ACME") -> list[Token]:
    """Eight digits each, so that one in a file is no accident. The first `out_of_step` want their second OTP,
    the last `wrong` have a row that is not theirs."""
    lots = random.Random(f"{prefix} {count}")
    tokens = []
    for number in range(count):
        first, second, third, fourth = lots.sample(range(10**8), 4)
        right = (f"{first:08}", f"{second:08}")
        is_wrong = number >= count - wrong
        tokens.append(
            Token(
                serial=f"{prefix}{number:05}",
                otps=(f"{third:08}", f"{fourth:08}") if is_wrong else right,
                right=right,
                user_id=str(uuid.UUID(int=lots.getrandbits(128), version=4)),
                device_id=str(uuid.UUID(int=lots.getrandbits(128), version=4)),
                is_out_of_step=number < out_of_step,
            )
        )
    return tokens


def write_shipment(path: Path, tokens: Sequence[Token], **columns: Sequence[str]) -> Path:
    """An OTP-pair file; `columns` are further ones, with a value a token."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["serial", "otp1", "otp2", "user_id", "device_id", *columns])
        for token, *more in zip(tokens, *columns.values(), strict=True):
            writer.writerow([token.serial, *token.otps, token.user_id, token.device_id, *more])
    return path
