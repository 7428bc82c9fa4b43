"""What a call may ask for, and the groups of calls that have a rate limit each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

DeviceOperation = Literal["activate", "read", "list", "unlock", "block", "unblock", "unpair"]
EnvironmentRead = Literal[
    "find_users", "list_tokens", "read_token", "read_policies", "read_mfa_settings", "read_capabilities", "list_roles"
]
# What makes or removes tokens and devices, or belongs to it. `remove_order` removes the order of a user's devices: a
# client that unpairs a device without an id asks for it.
ProvisioningOperation = Literal[
    "pair",
    "remove_order",
    "create_token",
    "revoke_token",
    "import_tokens",
    "revoke_tokens",
    "read_job",
    "read_mfa_enabled",
    "set_mfa_enabled",
]
Operation = Literal["access_token", DeviceOperation, EnvironmentRead, ProvisioningOperation]

DEVICE_OPERATIONS: tuple[DeviceOperation, ...] = get_args(DeviceOperation)
ENVIRONMENT_READS: tuple[EnvironmentRead, ...] = get_args(EnvironmentRead)
PROVISIONING_OPERATIONS: tuple[ProvisioningOperation, ...] = get_args(ProvisioningOperation)

# Which call belongs to which group is not published.
OtherGroup = Literal["directory", "inventory", "configuration"]
Group = Literal["mfa", OtherGroup]
_OTHER_GROUPS: Mapping[Operation, Group] = {
    "find_users": "directory",
    "read_mfa_enabled": "directory",
    "set_mfa_enabled": "directory",
    "list_tokens": "inventory",
    "read_token": "inventory",
    "create_token": "inventory",
    "revoke_token": "inventory",
    "import_tokens": "inventory",
    "revoke_tokens": "inventory",
    "read_job": "inventory",
    "read_policies": "configuration",
    "read_mfa_settings": "configuration",
    "read_capabilities": "configuration",
    "list_roles": "configuration",
}


def find_group(operation: Operation | None) -> Group:
    """The group of an operation; of a request for none, too."""
    return _OTHER_GROUPS.get(operation, "mfa") if operation is not None else "mfa"
