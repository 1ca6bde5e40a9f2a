"""Steps of a run whose rollouts are there and wait for the oracle."""

from collections.abc import Sequence
from typing import Literal

from shared.contracts.judges import RulesJudge
from shared.contracts.plans import AnchorWeights, EvaluationPlan, GapPlan, HalfStepPlan, Shard
from shared.contracts.records import Message, Rollout
from shared.contracts.spec import OracleSpec, SamplingSpec, SelectionSpec, TrainingSpec
from shared.contracts.weights import WeightVersion
from shared.contracts.work import WorkItem
from shared.store.artifacts import layout
from shared.store.artifacts.store import DirectoryStore, create_model
from shared.store.artifacts.tables import create_table

RUN = "run-1"
RESPONSES = (("a", "bb", "ccc", "dddd"), ("eeee", "fff", "gg", "h"))


def a_version(number: int = 0, run: str = RUN) -> WeightVersion:
    """A weight version that nobody wrote."""
    return WeightVersion(run=run, number=number, digest=f"digest-{number}", directory=f"runs/{run}/weights/{number}")


def a_rollout(
    prompt_id: str, responses: Sequence[str], version: WeightVersion, ids: Sequence[list[int]] | None = None
) -> Rollout:
    """A rollout of these responses; token ids are the bytes, every token at log-prob -1/4."""
    response_ids = [list(text.encode()) for text in responses] if ids is None else [list(row) for row in ids]
    return Rollout(
        prompt_id=prompt_id,
        prompt=[Message(role="user", content=f"the question of {prompt_id}")],
        prompt_ids=list(prompt_id.encode()),
        responses=list(responses),
        response_ids=response_ids,
        log_probs=[[-0.25] * len(row) for row in response_ids],
        finish_reasons=["stop"] * len(responses),
        versions=[version.number] * len(responses),
        digests=[version.digest] * len(responses),
    )


def an_oracle(
    *,
    answers: Literal["binary", "probability"] = "probability",
    max_retries: int = 2,
    entry_point: str = "fake:judge",
    judged_part: str | None = None,
) -> OracleSpec:
    """An oracle over a rule."""
    judge = RulesJudge(entry_point=entry_point)
    return OracleSpec(judge=judge, answers=answers, max_retries=max_retries, judged_part=judged_part)


def a_half_step(
    *,
    run: str = RUN,
    iteration: int = 1,
    num_responses: int = 4,
    oracle: OracleSpec | None = None,
    selection: SelectionSpec | None = None,
    seed: int = 7,
) -> HalfStepPlan:
    """A half-step of one shard under version 0."""
    version = a_version(run=run)
    return HalfStepPlan(
        run=run,
        iteration=iteration,
        half=1,
        sample_from=version,
        start_from=version,
        reference=version,
        anchors=[AnchorWeights(version=version, exponent=1.0)],
        loss="squared",
        scale=0.3,
        sampling=SamplingSpec(num_responses=num_responses, max_new_tokens=8),
        prompt_format="auto",
        max_prompt_tokens=64,
        oracle=oracle or an_oracle(),
        selection=selection or SelectionSpec(),
        training=TrainingSpec(),
        shards=[Shard(index=0, prompts=[0, 1])],
        seed=seed,
        planned_at_s=0.0,
    )


def put_half_step(
    store: DirectoryStore, plan: HalfStepPlan | None = None, rollouts: Sequence[Rollout] | None = None
) -> WorkItem:
    """Plan and rollouts in the store; returns the item that asks for their judging."""
    plan = plan or a_half_step()
    step = layout.half_step(plan.run, plan.iteration, plan.half)
    create_model(store, layout.plan(step), plan)
    if rollouts is None:
        rollouts = [a_rollout(f"p{n}", texts, plan.sample_from) for n, texts in enumerate(RESPONSES)]
    create_table(store, layout.rollouts(step, 0), Rollout, rollouts)
    return WorkItem(kind="judge", run=plan.run, step=step, shard=0)


def put_evaluation(
    store: DirectoryStore,
    number: int,
    responses: Sequence[Sequence[str]],
    *,
    oracle: OracleSpec | None = None,
    gap: GapPlan | None = None,
) -> WorkItem:
    """An evaluation of version `number` with its rollouts in the store; prompts are p0, p1, ..."""
    version = a_version(number)
    plan = EvaluationPlan(
        run=RUN,
        version=version,
        reference=a_version(0),
        sampling=SamplingSpec(num_responses=2, max_new_tokens=8),
        num_responses=len(responses[0]),
        prompt_format="auto",
        max_prompt_tokens=64,
        oracle=oracle or an_oracle(),
        shards=[Shard(index=0, prompts=list(range(len(responses))))],
        seed=7,
        duality_gap=gap,
    )
    step = layout.evaluation(RUN, number)
    create_model(store, layout.plan(step), plan)
    rollouts = [a_rollout(f"p{n}", texts, version) for n, texts in enumerate(responses)]
    create_table(store, layout.rollouts(step, 0), Rollout, rollouts)
    return WorkItem(kind="judge", run=RUN, step=step, shard=0)
