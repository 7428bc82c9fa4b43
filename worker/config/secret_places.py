"""Places that a secret is taken from when no variable and no file has it: a credential of systemd, or this machine's
keyring.

In both a secret has the name of its variable in small letters, without OATHBULK_: `pingone_client_secret`,
`encryption_keys`. That of another environment than `default` ends with the environment's name, as in
`pingone_client_secret.spain`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from worker.config import extras
from worker.config.settings import ConfigError

# Where systemd puts the credentials of a service: https://systemd.io/CREDENTIALS/
CREDENTIALS_DIRECTORY = "CREDENTIALS_DIRECTORY"
# The setting that asks for the keyring, and names the service there.
KEYRING = "OATHBULK_KEYRING"


@dataclass(frozen=True, slots=True)
class SecretPlaces:
    """The places of one process. `directory`: that of systemd's credentials. `service`: the name under which secrets
    lie in the keyring; the keyring is asked only where a person has set it. `environment`: the PingOne environment
    whose secrets are looked for; empty: `default`, or the installation's own."""

    directory: Path | None = None
    service: str = ""
    environment: str = ""

    @classmethod
    def find(cls, variables: Mapping[str, str], environment: str = "") -> SecretPlaces:
        """Find the places that these variables name."""
        directory = variables.get(CREDENTIALS_DIRECTORY, "")
        return cls(Path(directory) if directory else None, variables.get(KEYRING, ""), environment)

    def find_file(self, variable: str) -> Path | None:
        """Find the credential of systemd with the value of this variable; None if there is none."""
        path = self.directory / self._name(variable) if self.directory else None
        # A name with a slash would lead elsewhere; and where this user may not look, `is_file` raises PermissionError.
        if path is None or path.parent != self.directory or not os.access(path, os.F_OK):
            return None
        return path if path.is_file() else None

    def read_keyring(self, variable: str) -> str | None:
        """Read the value of this variable from the keyring; None if it has none, or is not asked. Raises
        ConfigError."""
        if not self.service:
            return None
        # Not at the top: it is an extra, and looks for the keyrings of this machine.
        try:
            import keyring
            from keyring.errors import KeyringError
        except ImportError:
            raise ConfigError(
                f"{KEYRING} is set, and the keyring cannot be read without a package: {extras.name_cure('keyring')}"
            ) from None
        try:
            return keyring.get_password(self.service, self._name(variable))
        except KeyringError as error:
            raise ConfigError(f"{KEYRING} is set, and the keyring cannot be read: {error}") from error

    def describe(self, variable: str) -> str | None:
        """Say which of the places has the value of this variable; None if none has. Raises ConfigError."""
        if path := self.find_file(variable):
            return str(path)
        return f"the keyring, service {self.service}" if self.read_keyring(variable) else None

    def _name(self, variable: str) -> str:
        name = variable.removeprefix("OATHBULK_").lower()
        return f"{name}.{self.environment}" if self.environment else name
