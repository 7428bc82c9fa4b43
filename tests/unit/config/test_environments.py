"""Environments by name, and their credentials when they are read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.config.environment import Environment, Environments
from worker.config.settings import Settings
from worker.config.sources import load_environment

IDS = {"PINGONE_ENVIRONMENT_ID": "env-1", "PINGONE_CLIENT_ID": "client-1", "PINGONE_RATE": "12"}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The secrets of both worker applications, in files."""
    paths = {"client": tmp_path / "client", "import": tmp_path / "import"}
    for name, path in paths.items():
        path.write_text(f"old of {name}")
        path.chmod(0o600)
    return paths


@pytest.fixture
def environments(files: dict[str, Path]) -> Environments:
    variables = IDS | {"PINGONE_CLIENT_SECRET_FILE": str(files["client"]), "PINGONE_IMPORT_CLIENT_ID": "importer"}
    variables["PINGONE_IMPORT_CLIENT_SECRET_FILE"] = str(files["import"])
    return Environments(lambda name: load_environment(Settings(), name, variables))


def test_each_application_gets_its_own_new_secret_and_keeps_all_else(
    environments: Environments, files: dict[str, Path]
) -> None:
    known = environments.get("default")
    files["client"].write_text("new of client")
    files["import"].write_text("new of import")
    for environment, secret in ((known, "new of client"), (known.as_importer(), "new of import")):
        newer = environments.reread(environment)
        assert newer.secret == secret
        assert without_secret(newer) == without_secret(environment)


def without_secret(environment: Environment) -> Environment:
    return environment.model_copy(update={"client_secret": None, "import_client_secret": None})


def test_what_has_not_changed_is_equal(environments: Environments) -> None:
    known = environments.get("default")
    assert environments.reread(known) == known
    assert environments.reread(known.as_importer()) == known.as_importer()


def test_a_secret_that_cannot_be_read_now_leaves_the_one_of_before(
    environments: Environments, files: dict[str, Path]
) -> None:
    known = environments.get("default")
    # As it lies there for a moment while it is written.
    files["client"].write_text("")
    assert environments.reread(known) is known
    files["client"].unlink()
    assert environments.reread(known) is known
