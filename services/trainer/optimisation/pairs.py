"""The preference pairs of a half-step, from all its shards in shard order, as token sequences."""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.trainer.errors import NoPairsError, WrongPolicyError
from services.trainer.forward.sequences import Rows, Sequences
from shared.contracts.plans import HalfStepPlan
from shared.contracts.records import PreferencePair, Rollout, Skipped
from shared.contracts.weights import Precision, coarsest
from shared.store.artifacts import layout
from shared.store.artifacts.store import ArtifactStore, CorruptArtifactError
from shared.store.artifacts.tables import distinct_values, read_skipped, read_table
from shared.store.weights.store import weights_of

NUM_REASONS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Pairs:
    """N preference pairs. Rows [0, N) of `sequences` are the chosen responses, rows [N, 2N) the rejected ones.

    `sampler` [2N] holds the sampler's log-probs of the responses, the witness, and `sampled_by` [2N] the number of the
    version that they are log-probs of. `preference` [N] are the oracle's answers; `win_rates` [2N] the responses' own,
    None where the plan's loss does not read them. `precision` is the coarsest that a sampler computed in.
    """

    prompt_ids: list[str]
    sequences: Sequences
    preference: NDArray[np.float32]
    sampler: NDArray[np.float64]
    sampled_by: NDArray[np.int64]
    win_rates: NDArray[np.float32] | None
    precision: Precision
    skipped: list[Skipped]

    def __len__(self) -> int:
        return len(self.prompt_ids)

    def rows(self, pairs: Rows) -> Rows:
        """Rows of these pairs' responses: first all chosen ones, then all rejected ones."""
        return np.concatenate([pairs, pairs + len(self)])

    def lengths(self) -> NDArray[np.int64]:
        """Tokens of the longer sequence of each pair [N]."""
        return self.sequences.lengths.reshape(2, -1).max(axis=0)

    def digest(self) -> str:
        """Names what is trained on: tokens, preferences, win rates and sampler's log-probs."""
        content = self.sequences.digest() + self.preference.tobytes() + self.sampler.tobytes()
        content += self.sampled_by.tobytes() + (b"" if self.win_rates is None else self.win_rates.tobytes())
        return hashlib.sha256(content).hexdigest()


def read_pairs(store: ArtifactStore, step: str, plan: HalfStepPlan) -> Pairs:
    """All pairs that fit; the others are listed in `skipped`.

    `NoPairsError` when none is left, `WrongPolicyError` for a pair of another weight version, `CorruptArtifactError`
    for tokens that the model does not have and for win rates that are missing.
    """
    limits = _Limits.of(store, plan)
    kept: list[PreferencePair] = []
    skipped: list[Skipped] = []
    for shard in plan.shards:
        for pair in read_table(store, layout.pairs(step, shard.index), PreferencePair):
            limits.check(pair, plan)
            num_tokens = len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids))
            if num_tokens > limits.max_tokens:
                skipped.append(Skipped(id=pair.prompt_id, reason=limits.reason(num_tokens)))
            else:
                kept.append(pair)
    if not kept:
        raise NoPairsError(_nothing_left(store, step, plan, skipped))
    chosen = [(pair.prompt_ids, pair.chosen_ids) for pair in kept]
    rejected = [(pair.prompt_ids, pair.rejected_ids) for pair in kept]
    witness = [pair.chosen_log_prob for pair in kept] + [pair.rejected_log_prob for pair in kept]
    versions = [pair.chosen_version for pair in kept] + [pair.rejected_version for pair in kept]
    return Pairs(
        prompt_ids=[pair.prompt_id for pair in kept],
        sequences=Sequences(chosen + rejected),
        preference=np.array([pair.preference for pair in kept], dtype=np.float32),
        sampler=np.array(witness, dtype=np.float64),
        sampled_by=np.array(versions, dtype=np.int64),
        win_rates=_win_rates(kept) if plan.win_rates else None,
        precision=_precision(store, step, plan),
        skipped=skipped,
    )


def _precision(store: ArtifactStore, step: str, plan: HalfStepPlan) -> Precision:
    keys = [key for shard in plan.shards if store.exists(key := layout.rollouts(step, shard.index))]
    found = {value for key in keys for value in distinct_values(store, key, Rollout, "precision")}
    return coarsest(*found)


def _win_rates(pairs: list[PreferencePair]) -> NDArray[np.float32]:
    rates = [pair.chosen_win_rate for pair in pairs] + [pair.rejected_win_rate for pair in pairs]
    if any(rate is None for rate in rates):
        raise CorruptArtifactError(
            "the plan's loss reads win rates, which these pairs do not have: selection.method best_worst or all_pairs "
            "asks for them"
        )
    return np.array(rates, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class _Limits:
    vocab_size: int
    max_tokens: int
    name: str

    @classmethod
    def of(cls, store: ArtifactStore, plan: HalfStepPlan) -> "_Limits":
        config: dict[str, Any] = json.loads((weights_of(store).local(plan.start_from) / "config.json").read_bytes())
        config = config.get("text_config") or config
        context = config.get("max_position_embeddings")
        if isinstance(context, int) and context < plan.training.max_pair_tokens:
            return cls(config["vocab_size"], context, "the model's context")
        return cls(config["vocab_size"], plan.training.max_pair_tokens, "training.max_pair_tokens")

    def reason(self, num_tokens: int) -> str:
        return f"prompt + response has {num_tokens} tokens, {self.name} is {self.max_tokens}"

    def check(self, pair: PreferencePair, plan: HalfStepPlan) -> None:
        for number in (pair.chosen_version, pair.rejected_version):
            if all(version.number != number for version in plan.samplers):
                raise WrongPolicyError(
                    f"the pair of prompt {pair.prompt_id} was sampled by version {number}, "
                    f"the plan samples from {' or '.join(map(str, plan.samplers))}"
                )
        for field in ("prompt_ids", "chosen_ids", "rejected_ids"):
            ids: list[int] = getattr(pair, field)
            if not ids:
                raise CorruptArtifactError(f"the pair of prompt {pair.prompt_id} has empty {field}")
            if not 0 <= min(ids) <= max(ids) < self.vocab_size:
                raise CorruptArtifactError(
                    f"the pair of prompt {pair.prompt_id} has {field} outside the vocabulary of {self.vocab_size}"
                )


def _nothing_left(store: ArtifactStore, step: str, plan: HalfStepPlan, too_long: list[Skipped]) -> str:
    dropped = list(too_long)
    for shard in plan.shards:
        dropped += read_skipped(store, layout.pairs(step, shard.index), PreferencePair)
        rollouts = layout.rollouts(step, shard.index)
        dropped += read_skipped(store, rollouts, Rollout) if store.exists(rollouts) else []
    reasons = Counter(skipped.reason for skipped in dropped).most_common(NUM_REASONS_SHOWN)
    shown = (
        "; ".join(f"{count} x {reason}" for reason, count in reasons) or "nothing was left out, the oracle derived none"
    )
    return f"no preference pair is left to train on; prompts and pairs dropped: {len(dropped)} ({shown})"
