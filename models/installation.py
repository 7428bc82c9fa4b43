"""The installation that a database is of."""

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base


class InstallationId(Base):
    """One row, made with the schema. Queues, and paces in Redis, are named by it, so that two installations may use one
    Redis. A copy of a database has its id too."""

    __tablename__ = "installation"

    # Eight hexadecimal digits, at random.
    id: Mapped[str] = mapped_column(String(8), primary_key=True)
