"""Completes the names of batches for a shell, which asks while a person types: quickly, or not at all."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

import typer

# Seconds after which a person has typed the name.
_PATIENCE = 2


def complete_batch(context: typer.Context) -> list[str]:
    """List the names of batches, the latest first, of which typer offers those that begin as what was typed; none where
    there is no database, or anything is wrong, since a shell has no place for errors. Neither home nor schema is made
    or changed for it."""
    # A server that does not answer would otherwise keep the shell waiting for longer.
    signal.signal(signal.SIGALRM, lambda *_: sys.exit())
    signal.alarm(_PATIENCE)
    with suppress(Exception):
        # Not at the top: every command has this module, and few are asked for by a completion.
        from worker.batches.finding import list_names
        from worker.config.settings import ENV_FILE
        from worker.database.engine import Database
        from worker.installation.installation import Installation

        if context.parent is not None and (env_file := context.parent.params.get("env_file")):
            os.environ[ENV_FILE] = str(env_file)
        installation = Installation()
        if not installation.is_empty:
            return list_names(Database(installation.settings.database))
    return []
