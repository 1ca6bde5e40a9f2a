"""The sampling policy of a plan, carried out: which version draws which response, and how draws become responses.

The engine only ever samples one version (or, where it can, a token mixture of two). A mixture over versions is drawn
response by response and generated version by version, so that a shard swaps every version in at most once.
"""

import math
from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path

from services.policy.engine import Completion, Engine, EngineError, GenerationRequest, Sampling, TokenMixing
from services.policy.swapping.gate import Gate
from shared.contracts.plans import EvaluationPlan, GeometricMixtureWeights, HalfStepPlan
from shared.contracts.records import Skipped
from shared.contracts.spec import SamplingSpec
from shared.contracts.weights import WeightVersion
from shared.inpo.seeds import seed_of, uniform_of

SamplingPlan = HalfStepPlan | EvaluationPlan


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """A prompt as the policy sees it."""

    prompt_id: str
    ids: list[int]


@dataclass(frozen=True, slots=True)
class Drawn:
    """The K responses to one prompt; `versions` are those whose log-probs the completions carry."""

    completions: list[Completion]
    versions: list[WeightVersion]
    effective_sample_size: float | None = None


class Drawing:
    """Draws a shard's responses. `step` is the step's key without its run: equal runs draw equally."""

    def __init__(
        self, gate: Gate, directory_of: Callable[[WeightVersion], Path], plan: SamplingPlan, step: str
    ) -> None:
        self._gate = gate
        self._directory_of = directory_of
        self._plan = plan
        self._step = step
        self._sampling = Sampling(plan.sampling.max_new_tokens, plan.sampling.temperature, plan.sampling.top_p)

    def draw(self, prompts: Sequence[RenderedPrompt]) -> list[Drawn | Skipped]:
        """What each prompt got, in order; a prompt whose responses would misrepresent the policy is skipped.

        `SwapRefusedError` for weights that fail verification; `EngineError` when the engine cannot do what the plan
        asks, changes its version meanwhile, or gives something that must not be stored.
        """
        plan = self._plan
        if isinstance(plan, EvaluationPlan):
            return [*self._from_versions(prompts, [plan.version], plan.num_responses)]
        if not isinstance(plan.mixture, GeometricMixtureWeights):
            return [*self._from_versions(prompts, plan.samplers, plan.sampling.num_responses)]
        if plan.sampling.geometric.method == "token":
            return [*self._token_mixture(prompts, plan, plan.mixture.reference_exponent)]
        return self._resampled(prompts, plan, plan.mixture.reference_exponent)

    def _from_versions(
        self, prompts: Sequence[RenderedPrompt], versions: Sequence[WeightVersion], num: int
    ) -> list[Drawn]:
        """Of several versions one is drawn for each response, uniformly: an arithmetic mixture."""
        weights = [1.0] * len(versions)
        drawn_from = [
            [versions[self._pick(weights, "mixture", prompt.prompt_id, sample)] for sample in range(num)]
            for prompt in prompts
        ]
        found: dict[tuple[int, int], Completion] = {}
        for version in self._live_first(versions):
            wanted = [
                (row, [sample for sample in range(num) if mine[sample] == version])
                for row, mine in enumerate(drawn_from)
            ]
            wanted = [(row, samples) for row, samples in wanted if samples]
            requests = [self._request(prompts[row], samples) for row, samples in wanted]
            names = [prompts[row].prompt_id for row, _ in wanted]
            if requests:
                with self._gate.serving(version) as engine:
                    completions = generate(engine, version, names, requests, self._sampling)
                for (row, samples), answered in zip(wanted, completions, strict=True):
                    found |= {(row, sample): one for sample, one in zip(samples, answered, strict=True)}
        return [Drawn([found[row, sample] for sample in range(num)], mine) for row, mine in enumerate(drawn_from)]

    def _token_mixture(
        self, prompts: Sequence[RenderedPrompt], plan: HalfStepPlan, reference_exponent: float
    ) -> list[Drawn]:
        num, reference = plan.sampling.num_responses, plan.reference
        requests = [self._request(prompt, range(num)) for prompt in prompts]
        names = [prompt.prompt_id for prompt in prompts]
        with self._gate.serving(plan.sample_from) as engine:
            if not isinstance(engine, TokenMixing):
                raise EngineError(
                    f"{type(engine).__name__} cannot mix two policies token by token: set sampling.geometric.method "
                    "to `sequence`, which any engine can do, or serve with the transformers engine"
                )
            engine.hold(self._directory_of(reference), reference)
            ask = partial(engine.generate_mixed, held=reference, exponent=reference_exponent)
            completions = generate(engine, plan.sample_from, names, requests, self._sampling, ask)
        return [Drawn(found, [plan.sample_from] * num) for found in completions]

    def _resampled(
        self, prompts: Sequence[RenderedPrompt], plan: HalfStepPlan, reference_exponent: float
    ) -> list[Drawn | Skipped]:
        """Sampling importance resampling: proposals of pi, resampled with weights (ref / pi)^m."""
        proposals = self._from_versions(prompts, [plan.sample_from], plan.sampling.geometric.num_proposals)
        with self._gate.serving(plan.reference) as engine:
            reference = score(engine, plan.reference, prompts, proposals)
        return [
            self._resample(prompt, drawn, importance(drawn.completions, found, reference_exponent), plan.sampling)
            for prompt, drawn, found in zip(prompts, proposals, reference, strict=True)
        ]

    def _resample(
        self, prompt: RenderedPrompt, proposals: Drawn, weights: Sequence[float], sampling: SamplingSpec
    ) -> Drawn | Skipped:
        size, least, num = effective_sample_size(weights), sampling.geometric.min_effective_samples, len(weights)
        if size < least:
            reason = (
                f"the effective sample size of {num} proposals is {size:.1f}, below {least:g}: raise "
                "sampling.geometric.num_proposals, or mix token by token"
            )
            return Skipped(id=prompt.prompt_id, reason=reason)
        kept = [self._pick(weights, "resample", prompt.prompt_id, k) for k in range(sampling.num_responses)]
        return Drawn([proposals.completions[i] for i in kept], [proposals.versions[i] for i in kept], size)

    def _pick(self, weights: Sequence[float], purpose: str, prompt_id: str, sample: int) -> int:
        """An index drawn by weight, the same for the same response everywhere."""
        if len(weights) == 1:
            return 0
        sums = list(accumulate(weights))
        draw = uniform_of(purpose, self._plan.seed, self._step, prompt_id, sample) * sums[-1]
        return min(bisect(sums, draw), len(sums) - 1)

    def _live_first(self, versions: Sequence[WeightVersion]) -> list[WeightVersion]:
        live = self._gate.live
        return sorted(versions, key=lambda version: version != live)

    def _request(self, prompt: RenderedPrompt, samples: Sequence[int]) -> GenerationRequest:
        # Seeds that follow one another, which engines sample fastest; below 2**63 all of them.
        first = seed_of("sample", self._plan.seed, self._step, prompt.prompt_id) >> 1
        return GenerationRequest(prompt.ids, [first + sample for sample in samples])


