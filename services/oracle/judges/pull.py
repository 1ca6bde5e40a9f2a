"""Judges that fetch their questions: people, labelling tools, programs behind a firewall.

Asking is putting up: the question becomes an artifact, its id goes on the board, and the shard waits without holding a
thread. The answer arrives at `POST /v1/comparisons/{id}/verdict`, which keeps it where the next try looks for it.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from services.oracle.judge import Comparison, JudgeUnavailableError, Opinion, failure
from services.oracle.verdicts.cache import NUM_WRITERS, Keep
from shared.contracts.judges import PullJudge
from shared.contracts.rest.judging import JudgeIdentity, OpenComparison
from shared.store.artifacts import layout
from shared.store.artifacts.store import ArtifactStore, create_model
from shared.store.board.protocol import Board

# Looking for verdicts is cheap, and rounds of a tournament wait for each other.
LONGEST_PAUSE_S = 5.0


class PulledJudge:
    """See `Asker`. Never answers by itself: it waits, or hands over what the judge said it cannot answer."""

    def __init__(self, spec: PullJudge, store: ArtifactStore, board: Board) -> None:
        self._spec = spec
        self._store = store
        self._board = board

    def identity(self) -> JudgeIdentity:
        """See `Judge.identity`."""
        return pull_identity(self._spec.name, self._spec.revision)

    def ask(self, questions: Mapping[str, Comparison], keep: Keep) -> Mapping[str, Opinion]:
        """See `Asker.ask`. `JudgeUnavailableError` until each question has its verdict or its failure."""
        del keep  # verdicts are kept by whoever receives them
        # Looked for each time: a question that was given up long ago is collected, and may be asked again.
        missing = {key: asked for key, asked in questions.items() if not self._store.exists(layout.comparison(key))}
        self._write(missing)
        place = board_name(self._spec.name, self._spec.revision)
        failed = self._board.put(place, list(questions))
        if len(failed) == len(questions):
            self._board.forget(place, list(failed))
            return {key: failure(reason, 0.0) for key, reason in failed.items()}
        counts = self._board.counts(place)
        waited_for = len(questions) - len(failed)
        reason = f"{place} has {waited_for} comparisons of this shard to answer ({counts.leased} leased in all)"
        raise JudgeUnavailableError(reason, longest_pause_s=LONGEST_PAUSE_S, silent_s=counts.silent_s)

    def _write(self, questions: Mapping[str, Comparison]) -> None:
        def write(entry: tuple[str, Comparison]) -> None:
            key, asked = entry
            comparison = OpenComparison(
                id=key,
                judge=self._spec.name,
                judge_revision=self._spec.revision,
                prompt=list(asked.prompt),
                first=asked.first,
                second=asked.second,
            )
            create_model(self._store, layout.comparison(key), comparison)

        with ThreadPoolExecutor(NUM_WRITERS) as writers:
            list(writers.map(write, questions.items()))


def pull_identity(name: str, revision: str) -> JudgeIdentity:
    """Who answers the comparisons of a board."""
    return JudgeIdentity(id=name, revision=revision, kind="pull")


def board_name(name: str, revision: str) -> str:
    """The board that a judge fetches from: another revision is another judge."""
    return f"{name}@{revision}"
