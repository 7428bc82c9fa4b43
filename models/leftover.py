"""Tables of versions before 0014, whose workers may still run: nobody reads or writes them any more, and the next
version drops them."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, LargeBinary, String, Table

from models.base import Base, BigKey

# What recognised the tokens of purged batches, and the key for it.
PAST_TOKEN = Table(
    "past_token",
    Base.metadata,
    Column("id", BigKey, primary_key=True),
    Column("batch_id", ForeignKey("batch.id"), nullable=False),
    Column("is_active", Boolean, nullable=False),
    Column("serial_number", String(32), nullable=False),
    *(Column(name, String(32)) for name in ("device_id", "otp1", "otp2")),
    Column("next_counter", BigInteger),
    Index("ix_past_token_serial_number", "serial_number"),
    Index("ix_past_token_batch_id", "batch_id"),
)
SEALED_KEY = Table(
    "sealed_key",
    Base.metadata,
    Column("name", String(40), primary_key=True),
    Column("key", LargeBinary, nullable=False),
)
