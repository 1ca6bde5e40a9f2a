"""An engine whose policies are known exactly: every response is one of three tokens, at given probabilities."""

import math
from bisect import bisect
from collections.abc import Mapping, Sequence
from itertools import accumulate

from services.policy.engine import Completion, GenerationRequest, Sampling
from shared.inpo.seeds import uniform_of
from tests.support.fake_engine import FakeEngine

FIRST_ANSWER = 10


class ThreeAnswers(FakeEngine):
    """`policies` are the probabilities of tokens 10, 11 and 12, by version number."""

    def __init__(self, policies: Mapping[int, Sequence[float]]) -> None:
        super().__init__()
        self.policies = policies

    def generate(self, requests: Sequence[GenerationRequest], sampling: Sampling) -> list[list[Completion]]:
        """See `Engine`."""
        return [[self._answer(seed) for seed in request.seeds] for request in requests]

    def score(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """See `Engine`; only the last token is scored truly."""
        policy = self._policy()
        return [[0.0] * (len(ids) - 2) + [math.log(policy[ids[-1] - FIRST_ANSWER])] for ids in sequences]

    def _policy(self) -> Sequence[float]:
        assert self.live is not None
        return self.policies[self.live.number]

    def _answer(self, seed: int) -> Completion:
        policy = self._policy()
        answer = bisect(list(accumulate(policy[:-1])), uniform_of("answer", seed))
        return Completion([FIRST_ANSWER + answer], [math.log(policy[answer])], "length")
