"""All against all: what an evaluation asks the judge for the duality gap."""

from collections.abc import Iterator, Sequence

from services.oracle.shards.questions import Asked, StepOracle
from services.oracle.shards.rollouts import evaluation_rollouts
from shared.contracts.plans import EvaluationPlan, GapPlan
from shared.contracts.records import CrossComparison, Rollout
from shared.inpo.gap_estimate import sides
from shared.inpo.selection import Question
from shared.store.artifacts import layout
from shared.store.artifacts.store import ArtifactStore
from shared.store.artifacts.tables import create_table


def compare_all(store: ArtifactStore, plan: EvaluationPlan, shard: int, oracle: StepOracle) -> None:
    """Store a shard's comparisons, unless they are there already or the plan wants none.

    `UnansweredError` of the oracle passes through; then nothing is stored.
    """
    key = layout.comparisons(layout.evaluation(plan.run, plan.version.number), shard)
    if plan.duality_gap is None or store.exists(key):
        return
    opponents: list[int] = []
    questions: list[Asked] = []
    for number, asked in _questions(store, plan, plan.duality_gap, shard):
        opponents.append(number)
        questions.append(asked)
    oracle.ask(questions)
    rows = [
        CrossComparison(
            prompt_id=verdict.prompt_id, a=verdict.a, opponent=number, b=verdict.b, probability=verdict.probability
        )
        for number, verdict in zip(opponents, oracle.verdicts, strict=True)
    ]
    create_table(store, key, CrossComparison, rows)


def _questions(store: ArtifactStore, plan: EvaluationPlan, gap: GapPlan, shard: int) -> Iterator[tuple[int, Asked]]:
    """The opponents' version numbers with the questions, prompt by prompt; a prompt without an opponent has none."""
    own = evaluation_rollouts(store, plan, plan.version, shard)
    of_itself = plan.version == plan.reference
    mine, theirs = sides(plan.num_responses, of_itself=of_itself)
    pairs = [(plan.reference, [(a, b) for a in mine for b in theirs])]
    pairs += [(version, [(j, j) for j in range(plan.num_responses)]) for version in gap.earlier]
    for version, wanted in pairs:
        met = own if of_itself else evaluation_rollouts(store, plan, version, shard)
        by_prompt = {rollout.prompt_id: rollout for rollout in met}
        for rollout in own:
            if rollout.prompt_id in by_prompt:
                for asked in _distinct(rollout, by_prompt[rollout.prompt_id], wanted):
                    yield version.number, asked


def _distinct(own: Rollout, other: Rollout, pairs: Sequence[tuple[int, int]]) -> Iterator[Asked]:
    """One question for each two different texts; a text against itself is one half without asking."""
    seen: set[tuple[str, str]] = set()
    for a, b in pairs:
        texts = own.responses[a], other.responses[b]
        if texts[0] != texts[1] and texts not in seen:
            seen.add(texts)
            yield Asked(own.prompt_id, own.prompt, Question(a, b, 0), *texts)
