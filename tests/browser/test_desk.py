"""The desk as a person uses it: they come in by the link, look, find a token, watch a batch, and command it. Whatever
they open is fit for a phone, for the dark, for a screen reader and for a browser without scripts. That nothing of it
shows a secret is searched in acceptance/test_no_secret.py."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser.conftest import HOPELESS, RECORDS, MakeFleet
from playwright.sync_api import Browser, Page, expect
from support.fleets.real_fleet import BATCH, Fleet
from support.processes.program import Program

from worker.desk.app import link_to
from worker.reports.facts import read_statuses
from worker.simulator.shipment import KEY, SEEDS, Box, make_box

# What Chromium calls a request that it no longer needs.
GIVEN_UP = "net::ERR_ABORTED"
WIDE, NARROW = 1280, 390
# So slow that a person can watch it.
SLOW = {"PINGONE_RATE": "4", "PINGONE_RATE_MAX": "4"}
COMMANDS = ("pause", "resume", "cancel", "replay", "pace")
_LINK = re.compile(r"(http://\S+)(/enter\?key=\S+)")
GRAVE = ("serious", "critical")
# Milliseconds; a busy machine takes its time.
PATIENCE = 60_000

expect.set_options(timeout=PATIENCE)


@pytest.fixture
def fleet(make_fleet: MakeFleet) -> Fleet:
    """One whose shipment is finished, and was paused once."""
    fleet = make_fleet()
    fleet.worker("worker")
    fleet.beat()
    fleet.wait_until(lambda: fleet.status().counts["active"], "the first token is active")
    fleet.batches.pause(BATCH)
    fleet.batches.resume(BATCH)
    fleet.wait_until_finished()
    return fleet


def serve(fleet: Fleet, *options: str) -> Program:
    desk = fleet.command("desk", "desk", "--port", "0", *options)
    fleet.wait_until(lambda: _LINK.search(desk.read_log()), "the desk prints a link")
    return desk


@contextmanager
def enter(browser: Browser, desk: Program, width: int = WIDE, **context: Any) -> Iterator[Page]:
    """The page of a person who has used the latest link."""
    address, path = _LINK.findall(desk.read_log())[-1]
    visit = browser.new_context(base_url=address, viewport={"width": width, "height": 900}, **context)
    visit.set_default_timeout(PATIENCE)
    page = visit.new_page()
    page.goto(path)
    expect(page).to_have_title("Shipments · oathbulk")
    yield page
    visit.close()


def list_pages(fleet: Fleet) -> list[str]:
    """The addresses of a page of each kind, and of several where they differ much."""
    serials = {expected: serial for serial, expected in fleet.shipment.expected.items()}
    return [
        "/",
        link_to("/batch", name=BATCH),
        *(link_to("/token", of=serial) for serial in serials.values()),
        *(
            link_to("/batch/otps", name=BATCH, serial=serial)
            for expected, serial in serials.items()
            if expected.reason == "invalid_otp"
        ),
        "/search",
        link_to("/search", batch=BATCH),
        link_to("/search", text="nobody"),
        "/audit",
        *(link_to(f"/batch/{command}", name=BATCH) for command in COMMANDS),
        link_to("/batch", name="purged"),
        "/nothing",
    ]


# What a person does.


def test_a_person_comes_in_by_the_link_and_finds_a_token(browser: Browser, fleet: Fleet) -> None:
    serial = next(row.serial for row in fleet.shipment.rows if fleet.shipment.expected[row.serial].resynced)
    with enter(browser, serve(fleet)) as page:
        page.get_by_role("link", name="Search").click()
        page.get_by_label("Beginning of a serial number").fill(serial)
        page.get_by_role("button", name="Search").click()
        page.get_by_role("link", name=serial).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(serial)
        expect(page.locator("#page")).to_contain_text("Active")
        page.get_by_role("link", name=BATCH, exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(f"Batch {BATCH}")
        page.get_by_role("link", name="List the rows: invalid_otp").click()
        expect(page.locator("tbody tr")).to_have_count(HOPELESS["wrong_otp"])


def test_a_running_batch_is_watched_paused_and_resumed(browser: Browser, make_fleet: MakeFleet) -> None:
    fleet = make_fleet(**SLOW)
    with enter(browser, serve(fleet)) as page:
        page.goto(link_to("/batch", name=BATCH))
        outcome = page.locator(".outcome")
        expect(outcome).to_have_text(re.compile(f"^0 of {RECORDS} rows are active"))
        # It would be gone after a reload.
        page.evaluate("window.wasHere = true")
        fleet.worker("worker")
        fleet.beat()
        expect(outcome).to_have_text(re.compile(rf"^[1-9]\d* of {RECORDS} rows"))
        assert page.evaluate("window.wasHere")

        page.get_by_role("link", name="Pause …").click()
        page.get_by_label("Ticket").fill("CHG-4711")
        page.get_by_role("button", name="Pause").click()
        expect(page.locator(".done")).to_contain_text(f"{BATCH} is paused.")
        expect(page.locator(".masthead .state")).to_have_text("paused")
        assert fleet.status().state == "paused"

        page.get_by_role("link", name="Resume …").click()
        page.get_by_role("button", name="Resume").click()
        expect(page.locator(".done")).to_contain_text(f"{BATCH} runs.")
        expect(page.locator(".masthead .state")).to_have_text("running")
        page.get_by_role("link", name="Audit").click()
        rows = page.locator("tbody tr")
        expect(rows.nth(0)).to_contain_text("resume")
        expect(rows.nth(1)).to_contain_text(re.compile(f"alice.*pause.*{BATCH}.*CHG-4711"))


def test_what_was_said_of_a_command_stays_while_the_page_loads_itself_again(
    browser: Browser, make_fleet: MakeFleet
) -> None:
    fleet = make_fleet(**SLOW)
    with enter(browser, serve(fleet)) as page:
        page.goto(link_to("/batch/pause", name=BATCH))
        page.get_by_role("button", name="Pause").click()
        done = page.locator(".done")
        expect(done).to_contain_text("is paused.")
        with page.expect_response(lambda answer: "/batch?" in answer.url):
            pass
        fleet.batches.resume(BATCH)
        expect(page.locator(".masthead .state")).to_have_text("running")
        expect(done).to_contain_text("is paused.")
        expect(done).to_have_count(1)


def test_a_desk_that_has_ended_is_noticed(browser: Browser, make_fleet: MakeFleet) -> None:
    desk = serve(make_fleet())
    with enter(browser, desk) as page:
        desk.stop()
        expect(page.locator("#freshness")).to_contain_text("Not up to date")
        expect(page.get_by_role("link", name=BATCH, exact=True)).to_be_visible()


def test_everything_works_without_scripts(browser: Browser, fleet: Fleet) -> None:
    with enter(browser, serve(fleet), java_script_enabled=False) as page:
        for address in list_pages(fleet):
            page.goto(address)
            expect(page.locator("h1").first).to_be_visible()
        page.goto(link_to("/batch", name=BATCH))
        page.get_by_role("link", name="Replay: device_not_found").click()
        page.get_by_role("button", name="Replay").click()
        expect(page.locator(".done")).to_contain_text("record of shipment is tried again")


# At a table, where a scanner types, and hands do without a mouse.


@pytest.fixture
def table(fleet: Fleet) -> Box:
    """A box whose tokens are given out."""
    box = make_box(24, totp=0)
    fleet.simulator.seed(**box.world.model_dump(mode="json", exclude_defaults=True))
    box.write(fleet.outside)
    files = (str(fleet.outside / SEEDS), "--key-file", str(fleet.outside / KEY))
    fleet.oathbulk("load", "load", *files, "--import", "--pair", "--give-out")
    return box


def type_in(page: Page, *texts: str) -> None:
    """Type into the fields of a form, from the one that has the focus, each with Enter; the last one sends it."""
    expect(page.locator("[autofocus]")).to_be_focused()
    for text in texts[:-1]:
        page.keyboard.type(text)
        page.keyboard.press("Enter")
    with page.expect_navigation():
        page.keyboard.type(texts[-1])
        page.keyboard.press("Enter")


def test_twenty_tokens_are_given_out_with_the_keyboard_alone_and_three_wrong_scans_are_told(
    browser: Browser, fleet: Fleet, table: Box
) -> None:
    tokens, desk, axe = table.tokens, serve(fleet), Axe()
    rows = {width: slice(start, start + 9) for width, start in ((WIDE, 2), (NARROW, 11))}
    for width, chosen in rows.items():
        with enter(browser, desk, width, bypass_csp=True, color_scheme="dark" if width == NARROW else "light") as page:
            page.goto(link_to("/batch/give", name="box"))
            given = page.locator("tbody tr")
            if width == WIDE:
                type_in(page, tokens[0].serial, tokens[0].email)
                expect(page.locator(".done")).to_have_text(f"Token {tokens[0].serial} is {tokens[0].email}'s.")
                expect(given.first).to_contain_text("sign on with")
                # A slip of the hand: nothing comes of it, and somebody else gets the token.
                type_in(page, tokens[1].serial, "nobody@example.com")
                expect(given.first).to_contain_text("PingOne finds nobody")
                page.get_by_role("link", name=f"Take back: {tokens[1].serial}").press("Enter")
                page.get_by_role("button", name="Take back").press("Enter")
                expect(page.locator(".done")).to_contain_text("it is waiting to be given out")
                for scan, told in (
                    (("BOX9", tokens[2].email), "has no token BOX9"),
                    ((tokens[0].serial, tokens[2].email), "and active: if the batch is running"),
                    ((tokens[1].serial, tokens[0].email), "Select the checkbox below if they should have two"),
                ):
                    type_in(page, *scan)
                    expect(page.get_by_role("alert")).to_contain_text(told)
                # What was asked has the focus.
                type_in(page, " ")
                expect(given).to_have_count(2)
            for token in tokens[chosen]:
                type_in(page, token.serial, token.email)
            for token in tokens[chosen]:
                expect(given.filter(has_text=token.serial).filter(has_text="active")).to_contain_text("sign on with")
            for address in ("/batch/give", "/batch/take-back"):
                page.goto(link_to(address, name="box", serial=tokens[chosen][0].serial))
                assert page.evaluate("document.documentElement.scrollWidth") <= width, (address, width)
                assert [each for each in axe.run(page).response["violations"] if each["impact"] in GRAVE] == []
    (status,) = read_statuses(fleet.database, "box")
    assert (status.active, status.failed, status.on_the_table) == (20, 0, 4)


def test_three_tokens_that_failed_are_mended_by_two_fresh_otps_with_the_keyboard_alone(
    browser: Browser, fleet: Fleet
) -> None:
    reasons = {serial: expected.reason for serial, expected in fleet.shipment.expected.items()}
    fresh = {reasons[row.serial]: row for row in fleet.shipment.fresh}
    with enter(browser, serve(fleet), NARROW) as page:
        for reason in ("invalid_otp", "resync_failed", "second_otp_missing"):
            row = fresh[reason]
            page.goto(link_to("/search", batch=BATCH, reason=reason))
            with page.expect_navigation():
                page.get_by_role("link", name=f"Enter two fresh OTPs: {row.serial}").press("Enter")
            sent = next(each for each in fleet.shipment.rows if each.serial == row.serial)
            type_in(page, sent.otp1, row.otp2 or "")
            expect(page.get_by_role("alert")).to_contain_text("an OTP of this row was sent already")
            type_in(page, row.otp1, row.otp2 or "")
            expect(page.locator(".outcome")).to_have_text("Active")
            expect(page.locator("form")).to_have_count(0)
            expect(page.locator("#page")).to_contain_text("sign on with the number that it shows")


# What every page is like.


def test_no_page_keeps_anybody_out(browser: Browser, fleet: Fleet) -> None:
    axe, desk, found = Axe(), serve(fleet), []
    for scheme, width in product(("light", "dark"), (WIDE, NARROW)):
        # The page's policy keeps axe out too.
        with enter(browser, desk, width, color_scheme=scheme, bypass_csp=True) as page:
            for address in list_pages(fleet):
                page.goto(address)
                violations = axe.run(page).response["violations"]
                found += [(each["id"], address, scheme, width) for each in violations if each["impact"] in GRAVE]
    assert found == []


def test_no_page_is_wider_than_the_window_and_on_a_phone_a_search_shows_how_a_token_ended(
    browser: Browser, fleet: Fleet
) -> None:
    desk = serve(fleet)
    for width in (320, 700, WIDE):
        with enter(browser, desk, width) as page:
            for address in list_pages(fleet):
                page.goto(address)
                assert page.evaluate("document.documentElement.scrollWidth") <= width, (address, width)
    with enter(browser, desk, NARROW) as page:
        page.goto(link_to("/search", batch=BATCH, reason="invalid_otp"))
        for word in ("dead letter", "invalid_otp", "Enter two fresh OTPs …"):
            box = page.locator("tbody tr").filter(has_text="invalid_otp").get_by_text(word).first.bounding_box()
            assert box is not None
            assert box["x"] + box["width"] <= NARROW


def test_no_page_makes_a_browser_complain(browser: Browser, fleet: Fleet) -> None:
    with enter(browser, serve(fleet)) as page:
        said: list[str] = []
        page.on("console", lambda message: said.append(f"{page.url}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"{page.url}: {error}"))
        # A browser gives its request for an icon up where the next page is opened meanwhile.
        page.on("requestfailed", lambda request: None if request.failure == GIVEN_UP else said.append(request.url))
        # A page that is not there is said on the console too.
        for address in list_pages(fleet)[:-2]:
            page.goto(address)
            page.wait_for_load_state("networkidle")
    assert said == []
