"""The bodies of requests to the control API that people's doings need: signing on, pressing tokens, waiting."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class SignOn(BaseModel):
    """The body of a sign-on."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    otp: str = Field(repr=False)


class Pressing(BaseModel):
    """The body of a request to press tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    serials: tuple[str, ...]


class Aging(BaseModel):
    """The body of a request to make waiting devices older."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hours: float = Field(ge=0)
