"""`python -m tests.support.breaking_controller FILE`: a controller whose reconciler ends as soon as FILE is there."""

import sys
from pathlib import Path

from services.controller.__main__ import main
from services.controller.loop import ReconcileLoop


class BreakingLoop(ReconcileLoop):
    """See the module's docstring."""

    file = Path("never")

    def reconcile(self) -> int:
        if self.file.exists():
            self.file.unlink()
            raise SystemExit("nothing catches this")
        return super().reconcile()


if __name__ == "__main__":
    BreakingLoop.file = Path(sys.argv[1])
    sys.modules["services.controller.__main__"].ReconcileLoop = BreakingLoop  # pyright: ignore[reportAttributeAccessIssue]
    main()
