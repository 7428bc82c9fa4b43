"""One-time passwords, in a type that shows them in no repr, log line or traceback."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# What is printed in place of an OTP.
MASK = "••••••"


class Otp:
    """One code shown by a token: 6 or 8 digits, leading zeros included. Prints as a mask; `reveal` gives the
    digits."""

    __slots__ = ("_digits",)

    def __init__(self, digits: str) -> None:
        if not (digits.isascii() and digits.isdigit() and len(digits) in (6, 8)):
            raise ValueError("an OTP has 6 or 8 digits")
        self._digits = digits

    def reveal(self) -> str:
        return self._digits

    def __repr__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Otp) and other._digits == self._digits

    def __hash__(self) -> int:
        return hash(self._digits)

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("an OTP is not pickled: it travels encrypted in the database and in the request only")


@dataclass(frozen=True, slots=True)
class OtpPair:
    """The OTPs of one record: the first, and the next consecutive one if the shipment brought it. `spent` are those of
    earlier pairs of the record that were sent, and never go again."""

    first: Otp
    second: Otp | None
    spent: frozenset[Otp] = frozenset()

    def to_plaintext(self) -> bytes:
        """Write the pair as it is encrypted into its record: JSON, `{"otp1": "…", "otp2": "…" or null}`, and `spent` if
        there are any."""
        # Formatted here instead of by the json module, in a tenth of the time: digits need no escaping.
        second = f'"{self.second.reveal()}"' if self.second else "null"
        spent = ", ".join(f'"{digits}"' for digits in sorted(otp.reveal() for otp in self.spent))
        others = f', "spent": [{spent}]' if spent else ""
        return f'{{"otp1": "{self.first.reveal()}", "otp2": {second}{others}}}'.encode()

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> OtpPair:
        """Read a pair back from the JSON object that `to_plaintext` wrote."""
        second = Otp(fields["otp2"]) if fields["otp2"] is not None else None
        return cls(Otp(fields["otp1"]), second, frozenset(map(Otp, fields.get("spent", ()))))
