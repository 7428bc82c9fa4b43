"""An installation is upgraded in the midst of a batch, and goes back, as docs/operating.md says it. The next version is
this one with a migration that only the tests have."""

import json
from collections import Counter
from collections.abc import Iterator

import pytest
from containers.conftest import ComposeProject, Engine, copy_files, running
from support.data.next_version import NEXT, write_next_version
from support.servers.compose_service import PROJECT

from migrations import HEAD, VERSION_TABLE
from worker.simulator.shipment import make_shipment

UPGRADED, GONE_BACK = 200, 40
REVISION = f"SELECT version_num FROM {VERSION_TABLE}"


@pytest.fixture(scope="module")
def next_image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("next") / "checkout"
    copy_files(PROJECT, folder)
    write_next_version(folder)
    return engine.build("oathbulk-next-version", folder)


@pytest.fixture(scope="module")
def project(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeProject]:
    """An installation that runs, with two shipments that are not loaded yet."""
    folder = tmp_path_factory.mktemp("upgraded") / "checkout"
    copy_files(PROJECT, folder)
    project = ComposeProject("oathbulk-upgrade-test", folder, make_shipment(UPGRADED + GONE_BACK), engine.variables)
    project.write_pairs("july.csv", project.shipment.rows[:UPGRADED])
    project.write_pairs("august.csv", project.shipment.rows[UPGRADED:])
    with running(project):
        project.up()
        project.wait_until_healthy()
        yield project


def test_a_batch_goes_on_over_an_upgrade(project: ComposeProject, next_image: str) -> None:
    assert project.query(REVISION) == [HEAD]
    assert project.load("july.csv", "july")["total"] == UPGRADED
    project.wait_until_active(UPGRADED // 4)
    upgrade(project, next_image)
    assert len(project.active()) < UPGRADED, "the upgrade came in the midst of the batch"
    assert project.query(REVISION) == [NEXT]
    project.wait_until_healthy()
    assert project.wait_until_finished("july")["counts"]["active"] == UPGRADED
    assert project.active() == {row.device_id for row in project.shipment.rows[:UPGRADED]}
    assert_no_otp_went_twice(project)
    checks = {check["check"]: check for check in json.loads(project.oathbulk("doctor", "--json"))["checks"]}
    assert all(check["is_well"] for check in checks.values()), checks
    assert NEXT in checks["database"]["detail"]


def test_workers_of_the_version_before_go_on_beside_the_newer_schema(
    project: ComposeProject, engine: Engine, next_image: str
) -> None:
    if project.query(REVISION) != [NEXT]:
        upgrade(project, next_image)
    project.compose("stop", "worker", "beat")
    assert project.load("august.csv", "august")["total"] == GONE_BACK
    before = len(project.active())
    # The lines of docs/operating.md, *Going back*.
    project.use_image(engine.variables["OATHBULK_IMAGE"])
    project.up("--no-deps", "worker", "beat", "flower")
    project.wait_until_active(before + GONE_BACK)
    assert project.query(REVISION) == [NEXT]
    assert_no_otp_went_twice(project)


def upgrade(project: ComposeProject, image: str) -> None:
    """The lines of docs/operating.md, *Upgrade*. The image is built already: the batch is still at work then, however
    long a build takes."""
    project.make_secrets()
    project.use_image(image)
    project.compose("stop", "worker", "beat")
    project.up()


def assert_no_otp_went_twice(project: ComposeProject) -> None:
    assert not project.judge()
    sent = Counter((call.device_id, call.otp) for call in project.calls() if call.is_post)
    assert set(sent.values()) == {1}
