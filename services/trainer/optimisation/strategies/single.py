# torch's stubs leave a few results partially unknown.
# pyright: reportUnknownMemberType=false
"""One process, one device: AdamW in float32."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from services.trainer.optimisation.strategies import adam_w, finite_norm, trained
from shared.contracts.spec import TrainingSpec
from shared.models.loading import non_finite


class SingleProcess:
    """See `Strategy`."""

    def __init__(self, model: nn.Module, spec: TrainingSpec) -> None:
        self.policy = model
        self._parameters = trained(model)
        self._optimizer = adam_w([(p, p.dim()) for p in self._parameters], spec)
        self._max_grad_norm = spec.max_grad_norm

    def backward(self, loss: Tensor) -> None:
        """See `Strategy.backward`."""
        loss.backward()

    def update(self, learning_rate: float) -> float:
        """See `Strategy.update`."""
        norm = finite_norm(float(nn.utils.clip_grad_norm_(self._parameters, self._max_grad_norm)))
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return norm

    def state(self) -> dict[str, Any]:
        """See `Strategy.state`."""
        return {"model": self.policy.state_dict(), "optimizer": self._optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """See `Strategy.restore`."""
        self.policy.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])

    def non_finite(self) -> str | None:
        """See `Strategy.non_finite`."""
        return non_finite(self.policy)

    def whole(self, plain: Callable[[], nn.Module]) -> nn.Module | None:
        """See `Strategy.whole`; the live policy itself."""
        del plain
        return self.policy
