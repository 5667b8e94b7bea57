"""Proofs: hashes of all parameters and buffers, by which two trainings can be compared to the last bit.

A line of proof.jsonl is ``{"epoch": 1, "batch": 4, "sha256": "…", "tensors": {"0.weight": "1f0c…", …}}``: the state after so many
batches of an epoch, `batch` 0 meaning its end, with ``batches``, how many it had; `sha256` is of all tensors, ``tensors`` has the first
16 digits of each.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from anynet.tensor import unwrap
from anynet_backends import backend_of, host, registry

__all__ = ["Proof", "hashes"]


def hashes(state: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """The SHA-256 of a state as a whole, and the first 16 digits of that of each tensor."""
    each, whole = {}, hashlib.sha256()
    for name, value in state.items():
        plain = unwrap(value)
        array: Any = registry.asarray(backend_of(plain).to_host(plain))
        found = hashlib.sha256(f"{array.dtype} {array.shape} ".encode())
        found.update(host.to_bytes(array))
        each[name] = found.hexdigest()[:16]
        whole.update(f"{name} {found.hexdigest()}\n".encode())
    return whole.hexdigest(), each


class Proof:
    """The lines of a run: after each epoch, and after the batches 1, 4, 16, 64, … of the first."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.at: tuple[int, int] | None = None
        self.next, self.batches = 1, 0

    def due(self, state: Any) -> bool:
        """Whether there is a line for the state after this batch."""
        return bool(state.epoch == 0 and state.batch == self.next)

    def __call__(self, state: Any) -> None:
        """After a batch."""
        self.batches = state.batch
        if self.due(state):
            self.next *= 4
            self.add(state.model, 1, state.batch)

    def add(self, model: Any, epoch: int, batch: int) -> None:
        """A line for the state that the model has now."""
        if (epoch, batch) == self.at:
            return
        self.at = epoch, batch
        whole, each = hashes(model.state_dict())
        had = {} if batch else {"batches": self.batches}
        self.lines.append(
            json.dumps({"epoch": epoch, "batch": batch, **had, "sha256": whole, "tensors": each})
        )

    def resume(self, text: str, epoch: int, batch: int) -> None:
        """Go on after the lines of a file, up to a place."""
        for line in text.splitlines():
            try:
                found = json.loads(line)
                at = (int(found["epoch"]), int(found["batch"]))
            except (ValueError, KeyError, TypeError):
                continue
            if at[0] <= epoch or (at[0] == epoch + 1 and 0 < at[1] <= batch):
                self.lines.append(line)
                self.at = at
        while self.next <= (batch if epoch == 0 else 0):
            self.next *= 4

    @property
    def text(self) -> str:
        """What proof.jsonl holds."""
        return "".join(line + "\n" for line in self.lines)
