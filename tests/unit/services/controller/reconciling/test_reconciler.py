"""`next_actions` is a pure function: what is seen decides what is done."""

from dataclasses import replace
from pathlib import Path

import pytest

from services.controller.reconciling.reconciler import (
    Commit,
    Conclude,
    Evaluation,
    Fail,
    Observed,
    PlanBase,
    PlanEvaluation,
    PlanHalfStep,
    Step,
    Submit,
    next_actions,
    succeeded,
)
from shared.contracts.records import Intent
from shared.contracts.spec import RunSpec
from shared.contracts.work import WorkItem
from tests.support.specs import a_spec

ALL = frozenset({0, 1, 2})


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    return a_spec(tmp_path, evaluation={"num_prompts": 0})


def _observed(half_step: Step | None = None, **changes: object) -> Observed:
    observed = Observed(
        run="r",
        intent=None,
        base=Step("base", planned=True, trained=True),
        iteration=1,
        half_steps=(half_step or Step("half"),),
        evaluations=(),
        outstanding=frozenset(),
    )
    return replace(observed, **changes)


def _item(kind: str, shard: int = 0, step: str = "half") -> Submit:
    return Submit(WorkItem.model_validate({"kind": kind, "run": "r", "step": step, "shard": shard}))


def test_a_new_run_first_imports_its_model(spec: RunSpec) -> None:
    assert next_actions(spec, _observed(base=Step("base"))) == [PlanBase()]
    assert next_actions(spec, _observed(base=Step("base", planned=True))) == [_item("train", step="base")]
    assert next_actions(spec, _observed()) == [PlanHalfStep(1, 1)]


def test_a_shard_is_judged_the_moment_that_it_exists(spec: RunSpec) -> None:
    step = Step("half", planned=True, num_shards=3, rollouts=frozenset({1}))
    assert next_actions(spec, _observed(step)) == [_item("generate", 0), _item("judge", 1), _item("generate", 2)]


def test_training_waits_for_every_shard(spec: RunSpec) -> None:
    step = Step("half", planned=True, num_shards=3, rollouts=ALL, judged=frozenset({0, 2}))
    assert next_actions(spec, _observed(step)) == [_item("judge", 1)]
    assert next_actions(spec, _observed(replace(step, judged=ALL))) == [_item("train")]
    assert next_actions(spec, _observed(replace(step, judged=ALL, trained=True))) == [Commit(1)]


def test_what_is_outstanding_is_not_asked_for_again(spec: RunSpec) -> None:
    step = Step("half", planned=True, num_shards=2, rollouts=frozenset({0}))
    asked = frozenset({_item("judge", 0).item.id})
    assert next_actions(spec, _observed(step, outstanding=asked)) == [_item("generate", 1)]


@pytest.mark.parametrize("action", ["pause", "cancel", "failed"])
def test_nothing_is_begun_in_a_run_that_is_paused_or_ended(spec: RunSpec, action: str) -> None:
    intent = Intent.model_validate({"action": action})
    assert next_actions(spec, _observed(intent=intent)) == []
    assert next_actions(spec, _observed(intent=Intent(action="resume"))) == [PlanHalfStep(1, 1)]


def test_a_dead_letter_fails_the_run_once_everything_else_has_finished(spec: RunSpec) -> None:
    """Shard 1 cannot be generated; shard 0 still has to be judged before the run is given up."""
    step = Step(
        "half",
        planned=True,
        num_shards=2,
        rollouts=frozenset({0}),
        dead={("generate", 1): "ValueError: poison"},
    )
    judging = _item("judge", 0)
    assert next_actions(spec, _observed(step)) == [judging]
    assert next_actions(spec, _observed(step, outstanding=frozenset({judging.item.id}))) == []
    (failed,) = next_actions(spec, _observed(replace(step, judged=frozenset({0}))))
    assert isinstance(failed, Fail)
    assert "generate shard 1" in failed.reason
    assert "ValueError: poison" in failed.reason


def test_too_many_comparisons_without_a_verdict_fail_the_iteration_loudly(spec: RunSpec) -> None:
    step = Step("half", planned=True, num_shards=3, rollouts=ALL, judged=ALL)
    assert next_actions(spec, _observed(step, unjudged_share=0.02)) == [_item("train")]
    (failed,) = next_actions(spec, _observed(step, unjudged_share=0.03, unjudged_because="HTTP 503"))
    assert isinstance(failed, Fail)
    assert "3.0% of the comparisons got no verdict" in failed.reason
    assert "mostly: HTTP 503;" in failed.reason


def test_evaluation_never_delays_the_next_iteration_but_success_waits_for_it(spec: RunSpec) -> None:
    pending = (
        Evaluation(0, Step("e0", planned=True, num_shards=1, rollouts=frozenset({0})), concluded=True),
        Evaluation(1, Step("e1", planned=True, num_shards=1)),
    )
    observed = _observed(iteration=2, evaluations=pending)
    assert next_actions(spec, observed) == [PlanHalfStep(2, 1), _item("generate", 0, "e1")]
    last = replace(observed, iteration=4)
    assert next_actions(spec, last) == [_item("generate", 0, "e1")]
    assert not succeeded(spec, last)
    done = (pending[0], replace(pending[1], concluded=True))
    assert succeeded(spec, replace(last, evaluations=done))
    assert next_actions(spec, replace(last, evaluations=done)) == []


