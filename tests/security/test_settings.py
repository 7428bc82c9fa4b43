"""Settings, whoever wrote them: usable, or refused in a sentence that names the setting and quotes no secret; from
files that nobody else may have written, or put there. Never a failure of ours, whatever the value."""

import os
import pwd
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from models.encrypted import Keyring
from worker.cli import main
from worker.cli.command_list import COMMANDS
from worker.config import trusted_files
from worker.config.settings import ConfigError, Settings
from worker.config.sources import (
    ENVIRONMENT_SETTINGS,
    OWN_SETTINGS,
    load_environment,
    load_settings,
    read_variables,
)
from worker.database.engine import Database
from worker.embedded.home import home_key, read_holder
from worker.embedded.valkey import ValkeyConfig
from worker.installation import installation

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files to others")
UNHURRIED = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])

ALL_SETTINGS = (*OWN_SETTINGS, *ENVIRONMENT_SETTINGS)
# Values that some program along the way could not take.
NUMBERS = ["0", "-1", "0.5", "1e-320", "1e15", "1e400", "inf", "nan", "9" * 18, "9" * 5000, "1_0", "0x10", "²", "٣"]
TEXTS = [" ", "x", "true", "{}", ",", "a\nb", "a\x1bb", "a\0b", "ü", "\udcfc", "https://\ud800", "{env}", "%(x)s"]
PATHS = ["/", "//", ".", "..", "~", "x" * 300, "9" * 240, "y/" * 3000, "/dev/null", "/dev/zero", "/proc/self/mem"]
URLS = [
    *("https://[::1", "https://h:99999/", "https://h:port/", "https://h:0/", "https://h b/", "https://h\0/"),
    *("https://" + "a" * 64 + "/", "https://a..b/", "https://ü.example/", "https://*/", "http://127.0.0.1:1/", "//h"),
    *("https://xn--/", "https://a@b/", "http://h/"),
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
CREDENTIALS = {
    "PINGONE_ENVIRONMENT_ID": "e",
    "PINGONE_CLIENT_ID": "c",
    "PINGONE_CLIENT_SECRET": "made-up-secret",
}
REQUIRED = CREDENTIALS | {
    "PINGONE_API_URL": "http://127.0.0.1:1/v1",
    "PINGONE_TOKEN_URL": "http://127.0.0.1:1/token",
}
# What is typed behind a command that needs more to get as far as its settings.
ARGUMENTS = {
    **dict.fromkeys(("check", "load", "run"), "shipment.csv"),
    "give": "batch MADE1 ann@x.test",
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


def complaint(ask: Callable[[], object]) -> str:
    """What was refused, and why; empty if nothing was. Any other failure is one of ours."""
    try:
        ask()
    except ConfigError as error:
        return str(error)
    return ""


@pytest.fixture
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting in the process environment."""
    for name in [name for name in os.environ if name.startswith(("PINGONE_", "OATHBULK_"))]:
        monkeypatch.delenv(name)


# Odd values.


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
def here(tmp_path: Path, _no_settings: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a shipment, where no setting is set but those that lead to no PingOne."""
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


def refuse(variables: dict[str, str]) -> str:
    """Why these variables are refused; empty if they are settings, with addresses that a secret may go to."""

    def use() -> None:
        found = load_settings({"OATHBULK_REDIS_URL": "redis://127.0.0.1:1"} | variables)
        environment = load_environment(found, variables=REQUIRED | variables)
        assert environment.api_url.startswith(("https://", "http://127.0.0.1", "http://localhost", "http://[::1]"))
        assert found.database
        assert found.redis

    return complaint(use)


@pytest.mark.parametrize("variable", ALL_SETTINGS)
def test_an_odd_value_is_a_setting_or_refused_by_its_name(variable: str, here: Path, places: Path) -> None:
    for value in (*ODD, *(str(places / place) for place in PLACES)):
        refused = refuse({variable: value})
        assert not refused or variable in refused, (value[:80], refused)


@pytest.mark.parametrize("variable", ALL_SETTINGS)
def test_an_odd_file_with_a_value_has_one_or_is_refused_by_its_name(variable: str, here: Path, places: Path) -> None:
    for value in (*PATHS, "a\0b", "\udcfc", "\ud800", *(str(places / place) for place in PLACES)):
        refused = refuse({variable: "", f"{variable}_FILE": value})
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
        assert re.match(f"oathbulk: .*{name.removesuffix('_FILE')}", said)


@pytest.mark.parametrize("variable", ALL_SETTINGS)
def test_a_command_works_with_an_odd_value_or_says_in_a_line_why_not(
    variable: str, type_command: Typing, places: Path
) -> None:
    # What is free text reaches nothing that could fail at a number or a path.
    is_text = variable not in MORE_TEXTS and not refuse({variable: "x"})
    paths = (str(places / place) for place in PLACES)
    more = ["9" * 5000] if is_text else [*MORE_TEXTS.get(variable, [*NUMBERS, *CRONS]), *paths]
    for value in (*TEXTS, *more):
        # Variables of a process hold neither, and others are refused before a command begins.
        if "\0" in value or "\ud800" in value or refuse({variable: value}):
            continue
        code, said = type_command("load", "shipment.csv", "--offline", **{variable: value})
        assert code in (0, 1) or said.splitlines()[-1].startswith("oathbulk: "), (value[:80], code, said)


@pytest.mark.parametrize("line", [["formats"], ["status", "--help"]])
def test_a_width_that_no_terminal_has_is_passed_over(line: list[str], here: Path) -> None:
    """It is no setting of ours: a shell exports it, or a service manager."""
    usual = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    odd = [{"COLUMNS": columns, "LINES": columns} for columns in ("9" * 5000, "²", "0")]
    run = partial(subprocess.run, [sys.executable, "-m", "worker", *line], capture_output=True, text=True, timeout=60)
    ends = [run(env=usual | size) for size in ({}, *odd)]
    assert [(each.returncode, each.stdout, each.stderr) for each in ends] == [(0, ends[0].stdout, ends[0].stderr)] * 4


# Files with settings, keys and ports.


TOML = st.lists(
    st.sampled_from(
        [
            *("[environments.other]\n", "[environments]\n", "other = ", "PINGONE_RATE = ", "PINGONE_CLIENT_SECRET = "),
            *(
                '"text"\n',
                "0x" + "f" * 20_000 + "\n",
                "9" * 5000 + "\n",
                "[" * 5000,
                "{a=" * 5000,
                "nan\n",
                "'''",
                "\r",
            ),
            *("PINGONE_ENVIRONMENT_ID = 1979-05-27T07:32:00Z\n", 'PINGONE_CLIENT_ID = "\\uD800"\n', '"\x1b" = 1\n'),
        ]
    ).map(str.encode)
    | st.binary(max_size=20),
    max_size=8,
).map(b"".join)


@UNHURRIED
@given(TOML)
@example(b"[environments.other]\nPINGONE_RATE = 0x" + b"f" * 20_000)
@example(b"environments = " + b"[" * 50_000)
def test_any_configuration_file_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "oathbulk.toml").write_bytes(content)
    assert len(complaint(lambda: load_environment(Settings(home=tmp_path), "other"))) < 2000


DOTENV = st.lists(
    st.sampled_from(
        [
            *(
                b"OATHBULK_RATE=",
                b"PINGONE_RATE=",
                b"export ",
                b"A=${B}\n",
                b'"',
                b"'",
                b"#",
                b"=",
                b"\n",
                b"\\",
                b"${",
            ),
            b"A=\xff",
        ]
    )
    | st.binary(max_size=20),
    max_size=8,
).map(b"".join)


@UNHURRIED
@given(DOTENV)
def test_any_dotenv_file_is_read_or_refused(here: Path, content: bytes) -> None:
    file = here / "home" / ".env"
    file.parent.mkdir(mode=0o700, exist_ok=True)
    file.write_bytes(content)
    refused = complaint(read_variables)
    beginnings = (" cannot be read", ": OATHBULK_RATE", ": line ")
    assert not refused or refused.startswith(tuple(f"{file}{beginning}" for beginning in beginnings))


@UNHURRIED
@given(st.lists(st.text(max_size=50) | st.binary(max_size=50).map(lambda data: data.decode("latin-1")), max_size=3))
def test_any_keys_are_a_ring_or_refused(keys: list[str]) -> None:
    with pytest.raises(ValueError, match="key"):
        Keyring(keys)


@UNHURRIED
@given(st.binary(max_size=100))
@example(b'port 99999\nrequirepass "abc"\n')
def test_any_bytes_in_files_of_the_home_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700, exist_ok=True)
    for name in ("encryption.key", "valkey.conf", "lock"):
        (home / name).write_bytes(content)
        (home / name).chmod(0o600)
    with pytest.raises(ConfigError, match="holds no encryption key"):
        home_key(home)
    config = ValkeyConfig.read(home / "valkey.conf")
    assert config is None or config.port < 100_000
    pid, _ = read_holder(home / "lock")
    assert pid is None or isinstance(pid, int)


