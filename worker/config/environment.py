"""A PingOne environment: what can be set of it, and which values are valid."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from worker.config.server_urls import check_web_url

# The environment that the `PINGONE_*` variables describe.
DEFAULT_ENVIRONMENT = "default"


# The regions of PingOne: https://developer.pingidentity.com/pingone-api
DOMAINS = {
    "NA": "pingone.com",
    "CA": "pingone.ca",
    "EU": "pingone.eu",
    "AU": "pingone.com.au",
    "SG": "pingone.sg",
    "AP": "pingone.asia",
}


class Environment(BaseModel):
    """One PingOne environment and the worker application that acts in it: the `PINGONE_*` settings.

    `.env.example` says what each of them is for. `rate` and `rate_max` are in requests a second.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str
    environment_id: str = Field(min_length=1)
    client_id: str = Field(min_length=1)
    client_secret: SecretStr = Field(min_length=1)
    client_auth: Literal["basic", "post"] = "basic"
    auth_environment_id: str = ""
    region: Literal["NA", "CA", "EU", "AU", "SG", "AP"] = "NA"
    api_url: str = ""
    token_url: str = ""
    license: str = ""
    rate: float = Field(default=30, gt=0, allow_inf_nan=False)
    rate_max: float = Field(default=500, gt=0, allow_inf_nan=False)
    # None: learnt from what the environment answers.
    resync_on_first_call: bool | None = None
    # Those of another worker application, which alone may import tokens; empty: the same.
    import_client_id: str = ""
    import_client_secret: SecretStr | None = None
    # The status that devices are made with; `omit` leaves it to PingOne.
    pairing_status: Literal["ACTIVATION_REQUIRED", "ACTIVE", "omit"] = "ACTIVATION_REQUIRED"

    @field_validator("resync_on_first_call", mode="before")
    @classmethod
    def _read_auto(cls, value: object) -> object:
        return None if isinstance(value, str) and value.strip().lower() == "auto" else value

    @field_validator("api_url", "token_url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        return check_web_url(url).rstrip("/") if url else url

    @model_validator(mode="after")
    def _derive_defaults(self) -> Self:
        """Fill in the settings whose defaults depend on others."""
        domain = DOMAINS[self.region]
        token_url = self.token_url or f"https://auth.{domain}/{{env}}/as/token"
        auth_environment_id = self.auth_environment_id or self.environment_id
        derived = {
            "auth_environment_id": auth_environment_id,
            "api_url": self.api_url or f"https://api.{domain}/v1",
            "token_url": token_url.replace("{env}", auth_environment_id),
            "license": self.license or self.environment_id,
        }
        for field, value in derived.items():
            object.__setattr__(self, field, value)
        if bool(self.import_client_id) != bool(self.import_client_secret):
            raise ValueError("PINGONE_IMPORT_CLIENT_ID and PINGONE_IMPORT_CLIENT_SECRET belong together: set both")
        return self

    @property
    def is_importer(self) -> bool:
        """Whether its worker application is the one that alone may import tokens."""
        return self.import_client_id == self.client_id

    def as_importer(self) -> Environment:
        """This environment with the worker application that imports tokens and reads the inventory."""
        if not self.import_client_id:
            return self
        other = {"client_id": self.import_client_id, "client_secret": self.import_client_secret}
        return self.model_copy(update=other | {"name": f"{self.name} (import)"})
