"""What routes may know of the request beyond its path and body."""

from fastapi import Request

from shared.runtime.access import Grant


def caller(request: Request) -> str:
    """Whose key it was: where the key stands, never what it is. For records of who did what."""
    grant: Grant = request.state.grant
    return grant.name