# Secrets in URLs.


PASSWORDS = ["hid@den", "hid/den", "hid#den", "hid?den", "hid:den", "hid%zzden", "hid den", "hid\\den", "hid[den"]


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_password_with_odd_characters_is_used_whole_or_its_url_refused_unquoted(password: str) -> None:
    """Otherwise a driver takes a piece of it for the host or the port, and names that in its error."""
    redis, database = f"redis://:{password}@127.0.0.1:1/0", f"postgresql+psycopg://u:{password}@127.0.0.1:1/x"
    found = load_settings({"OATHBULK_REDIS_URL": redis, "OATHBULK_DATABASE_URL": database})
    for read, url in ((lambda: found.redis, redis), (lambda: found.database, database)):
        refused = complaint(read)
        assert refused or read() == url
        assert not re.search("hid|den", refused)


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        *(
            ("OATHBULK_DATABASE_URL", url)
            for url in (
                *("postgresql+psycopg://u:hid@den@db/x", "postgresql+psycopg://u:hidden@db:port/x", "nonsense:hidden"),
                *("hidden", "postgresql+psycopg://u@db/x?password=hidden", "://u:hidden@db/x"),
            )
        ),
        *(
            ("OATHBULK_REDIS_URL", url)
            for url in (
                *("redis://:hid/den@r:6379/0", "redis://:hidden@r:port/0", "redis://:hid#den@r:6379/0", "hidden"),
                *("redis://:hid?den@r/0", "redis://r:6379/0?password=hidden", "amqp://u:hidden@r", "redis:hidden"),
                "redis://:hidden@[::1/0",
            )
        ),
        # `doctor` prints it, and httpx would send them.
        *((name, "https://user:hidden@api.pingone.com/v1") for name in ("PINGONE_API_URL", "PINGONE_TOKEN_URL")),
    ],
)
def test_a_url_that_would_show_its_password_is_refused_unquoted(variable: str, url: str) -> None:
    refused = refuse({variable: url})
    assert refused.startswith(f"{variable} ")
    assert "hid" not in refused


