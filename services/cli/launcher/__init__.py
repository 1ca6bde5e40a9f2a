"""The whole system on one machine: Redis, vLLM and the four services, started, watched and ended."""
