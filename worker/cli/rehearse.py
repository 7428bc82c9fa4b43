"""`oathbulk rehearse`: the whole job against the simulator, in a home of its own beside the home."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.exit_codes import ALL_ACTIVE, INTERRUPTED
from worker.cli.export import export_hand_out
from worker.cli.homes import find_rehearsals_home
from worker.cli.load_request import LoadRequest
from worker.cli.option_sets import takes_option_sets
from worker.cli.rehearsal_stage import ensure_installed, point_at_rehearsal, replacing_home, running_simulator
from worker.cli.rehearsed_box import BOX, make_box_to_rehearse, print_box
from worker.cli.rehearsed_endings import judge_endings
from worker.cli.rehearsed_tokens import make_seeds, make_shipment_for, open_made
from worker.cli.run import run_shipment
from worker.cli.source_options import SourceOptions
from worker.embedded.home import lock_home
from worker.installation.installation import Installation
from worker.intake import Shipment

if TYPE_CHECKING:
    from worker.simulator.seed_shipment import MadeSeeds
    from worker.simulator.shipment import MadeShipment

# The name of the batch, and of a rehearsal's home.
BATCH = "rehearsal"
# The name of the home of a rehearsal with a box, which so does not remove that of one with OTP pairs.
BOX_HOME = "rehearsal-box"
# What the preflight of a rehearsal asks about and nobody has to accept. Of the simulated tenant: some devices are
# missing on purpose. Of a box: what is hopeless in it on purpose. Of a person's own files: a rehearsal harms nobody.
ACCEPTED = frozenset(
    {"token_not_in_inventory", "user_not_found"}
    | {"user_ambiguous", "account_not_usable", "too_many_devices", "token_differs", "token_taken"}
    | {"not_in_box", "person_twice", "list_lines", "stale_otp"}
)
# Settings of a rehearsal with seeds, of which some answers get lost. The simulator does not act on those calls, so a
# device may be read after a second; and the third OTP of some tokens must be allowed.
FOR_SEEDS = {"OATHBULK_READ_DELAY": "1", "OATHBULK_OTP_POST_BUDGET": "3"}


@takes_option_sets
def rehearse(
    source: SourceOptions,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Your own shipment. Default: made up.")] = None,
    tokens: Annotated[int, typer.Option(min=1, metavar="N", help="How many tokens to make up.")] = 500,
    rate: Annotated[
        float | None, typer.Option(help="Requests a second, and no more. Default: PINGONE_RATE, and adapting.")
    ] = None,
    box: Annotated[
        bool, typer.Option("--box", help="A made-up box of seeds, the whole way: found, imported, paired, activated.")
    ] = False,
    first_morning: Annotated[
        bool, typer.Option("--first-morning", help="Made-up seeds; then everybody signs on, half by the hand-out.")
    ] = False,
) -> None:
    """Rehearse the whole job against the built-in simulator: no accounts, no servers."""
    _refuse_what_excludes(source, file, is_box=box, is_morning=first_morning)
    ensure_installed()
    here = Installation()
    homes = find_rehearsals_home(here.settings.home)
    with lock_home(homes), replacing_home(homes / (BOX_HOME if box else BATCH)) as home:
        own = source.open(file) if file else None
        seeds = make_seeds(tokens) if first_morning else None
        made = seeds or (make_box_to_rehearse(tokens) if box else make_shipment_for(own, tokens))
        simulator = running_simulator(home, is_controlled=first_morning)
        with _files_written(made, home, own) as shipment, simulator as port:
            if box:
                print_box(tokens, made.expected, home / BOX)
            variables = point_at_rehearsal(here.variables, home, port, made)
            if rate is not None:
                variables["PINGONE_RATE"] = variables["PINGONE_RATE_MAX"] = str(rate)
            installation = Installation(variables | (FOR_SEEDS if seeds else {}), makes_home=True)
            request = LoadRequest(BATCH, accepted=ACCEPTED)
            run = partial(run_shipment, installation, shipment, request, "`oathbulk rehearse` begins anew.")
            code, morning = _run_until_morning(installation, seeds, port, run) if seeds else (run(), ALL_ACTIVE)
        if code == INTERRUPTED:
            raise typer.Exit(code)
        raise typer.Exit(judge_endings(installation, BATCH, made.expected) or morning)


def _refuse_what_excludes(source: SourceOptions, file: Path | None, *, is_box: bool, is_morning: bool) -> None:
    """Refuse options of which one makes another useless. Raises typer.BadParameter."""
    if is_box and is_morning:
        raise typer.BadParameter(
            "leave out --box: its tokens are paired already, and in people's hands", param_hint="--first-morning"
        )
    if file and (is_box or is_morning):
        option = "--box" if is_box else "--first-morning"
        raise typer.BadParameter("leave out the file: it takes made-up tokens", param_hint=option)
    if file and source.may_pair:
        raise typer.BadParameter(
            "your own file is rehearsed with the user_id and device_id of each row; a made-up box goes the whole way: "
            "`oathbulk rehearse --box`",
            param_hint="--pair",
        )
    if not file and (words := source.to_words()):
        raise typer.BadParameter("it says how your own file is read, and no file is given", param_hint=words[0])


def _run_until_morning(
    installation: Installation, made: MadeSeeds, port: int, run: Callable[[], int]
) -> tuple[int, int]:
    """Run the batch while some answers get lost, export its hand-out, and let the people sign on. Returns the exit
    codes of the run and of the morning."""
    # Not at the top: its HTTP client takes long to import, and no other command needs it.
    from worker.cli.first_morning import Simulator, play_first_morning

    hand_out = installation.settings.home / "hand-out.csv"
    with closing(Simulator(f"http://127.0.0.1:{port}")) as simulator:
        simulator.lose_answers(made.answers_lost)
        code = run()
        if code == INTERRUPTED:
            return code, ALL_ACTIVE
        export_hand_out(installation, BATCH, hand_out)
        return code, play_first_morning(made, hand_out, simulator)


@contextmanager
def _files_written(made: MadeShipment, home: Path, own: Shipment | None) -> Iterator[Shipment]:
    """Write the file of devices, and of the tokens unless they are a person's own, in the clear. A person's own are
    removed after the rehearsal. Yields what is to be loaded."""
    world = home / "world.json"
    try:
        made.write_world(world)
        yield own or open_made(made, home)
    finally:
        if own is not None:
            world.unlink(missing_ok=True)
