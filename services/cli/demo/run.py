"""The demo: the project's own tiny model, aligned through the real services by INPO and by iterative DPO."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from services.cli.client import Api
from services.cli.demo import views
from services.cli.demo.report import Measure, Row, exact_game, report, style_counts
from services.cli.failures import ApiError, UserError
from services.cli.launcher.up import UpOptions, running_system
from services.cli.launcher.vllm import Engine, VllmOptions
from services.cli.views.screen import screen
from services.cli.views.tables import iteration_text
from services.cli.views.watching import ENDED, POLL_S, SLOWEST_POLL_S, progress_bar
from shared.contracts.plans import EvaluationPlan
from shared.contracts.records import Rollout
from shared.contracts.rest.runs import IterationView, RunDetail
from shared.contracts.spec import RunSpec
from shared.runtime.opening import named_store
from shared.runtime.settings import Settings
from shared.store.artifacts import layout
from shared.store.artifacts.store import ArtifactStore, read_model
from shared.store.artifacts.tables import read_table

if TYPE_CHECKING:
    from services.cli.demo.model import DemoModel

Method = Literal["inpo", "iterative_dpo"]
METHODS: tuple[Method, ...] = ("inpo", "iterative_dpo")

TAU = 0.15
ETA = 0.45
BETA = 0.8
# At 2e-4 the likelihood of whole answers wears off and leaves three times as many invalid ones, the rest of the gap.
LEARNING_RATE = 1e-4
NUM_ITERATIONS = 10
NUM_PROMPTS = 16
STATE_DIR = Path(".inpo/demo")


def demo_spec(method: Method, model_dir: Path, prompts_file: Path, seed: int, iterations: int) -> RunSpec:
    """The demo's run. Both methods sample, ask and train alike; only the algorithm differs.

    1,024 i.i.d. pairs an iteration with binary answers, as the theory wants them. Evaluated on the training prompts:
    the game is about them.
    """
    algorithm = (
        {"name": "inpo", "eta": ETA, "tau": TAU}
        if method == "inpo"
        else {"name": "iterative_dpo", "beta": BETA, "reference": "previous"}
    )
    prompts = {"path": str(prompts_file.resolve())}
    return RunSpec.model_validate(
        {
            "name": f"demo-{method.replace('_', '-')}",
            "model": {"path": str(model_dir.resolve())},
            "prompts": {"sets": [prompts], "num_per_iteration": NUM_PROMPTS, "format": "chat"},
            "sampling": {"num_responses": 128, "max_new_tokens": 16},
            "oracle": {
                "judge": {"kind": "rules", "entry_point": "services.oracle.rules.styles:cyclic_panel"},
                "answers": "binary",
            },
            "algorithm": algorithm,
            "selection": {"method": "random_pairs", "num_pairs": 64},
            "training": {"learning_rate": LEARNING_RATE, "batch_size": 32, "micro_batch_size": 32, "num_epochs": 4},
            "evaluation": {"prompts": prompts, "num_prompts": NUM_PROMPTS, "num_responses": 128},
            "iterations": iterations,
            "shard_size": 4,
            "seed": seed,
        }
    )


@dataclass(slots=True)
class Demo:
    """The demo against a running controller whose artifact store is a directory of this machine.

    `pause` waits between looks at a run.
    """

    api: Api
    store: ArtifactStore
    console: Console
    pause: Callable[[float], None] = time.sleep
    measure: Measure | None = None
    runs: dict[str, list[Row]] = field(default_factory=dict[str, list[Row]])

    def align(self, method: Method, spec: RunSpec) -> list[Row]:
        """Create the run, follow it to its end, print each row as it lands. `UserError` when it does not succeed.

        The first run's reference policy is the reference of the game for all.
        """
        rows = self.runs.setdefault(method, [])
        run = self.api.create_run(spec)
        with progress_bar(self.console) as bar:
            task = bar.add_task(views.TITLES[method], total=None)
            while True:
                view = self._look(run.id, method, rows)
                if view is None:
                    bar.update(task, description="controller unreachable, trying again", total=None)
                    self.pause(SLOWEST_POLL_S)
                    continue
                progress = view.progress
                described = f"{views.TITLES[method]} {iteration_text(progress)} {progress.phase}"
                bar.update(task, description=described, completed=progress.done, total=max(1, progress.total))
                if view.state in ENDED:
                    break
                self.pause(POLL_S)
        if view.state != "succeeded":
            raise UserError(f"the run {view.id} {view.state}: {view.reason or 'no reason given'}")
        return rows

    def _look(self, run: str, method: Method, rows: list[Row]) -> RunDetail | None:
        """The run's view, taken before its iterations are read, so that an ended run has all its rows."""
        try:
            view = self.api.run(run)
            iterations = self.api.iterations(run)
        except ApiError as error:
            if not error.retryable:
                raise
            return None
        for found in iterations:
            if found.evaluation is not None and found.iteration == len(rows):
                rows.append(self._row(run, found))
                self.console.print(views.line(method, rows[-1]), markup=False, highlight=False, soft_wrap=True)
        return view

    def _row(self, run: str, found: IterationView) -> Row:
        counts = style_counts(evaluation_rollouts(self.store, run, found.iteration))
        if self.measure is None:
            self.measure = Measure(exact_game(counts, TAU))
        evaluation = found.evaluation
        win_rate = None if evaluation is None or evaluation.win_rate is None else evaluation.win_rate.mean
        if win_rate is None and found.iteration > 0:
            raise UserError(f"no comparison of iteration {found.iteration} was judged; see the oracle's log")
        return self.measure.row(
            found.iteration, counts, win_rate, None if found.commit is None else found.commit.metrics
        )


