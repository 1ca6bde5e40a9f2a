"""RFC 9457 problem details: the one shape of every HTTP error."""

from pydantic import BaseModel, Field


class FieldError(BaseModel):
    """One wrong field of a request: where it is, and what is wrong with it."""

    field: str
    message: str


class Problem(BaseModel):
    """An `application/problem+json` body."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldError] = Field(default_factory=list[FieldError])
    retryable: bool = False
