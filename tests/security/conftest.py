"""Places that other users of the machine get to, unlike pytest's own."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A directory below /tmp that every user may enter and look through."""
    with tempfile.TemporaryDirectory(prefix="oathbulk-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture(params=["postgresql", "sqlite"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh, migrated database of each kind."""
    # Asked for only now, so that a test on SQLite starts no server.
    return request.getfixturevalue("postgres_url" if request.param == "postgresql" else "sqlite_url")
