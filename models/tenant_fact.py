"""What oathbulk learned about a PingOne environment by working with it, because it is not published."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, String
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, UtcDateTime, one_of


class FactName(StrEnum):
    """What can be learned about an environment. The comment on each member says what its value means."""

    # `{"needs", "refused", "taken"}`: whether EXTRA_OTP_REQUIRED comes only if OTP 1 was sent with `oathResync`, and
    # what was counted until that was known. The fields are those of worker.rules.resync.ResyncKnowledge.
    RESYNC_ON_FIRST_CALL = "resync_on_first_call"


class TenantFact(Base):
    """One row for each environment and fact."""

    __tablename__ = "tenant_fact"
    __table_args__ = (CheckConstraint(one_of("name", FactName), name="name"),)

    environment_id: Mapped[str] = mapped_column(String(100), primary_key=True)
    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    value: Mapped[dict[str, Any]] = mapped_column(JSON)
    # When it was seen, and the record whose calls showed it, which may no longer exist.
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)
    record_id: Mapped[int | None] = mapped_column(BigInteger)