# Who else may have written or read a file.


CONTENTS = {
    ".env": "PINGONE_API_URL=https://api.example.com/v1\n",
    "oathbulk.toml": '[environments.other]\nPINGONE_API_URL = "https://api.example.com/v1"\n',
}
# With a secret, and without.
SECRETS = {
    ".env": ("PINGONE_CLIENT_SECRET=hidden\n", "PINGONE_CLIENT_SECRET=\n"),
    "oathbulk.toml": ('PINGONE_CLIENT_SECRET = "hidden"\n', ""),
}


@pytest.fixture(params=CONTENTS)
def file(
    request: pytest.FixtureRequest, open_folder: Path, _no_settings: None, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Each of them in a home that everybody may look into."""
    monkeypatch.setenv("OATHBULK_HOME", str(open_folder))
    path = open_folder / str(request.param)
    path.write_text(CONTENTS[path.name])
    path.chmod(0o644)
    return path


def read(file: Path) -> str:
    """Why the file is refused; empty where it is read. What else is missing does not matter here."""
    if file.name == ".env":
        return complaint(lambda: read_variables()["PINGONE_API_URL"])
    refused = complaint(lambda: load_environment(Settings(home=file.parent), "other"))
    return "" if "is not set" in refused else refused.removeprefix("OATHBULK_HOME: ")


@pytest.mark.parametrize("mode", [0o660, 0o606, 0o664, 0o666])
def test_a_file_that_others_may_change_is_refused_with_the_cure(file: Path, mode: int) -> None:
    assert read(file) == ""
    file.chmod(mode)
    assert read(file).startswith(f"{file} can be changed by other users")
    assert read(file).endswith(f": chmod go-w {file}")


@as_root
def test_a_file_of_another_user_is_refused_with_the_cure(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    # One of root is read by others.
    os.seteuid(nobody)
    try:
        assert read(file) == ""
    finally:
        os.seteuid(0)
    # One that the system has no name for, as in a container.
    for owner, name in ((nobody, "nobody"), (2_000_000_123, "2000000123")):
        os.chown(file, owner, -1)
        assert read(file).startswith(f"{file} belongs to {name}")
        assert f"chown root {file}" in read(file)
    # What a container's engine mounts belongs to a user of the host.
    monkeypatch.setattr(trusted_files, "CONTAINER_SECRETS", file.parent)
    assert read(file) == ""


@pytest.mark.parametrize("variable", ["PINGONE_API_URL", "PINGONE_TOKEN_URL"])
def test_a_file_with_the_url_alone_is_refused_where_others_may_change_it(open_folder: Path, variable: str) -> None:
    file = open_folder / "url"
    file.write_text("https://api.example.com/v1")
    variables = CREDENTIALS | {f"{variable}_FILE": str(file)}
    file.chmod(0o644)
    load_environment(Settings(), variables=variables)
    file.chmod(0o666)
    refused = complaint(lambda: load_environment(Settings(), variables=variables))
    assert refused.startswith(f"{variable}_FILE: {file} can be changed by other users")
    assert refused.endswith(f": chmod go-w {file}")


def test_a_file_that_others_may_replace_is_refused_with_the_cure(file: Path) -> None:
    file.parent.chmod(0o777)
    assert read(file).startswith(f"{file} can be replaced by every user")
    assert read(file).endswith(f": chmod o-w {file.parent}")
    # In a sticky directory, such as /tmp, only its owner may.
    file.parent.chmod(0o1777)
    assert read(file) == ""


def test_a_link_is_as_safe_as_the_place_that_it_leads_to(file: Path) -> None:
    elsewhere = file.parent / "elsewhere"
    elsewhere.mkdir()
    target = file.rename(elsewhere / "target")
    file.symlink_to(target)
    assert read(file) == ""
    for place, mode, cure in ((target, 0o666, f"chmod go-w {file}"), (elsewhere, 0o777, f"chmod o-w {elsewhere}")):
        target.chmod(0o644)
        place.chmod(mode)
        assert read(file).endswith(cure)


def test_a_pipe_or_a_directory_in_its_place_is_refused_without_waiting(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)
    assert f"{file} is a pipe or a device" in read(file)
    file.unlink()
    file.mkdir()
    assert read(file).startswith(f"{file} cannot be read")


@as_root
@pytest.mark.usefixtures("_no_settings")
def test_a_home_of_another_user_holds_no_file_for_us(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the image, whose home is closed to whoever else runs a command in it."""
    home = open_folder / "home"
    home.mkdir(mode=0o700)
    (home / ".env").write_text(CONTENTS[".env"])
    monkeypatch.setenv("OATHBULK_HOME", str(home))
    os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        assert "PINGONE_API_URL" not in read_variables()
    finally:
        os.seteuid(0)


def test_a_file_of_settings_with_a_secret_in_it_is_closed_to_every_user(file: Path) -> None:
    secret, none = SECRETS[file.name]
    for content, mode, folder_mode, told in (
        (secret, 0o644, 0o755, f"{file.name} holds a secret and can be read by every user: chmod 600"),
        (secret, 0o666, 0o755, "can be changed by other users"),
        # A directory that nobody else gets into protects it as well.
        (secret, 0o644, 0o700, ""),
        (secret, 0o640, 0o755, ""),
        # Without a secret it may be open.
        (none, 0o644, 0o755, ""),
    ):
        file.write_text(CONTENTS[file.name] + content)
        file.chmod(mode)
        file.parent.chmod(folder_mode)
        refused = read(file)
        assert (told in refused, bool(told)) == (True, bool(refused))
        # No message quotes what the file says.
        assert not re.search("hidden|example", refused)
