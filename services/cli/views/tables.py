"""Runs, iterations, weights and samples as tables."""

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from shared.contracts.records import Commit, Estimate, Sample
from shared.contracts.rest.runs import IterationView, Progress, RunDetail, RunView, WeightsView
from shared.contracts.weights import WeightVersion

STATE_STYLES = {
    "running": "cyan",
    "succeeded": "green",
    "failed": "bold red",
    "cancelled": "yellow",
    "paused": "yellow",
    "queued": "dim",
    "unreadable": "bold red",
}
SHIFTS = ("chosen_log_prob_shift", "rejected_log_prob_shift")
_SAMPLE_CHARACTERS = 400


def runs_table(runs: Sequence[RunView]) -> Table:
    """One row a run, newest first."""
    table = _table("run", "state", "iteration", "phase", "win rate", "KL", "created")
    for run in runs:
        progress, latest = run.progress, run.latest
        table.add_row(
            Text(run.id),
            state_text(run.state),
            iteration_text(progress),
            phase_text(run),
            estimate(latest.win_rate if latest else None),
            estimate(latest.kl if latest else None, digits=2),
            run.created_at[:19].replace("T", " "),
        )
    return table


def iterations_table(rows: Sequence[IterationView]) -> Table:
    """One row a weight version; row 0 is the reference policy."""
    table = _table("iteration", "win rate", "KL", "pairs", "loss", "seconds", "warnings")
    table.caption = "win rate against the reference policy's responses; KL to it, in nats a response; 95 % intervals"
    table.caption_justify = "left"
    for row in rows:
        table.add_row(*iteration_cells(row))
    return table


def iteration_cells(row: IterationView) -> list[str | Text]:
    """The cells of an iteration; a measurement that is not there yet is an ellipsis, an inapplicable one empty."""
    commit, evaluation = row.commit, row.evaluation
    metrics = commit.metrics if commit is not None else {}
    return [
        str(row.iteration) if commit is not None else "0 (reference)",
        estimate(evaluation.win_rate) if evaluation is not None else "…",
        estimate(evaluation.kl, digits=2) if evaluation is not None else "…",
        str(commit.num_pairs) if commit is not None else "",
        f"{metrics['loss']:.4g}" if "loss" in metrics else "",
        f"{metrics['seconds']:.1f}" if "seconds" in metrics else "",
        Text("; ".join(evaluation.warnings) if evaluation is not None else "", style="bold yellow"),
    ]


def measurements_table(rows: Sequence[IterationView]) -> Table:
    """What training did in each iteration; shared.contracts.metrics says what each figure is."""
    table = _table(
        "iteration", "h", "target", "h > 0", "|D|", "chosen", "rejected", "KL to last", "identical", "dropped"
    )
    table.caption = (
        "h: margin over the anchor, mean; |D|: mean log-ratio of the pairs; chosen, rejected: change of log pi"
    )
    table.caption_justify = "left"
    for row in rows:
        if row.commit is not None:
            metrics, evaluation = row.commit.metrics, row.evaluation
            table.add_row(
                str(row.iteration),
                *(_number(metrics, name) for name in ("margin_mean", "target_mean")),
                _share(metrics, "margin_positive_share"),
                *(_number(metrics, name) for name in ("log_ratio_abs_mean", *SHIFTS)),
                estimate(evaluation.kl_to_previous, digits=2) if evaluation is not None else "…",
                _share(metrics, "identical_pair_share"),
                Text(dropped_text(row.commit)),
            )
    return table


def dropped_text(commit: Commit) -> str:
    """What an iteration left out, by reason."""
    return ", ".join(f"{count} x {reason}" for reason, count in commit.dropped.items())


def gap_table(rows: Sequence[IterationView]) -> Table:
    """The duality gap of each weight version that it was measured of."""
    table = _table(
        "iteration", "duality gap", "at least", "proven by", "effective samples", "comparisons", "no estimate"
    )
    table.caption = "distance from the Nash policy, which has gap 0; 95 % intervals"
    table.caption_justify = "left"
    for row in rows:
        gap = row.evaluation.duality_gap if row.evaluation is not None else None
        if gap is not None:
            table.add_row(
                str(row.iteration) if row.commit is not None else "0 (reference)",
                estimate(gap.estimate),
                f"{gap.lower_bound.low:.3f}" if gap.lower_bound is not None else "",
                Text(gap.found_by or ""),
                f"{gap.effective_samples:.1f}" if gap.effective_samples is not None else "",
                f"{gap.num_comparisons:,}",
                Text(gap.refusal or "", style="yellow"),
            )
    return table


