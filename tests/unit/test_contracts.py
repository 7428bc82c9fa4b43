"""Who may import whom: the contracts in pyproject.toml hold, and each of them notices when it is broken."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
LINT = Path(sys.executable).with_name("lint-imports")

# Adds lines to modules of a copy, lints it, and returns the exit code and what was said.
Lint = Callable[[Iterable[tuple[str, str]]], tuple[int, str]]

# A module, an import that it must not have, and the contract that says so.
WRONG = [
    ("models/batch.py", "import worker.config.settings", "models import nothing of ours"),
    ("migrations/__init__.py", "import worker.config.settings", "models import nothing of ours"),
    ("worker/batches/loading.py", "import worker.dispatch", "Imports go one way"),
    ("worker/database/engine.py", "import worker.leases.worker", "Imports go one way"),
    ("worker/dispatch.py", "import worker.records", "Imports go one way"),
    ("worker/leases/queue.py", "import worker.batches.loading", "Imports go one way"),
    ("worker/pace/state.py", "import worker.pingone.errors", "Imports go one way"),
    ("worker/process/parts.py", "import worker.celery", "Imports go one way"),
    ("worker/rules/decisions.py", "import worker.database.engine", "Rules are pure"),
    ("worker/rules/decisions.py", "import worker.pingone.client", "Rules are pure"),
    ("worker/rules/breaker.py", "import sqlalchemy", "Rules are pure"),
    ("worker/intake/shipment.py", "import worker.database.engine", "Intake reads files"),
    ("worker/intake/files.py", "import models.record", "Intake reads files"),
    ("worker/batches/loading.py", "import worker.desk.batch_page", "Imports go one way"),
    ("worker/desk/chart.py", "import worker.database.engine", "Pages write what reports have read"),
    ("worker/desk/chart.py", "import sqlalchemy", "Pages write what reports have read"),
    ("worker/process/parts.py", "import worker.embedded.home", "Only cli and installation reach"),
    ("worker/tasks.py", "import worker.simulator.world", "Only cli and installation reach"),
    ("worker/simulator/oath.py", "import worker.vault.otps", "Imports go one way"),
    ("worker/simulator/world.py", "import models.record", "The simulator shares no code"),
    ("worker/records.py", "import httpx", "Nobody but pingone speaks HTTP"),
    ("worker/notices/webhook.py", "import httpx", "Nobody but pingone speaks HTTP"),
    ("worker/reports/facts.py", "import worker.notices.outbox", "Imports go one way"),
    ("worker/installation/stack.py", "import rich", "Nobody but pingone speaks HTTP"),
    ("worker/pingone/wire.py", "import worker.pingone.client", "Inside pingone"),
    ("worker/pingone/inventory.py", "import worker.pingone.client", "Inside pingone"),
    ("worker/pace/search.py", "import worker.pace.slots", "Inside pace"),
]


@pytest.fixture(scope="module")
def lint(tmp_path_factory: pytest.TempPathFactory) -> Lint:
    """Lints a copy of the checkout to whose modules these lines were added."""

    def lint(added: Iterable[tuple[str, str]]) -> tuple[int, str]:
        checkout = tmp_path_factory.mktemp("checkout")
        for package in ("models", "migrations", "worker"):
            shutil.copytree(CHECKOUT / package, checkout / package, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(CHECKOUT / "pyproject.toml", checkout)
        for module, line in added:
            (checkout / module).parent.mkdir(exist_ok=True)
            with (checkout / module).open("a") as file:
                file.write(f"\n{line}\n")
        done = subprocess.run([LINT, "--no-cache"], cwd=checkout, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return lint


@pytest.fixture(scope="module")
def broken(lint: Lint) -> str:
    """What is said when every wrong import stands in one checkout: linting 25 of them would take a minute."""
    code, said = lint([(module, wrong) for module, wrong, _ in WRONG])
    assert code == 1
    return said


def test_every_contract_holds(lint: Lint) -> None:
    code, said = lint([])
    assert code == 0, said


@pytest.mark.parametrize(("module", "wrong", "contract"), WRONG, ids=[f"{each[0]}: {each[1]}" for each in WRONG])
def test_a_wrong_import_breaks_its_contract(broken: str, module: str, wrong: str, contract: str) -> None:
    name = module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    # Each contract that is broken has a headline, which is underlined.
    reports = re.split(r"\n(?=.+\n-{5,}\n)", broken.partition("Broken contracts")[2])
    report = next(report for report in reports if report.startswith(contract))
    assert f"{name} -> {wrong.removeprefix('import ')} " in report


@pytest.mark.parametrize("place", ["worker/utils.py", "worker/waves/__init__.py", "worker/pace/more.py"])
def test_what_stands_in_no_contract_is_named(lint: Lint, place: str) -> None:
    code, said = lint([(place, '"""New here."""')])

    assert code == 1
    assert place.removesuffix(".py").removesuffix("/__init__").replace("/", ".") in said.replace("\n", "")


def test_the_root_of_worker_holds_the_doors_and_rooms_of_one_module() -> None:
    rooms = {"audit", "clocks", "dispatch", "fleet", "purging", "records", "tenants"}
    doors = {"__init__", "__main__", "celery", "tasks"}
    assert {path.stem for path in (CHECKOUT / "worker").glob("*.py")} == doors | rooms
