"""Asking an app in this process, without a port."""

import asyncio
from typing import Any

import httpx


def ask(app: Any, method: str, path: str, *, base_url: str = "http://127.0.0.1:8000", **options: Any) -> httpx.Response:
    """Its answer; `options` are those of a request of httpx."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=base_url) as client:
            return await client.request(method, path, **options)

    return asyncio.run(send())