Generate = Callable[[Sequence[GenerationRequest], Sampling], list[list[Completion]]]


def generate(
    engine: Engine,
    version: WeightVersion,
    names: Sequence[str],
    requests: Sequence[GenerationRequest],
    sampling: Sampling,
    ask: Generate | None = None,
) -> list[list[Completion]]:
    """The engine's completions, all under `version`, each fit to be stored; `EngineError` says what is not.

    `names` are the prompts' ids, for the messages; `ask` is the engine's `generate` unless it is another way to draw.
    """
    before = engine.live_version()
    completions = (ask or engine.generate)(requests, sampling) if requests else []
    after = engine.live_version()
    if not before == after == version:
        raise EngineError(f"asked for {version}, but {before} was live before and {after} after generating")
    if len(completions) != len(requests):
        raise EngineError(f"the engine answered {len(completions)} of {len(requests)} prompts")
    for request, name, found in zip(requests, names, completions, strict=True):
        check_completions(name, request, found)
    return completions


def check_completions(prompt_id: str, request: GenerationRequest, completions: Sequence[Completion]) -> None:
    """`EngineError` unless there is one response for each seed, each with tokens and as many finite log-probs."""
    if len(completions) != len(request.seeds):
        raise EngineError(f"{prompt_id}: {len(completions)} responses instead of {len(request.seeds)}")
    for sample, completion in enumerate(completions):
        if not completion.token_ids:
            raise EngineError(f"{prompt_id}: response {sample} has no tokens")
        if len(completion.log_probs) != len(completion.token_ids):
            raise EngineError(f"{prompt_id}: response {sample} has not one log-prob for each token")
        if not all(math.isfinite(value) and value <= 1e-6 for value in completion.log_probs):
            raise EngineError(f"{prompt_id}: response {sample} has a log-prob that is not finite or above 0")


def importance(proposals: Sequence[Completion], reference: Sequence[float], exponent: float) -> list[float]:
    """Weights of pi's responses as draws from `ref^m · pi^(1 - m)`: (ref / pi)^m, the largest scaled to 1.

    `reference` are log ref of the responses, `exponent` is m.
    """
    logs = [
        exponent * (log_prob - math.fsum(proposal.log_probs))
        for log_prob, proposal in zip(reference, proposals, strict=True)
    ]
    return [math.exp(value - max(logs)) for value in logs]


def effective_sample_size(weights: Sequence[float]) -> float:
    """(sum w)^2 / sum w^2: how many equally weighted draws the weighted ones are worth, between 1 and their number."""
    return sum(weights) ** 2 / sum(weight * weight for weight in weights)


def score(
    engine: Engine, version: WeightVersion, prompts: Sequence[RenderedPrompt], drawn: Sequence[Drawn]
) -> list[list[float]]:
    """The log pi of each response of each prompt, all under `version`; `EngineError` when that cannot be said."""
    pairs = [(prompt, one) for prompt, found in zip(prompts, drawn, strict=True) for one in found.completions]
    rows = engine.score([prompt.ids + completion.token_ids for prompt, completion in pairs]) if pairs else []
    if engine.live_version() != version:
        raise EngineError(f"asked for {version}, but {engine.live_version()} is live after scoring")
    if [len(row) for row in rows] != [len(p.ids) + len(c.token_ids) - 1 for p, c in pairs]:
        raise EngineError("the engine has not scored every token of every response")
    sums = iter([math.fsum(row[len(prompt.ids) - 1 :]) for row, (prompt, _) in zip(rows, pairs, strict=True)])
    return [[next(sums) for _ in found.completions] for found in drawn]
