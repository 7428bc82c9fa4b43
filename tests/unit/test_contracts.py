"""Who may import whom: the contracts in pyproject.toml hold, and each of them notices when it is broken."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
LINT = Path(sys.executable).with_name("lint-imports")

# A module, an import that it must not have, and the contract that says so.
WRONG = [
    ("models/batch.py", "import worker.config.settings", "models import nothing of ours"),
    ("migrations/__init__.py", "import worker.config.settings", "models import nothing of ours"),
    ("worker/batches/loading.py", "import worker.dispatch.dispatcher", "Imports go one way"),
    ("worker/database/engine.py", "import worker.leases.claim", "Imports go one way"),
    ("worker/dispatch/workload.py", "import worker.records.activation", "Imports go one way"),
    ("worker/leases/queue.py", "import worker.batches.loading", "Imports go one way"),
    ("worker/pace/state.py", "import worker.pingone.errors", "Imports go one way"),
    ("worker/process/parts.py", "import worker.celery", "Imports go one way"),
    ("worker/rules/decisions.py", "import worker.database.engine", "Rules are pure"),
    ("worker/rules/decisions.py", "import worker.pingone.client", "Rules are pure"),
    ("worker/rules/breaker.py", "import sqlalchemy", "Rules are pure"),
    ("worker/intake/shipment.py", "import worker.database.engine", "Intake reads files"),
    ("worker/intake/lines.py", "import models.record", "Intake reads files"),
    ("worker/process/parts.py", "import worker.embedded.home", "Only cli and installation reach"),
    ("worker/tasks.py", "import worker.simulator.world", "Only cli and installation reach"),
    ("worker/simulator/oath.py", "import worker.vault.otp", "Imports go one way"),
    ("worker/simulator/world.py", "import models.record", "The simulator shares no code"),
    ("worker/records/attempt.py", "import httpx", "Nobody but pingone speaks HTTP"),
    ("worker/installation/stack.py", "import rich", "Nobody but pingone speaks HTTP"),
    ("worker/pingone/wire.py", "import worker.pingone.client", "Inside pingone"),
    ("worker/pace/search.py", "import worker.pace.slots", "Inside pace"),
]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the checkout, to be spoilt."""
    for package in ("models", "migrations", "worker"):
        shutil.copytree(CHECKOUT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(checkout: Path) -> tuple[int, str]:
    """The exit code, and what was printed."""
    done = subprocess.run([LINT, "--no-cache"], cwd=checkout, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_every_contract_holds(copy: Path) -> None:
    code, said = lint(copy)
    assert code == 0, said


@pytest.mark.parametrize(("module", "wrong", "contract"), WRONG, ids=[f"{each[0]}: {each[1]}" for each in WRONG])
def test_a_wrong_import_breaks_its_contract(copy: Path, module: str, wrong: str, contract: str) -> None:
    path = copy / module
    path.write_text(f"{path.read_text()}\n{wrong}\n")

    code, said = lint(copy)

    assert code == 1
    broken = [line for line in said.splitlines() if " BROKEN" in line]
    assert any(line.startswith(contract) for line in broken), said


@pytest.mark.parametrize("place", ["worker/utils.py", "worker/waves/__init__.py", "worker/pace/more.py"])
def test_what_stands_in_no_contract_is_named(copy: Path, place: str) -> None:
    (copy / place).parent.mkdir(exist_ok=True)
    (copy / place).write_text('"""New here."""\n')

    code, said = lint(copy)

    assert code == 1
    assert place.removesuffix(".py").removesuffix("/__init__").replace("/", ".") in said.replace("\n", "")


def test_the_root_of_worker_holds_the_doors_alone() -> None:
    assert {path.stem for path in (CHECKOUT / "worker").glob("*.py")} == {"__init__", "__main__", "celery", "tasks"}
