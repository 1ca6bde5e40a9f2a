"""How often the duality gap's 95 % interval covers the exact gap of a language model.

Each trial estimates the mean gap over the demo's questions as an evaluation does: fresh responses of the policy and of
the reference policy, all against all, judged by the demo's readers. The exact gap is known beside it, because a
question has nine well-formed answers whose log-probs are exact and the readers see nothing of a response but its style:

    gap = 2 (tau log sum_k ref(k) exp(P(k ≻ pi) / tau) + tau KL(pi || ref) - 1/2),    k: invalid, or one of the styles

Only what is none of the nine answers (about one response in a thousand) is known by sampling, from all trials'
responses together: its part of the KL divergence, and the one in 100,000 that reads as an answer nevertheless, as
special tokens are no text. The standard error of that is given with the exact gap.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from proof.demo_policies import DemoPolicies, Responses, Shares
from services.cli.demo.model import NUM_ADJECTIVES, DemoModel
from services.cli.demo.run import NUM_PROMPTS, TAU
from services.oracle.rules import styles
from shared.contracts.records import Message
from shared.inpo.estimators import Interval
from shared.inpo.gap_estimate import Comparisons, GapEstimate, duality_gap, sides

# Shares of the styles, None being the reference policy's own: INPO goes from there past the second to the third.
POLICIES: Mapping[str, Shares | None] = {
    "reference policy": None,
    "early iterate": (0.75, 0.16, 0.09),
    "near Nash": (0.61, 0.12, 0.27),
}
TAUS = (TAU, 0.1)
NUM_TRIALS = 100
NUM_RESPONSES = 128
NUM_BLOCKS = 20

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Trial:
    """One estimate; its interval is None where it was refused, which covers nothing."""

    interval: Interval | None
    effective_samples: float | None
    covered: bool


@dataclass(frozen=True, slots=True)
class GapCoverage:
    """The trials of one policy at one tau. `mean_estimate` and `mean_width` are over those that were not refused.

    `exact_gap_error` is the standard error of what is sampled in `exact_gap`.
    """

    policy: str
    tau: float
    num_questions: int
    num_responses: int
    exact_gap: float
    exact_gap_error: float
    trials: int
    covered: int
    share: float
    refused: int
    mean_estimate: float | None
    mean_width: float | None
    rows: list[Trial]


def gap_coverage(
    model: DemoModel,
    folder: Path,
    *,
    policies: Mapping[str, Shares | None] = POLICIES,
    trials: int = NUM_TRIALS,
    num_questions: int = NUM_PROMPTS,
    num_responses: int = NUM_RESPONSES,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[GapCoverage]:
    """Every policy at every tau of `TAUS`; weights go below `folder`, and `progress` hears of steps done and in all.

    All trials are disjoint parts of one seeded sample of each policy. The taus share their trials.
    """
    others = sum(shares is not None for shares in policies.values())
    done, total = 0, (1 + others) * num_questions

    def drawn() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    demo = DemoPolicies(model, folder, num_questions)
    reference = demo.draw(demo.reference, trials * num_responses, seed, drawn)
    found: list[GapCoverage] = []
    for number, (name, shares) in enumerate(policies.items(), start=1):
        own = reference
        if shares is not None:
            own = demo.draw(demo.tuned(number, shares), trials * num_responses, seed, drawn)
        found += [_coverage(name, own, reference, tau, trials) for tau in TAUS]
    return found


def exact_gap(own: Sequence[Responses], reference: Sequence[Responses], tau: float) -> tuple[float, float]:
    """The mean gap over the questions, and the standard error of what is sampled in it: over blocks of the sample.

    `ValueError` for fewer responses to a question than there are blocks.
    """
    if min(len(one.which) for one in (*own, *reference)) < NUM_BLOCKS:
        raise ValueError(f"the exact gap's error needs {NUM_BLOCKS} responses to each question")
    blocks = [slice(start, None, NUM_BLOCKS) for start in range(NUM_BLOCKS)]
    gaps = [np.mean([_gap(a, b, tau, block) for a, b in zip(own, reference, strict=True)]) for block in blocks]
    return float(np.mean(gaps)), float(np.std(gaps, ddof=1)) / math.sqrt(NUM_BLOCKS)


def _gap(own: Responses, reference: Responses, tau: float, block: slice) -> float:
    rates = np.array(styles.preference_matrix()) @ _shares(own, block)
    top = float(rates.max())
    free_energy = top + tau * math.log(float(_shares(reference, block) @ np.exp((rates - top) / tau)))
    kl = float(np.exp(own.answers) @ (own.answers - reference.answers))
    kl += float(np.where(own.listed, 0.0, own.log_ratios)[block].mean())
    return 2.0 * (free_energy + tau * kl - 0.5)


def _shares(responses: Responses, block: slice) -> Matrix:
    """The policy's mass on what is invalid and on each style."""
    style = np.array([styles.style_of(responses.question, text) for text in responses.texts])[responses.which]
    unlisted = np.where(responses.listed, styles.INVALID, style)[block]
    shares = np.bincount(unlisted, minlength=len(styles.STYLE_NAMES)) / len(unlisted)
    shares[1:] += np.exp(responses.answers).reshape(-1, NUM_ADJECTIVES).sum(axis=1)
    shares[styles.INVALID] = 1.0 - shares[1:].sum()
    return shares


def _coverage(
    name: str, own: Sequence[Responses], reference: Sequence[Responses], tau: float, trials: int
) -> GapCoverage:
    gap, error = exact_gap(own, reference, tau)
    rows = _trials(own, reference, tau, trials, gap)
    intervals = [row.interval for row in rows if row.interval is not None]
    covered = sum(row.covered for row in rows)
    return GapCoverage(
        policy=name,
        tau=tau,
        num_questions=len(own),
        num_responses=len(own[0].which) // trials,
        exact_gap=gap,
        exact_gap_error=error,
        trials=trials,
        covered=covered,
        share=covered / trials,
        refused=trials - len(intervals),
        mean_estimate=float(np.mean([one.mean for one in intervals])) if intervals else None,
        mean_width=float(np.mean([one.high - one.low for one in intervals])) if intervals else None,
        rows=rows,
    )


def _trials(
    own: Sequence[Responses], reference: Sequence[Responses], tau: float, trials: int, gap: float
) -> list[Trial]:
    """As `services.controller.measuring.gap` takes an evaluation's comparisons together, which are all against all."""
    num = len(own[0].which) // trials
    mine, theirs = (np.array(side) for side in sides(num, of_itself=own is reference))
    losses = [_losses(a, b) for a, b in zip(own, reference, strict=True)]
    rows: list[Trial] = []
    for start in range(0, trials * num, num):
        prompts = [
            Comparisons(
                1.0 - lost[np.ix_(a.which[start + mine], b.which[start + theirs])].T, a.log_ratios[start + mine]
            )
            for a, b, lost in zip(own, reference, losses, strict=True)
        ]
        found = duality_gap(prompts, tau)
        interval = found.interval if isinstance(found, GapEstimate) else None
        covered = interval is not None and interval.low <= gap <= interval.high
        rows.append(Trial(interval, found.effective_samples, covered))
    return rows


def _losses(own: Responses, reference: Responses) -> Matrix:
    """P(text of the policy beats text of the reference policy); a text against itself is one half."""
    rule, asked = styles.cyclic_panel(), [Message(role="user", content=own.question)]
    return np.array(
        [[0.5 if a == b else rule(asked, a, b) for b in reference.texts] for a in own.texts], dtype=np.float64
    )
