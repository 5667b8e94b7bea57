"""A program for CUDA: steps on a list of arrays, which launch kernels and call the library, and the kernels of a process."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from anynet_backends.array_api import Array
from anynet_backends.concurrency import fork_safe_lock
from anynet_backends.jit.cuda_operands import contiguous
from anynet_backends.jit.cuda_source import NAME, KernelText
from anynet_backends.jit.instructions import Variable
from anynet_backends.jit.iteration import NotBlocked

__all__ = [
    "MAX_KERNELS", "Environment", "Form", "Program", "Step", "compiled", "form_like", "form_of", "freeing", "grid_of",
]  # fmt: skip

MAX_KERNELS: Final = 1024
"""Different kernels that a process compiles; what would need another one runs as the reference."""

Environment = list[Any]
Step = Callable[[Environment], None]


class Form(NamedTuple):
    """How an argument lies in memory, its steps in numbers."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: Any


def form_of(x: Array) -> Form:
    """The form of an array."""
    return Form(tuple(x.shape), tuple(s // x.dtype.itemsize for s in x.strides), x.dtype)


def form_like(x: Variable) -> Form:
    """The form of an array in C order, of the shape and dtype of a variable."""
    return Form(x.shape, contiguous(x.shape), x.dtype)


class Program:
    """Steps on a list of arrays, which begins with the arguments."""

    def __init__(self, steps: Sequence[Step], size: int, wanted: Sequence[int | None], launches: int) -> None:
        self.steps, self.size, self.wanted = tuple(steps), size, tuple(wanted)
        self.launches = launches
        """Kernels and calls."""

    def __call__(self, given: Sequence[Any], position: tuple[int, int] = (0, 0)) -> list[Any]:
        """What is wanted. `position`: seed and step of the random words."""
        environment: Environment = [*given, *[None] * (self.size - len(given) - 1), position]
        for step in self.steps:
            step(environment)
        return [None if i is None else environment[i] for i in self.wanted]


_lock = fork_safe_lock()
_kernels: dict[str, Any] = {}


def compiled(cupy: Any, text: str) -> Any:
    kernel = _kernels.get(text)
    if kernel is None:
        with _lock:
            if len(_kernels) >= MAX_KERNELS:
                raise NotBlocked("kernels")
            kernel = cupy.RawKernel(text, NAME, options=("--fmad=false",))
            kernel.compile()
            _kernels[text] = kernel
    return kernel


def _power_of_two(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()


def grid_of(text: KernelText) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Blocks and threads."""
    rows, length = math.prod(text.row_dims), math.prod(text.loop_dims)
    parts = text.cluster.parts
    if not text.gone:
        return (min(-(-rows // 256), 1 << 16),), (256,)
    if parts:
        length = -(-length // parts)
    if text.across:
        own = min(32, _power_of_two(rows))
        lanes = min(_power_of_two(length), (1024 if rows < 1 << 13 else 256) // own)
        threads: tuple[int, ...] = (own, lanes)
    else:
        lanes = min(_power_of_two(-(-length // 4)), 1024 if rows < 512 else 256)
        own = max(1, min(128 // lanes, _power_of_two(rows)))
        threads = (lanes, own)
    return (-(-rows // own), *([parts] if parts else [])), threads


def freeing(steps: Sequence[Step], uses: Sequence[Sequence[int]], kept: Sequence[int | None]) -> list[Step]:
    """The steps, which let go of what no later one reads. `uses`: the slots that each reads."""
    last = {slot: at for at, reads in enumerate(uses) for slot in reads}
    done: dict[int, list[int]] = {}
    for slot, at in last.items():
        if slot not in kept and slot:  # the first argument says on which device a program runs
            done.setdefault(at, []).append(slot)

    def then_free(step: Step, slots: list[int]) -> Step:
        def run(environment: Environment) -> None:
            step(environment)
            for slot in slots:
                environment[slot] = None

        return run

    return [then_free(step, done[at]) if at in done else step for at, step in enumerate(steps)]
