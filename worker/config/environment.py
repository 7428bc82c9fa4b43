"""PingOne environments: their settings, which values are valid, and the environments that a process works for.

A worker application may sign its requests for access tokens with a private key. PingOne accepts RS256, RS384 and RS512,
and, according to some of its pages, ES256, ES384 and ES512:
https://developer.pingidentity.com/pingone-api/auth/auth-config-options/create-a-private-key-jwt.html
https://developer.pingidentity.com/pingone-api/workflow-library/platform-sso-and-authorization/openid-connect-oidc/client-authentication-methods/environment-configuration/private-key-jwt.html
"""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from worker.config.server_urls import check_web_url
from worker.config.settings import OF_PINGONE, ConfigError, Described, name_with

if TYPE_CHECKING:
    from joserfc.jwk import ECKey, RSAKey

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

# How a worker application may authenticate: CLIENT_SECRET_BASIC, CLIENT_SECRET_POST, CLIENT_SECRET_JWT,
# PRIVATE_KEY_JWT.
# https://docs.pingidentity.com/pingone/applications/p1_token_endpoint_authentication_methods.html
ClientAuth = Literal["basic", "post", "secret_jwt", "private_key_jwt"]

# Requests a second: from one in 100 seconds to more than any server accepts.
Rate = Annotated[float, Field(ge=0.01, le=100_000, allow_inf_nan=False)]

# Part of URLs: only characters that are never encoded (RFC 3986, section 2.3), as in a UUID.
EnvironmentId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._~-]*$")]

# Appended to an environment's name when the importing application is used for it.
_IMPORTER = " (import)"

# Minimum number of bits that PingOne requires of an RSA key.
SHORTEST_RSA = 2048
# The algorithms that each kind of key can sign with. The first one is used unless a JWK names another.
_ALGORITHMS = {
    "RSA": ("RS256", "RS384", "RS512"),
    "P-256": ("ES256",),
    "P-384": ("ES384",),
    "P-521": ("ES512",),
}
# Parts of error messages; each follows the name of the setting.
_NO_KEY = "is not a usable private key: use an RSA key, or an EC key on the curve P-256, P-384, or P-521, as PEM or JWK"
_ENCRYPTED = "is a private key with a passphrase: store it without one, in a file that only its owner can read"


class License(Described):
    """The settings that name an environment's license. They can be read without credentials, since a desk has none."""

    model_config = name_with(OF_PINGONE)

    environment_id: str = ""
    license: str = ""


class Environment(Described):
    """One PingOne environment and its worker application: the `PINGONE_*` settings. `.env.example` explains each.
    `rate` and `rate_max` are in requests a second."""

    model_config = name_with(OF_PINGONE)

    name: str = Field(validation_alias="name")
    environment_id: EnvironmentId = Field(min_length=1)
    client_id: str = Field(min_length=1)
    client_auth: ClientAuth = "basic"
    client_secret: SecretStr | None = Field(default=None, validate_default=True)
    # PEM or JWK, used to sign, in place of a secret. The default key id is the JWK's, or the key's thumbprint (RFC
    # 7638).
    private_key: SecretStr | None = Field(default=None, validate_default=True)
    key_id: str = ""
    auth_environment_id: EnvironmentId = ""
    region: Literal["NA", "CA", "EU", "AU", "SG", "AP"] = "NA"
    api_url: str = ""
    token_url: str = ""
    license: str = ""
    rate: Rate = 30
    rate_max: Rate = 500
    # None: learned from the environment's answers.
    resync_on_first_call: bool | None = None
    # Another worker application, which alone may import tokens; empty: the same application.
    import_client_id: str = ""
    import_client_secret: SecretStr | None = None
    import_private_key: SecretStr | None = None
    import_key_id: str = ""
    # The status of new devices; `omit` leaves it to PingOne.
    pairing_status: Literal["ACTIVATION_REQUIRED", "ACTIVE", "omit"] = "ACTIVATION_REQUIRED"

    @field_validator("resync_on_first_call", mode="before")
    @classmethod
    def _read_auto(cls, value: object) -> object:
        return None if isinstance(value, str) and value.strip().lower() == "auto" else value

    @field_validator("client_secret", "private_key")
    @classmethod
    def _require_credential(cls, value: SecretStr | None, facts: ValidationInfo) -> SecretStr | None:
        """Require the secret or the key that `client_auth` needs."""
        needed = "private_key" if facts.data.get("client_auth") == "private_key_jwt" else "client_secret"
        if not value and facts.field_name == needed:
            # With this type, the message says `is not set` instead of a format error.
            raise PydanticCustomError("missing", "is not set")
        return value

    @field_validator("private_key", "import_private_key")
    @classmethod
    def _check_private_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key:
            read_private_key(key.get_secret_value())
        return key

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
        self._check_importer()
        return self

    def _check_importer(self) -> None:
        """Raise ValueError if the importing application has an id but no credential, or vice versa."""
        has_key = self.client_auth == "private_key_jwt"
        credential = self.import_private_key if has_key else self.import_client_secret
        if bool(self.import_client_id) != bool(credential):
            variable = "PINGONE_IMPORT_PRIVATE_KEY" if has_key else "PINGONE_IMPORT_CLIENT_SECRET"
            raise ValueError(f"PINGONE_IMPORT_CLIENT_ID and {variable} belong together: set both")

    @property
    def secret(self) -> str:
        """The client secret; empty if a private key takes its place. Never print it."""
        return self.client_secret.get_secret_value() if self.client_secret else ""

    @property
    def is_importer(self) -> bool:
        """Whether its worker application is the one that imports tokens."""
        return self.import_client_id == self.client_id

    @property
    def configured_name(self) -> str:
        """The name under which the environment is configured, whichever of its worker applications acts."""
        return self.name.removesuffix(_IMPORTER)

    def as_importer(self) -> Environment:
        """This environment with the worker application that imports tokens and reads the inventory."""
        if not self.import_client_id:
            return self
        other = {
            "client_id": self.import_client_id,
            "client_secret": self.import_client_secret,
            "private_key": self.import_private_key,
            "key_id": self.import_key_id,
        }
        return self.model_copy(update=other | {"name": f"{self.name}{_IMPORTER}"})

    def with_credentials_of(self, newer: Environment) -> Environment:
        """This environment with the secret or key from a newer reading of its configuration."""
        read = newer.as_importer() if self.name != self.configured_name else newer
        fields = ("client_secret", "private_key", "key_id")
        return self.model_copy(update={field: getattr(read, field) for field in fields})


