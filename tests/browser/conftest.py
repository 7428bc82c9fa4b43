"""Chromium, as Debian has it, driven by Playwright."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright
from support.fleets.real_fleet import Fleet

from worker.simulator.shipment import make_shipment

RECORDS = 60
HOPELESS = {"wrong_otp": 3, "locked": 2, "second_otp_missing": 2, "wrong_second_otp": 1, "unknown_device": 1}
MakeFleet = Callable[..., Fleet]
# A browser asks its maker's servers for updates and news unless it is told not to.
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert chromium, "no Chromium is installed: on Debian and Ubuntu, apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def make_fleet(tmp_path: Path, postgres_url: str, valkey_url: str) -> Iterator[MakeFleet]:
    """Makes a shipment in PostgreSQL, at the simulator: a third of it out of step, and some of it hopeless."""
    with ExitStack() as stack:

        def make(**settings: str) -> Fleet:
            shipment = make_shipment(RECORDS, out_of_step=0.3, hopeless=HOPELESS)
            actor = {"OATHBULK_ACTOR": "alice"}
            fleet = Fleet(tmp_path, tmp_path / "home", postgres_url, valkey_url, shipment, settings=actor | settings)
            return stack.enter_context(fleet)

        yield make
