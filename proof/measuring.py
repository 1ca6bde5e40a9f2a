"""From a finished run's artifacts to what a case keeps of it."""

import itertools
import subprocess
from pathlib import Path

from benchmarks.idle import read_spans
from proof.results import Iterate
from services.cli.client import Api
from services.cli.demo.report import style_counts
from services.cli.demo.run import evaluation_rollouts
from services.cli.launcher.up import RunningSystem
from shared.contracts.plans import HalfStepPlan
from shared.contracts.records import ReferenceScores, Verdict
from shared.contracts.rest.runs import IterationView
from shared.store.artifacts import layout
from shared.store.artifacts.store import ArtifactStore, DirectoryStore, read_model
from shared.store.artifacts.tables import read_table


def iterates(system: RunningSystem, run: str) -> list[Iterate]:
    """Every measured weight version of a run, the reference policy first."""
    store = DirectoryStore(system.store_dir)
    judging = _judging_seconds(system.logs, run)
    return [
        _iterate(store, run, row, judging.get(row.iteration, 0.0))
        for row in Api(system.url).iterations(run)
        if row.evaluation is not None
    ]


def _iterate(store: ArtifactStore, run: str, row: IterationView, judging_s: float) -> Iterate:
    evaluation = row.evaluation
    assert evaluation is not None
    scores = layout.scores(layout.evaluation(run, row.iteration))
    ratios = read_model(store, scores, ReferenceScores).log_ratios if row.iteration else [0.0]
    return Iterate(
        counts=tuple(int(count) for count in style_counts(evaluation_rollouts(store, run, row.iteration))),
        mean_response_tokens=evaluation.mean_response_tokens,
        kl=None if evaluation.kl is None else evaluation.kl.mean,
        log_ratio_max=max(abs(ratio) for ratio in ratios),
        comparisons=0 if row.commit is None else _comparisons(store, run, row.iteration),
        judging_s=judging_s,
        metrics={} if row.commit is None else row.commit.metrics,
    )


def _comparisons(store: ArtifactStore, run: str, iteration: int) -> int:
    """Comparisons that the oracle answered for an iteration's half-steps."""
    total = 0
    for half in itertools.count(1):
        step = layout.half_step(run, iteration, half)
        plan = read_model(store, layout.plan(step), HalfStepPlan)
        if plan.same_pairs_as is None:
            total += sum(len(read_table(store, layout.judgments(step, shard.index), Verdict)) for shard in plan.shards)
        if half == plan.num_halves:
            return total
    raise AssertionError("unreachable")


def _judging_seconds(logs: Path, run: str) -> dict[int, float]:
    """Seconds that the oracle worked, by iteration; evaluations are not counted."""
    found: dict[int, float] = {}
    for span in read_spans(logs, run):
        step = str(span.fields.get("step", ""))
        if span.name == "judge" and step.startswith(f"{layout.iterations(run)}/"):
            iteration = int(step.removeprefix(f"{layout.iterations(run)}/").partition("/")[0])
            found[iteration] = found.get(iteration, 0.0) + span.end_s - span.start_s
    return found


def peak_memory_bytes(process: int) -> int:
    """The most memory that a process has held since `forget_peak`."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/{process}/status names no VmHWM")


def forget_peak(process: int) -> None:
    """Start measuring `peak_memory_bytes` anew."""
    Path(f"/proc/{process}/clear_refs").write_text("5")


def commit() -> str:
    """The commit that is checked out, with a + where the working tree differs from it."""
    asked = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
