# torch's stubs leave a few results partially unknown.
# pyright: reportUnknownMemberType=false
"""Policies of the demo's language model with known log-probs of every well-formed answer, and responses of theirs.

Everything is the services' own: versions are published by the trainer, loaded and sampled by its engine at temperature
1, and scored by the trainer. The nine well-formed answers to a question are listed by style, three each.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from services.cli.demo.model import NUM_ADJECTIVES, DemoModel
from services.oracle.rules import styles
from services.policy.drawing.hf_tokenizer import HfTokenizer
from services.policy.engine import Completion, GenerationRequest, Sampling
from services.policy.engines.transformers.engine import TransformersEngine
from services.policy.settings import PolicySettings
from services.trainer.forward.log_probs import Compute, batch_log_probs, log_probs_of
from services.trainer.forward.sequences import Sequences
from services.trainer.weights.canary_recording import canary_start
from services.trainer.weights.importing import import_model
from services.trainer.weights.models import Policies
from services.trainer.weights.publishing import publish
from shared.contracts.spec import ModelSpec
from shared.contracts.weights import WeightVersion
from shared.inpo.games import Vector
from shared.inpo.seeds import seed_of
from shared.store.artifacts.store import DirectoryStore

RUN = "proof"
STYLES = (1, 2, 3)
# The demo's own.
MAX_NEW_TOKENS = 16
BATCH_ROWS = 2048
NUM_STEPS = 60
LEARNING_RATE = 2e-3

Shares = tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Responses:
    """N responses of one policy to one question.

    Response i says `texts[which[i]]`; `log_ratios[i]` = log pi - log ref of its tokens, in nats; `listed[i]` tells
    whether these are one of the nine answers', which pi gives with exactly the log-probs `answers` [9].
    """

    question: str
    texts: list[str]
    which: NDArray[np.int64]
    log_ratios: Vector
    listed: NDArray[np.bool_]
    answers: Vector


class DemoPolicies:
    """The built demo model as version 0, the reference policy, and descendants of it; artifacts go below `folder`.

    `num_prompts` of the demo's 16 questions are asked.
    """

    def __init__(self, model: DemoModel, folder: Path, num_prompts: int) -> None:
        self._store = DirectoryStore(folder)
        self._compute = Compute(torch.device("cpu"))
        self._models = Policies(self._store, self._compute.device)
        self._engine = TransformersEngine(PolicySettings(device="cpu", max_batch_rows=BATCH_ROWS))
        self.reference = import_model(self._store, RUN, ModelSpec(path=str(model.directory)), self._compute.device)
        tokenizer = HfTokenizer(model.directory)
        self._decode = tokenizer.decode
        config: Any = self._models.frozen(self.reference).config
        topics = list(styles.TOPICS)[:num_prompts]
        self.questions = [styles.question(topic) for topic in topics]
        self._prompts = [tokenizer.encode_chat([{"role": "user", "content": asked}], {}) for asked in self.questions]
        self._answers = [
            [
                [*tokenizer.encode_text(answer), int(config.eos_token_id)]
                for style in STYLES
                for answer in styles.answers(topic, style)
            ]
            for topic in topics
        ]

    def tuned(self, number: int, shares: Shares) -> WeightVersion:
        """Version `number`: the reference policy after a few supervised steps towards other shares of the styles."""
        model = self._models.take(self.reference)
        optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
        sequences = self._all_answers()
        batch = sequences.batch(np.arange(len(sequences)), self._compute.device)
        each = np.tile(np.repeat(shares, NUM_ADJECTIVES) / NUM_ADJECTIVES, len(self._prompts)) / len(self._prompts)
        weights = torch.tensor(each, dtype=torch.float32)
        start = canary_start(model, sequences, self._compute.device)
        for _ in range(NUM_STEPS):
            optimizer.zero_grad()
            (-(weights * batch_log_probs(model, batch, self._compute)).sum()).backward()
            optimizer.step()
        return publish(self._store, RUN, number, model, self.reference, start)

    def draw(self, version: WeightVersion, num: int, seed: int, drawn: Callable[[], None]) -> list[Responses]:
        """`num` responses to each question, `drawn` being called after each; equal seeds give equal responses."""
        self._engine.swap_weights(self._store.path(version.directory), version)
        model = self._models.frozen(version)
        answers = log_probs_of(model, self._all_answers(), self._compute, name=str(version)).astype(np.float64)
        found: list[Responses] = []
        for index, log_probs in enumerate(answers.reshape(len(self._prompts), -1)):
            # Seeds that follow one another, as the policy service gives them.
            first = seed_of("proof", seed, version.number, self.questions[index]) >> 1
            request = GenerationRequest(self._prompts[index], list(range(first, first + num)))
            (completions,) = self._engine.generate([request], Sampling(MAX_NEW_TOKENS))
            found.append(self._responses(index, completions, log_probs, itself=version == self.reference))
            drawn()
        return found

    def _responses(self, index: int, completions: list[Completion], answers: Vector, *, itself: bool) -> Responses:
        """Each different sequence is decoded and scored under the reference policy once."""
        distinct = list(dict.fromkeys(tuple(completion.token_ids) for completion in completions))
        place = {ids: number for number, ids in enumerate(distinct)}
        which = np.array([place[tuple(completion.token_ids)] for completion in completions])
        known = {tuple(ids) for ids in self._answers[index]}
        sequences = Sequences((self._prompts[index], list(ids)) for ids in distinct)
        reference = log_probs_of(
            self._models.frozen(self.reference), sequences, self._compute, name=str(self.reference)
        )
        sampled: Vector = np.array([sum(completion.log_probs) for completion in completions])
        return Responses(
            question=self.questions[index],
            texts=[self._decode(list(ids)) for ids in distinct],
            which=which,
            log_ratios=np.zeros(len(sampled)) if itself else sampled - reference.astype(np.float64)[which],
            listed=np.array([ids in known for ids in distinct])[which],
            answers=answers,
        )

    def _all_answers(self) -> Sequences:
        return Sequences(
            (prompt, answer) for prompt, answers in zip(self._prompts, self._answers, strict=True) for answer in answers
        )
