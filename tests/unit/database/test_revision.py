"""The revision that the code works with."""

from __future__ import annotations

from pathlib import Path

from alembic.script import ScriptDirectory

import migrations


def test_the_revision_that_the_code_works_with_is_the_last_that_alembic_finds() -> None:
    assert ScriptDirectory(str(Path(migrations.__file__).parent)).get_heads() == [migrations.HEAD]
