"""Controller, policy, oracle and trainer carry plans out: none of them knows an algorithm by its name."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.inpo.algorithms import ALGORITHMS

ROOT = Path(__file__).parents[2]
SERVICES = ("controller", "policy", "oracle", "trainer")
MODULES = sorted(path for service in SERVICES for path in (ROOT / "services" / service).rglob("*.py"))


# The system's own name is one of them: as a string it is refused only where it is compared with something.
OWN_NAME = "inpo"


def names_in(source: str) -> Iterator[str]:
    """Strings that are an algorithm's name, and identifiers that contain one."""
    tree = ast.parse(source)
    compared = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare | ast.MatchValue | ast.Dict | ast.List | ast.Tuple | ast.Set)
        for part in ast.walk(node)
    }
    others = set(ALGORITHMS) - {OWN_NAME}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value in others or (node.value == OWN_NAME and id(node) in compared):
                yield node.value
        else:
            identifiers = [getattr(node, attribute, None) for attribute in ("id", "attr", "name", "arg")]
            yield from (name for name in identifiers if isinstance(name, str) and _contains(name, others))


def _contains(identifier: str, names: set[str]) -> bool:
    return any(f"_{name}_" in f"_{identifier.lower().strip('_')}_" for name in names)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_service_branches_on_an_algorithms_name(module: Path) -> None:
    found = list(names_in(module.read_text(encoding="utf-8")))
    assert not found, f"{module} names {', '.join(found)}: let the plan say what is to be done"


@pytest.mark.parametrize(
    "source",
    ['if spec.algorithm.name == "egpo": pass', 'if name == "inpo": pass', "def plan_onpo(): pass", "nash_mp = 1"],
)
def test_a_name_would_be_found(source: str) -> None:
    assert list(names_in(source))


def test_the_systems_own_name_and_docstrings_are_free() -> None:
    assert not list(names_in('"""As in egpo."""\nimport shared.inpo.plan\nx = shared.inpo\ny = installed("inpo")'))
