"""`inpo validate`: everything about a run that can be known without running it."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from services.cli.failures import SpecError
from services.controller.prompts.errors import InvalidSpecError
from services.controller.prompts.loading import load_prompts
from services.controller.runs.advice import advice
from services.controller.runs.checks import check_models
from services.controller.runs.footprint import Footprint, footprint, shortage
from services.oracle.judge import JudgeBuildError
from services.oracle.judges import rules
from services.policy.drawing.prompts import Renderer, Tokenizer, prompt_limit
from services.policy.worker import context_of
from shared.contracts.judges import judges_of
from shared.contracts.records import Prompt, Skipped
from shared.contracts.rest.runs import Advice
from shared.contracts.spec import RunSpec
from shared.runtime.settings import Settings
from shared.store.artifacts.probe import free_bytes


@dataclass(frozen=True, slots=True)
class Report:
    """What a run would do.

    `skipped` are rows that it would leave out when it reads them, at its creation, `unrendered` prompts that it would
    leave out later, when it renders them; `unchecked` is what only running can tell; `warnings` are theory's, and about
    the disk of the store, of which `disk` is what the run needs.
    """

    num_train: dict[int, int]
    num_held_out: int
    pairs_per_iteration: int
    skipped: list[Skipped]
    unrendered: list[Skipped]
    unchecked: list[str] = field(default_factory=list[str])
    warnings: list[Advice] = field(default_factory=list[Advice])
    disk: Footprint | None = None


def check(spec: RunSpec) -> Report:
    """The report; `SpecError` names the first field with which the run could not begin."""
    unchecked: list[str] = []
    try:
        check_models(spec)
        prompts, skipped = load_prompts(spec)
    except InvalidSpecError as error:
        raise SpecError(str(error)) from None
    _check_rules(spec, unchecked)
    unrendered = _unrendered(spec, prompts, unchecked)
    sets = Counter(prompt.set for prompt in prompts if prompt.split == "train")
    disk = footprint(spec, min(sets.values()))
    return Report(
        num_train=dict(sorted(sets.items())),
        num_held_out=sum(prompt.split == "held_out" for prompt in prompts),
        pairs_per_iteration=_most_pairs(spec, min(sets.values())),
        skipped=skipped,
        unrendered=unrendered,
        unchecked=unchecked,
        warnings=[*advice(spec), *shortage(disk, _free_bytes(Settings().store_dir))],
        disk=disk,
    )


def _free_bytes(store: Path) -> int:
    """Where the store is, or would be made."""
    return free_bytes(next(folder for folder in [store.absolute(), *store.absolute().parents] if folder.exists()))


def _check_rules(spec: RunSpec, unchecked: list[str]) -> None:
    for place, judge in judges_of(spec.oracle.judge).items():
        if judge.kind != "rules":
            external = judge.kind in ("http", "pull")
            what = f"{judge.kind} judges are asked" if external else f"{judge.kind} models are loaded"
            unchecked.append(f"the {place}: {what} by the oracle")
            continue
        try:
            rules.build(judge, "cpu")
        except JudgeBuildError as error:
            raise SpecError(f"oracle.{place}.{error.field}: {error.reason}") from None


def _unrendered(spec: RunSpec, prompts: list[Prompt], unchecked: list[str]) -> list[Skipped]:
    tokenizer = _tokenizer(spec, unchecked)
    if tokenizer is None:
        return []
    try:
        limit = prompt_limit(spec.prompts.max_tokens, spec.sampling.max_new_tokens, context_of(Path(spec.model.path)))
        renderer = Renderer(tokenizer, spec.prompts.format, limit, spec.prompts.chat_template_kwargs)
    except ValueError as error:
        raise SpecError(str(error)) from None
    rendered = (renderer.render(prompt) for prompt in prompts)
    skipped = [item for item in rendered if isinstance(item, Skipped)]
    if len(skipped) == len(prompts):
        raise SpecError(f"prompts: all {len(prompts)} would be skipped, the first because: {skipped[0].reason}")
    return skipped


def _tokenizer(spec: RunSpec, unchecked: list[str]) -> Tokenizer | None:
    directory = Path(spec.model.path)
    if not directory.is_dir():
        unchecked.append(f"the model and the prompts' lengths in tokens: {spec.model.path} is fetched by the trainer")
        return None
    try:
        from services.policy.drawing.hf_tokenizer import HfTokenizer  # noqa: PLC0415  (a lean installation has none)
    except ImportError as error:
        unchecked.append(f"the prompts' lengths in tokens: {error.name} is not installed here")
        return None
    try:
        return HfTokenizer(directory)
    except (OSError, ValueError, KeyError) as error:
        raise SpecError(f"model.path: {directory} holds no tokenizer that can be loaded: {error}") from None


def _most_pairs(spec: RunSpec, num_prompts: int) -> int:
    num = spec.sampling.num_responses
    by_method = {
        "tournament": 1,
        "best_worst": 1,
        "random_pairs": spec.selection.num_pairs or num // 2,
        "all_pairs": num * (num - 1) // 2,
    }
    return by_method[spec.selection.method] * (spec.prompts.num_per_iteration or num_prompts)
