"""A program of a fleet that lacks a setting says which, in one line, and ends before it takes a message."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.fleets.real_fleet import plain_env

from models.encrypted import generate_key

NOBODY = "redis://127.0.0.1:1"
KEY = generate_key()


@pytest.mark.parametrize(
    ("program", "variables", "complaint"),
    [
        ("worker", {}, "OATHBULK_REDIS_URL is not set"),
        ("worker", {"OATHBULK_ENV_FILE": "nothing.env"}, "nothing.env does not exist"),
        (
            "worker",
            {"OATHBULK_REDIS_URL": NOBODY, "OATHBULK_ENCRYPTION_KEYS": KEY, "OATHBULK_DATABASE_URL": "mysql://h/x"},
            "OATHBULK_DATABASE_URL must",
        ),
        ("beat", {"OATHBULK_REDIS_URL": NOBODY, "OATHBULK_MAX_ATTEMPTS": "often"}, "OATHBULK_MAX_ATTEMPTS"),
        ("worker", {"OATHBULK_REDIS_URL": NOBODY}, "encryption.key is missing"),
        *((program, {"OATHBULK_HOME": "/"}, "OATHBULK_HOME names /") for program in ("worker", "beat")),
        ("worker", {"OATHBULK_HOME": "x" * 300}, "OATHBULK_HOME is a path of more than"),
        ("beat", {"OATHBULK_HOME": "loop"}, "OATHBULK_HOME: loop is out of reach"),
        ("worker", {"OATHBULK_ACTOR_FILE": "loop"}, "OATHBULK_ACTOR_FILE: loop cannot be read"),
        ("beat", {"OATHBULK_ACTOR_FILE": "nul"}, "OATHBULK_ACTOR holds a NUL byte"),
        ("worker", {"OATHBULK_CONCURRENCY": "inf"}, "OATHBULK_CONCURRENCY should be a valid integer"),
        (
            "worker",
            {"OATHBULK_REDIS_URL": NOBODY, "OATHBULK_DATABASE_URL": "postgresql+psycopg://user@127.0.0.1:1/oathbulk"},
            "OATHBULK_ENCRYPTION_KEYS is not set",
        ),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, program: str, variables: dict[str, str], complaint: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nul").write_bytes(b"a\0b")
    env = plain_env() | {"OATHBULK_HOME": str(tmp_path)} | variables
    argv = [sys.executable, "-m", "celery", "-A", "worker", program]

    ended = subprocess.run(argv, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert ended.returncode == 3
    assert ended.stderr.splitlines()[-1].startswith("oathbulk: ")
    assert complaint in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
