"""Committing an iteration: proving its artifacts and counting what is in them, each read once."""

import hashlib
import time
from dataclasses import dataclass, field

from services.controller.measuring import skipped
from services.controller.reconciling.observer import num_unanswered
from shared.contracts.plans import GeometricMixtureWeights, HalfStepPlan
from shared.contracts.records import Commit, PreferencePair, PublishedWeights, Rollout, Skipped
from shared.store.artifacts import layout
from shared.store.artifacts.store import ArtifactStore, create_model, read_model
from shared.store.artifacts.tables import counted, decode, decode_skipped


def commit(store: ArtifactStore, run: str, iteration: int, num_halves: int) -> None:
    """Write `commit.json`: the iteration happened, once, with these artifacts of all its half-steps and these weights.

    The metrics are those of the last half-step, which makes the iterate; an earlier one's have its name before theirs.
    """
    steps = [layout.half_step(run, iteration, half) for half in range(1, num_halves + 1)]
    plans = [read_model(store, layout.plan(step), HalfStepPlan) for step in steps]
    published = [read_model(store, layout.published(step), PublishedWeights) for step in steps]
    metrics = dict(published[-1].metrics)
    for half, earlier in enumerate(published[:-1], start=1):
        metrics |= {f"half_{half}_{name}": value for name, value in earlier.metrics.items()}
    found = _Found(store, skipped=[item for weights in published for item in weights.skipped])
    for step, plan in zip(steps, plans, strict=True):
        found.read_step(step, plan)
    dropped = skipped.by_reason(found.skipped)
    proof = Commit(
        iteration=iteration,
        weights=published[-1].version,
        num_pairs=found.num_pairs,
        digests=found.digests,
        metrics={
            **metrics,
            **found.effective_sample_sizes(),
            "identical_pair_share": skipped.identical_share(dropped, found.num_pairs),
            "unjudged_share": found.num_unanswered / found.num_asked if found.num_asked else 0.0,
            "seconds": time.time() - plans[0].planned_at_s,
        },
        dropped=dropped,
    )
    create_model(store, layout.commit(run, iteration), proof)


@dataclass(slots=True)
class _Found:
    """What the artifacts of an iteration hold, step by step."""

    store: ArtifactStore
    skipped: list[Skipped]
    digests: dict[str, str] = field(default_factory=dict[str, str])
    num_pairs: int = 0
    num_asked: int = 0
    num_unanswered: int = 0
    sample_sizes: list[float] = field(default_factory=list[float])

    def read_step(self, step: str, plan: HalfStepPlan) -> None:
        """All that a half-step is made of; pairs that it borrows are proven where they were made."""
        self._read(layout.plan(step))
        if plan.same_pairs_as is None:
            shards = [shard.index for shard in plan.shards]
            resampled = (
                isinstance(plan.mixture, GeometricMixtureWeights) and plan.sampling.geometric.method == "sequence"
            )
            for shard in shards:
                self._read_rollouts(layout.rollouts(step, shard), resampled=resampled)
            for shard in shards:
                self._read_judgments(layout.judgments(step, shard))
            for shard in shards:
                self._read_pairs(layout.pairs(step, shard))
        self._read(layout.published(step))

    def effective_sample_sizes(self) -> dict[str, float]:
        """Smallest and mean effective sample size a prompt, where responses were resampled from proposals."""
        sizes = self.sample_sizes
        if not sizes:
            return {}
        return {"effective_sample_size_min": min(sizes), "effective_sample_size_mean": sum(sizes) / len(sizes)}

    def _read(self, key: str) -> bytes:
        data = self.store.read(key)
        self.digests[key] = hashlib.sha256(data).hexdigest()
        return data

    def _read_rollouts(self, key: str, *, resampled: bool) -> None:
        data = self._read(key)
        self.skipped += decode_skipped(Rollout, data, key)
        if resampled:
            sizes = (rollout.effective_sample_size for rollout in decode(Rollout, data, key))
            self.sample_sizes += [size for size in sizes if size is not None]

    def _read_judgments(self, key: str) -> None:
        unanswered, asked = num_unanswered(self._read(key), key)
        self.num_unanswered += unanswered
        self.num_asked += asked

    def _read_pairs(self, key: str) -> None:
        num_pairs, left_out = counted(PreferencePair, self._read(key), key)
        self.num_pairs += num_pairs
        self.skipped += left_out
