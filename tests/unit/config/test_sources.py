"""From where settings are read, and what goes before what: the process environment, the `.env` file of the home or of
the path that a person names, never of the working directory; files with one value; credentials of systemd; sections of
`oathbulk.toml`. Names that look like settings and are none are refused, with the nearest that is one."""

import os
import re
from pathlib import Path

import pytest

from worker.config import trusted_files
from worker.config.settings import ConfigError, Settings, UnusableSettings
from worker.config.sources import VARIABLES, load_environment, load_settings, read_env_file, read_variables
from worker.installation.installation import Installation

PROJECT = Path(__file__).parents[3]
# Where settings are read, set or explained.
TOLD_IN = ("worker", "docs", "Makefile", "Dockerfile", "docker-compose.yml", ".env.example", "README.md", ".ci")
SECRET = "made-up-client-secret"
IDS = {"PINGONE_ENVIRONMENT_ID": "env-1", "PINGONE_CLIENT_ID": "client-1"}
OPEN = "can be read by every user: chmod 600"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and a process environment without any of our settings."""
    for name in [name for name in os.environ if name.startswith(("PINGONE_", "OATHBULK_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home in its default place."""
    home = tmp_path / "state" / "oathbulk"
    home.mkdir(mode=0o700, parents=True)
    return home


def write(path: Path, content: str | bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


# The .env file.


def test_the_file_in_the_working_directory_is_not_read(here: Path) -> None:
    write(here / ".env", "OATHBULK_MAX_ATTEMPTS=5\nPINGONE_API_URL=https://stranger.example/v1\n")
    assert load_settings().max_attempts == 8
    assert "PINGONE_API_URL" not in read_variables()


def test_the_file_in_the_home_is_read_unless_another_home_or_file_is_named(
    here: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        home / ".env", "OATHBULK_MAX_ATTEMPTS=5\nOATHBULK_CONCURRENCY=4\n# a comment\nPINGONE_CLIENT_ID='quoted id'\n"
    )
    assert read_variables()["PINGONE_CLIENT_ID"] == "quoted id"
    assert (load_settings().max_attempts, load_settings().concurrency) == (5, 4)
    write(here / ".env", "OATHBULK_MAX_ATTEMPTS=6\n")
    monkeypatch.setenv("OATHBULK_HOME", str(here))
    assert load_settings().max_attempts == 6
    monkeypatch.setenv("OATHBULK_ENV_FILE", str(write(here / "test.env", "OATHBULK_CONCURRENCY=7\n")))
    assert (load_settings().max_attempts, load_settings().concurrency) == (8, 7)


def test_the_process_environment_and_a_file_that_it_names_go_before_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home / ".env", "OATHBULK_MAX_ATTEMPTS=5\nOATHBULK_CONCURRENCY=4\nOATHBULK_ENCRYPTION_KEYS=of-a-rehearsal\n")
    monkeypatch.setenv("OATHBULK_MAX_ATTEMPTS", "6")
    monkeypatch.setenv("OATHBULK_ENCRYPTION_KEYS_FILE", str(write(home / "keys", "of-production\n")))
    settings, file = load_settings(), read_env_file()
    assert (settings.max_attempts, settings.concurrency) == (6, 4)
    assert settings.encryption_keys.get_secret_value() == "of-production"
    assert (file.values, "OATHBULK_CONCURRENCY" in repr(file)) == ({"OATHBULK_CONCURRENCY": "4"}, False)


def test_a_proxy_and_authorities_that_it_names_are_where_httpx_looks_for_them(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "SSL_CERT_FILE"):
        # Afterwards the process environment is as it was.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    write(home / ".env", "HTTPS_PROXY=http://proxy.example:3128\nSSL_CERT_FILE=/own/ca.pem\nPATH_OF_OURS=/x\n")
    read_variables()
    found = [os.environ.get(name) for name in ("HTTPS_PROXY", "SSL_CERT_FILE", "PATH_OF_OURS")]
    assert found == ["http://proxy.example:3128", "/own/ca.pem", None]