def evaluation_rollouts(store: ArtifactStore, run: str, version: int) -> list[Rollout]:
    """All responses that were sampled to measure a weight version."""
    step = layout.evaluation(run, version)
    plan = read_model(store, layout.plan(step), EvaluationPlan)
    return [
        rollout for shard in plan.shards for rollout in read_table(store, layout.rollouts(step, shard.index), Rollout)
    ]


def cancel_unfinished(api: Api) -> None:
    """Cancel what an interrupted command left: a controller works at one run after another, the oldest first."""
    for run in api.runs():
        if run.state not in ENDED:
            api.change(run.id, "cancel")


def run_demo(
    *,
    state_dir: Path = STATE_DIR,
    out_dir: Path = Path(),
    seed: int = 0,
    iterations: int = NUM_ITERATIONS,
    engine: Engine = "transformers",
) -> Path:
    """The whole demo on this machine: a system of its own below `state_dir`, its model, both methods, the report."""
    console = screen()
    model = _model(state_dir, console)
    also = ", vLLM (a minute)" if engine == "vllm" else ""
    console.print(f"Starting Redis{also}, controller, policy, oracle and trainer …")
    options = UpOptions(vllm=VllmOptions(model.directory) if engine == "vllm" else None)
    with running_system(state_dir, options) as system:
        api = Api(system.url)
        cancel_unfinished(api)
        return demonstrate(api, system.store_dir, model, out_dir, console, seed=seed, iterations=iterations)


def demonstrate(
    api: Api, store_dir: Path, model: "DemoModel", out_dir: Path, console: Console, *, seed: int, iterations: int
) -> Path:
    """Align the model by both methods, show both, and write `demo-report.json` and `.png` to `out_dir`.

    Returns the path of the JSON. The system behind `api` must run on this machine, with its artifacts in
    `store_dir`, or in INPO_STORE_URL.
    """
    demo = Demo(api, named_store(Settings(store_dir=store_dir)), console)
    for method in METHODS:
        demo.align(method, demo_spec(method, model.directory, model.prompts, seed, iterations))
    return _conclude(demo, out_dir, seed)


def _model(cache_dir: Path, console: Console) -> "DemoModel":
    console.print("Building the demo's model from nothing, unless it is there already …")
    from services.cli.demo.model import demo_model  # noqa: PLC0415  (torch takes seconds to import)

    return demo_model(cache_dir)


def _conclude(demo: Demo, out_dir: Path, seed: int) -> Path:
    measure = demo.measure
    assert measure is not None, "a run that succeeded has a measured reference policy"
    out_dir.mkdir(parents=True, exist_ok=True)
    for method, rows in demo.runs.items():
        demo.console.print(views.method_table(method, rows, measure.nash))
    demo.console.print(views.comparison_table(demo.runs))
    demo.console.print(views.verdict(demo.runs))
    path = out_dir / "demo-report.json"
    path.write_text(json.dumps(report(measure, demo.runs, seed), indent=1) + "\n")
    views.write_plot(path.with_suffix(".png"), measure, demo.runs)
    demo.console.print(f"Written: {path} and {path.with_suffix('.png').name}", highlight=False)
    return path
