"""Hop 5 of a prompt: a shard's prompts become rollouts under the weight version that the plan names."""

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from services.policy.drawing.prompts import Renderer, Tokenizer, prompt_limit
from services.policy.drawing.sampling_policy import Drawing, Drawn, RenderedPrompt, SamplingPlan
from services.policy.engine import EngineUnavailableError, SwapGivenUpError
from services.policy.swapping.gate import Gate
from shared.contracts.plans import EvaluationPlan, HalfStepPlan
from shared.contracts.records import Prompt, Rollout, Skipped
from shared.contracts.weights import Precision
from shared.contracts.work import Attempt, WorkItem
from shared.runtime.telemetry import span
from shared.runtime.worker.loop import GiveUp, RetryLater
from shared.store.artifacts import layout
from shared.store.artifacts.runs import read_plan
from shared.store.artifacts.store import ArtifactStore, CorruptArtifactError
from shared.store.artifacts.tables import create_table, read_skipped, read_table
from shared.store.weights.store import weights_of

AWAY_PAUSE_S = 2.0


class GenerateHandler:
    """Handles items of kind `generate`: the rollouts artifact exists, durable, when a call returns.

    A shard whose artifact exists is adopted as it is. Raises when the weights are refused, the engine gives something
    that must not be stored, or the version changed meanwhile; nothing is written then, and the item may be tried again.
    `RetryLater` while the engine is away, `GiveUp` for weights that it has refused several times.
    """

    def __init__(
        self,
        store: ArtifactStore,
        gate: Gate,
        load_tokenizer: Callable[[Path], Tokenizer],
    ) -> None:
        self._store = store
        self._weights = weights_of(store)
        self._gate = gate
        self._tokenizer = lru_cache(maxsize=2)(load_tokenizer)
        self._prompts = lru_cache(maxsize=1)(self._read_prompts)

    def __call__(self, item: WorkItem, attempt: Attempt) -> dict[str, Any]:
        """Counts of what the shard's artifact holds: rollouts, skipped prompts, response tokens."""
        key = layout.rollouts(item.step, item.shard)
        if self._store.exists(key):
            return self._adopted(key)
        plan = _read_plan(self._store, item)
        version = plan.sample_from if isinstance(plan, HalfStepPlan) else plan.version
        directory = self._weights.local(version)
        try:
            # Verified before its tokenizer is read.
            self._gate.ensure(version)
            rendered, skipped = self._render(item, plan, directory)
            prompts = [RenderedPrompt(prompt.prompt_id, ids) for prompt, ids in rendered]
            with span("generate", run=item.run, step=item.step, shard=item.shard, version=str(version)):
                drawn = self._drawing(item, plan).draw(prompts)
            precision = self._gate.precision
        except EngineUnavailableError as error:
            raise RetryLater(AWAY_PAUSE_S, str(error)) from error
        except SwapGivenUpError as error:
            raise GiveUp(str(error)) from error
        rollouts: list[Rollout] = []
        for (prompt, prompt_ids), found in zip(rendered, drawn, strict=True):
            if isinstance(found, Skipped):
                skipped.append(found)
            else:
                rollouts.append(_rollout(prompt, prompt_ids, found, self._tokenizer(directory), precision))
        if not create_table(self._store, key, Rollout, rollouts, skipped):
            return self._adopted(key)
        return _summary(rollouts, skipped, adopted=False)

    def _drawing(self, item: WorkItem, plan: SamplingPlan) -> Drawing:
        step = item.step.removeprefix(f"{layout.run(item.run)}/")
        return Drawing(self._gate, self._weights.local, plan, step)

    def _adopted(self, key: str) -> dict[str, Any]:
        rollouts = read_table(self._store, key, Rollout)
        return _summary(rollouts, read_skipped(self._store, key, Rollout), adopted=True)

    def _render(
        self, item: WorkItem, plan: SamplingPlan, directory: Path
    ) -> tuple[list[tuple[Prompt, list[int]]], list[Skipped]]:
        limit = prompt_limit(plan.max_prompt_tokens, plan.sampling.max_new_tokens, context_of(directory))
        renderer = Renderer(self._tokenizer(directory), plan.prompt_format, limit, plan.chat_template_kwargs)
        rendered: list[tuple[Prompt, list[int]]] = []
        skipped: list[Skipped] = []
        for prompt in self._shard(item, plan):
            result = renderer.render(prompt)
            if isinstance(result, Skipped):
                skipped.append(result)
            else:
                rendered.append((prompt, result))
        return rendered, skipped

    def _shard(self, item: WorkItem, plan: SamplingPlan) -> list[Prompt]:
        prompts = self._prompts(item.run)
        rows = next((shard.prompts for shard in plan.shards if shard.index == item.shard), None)
        if rows is None:
            raise CorruptArtifactError(f"{layout.plan(item.step)} has no shard {item.shard}")
        if any(not 0 <= row < len(prompts) for row in rows):
            raise CorruptArtifactError(f"{layout.plan(item.step)}: shard {item.shard} names rows that no prompt has")
        return [prompts[row] for row in rows]

    def _read_prompts(self, run: str) -> list[Prompt]:
        return read_table(self._store, layout.prompts(run), Prompt)


def context_of(directory: Path) -> int | None:
    """Tokens that the directory's model can attend to, where its config.json says so."""
    config: dict[str, Any] = json.loads((directory / "config.json").read_bytes())
    context = config.get("text_config", config).get("max_position_embeddings")
    return context if isinstance(context, int) else None


def _read_plan(store: ArtifactStore, item: WorkItem) -> SamplingPlan:
    plan = read_plan(store, item.step)
    if not isinstance(plan, HalfStepPlan | EvaluationPlan):
        raise CorruptArtifactError(f"{layout.plan(item.step)} is of type {plan.type}: it samples nothing")
    return plan


def _rollout(
    prompt: Prompt, prompt_ids: list[int], drawn: Drawn, tokenizer: Tokenizer, precision: Precision
) -> Rollout:
    return Rollout(
        prompt_id=prompt.prompt_id,
        prompt=prompt.messages,
        prompt_ids=prompt_ids,
        responses=[tokenizer.decode(completion.token_ids) for completion in drawn.completions],
        response_ids=[completion.token_ids for completion in drawn.completions],
        log_probs=[completion.log_probs for completion in drawn.completions],
        finish_reasons=[completion.finish_reason for completion in drawn.completions],
        versions=[version.number for version in drawn.versions],
        digests=[version.digest for version in drawn.versions],
        precision=precision,
        effective_sample_size=drawn.effective_sample_size,
    )


def _summary(rollouts: Sequence[Rollout], skipped: Sequence[Skipped], *, adopted: bool) -> dict[str, Any]:
    return {
        "rollouts": len(rollouts),
        "skipped": len(skipped),
        "response_tokens": sum(len(ids) for rollout in rollouts for ids in rollout.response_ids),
        "adopted": adopted,
    }
