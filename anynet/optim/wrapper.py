"""The base of optimizers that wrap another optimizer."""

from __future__ import annotations

from typing import Any

from anynet.optim.optimizer import Optimizer

__all__ = ["OptimizerWrapper"]


class OptimizerWrapper:
    """What a wrapper hands on to the optimizer inside."""

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            msg = f"{type(self).__name__} takes an optimizer, got {type(optimizer).__name__}"
            raise TypeError(msg)
        self.optimizer = optimizer

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Those of the optimizer inside."""
        return self.optimizer.param_groups

    def _parameters(self) -> list[Any]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set the gradients to None, or to zero with ``set_to_none=False``."""
        self.optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """That of the optimizer inside."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`."""
        self.optimizer.load_state_dict(state)