def weights_table(weights: Sequence[WeightsView], promoted: WeightVersion | None = None) -> Table:
    """One row a committed weight version; the promoted one is marked."""
    table = _table("run", "version", "digest", "parameters", "size", "promoted", "directory")
    for view in weights:
        table.add_row(
            Text(view.version.run),
            str(view.version.number),
            view.version.digest[:12],
            f"{view.num_parameters:,}",
            f"{view.size_bytes / 2**20:.1f} MiB",
            Text("promoted" if view.version == promoted else "", style="green"),
            Text(view.path, overflow="fold"),
        )
    return table


def samples_table(samples: Sequence[Sample]) -> Table:
    """Responses before and after, side by side."""
    table = Table(title="samples", title_justify="left", show_lines=True)
    for name in ("prompt", "reference policy", "aligned policy"):
        table.add_column(name, overflow="fold", ratio=1)
    for sample in samples:
        table.add_row(*(Text(_cut(text)) for text in (sample.prompt, sample.reference, sample.response)))
    return table


def facts_table(run: RunDetail) -> Table:
    """What is known of one run, a line each."""
    table = Table.grid(padding=(0, 2))
    facts: list[tuple[str, str | Text]] = [
        ("run", Text(run.id)),
        ("state", state_text(run.state)),
        ("phase", phase_text(run)),
        *_spec_facts(run),
        ("weights", Text(str(run.weights)) if run.weights is not None else "none yet"),
        ("prompts", _prompts_text(run)),
        ("created", run.created_at),
    ]
    if run.reason:
        facts.insert(2, ("reason", Text(run.reason, style=STATE_STYLES.get(run.state, ""))))
    for name, value in facts:
        table.add_row(Text(name, style="dim"), value)
    return table


def _spec_facts(run: RunDetail) -> list[tuple[str, str | Text]]:
    if run.spec is None:
        return []
    return [("algorithm", run.spec.algorithm.name), ("model", Text(run.spec.model.path))]


def _prompts_text(run: RunDetail) -> str:
    parts = [str(run.num_prompts)]
    parts += [f"{run.num_skipped} rows skipped when read"] if run.num_skipped else []
    return ", ".join(parts)


def state_text(state: str) -> Text:
    """The state in its colour."""
    return Text(state, style=STATE_STYLES.get(state, ""))


def iteration_text(progress: Progress) -> str:
    """`2/3`, and the half-step where an iteration has several: `2/3 (half-step 1/2)`."""
    half = f" (half-step {progress.half}/{progress.num_halves})" if progress.num_halves > 1 else ""
    return f"{progress.iteration}/{progress.num_iterations}{half}"


def phase_text(run: RunView) -> str:
    """The phase with its progress where it has any, and what holds it up."""
    progress = run.progress
    counts = f" {progress.done}/{progress.total}" if progress.total > 1 and run.state == "running" else ""
    dead = f", {progress.dead} given up" if progress.dead else ""
    held_up = f", held up: {progress.waiting}" if progress.waiting else ""
    return f"{progress.phase}{counts}{dead}{held_up}"


def estimate(value: Estimate | None, digits: int = 3) -> str:
    """A mean with its 95 % interval."""
    if value is None:
        return ""
    return f"{value.mean:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def _number(metrics: Mapping[str, float], name: str) -> str:
    return f"{metrics[name]:.3g}" if name in metrics else ""


def _share(metrics: Mapping[str, float], name: str) -> str:
    return f"{metrics[name]:.1%}" if name in metrics else ""


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=index == 0)
    return table


def _cut(text: str) -> str:
    return text if len(text) <= _SAMPLE_CHARACTERS else text[:_SAMPLE_CHARACTERS] + " …"
