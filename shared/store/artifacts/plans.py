"""Reading the plan of a step, whatever its type."""

from pydantic import ValidationError

from shared.contracts.plans import PLAN, BasePlan, EvaluationPlan, HalfStepPlan
from shared.store.artifacts import layout
from shared.store.artifacts.store import ArtifactStore, unreadable


def read_plan(store: ArtifactStore, step: str) -> BasePlan | HalfStepPlan | EvaluationPlan:
    """The step's plan; errors as those of `read_model`."""
    key = layout.plan(step)
    data = store.read(key)
    try:
        return PLAN.validate_json(data)
    except ValidationError as error:
        raise unreadable(key, data, error) from error
