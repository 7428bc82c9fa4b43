"""An installation of the version before is upgraded in the midst of a batch, and goes back, as docs/operating.md says
it. In a checkout without git's history the tests say why they cannot run."""

import io
import json
import shutil
import subprocess
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers.conftest import HEALTHY, OWN, ComposeProject, Engine, copy_files, run, running
from support.servers.compose_service import PROJECT

from migrations import HEAD
from worker.simulator.shipment import make_shipment

UPGRADED, GONE_BACK = 200, 40
IMAGE = "localhost/oathbulk:upgrade-test"
REVISION = "SELECT version_num FROM alembic_version"
MIGRATIONS = Path("migrations/versions")


@pytest.fixture(scope="module")
def commit() -> str:
    """The version before."""
    try:
        return find_version_before(PROJECT)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("git's history, from which the version before is built, is not here: git fetch --unshallow")


@pytest.fixture(scope="module")
def project(engine: Engine, commit: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeProject]:
    """An installation of the version before that runs, with two shipments that are not loaded yet."""
    folder = tmp_path_factory.mktemp("upgraded") / "checkout"
    copy_commit(PROJECT, commit, folder)
    variables = {**engine.variables, "OATHBULK_IMAGE": IMAGE}
    project = ComposeProject("oathbulk-upgrade-test", folder, make_shipment(UPGRADED + GONE_BACK), variables)
    project.write_pairs("july.csv", project.shipment.rows[:UPGRADED])
    project.write_pairs("august.csv", project.shipment.rows[UPGRADED:])
    with running(project):
        project.build()
        project.up()
        services = project.compose("config", "--services").split()
        project.wait_until_healthy({name: count for name, count in HEALTHY.items() if name in services})
        yield project


def test_a_batch_goes_on_over_an_upgrade(project: ComposeProject, engine: Engine) -> None:
    (revision,) = project.query(REVISION)
    assert revision < HEAD
    assert project.load("july.csv", "july")["total"] == UPGRADED
    project.wait_until_active(UPGRADED // 4)
    upgrade(project, engine)
    assert len(project.active()) < UPGRADED, "the upgrade came in the midst of the batch"
    assert project.query(REVISION) == [HEAD]
    project.wait_until_healthy()
    assert project.wait_until_finished("july")["counts"]["active"] == UPGRADED
    assert project.active() == {row.device_id for row in project.shipment.rows[:UPGRADED]}
    assert_no_otp_went_twice(project)
    checks = {check["check"]: check for check in json.loads(project.oathbulk("doctor", "--json"))["checks"]}
    assert all(check["is_well"] for check in checks.values()), checks
    assert HEAD in checks["database"]["detail"]


def test_workers_of_the_version_before_go_on_beside_the_newer_schema(
    project: ComposeProject, engine: Engine, commit: str
) -> None:
    if project.query(REVISION) != [HEAD]:
        upgrade(project, engine)
    project.compose("stop", "worker", "beat")
    assert project.load("august.csv", "august")["total"] == GONE_BACK
    before = len(project.active())
    go_back(project, commit)
    project.wait_until_active(before + GONE_BACK)
    assert project.query(REVISION) == [HEAD]
    assert_no_otp_went_twice(project)


def upgrade(project: ComposeProject, engine: Engine) -> None:
    """The lines of docs/operating.md, *Upgrade*. The image of this checkout is built already: the batch is still at
    work then, however long a build takes."""
    clear_files(project.folder)
    copy_files(PROJECT, project.folder)
    project.make_secrets()
    project.use_image(engine.variables["OATHBULK_IMAGE"])
    project.compose("stop", "worker", "beat")
    project.up()


def go_back(project: ComposeProject, commit: str) -> None:
    """The lines of docs/operating.md, *Going back*."""
    clear_files(project.folder)
    copy_commit(PROJECT, commit, project.folder)
    project.use_image(IMAGE)
    project.build()
    project.compose("stop", "worker", "beat")
    project.up("--no-deps", "worker", "beat", "flower")


def assert_no_otp_went_twice(project: ComposeProject) -> None:
    assert not project.judge()
    sent = Counter((call.device_id, call.otp) for call in project.calls() if call.is_post)
    assert set(sent.values()) == {1}


def copy_commit(project: Path, commit: str, folder: Path) -> None:
    """Put the files of a commit into the folder, which may be there."""
    archive = subprocess.run(
        ["git", "archive", commit], cwd=project, check=True, capture_output=True, timeout=60
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")


def clear_files(folder: Path) -> None:
    """Take a version's files out of the folder, as git does when another takes their place: what is not git's stays."""
    for found in folder.iterdir():
        if found.name not in OWN:
            shutil.rmtree(found) if found.is_dir() else found.unlink()


def find_version_before(project: Path) -> str:
    """The commit before the one that brought the newest migration of this checkout. Raises CalledProcessError where the
    history is not here, or does not reach back so far."""
    newest = f"{MIGRATIONS}/{HEAD}_*"
    *_, added = run(["git", "log", "--diff-filter=A", "--format=%H", "--", newest], project).splitlines() or [""]
    return run(["git", "rev-parse", "--verify", f"{added}^"], project).strip()
