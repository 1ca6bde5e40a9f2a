# matplotlib is only partly typed.
# pyright: reportUnknownMemberType=false
"""docs/proof.md while it is written: text, tables, plots, and claims that held or did not."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from proof.cases import Case
from proof.results import Course, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence about the figures, and whether they bear it out."""

    text: str
    held: bool


@dataclass(slots=True)
class Page:
    """Markdown lines, plots in a folder beside the page, and the claims made on it."""

    path: Path
    results: Results
    seeds: Sequence[int]
    lines: list[str] = field(default_factory=list[str])
    claims: list[Claim] = field(default_factory=list[Claim])

    @property
    def coverage(self) -> Path:
        """The figures of the gap estimate's coverage, where they have been measured."""
        return self.results.folder / "gap-coverage.json"

    def courses(self, cases: Sequence[Case]) -> list[Course]:
        """The finished ones of these cases."""
        return self.results.finished(cases)

    def heading(self, text: str) -> None:
        """A section."""
        self.lines += ["", f"## {text}", ""]

    def text(self, text: str) -> None:
        """A paragraph."""
        self.lines += ["", text, ""]

    def table(self, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A table; the first column is text, the others are figures."""
        self.lines += ["", _row(header), _row(["---", *["---:"] * (len(header) - 1)])]
        self.lines += [*(_row(row) for row in rows), ""]

    def claim(self, text: str, held: bool) -> None:
        """A sentence that the figures must bear out, marked as they do."""
        self.claims.append(Claim(text, bool(held)))
        self.lines += [f"* **{'held' if held else 'NOT HELD'}**: {text}"]

    def plot(self, name: str, caption: str, draw: "Callable[[Sequence[Axes]], None]", num_axes: int = 1) -> None:
        """A picture `NAME.png`, drawn by `draw` on so many axes side by side."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415

        figure = Figure(figsize=(5.2 * num_axes, 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        axes: list[Axes] = list(figure.subplots(1, num_axes, squeeze=False)[0])
        draw(axes)
        folder = self.path.with_suffix("")
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(folder / f"{name}.png", dpi=90, metadata={"Software": None})
        self.lines += ["", f"![{caption}]({folder.name}/{name}.png)", "", f"*{caption}*", ""]

    def write(self) -> None:
        """The file, with one empty line where there would be several."""
        text = "\n".join(self.lines)
        while "\n\n\n" in text:
            text = text.replace("\n\n\n", "\n\n")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(text.strip() + "\n")


def spread(values: Sequence[float], digits: int = 4) -> str:
    """`0.0036 (0.0010 – 0.0077)`: median and extremes; a single value alone."""
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f} – {max(values):.{digits}f})"


def by_algorithm(courses: Iterable[Course]) -> dict[str, list[Course]]:
    """Courses of the same algorithm and parameters together, by label, in the order of their first."""
    found: dict[str, list[Course]] = {}
    for course in courses:
        found.setdefault(course.label, []).append(course)
    return found


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
