"""Flower as a person has it before them: they log in, find a token, and see how its tasks ended, and nothing secret."""

from collections.abc import Iterator

import pytest
from browser.conftest import MakeFleet
from playwright.sync_api import Browser, Error, Page, expect
from support.fleets.real_fleet import BATCH, Fleet
from support.judges.secret_search import wait_until_flower_listens

from worker.embedded.valkey import find_free_port

USER, PASSWORD = "visitor", "made-up-password"
PAGES = ("/", "/workers", "/tasks", "/broker")


@pytest.fixture
def fleet(make_fleet: MakeFleet) -> Fleet:
    return make_fleet()


@pytest.fixture
def flower(fleet: Fleet) -> str:
    """Its address, once the shipment is finished."""
    port = find_free_port()
    fleet.celery("flower", "flower", f"--port={port}", FLOWER_BASIC_AUTH=f"{USER}:{PASSWORD}")
    wait_until_flower_listens(fleet.settings.redis)
    fleet.worker("worker")
    fleet.beat()
    fleet.wait_until_finished()
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def page(browser: Browser, flower: str) -> Iterator[Page]:
    """A page of somebody who has the password."""
    context = browser.new_context(
        base_url=flower,
        http_credentials={"username": USER, "password": PASSWORD},
        viewport={"width": 1400, "height": 900},
    )
    yield context.new_page()
    context.close()


def test_a_person_finds_a_token_and_sees_how_it_ended(page: Page, fleet: Fleet) -> None:
    row = next(row for row in fleet.shipment.rows if fleet.shipment.expected[row.serial].resynced)
    page.goto("/tasks")
    page.get_by_label("Search").fill(row.serial)
    found = page.locator("#tasks-table tbody tr", has_text=row.serial)
    expect(found).to_have_count(1)
    expect(found).to_contain_text("active after resync")
    expect(found).to_contain_text(f"{BATCH}, row ")

    found.locator('a[href^="/task/"]').click()
    expect(page.locator("body")).to_contain_text(row.serial)
    expect(page.locator("body")).to_contain_text("SUCCESS")


def test_the_list_of_tasks_is_one_of_tokens(page: Page, fleet: Fleet) -> None:
    page.goto("/tasks")
    rows = page.locator("#tasks-table tbody tr")
    rows.first.wait_for()
    serials = {row.serial for row in fleet.shipment.rows}
    told = [row.inner_text() for row in rows.all()]
    assert [text for text in told if not any(serial in text for serial in serials)] == []


def test_no_page_shows_a_secret(page: Page, fleet: Fleet) -> None:
    secrets = {fleet.encryption_key, fleet.shipment.world.client_secret}
    otps = {otp for row in fleet.shipment.rows for otp in (row.otp1, row.otp2) if otp}
    page.goto("/tasks")
    page.locator("#tasks-table tbody tr").first.wait_for()
    tasks = [link.get_attribute("href") or "" for link in page.locator("#tasks-table tbody a").all()]
    workers = {link for link in tasks if link.startswith("/worker/")}
    for address in (*PAGES, *workers, *(link for link in tasks if link.startswith("/task/"))):
        page.goto(address)
        page.wait_for_load_state("networkidle")
        shown = page.locator("body").inner_text()
        assert not [secret for secret in secrets if secret in page.content()], address
        assert not otps & set(shown.replace("'", " ").replace(",", " ").split()), address


def test_nobody_gets_in_without_the_password(browser: Browser, flower: str) -> None:
    context = browser.new_context(base_url=flower)
    page = context.new_page()
    for address in PAGES:
        # A browser that may not ask for a password calls the refusal an error.
        with pytest.raises(Error, match="INVALID_AUTH_CREDENTIALS"):
            page.goto(address)
    context.close()
