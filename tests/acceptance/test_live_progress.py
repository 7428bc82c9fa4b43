"""What a person sees while a batch runs: a picture that lives on a terminal, plain lines elsewhere."""

from __future__ import annotations

import re

from support.data.tokens import make_tokens
from support.processes.waiting import wait_until
from support.servers.stand_in import Refusal

# Seconds.
PATIENCE = 60


def test_a_terminal_shows_counts_pace_time_left_resyncs_and_429s(set_up):
    desk, pingone = set_up(make_tokens(60, out_of_step=10))
    pingone.refusals.append(Refusal(429, "REQUEST_LIMITED", "LIMIT_EXCEEDED", {"Retry-After": "1"}))
    pingone.hold_after(36)
    terminal = desk.start_on_terminal("run", "shipment.csv")

    wait_until(lambda: pingone.held == 4, PATIENCE, "four calls are held")
    active = len(pingone.active)
    counts = f"total queued activating active 60 {60 - active - 4} 4 {active} "

    def full_picture():
        picture = terminal.picture()
        # One that was answered counts as activating until that is written down.
        is_full = counts in picture and "left at this pace" in picture
        return picture if is_full else None

    picture = wait_until(full_picture, PATIENCE, "the picture shows a batch in full swing")
    assert re.search(rf"^shipment running .* {active} of 60 ", picture)
    pace = re.search(r"([\d.]+) records/s", picture)
    assert pace
    assert float(pace[1]) > 0
    assert "10 resynced" in picture
    assert "1 of them answered 429 · " in picture
    assert re.search(r"\d+ s left at this pace", picture)

    terminal.press_ctrl_c()
    wait_until(lambda: "calls in flight are answered" in terminal.read(), PATIENCE, "it says what it waits for")
    pingone.let_go()
    assert terminal.wait() == 130
    # The cursor, which a live picture hides, is there again.
    assert terminal.read().rindex("\x1b[?25h") > terminal.read().rindex("\x1b[?25l")
    assert "Go on with: oathbulk run shipment" in terminal.picture()
    assert not desk.processes()


def test_a_pipe_gets_a_plain_line_now_and_then(set_up):
    desk, pingone = set_up(make_tokens(12))
    pingone.hold_after(8)
    run = desk.start("run", "shipment.csv")
    line = r"shipment: (?=.*4 activating)(?=.*8 active).*; \d+\.\d records/s; .*\."
    wait_until(lambda: re.search(line, run.stderr), PATIENCE, "a line tells the counts, the pace and the outlook")
    pingone.let_go()
    result = run.wait()
    assert result.code == 0
    assert "\x1b" not in result.stdout + result.stderr
    home, hosts, *lines = result.stderr.splitlines()
    assert home.startswith("Home: ")
    assert hosts.startswith("PingOne's API is called at 127.0.0.1, ")
    assert all(line.startswith("shipment: ") for line in lines)
    # Some seconds apart: a log should not drown in them.
    assert 2 <= len(lines) <= 20
    assert "Finished after" in result.stdout
    assert "every token is active" in result.stdout


def test_a_watch_ends_with_its_batch(set_up):
    desk, pingone = set_up(make_tokens(6))
    pingone.hold_after(3)
    run = desk.start("run", "shipment.csv")
    wait_until(lambda: pingone.held == 3, PATIENCE, "three calls are held")
    drawn, written = desk.start_on_terminal("status", "shipment", "--watch"), desk.start("status", "--watch")
    wait_until(lambda: "3 of 6" in drawn.picture() and "3 active" in written.stdout, PATIENCE, "both watch")
    pingone.let_go()
    assert run.wait().code == 0
    assert drawn.wait() == 0
    assert "6 of 6 active" in drawn.picture()
    assert written.wait().code == 0
    assert "6 active" in written.stdout.splitlines()[-1]


def test_status_watches_until_ctrl_c(set_up):
    desk, _ = set_up(make_tokens(3))
    assert desk.oathbulk("load", "shipment.csv").code == 0
    terminal = desk.start_on_terminal("status", "shipment", "--watch")
    picture = wait_until(
        lambda: "total pending 3 3" in (found := terminal.picture()) and found, PATIENCE, "it shows the batch"
    )
    assert "0 of 3 active" in picture
    assert "Waiting for a worker" in picture
    terminal.press_ctrl_c()
    assert terminal.wait() == 130
    assert "Traceback" not in terminal.read()
