"""A run in a store, up to the point where its first shard can be generated."""

from collections.abc import Sequence

from pydantic import JsonValue

from shared.contracts.judges import RulesJudge
from shared.contracts.plans import AnchorWeights, EvaluationPlan, HalfStepPlan, Shard
from shared.contracts.records import Message, Prompt
from shared.contracts.spec import OracleSpec, SamplingSpec, SelectionSpec, TrainingSpec
from shared.contracts.weights import WeightVersion
from shared.contracts.work import WorkItem
from shared.store.artifacts import layout
from shared.store.artifacts.store import ArtifactStore, DirectoryStore, create_model
from shared.store.artifacts.tables import create_table

ORACLE = OracleSpec(judge=RulesJudge(entry_point="tests.support.rules:longer_is_better"))


def put_prompts(store: DirectoryStore, run: str, texts: Sequence[str]) -> list[Prompt]:
    """`prompts.parquet` with one user message a prompt, ids p0, p1, ..."""
    prompts = [
        Prompt(prompt_id=f"p{number}", messages=[Message(role="user", content=text)])
        for number, text in enumerate(texts)
    ]
    create_table(store, layout.prompts(run), Prompt, prompts)
    return prompts


def put_half_step(
    store: ArtifactStore,
    version: WeightVersion,
    shards: Sequence[Sequence[int]],
    *,
    iteration: int = 1,
    sampling: SamplingSpec | None = None,
    max_prompt_tokens: int = 1024,
    chat_template_kwargs: dict[str, JsonValue] | None = None,
    seed: int = 7,
) -> str:
    """`plan.json` of a half-step that samples from `version`; returns the step."""
    plan = HalfStepPlan(
        run=version.run,
        iteration=iteration,
        half=1,
        sample_from=version,
        start_from=version,
        reference=version,
        anchors=[AnchorWeights(version=version, exponent=1.0)],
        loss="squared",
        scale=0.3,
        sampling=sampling or SamplingSpec(num_responses=4, max_new_tokens=8),
        prompt_format="auto",
        chat_template_kwargs=chat_template_kwargs or {},
        max_prompt_tokens=max_prompt_tokens,
        oracle=ORACLE,
        selection=SelectionSpec(),
        training=TrainingSpec(),
        shards=[Shard(index=index, prompts=list(rows)) for index, rows in enumerate(shards)],
        seed=seed,
        planned_at_s=0.0,
    )
    step = layout.half_step(version.run, iteration, 1)
    create_model(store, layout.plan(step), plan)
    return step


def put_evaluation(
    store: DirectoryStore, version: WeightVersion, shards: Sequence[Sequence[int]], *, num_responses: int
) -> str:
    """`plan.json` of an evaluation of `version`; returns the step."""
    plan = EvaluationPlan(
        run=version.run,
        version=version,
        reference=version,
        sampling=SamplingSpec(num_responses=4, max_new_tokens=8),
        num_responses=num_responses,
        prompt_format="auto",
        max_prompt_tokens=1024,
        oracle=ORACLE,
        shards=[Shard(index=index, prompts=list(rows)) for index, rows in enumerate(shards)],
        seed=7,
    )
    step = layout.evaluation(version.run, version.number)
    create_model(store, layout.plan(step), plan)
    return step


def generate_item(run: str, step: str, shard: int = 0) -> WorkItem:
    """The work item of a shard."""
    return WorkItem(kind="generate", run=run, step=step, shard=shard)
