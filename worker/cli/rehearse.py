"""`oathbulk rehearse`: the whole job against the simulator, in a home of its own beside the home."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.exit_codes import INTERRUPTED
from worker.cli.homes import find_rehearsals_home
from worker.cli.load_request import LoadRequest
from worker.cli.rehearsal_stage import ensure_installed, point_at_rehearsal, replacing_home, running_simulator
from worker.cli.rehearsed_box import BOX, make_box_to_rehearse, open_box, print_box
from worker.cli.rehearsed_endings import judge_endings
from worker.cli.run import run_shipment
from worker.embedded.home import lock_home
from worker.installation.installation import Installation
from worker.intake import Shipment, open_shipment

if TYPE_CHECKING:
    from worker.simulator.shipment import MadeShipment

# The name of the batch, and of a rehearsal's home.
BATCH = "rehearsal"
# The name of the home of a rehearsal with a box, which so does not remove that of one with OTP pairs.
BOX_HOME = "rehearsal-box"
# What the preflight of a rehearsal asks about and nobody has to accept. Of the simulated tenant: some devices are
# missing on purpose. Of a box: what is hopeless in it on purpose.
ACCEPTED = frozenset(
    {"token_not_in_inventory", "user_not_found"}
    | {"user_ambiguous", "account_not_usable", "too_many_devices", "token_differs", "token_taken"}
)


def rehearse(
    tokens: Annotated[int, typer.Option(min=1, metavar="N", help="How many tokens to make up.")] = 500,
    rate: Annotated[
        float | None, typer.Option(help="Requests a second, and no more. Default: PINGONE_RATE, and adapting.")
    ] = None,
    box: Annotated[
        bool, typer.Option("--box", help="A made-up box of seeds, the whole way: found, imported, paired, activated.")
    ] = False,
) -> None:
    """Rehearse the whole job against the built-in simulator: no accounts, no servers."""
    ensure_installed()
    here = Installation()
    homes = find_rehearsals_home(here.settings.home)
    with lock_home(homes), replacing_home(homes / (BOX_HOME if box else BATCH)) as home:
        made = make_box_to_rehearse(tokens) if box else _make_pairs(tokens)
        made.write_world(home / "world.json")
        shipment = _open_made(made, home)
        with running_simulator(home) as port:
            if box:
                print_box(tokens, made.expected, home / BOX)
            variables = point_at_rehearsal(here.variables, home, port, made)
            if rate is not None:
                variables["PINGONE_RATE"] = variables["PINGONE_RATE_MAX"] = str(rate)
            installation = Installation(variables, makes_home=True)
            request = LoadRequest(BATCH, accepted=ACCEPTED)
            code = run_shipment(installation, shipment, request, "`oathbulk rehearse` begins anew.")
        raise typer.Exit(code if code == INTERRUPTED else judge_endings(installation, BATCH, made.expected))


def _make_pairs(tokens: int) -> MadeShipment:
    """Make up so many tokens with OTP pairs, and a few hopeless ones among them."""
    from worker.simulator.shipment import A_FEW_HOPELESS, make_shipment

    return make_shipment(tokens, hopeless=A_FEW_HOPELESS if tokens >= 10 * len(A_FEW_HOPELESS) else {})


def _open_made(made: MadeShipment, home: Path) -> Shipment:
    """Write the files of made-up tokens, in the clear, and open them as the shipment that is to be loaded."""
    from worker.simulator.box import Box

    if isinstance(made, Box):
        return open_box(made, home / BOX)
    made.write_pairs(home / "shipment.csv")
    return open_shipment(home / "shipment.csv")
