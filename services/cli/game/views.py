# matplotlib is only partly typed; it is imported when a plot is asked for, because that takes a second.
# pyright: reportUnknownMemberType=false
"""What `inpo game` shows: the game, algorithms side by side, how each of them ends, a plot."""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from services.cli.failures import UserError
from services.cli.game.sources import NamedGame
from shared.inpo.games import FiniteGame, Vector, trajectory
from shared.inpo.plan import Parameters

PARAMETERS = (*(item.name for item in fields(Parameters)), "update")
NASH_GAP, STILL = 1e-8, 1e-9
LONG_RUN = 2000
LABELLED = 12
# Some courses are the same, EGPO's and Nash-MP's above all: the one below shows through.
DASHES = ("-", "-", "--", "-.")


@dataclass(frozen=True, slots=True)
class Entry:
    """An algorithm with its parameters, as `name` or `name:key=value,key=value`."""

    label: str
    algorithm: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Course:
    """Duality gap and KL to Nash of an entry's iterates 0 ... T, or the reason why there are none."""

    entry: Entry
    gaps: Vector
    kls: Vector
    failure: str | None = None


def parse_entry(text: str) -> Entry:
    """`egpo`, `inpo:eta=theorem4`, `mnpo:ratio=0.4,weights=2/1`; a `UserError` where it is not of that form."""
    name, _, rest = text.partition(":")
    parameters: dict[str, Any] = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if not (key and equals and value):
            raise UserError(f"--algorithm {text}: {item!r} is not of the form key=value")
        if key not in PARAMETERS or key in parameters:
            known = "given twice" if key in parameters else f"no parameter of any: {', '.join(PARAMETERS)}"
            raise UserError(f"--algorithm {text}: `{key}` is {known}")
        parameters[key] = _value(key, value)
    return Entry(text, name, parameters)


def play(game: FiniteGame, entry: Entry, num_iterations: int) -> Course:
    """The entry's course; a `UserError` where its name or a parameter does not fit."""
    try:
        policies = trajectory(game, entry.algorithm, num_iterations, **entry.parameters)
    except ValueError as error:
        raise UserError(f"--algorithm {entry.label}: {error}") from None
    except ArithmeticError as error:
        return Course(entry, np.array([]), np.array([]), str(error))
    gaps = np.array([game.duality_gap(policy) for policy in policies])
    return Course(entry, gaps, np.array([game.kl_to_nash(policy) for policy in policies]))


def game_table(named: NamedGame) -> Table:
    """Reference and Nash policy, response by response; of large games those that the Nash policy gives most."""
    game, nash = named.game, named.game.nash()
    table = Table(title=f"{named.title}, tau {game.tau:g}", title_justify="left")
    for column in ("response", "reference", "Nash policy", "P(beats reference)"):
        table.add_column(column, justify="right")
    rates = game.win_rates(game.reference)
    for index in np.argsort(-nash, kind="stable")[:LABELLED] if len(nash) > LABELLED else range(len(nash)):
        table.add_row(named.labels[index], *(f"{value[index]:.4f}" for value in (game.reference, nash, rates)))
    return table


def course_table(courses: Sequence[Course], num_iterations: int) -> Table:
    """Duality gap and KL to Nash of every algorithm at some iterations."""
    table = Table(title="duality gap · KL to Nash", title_justify="left")
    table.add_column("iteration", justify="right")
    for course in courses:
        table.add_column(course.entry.label, justify="right")
    for iteration in shown_iterations(num_iterations):
        cells = [_cell(course, iteration) for course in courses]
        table.add_row(str(iteration), *cells)
    return table


def shown_iterations(num_iterations: int) -> list[int]:
    """0, 1, 2, 3, 5, 10, 20, 30, 50, 100 ... and the last."""
    marks = {number * 10**power for number in (1, 2, 3, 5) for power in range(7)} | {0, num_iterations}
    return sorted(mark for mark in marks if mark <= num_iterations)


def stability_lines(game: FiniteGame, entries: Iterable[Entry]) -> list[str]:
    """For which eta a constant step converges, and how a long run of each algorithm ends."""
    threshold = game.stability_threshold()
    lines = [
        "without tau no constant eta makes INPO's last iterate converge; look at averages of iterates, or raise --tau"
        if game.tau == 0.0
        else f"INPO with a constant eta converges (last iterate) for eta > {threshold:.4g}"
        + (f", and needs eta >= tau = {game.tau:g}" if threshold < game.tau else "")
        + f"; the paper's eta = 3 tau is {3 * game.tau:.4g}; EGPO and Nash-MP converge from eta = tau + 1/2 for certain"
    ]
    for entry in entries:
        eta = entry.parameters.get("eta", game.tau + 0.5)
        if entry.algorithm == "inpo" and isinstance(eta, float) and eta <= threshold < math.inf:
            lines.append(
                f"warning: {entry.label}: eta = {eta:.4g} is not above {threshold:.4g}: the last iterate circles"
            )
        lines.append(f"{entry.label}: {_ending(play(game, entry, LONG_RUN))}")
    return lines


def write_plot(path: Path, named: NamedGame, courses: Sequence[Course]) -> Path:
    """A PNG (or whatever the suffix says): duality gap and KL to Nash per iteration, logarithmically; its path."""
    if path.is_dir():
        raise UserError(f"--plot {path}: a directory; name a file in it")
    path = path if path.suffix else path.with_suffix(".png")
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(11.0, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    gap_axis, kl_axis = figure.subplots(1, 2)
    for course, dashes in zip(courses, itertools.cycle(DASHES)):
        label = course.entry.label + (" (no minimiser)" if course.failure is not None else "")
        for axis, values in ((gap_axis, course.gaps), (kl_axis, course.kls)):
            axis.plot(np.maximum(values, 1e-16), label=label, linewidth=1.4, linestyle=dashes)
    for axis, title in ((gap_axis, "duality gap"), (kl_axis, "KL(Nash || policy)")):
        axis.set(title=title, xlabel="iteration", yscale="log")
    gap_axis.legend(fontsize="small")
    figure.suptitle(f"{named.title}, tau {named.game.tau:g}")
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise UserError(f"--plot {path}: {error}") from None
    return path


def _ending(course: Course) -> str:
    if course.failure is not None:
        return course.failure
    gaps: NDArray[np.float64] = course.gaps
    third, last = gaps[len(gaps) // 2 : -len(gaps) // 4], gaps[-len(gaps) // 4 :]
    if last.max() < NASH_GAP:
        reached = int(np.argmax(gaps < NASH_GAP))
        return f"reaches the Nash policy (a duality gap below {NASH_GAP:g} after {reached} iterations)"
    if float(np.ptp(last)) < STILL:
        return f"settles beside the Nash policy, at a duality gap of {last[-1]:.3g}"
    if last.max() < 0.95 * third.max():
        return f"still closing in after {LONG_RUN} iterations, at a duality gap of {last[-1]:.3g}"
    return (
        f"does not settle: in its last {len(last)} iterations the duality gap is {last.min():.3g} to {last.max():.3g}"
    )


def _cell(course: Course, iteration: int) -> str:
    if course.failure is not None:
        return "no minimiser"
    return f"{max(course.gaps[iteration], 0.0):.2e} · {max(course.kls[iteration], 0.0):.2e}"


def _value(key: str, text: str) -> Any:
    if key == "weights":
        return tuple(_number(key, part) for part in text.split("/"))
    if key in ("reference", "opponents", "update", "schedule") or (key, text) == ("eta", "theorem4"):
        return text
    return _number(key, text)


def _number(key: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{key}={text}: a number is needed{', or theorem4' if key == 'eta' else ''}") from None
