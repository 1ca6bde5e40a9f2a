"""The `vllm` engine: a stock vLLM server in an environment of its own, spoken to over HTTP."""
