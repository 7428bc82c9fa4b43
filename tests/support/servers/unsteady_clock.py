"""A PostgreSQL whose clock a test moves, by Debian's libfaketime."""

import os
from pathlib import Path
from typing import Any

from support.servers.postgres import PostgresServer


def find_libfaketime() -> Path:
    """Raises FileNotFoundError, with the cure."""
    for found in Path("/usr/lib").glob("*/faketime/libfaketime.so.1"):
        return found
    raise FileNotFoundError("libfaketime is missing: apt-get install libfaketime")


class UnsteadyPostgres(PostgresServer):
    """Its clock begins with this machine's."""

    def options(self) -> dict[str, Any]:
        self.set_ahead(0)
        options = super().options()
        return options | {
            "env": options.get("env", dict(os.environ))
            | {
                "LD_PRELOAD": str(find_libfaketime()),
                "FAKETIME_TIMESTAMP_FILE": str(self._offset),
                # Look into that file with every question for the time.
                "FAKETIME_NO_CACHE": "1",
                # What the server measures for itself is not the clock that its clients ask for.
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        }

    def set_ahead(self, seconds: int) -> None:
        """Behind, if negative. In one step, so that the server never finds the file empty."""
        draft = self.directory / "offset.draft"
        draft.write_text(f"{seconds:+d}")
        draft.chmod(0o644)
        draft.rename(self._offset)

    @property
    def _offset(self) -> Path:
        return self.directory / "offset"
