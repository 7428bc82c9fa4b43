"""Which hosts are named, and the warning where URLs and client secret come from different places."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker.cli.hosts import describe_hosts, print_unread_env_file
from worker.installation.installation import Installation

SECRET = "made-up-secret"
PINGONE = {
    "PINGONE_ENVIRONMENT_ID": "e",
    "PINGONE_CLIENT_ID": "c",
    "PINGONE_CLIENT_SECRET": SECRET,
}
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a home below the working directory, and clear the process environment of all other settings of ours."""
    for name in [name for name in os.environ if name.startswith(("PINGONE_", "OATHBULK_")) or name.lower() in PROXIES]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("OATHBULK_HOME", str(home))
    return home


def write(path: Path, **values: str) -> Path:
    path.write_text("".join(f"{name}='{value}'\n" for name, value in values.items()))
    path.chmod(0o600)
    return path


def set_all(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def hosts(**variables: str) -> str:
    (line,) = describe_hosts(Installation(PINGONE | variables), "default")
    return line


def test_both_hosts_of_the_region_are_named(home: Path) -> None:
    told = "PingOne's API is called at api.pingone.eu, access tokens come from auth.pingone.eu."
    assert hosts(PINGONE_REGION="EU") == told


def test_hosts_are_named_without_anything_else_of_their_urls(home: Path) -> None:
    urls = {
        "PINGONE_API_URL": "https://api.example:8443/v1?hidden",
        "PINGONE_TOKEN_URL": "https://login.example/hidden/{env}",
    }
    assert hosts(**urls) == "PingOne's API is called at api.example, access tokens come from login.example."


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("proxy", ["http://user:hidden@proxy.example:3128", "user:hidden@proxy.example:3128"])
def test_a_proxy_is_named_without_its_password(
    home: Path, monkeypatch: pytest.MonkeyPatch, variable: str, proxy: str
) -> None:
    monkeypatch.setenv(variable, proxy)
    assert hosts().endswith("from auth.pingone.com, through the proxy proxy.example.")


def test_no_proxy_is_named_that_is_not_asked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, HTTPS_PROXY="http://proxy.example", NO_PROXY="pingone.com")
    assert "proxy" not in hosts()
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example")
    here = {"PINGONE_API_URL": "http://127.0.0.1:1/v1", "PINGONE_TOKEN_URL": "http://127.0.0.1:1/token"}
    monkeypatch.delenv("NO_PROXY")
    assert "proxy" not in hosts(**here)


@pytest.mark.parametrize("url", ["PINGONE_API_URL", "PINGONE_TOKEN_URL"])
def test_a_file_that_gives_a_url_for_a_secret_of_the_process_environment_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    set_all(monkeypatch, **PINGONE)
    write(home / ".env", **{url: "https://stranger.example"})
    told, mixed = describe_hosts(Installation(), "default")
    assert "stranger.example" in told
    assert mixed.startswith(f"{url} stands in {home / '.env'}, PINGONE_CLIENT_SECRET in the process environment: ")
    assert SECRET not in mixed


def test_a_file_that_gives_urls_for_a_secret_of_a_third_file_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = home / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    urls = {"PINGONE_API_URL": "https://a.example", "PINGONE_TOKEN_URL": "https://b.example"}
    ids = {"PINGONE_ENVIRONMENT_ID": "e", "PINGONE_CLIENT_ID": "c"}
    write(home / ".env", **urls, **ids, PINGONE_CLIENT_SECRET_FILE=str(secret))
    mixed = describe_hosts(Installation(), "default")[1]
    assert mixed.startswith(f"PINGONE_API_URL and PINGONE_TOKEN_URL stand in {home / '.env'}, ")
    assert f"PINGONE_CLIENT_SECRET in {secret}: " in mixed


def test_nothing_is_said_where_one_place_gives_both(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home / ".env", **PINGONE, PINGONE_API_URL="https://api.example")
    assert len(describe_hosts(Installation(), "default")) == 1
    # What is set in the process environment goes before the file, which gives nothing then.
    set_all(monkeypatch, **PINGONE, PINGONE_API_URL="https://api.example")
    assert len(describe_hosts(Installation(), "default")) == 1


def test_a_file_that_leaves_the_urls_alone_needs_no_word(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINGONE_CLIENT_SECRET", SECRET)
    write(home / ".env", PINGONE_ENVIRONMENT_ID="e", PINGONE_CLIENT_ID="c", PINGONE_REGION="EU")
    assert len(describe_hosts(Installation(), "default")) == 1


def test_a_section_that_gives_a_url_for_a_secret_of_another_file_is_named(home: Path) -> None:
    secret = home / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    section = (
        '[environments.other]\nPINGONE_ENVIRONMENT_ID = "e"\nPINGONE_CLIENT_ID = "c"\n'
        'PINGONE_API_URL = "https://stranger.example"\n'
    )
    (home / "oathbulk.toml").write_text(section + f'PINGONE_CLIENT_SECRET_FILE = "{secret}"\n')
    (home / "oathbulk.toml").chmod(0o600)
    mixed = describe_hosts(Installation(), "other")[1]
    assert f"stands in {home / 'oathbulk.toml'}, PINGONE_CLIENT_SECRET in {secret}: " in mixed
    (home / "oathbulk.toml").write_text(section + f'PINGONE_CLIENT_SECRET = "{SECRET}"\n')
    assert len(describe_hosts(Installation(), "other")) == 1


def test_a_file_in_the_working_directory_that_is_not_read_is_named(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_unread_env_file(Installation())
    assert capsys.readouterr().err == ""
    write(home.parent / ".env", PINGONE_CLIENT_ID="c")
    print_unread_env_file(Installation())
    said = f"./.env is not read: settings come from {home / '.env'}; use --env-file .env\n"
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize("how", ["named", "linked", "home"])
def test_a_file_in_the_working_directory_that_is_read_needs_no_word(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    file = write(home.parent / ".env", PINGONE_CLIENT_ID="c")
    if how == "named":
        monkeypatch.setenv("OATHBULK_ENV_FILE", ".env")
    elif how == "linked":
        (home / ".env").symlink_to(file)
    else:
        monkeypatch.setenv("OATHBULK_HOME", str(home.parent))
    print_unread_env_file(Installation())
    assert capsys.readouterr().err == ""


def test_a_secret_of_systemd_beside_urls_of_a_file_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credential = home / "pingone_client_secret"
    credential.write_text(SECRET)
    credential.chmod(0o400)
    ids = {name: value for name, value in PINGONE.items() if value != SECRET}
    write(home / ".env", **ids, PINGONE_API_URL="https://api.example/v1")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(home))
    mixed = describe_hosts(Installation(), "default")[1]
    assert f"PINGONE_CLIENT_SECRET in {credential}: " in mixed
