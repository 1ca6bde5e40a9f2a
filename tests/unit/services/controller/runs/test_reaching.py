"""A run is refused at creation when one of its fields leads out of what the service may be made to read."""

from pathlib import Path
from typing import Any

import pytest

from services.controller.prompts.errors import InvalidSpecError
from services.controller.runs.reaching import check_reach
from shared.contracts.spec import RunSpec
from shared.runtime.reach import Reach
from tests.support.specs import a_spec_body

OUTSIDE = "/etc/passwd"


def pair_model(path: str) -> dict[str, Any]:
    return {"kind": "pair_model", "path": path}


def panel(path: str) -> dict[str, Any]:
    rule = {"judge": {"kind": "rules", "entry_point": "services.oracle.rules.styles:cyclic_panel"}}
    return {"kind": "panel", "members": [rule, {"judge": pair_model(path)}]}


CASES: list[tuple[str, dict[str, Any]]] = [
    ("model.path", {"model": {"path": OUTSIDE}}),
    ("prompts.sets.2.path", {"prompts": {"sets": [{"hub": "a/b"}, {"hub": "a/c"}, {"path": OUTSIDE}]}}),
    ("evaluation.prompts.path", {"evaluation": {"prompts": {"path": OUTSIDE}}}),
    ("oracle.judge.path", {"oracle": {"judge": pair_model(OUTSIDE)}}),
    ("oracle.judge.members.1.judge.path", {"oracle": {"judge": panel(OUTSIDE)}}),
]


@pytest.mark.parametrize(("field", "changes"), CASES, ids=[field for field, _ in CASES])
def test_a_path_out_of_reach_is_named_by_its_field(tmp_path: Path, field: str, changes: dict[str, Any]) -> None:
    spec = RunSpec.model_validate(a_spec_body(tmp_path, **changes))
    check_reach(spec, Reach())
    with pytest.raises(InvalidSpecError, match="INPO_ALLOWED_PATHS") as caught:
        check_reach(spec, Reach((tmp_path,), hub=True))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("model.path", {"model": {"path": "org/name"}}),
        ("prompts.sets.0.hub", {"prompts": {"sets": [{"hub": "org/name"}]}}),
        ("oracle.judge.path", {"oracle": {"judge": pair_model("org/name")}}),
    ],
)
def test_the_hub_needs_leave(tmp_path: Path, field: str, changes: dict[str, Any]) -> None:
    spec = RunSpec.model_validate(a_spec_body(tmp_path, **changes))
    check_reach(spec, Reach((tmp_path,), hub=True))
    with pytest.raises(InvalidSpecError, match="INPO_ALLOW_HUB") as caught:
        check_reach(spec, Reach((tmp_path,), hub=False))
    assert caught.value.field == field


def test_rules_and_judges_elsewhere_name_nothing_here(tmp_path: Path) -> None:
    for judge in ({"kind": "pull", "name": "anna"}, {"kind": "http", "url": "http://127.0.0.1:9000"}):
        check_reach(RunSpec.model_validate(a_spec_body(tmp_path, oracle={"judge": judge})), Reach((tmp_path,)))