def test_an_evaluation_is_judged_against_the_references_responses_and_scored(spec: RunSpec) -> None:
    reference = Evaluation(0, Step("e0", planned=True, num_shards=1))
    generated = Step("e1", planned=True, num_shards=1, rollouts=frozenset({0}))
    late = _observed(iteration=4, evaluations=(reference, Evaluation(1, generated)))
    assert next_actions(spec, late) == [_item("generate", 0, "e0"), _item("train", 0, "e1")]
    ready = Evaluation(0, replace(reference.step, rollouts=frozenset({0})), concluded=True)
    both = replace(late, evaluations=(ready, Evaluation(1, generated)))
    assert next_actions(spec, both) == [_item("judge", 0, "e1"), _item("train", 0, "e1")]
    complete = replace(generated, judged=frozenset({0}), trained=True)
    assert next_actions(spec, replace(late, evaluations=(ready, Evaluation(1, complete)))) == [Conclude(1)]
    assert next_actions(spec, replace(late, evaluations=(ready, Evaluation(1, Step("e1"))))) == [PlanEvaluation(1)]


def test_with_the_duality_gap_the_reference_is_judged_too(tmp_path: Path) -> None:
    spec = a_spec(tmp_path, evaluation={"num_prompts": 1, "duality_gap": {}})
    step = Step("e0", planned=True, num_shards=1, rollouts=frozenset({0}))
    last = _observed(iteration=4, evaluations=(Evaluation(0, step),))
    assert next_actions(spec, last) == [_item("judge", step="e0")]
    judged = replace(step, judged=frozenset({0}))
    assert next_actions(spec, replace(last, evaluations=(Evaluation(0, judged),))) == [Conclude(0)]


def test_with_the_duality_gap_a_version_waits_for_those_that_it_meets(tmp_path: Path) -> None:
    """For their responses before it is judged, and for their conclusion, which needs their scores, before its own."""
    spec = a_spec(tmp_path, evaluation={"num_prompts": 1, "duality_gap": {}})
    reference = Evaluation(0, Step("e0"), concluded=True)
    early = Evaluation(1, Step("e1", planned=True, num_shards=1))
    sampled = Evaluation(2, Step("e2", planned=True, num_shards=1, rollouts=frozenset({0}), trained=True))
    waiting = _observed(iteration=4, evaluations=(reference, early, sampled))
    assert next_actions(spec, waiting) == [_item("generate", step="e1")]
    early = Evaluation(1, Step("e1", planned=True, num_shards=1, rollouts=frozenset({0}), trained=True))
    both = replace(waiting, evaluations=(reference, early, sampled))
    assert next_actions(spec, both) == [_item("judge", step="e1"), _item("judge", step="e2")]
    judged = replace(sampled, step=replace(sampled.step, judged=frozenset({0})))
    assert next_actions(spec, replace(waiting, evaluations=(reference, early, judged))) == [_item("judge", step="e1")]
    concluded = Evaluation(1, Step("e1"), concluded=True)
    assert next_actions(spec, replace(waiting, evaluations=(reference, concluded, judged))) == [Conclude(2)]


def test_a_half_step_is_planned_when_the_one_before_it_has_its_weights(spec: RunSpec) -> None:
    """The commit comes after the last one; what is due is always about the first without weights."""
    first = Step("half-1", planned=True, num_shards=1, rollouts=frozenset({0}), judged=frozenset({0}))
    second = Step("half-2")
    assert next_actions(spec, _observed(half_steps=(first, second))) == [_item("train", step="half-1")]
    first = replace(first, trained=True)
    assert next_actions(spec, _observed(half_steps=(first, second))) == [PlanHalfStep(1, 2)]
    second = replace(second, planned=True, num_shards=1)
    assert next_actions(spec, _observed(half_steps=(first, second))) == [_item("generate", step="half-2")]
    second = replace(second, rollouts=frozenset({0}), judged=frozenset({0}), trained=True)
    assert next_actions(spec, _observed(half_steps=(first, second))) == [Commit(1)]


def test_a_half_step_on_another_ones_pairs_is_trained_at_once(spec: RunSpec) -> None:
    """It has no shards of its own: nothing is sampled or judged anew."""
    first = Step("half-1", planned=True, num_shards=1, rollouts=frozenset({0}), judged=frozenset({0}), trained=True)
    second = Step("half-2", planned=True, num_shards=0)
    assert next_actions(spec, _observed(half_steps=(first, second))) == [_item("train", step="half-2")]


def test_a_dead_letter_of_any_half_step_fails_the_run(spec: RunSpec) -> None:
    first = Step("half-1", planned=True, num_shards=1, trained=True)
    second = Step("half-2", planned=True, num_shards=1, dead={("generate", 0): "EngineError: gone"})
    (failed,) = next_actions(spec, _observed(half_steps=(first, second)))
    assert isinstance(failed, Fail)
    assert "half-2: generate shard 0 given up: EngineError: gone" in failed.reason