class Environments:
    """Environments by name; thread-safe. `load` reads one from the configuration and raises ConfigError."""

    def __init__(self, load: Callable[[str], Environment]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._known: dict[str, Environment] = {}

    def get(self, name: str) -> Environment:
        """The environment with this name. Raises ConfigError if it is not configured here."""
        with self._lock:
            if name not in self._known:
                self._known[name] = self._load(name)
            return self._known[name]

    def reread(self, environment: Environment) -> Environment:
        """Read an environment's credentials again, since a person may have changed them while this process runs.
        Returns the environment unchanged if they cannot be read."""
        try:
            newer = self._load(environment.configured_name)
        except ConfigError as error:
            # Not at the top: only a worker with refused credentials logs this.
            import structlog

            structlog.get_logger().warning("credentials_not_read", environment=environment.name, why=str(error))
            return environment
        return environment.with_credentials_of(newer)

    def license_of(self, name: str) -> str | None:
        """An environment's license; None if it is not configured here."""
        try:
            return self.get(name).license
        except ConfigError:
            return None


def read_private_key(text: str) -> RSAKey | ECKey:
    """Read a private key from PEM or JWK. Raises ValueError, whose message quotes no part of it."""
    # Not at the top: few installations sign, and importing it takes a twelfth of a second.
    from joserfc.errors import JoseError

    try:
        with warnings.catch_warnings():
            # joserfc warns of short keys, which are refused below.
            warnings.simplefilter("ignore")
            key = _parse_key(text)
        # A JWK's key is computed only here, which may fail.
        bits, is_private = key.private_key.key_size if key.private_key else 0, key.is_private
        find_algorithm(key)
    except TypeError as error:
        raise ValueError(_ENCRYPTED if "encrypted" in str(error) else _NO_KEY) from None
    except (JoseError, ValueError, KeyError, RecursionError):
        raise ValueError(_NO_KEY) from None
    if not is_private:
        raise ValueError(_NO_KEY)
    if key.key_type == "RSA" and bits < SHORTEST_RSA:
        raise ValueError(f"is an RSA key of {bits} bits: PingOne needs at least {SHORTEST_RSA}")
    return key


def find_algorithm(key: RSAKey | ECKey) -> str:
    """Find this key's algorithm. Raises KeyError for another kind of key, and ValueError for a JWK that names an
    unsuitable algorithm."""
    known = _ALGORITHMS["RSA" if key.key_type == "RSA" else str(key.as_dict(private=False)["crv"])]
    if key.alg is not None and key.alg not in known:
        raise ValueError(_NO_KEY)
    return key.alg or known[0]


def _parse_key(text: str) -> RSAKey | ECKey:
    """Parse PEM or JWK. Raises JoseError, ValueError, TypeError, KeyError."""
    from joserfc.errors import InvalidKeyTypeError
    from joserfc.jwk import ECKey, RSAKey

    if text.lstrip().startswith("{"):
        fields = json.loads(text)
        return RSAKey.import_key(fields) if fields["kty"] == "RSA" else ECKey.import_key(fields)
    try:
        return RSAKey.import_key(text)
    except InvalidKeyTypeError:
        return ECKey.import_key(text)