def test_the_file_of_a_home_may_not_name_another_home_and_one_that_is_named_may(
    here: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that finds the file through the home would then work in another home, and one that starts there would
    read another file."""
    write(home / ".env", "OATHBULK_HOME=/somewhere/else\n")
    with pytest.raises(ConfigError, match=r"sets OATHBULK_HOME to another: remove that line, or .* --env-file"):
        read_variables()
    write(home / ".env", f"OATHBULK_HOME={home}\n")
    assert load_settings().home == home
    monkeypatch.setenv("OATHBULK_ENV_FILE", str(write(here / "test.env", "OATHBULK_HOME=/somewhere/else\n")))
    assert load_settings().home == Path("/somewhere/else")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("a word too many\n", ": line 1 is not NAME=value"),
        ("A=1\n\n# one\nB='hidden\n", ": line 4 is not NAME=value"),
        ("A=1\n\nPINGONE_REGION\n", ": line 3 is not NAME=value"),
        ("export PINGONE_REGION\n", ": line 1 is not NAME=value"),
        ("OATHBULK_ENV_FILE=other.env\n", " sets OATHBULK_ENV_FILE, which only the process environment can"),
        (None, " does not exist: name another with --env-file or"),
    ],
)
def test_a_file_that_cannot_be_meant_so_is_refused_with_the_cure(
    content: str | None, complaint: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OATHBULK_ENV_FILE", "test.env")
    if content is not None:
        write(here / "test.env", content)
    with pytest.raises(ConfigError, match=f"^test.env{complaint}") as refused:
        read_env_file()
    assert "hidden" not in str(refused.value)


def test_a_value_that_is_wrong_is_named_with_its_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(home / ".env", "OATHBULK_MAX_ATTEMPTS=few\nPINGONE_RATE=fast\n")
    with pytest.raises(ConfigError, match=rf"^OATHBULK_MAX_ATTEMPTS should be a valid integer \(in {file}\)$"):
        load_settings()
    monkeypatch.setenv("OATHBULK_MAX_ATTEMPTS", "many")
    with pytest.raises(ConfigError, match=r"^OATHBULK_MAX_ATTEMPTS should be a valid integer$"):
        load_settings()
    monkeypatch.setenv("PINGONE_RATE_FILE", str(named := write(home / "rate", "fast")))
    with pytest.raises(ConfigError, match=rf"PINGONE_RATE should be a valid number \(in {named}\)"):
        load_environment(Settings())


# Files with one value, and credentials of systemd.


def secret_of(variables: dict[str, str], name: str = "default", settings: Settings | None = None) -> str:
    return load_environment(settings or Settings(), name, IDS | variables).secret


def load(variable: str, file: Path) -> str:
    """The value of a setting that is read from this file."""
    given = {f"{variable}_FILE": str(file)}
    if variable == "PINGONE_CLIENT_SECRET":
        return secret_of(given)
    return getattr(load_settings(given), variable[9:].lower()).get_secret_value()


# Of any text; others must be URLs or keys.
SECRET_FILES = (
    *("OATHBULK_DATABASE_URL", "OATHBULK_REDIS_URL", "OATHBULK_ENCRYPTION_KEYS", "OATHBULK_WEBHOOK_SECRET"),
    "PINGONE_CLIENT_SECRET",
)


@pytest.mark.parametrize("variable", SECRET_FILES)
@pytest.mark.parametrize("mode", [0o644, 0o604, 0o666])
def test_a_secret_that_every_user_may_read_is_refused_with_the_cure_and_not_quoted(
    tmp_path: Path, variable: str, mode: int
) -> None:
    file = write(tmp_path / "secret", SECRET, mode)
    (link := tmp_path / "link").symlink_to(file)
    for path in (file, link):
        with pytest.raises(ConfigError, match=f"^{variable}_FILE: {path} {OPEN}") as error:
            load(variable, path)
        assert SECRET not in str(error.value)


@pytest.mark.parametrize("variable", SECRET_FILES)
@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640])
def test_a_secret_may_be_read_by_its_owner_and_a_group(tmp_path: Path, variable: str, mode: int) -> None:
    assert load(variable, write(tmp_path / "secret", f"{SECRET}\n", mode)) == SECRET


@pytest.mark.parametrize("content", [None, b"\xff\xfe secret \xff"])
def test_a_file_that_cannot_be_read_is_named_and_not_quoted(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        write(tmp_path / "secret", content)
    with pytest.raises(
        ConfigError, match=f"^PINGONE_CLIENT_SECRET_FILE: {tmp_path / 'secret'} cannot be read"
    ) as error:
        load("PINGONE_CLIENT_SECRET", tmp_path / "secret")
    assert " secret " not in str(error.value)


def test_a_containers_secrets_are_open_within_the_container_only_and_what_is_no_secret_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker mounts secrets there, readable by every user of the container."""
    assert Path("/run/secrets") == trusted_files.CONTAINER_SECRETS
    mounted = tmp_path / "run" / "secrets"
    monkeypatch.setattr(trusted_files, "CONTAINER_SECRETS", mounted)
    mounted.mkdir(parents=True)
    assert load("PINGONE_CLIENT_SECRET", write(mounted / "pingone_client_secret", SECRET, 0o444)) == SECRET
    beside = write(tmp_path / "run" / "secret", SECRET, 0o444)
    for path in (beside, mounted / ".." / "secret"):
        with pytest.raises(ConfigError, match=OPEN):
            load("PINGONE_CLIENT_SECRET", path)
    variables = {"PINGONE_CLIENT_ID": "", "PINGONE_CLIENT_ID_FILE": str(beside), "PINGONE_CLIENT_SECRET": SECRET}
    assert load_environment(Settings(), variables=IDS | variables).client_id == SECRET


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    """The directory that systemd makes for a service."""
    (directory := tmp_path / "credentials").mkdir(mode=0o700)
    return directory


def test_what_is_set_goes_before_a_file_before_a_credential(credentials: Path, tmp_path: Path) -> None:
    variables = {"CREDENTIALS_DIRECTORY": str(credentials)}
    write(credentials / "pingone_client_secret", "of systemd\n")
    # The installation's own have the names of their files, too.
    write(credentials / "database_url", "postgresql+psycopg://u:p@db/oathbulk")
    assert load_settings(variables).database == "postgresql+psycopg://u:p@db/oathbulk"
    # Only secrets are looked for there.
    write(credentials / "pingone_rate", "7")
    assert load_environment(Settings(), variables=IDS | variables).rate == 30
    assert secret_of(variables) == "of systemd"
    variables["PINGONE_CLIENT_SECRET_FILE"] = str(write(tmp_path / "file", "of the file\n"))
    assert secret_of(variables) == "of the file"
    variables["PINGONE_CLIENT_SECRET"] = "of the variable"
    assert secret_of(variables) == "of the variable"


def test_another_environment_has_secrets_of_its_own_name_which_leads_out_of_no_directory(
    credentials: Path, tmp_path: Path
) -> None:
    sections = (f"[environments.{name}]\n{toml(IDS)}" for name in ("spain", '"/../../x"'))
    settings = Settings(config=write(tmp_path / "oathbulk.toml", "".join(sections)))
    variables = {"CREDENTIALS_DIRECTORY": str(credentials)}
    write(credentials / "pingone_client_secret", "of default")
    (credentials / "pingone_client_secret.").mkdir()
    write(tmp_path / "x", "of somebody")
    for name in ("spain", "/../../x"):
        with pytest.raises(ConfigError, match="PINGONE_CLIENT_SECRET is not set"):
            secret_of(variables, name, settings)
    write(credentials / "pingone_client_secret.spain", "of spain")
    assert secret_of(variables, "spain", settings) == "of spain"


def test_a_credential_that_every_user_can_read_is_refused_by_the_name_of_its_setting(credentials: Path) -> None:
    path = write(credentials / "pingone_client_secret", "s", 0o644)
    with pytest.raises(ConfigError, match=f"^PINGONE_CLIENT_SECRET, CREDENTIALS_DIRECTORY: {path} {OPEN}"):
        secret_of({"CREDENTIALS_DIRECTORY": str(credentials)})


# oathbulk.toml.


def toml(values: dict[str, str]) -> str:
    return "".join(f'{name} = "{value}"\n' for name, value in values.items())


STAGING = f"""
[environments.staging]
{toml(IDS | {"PINGONE_CLIENT_SECRET": SECRET})}
PINGONE_REGION = "EU"
PINGONE_RATE = 12.5
PINGONE_RESYNC_ON_FIRST_CALL = true
"""


def test_another_environment_is_a_section_of_the_configuration_file_alone(tmp_path: Path) -> None:
    settings = Settings(home=write(tmp_path / "oathbulk.toml", STAGING).parent)
    of_default = {"PINGONE_ENVIRONMENT_ID": "env-9", "PINGONE_CLIENT_ID": "c", "PINGONE_CLIENT_SECRET": "s"}
    staging = load_environment(settings, "staging", of_default | {"PINGONE_LICENSE": "shared"})
    assert (staging.name, staging.environment_id, staging.license, staging.rate) == ("staging", "env-1", "env-1", 12.5)
    assert (staging.api_url, staging.resync_on_first_call) == ("https://api.pingone.eu/v1", True)
    default = load_environment(settings, variables=of_default)
    assert (default.environment_id, default.api_url) == ("env-9", "https://api.pingone.com/v1")


def test_a_section_may_name_a_file_with_the_secret(tmp_path: Path) -> None:
    file = write(tmp_path / "secret", SECRET)
    section = f"[environments.s]\n{toml(IDS)}PINGONE_CLIENT_SECRET_FILE = '{file}'\n"
    settings = load_settings({"OATHBULK_CONFIG": str(write(tmp_path / "elsewhere.toml", section))})
    assert secret_of({}, "s", settings) == SECRET


def test_the_license_is_known_where_no_credential_is_as_at_a_desk(tmp_path: Path) -> None:
    of_s = {"PINGONE_ENVIRONMENT_ID": "env-2", "PINGONE_CLIENT_SECRET_FILE": str(tmp_path / "none")}
    write(tmp_path / "oathbulk.toml", f"[environments.s]\n{toml(of_s)}")
    desk = Installation({"OATHBULK_HOME": str(tmp_path), "PINGONE_ENVIRONMENT_ID": "env-1", "PINGONE_LICENSE": "corp"})
    known = {name: desk.license_of(name, "id of the batch") for name in ("default", "s", "none")}
    assert known == {"default": "corp", "s": "env-2", "none": "id of the batch"}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("environments = 3\n", r"add a section \[environments\.NAME\]"),
        ("[environments]\nprod = 3\n", r"add a section \[environments\.NAME\]"),
        ("[environments]\n", r"add a section \[environments\.prod\] to .*oathbulk\.toml"),
        ("", r"add a section \[environments\.prod\]"),
        (None, r"'prod' is not configured: add a section \[environments\.prod\] to .*oathbulk\.toml"),
        (f'PINGONE_CLIENT_SECRET = "{SECRET}\n', r"oathbulk\.toml cannot be read"),
        (b"\xff\xfe", r"oathbulk\.toml cannot be read"),
        ('[environments.prod]\nPINGONE_ENVIRONMENT_ID = "e"\n', "CLIENT_ID is not set; PINGONE_CLIENT_SECRET is not"),
        (
            f'[environments.prod]\n{toml(IDS | {"PINGONE_CLIENT_SECRET": SECRET})}PINGONE_RATE = "fast"\n',
            r"^PINGONE_RATE should be a valid number \(in /.*oathbulk\.toml\)$",
        ),
    ],
)
def test_a_file_that_does_not_describe_an_environment_names_the_cure_and_is_not_quoted(
    tmp_path: Path, content: str | bytes | None, complaint: str
) -> None:
    if content is not None:
        write(tmp_path / "oathbulk.toml", content)
    with pytest.raises(ConfigError, match=complaint) as error:
        load_environment(Settings(home=tmp_path), "prod", IDS | {"PINGONE_CLIENT_SECRET": SECRET})
    assert SECRET not in str(error.value)


