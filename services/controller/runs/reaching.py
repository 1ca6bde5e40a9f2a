"""Whether a run names only files and hub ids that this service may be made to read."""

from services.controller.prompts.errors import InvalidSpecError
from shared.contracts.judges import judges_of
from shared.contracts.spec import PromptSource, RunSpec
from shared.runtime.reach import Reach


def check_reach(spec: RunSpec, reach: Reach) -> None:
    """`InvalidSpecError` naming the field that leads elsewhere, whether or not something is there."""
    sources = {f"prompts.sets.{number}": source for number, source in enumerate(spec.prompts.sets)}
    if spec.evaluation.prompts is not None:
        sources["evaluation.prompts"] = spec.evaluation.prompts
    for field, source in sources.items():
        _check_source(field, source, reach)
    _check("model.path", spec.model.path, reach)
    for field, judge in judges_of(spec.oracle.judge).items():
        if judge.kind == "reward_model" or judge.kind == "pair_model":  # noqa: PLR1714  (narrows the type)
            _check(f"oracle.{field}.path", judge.path, reach)


def _check_source(field: str, source: PromptSource, reach: Reach) -> None:
    try:
        if source.hub is not None:
            reach.check_hub(source.hub)
    except ValueError as error:
        raise InvalidSpecError(f"{field}.hub", str(error)) from None
    if source.path is not None:
        _check(f"{field}.path", source.path, reach, hub=False)


def _check(field: str, named: str, reach: Reach, *, hub: bool = True) -> None:
    try:
        reach.check(named, hub=hub)
    except ValueError as error:
        raise InvalidSpecError(field, str(error)) from None
