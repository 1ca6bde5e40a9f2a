"""A judge that fetches its questions: `python examples/judges/pull_judge.py http://127.0.0.1:8001`. It likes short."""

import sys
import time

import httpx

oracle = httpx.Client(base_url=sys.argv[1], timeout=60.0, headers=dict(h.split("=", 1) for h in sys.argv[2:]))
while True:
    try:
        leased = oracle.post(
            "/v1/comparisons:lease", json={"judge": "shorter", "max_items": 16, "lease_s": 30, "wait_s": 20}
        )
        for question in leased.raise_for_status().json()["comparisons"]:
            first, second = map(len, question["responses"])
            verdict = {"lease": question["lease"], "p": 0.5 if first == second else 0.9 if first < second else 0.1}
            oracle.post(f"/v1/comparisons/{question['id']}/verdict", json=verdict).raise_for_status()
    except httpx.HTTPError as error:
        print(error, file=sys.stderr)
        time.sleep(1.0)  # the oracle is away; what was leased comes back when its lease ends
