"""What an evaluation says of a weight version, and how it shows a hacked judge."""

from collections.abc import Sequence
from math import isclose
from pathlib import Path

from services.controller.measuring.evaluating import conclude
from services.controller.reconciling.plan_building import evaluation_plan
from shared.contracts.records import EvaluationResult, Message, Prompt, ReferenceScores, Rollout, Verdict
from shared.contracts.spec import RunSpec
from shared.contracts.weights import WeightVersion
from shared.store.artifacts import layout
from shared.store.artifacts.memory_store import MemoryStore
from shared.store.artifacts.store import create_model
from shared.store.artifacts.tables import create_table
from tests.support.specs import a_spec

PROMPTS = [
    Prompt(prompt_id=f"p{row}", messages=[Message(role="user", content=f"question {row}")], split="held_out")
    for row in range(2)
]


def _version(number: int) -> WeightVersion:
    return WeightVersion(run="run", number=number, digest=f"d{number}", directory="somewhere")


def _rollout(prompt: Prompt, number: int, responses: Sequence[list[int]]) -> Rollout:
    return Rollout(
        prompt_id=prompt.prompt_id,
        prompt=prompt.messages,
        prompt_ids=[1],
        responses=[f"v{number}:{ids}" for ids in responses],
        response_ids=list(responses),
        log_probs=[[-1.0] * len(ids) for ids in responses],
        finish_reasons=["stop"] * len(responses),
        versions=[number] * len(responses),
        digests=[f"d{number}"] * len(responses),
    )


def _verdict(prompt_id: str, response: int, probability: float | None) -> Verdict:
    return Verdict(
        prompt_id=prompt_id,
        a=response,
        b=response,
        draw=0,
        status="error" if probability is None else "ok",
        probability=probability,
        answer=probability,
        judge="j",
        judge_revision="1",
        latency_s=0.0,
    )


def _spec(tmp_path: Path) -> RunSpec:
    return a_spec(tmp_path, evaluation={"num_prompts": 2, "num_responses": 2, "max_kl": 10.0}, shard_size=2)


def _put(
    store: MemoryStore, number: int, responses: Sequence[list[int]], verdicts: Sequence[Verdict], ratios: list[float]
) -> None:
    step = layout.evaluation("run", number)
    create_table(store, layout.rollouts(step, 0), Rollout, [_rollout(prompt, number, responses) for prompt in PROMPTS])
    create_table(store, layout.judgments(step, 0), Verdict, verdicts)
    create_model(store, layout.scores(step), ReferenceScores(log_ratios=ratios))


def _evaluated(
    tmp_path: Path, responses: Sequence[list[int]], verdicts: Sequence[Verdict], ratios: list[float]
) -> EvaluationResult:
    spec, store = _spec(tmp_path), MemoryStore()
    _put(store, 0, [[1, 2], [3, 4]], [], [])
    _put(store, 1, responses, verdicts, ratios)
    return conclude(store, spec.evaluation, evaluation_plan("run", spec, PROMPTS, _version(1), _version(0)))


def test_win_rate_and_kl_are_means_over_what_was_judged_and_scored(tmp_path: Path) -> None:
    """Of four comparisons three were judged: .9, .6 and .6, mean .7; KL is the mean log-ratio, (1 + 2 + 3 + 2) / 4."""
    verdicts = [_verdict("p0", 0, 0.9), _verdict("p0", 1, 0.6), _verdict("p1", 0, 0.6), _verdict("p1", 1, None)]
    result = _evaluated(tmp_path, [[1, 2], [3]], verdicts, [1.0, 2.0, 3.0, 2.0])
    assert result.win_rate is not None
    assert isclose(result.win_rate.mean, 0.7)
    assert (result.win_rate.num, result.unjudged_share) == (3, 0.25)
    assert result.kl is not None
    assert (result.kl.mean, result.kl.num) == (2.0, 4)
    assert result.mean_response_tokens == 1.5
    assert result.warnings == ["25% of the comparisons got no verdict, oracle.max_unjudged is lower"]
    assert (result.samples[0].prompt, result.samples[0].reference) == ("question 0", "v0:[1, 2]")


