"""Judges written in Python: `module:factory` with parameters makes a rule, the rule answers P(first beats second).

```
def build(weight: float = 1.0) -> Rule:
    def rule(prompt, first, second): ...      # a probability, or None to abstain
    return rule
```
Both orders are asked and averaged, so a rule need not be antisymmetric; one that is loses nothing. Texts of more than
`MAX_MATCHED_BYTES` are abstained from: a rule may take the square of their length, and holds the interpreter meanwhile.
"""

import hashlib
import importlib
import inspect
import json
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

from services.oracle.judge import Comparison, Judge, JudgeBuildError, Opinion, abstention, failure, opinion
from shared.contracts.judges import RulesJudge
from shared.contracts.records import Message
from shared.contracts.rest.judging import JudgeIdentity
from shared.contracts.text_limits import MAX_MATCHED_BYTES, num_bytes

Rule: TypeAlias = Callable[[Sequence[Message], str, str], float | None]


class RuleFailedError(RuntimeError):
    """The rule raised, or answered something that is no number; the message says which."""


class Rules:
    """See `Judge`. Revision: entry point, parameters and source of the entry point's module."""

    def __init__(self, rule: Rule, identity: JudgeIdentity) -> None:
        self._rule = rule
        self._identity = identity

    def identity(self) -> JudgeIdentity:
        """See `Judge.identity`."""
        return self._identity

    def compare(self, comparisons: Sequence[Comparison]) -> list[Opinion]:
        """See `Judge.compare`. A rule that raises fails this comparison and no other."""
        return [self._compare(comparison) for comparison in comparisons]

    def _compare(self, comparison: Comparison) -> Opinion:
        started = time.perf_counter()
        texts = [*(message.content for message in comparison.prompt), comparison.first, comparison.second]
        if (num := num_bytes(texts)) > MAX_MATCHED_BYTES:
            return abstention(f"prompt and responses have {num} bytes; a rule is given {MAX_MATCHED_BYTES}", 0.0)
        try:
            given = self._ask(comparison.prompt, comparison.first, comparison.second)
            swapped = self._ask(comparison.prompt, comparison.second, comparison.first)
        except RuleFailedError as error:
            return failure(str(error), time.perf_counter() - started)
        latency_s = time.perf_counter() - started
        if given is None or swapped is None:
            return abstention("the rule abstained", latency_s)
        return opinion(given, 1.0 - swapped, latency_s)

    def _ask(self, prompt: Sequence[Message], first: str, second: str) -> float | None:
        try:
            answer = cast(object, self._rule(prompt, first, second))
        except Exception as error:
            # Somebody else's code: whatever it raises is the status of its answer.
            raise RuleFailedError(f"the rule raised {type(error).__name__}: {error}") from error
        if answer is None:
            return None
        if isinstance(answer, bool) or not isinstance(answer, int | float):
            raise RuleFailedError(f"the rule answered {answer!r}, which is neither a number nor None")
        return float(answer)


def build(spec: RulesJudge, device: str) -> Judge:
    """The judge behind an entry point; `JudgeBuildError` when it cannot be imported or refuses its parameters."""
    del device  # a rule chooses its own
    module_name, separator, factory_name = spec.entry_point.partition(":")
    if not separator or not module_name or not factory_name:
        raise JudgeBuildError("entry_point", f"{spec.entry_point!r} is not of the form module:factory")
    try:
        module = importlib.import_module(module_name)
        factory = getattr(module, factory_name)
        rule = factory(**spec.params)
        source = inspect.getsource(module)
    except Exception as error:
        # Importing and calling the entry point runs somebody else's code, which may raise anything.
        field = "params" if isinstance(error, TypeError) else "entry_point"
        raise JudgeBuildError(field, f"{spec.entry_point} failed: {type(error).__name__}: {error}") from error
    if not callable(rule):
        raise JudgeBuildError("entry_point", f"{spec.entry_point} returned {type(rule).__name__}, not a callable")
    revision = _revision(spec, source)
    identity = JudgeIdentity(id=spec.entry_point, revision=revision, kind="rules", both_orders=True)
    return Rules(cast(Rule, rule), identity)


def _revision(spec: RulesJudge, source: str) -> str:
    params: dict[str, Any] = spec.params
    text = json.dumps([spec.entry_point, params, source], sort_keys=True)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()[:32]
