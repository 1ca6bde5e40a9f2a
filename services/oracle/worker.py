"""Hop 6 of a prompt: a shard's rollouts become judgments, and judgments become preference pairs.

Judgments are written before pairs, and both are adopted when somebody else wrote them first; so a crash anywhere asks
the judge at most the questions of one shard again, and the pairs are the same whoever derives them.
"""

from typing import Any

from services.oracle.judge import Judge, JudgeChangedError, JudgeUnavailableError
from services.oracle.judges.registry import JudgeRegistry
from services.oracle.shards.all_against_all import compare_all
from services.oracle.shards.pairs import derive_pairs
from services.oracle.shards.questions import StepOracle, UnansweredError, against_reference, select, step_name
from services.oracle.shards.rollouts import evaluation_rollouts, read_rollouts
from shared.contracts.plans import BasePlan, EvaluationPlan, HalfStepPlan
from shared.contracts.records import PreferencePair, Rollout, Skipped, Verdict
from shared.contracts.rest.judging import JudgeIdentity
from shared.contracts.work import Attempt, WorkItem
from shared.runtime.telemetry import span
from shared.runtime.worker.loop import GiveUp, RetryLater
from shared.store.artifacts import layout
from shared.store.artifacts.runs import read_plan
from shared.store.artifacts.store import ArtifactStore, create_model, read_model
from shared.store.artifacts.tables import create_table, read_table

_LONGEST_PAUSE_S = 60.0
EXTERNAL = ("http", "pull")


