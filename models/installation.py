"""The identity of the installation that a database belongs to."""

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base


class InstallationId(Base):
    """One row, created with the schema. It is part of the names of queues and of paces in Redis, so that two
    installations can share one Redis. A copied database keeps the id."""

    __tablename__ = "installation"

    # Eight random hexadecimal digits.
    id: Mapped[str] = mapped_column(String(8), primary_key=True)
