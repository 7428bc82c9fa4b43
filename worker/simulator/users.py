"""The users of the simulated environments, found by their id or by what else names them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker.simulator.filters import Term

if TYPE_CHECKING:
    from worker.simulator.world import Device

# Where users are whom no seed puts elsewhere.
POPULATION_ID = "0a7b0000-5e1f-4c0d-8000-00000000000c"


@dataclass(slots=True)
class User:
    """A user as PingOne knows them; `failures` counts wrong OTPs over all devices. The account of one who is not usable
    is locked. Names that are None are made of the id where PingOne demands them. `order`: the ids of the devices that
    are ACTIVE, the one for sign-ons first."""

    id: str
    is_usable: bool = True
    failures: int = 0
    username: str | None = None
    email: str | None = None
    external_id: str | None = None
    population_id: str = POPULATION_ID
    is_enabled: bool = True
    is_mfa_enabled: bool = False
    devices: dict[str, Device] = field(default_factory=dict, repr=False)
    order: list[str] = field(default_factory=list, repr=False)

    @property
    def can_act(self) -> bool:
        """Whether the account is neither locked nor disabled."""
        return self.is_usable and self.is_enabled

    @property
    def waiting_devices(self) -> int:
        """How many devices wait for their activation."""
        return sum(device.status == "ACTIVATION_REQUIRED" for device in self.devices.values())

    @property
    def names(self) -> Mapping[str, str | None]:
        """What a filter may name the user by, by attribute. Only the external id may be missing."""
        return {
            "id": self.id,
            "username": self.username or self.id,
            "email": self.email or f"{self.id}@example.com",
            "externalId": self.external_id,
        }


class Directory:
    """The users of all environments, in the order in which they came."""

    def __init__(self) -> None:
        self._users: dict[str, dict[str, User]] = {}
        self._named: dict[str, dict[Term, tuple[User, ...]]] = {}

    def find(self, environment_id: str, user_id: str) -> User | None:
        """Find a user by the id."""
        return self._users.get(environment_id, {}).get(user_id)

    def add(self, environment_id: str, user_id: str) -> User:
        """The user of this id, who is added if there is none yet."""
        if (user := self.find(environment_id, user_id)) is None:
            user = self._users.setdefault(environment_id, {})[user_id] = User(user_id)
            self._enter(environment_id, user)
        return user

    def rename(
        self, environment_id: str, user: User, *, username: str | None, email: str | None, external_id: str | None
    ) -> None:
        """Give a user other names."""
        named = self._named[environment_id]
        for term in _terms(user):
            named[term] = tuple(each for each in named[term] if each is not user)
        user.username, user.email, user.external_id = username, email, external_id
        self._enter(environment_id, user)

    def users(self, environment_id: str) -> Collection[User]:
        """All users of an environment."""
        return self._users.get(environment_id, {}).values()

    def find_named(self, environment_id: str, term: Term) -> Collection[User]:
        """Find the users of whom an attribute, which is one of `User.names`, has this value."""
        return self._named.get(environment_id, {}).get(term, ())

    def _enter(self, environment_id: str, user: User) -> None:
        named = self._named.setdefault(environment_id, {})
        for term in _terms(user):
            named[term] = (*named.get(term, ()), user)


def _terms(user: User) -> list[Term]:
    return [(name, value) for name, value in user.names.items() if value is not None]
