"""The kinds of model: input from people refuses unknown fields, facts of ours are frozen."""

from pydantic import BaseModel, ConfigDict, Field


class Input(BaseModel):
    """Written by a person: an unknown field, a NaN or an infinity is an error that names it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class Fact(BaseModel):
    """Written by a service and never changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class Signed(Fact):
    """A fact that says which release wrote it, for another one that does not understand it. The store signs it."""

    written_by: str | None = Field(
        default=None, description="version of INPO; null in what was not stored, or long ago"
    )