# Names that are none.


def refuse(error: type[ConfigError] = UnusableSettings) -> str:
    with pytest.raises(error) as refused:
        load_settings()
    return str(refused.value)


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("OATHBULK_CONCURENCY", "OATHBULK_CONCURRENCY"),
        ("OATHBULK_RATE", "PINGONE_RATE"),
        ("PINGONE_RAET", "PINGONE_RATE"),
        ("PINGONE_REGION_CODE", "PINGONE_REGION"),
        ("PINGONE_CLIENT_SECRT_FILE", "PINGONE_CLIENT_SECRET_FILE"),
    ],
)
def test_mistyped_variables_are_refused_all_at_once_with_the_nearest(
    wrong: str, meant: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [f"{wrong} is an unknown setting; did you mean {meant}?"]
    monkeypatch.setenv(wrong, "made-up-value")
    assert refuse() == said[0]
    monkeypatch.setenv("OATHBULK_XYZZY", "1")
    both = sorted([*said, "OATHBULK_XYZZY is an unknown setting; remove it (docs/deployment.md lists all)"])
    assert refuse() == "; ".join(both)


def test_one_in_the_settings_file_is_refused_with_the_file(home: Path) -> None:
    write(home / ".env", "OATHBULK_MAX_ATTEMPTZ=3\nLOG_LEVEL=INFO\n")
    cure = "did you mean OATHBULK_MAX_ATTEMPTS?"
    assert refuse() == f"{home / '.env'}: OATHBULK_MAX_ATTEMPTZ is an unknown setting; {cure}"


@pytest.mark.parametrize("name", ["FLOWER_SERVICE_HOST", "SERVICE_PORT", "PORT", "PORT_5555_TCP_ADDR"])
def test_what_kubernetes_sets_for_a_service_of_our_name_is_let_be(
    name: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"OATHBULK_{name}", "10.0.0.1")
    assert load_settings().home == home


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("environmets = 3\n", ": environmets is an unknown setting; did you mean environments?"),
        (
            "[environments.prod]\nPINGONE_RAET = 3\n",
            ", section [environments.prod]: PINGONE_RAET is an unknown setting; did you mean PINGONE_RATE?",
        ),
        (
            "[environments.prod]\nOATHBULK_ACTOR = 3\n",
            ", section [environments.prod]: OATHBULK_ACTOR is an unknown setting; remove it (docs/deployment.md "
            "lists all)",
        ),
        (
            "[environments.default]\nPINGONE_RATE = 3\n",
            ", section [environments.default]: set the PINGONE_… variables instead, or give the section another name",
        ),
        ("environments = [\n", " cannot be read: Invalid value (at end of document)"),
    ],
)
def test_a_file_of_environments_that_is_wrong_is_refused_though_nobody_asks_for_one(
    content: str, complaint: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(home / "oathbulk.toml", content)
    assert refuse() == f"{home / 'oathbulk.toml'}{complaint}"
    monkeypatch.setenv("OATHBULK_CONFIG", str(home / "nowhere.toml"))
    assert refuse(ConfigError).startswith(f"OATHBULK_CONFIG names {home / 'nowhere.toml'}, which does not exist")


def test_every_setting_is_taken_also_from_a_file_and_there_are_few_of_them(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    for name in VARIABLES - {"OATHBULK_HOME", "OATHBULK_ENV_FILE"}:
        monkeypatch.setenv(name, "1")
        monkeypatch.setenv(f"{name}_FILE", "1")
    assert read_variables().keys() >= VARIABLES - {"OATHBULK_HOME", "OATHBULK_ENV_FILE"}
    # What nobody outside the tests would turn is a constant, of `Tuning` or where it is used.
    assert len(VARIABLES - {"OATHBULK_IMAGE"}) <= 40


def test_every_name_of_a_setting_in_this_project_is_known() -> None:
    """What code reads, or a file of ours sets or explains, would otherwise be refused."""
    places = [PROJECT / place for place in TOLD_IN]
    files = [each for place in places for each in (place.rglob("*") if place.is_dir() else [place]) if each.is_file()]
    texts = [file.read_text() for file in files if file.suffix not in (".png", ".pyc")]
    # What ends with _ is a beginning that code compares with.
    names = {name for text in texts for name in re.findall(r"\b(?:OATHBULK|PINGONE)_[A-Z0-9_]*[A-Z0-9]\b", text)}
    assert len(names) >= 40
    assert {name for name in names if not VARIABLES & {name, name.removesuffix("_FILE")}} == set()