def test_a_high_win_rate_far_from_the_reference_is_flagged_as_hacking(tmp_path: Path) -> None:
    verdicts = [_verdict(f"p{prompt}", response, 1.0) for prompt in (0, 1) for response in (0, 1)]
    result = _evaluated(tmp_path, [[1, 2], [3, 4]], verdicts, [262.0] * 4)
    assert result.win_rate is not None
    assert result.win_rate.mean == 1.0
    (warning,) = result.warnings
    assert "reward hacking? KL to the reference is 262 nats a response, evaluation.max_kl is 10" in warning


def test_a_policy_that_always_says_the_same_is_flagged_as_collapsed(tmp_path: Path) -> None:
    """One response in four is distinct; the reference's four all are."""
    spec, store = _spec(tmp_path), MemoryStore()
    step = layout.evaluation("run", 0)
    varied = [_rollout(PROMPTS[0], 0, [[1], [2]]), _rollout(PROMPTS[1], 0, [[3], [4]])]
    create_table(store, layout.rollouts(step, 0), Rollout, varied)
    _put(store, 1, [[9], [9]], [_verdict("p0", 0, 0.5)], [0.0] * 4)
    result = conclude(store, spec.evaluation, evaluation_plan("run", spec, PROMPTS, _version(1), _version(0)))
    assert result.distinct_response_share == 0.25
    assert result.warnings == ["collapse? 25% of the responses are distinct, the reference's 100%"]


def test_the_reference_policy_is_at_kl_zero_of_itself(tmp_path: Path) -> None:
    spec, store = _spec(tmp_path), MemoryStore()
    _put(store, 0, [[1, 2], [3, 4]], [], [])
    result = conclude(store, spec.evaluation, evaluation_plan("run", spec, PROMPTS, _version(0), _version(0)))
    assert result.kl is not None
    assert (result.win_rate, result.kl.mean, result.kl.num) == (None, 0.0, 4)


def test_a_judge_that_never_answers_gives_no_win_rate_rather_than_one_half(tmp_path: Path) -> None:
    verdicts = [_verdict(f"p{prompt}", response, None) for prompt in (0, 1) for response in (0, 1)]
    result = _evaluated(tmp_path, [[1, 2], [3, 4]], verdicts, [0.5] * 4)
    assert (result.win_rate, result.unjudged_share) == (None, 1.0)
    assert result.warnings == ["100% of the comparisons got no verdict, oracle.max_unjudged is lower"]


def test_an_evaluation_of_which_every_prompt_was_skipped_says_so_instead_of_failing(tmp_path: Path) -> None:
    spec, store = _spec(tmp_path), MemoryStore()
    for number in (0, 1):
        step = layout.evaluation("run", number)
        create_table(store, layout.rollouts(step, 0), Rollout, [])
        create_table(store, layout.judgments(step, 0), Verdict, [])
        create_model(store, layout.scores(step), ReferenceScores(log_ratios=[]))
    result = conclude(store, spec.evaluation, evaluation_plan("run", spec, PROMPTS, _version(1), _version(0)))
    assert (result.win_rate, result.kl) == (None, None)
    assert result.warnings == ["nothing was measured: every held-out prompt was skipped"]


def test_the_kl_to_the_version_before_is_measured_on_the_same_responses(tmp_path: Path) -> None:
    """Of version 2 it is the mean of its own log-ratios; version 1's is its KL to the reference."""
    spec, store = _spec(tmp_path), MemoryStore()
    _put(store, 0, [[1, 2], [3, 4]], [], [])
    _put(store, 1, [[1, 2], [3]], [], [1.0, 2.0, 3.0, 2.0])
    first = conclude(store, spec.evaluation, evaluation_plan("run", spec, PROMPTS, _version(1), _version(0)))
    assert first.kl_to_previous == first.kl
    step = layout.evaluation("run", 2)
    rollouts = [_rollout(prompt, 2, [[1, 2], [3]]) for prompt in PROMPTS]
    create_table(store, layout.rollouts(step, 0), Rollout, rollouts)
    create_table(store, layout.judgments(step, 0), Verdict, [])
    scores = ReferenceScores(log_ratios=[1.0, 2.0, 3.0, 2.0], previous_log_ratios=[0.1, 0.2, 0.3, 0.2])
    create_model(store, layout.scores(step), scores)
    plan = evaluation_plan("run", spec, PROMPTS, _version(2), _version(0), [_version(1)])
    assert plan.previous == _version(1)
    second = conclude(store, spec.evaluation, plan)
    assert second.kl_to_previous is not None
    assert isclose(second.kl_to_previous.mean, 0.2)
    assert second.kl is not None
    assert second.kl.mean == 2.0
