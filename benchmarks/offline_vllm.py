# Runs in vLLM's own environment; nothing of it is visible to the checker here.
# pyright: basic, reportMissingImports=false
"""The peer: vLLM offline, `LLM.generate`, in vLLM's Python. A line of stdin is a batch, a line of stdout its time."""

import json
import sys
import time

from vllm import LLM, SamplingParams  # pyright: ignore


def main() -> None:
    """`offline_vllm.py MODEL MAX_NUM_SEQS MAX_BATCHED_TOKENS`; says `ready`, then answers until stdin ends."""
    model, max_num_seqs, max_batched = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    engine = LLM(
        model=model,
        dtype="float32",
        enforce_eager=True,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_batched,
        enable_chunked_prefill=False,
        disable_log_stats=True,
    )
    _say("ready")
    for line in sys.stdin:
        batch = json.loads(line)
        prompts = [{"prompt_token_ids": ids} for ids in batch["prompts"]]
        sampling = [
            SamplingParams(n=batch["n"], seed=seed, max_tokens=batch["max_tokens"], logprobs=0, ignore_eos=True)
            for seed in batch["seeds"]
        ]
        start = time.perf_counter()
        found = engine.generate(prompts, sampling, use_tqdm=False)
        seconds = time.perf_counter() - start
        tokens = sum(len(output.token_ids) for request in found for output in request.outputs)
        _say(json.dumps({"seconds": seconds, "tokens": tokens}))


def _say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
