"""A desk for purges, on each database."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.data.loading import LoadingDesk, PurgeDesk
from support.data.moving_clock import MovingDatabase

from models.encrypted import Keyring, generate_key
from worker.leases.worker import Leases


@pytest.fixture
def desk(database: MovingDatabase, leases: Leases, tmp_path: Path) -> PurgeDesk:
    key = generate_key()
    return PurgeDesk(LoadingDesk(database, Keyring([key]), tmp_path), leases, key)
