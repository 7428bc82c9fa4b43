"""Keys that are kept in the database itself, encrypted by a key that is not there."""

from __future__ import annotations

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base
from models.encrypted import Encrypted


class SealedKey(Base):
    """One row a key. It is random, and outlives every change of the keys in OATHBULK_ENCRYPTION_KEYS: `oathbulk db
    reencrypt` encrypts it anew."""

    __tablename__ = "sealed_key"

    # What it is for.
    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    # Encrypted, and bound to its name.
    key: Mapped[bytes] = mapped_column(Encrypted)
