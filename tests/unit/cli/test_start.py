"""What the start of a command costs: a person waits for it, and so does a monitor that asks each minute."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from worker.cli.application import make_command

# Runs a command of `oathbulk`, and prints what it has imported as the last line.
RUN = """
import sys
from worker.cli import main
try:
    main()
finally:
    print()
    print(*sys.modules)
"""
# Imports every command but `metrics`, which needs what writes metrics, and lists the modules.
IMPORT_ALL = """
import sys
from worker.cli.application import make_command
from worker.cli.command_list import COMMANDS
for name in COMMANDS:
    if name != "metrics":
        make_command(name)
print(*sys.modules)
"""
NEEDED_BY_WORKERS_AND_MIGRATIONS = {"alembic", "celery", "kombu", "prometheus_client", "structlog"}
NEEDED_BY_COMMANDS_THAT_CALL = {
    "httpx",
    "redis",
    "jinja2",
    "pskc",
    "psycopg",
    "starlette",
    "tenacity",
    "tornado",
    "wsgiref",
}
NEEDED_BY_ANY_COMMAND = {"typer", "rich", "pydantic", "dotenv", "sqlalchemy", "cryptography", "dataclasses"}


def list_modules(home: Path, *arguments: str) -> set[str]:
    """The modules that a command has imported when it ends well."""
    ran = subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"OATHBULK_HOME": str(home)},
    )
    return set(ran.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("option", ["--help", "-h", "--version"])
def test_neither_the_list_of_commands_nor_the_version_waits_for_any_library(tmp_path: Path, option: str) -> None:
    loaded = list_modules(tmp_path, option)
    assert "worker.cli.command_list" in loaded
    others = NEEDED_BY_WORKERS_AND_MIGRATIONS | NEEDED_BY_COMMANDS_THAT_CALL | NEEDED_BY_ANY_COMMAND
    assert loaded & others == set()


def test_a_status_waits_for_nothing_but_what_reads_the_database(sqlite_url: str, tmp_path: Path) -> None:
    assert (tmp_path / "oathbulk.db").exists()
    loaded = list_modules(tmp_path, "status")
    assert {"worker.cli.status", "worker.reports.facts", "worker.database.engine"} <= loaded
    assert loaded & (NEEDED_BY_WORKERS_AND_MIGRATIONS | NEEDED_BY_COMMANDS_THAT_CALL) == set()


def test_no_command_waits_for_what_only_workers_and_migrations_need() -> None:
    listed = subprocess.run([sys.executable, "-c", IMPORT_ALL], check=True, capture_output=True, text=True)
    loaded = set(listed.stdout.split())
    assert {"worker.cli.run", "worker.cli.doctor"} <= loaded
    assert loaded & (NEEDED_BY_WORKERS_AND_MIGRATIONS | {"jinja2", "starlette", "wsgiref"}) == set()


def test_a_command_imports_no_other_command(tmp_path: Path) -> None:
    loaded = list_modules(tmp_path, "formats")
    assert "worker.cli.check" in loaded
    assert loaded & {"worker.cli.status", "worker.cli.run", "worker.cli.simulator"} == set()


def test_a_command_collects_its_own_garbage_and_none_of_what_was_imported() -> None:
    gc.unfreeze()
    try:
        assert make_command("keygen").name == "keygen"
        assert (gc.isenabled(), gc.get_freeze_count() > 0) == (True, True)
    finally:
        gc.unfreeze()


def test_a_terminal_that_cannot_show_a_character_gets_its_number(tmp_path: Path) -> None:
    person = "6f1d3c1e-0c52-4b8e-9d1f-2a7b6c5d4e3f"
    row = f"MADE1,308714,367299,{person},{person}"
    (tmp_path / "box.csv").write_text(f"serial,otp1,otp2,user_id,device_id\n{row}\n")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "worker", "check", "--offline", str(tmp_path / "box.csv")]
    ran = subprocess.run(command, capture_output=True, text=True, env=os.environ | ascii_only)
    assert "Traceback" not in ran.stderr
    assert "1 \\xd7 HOTP pair" in ran.stdout
