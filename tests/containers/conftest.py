"""An engine with our images, and an installation that the tests share; the slow parts are done once."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from containers.checkouts import copy_files
from containers.compose_project import ComposeProject
from containers.engine import Engine, open_engine
from support.servers.compose_service import PROJECT


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine, to which `variables` names the images of this checkout, too."""
    folder = tmp_path_factory.mktemp("engine")
    with open_engine(folder) as engine:
        checkout = folder / "checkout"
        copy_files(PROJECT, checkout)
        engine.variables["OATHBULK_IMAGE"] = engine.build("oathbulk:test", checkout)
        engine.variables["SIMULATOR_IMAGE"] = engine.build("oathbulk-simulator", checkout, "--build-arg", "NEED=demo")
        yield engine


@contextmanager
def running(project: ComposeProject) -> Iterator[ComposeProject]:
    """The project until its tests are over; if it does not come up, what its containers said stands below the error."""
    project.down()
    try:
        yield project
    except (AssertionError, TimeoutError, subprocess.SubprocessError) as error:
        error.add_note(project.compose("ps", "--all"))
        error.add_note(project.compose("logs", "--tail", "50"))
        raise
    finally:
        project.down()
