"""Where each artifact of a run lives: keys of the artifact store, relative and with forward slashes.

```
verdicts/ab/ab12….json                                KeptVerdict: one answer of a judge, for every run that asks again
comparisons/ab/ab12….json                             OpenComparison: a question to a judge that fetches its questions
runs/<run>/run.json                                   RunRecord
runs/<run>/prompts.parquet                            Prompt
runs/<run>/skipped.parquet                            Skipped: rows that were left out at creation
runs/<run>/intents/0004.json                          Intent
runs/<run>/judge.json                                 JudgeIdentity: the first judge that answered, binding for all
runs/<run>/base/{plan,weights}.json                   step: import the model as version 0
runs/<run>/iterations/0003/half-1/plan.json           step: HalfStepPlan
    …/{rollouts,judgments,pairs}/00017.parquet        one object a shard, durable before the acknowledgement
    …/comparisons/00017.parquet                       CrossComparison: of an evaluation that wants the duality gap
    …/dead/judge-00017.json                           DeadLetter
    …/weights.json                                    PublishedWeights: which candidate won
runs/<run>/iterations/0003/commit.json                Commit
runs/<run>/evaluations/0003/…                         step: plan, rollouts, judgments, scores.json, result.json
runs/<run>/weights/0003.half-1-<token>/               the same for what half-step 1 made on the way to version 3
runs/<run>/weights/0003-<token>/                      Hugging Face directory, canary.json, manifest.json last
runs/<run>/scratch/…                                  checkpoints inside an iteration; the only mutable thing
promotions/0004.json                                  Promotion; numbers are read as numbers, 9999 before 10000
identity.json                                         StoreIdentity
idempotency/<digest>/…                                see `shared.store.artifacts.requests`; forgotten after two days
```
"""

from collections.abc import Iterable

from shared.contracts.plans import HalfStepPlan
from shared.contracts.work import Kind

COMPARISONS = "comparisons"


def number_of(name: str) -> int | None:
    """The number of a numbered object's name, None for a name that has none."""
    stem = name.partition(".")[0]
    return int(stem) if stem.isascii() and stem.isdecimal() else None


def in_order(names: Iterable[str]) -> list[str]:
    """The names of numbered objects by their numbers, 9999 before 10000; without those that have no number."""
    numbered = [(number, name) for name in names if (number := number_of(name)) is not None]
    return [name for _, name in sorted(numbered)]


def run(run_id: str) -> str:
    """The run's folder."""
    return f"runs/{run_id}"


def run_record(run_id: str) -> str:
    """`RunRecord`, written once."""
    return f"{run(run_id)}/run.json"


def prompts(run_id: str) -> str:
    """The run's prompts; shards name their rows."""
    return f"{run(run_id)}/prompts.parquet"


def skipped(run_id: str) -> str:
    """The rows that were left out when the run was created."""
    return f"{run(run_id)}/skipped.parquet"


def intents(run_id: str) -> str:
    """Folder of the numbered intents."""
    return f"{run(run_id)}/intents"


def intent(run_id: str, number: int) -> str:
    """One intent; the highest number is in force."""
    return f"{intents(run_id)}/{number:04d}.json"


def judge(run_id: str) -> str:
    """Identity of the judge that the run is pinned to."""
    return f"{run(run_id)}/judge.json"


def verdict(digest: str) -> str:
    """`KeptVerdict` under the digest of everything that could change the answer."""
    return f"verdicts/{digest[:2]}/{digest}.json"


def comparison(digest: str) -> str:
    """`OpenComparison` under the same digest as its verdict."""
    return f"{COMPARISONS}/{digest[:2]}/{digest}.json"


def base(run_id: str) -> str:
    """Step that imports the model."""
    return f"{run(run_id)}/base"


def iterations(run_id: str) -> str:
    """Folder of the iterations."""
    return f"{run(run_id)}/iterations"


def iteration(run_id: str, number: int) -> str:
    """One iteration's folder."""
    return f"{iterations(run_id)}/{number:04d}"


def half_step(run_id: str, iteration_number: int, half: int) -> str:
    """Step of an iteration."""
    return f"{iteration(run_id, iteration_number)}/half-{half}"


def pairs_step(plan: HalfStepPlan) -> str:
    """Step whose pairs a half-step trains on: its own, or an earlier one's of the iteration."""
    return half_step(plan.run, plan.iteration, plan.same_pairs_as or plan.half)


def commit(run_id: str, iteration_number: int) -> str:
    """`Commit` of an iteration."""
    return f"{iteration(run_id, iteration_number)}/commit.json"


def evaluations(run_id: str) -> str:
    """Folder of the evaluations."""
    return f"{run(run_id)}/evaluations"


def evaluation(run_id: str, version: int) -> str:
    """Step that measures a weight version."""
    return f"{evaluations(run_id)}/{version:04d}"


def weights(run_id: str) -> str:
    """Folder of the run's weight versions."""
    return f"{run(run_id)}/weights"


def scratch(run_id: str) -> str:
    """Folder of mutable files that a run can do without."""
    return f"{run(run_id)}/scratch"


def workspace(run_id: str, step: str) -> str:
    """Folder of mutable files of one half-step."""
    return f"{scratch(run_id)}/{step.removeprefix(f'{run(run_id)}/').replace('/', '-')}"


def plan(step: str) -> str:
    """The step's plan."""
    return f"{step}/plan.json"


def rollouts(step: str, shard: int) -> str:
    """Rollouts of a shard."""
    return f"{step}/rollouts/{shard:05d}.parquet"


def judgments(step: str, shard: int) -> str:
    """Verdicts of a shard."""
    return f"{step}/judgments/{shard:05d}.parquet"


def comparisons(step: str, shard: int) -> str:
    """All-against-all comparisons of an evaluation's shard."""
    return f"{step}/comparisons/{shard:05d}.parquet"


def pairs(step: str, shard: int) -> str:
    """Preference pairs of a shard."""
    return f"{step}/pairs/{shard:05d}.parquet"


def dead(step: str, kind: Kind, shard: int) -> str:
    """Dead letter of a work item."""
    return f"{step}/dead/{kind}-{shard:05d}.json"


def published(step: str) -> str:
    """`PublishedWeights` of a base or half-step."""
    return f"{step}/weights.json"


def scores(step: str) -> str:
    """`ReferenceScores` of an evaluation."""
    return f"{step}/scores.json"


def result(step: str) -> str:
    """`EvaluationResult` of an evaluation."""
    return f"{step}/result.json"


PROMOTIONS = "promotions"


def promotion(number: int) -> str:
    """One promotion; the highest number is in force."""
    return f"{PROMOTIONS}/{number:04d}.json"
