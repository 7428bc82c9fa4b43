"""A next version of the product, for tests of upgrades: this one with a further migration, which only the tests
have."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from migrations import HEAD
from worker.database import schema
from worker.database.engine import Database

CHECKOUT = Path(schema.__file__).parents[2]
MIGRATION = Path(__file__).parents[2] / "samples" / "next_version" / "0002_what_a_next_version_adds.py"
# The revision of its schema.
NEXT = "0002"
_CONFIGURE = schema.configure
_RUN = """
import sys
from migrations import HEAD
from worker.database import schema
from worker.database.engine import Database
assert schema.__file__.startswith(sys.argv[1]), schema.__file__
database = Database(sys.argv[2])
print(schema.upgrade(database))
database.close()
"""


def configure_next(connection: Connection) -> Config:
    """Configure Alembic as `schema.configure` does, with the next version's migration beside ours."""
    config = _CONFIGURE(connection)
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", f"{CHECKOUT / 'migrations' / 'versions'}\n{MIGRATION.parent}")
    return config


def move_schema(database: Database, revision: str) -> None:
    """Bring the schema to this revision, up or down: HEAD, NEXT or `base`."""
    before = schema.current(database) or ""
    move = command.upgrade if before < revision <= NEXT else command.downgrade
    schema.migrate(database, lambda connection: move(configure_next(connection), revision))


def write_next_version(folder: Path) -> None:
    """Make the next version of the packages in this folder, in which they may be already."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    for package in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        if not (folder / package).exists():
            shutil.copytree(CHECKOUT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(MIGRATION, folder / "migrations" / "versions")
    names = folder / "migrations" / "__init__.py"
    names.write_text(re.sub(f'HEAD = "{HEAD}"', f'HEAD = "{NEXT}"', names.read_text()))


def start_upgrade(site: Path, url: str) -> subprocess.Popen[str]:
    """Start a process of the version in this folder that brings the schema up to date, and prints its revision."""
    return subprocess.Popen(
        [sys.executable, "-c", _RUN, str(site), url],
        cwd=site.parent,
        env={"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
