# matplotlib is only partly typed; it is imported when a plot is asked for, because that takes a second.
# pyright: reportUnknownMemberType=false
"""The demo's report for people: a table a method, both methods side by side, a plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from services.cli.demo.report import Measure, Row
from services.oracle.rules import styles
from shared.inpo.games import Vector

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLES = {"inpo": "INPO", "iterative_dpo": "iterative DPO"}
_COLOURS = {"inpo": "tab:blue", "iterative_dpo": "tab:red"}
_STYLE_COLOURS = ("tab:gray", "tab:green", "tab:orange", "tab:purple")
_COLUMNS = (
    "iteration",
    *styles.STYLE_NAMES[1:],
    "invalid",
    "duality gap",
    "KL to Nash",
    "win rate",
    "chosen shift",
    "rejected shift",
    "seconds",
)


def method_table(method: str, rows: Sequence[Row], nash: Vector) -> Table:
    """Every measurement of one method, the exact Nash policy below."""
    table = Table(title=TITLES[method], title_justify="left")
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*cells(row))
    table.add_section()
    table.add_row("Nash", *(f"{share:.3f}" for share in nash[1:]), f"{nash[0]:.3f}", "0", "0", *[""] * 4)
    return table


def cells(row: Row) -> list[str]:
    """A row as text, in the order of the table's columns."""
    shifts = (row.chosen_log_prob_shift, row.rejected_log_prob_shift)
    return [
        str(row.iteration) if row.iteration else "0 (reference)",
        *(f"{share:.3f}" for share in row.style_shares),
        f"{row.invalid_share:.3f}",
        f"{row.duality_gap:.4f}",
        f"{row.kl_to_nash:.4f}",
        f"{row.win_rate_vs_reference:.3f}",
        *("" if shift is None else f"{shift:+.3f}" for shift in shifts),
        f"{row.seconds:.1f}",
    ]


def line(method: str, row: Row) -> str:
    """A row as one line, for the moment that it is measured."""
    shares = " ".join(
        f"{name} {share:.2f}" for name, share in zip(styles.STYLE_NAMES[1:], row.style_shares, strict=True)
    )
    shifts = ""
    if row.chosen_log_prob_shift is not None and row.rejected_log_prob_shift is not None:
        shifts = f" · chosen {row.chosen_log_prob_shift:+.2f}, rejected {row.rejected_log_prob_shift:+.2f} nats"
    return (
        f"{TITLES[method]} {row.iteration or 'reference'} · gap {row.duality_gap:.4f} · KL to Nash {row.kl_to_nash:.4f}"
        f" · {shares} invalid {row.invalid_share:.3f} · win rate {row.win_rate_vs_reference:.3f}{shifts}"
        f" · {row.seconds:.1f} s"
    )


def comparison_table(runs: Mapping[str, Sequence[Row]]) -> Table:
    """Gap, KL and invalid share of all methods, iteration by iteration."""
    table = Table(title="side by side", title_justify="left")
    table.add_column("iteration", justify="right")
    for method in runs:
        for name in ("duality gap", "KL to Nash", "invalid"):
            table.add_column(f"{TITLES[method]}\n{name}", justify="right")
    for number in range(max(len(rows) for rows in runs.values())):
        row_cells: list[str] = []
        for rows in runs.values():
            known = rows[number] if number < len(rows) else None
            row_cells += (
                ["", "", ""]
                if known is None
                else [f"{known.duality_gap:.4f}", f"{known.kl_to_nash:.4f}", f"{known.invalid_share:.3f}"]
            )
        table.add_row(str(number), *row_cells)
    return table


def verdict(runs: Mapping[str, Sequence[Row]]) -> str:
    """The comparison in a sentence or two."""
    ours, theirs = runs["inpo"], runs["iterative_dpo"]
    first, last, other = ours[0].duality_gap, ours[-1].duality_gap, theirs[-1].duality_gap
    return (
        f"INPO closed the duality gap from {first:.3f} to {last:.4f} in {ours[-1].iteration} iterations; "
        f"iterative DPO, on the same budget, ends at {other:.3f}, {other / max(last, 1e-12):.0f} times that."
    )


def write_plot(path: Path, measure: Measure, runs: Mapping[str, Sequence[Row]]) -> None:
    """A PNG: the gap of all methods on a logarithmic scale, and each method's shares against the Nash policy's."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    figure = Figure(figsize=(5.0 * (1 + len(runs)), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes: list[Axes] = list(figure.subplots(1, 1 + len(runs)))
    for method, rows in runs.items():
        numbers = [row.iteration for row in rows]
        axes[0].plot(
            numbers, [row.duality_gap for row in rows], marker="o", label=TITLES[method], color=_COLOURS[method]
        )
    axes[0].set(title="duality gap (exact game)", xlabel="iteration", yscale="log")
    axes[0].legend()
    for axis, (method, rows) in zip(axes[1:], runs.items(), strict=True):
        _plot_shares(axis, rows, measure.nash)
        axis.set(title=f"{TITLES[method]}: shares (dashed: Nash policy)", xlabel="iteration", ylim=(-0.02, 1.02))
    axes[1].legend()
    for axis in axes:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.savefig(path, dpi=120)


def _plot_shares(axis: "Axes", rows: Sequence[Row], nash: Vector) -> None:
    numbers = [row.iteration for row in rows]
    for action, name in enumerate(styles.STYLE_NAMES):
        shares = [row.style_shares[action - 1] if action else row.invalid_share for row in rows]
        axis.plot(numbers, shares, marker=".", label=name, color=_STYLE_COLOURS[action])
        axis.axhline(float(nash[action]), linestyle="--", linewidth=0.8, color=_STYLE_COLOURS[action])
