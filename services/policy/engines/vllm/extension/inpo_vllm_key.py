# It runs in vLLM's own environment, whose packages the checker does not see.
# pyright: basic
"""Asks for the server's key at every route but `/health`: the stock server does below `/v1` only.

Named to the server as `--middleware inpo_vllm_key.KeyEverywhere`. Imports nothing but the standard library.
"""

import hmac
import os


class KeyEverywhere:
    """ASGI middleware; the key is the one that the server itself reads, `VLLM_API_KEY`."""

    def __init__(self, app):
        self._app = app
        self._expected = f"Bearer {os.environ['VLLM_API_KEY']}".encode()

    async def __call__(self, scope, receive, send):
        """One request, or one event of the server's life."""
        if scope["type"] not in ("http", "websocket") or scope["path"] == "/health" or self._has_key(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": b'{"error": "Unauthorized"}'})
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _has_key(self, scope):
        given = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], self._expected)
