"""Any value of any setting, for any command: it works, or one line names the setting and ends with 3; no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from worker.cli import main
from worker.cli.command_list import COMMANDS
from worker.config.settings import ConfigError
from worker.config.sources import ENVIRONMENT_SETTINGS, OWN_SETTINGS, load_environment, load_settings
from worker.database.engine import Database
from worker.installation import installation

ALL_SETTINGS = (*OWN_SETTINGS, *ENVIRONMENT_SETTINGS)
# Values that some program along the way could not take.
NUMBERS = ["0", "-1", "0.5", "1e-320", "1e15", "1e400", "inf", "nan", "9" * 18, "9" * 5000, "1_0", "²", "٣"]
TEXTS = [" ", "x", "true", "{}", ",", "a\nb", "a\x1bb", "a\0b", "ü", "\udcfc", "https://\ud800", "{env}", "%(x)s"]
PATHS = ["/", "//", ".", "..", "~", "x" * 300, "9" * 240, "y/" * 3000, "/dev/null", "/dev/zero", "/proc/self/mem"]
URLS = [
    *(
        "https://[::1",
        "https://h:99999/",
        "https://h:port/",
        "https://h:0/",
        "https://h b/",
        "https://h\0/",
        "https://xn--/",
    ),
    *("https://" + "a" * 64 + "/", "https://a..b/", "https://ü.example/", "https://*/", "http://127.0.0.1:1/", "//h"),
    *("redis://127.0.0.1:1/abc", "redis://127.0.0.1:1/0?socket_timeout=abc", "redis://127.0.0.1:1/0?x=y"),
    *("redis://a..b:1/0", "rediss://127.0.0.1:1/0?ssl_cert_reqs=abc", "redis://127.0.0.1:1/0?protocol=9"),
    *("sqlite:////a%00b", "sqlite:////" + "q" * 300, "sqlite:////tmp?timeout=abc", "sqlite:////dev/null"),
    "postgresql+psycopg://a..b:1/x",
    *(f"postgresql+psycopg://127.0.0.1:{end}" for end in ("99999/x", "1/x?sslmode=zz", "1/x?connect_timeout=abc")),
    *(
        f"postgresql+psycopg://127.0.0.1:1/x?{end}"
        for end in ("x=1", "context=1", "autocommit=zz", "options=a%00b", "port=a", "host=a..b")
    ),
]
CRONS = ["*/0 * * * *", "0 0 30 2 *", "1-0 * * * *", ",,, * * * *", "*/99999999999 * * * *"]
ODD = [*NUMBERS, *TEXTS, *PATHS, *URLS, *CRONS]
# Of the folder `places`; each may be named as a directory, as a file and as the file with a value.
PLACES = ["loop", "loop/x", "pipe", "file", "file/x", "directory", "nul", "latin", "closed/x", "unwritable/x"]
REQUIRED = {
    "PINGONE_ENVIRONMENT_ID": "e",
    "PINGONE_CLIENT_ID": "c",
    "PINGONE_CLIENT_SECRET": "made-up-secret",
    "PINGONE_API_URL": "http://127.0.0.1:1/v1",
    "PINGONE_TOKEN_URL": "http://127.0.0.1:1/token",
}
# What is typed behind a command that needs more to get as far as its settings.
ARGUMENTS = {
    **dict.fromkeys(("check", "load", "run"), "shipment.csv"),
    **dict.fromkeys(("pause", "resume", "cancel", "replay", "verify", "undo"), "batch"),
    "mend": "batch shipment.csv",
    "show": "A1",
    "export": "batch -o out.csv",
    "report": "batch -o out.html",
    "db": "upgrade",
    "purge": "--older-than 90d",
}
# Of settings that lead somewhere.
MORE_TEXTS = {
    "OATHBULK_HOME": [*PATHS, "a?b", "a%41b"],
    **dict.fromkeys(("OATHBULK_AUDIT_HEAD", "OATHBULK_CONFIG", "OATHBULK_BACKUP_STAMP"), PATHS),
    **dict.fromkeys(("OATHBULK_DATABASE_URL", "OATHBULK_REDIS_URL", "OATHBULK_WEBHOOK_URL"), URLS),
}
# They read no settings.
WITHOUT = ("formats", "keygen", "simulator")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with things that a path may lead to."""
    folder = tmp_path_factory.mktemp("places")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    for name, content in {"file": b"x", "nul": b"a\0b", "latin": b"\xff"}.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    for name, mode in {"directory": 0o700, "closed": 0o000, "unwritable": 0o500}.items():
        (folder / name).mkdir(mode=mode)
    yield folder
    (folder / "closed").chmod(0o700)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a shipment, where no setting is set but those that lead to no PingOne."""
    for name in [name for name in os.environ if name.startswith(("OATHBULK_", "PINGONE_"))]:
        monkeypatch.delenv(name)
    for name, value in (REQUIRED | {"OATHBULK_HOME": str(tmp_path / "home")}).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "shipment.csv").write_text("device_id,user_id,otp1,otp2,serial_number\nd,u,123456,654321,A1\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


Typing = Callable[..., tuple[int, str]]


@pytest.fixture
def type_command(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typing:
    """Types a command; its exit code, and what it prints on stderr. What ends it otherwise fails the test."""

    opened: list[Database] = []

    def open_database(*arguments: Any, **named: Any) -> Database:
        opened.append(Database(*arguments, **named))
        return opened[-1]

    def run(*line: str, **variables: str) -> tuple[int, str]:
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["oathbulk", *line])
            patch.setattr(installation, "Database", open_database)
            with pytest.raises(SystemExit) as ended:
                main()
        # The end of a process closes them.
        while opened:
            opened.pop().close()
        assert ended.value.code is None or isinstance(ended.value.code, int)
        return ended.value.code or 0, capsys.readouterr().err

    return run


def complaint(variables: dict[str, str]) -> str:
    """Why these variables are refused; empty if they are settings."""
    try:
        settings = load_settings({"OATHBULK_REDIS_URL": "redis://127.0.0.1:1"} | variables)
        load_environment(settings, variables=REQUIRED | variables)
        assert settings.database
        assert settings.redis
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("variable", ALL_SETTINGS)
def test_an_odd_value_is_a_setting_or_refused_by_its_name(variable: str, here: Path, places: Path) -> None:
    for value in (*ODD, *(str(places / place) for place in PLACES)):
        refused = complaint({variable: value})
        assert not refused or variable in refused, (value[:80], refused)


@pytest.mark.parametrize("variable", ALL_SETTINGS)
def test_an_odd_file_with_a_value_has_one_or_is_refused_by_its_name(variable: str, here: Path, places: Path) -> None:
    for value in (*PATHS, "a\0b", "\udcfc", "\ud800", *(str(places / place) for place in PLACES)):
        refused = complaint({variable: "", f"{variable}_FILE": value})
        assert variable in refused or (not refused and value.endswith("/file")), (value[:80], refused)


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - set(WITHOUT)))
def test_each_command_names_a_setting_that_is_refused(command: str, type_command: Typing, places: Path) -> None:
    homes = ["/", "x" * 300, "y/" * 3000, str(places / "loop"), str(places / "file"), str(places / "file" / "x")]
    refused = [{"OATHBULK_HOME": home} for home in homes]
    refused += [{"OATHBULK_ACTOR_FILE": str(places / place)} for place in ("loop", "pipe", "nul", "latin", "directory")]
    refused += [{"OATHBULK_CONCURRENCY": "inf"}, {"OATHBULK_CONFIG": str(places / "pipe")}]
    if os.geteuid():  # Root gets everywhere.
        refused += [{"OATHBULK_HOME": str(places / "closed" / "x")}, {"OATHBULK_CONFIG": str(places / "closed" / "x")}]
    for variables in refused:
        code, said = type_command(command, *ARGUMENTS.get(command, "").split(), **variables)
        (name,) = variables
        assert (code, said.count("\n")) == (3, 1), (variables, said)
        assert said.startswith("oathbulk: ")
        assert name.removesuffix("_FILE") in said


@pytest.mark.parametrize("variable", ALL_SETTINGS)
def test_a_command_works_with_an_odd_value_or_says_in_a_line_why_not(
    variable: str, type_command: Typing, places: Path
) -> None:
    # What is free text reaches nothing that could fail at more.
    more = MORE_TEXTS.get(variable, [*NUMBERS, *CRONS])
    for value in (*TEXTS, *more, *(str(places / place) for place in PLACES)):
        # Variables of a process hold neither, and others are refused before a command begins.
        if "\0" in value or "\ud800" in value or complaint({variable: value}):
            continue
        code, said = type_command("load", "shipment.csv", "--offline", **{variable: value})
        assert code in (0, 1) or said.splitlines()[-1].startswith("oathbulk: "), (value[:80], code, said)


@pytest.mark.parametrize("columns", ["9" * 5000, "1000000000", "²", "0"])
@pytest.mark.parametrize("line", [["formats"], ["status", "--help"]])
def test_a_width_that_no_terminal_has_is_passed_over(columns: str, line: list[str], here: Path) -> None:
    """It is no setting of ours: a shell exports it, or a service manager."""
    typed = [sys.executable, "-m", "worker", *line]
    env = os.environ | {"COLUMNS": columns, "LINES": columns}
    usual = {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES")}
    ended = subprocess.run(typed, env=env, capture_output=True, text=True, timeout=60, check=False)
    expected = subprocess.run(typed, env=usual, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, expected.stdout, expected.stderr)
