"""What tells people, on both databases."""

from __future__ import annotations

import pytest
from support.data.moving_clock import MovingDatabase
from support.data.notice_desk import NoticeDesk


@pytest.fixture
def desk(database: MovingDatabase) -> NoticeDesk:
    return NoticeDesk(database)
