"""A panel: several judges with weights, whose answer is the weighted mean of theirs.

It is the preference of a population in which the members have these shares, and so is not transitive in general even
where every member is. A member without an answer leaves the panel without one: weights are never renormalised over
those who happen to answer, which would be another population.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.oracle.judge import Comparison, Judge, Opinion, abstention, failure, opinion
from services.oracle.judges.registry import RememberingJudge
from shared.contracts.judges import MemberJudge, PanelJudge
from shared.contracts.rest.judging import JudgeIdentity

# Answers of one member that are kept while another one fails.
CAPACITY = 100_000


@dataclass(frozen=True, slots=True)
class Member:
    """A judge and its share; the shares of a panel add up to 1."""

    judge: Judge
    share: float


class Panel:
    """See `Judge`."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = members

    def identity(self) -> JudgeIdentity:
        """See `Judge.identity`: the revision is a digest of the members and their shares, in any order."""
        identities = [member.judge.identity() for member in self._members]
        # Local judges are known by their revision, external ones by who they are, too: as runs are pinned to them.
        known = sorted(
            [identity.kind, identity.id if identity.kind in ("http", "pull", "external") else "", identity.revision,
             round(member.share, 12)]
            for identity, member in zip(identities, self._members, strict=True)
        )  # fmt: skip
        return JudgeIdentity(
            id="panel("
            + ", ".join(f"{m.share:.3g} {i.id}" for m, i in zip(self._members, identities, strict=True))
            + ")",
            revision="sha256:" + hashlib.sha256(json.dumps(known).encode()).hexdigest()[:32],
            kind="panel",
            transitive=False,
            stochastic=any(identity.stochastic for identity in identities),
        )

    def compare(self, comparisons: Sequence[Comparison]) -> list[Opinion]:
        """See `Judge.compare`. What members answered before another one became unavailable is not asked again."""
        answers = [member.judge.compare(comparisons) for member in self._members]
        return [self._together(opinions) for opinions in zip(*answers, strict=True)]

    def _together(self, opinions: Sequence[Opinion]) -> Opinion:
        latency_s = sum(one.latency_s for one in opinions)
        for status, make in (("error", failure), ("abstain", abstention)):
            for member, one in zip(self._members, opinions, strict=True):
                if one.status == status:
                    return make(f"{member.judge.identity().id}: {one.error}", latency_s)
        shares = [member.share for member in self._members]
        given = _mean(shares, [one.probability_given for one in opinions])
        if all(one.probability_swapped is None for one in opinions):
            return opinion(given, None, latency_s)
        # A member without positions answers the same in both.
        swapped = [
            one.probability_given if one.probability_swapped is None else one.probability_swapped for one in opinions
        ]
        return opinion(given, _mean(shares, swapped), latency_s)


def build_panel(spec: PanelJudge, build: Callable[[MemberJudge], Judge]) -> Panel:
    """The panel of a specification; raises as `build` does for a member."""
    total = sum(member.weight for member in spec.members)
    return Panel([Member(RememberingJudge(build(m.judge), capacity=CAPACITY), m.weight / total) for m in spec.members])


def _mean(shares: Sequence[float], probabilities: Sequence[float | None]) -> float:
    mean = sum(share * (p if p is not None else float("nan")) for share, p in zip(shares, probabilities, strict=True))
    # Shares add up to 1 up to rounding only: unanimous members at 1 must not be a hair above it.
    return min(mean, 1.0)
