"""Refuses a name that looks like a setting and is none: mistyped, it would change nothing, and nobody would notice."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from pathlib import Path

from worker.config.environment import Environment
from worker.config.settings import Settings, UnusableSettings

# The beginnings of settings' names.
OWN, OF_PINGONE = "OATHBULK_", "PINGONE_"
# The variable that names the .env file, for programs without the option --env-file, such as Celery's.
ENV_FILE = "OATHBULK_ENV_FILE"
# The variable that `run BATCH` sets for its own processes: the id of the batch on which they work, and on no other. It
# is no setting, and so does not begin like one.
ONLY_BATCH = "_OATHBULK_ONLY_BATCH"

OWN_SETTINGS = tuple(OWN + field.upper() for field in Settings.model_fields)
# Those of an environment: variables for the default one, keys in the section of another.
ENVIRONMENT_SETTINGS = tuple(OF_PINGONE + field.upper() for field in Environment.model_fields if field != "name")
# OATHBULK_IMAGE is docker-compose.yml's, which hands its whole .env on to our containers.
_OTHERS = (ENV_FILE, "OATHBULK_IMAGE")
VARIABLES = frozenset((*OWN_SETTINGS, *ENVIRONMENT_SETTINGS, *_OTHERS))
# What Kubernetes puts into every container of a namespace in which a service is named, say, oathbulk-flower.
# https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables
_OF_A_SERVICE = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT(_|$)|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$")


def refuse_unknown_variables(names: Iterable[str], file: Path | None = None) -> None:
    """Raise UnusableSettings for variables that begin like ours and are none. `file`: where they stand, if it is not
    the process environment."""
    ours = (name for name in names if name.startswith((OWN, OF_PINGONE)) and not _OF_A_SERVICE.search(name))
    refuse_unknown(ours, VARIABLES, f"{file}: " if file else "")


def refuse_unknown(names: Iterable[str], known: Collection[str], where: str) -> None:
    """Raise UnusableSettings for names that are not among the known ones, and name the nearest. A known name and _FILE
    names a file with the value. The message begins with `where`."""
    wrong = sorted(name for name in names if name not in known and name.removesuffix("_FILE") not in known)
    if wrong:
        raise UnusableSettings(where + "; ".join(_name_nearest(name, known) for name in wrong))


def _name_nearest(name: str, known: Collection[str]) -> str:
    by_end = {_cut_beginning(each): each for each in known}
    near = get_close_matches(_cut_beginning(name.removesuffix("_FILE")), by_end, n=1)
    suffix = "_FILE" if name.endswith("_FILE") else ""
    cure = f"did you mean {by_end[near[0]]}{suffix}?" if near else "remove it (docs/settings.md lists all)"
    return f"{name} is no setting; {cure}"


def _cut_beginning(name: str) -> str:
    """What makes a name differ from the others: the beginning that many share would make all of them near."""
    return name.removeprefix(OWN).removeprefix(OF_PINGONE)
