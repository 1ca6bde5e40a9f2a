"""What decides about a run's work: the plan of a step, whatever its type, and the intent that is in force."""

from pydantic import ValidationError

from shared.contracts.plans import PLAN, BasePlan, EvaluationPlan, HalfStepPlan
from shared.contracts.records import Intent
from shared.store.artifacts import layout
from shared.store.artifacts.store import ArtifactStore, read_model, unreadable


def read_plan(store: ArtifactStore, step: str) -> BasePlan | HalfStepPlan | EvaluationPlan:
    """The step's plan; errors as those of `read_model`."""
    key = layout.plan(step)
    data = store.read(key)
    try:
        return PLAN.validate_json(data)
    except ValidationError as error:
        raise unreadable(key, data, error) from error


def newest_intent(store: ArtifactStore, run: str) -> int:
    """Number of the intent that is in force, 0 for a run that nobody touched."""
    return max((number for name in store.list(layout.intents(run)) if (number := layout.number_of(name))), default=0)


def intent_of(store: ArtifactStore, run: str, number: int) -> Intent | None:
    """The run's intent of this number, None for 0; errors as those of `read_model`."""
    return read_model(store, layout.intent(run, number), Intent) if number else None


def intent_in_force(store: ArtifactStore, run: str) -> Intent | None:
    """The highest intent, None for a run that nobody touched; errors as those of `read_model`."""
    return intent_of(store, run, newest_intent(store, run))
