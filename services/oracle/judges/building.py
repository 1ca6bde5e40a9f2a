"""From a specification to a judge of any kind, with what this oracle lends it: devices, keys, budget, board, memory."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from services.oracle.judge import Judge, JudgeBuildError, build_judge
from services.oracle.judges.panel import build_panel
from services.oracle.judges.pull import PulledJudge
from services.oracle.settings import OracleSettings
from services.oracle.verdicts.cache import BothOrders, CachingJudge, LocalAsker
from shared.contracts.judges import HttpJudge, JudgeSpec, PanelJudge, PullJudge
from shared.runtime.reach import Reach
from shared.store.artifacts.store import ArtifactStore
from shared.store.board.budget import Budget
from shared.store.board.protocol import Board


@dataclass(frozen=True, slots=True)
class JudgeBuilder:
    """Builds judges whose verdicts are kept where an answer costs. Raises as `build_judge` and `PushedJudge` do."""

    settings: OracleSettings
    store: ArtifactStore
    board: Board
    budget: Budget

    def __call__(self, spec: JudgeSpec) -> Judge:
        """The judge."""
        if isinstance(spec, PanelJudge):
            return build_panel(spec, self)
        if isinstance(spec, HttpJudge):
            return self._pushed(spec)
        if isinstance(spec, PullJudge):
            judge = CachingJudge(PulledJudge(spec, self.store, self.board), self.store, order="given")
            return judge if spec.order == "given" else BothOrders(judge)
        settings = self.settings
        if spec.kind != "rules":
            self._check_reach(spec.path)
        judge = build_judge(spec, device=settings.oracle_device, entry_points=settings.oracle_entry_points)
        if spec.kind in settings.oracle_keep_verdicts:
            return CachingJudge(LocalAsker(judge), self.store, order="both")
        return judge

    def _check_reach(self, path: str) -> None:
        keyed = self.settings.api_key_file is not None or self.settings.api_key is not None
        try:
            Reach.of(self.settings, keyed=keyed).check(path, hub=True)
        except ValueError as error:
            raise JudgeBuildError("path", str(error)) from None

    def _pushed(self, spec: HttpJudge) -> Judge:
        try:
            module = importlib.import_module("services.oracle.judges.http.judge")
        except ModuleNotFoundError as error:
            raise JudgeBuildError("kind", f"http needs the package {error.name}: install inpo[oracle]") from error
        access = module.HttpAccess(
            prefixes=self.settings.oracle_http_judges,
            budget=self.budget,
            key_files=self.settings.oracle_http_key_files,
        )
        build = cast(Callable[[HttpJudge, object, ArtifactStore], Judge], module.build)
        return build(spec, access, self.store)
