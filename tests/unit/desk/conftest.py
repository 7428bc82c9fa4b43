"""A desk over a home in which nothing was loaded: no page of it needs a database."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.servers.web_desk import WebDesk

from worker.installation.installation import Installation


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation({"OATHBULK_HOME": str(tmp_path / "home")})


@pytest.fixture
def desk(installation: Installation) -> WebDesk:
    """A desk into which nobody has come yet."""
    return WebDesk(installation)
