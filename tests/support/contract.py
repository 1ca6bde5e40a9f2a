# schemathesis' strategies are only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownParameterType=false, reportMissingTypeArgument=false
"""Contract fuzzing: requests drawn from a service's own description, answers held against it.

What is checked of every answer: no 5xx that is not documented as one that asks to come back, no status that the
description does not name, the content type and the body that it promises for that status.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import schemathesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi import checks

CHECKS: list[Any] = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


@dataclass(frozen=True, slots=True)
class Fuzzing:
    """What is sent. `known` holds values of path parameters that exist, `never_known` the operations not to reach."""

    num_cases: int
    headers: Sequence[Mapping[str, str]] = ({},)
    known: Mapping[str, str] = field(default_factory=dict[str, str])
    never_known: frozenset[str] = frozenset()


def fuzz(url: str, headers: Mapping[str, str], fuzzing: Fuzzing) -> dict[str, set[int]]:
    """Fuzz every operation of the service at `url`; the statuses that each answered with.

    `headers` open the description. Raises what schemathesis finds, with the request that shows it.
    """
    description = schemathesis.openapi.from_url(f"{url}/openapi.json", headers=dict(headers))
    description.config.generation.update(with_security_parameters=False)
    found: list[Any] = list(description.get_all_operations())
    return {operation.label: _fuzz_operation(url, operation, fuzzing) for operation in (item.ok() for item in found)}


def _fuzz_operation(url: str, operation: Any, fuzzing: Fuzzing) -> set[int]:
    seen: set[int] = set()

    @hypothesis.seed(20260301)
    @hypothesis.settings(
        max_examples=fuzzing.num_cases,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    @hypothesis.given(case=st.one_of(list(_strategies(operation, fuzzing))), headers=st.sampled_from(fuzzing.headers))
    def each(case: Case, headers: Mapping[str, str]) -> None:
        response = case.call(base_url=url, headers=dict(headers), timeout=20)
        seen.add(response.status_code)
        assert response.status_code not in (500, 501, 502, 504), f"{operation.label}: {response.text}"
        case.validate_response(response, checks=CHECKS)

    each()
    return seen


def _strategies(operation: Any, fuzzing: Fuzzing) -> Iterator[st.SearchStrategy[Case]]:
    names = [parameter.name for parameter in operation.path_parameters]
    known = {name: fuzzing.known[name] for name in names if name in fuzzing.known}
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        if mode.is_negative and not (operation.body or any(operation.iter_parameters())):
            continue
        yield operation.as_strategy(generation_mode=mode)
        if known and operation.label not in fuzzing.never_known:
            yield operation.as_strategy(generation_mode=GenerationMode.POSITIVE, path_parameters=known)
