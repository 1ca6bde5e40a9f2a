"""`inpo game`: algorithms on exact games, where the answer is known."""

from pathlib import Path
from typing import Annotated

import typer

from services.cli.failures import UserError, reported

HELP = """
Play algorithms on an exact game and see which of them reach its Nash policy.

GAME is a preset (rock-paper-scissors, biased, weak-kl, random, cycles), a CSV file with a square matrix of
P(row beats column), or a .jsonl file of cycles. Every algorithm runs the plan that the services run, each of its losses
replaced by its exact minimiser. 0 is the Nash policy; the duality gap says what an opponent could gain.
"""

EXAMPLES = """
\b
Each -a is an algorithm with its parameters; those left out have defaults (eta = tau + 1/2):
  inpo game
  inpo game rock-paper-scissors -a egpo -a iterative_dpo:beta=0.8 -a iterative_dpo:beta=0.4,reference=fixed
  inpo game weak-kl --stability -a inpo:eta=0.03 -a inpo:eta=theorem4 -a nash_mp --iterations 1000
  inpo game random --seed 7 --responses 50 --tau 0.02 --plot random.png
  inpo game mine.csv --reference 0.6,0.3,0.1 -a mnpo:ratio=0.4,weights=2/1 -a sppo:update=loss
"""

DEFAULT = ("inpo", "egpo", "nash_mp", "nash_md", "iterative_dpo", "inpo_no_kl")


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(help=HELP, epilog=EXAMPLES)(game)


def game(
    source: Annotated[str, typer.Argument(metavar="[GAME]", help="A preset or a file.")] = "biased",
    algorithm: Annotated[
        list[str] | None,
        typer.Option("--algorithm", "-a", metavar="NAME[:KEY=VALUE,...]", help="Repeat it to compare."),
    ] = None,
    iterations: Annotated[int, typer.Option(min=1, max=100_000, help="Iterations of each algorithm.")] = 30,
    tau: Annotated[float | None, typer.Option(help="Strength of the KL; the preset's own by default.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the preset `random`.")] = 0,
    responses: Annotated[int, typer.Option(help="Responses of the preset `random`.")] = 8,
    row: Annotated[int, typer.Option(help="Which cycle of a .jsonl file, from 1.")] = 1,
    reference: Annotated[
        str | None, typer.Option(help="The reference policy, as 0.6,0.3,0.1, which it is in a cycle; else uniform.")
    ] = None,
    stability: Annotated[bool, typer.Option("--stability", help="For which eta a constant step converges.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Write a plot (PNG, SVG or PDF) here.")] = None,
) -> None:
    """Play algorithms on an exact game and see which of them reach its Nash policy."""
    from services.cli.game import views  # noqa: PLC0415
    from services.cli.game.sources import Choice, load_game  # noqa: PLC0415
    from services.cli.views.screen import screen  # noqa: PLC0415

    with reported():
        named = load_game(Choice(source, tau, seed, responses, row, reference))
        entries = [views.parse_entry(text) for text in algorithm or DEFAULT]
        courses = [views.play(named.game, entry, iterations) for entry in entries]
        console = screen()
        try:
            console.print(views.game_table(named))
        except ArithmeticError as error:
            raise UserError(f"{named.title}: {error}") from None
        console.print(views.course_table(courses, iterations))
        for course in courses:
            if course.failure is not None:
                console.print(f"{course.entry.label}: {course.failure}", markup=False, soft_wrap=True)
        if stability:
            for line in views.stability_lines(named.game, entries):
                style = "yellow" if line.startswith("warning") else None
                console.print(line, markup=False, soft_wrap=True, style=style)
        if plot is not None:
            written = views.write_plot(plot, named, courses)
            console.print(f"plot: {written}", markup=False, soft_wrap=True)
