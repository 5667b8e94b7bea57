"""The gradients of a batch, compiled where that pays: found out in the first steps, with the same bits."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any, Final

from anynet import random
from anynet.autograd.jit.compile import CompileError
from anynet.autograd.jit.compile import compile as compiled
from anynet.autograd.pytree import flatten
from anynet.ops.creation import asarray
from anynet.tensor import Tensor, no_grad, unwrap
from anynet_backends import backend_of, host, registry

__all__ = ["AutoCompiled"]

_Gradients = Callable[..., tuple[Any, ...]]

WARM: Final = 40
"""Steps before anything is measured: by then operations that are called often are built-in functions."""
MEASURED: Final = 12
CHECKED: Final = 2
"""Replays that are compared, bit for bit, with the function itself."""
WORTH: Final = 2.0
"""Seconds of training that must be left: recording and translating a program takes up to one."""


class AutoCompiled:
    """A function of a batch → (loss, outputs, …) that leaves gradients in parameters, called as it is or as a program.

    The first `WARM` calls run it as it is, the next `MEASURED` are timed. If at that speed the `steps` that are ahead take long
    enough (`WORTH`), it is recorded by `anynet.compile`; `CHECKED` replays are compared bit for bit with the function itself,
    gradients, buffers and the streams of random numbers included; then `MEASURED` replays are timed, and what is quicker stays.
    Where it cannot be recorded, or anything differs, it is called as it is. Batches of other shapes than the first are always
    called as it is.
    """

    def __init__(self, function: _Gradients, params: list[Any], buffers: list[Any], steps: int) -> None:
        self.function, self.params, self.buffers, self.steps = function, params, buffers, steps
        self.shapes: Any = None
        self.program: Any = None
        self.calls = self.checked = 0
        self.times: list[float] = []
        self.eager = 0.0
        self.run: _Gradients = self._eager
        self.chosen: str | None = None  # "compiled" or "eager", when it is known

    def __call__(self, *batch: Any) -> tuple[Any, ...]:
        """The loss and the outputs."""
        self.calls += 1
        if self.shapes is None:
            self.shapes = _shapes(*batch)
        elif self.run is not self.function and _shapes(*batch) != self.shapes:
            return self.function(*batch)
        return self.run(*batch)

    def _settle(self, chosen: str) -> None:
        self.chosen = chosen
        self.run = self.program if chosen == "compiled" else self.function
        if chosen == "eager":
            self.program = None

    def _timed(self, function: _Gradients, *batch: Any) -> tuple[Any, ...]:
        began = time.perf_counter()
        found = function(*batch)
        self.times.append(time.perf_counter() - began)
        return found

    def _eager(self, *batch: Any) -> tuple[Any, ...]:
        if self.calls <= WARM:
            return self.function(*batch)
        found = self._timed(self.function, *batch)
        if len(self.times) == MEASURED:
            self.eager, self.times = median(self.times), []
            if self.eager * (self.steps - self.calls) < WORTH:
                self._settle("eager")
            else:
                self.run = self._record
        return found

    def _record(self, *batch: Any) -> tuple[Any, ...]:
        before = self._state()
        self.program = compiled(self.function, capture="off")  # times on the host say nothing of a GPU
        try:
            found: tuple[Any, ...] = self.program(*batch)
        except Exception:  # noqa: BLE001 what is the function's own fault it will raise itself
            self._restore(before)
            self._settle("eager")
            return self.function(*batch)
        self.run = self._check
        return found

    def _check(self, *batch: Any) -> tuple[Any, ...]:
        """A replay and the function itself, from the same state."""
        before = self._state()
        try:
            replayed = self._bits(self.program(*batch))
        except CompileError:
            replayed = None
        self._restore(before)
        found = self.function(*batch)
        if replayed != self._bits(found):
            self._settle("eager")
        else:
            self.checked += 1
            if self.checked == CHECKED:
                self.run = self._measure
        return found

    def _measure(self, *batch: Any) -> tuple[Any, ...]:
        found = self._timed(self.program, *batch)
        if len(self.times) == MEASURED:
            self._settle("compiled" if median(self.times) < 0.97 * self.eager else "eager")
        return found

    # ----- the state that a call changes -----

    def _state(self) -> tuple[dict[str, int], list[Any]]:
        kept = [asarray(b.detach(), copy=True) for b in self.buffers]
        return random.get_state(), kept

    def _restore(self, state: tuple[dict[str, int], list[Any]]) -> None:
        random.set_state(state[0])
        with no_grad():
            for b, value in zip(self.buffers, state[1], strict=True):
                b.assign_(value)

    def _bits(self, found: Any) -> list[Any]:
        tensors = [*flatten(found)[0], *(p.grad for p in self.params), *self.buffers]
        return [random.get_state(), *[_bytes(t) for t in tensors]]


def _bytes(t: Any) -> Any:
    if not isinstance(t, Tensor):
        return t
    plain = unwrap(t)
    return str(plain.dtype), host.to_bytes(registry.asarray(backend_of(plain).to_host(plain)))


def _shapes(*batch: Any) -> Any:
    if len(batch) == 2 and type(batch[0]) is Tensor and type(batch[1]) is Tensor:
        return batch[0].shape, batch[1].shape
    return [getattr(leaf, "shape", None) for leaf in flatten(batch)[0]]
