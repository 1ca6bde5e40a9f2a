# transformers is only partly typed.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
"""Variables of a chat template: what may be given, and that plans carry it."""

import inspect
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from transformers import PreTrainedTokenizerBase

from services.controller.reconciling.plan_building import half_step_plan
from shared.contracts.plans import PLAN, HalfStepPlan
from shared.contracts.records import Message, Prompt
from shared.contracts.spec import RunSpec
from tests.support.judged_steps import a_version
from tests.support.specs import a_spec_body

TEMPLATES_OWN = {"tools", "documents"}


def _spec(tmp_path: Path, kwargs: dict[str, Any], **prompts: Any) -> RunSpec:
    body = a_spec_body(tmp_path)
    body["prompts"] |= {"chat_template_kwargs": kwargs, **prompts}
    return RunSpec.model_validate(body)


def _plan(spec: RunSpec) -> HalfStepPlan:
    prompts = [Prompt(prompt_id=f"p{number}", messages=[Message(role="user", content="?")]) for number in range(6)]
    return half_step_plan("run-1", spec, prompts, lambda iterate: a_version(), 1, 1)


def test_no_argument_that_the_policy_decides_on_can_be_overridden(tmp_path: Path) -> None:
    """Every named parameter of `apply_chat_template` but what it hands to the template."""
    signature = inspect.signature(PreTrainedTokenizerBase.apply_chat_template)
    named = [name for name, parameter in signature.parameters.items() if parameter.kind is not parameter.VAR_KEYWORD]
    for name in set(named) - TEMPLATES_OWN:
        with pytest.raises(ValidationError, match=f"{name}: decided by the policy"):
            _spec(tmp_path, {name: True})


def test_the_plan_carries_them_and_survives_the_store(tmp_path: Path) -> None:
    kwargs = {"enable_thinking": False, "nested": {"a": [1, "b", None]}}
    plan = _plan(_spec(tmp_path, kwargs))
    assert plan.chat_template_kwargs == kwargs
    assert PLAN.validate_json(plan.model_dump_json()) == plan


def test_a_plan_that_knows_nothing_of_them_can_still_be_read(tmp_path: Path) -> None:
    plan = _plan(_spec(tmp_path, {}))
    old = plan.model_dump(mode="json", exclude={"chat_template_kwargs"})
    assert PLAN.validate_python(old) == plan


def test_what_no_plan_can_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="should be a finite number"):
        _spec(tmp_path, {"x": [float("nan")]})


def test_variables_without_a_template_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="which format `text` does not use"):
        _spec(tmp_path, {"x": 1}, format="text")
