"""What the start of a command costs: a person waits for it, and so does a monitor that asks each minute."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from worker.cli import application, main

NEEDED_BY_FEW = {"alembic", "celery", "jinja2", "kombu", "prometheus_client", "structlog", "wsgiref"}


def test_no_command_waits_for_what_only_workers_and_migrations_need() -> None:
    listing = "import sys, worker.cli.application; print(*sys.modules)"
    listed = subprocess.run([sys.executable, "-c", listing], check=True, capture_output=True, text=True)
    loaded = set(listed.stdout.split())

    assert "worker.cli.load" in loaded
    assert loaded & NEEDED_BY_FEW == set()


def test_a_command_collects_its_own_garbage_and_none_of_what_was_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[tuple[bool, bool]]()
    monkeypatch.setattr(application, "run_command", lambda: seen.append((gc.isenabled(), gc.get_freeze_count() > 0)))
    gc.unfreeze()
    try:
        main()
    finally:
        gc.unfreeze()

    assert seen == [(True, True)]
