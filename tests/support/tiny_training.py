"""Half-steps made by hand: tiny models in a store, preference pairs with true witnesses, and the plans about them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from services.trainer.settings import TrainerSettings
from services.trainer.worker import TrainHandler
from shared.contracts.plans import AnchorWeights, EvaluationPlan, HalfStepPlan, Shard
from shared.contracts.records import Message, PreferencePair, ReferenceScores, Rollout, Skipped
from shared.contracts.spec import SamplingSpec, SelectionSpec, TrainingSpec
from shared.contracts.weights import WeightVersion
from shared.contracts.work import Attempt, WorkItem
from shared.inpo.plan import LossName
from shared.store.artifacts import layout
from shared.store.artifacts.store import DirectoryStore, create_model
from shared.store.artifacts.tables import create_table
from tests.support import tiny_models
from tests.support.sampling_plans import ORACLE

ATTEMPT = Attempt(number=1)
SETTINGS = TrainerSettings(trainer_device="cpu", trainer_num_threads=1)
TRAINING = TrainingSpec(learning_rate=1e-4, batch_size=4, micro_batch_size=2, num_epochs=2, warmup_fraction=0.0)


def make_pairs(
    model: Path, num: int, seed: int, *, version: int = 0, max_response: int = 9, shift: float = 0.0
) -> list[PreferencePair]:
    """Pairs of random tokens, of unequal lengths, with the log-probs that the model really gives them (+ `shift`)."""
    rng = np.random.default_rng(seed)

    def tokens(longest: int) -> list[int]:
        return [int(token) for token in rng.integers(3, tiny_models.VOCAB_SIZE, size=rng.integers(1, longest + 1))]

    return [
        a_pair(
            model,
            f"p{index}",
            [tiny_models.BOS, *tokens(6)],
            tokens(max_response),
            tokens(max_response),
            version,
            shift,
        )
        for index in range(num)
    ]


def a_pair(
    model: Path,
    prompt_id: str,
    prompt_ids: list[int],
    chosen_ids: list[int],
    rejected_ids: list[int],
    version: int = 0,
    shift: float = 0.0,
) -> PreferencePair:
    """One pair for a binary answer, its witness computed by a plain transformers forward."""
    num = len(prompt_ids) - 1
    chosen, rejected = (
        sum(row[num:]) + shift
        for row in tiny_models.direct_log_probs(model, [prompt_ids + chosen_ids, prompt_ids + rejected_ids])
    )
    return PreferencePair(
        prompt_id=prompt_id,
        prompt=[Message(role="user", content=prompt_id)],
        chosen="chosen",
        rejected="rejected",
        prompt_ids=prompt_ids,
        chosen_ids=chosen_ids,
        rejected_ids=rejected_ids,
        chosen_log_prob=chosen,
        rejected_log_prob=rejected,
        preference=1.0,
        probability=None,
        judge_revision="test",
        chosen_version=version,
        rejected_version=version,
    )


def put_half_step(
    store: DirectoryStore,
    version: WeightVersion,
    pairs: Sequence[PreferencePair],
    *,
    iteration: int = 1,
    anchors: Sequence[tuple[WeightVersion, float]] | None = None,
    reference: WeightVersion | None = None,
    loss: LossName = "squared",
    scale: float = 0.5,
    training: TrainingSpec = TRAINING,
    skipped: Sequence[Skipped] = (),
) -> WorkItem:
    """A half-step judged in two shards, ready to be trained from `version`; its work item."""
    found = anchors or [(version, 1.0)]
    plan = HalfStepPlan(
        run=version.run,
        iteration=iteration,
        half=1,
        sample_from=version,
        start_from=version,
        reference=reference or version,
        anchors=[AnchorWeights(version=anchor, exponent=exponent) for anchor, exponent in found],
        loss=loss,
        scale=scale,
        sampling=SamplingSpec(num_responses=2, max_new_tokens=8),
        prompt_format="text",
        max_prompt_tokens=1024,
        oracle=ORACLE,
        selection=SelectionSpec(),
        training=training,
        shards=[Shard(index=0, prompts=[0]), Shard(index=1, prompts=[1])],
        seed=3,
        planned_at_s=0.0,
    )
    step = layout.half_step(version.run, iteration, 1)
    create_model(store, layout.plan(step), plan)
    middle = len(pairs) // 2
    create_table(store, layout.pairs(step, 0), PreferencePair, pairs[:middle], skipped)
    create_table(store, layout.pairs(step, 1), PreferencePair, pairs[middle:])
    return WorkItem(kind="train", run=version.run, step=step)


def put_evaluation(
    store: DirectoryStore,
    version: WeightVersion,
    reference: WeightVersion,
    *,
    previous: WeightVersion | None = None,
    digest: str | None = None,
) -> tuple[WorkItem, ReferenceScores]:
    """An evaluation in two shards of two responses each; its work item, and what its scores must be.

    `digest`: of the weights that the rollouts say to be from, if not the version's.
    """
    prompt, responses = [1, 20, 30], [[[40, 50], [60]], [[70, 80, 90], [2]]]
    sequences = [prompt + ids for rollout in responses for ids in rollout]

    def log_probs(weights: WeightVersion) -> list[list[float]]:
        """Of the responses' tokens only."""
        return [row[2:] for row in tiny_models.direct_log_probs(store.path(weights.directory), sequences)]

    found = log_probs(version)

    def log_ratios(other: WeightVersion) -> list[float]:
        return [sum(new) - sum(old) for new, old in zip(found, log_probs(other), strict=True)]

    rows = iter(found)
    plan = EvaluationPlan(
        run=version.run,
        version=version,
        reference=reference,
        sampling=SamplingSpec(),
        num_responses=2,
        prompt_format="text",
        max_prompt_tokens=100,
        oracle=ORACLE,
        shards=[Shard(index=0, prompts=[0]), Shard(index=1, prompts=[1])],
        seed=0,
        previous=previous,
    )
    step = layout.evaluation(version.run, version.number)
    create_model(store, layout.plan(step), plan)
    for shard, rollout in enumerate(responses):
        record = Rollout(
            prompt_id=f"p{shard}",
            prompt=[Message(role="user", content="?")],
            prompt_ids=prompt,
            responses=["" for _ in rollout],
            response_ids=rollout,
            log_probs=[next(rows) for _ in rollout],
            finish_reasons=["length" for _ in rollout],
            versions=[version.number] * len(rollout),
            digests=[digest or version.digest] * len(rollout),
        )
        create_table(store, layout.rollouts(step, shard), Rollout, [record])
    expected = ReferenceScores(
        log_ratios=log_ratios(reference), previous_log_ratios=log_ratios(previous) if previous else None
    )
    return WorkItem(kind="train", run=version.run, step=step), expected


def read_plan(store: DirectoryStore, item: WorkItem) -> HalfStepPlan:
    """The plan of a half-step."""
    return HalfStepPlan.model_validate_json(store.read(layout.plan(item.step)))


def a_handler(store: DirectoryStore) -> TrainHandler:
    """A trainer with nothing in memory."""
    return TrainHandler(store, SETTINGS)
