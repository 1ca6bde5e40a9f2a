"""Preference pairs are a pure function of plan, rollouts and verdicts: the selection is replayed, no judge is asked."""

from collections.abc import Sequence

from services.oracle.shards.questions import Asked, select
from shared.contracts.plans import HalfStepPlan
from shared.contracts.records import PreferencePair, Rollout, Skipped, Verdict
from shared.inpo.selection import SelectedPair
from shared.store.artifacts.store import CorruptArtifactError

Verdicts = dict[tuple[str, int, int, int], Verdict]


def derive_pairs(
    plan: HalfStepPlan, rollouts: Sequence[Rollout], verdicts: Sequence[Verdict]
) -> tuple[list[PreferencePair], list[Skipped]]:
    """The pairs in rollout order, and what was left out with its reason.

    `CorruptArtifactError` when the selection asks a question that the verdicts do not hold: they belong elsewhere.
    """
    known: Verdicts = {(verdict.prompt_id, verdict.a, verdict.b, verdict.draw): verdict for verdict in verdicts}

    def answer(questions: Sequence[Asked]) -> list[float | None]:
        return [_verdict(known, asked.key).answer for asked in questions]

    pairs: list[PreferencePair] = []
    skipped: list[Skipped] = []
    for rollout, selected in zip(rollouts, select(plan, rollouts, answer), strict=True):
        skipped.extend(Skipped(id=rollout.prompt_id, reason=reason) for reason in selected.dropped)
        for choice in selected.pairs:
            reason = _unusable(rollout, choice)
            if reason is None:
                pairs.append(_pair(rollout, choice, known))
            else:
                skipped.append(Skipped(id=rollout.prompt_id, reason=reason))
    return pairs, skipped


def _verdict(known: Verdicts, key: tuple[str, int, int, int]) -> Verdict:
    try:
        return known[key]
    except KeyError:
        raise CorruptArtifactError(f"the judgments hold no verdict for the question {key}") from None


def _unusable(rollout: Rollout, choice: SelectedPair) -> str | None:
    chosen, rejected = rollout.response_ids[choice.chosen], rollout.response_ids[choice.rejected]
    if not chosen or not rejected:
        return f"empty response ({choice.chosen} against {choice.rejected})"
    if chosen == rejected:
        return f"identical responses ({choice.chosen} and {choice.rejected})"
    return None


def _pair(rollout: Rollout, choice: SelectedPair, known: Verdicts) -> PreferencePair:
    question = choice.question
    verdict = _verdict(known, (rollout.prompt_id, question.a, question.b, question.draw))
    probability = verdict.probability
    if probability is not None and (question.a, question.b) == (choice.rejected, choice.chosen):
        probability = 1.0 - probability
    return PreferencePair(
        prompt_id=rollout.prompt_id,
        prompt=rollout.prompt,
        chosen=rollout.responses[choice.chosen],
        rejected=rollout.responses[choice.rejected],
        prompt_ids=rollout.prompt_ids,
        chosen_ids=rollout.response_ids[choice.chosen],
        rejected_ids=rollout.response_ids[choice.rejected],
        chosen_log_prob=sum(rollout.log_probs[choice.chosen]),
        rejected_log_prob=sum(rollout.log_probs[choice.rejected]),
        preference=choice.preference,
        probability=probability,
        judge_revision=verdict.judge_revision,
        chosen_version=rollout.versions[choice.chosen],
        rejected_version=rollout.versions[choice.rejected],
        chosen_win_rate=None if choice.win_rates is None else choice.win_rates[0],
        rejected_win_rate=None if choice.win_rates is None else choice.win_rates[1],
    )
