"""Commands typed wrongly, in every way that comes to mind: each ends with one line that names what is wrong and the
cure, at most one more that names the help, and an exit code; never with a traceback."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.data.tokens import make_tokens, write_shipment
from support.processes.command_desk import CommandDesk

USAGE, SETUP = 2, 3
KEY = "x" * 43
HINT = re.compile(r"Try 'oathbulk( [a-z-]+)* --help' for help\.")
# What may stand before the line: where the home is, and who is called.
TOLD_BEFORE = ("Home: ", "PingOne's API is called at ")

# What is typed, what is set beside it, the exit code, and what the line says, in the order of its words.
Typed = tuple[str, dict[str, str], int, str]

COMMANDS: list[Typed] = [
    ("stauts", {}, USAGE, "No such command 'stauts'. Did you mean 'status'?"),
    ("xyzzy", {}, USAGE, "No such command 'xyzzy'."),
    ("db upgrad", {}, USAGE, "No such command 'upgrad'. Did you mean 'upgrade'?"),
    ("db", {}, USAGE, "Missing command"),
    ("--env-fil x status", {}, USAGE, "No such option: --env-fil --env-file"),
    ("--env-file nowhere.env status", {}, SETUP, "nowhere.env does not exist: name another with --env-file"),
    ("--env-file", {}, USAGE, "--env-file requires an argument"),
]
OPTIONS: list[Typed] = [
    ("show", {}, USAGE, "name a token, or list some with --batch, --status, --reason or --user"),
    ("status --josn", {}, USAGE, "No such option: --josn --json"),
    ("run --canary 5", {}, USAGE, "name the FILE"),
    ("pause", {}, USAGE, "Missing argument 'BATCH'"),
    ("export shipment --failed", {}, USAGE, "Missing option '--output' / '-o'"),
    ("pause shipment more", {}, USAGE, "unexpected extra argument (more)"),
    ("status --cures", {}, USAGE, "--cures name a batch"),
    ("run shipment.csv --accept clock --accept nonsense", {}, USAGE, "'--accept': 'nonsense' is not one of 'clock'"),
    ("load shipment.csv --accept nothing_to_load", {}, USAGE, "'nothing_to_load' is not one of 'clock'"),
    ("load shipment.csv --canary 0", {}, USAGE, "'--canary': Input should be greater than or equal to 1"),
    ("load shipment.csv --share 0", {}, USAGE, "--share '0' is not a part of the ceiling: give 60% or 0.6"),
    (
        "load shipment.csv --window 8-18 --zone UTC",
        {},
        USAGE,
        "--window '8-18' is not a daily window: write it as 22:00-05:30",
    ),
    ("load shipment.csv --window 08:00-18:00", {}, USAGE, "--window needs --zone"),
    (
        "load shipment.csv --window 08:00-18:00 --zone Europe/Berlni",
        {},
        USAGE,
        "no time zone: did you mean Europe/Berlin",
    ),
    ("resume shipment --zone UTC", {}, USAGE, "--zone is the time zone of --window: give both"),
    ("undo shipment --all", {}, USAGE, "name a batch, or give --all with --only FILE"),
    ("status shipment --by site --check", {}, USAGE, "omit --watch, --check, and --cures"),
    ("status shipment --by city", {}, USAGE, "there is no column 'city'"),
    ("show --where site=Basel", {}, USAGE, "name the batch that has these columns, with --batch"),
    ("run shipment.csv --otp-type motp", {}, USAGE, "'--otp-type' 'motp' is not one of 'hotp', 'totp'"),
    ("pace --rate=-5", {}, USAGE, "--rate"),
    ("resume shipment --window 08:00-18:00 --zone UTC --no-window", {}, USAGE, "--no-window"),
    ("export shipment -o out.csv --hand-out --with-otps", {}, USAGE, "--hand-out: omit --with-otps"),
    ("export shipment -o out.csv --failed --status active", {}, USAGE, "--failed: omit --status"),
    ("export shipment -o out.csv --failed --hand-out", {}, USAGE, "omit --hand-out"),
    ("export shipment -o out.csv --reason bad_luck", {}, USAGE, "'--reason' 'bad_luck' is not one of 'invalid_otp'"),
    ("simulator --set color=red", {}, USAGE, "--set color: unknown setting of the simulator; docs/deployment.md"),
    ("simulator --set failure_cont=5", {}, USAGE, "--set failure_cont: did you mean failure_count?"),
    (f"pause shipment --ticket {'x' * 201}", {}, USAGE, "--ticket is longer than 200 characters"),
    # What would let in anybody to the desk, or nobody.
    ("desk --host 0.0.0.0", {}, USAGE, "0.0.0.0 can be reached from other machines, and the desk has no TLS"),
    ("desk --host ''", {}, USAGE, "can be reached from other machines"),
    ("desk --user-header X-Forwarded-User", {}, USAGE, "needs --origin"),
    ("desk --origin https://desk.example.com", {}, USAGE, "needs --user-header"),
    ("desk --proxy 10.0.0.1", {}, USAGE, "needs --user-header"),
    *(
        (f"desk --user-header X --origin {typed}", {}, USAGE, says)
        for typed, says in (
            ("desk.example.com", "such as https://desk.example.com"),
            ("https://desk.example.com/desk", "without a path"),
            ("https://a:b@desk.example.com", "without a path"),
            ("https://x --proxy 10.0.0.1/24", "has host bits set"),
            ("https://x --proxy proxy.example.com", "give an address"),
        )
    ),
]
FILES: list[Typed] = [
    ("run nowhere.csv", {}, USAGE, "nowhere.csv: cannot be read (No such file or directory). Check"),
    ("run shipmnet", {}, USAGE, "no file and no batch is named 'shipmnet': did you mean the batch 'shipment'?"),
    (
        "run shipment --import --pair",
        {},
        USAGE,
        "shipment is loaded already, with its options: oathbulk run shipment",
    ),
    ("load folder", {}, USAGE, "folder: is not a regular file. Give the path of a file"),
    ("run loop.csv", {}, USAGE, "loop.csv: cannot be read (Too many levels of symbolic links)"),
    ("load empty.csv", {}, USAGE, "empty.csv is empty"),
    (
        "load shipment.csv --format pksc",
        {},
        USAGE,
        "'pksc', which is an unknown format. Perhaps you mean --format pskc",
    ),
    (
        "load shipment.csv --assign nowhere.csv",
        {},
        USAGE,
        "nowhere.csv: cannot be read (No such file or directory). Check",
    ),
    (
        "load shipment.csv --key-file nowhere.key",
        {},
        USAGE,
        "nowhere.key: cannot be read (No such file or directory). Check",
    ),
    ("load shipment.csv --password-file folder", {}, USAGE, "folder cannot be read"),
    ("export shipment -o nowhere/out.csv", {}, USAGE, "nowhere/out.csv cannot be written: No such file or directory"),
    ("db backup nowhere/out.db", {}, USAGE, "nowhere/out.db cannot be written: No such file or directory"),
    ("export shipment -o folder", {}, USAGE, "folder is a link, a device or a directory: name a file"),
    *(
        (
            typed + "x" * 300,
            {},
            USAGE,
            "x is out of reach (File name too long): check the path, and the permissions",
        )
        for typed in ("export shipment -o ", "check shipment.csv -o ")
    ),
]
BATCHES: list[Typed] = [
    ("status shipmnet", {}, USAGE, "no batch is named 'shipmnet': did you mean 'shipment'?"),
    ("pause Shipment", {}, USAGE, "no batch is named 'Shipment': did you mean 'shipment'?"),
    ("export other -o out.csv", {}, USAGE, "no batch is named 'other': the latest are shipment"),
    ("verify other", {}, USAGE, "no batch is named 'other': the latest are shipment"),
    ("show XYZZY1", {}, USAGE, "XYZZY1"),
    # The byte of an ü in Latin-1, as Python has it in an argument.
    *(
        (typed.replace("ü", "\udcfc"), {}, USAGE, "\\udcfc is not written in UTF-8: type it again")
        for typed in ("status ü", "pause shipment --ticket ü", "purge --person ü")
    ),
]
SETTINGS: list[Typed] = [
    (
        "status",
        {"OATHBULK_CONCURENCY": "4"},
        USAGE,
        "OATHBULK_CONCURENCY is an unknown setting; did you mean OATHBULK_CONCURRENCY?",
    ),
    (
        "run shipment.csv",
        {"PINGONE_RAET": "4"},
        USAGE,
        "PINGONE_RAET is an unknown setting; did you mean PINGONE_RATE?",
    ),
    ("status", {"OATHBULK_CONFIG": "nowhere.toml"}, SETUP, "OATHBULK_CONFIG names nowhere.toml, which does not exist"),
    (
        "status",
        {"OATHBULK_HOME": "empty.csv"},
        SETUP,
        "OATHBULK_HOME names empty.csv, which is not a directory: name one",
    ),
    ("status", {"OATHBULK_CONFIG": "broken.toml"}, USAGE, "broken.toml cannot be read: at line 1"),
    (
        "status",
        {"OATHBULK_CONFIG": "mistyped.toml"},
        USAGE,
        "PINGONE_RAET is an unknown setting; did you mean PINGONE_RATE?",
    ),
    ("status", {"OATHBULK_MAX_ATTEMPTS": "few"}, SETUP, "oathbulk: OATHBULK_MAX_ATTEMPTS should be a valid integer"),
    ("status", {"OATHBULK_DATABASE_URL": "mysql://me:hidden@host/x"}, SETUP, "postgresql+psycopg:// or sqlite:///"),
    (
        "undo shipment --yes",
        {"OATHBULK_REDIS_URL": "http://hidden"},
        SETUP,
        "OATHBULK_REDIS_URL is not a URL such as redis",
    ),
    ("check shipment.csv", {"PINGONE_API_URL": "ftp://x"}, SETUP, "PINGONE_API_URL must be an https:// URL"),
    ("load shipment.csv --environment prod", {}, SETUP, "environment 'prod' is not configured"),
    (
        "run shipment",
        {"OATHBULK_DATABASE_URL": "postgresql+psycopg://me:hidden@127.0.0.1:1/none", "OATHBULK_ENCRYPTION_KEYS": KEY},
        SETUP,
        "OATHBULK_DATABASE_URL",
    ),
    # The settings are right, and nobody is there.
    ("run shipment", {}, SETUP, "PingOne is out of reach PINGONE_TOKEN_URL"),
    (
        "status",
        {"OATHBULK_ENCRYPTION_KEYS_FILE": "nowhere"},
        SETUP,
        "OATHBULK_ENCRYPTION_KEYS_FILE: nowhere cannot be read",
    ),
    ("status", {"OATHBULK_HOME": "/"}, SETUP, "OATHBULK_HOME names /: name a directory of its own"),
    ("status", {"OATHBULK_HOME": "x" * 300}, SETUP, "OATHBULK_HOME is a path of more than 3000 bytes"),
    ("status", {"OATHBULK_HOME": "loop.csv"}, SETUP, "OATHBULK_HOME: loop.csv is out of reach (Too many levels"),
    ("status", {"OATHBULK_ENV_FILE": "nul.env"}, SETUP, "nul.env: OATHBULK_CONFIG holds a NUL byte: write it again"),
]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandDesk]:
    """A desk with one batch, and with files that are no shipments."""
    settings = {
        "PINGONE_ENVIRONMENT_ID": "7d1f0c52-3b64-4d0e-9a57-52a1c3d4e5f6",
        "PINGONE_CLIENT_ID": "client",
        "PINGONE_CLIENT_SECRET": "hidden",
        # No PingOne is there.
        "PINGONE_API_URL": "http://127.0.0.1:1/v1",
        "PINGONE_TOKEN_URL": "http://127.0.0.1:1/token",
    }
    with CommandDesk(tmp_path_factory.mktemp("wrongly") / "desk", settings) as desk:
        write_shipment(desk.folder / "shipment.csv", make_tokens(3))
        assert desk.oathbulk("load", "shipment.csv", "--offline").code == 0
        make_unfit_files(desk.folder)
        yield desk


def make_unfit_files(folder: Path) -> None:
    (folder / "folder").mkdir()
    (folder / "loop.csv").symlink_to("loop.csv")
    (folder / "empty.csv").touch()
    (folder / "nul.env").write_text("OATHBULK_MAX_ATTEMPTS=6\nOATHBULK_CONFIG=a\0b\n")
    (folder / "broken.toml").write_text("[environments\n")
    (folder / "mistyped.toml").write_text("[environments.prod]\nPINGONE_RAET = 3\n")


@pytest.mark.parametrize(("typed", "settings", "code", "says"), [*COMMANDS, *OPTIONS, *FILES, *BATCHES, *SETTINGS])
def test_what_is_typed_wrongly_gets_one_line_with_the_cure(
    typed: str, settings: dict[str, str], code: int, says: str, desk: CommandDesk
) -> None:
    before = sorted(desk.folder.rglob("*"))
    result = desk.oathbulk(*shlex.split(typed), **settings)
    lines = [line for line in result.stderr.splitlines() if not line.startswith(TOLD_BEFORE)]
    assert (result.code, result.stdout) == (code, ""), result
    assert lines[0].startswith("oathbulk: "), result.stderr
    assert len(lines) == 1 or (len(lines) == 2 and HINT.fullmatch(lines[1])), result.stderr
    # Word by word: between two of them something may stand that is named elsewhere.
    missing = [word for word in says.split() if word not in lines[0]]
    assert not missing, lines[0]
    assert "hidden" not in result.stderr
    assert [path for path in desk.folder.rglob("out*") if path not in before] == []
