"""The prompts of a run: read once at creation, held-out ones marked, everything left out is listed with a reason."""

import hashlib
from typing import Any, Literal

from services.controller.prompts.errors import InvalidSpecError
from services.controller.prompts.messages import NotAPromptError, checked, messages_of, named
from services.controller.prompts.sources import rows_in
from shared.contracts.records import Message, Prompt, Skipped
from shared.contracts.spec import PromptSource, RunSpec
from shared.inpo.seeds import seed_of


def load_prompts(spec: RunSpec) -> tuple[list[Prompt], list[Skipped]]:
    """All prompts of a run, held-out ones marked, and what was left out.

    Without a set of their own, the held-out prompts are taken from the first training set and from no training set
    again. Raises `InvalidSpecError` for a source that is missing, unreadable, or leaves too few prompts.
    """
    skipped: list[Skipped] = []
    train: list[Prompt] = []
    seen: dict[str, str] = {}
    for index, source in enumerate(spec.prompts.sets):
        train += _read_set(source, f"prompts.sets.{index}", index, seen, skipped)
    held_out = _held_out(spec, train, skipped)
    if spec.evaluation.prompts is None:
        withheld = {prompt.prompt_id for prompt in held_out}
        train = [prompt for prompt in train if prompt.prompt_id not in withheld]
    _check_enough(spec, train)
    return train + held_out, skipped


def _held_out(spec: RunSpec, train: list[Prompt], skipped: list[Skipped]) -> list[Prompt]:
    wanted = spec.evaluation.num_prompts
    if wanted == 0:
        return []
    if spec.evaluation.prompts is not None:
        pool = _read_set(spec.evaluation.prompts, "evaluation.prompts", 0, {}, skipped)
    else:
        pool = [prompt for prompt in train if prompt.set == 0]
        pool.sort(key=lambda prompt: seed_of("held out", spec.seed, prompt.prompt_id))
        if len(pool) <= wanted:
            raise InvalidSpecError(
                "evaluation.num_prompts",
                f"{wanted} of {len(pool)} prompts would leave none to train on; lower it or give evaluation.prompts",
            )
    return [prompt.model_copy(update={"split": "held_out"}) for prompt in pool[:wanted]]


def _check_enough(spec: RunSpec, train: list[Prompt]) -> None:
    for index in range(len(spec.prompts.sets)):
        num = sum(prompt.set == index for prompt in train)
        wanted = spec.prompts.num_per_iteration or 1
        if num < wanted:
            raise InvalidSpecError(
                f"prompts.sets.{index}", f"holds {num} usable training prompts, an iteration needs {wanted}"
            )


def _read_set(
    source: PromptSource, field: str, index: int, seen: dict[str, str], skipped: list[Skipped]
) -> list[Prompt]:
    """The usable prompts of a set. `seen` maps contents and ids, of this set and those before, to a place."""
    prompts: list[Prompt] = []
    for where, row in rows_in(source, field):
        prompt = _prompt(source, index, where, row)
        if isinstance(prompt, Prompt):
            marks = {f"content {_content_id(prompt.messages)}", f"id {prompt.prompt_id}"}
            known = sorted(seen[mark] for mark in marks if mark in seen)
            if not known:
                prompts.append(prompt)
                seen.update(dict.fromkeys(marks, where))
                continue
            prompt = Skipped(id=where, reason=f"duplicate of {known[0]}")
        skipped.append(prompt)
    if not prompts:
        reasons = "; ".join(f"{item.id}: {item.reason}" for item in skipped[-3:])
        raise InvalidSpecError(field, f"no usable prompt ({reasons or 'the source is empty'})")
    return prompts


def _prompt(source: PromptSource, index: int, where: str, row: dict[str, Any] | str) -> Prompt | Skipped:
    if isinstance(row, str):
        return Skipped(id=where, reason=row)
    try:
        messages = messages_of(row, source)
        identity = _content_id(messages) if source.id_column is None else _identity(row, source.id_column)
    except NotAPromptError as error:
        return Skipped(id=where, reason=f"not a prompt: {error}")
    return Prompt(prompt_id=identity, messages=messages, split="train", set=index)


def _identity(row: dict[str, Any], column: str) -> str:
    if column not in row:
        raise NotAPromptError(f"no column {column!r} for its id; it has {sorted(row)}")
    value = row[column]
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise NotAPromptError(f"its id is {named(value)}, not text or a number")
    if value == "":
        raise NotAPromptError("its id is empty")
    return checked(str(value))


def _content_id(messages: list[Message]) -> str:
    text = "\x1e".join(f"{message.role}\x1f{message.content}" for message in messages)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


Split = Literal["train", "held_out"]


def rows_of(prompts: list[Prompt], split: Split, index: int = 0) -> list[int]:
    """Row numbers of a split (and, for training, of one set) in the run's prompts."""
    return [
        row
        for row, prompt in enumerate(prompts)
        if prompt.split == split and (split == "held_out" or prompt.set == index)
    ]