class JudgeHandler:
    """Handles `judge` items. `retry_pause_s` is the first pause after a failing judge; it doubles each time."""

    def __init__(self, store: ArtifactStore, judges: JudgeRegistry, *, retry_pause_s: float = 1.0) -> None:
        self._store = store
        self._judges = judges
        self._retry_pause_s = retry_pause_s

    def __call__(self, item: WorkItem, attempt: Attempt) -> dict[str, Any]:
        """Judge one shard of a step; returns what the live events show.

        `RetryLater`, counted, while the judge fails on some comparison and may be asked again; then its failures are
        stored as verdicts without an answer, and whether there are too many of them is the controller's decision.
        `RetryLater`, not counted, while the judge is unavailable; `GiveUp` once that lasts for `max_outage_s`.
        """
        plan = read_plan(self._store, item.step)
        if isinstance(plan, BasePlan) or (isinstance(plan, EvaluationPlan) and _alone(plan)):
            raise ValueError(f"{item.step}: a step of type {plan.type} without an opponent has nothing to judge")
        with span("judge", run=item.run, step=item.step, shard=item.shard):
            try:
                if isinstance(plan, HalfStepPlan):
                    return self._half_step(plan, item, attempt)
                return self._evaluation(plan, item, attempt)
            except JudgeUnavailableError as error:
                raise self._wait(plan, attempt, error) from error
            except JudgeChangedError:
                self._judges.forget(plan.oracle.judge)
                raise

    def _half_step(self, plan: HalfStepPlan, item: WorkItem, attempt: Attempt) -> dict[str, Any]:
        rollouts = read_rollouts(
            self._store, item.step, item.shard, versions=plan.samplers, num_responses=plan.sampling.num_responses
        )
        verdicts = self._stored(item)
        if verdicts is None:
            verdicts = self._judge_half_step(plan, rollouts, item, attempt)
        pairs, skipped = derive_pairs(plan, rollouts, verdicts)
        create_table(self._store, layout.pairs(item.step, item.shard), PreferencePair, pairs, skipped)
        return {**_summary(verdicts), "num_pairs": len(pairs), "num_skipped": len(skipped)}

    def _judge_half_step(
        self, plan: HalfStepPlan, rollouts: list[Rollout], item: WorkItem, attempt: Attempt
    ) -> list[Verdict]:
        oracle = self._oracle(plan, attempt)
        try:
            select(plan, rollouts, oracle.ask)
        except UnansweredError as error:
            raise self._later(attempt, error) from error
        return self._adopt(item, oracle.verdicts)

    def _evaluation(self, plan: EvaluationPlan, item: WorkItem, attempt: Attempt) -> dict[str, Any]:
        verdicts = self._stored(item)
        if verdicts is None:
            verdicts = self._judge_evaluation(plan, item, attempt)
        return _summary(verdicts)

    def _judge_evaluation(self, plan: EvaluationPlan, item: WorkItem, attempt: Attempt) -> list[Verdict]:
        rollouts, opponents = (
            evaluation_rollouts(self._store, plan, version, item.shard) for version in (plan.version, plan.reference)
        )
        by_prompt = {rollout.prompt_id: rollout for rollout in opponents}
        matched = [rollout for rollout in rollouts if rollout.prompt_id in by_prompt]
        skipped = [
            Skipped(id=rollout.prompt_id, reason="the reference policy has no responses to this prompt")
            for rollout in rollouts
            if rollout.prompt_id not in by_prompt
        ]
        oracle = self._oracle(plan, attempt)
        try:
            if plan.version != plan.reference:
                oracle.ask([asked for own in matched for asked in against_reference(own, by_prompt[own.prompt_id])])
            compare_all(self._store, plan, item.shard, self._oracle(plan, attempt))
        except UnansweredError as error:
            raise self._later(attempt, error) from error
        return self._adopt(item, oracle.verdicts, skipped)

    def _oracle(self, plan: HalfStepPlan | EvaluationPlan, attempt: Attempt) -> StepOracle:
        judge: Judge = self._judges.get(plan.oracle.judge)
        pin_judge(self._store, plan.run, judge.identity())
        last_time = attempt.deferrals >= plan.oracle.max_retries
        return StepOracle(judge, plan.oracle, plan.seed, step_name(plan), tolerant=last_time)

    def _stored(self, item: WorkItem) -> list[Verdict] | None:
        key = layout.judgments(item.step, item.shard)
        return read_table(self._store, key, Verdict) if self._store.exists(key) else None

    def _adopt(self, item: WorkItem, verdicts: list[Verdict], skipped: list[Skipped] | None = None) -> list[Verdict]:
        key = layout.judgments(item.step, item.shard)
        if create_table(self._store, key, Verdict, verdicts, skipped or []):
            return verdicts
        return read_table(self._store, key, Verdict)

    def _wait(
        self, plan: HalfStepPlan | EvaluationPlan, attempt: Attempt, error: JudgeUnavailableError
    ) -> RetryLater | GiveUp:
        """What an outage leads to; it lasts since the last answer of this judge that is known of."""
        goes_on = error.progress <= attempt.progress
        lasted_s = attempt.waited_s if goes_on else 0.0
        if error.silent_s is not None:
            lasted_s = min(lasted_s, error.silent_s)
        if lasted_s >= plan.oracle.max_outage_s:
            limit = f"oracle.max_outage_s allows {plan.oracle.max_outage_s:.0f} s"
            return GiveUp(f"the judge has been unavailable for {lasted_s:.0f} s, {limit}: {error}")
        pause_s = self._pause_s(attempt.waits if goes_on else 0, error.longest_pause_s)
        return RetryLater(max(pause_s, error.retry_after_s), f"waiting for the judge: {error}", progress=error.progress)

    def _pause_s(self, times: int, longest_s: float) -> float:
        return min(self._retry_pause_s * 2.0 ** min(times, 16), longest_s)

    def _later(self, attempt: Attempt, error: UnansweredError) -> RetryLater:
        pause_s = self._pause_s(attempt.deferrals, _LONGEST_PAUSE_S)
        return RetryLater(pause_s, f"the judge fails: {error}", counted=True)


def pin_judge(store: ArtifactStore, run: str, identity: JudgeIdentity) -> None:
    """Make this the run's judge, once; `JudgeChangedError` when the run has another already."""
    key = layout.judge(run)
    if create_model(store, key, identity):
        return
    pinned = read_model(store, key, JudgeIdentity)
    named = identity.kind in EXTERNAL  # a local model is the same wherever its directory is
    if (pinned.kind, pinned.revision, named and pinned.id) != (identity.kind, identity.revision, named and identity.id):
        raise JudgeChangedError(
            f"run {run} was judged by {pinned.id} at {pinned.revision}, this is {identity.id} at {identity.revision}: "
            "restore that judge, or start a new run"
        )


def _alone(plan: EvaluationPlan) -> bool:
    """The reference policy has no opponent, but for the duality gap: there its responses meet one another."""
    return plan.version == plan.reference and plan.duality_gap is None


def _summary(verdicts: list[Verdict]) -> dict[str, Any]:
    unjudged = sum(verdict.answer is None for verdict in verdicts)
    revisions = sorted({verdict.judge_revision for verdict in verdicts})
    return {
        "num_verdicts": len(verdicts),
        "unjudged_share": unjudged / len(verdicts) if verdicts else 0.0,
        "judge_revision": revisions[0] if revisions else None,
    }
