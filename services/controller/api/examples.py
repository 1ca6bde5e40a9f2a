"""Examples of the controller's bodies for its description; made of the models, so that they cannot be wrong."""

from typing import Any

from shared.contracts.records import Commit, Estimate, EvaluationResult, Message, PreferencePair, Sample, Skipped
from shared.contracts.rest.runs import (
    IterationList,
    IterationView,
    PairPage,
    Progress,
    RunDetail,
    RunList,
    RunView,
    SkippedPage,
    WeightsList,
    WeightsView,
)
from shared.contracts.spec import RunSpec
from shared.contracts.weights import PromotedWeights, Promotion, WeightVersion

RUN = "stories-20260301-120000-5f3a9c0d2b7e4a61c8d0f2b4a6e8135c"

SPEC: dict[str, Any] = {
    "name": "stories",
    "model": {"path": "models/stories260K-hf32"},
    "prompts": {"sets": [{"path": "prompts/openings.jsonl"}], "num_per_iteration": 64, "format": "text"},
    "sampling": {"num_responses": 8, "max_new_tokens": 48},
    "oracle": {"judge": {"kind": "rules", "entry_point": "services.oracle.rules.words:known_word_share"}},
    "algorithm": {"eta": 0.3, "tau": 0.1},
    "iterations": 3,
}

_VERSIONS = [
    WeightVersion(run=RUN, number=number, digest=f"{number}9" * 32, directory=f"runs/{RUN}/weights/{number:04d}-1")
    for number in range(2)
]
_CREATED = "2026-03-01T12:00:00+00:00"
_PROMPT = [Message(role="user", content="Once upon a time")]

_EVALUATION = EvaluationResult(
    version=_VERSIONS[1],
    win_rate=Estimate(mean=0.66, low=0.58, high=0.73, num=64),
    kl=Estimate(mean=3.9, low=3.5, high=4.3, num=64),
    mean_response_tokens=46.2,
    truncated_share=0.9,
    distinct_response_share=1.0,
    unjudged_share=0.0,
    samples=[Sample(prompt="Once upon a time", reference=" there was a dog.", response=" there was a happy dog.")],
)
_VIEW = RunView(
    id=RUN,
    name="stories",
    state="running",
    created_at=_CREATED,
    progress=Progress(iteration=2, num_iterations=3, phase="judging", done=1, total=4),
    weights=_VERSIONS[1],
    latest=_EVALUATION,
    num_prompts=256,
    num_skipped=0,
)
_COMMIT = Commit(
    iteration=1,
    weights=_VERSIONS[1],
    num_pairs=64,
    digests={f"runs/{RUN}/iterations/0001/half-1/plan.json": "5f" * 32},
    metrics={"loss": 1.38, "seconds": 41.5},
)
_PAIR = PreferencePair(
    prompt_id="p-17",
    prompt=_PROMPT,
    chosen=" there was a happy dog.",
    rejected=" there was a dog.",
    prompt_ids=[1, 403, 407, 261],
    chosen_ids=[285, 261, 286, 2],
    rejected_ids=[285, 261, 2],
    chosen_log_prob=-7.2,
    rejected_log_prob=-5.9,
    preference=1.0,
    probability=0.8,
    judge_revision="sha256:77aa",
    chosen_version=0,
    rejected_version=0,
)
_PROMOTION = Promotion(
    number=1, action="promote", version=_VERSIONS[1], at=_CREATED, by="key file, line 1", previous=None
)

RUN_DETAIL = RunDetail(**_VIEW.model_dump(), spec=RunSpec.model_validate(SPEC), skipped=[]).model_dump(mode="json")
RUN_LIST = RunList(runs=[_VIEW]).model_dump(mode="json")
ITERATIONS = IterationList(
    iterations=[IterationView(iteration=1, commit=_COMMIT, evaluation=_EVALUATION)], skipped=[]
).model_dump(mode="json")
PAIRS = PairPage(iteration=1, total=64, offset=0, pairs=[_PAIR]).model_dump(mode="json")
SKIPPED = SkippedPage(
    total=1, offset=0, skipped=[Skipped(id="openings.jsonl:17", reason="duplicate of openings.jsonl:3")]
).model_dump(mode="json")
WEIGHTS = WeightsList(
    weights=[
        WeightsView(
            version=_VERSIONS[1],
            parent=_VERSIONS[0].digest,
            num_parameters=260_032,
            size_bytes=1_045_000,
            path=f"/var/lib/inpo/store/{_VERSIONS[1].directory}",
        )
    ]
).model_dump(mode="json")
PROMOTION = _PROMOTION.model_dump(mode="json")
PROMOTED = PromotedWeights(current=_PROMOTION, history=[_PROMOTION]).model_dump(mode="json")
VERSION_NAME = _VERSIONS[1].name
