"""Fixtures that every test may ask for."""

import pytest_randomly

from tests.support.redis_server import redis_server, redis_url
from tests.support.s3_server import s3, s3_server

__all__ = ["redis_server", "redis_url", "s3", "s3_server"]

# DeepSpeed asks to be reseeded before every test: it would be imported, with torch, by each run of any test.
pytest_randomly.entrypoint_reseeds = []
