"""What is kept of a token after its batch was purged: enough to recognise it when it is loaded again, and nothing that
says which token it was, or whose."""

from __future__ import annotations

from sqlalchemy import BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, BigKey

# Characters of a fingerprint: 128 bits, hexadecimal.
FINGERPRINT = 32


class PastToken(Base):
    """One row a token of a purged batch that became active, or of which an OTP was sent. Fingerprints are made by
    `worker.vault.fingerprints`, under a key that the database has encrypted only."""

    __tablename__ = "past_token"
    __table_args__ = (
        Index("ix_past_token_serial_number", "serial_number"),
        Index("ix_past_token_batch_id", "batch_id"),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    batch_id: Mapped[int] = mapped_column(ForeignKey("batch.id"))
    # Whether its record was active.
    is_active: Mapped[bool]
    # The fingerprint of its serial number in its environment, and that of its device; empty where none was known.
    serial_number: Mapped[str] = mapped_column(String(FINGERPRINT))
    device_id: Mapped[str | None] = mapped_column(String(FINGERPRINT))
    # The fingerprints of those OTPs of a pair that were sent.
    otp1: Mapped[str | None] = mapped_column(String(FINGERPRINT))
    otp2: Mapped[str | None] = mapped_column(String(FINGERPRINT))
    # With a seed: the lowest counter of which no OTP was sent.
    next_counter: Mapped[int | None] = mapped_column(BigInteger)
