"""Where the OTPs of a record come from: a pair that the shipment brought, or the seed that makes them."""

from __future__ import annotations

import json
from typing import TypeAlias

from worker.vault.otp import OtpPair
from worker.vault.seed import Seed

OtpSource: TypeAlias = OtpPair | Seed


def read_otp_source(plaintext: bytes) -> OtpSource:
    """Read back what `to_plaintext` of a pair or of a seed wrote; the value says itself which of the two it is."""
    fields = json.loads(plaintext)
    return Seed.from_fields(fields) if "seed" in fields else OtpPair.from_fields(fields)
