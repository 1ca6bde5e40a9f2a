"""Fixtures that every test may ask for."""

import pytest_randomly

from tests.support.redis_server import redis_server, redis_url

__all__ = ["redis_server", "redis_url"]

# DeepSpeed asks to be reseeded before every test: it would be imported, with torch, by each run of any test.
pytest_randomly.entrypoint_reseeds = []
