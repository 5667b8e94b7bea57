"""The parameters of a group, their gradients and their state, each as one flat vector."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from anynet import dtypes
from anynet.sparse_rows import SparseRows, numbers_of
from anynet.tensor import Leaf, Parameter, clock, to_plain, wrap
from anynet_backends import Array, Backend, backend_of

__all__ = ["FlatGroup", "Shape"]

Shape = tuple[int, ...]
_MAX_PROGRAMS: Final = 64


def _nobody_else_has(p: Parameter) -> bool:
    """Whether the array of a parameter is known to it alone, so that its memory may become the vector."""
    return sys.getrefcount(p._data) <= 2 and backend_of(p._data).is_alone(p._data)


class FlatGroup:
    """Parameters of one group on one device in one dtype, as one vector; likewise gradients and state.

    Without `buffered` there is no vector of gradients until one comes that is an array (`lend`): those of tables are rows.
    """

    def __init__(
        self,
        params: list[Parameter],
        slots: Iterable[str],
        numbers: Mapping[str, float],
        slot_shape: Callable[[str, Shape], Shape],
        buffered: bool = True,
    ) -> None:
        self.params = params
        alone = not buffered and len(params) == 1 and _nobody_else_has(params[0])
        data = params[0]._data
        self.xp: Backend = backend_of(data)
        self.device = self.xp.device_of(data)
        self.dtype = data.dtype
        # the dtype in which updates are computed, where it is not the parameters' own
        self.wide: Any = self.xp.float32 if params[0].dtype.itemsize < 4 else None
        self.offsets = [0]
        # the shape of a lazy layer's parameter is (0,) until the layer's first call
        param_shapes: list[Shape] = [tuple(p._data.shape) for p in params]
        for shape in param_shapes:
            self.offsets.append(self.offsets[-1] + math.prod(shape))
        self.values = self.xp.reshape(data, (-1,), copy=False) if alone else self._new(self.dtype)
        self.grads: Any = self._new(self.dtype) if buffered else None
        # whether the gradients in the vector are finite; made when it is first asked, as LLVM is loaded for it
        self._check: Callable[[], bool] | None = None
        # of complex parameters each part is a number to an element-wise update, as in PyTorch
        self.number: Any = self.xp.as_real(self.values[:1]).dtype
        self.state: dict[str, Array] = {}
        # for each slot, the offset and shape of every parameter's piece
        self.parts: dict[str, list[tuple[int, Shape]]] = {}
        for name in slots:
            shapes = [slot_shape(name, shape) for shape in param_shapes]
            ends = list(itertools.accumulate(map(math.prod, shapes)))
            self.parts[name] = list(zip([0, *ends[:-1]], shapes, strict=True))
            self.state[name] = self._new(self.wide or self.dtype, ends[-1])
        self.steps = [0] * len(params)
        self.numbers = {name: [start] * len(params) for name, start in numbers.items()}
        self.untouched = True  # the gradients are the zeros that they were made of
        self.value_views = [self.view(self.values, i, shape) for i, shape in enumerate(param_shapes)]
        self.grad_views: list[Any] = [None] * len(params)
        if buffered:
            self.grad_views = [self.view(self.grads, i, shape) for i, shape in enumerate(param_shapes)]
        if alone:  # a large table is not copied
            params[0]._data = self.value_views[0]
        for i in range(len(params)):
            self.rebind(i)
        self.untouched = not buffered
        self.places = list(zip(params, self.value_views, self.grad_views, strict=True))
        # what changes the gradient before an update (`fused_update.apply`), with the options that say it
        self.changes: tuple[tuple[str, str], ...] = ()
        # the programs of updates by range and names of numbers; None where there can be none
        self.programs: dict[tuple[Any, ...], Any] = {}
        # the names and the program of all parameters at the last step that needed a new one
        self.latest: tuple[tuple[str, ...], Any] = ((), None)

    def lend(self) -> None:
        """Make the vector of gradients, where there is none yet."""
        if self.grads is not None:
            return
        self.grads = self._new(self.dtype)
        for i, value in enumerate(self.value_views):
            self.grad_views[i] = self.view(self.grads, i, tuple(value.shape))
            leaf = self.params[i].edge
            if type(leaf) is Leaf and not isinstance(leaf.grad, SparseRows):
                self.rebind(i)
        self.untouched = False
        self.places = list(zip(self.params, self.value_views, self.grad_views, strict=True))

    def finite(self) -> bool:
        """Whether the gradients are finite: of those in the vector by one pass over it, but where an older one there is not."""
        inside: list[Any] = []
        outside: list[Any] = []
        for p, _, place in self.places:
            grad = p.edge.grad if type(p.edge) is Leaf else None
            if grad is not None:
                held = place is not None and not isinstance(grad, SparseRows) and grad._data is place
                (inside if held else outside).append(grad)
        if inside:
            if self._check is None:
                self._check = self.xp.finite_check(self.grads)
            if not self._check():
                outside += inside
        return all(self.xp.all_finite(numbers_of(grad)) for grad in outside)

    def remember(self, key: tuple[Any, ...], program: Any) -> None:
        """Keep a program; not any number of them, as the range changes with the parameters that have gradients."""
        if len(self.programs) >= _MAX_PROGRAMS:
            self.programs.clear()
        self.programs[key] = program
        first, last, *names = key
        if (first, last) == (0, len(self.params)):
            self.latest = tuple(names), program

    def blocks(
        self, first: int, last: int, width: int | None
    ) -> Iterator[tuple[Array, Array, dict[str, Array]]]:
        """The vectors of the parameters first … last − 1 (values, gradients, state), so many numbers at a time, or all."""
        begin, end = self.offsets[first], self.offsets[last]
        step, real = max(width or end - begin, 1), self.xp.as_real
        for a in range(begin, max(end, begin + 1), step):
            b = min(a + step, end)
            yield (
                real(self.values[a:b]),
                real(self.grads[a:b]),
                {name: real(s[a:b]) for name, s in self.state.items()},
            )

    def by_rows(self, first: int, last: int) -> Iterator[tuple[int, int, Array | None]]:
        """The range first … last − 1 in parts (first, last, None), and (i, i + 1, rows) of parameters of which a gradient was written
        to some rows alone, and all others are known to be zero."""
        start = first
        for i in range(first, last):
            leaf = self.params[i].edge
            if type(leaf) is Leaf and leaf.rows is not None and leaf.clean:
                if start < i:
                    yield start, i, None
                yield i, i + 1, leaf.rows
                start = i + 1
        if start < last:
            yield start, last, None

    def has_rows(self) -> bool:
        """Whether a gradient was written to some rows alone."""
        return any(rows is not None for *_, rows in self.by_rows(0, len(self.params)))

    def _new(self, dtype: Any, size: int | None = None) -> Array:
        xp = self.xp
        shape = (self.offsets[-1] if size is None else size,)
        return xp.zeros(shape, dtype=dtype, device=xp.native_device(self.device))

    def view(self, flat: Array, i: int, shape: Shape) -> Array:
        return self.xp.reshape(flat[self.offsets[i] : self.offsets[i + 1]], shape, copy=False)

    def part(self, name: str, i: int) -> Array:
        """A parameter's piece of state, a view."""
        begin, shape = self.parts[name][i]
        piece = self.state[name][begin : begin + math.prod(shape)]
        return piece if len(shape) == 1 else self.xp.reshape(piece, shape, copy=False)

    def piece(self, i: int) -> tuple[Array, Array, dict[str, Array]]:
        """A parameter, its gradient and its state, views in their shapes."""
        return self.value_views[i], self.grad_views[i], {name: self.part(name, i) for name in self.state}

    def widened(self, vector: Array) -> Array:
        """A copy of a vector, in the dtype in which updates are computed."""
        xp = self.xp
        return xp.asarray(vector, copy=True) if self.wide is None else xp.astype(vector, self.wide)

    def assign(self, new: Array) -> None:
        """Set the parameters."""
        self.values[...] = new if self.wide is None else self.xp.astype(new, self.dtype)
        self.touch()

    def moved(self, value: Any) -> Array:
        """An array of state on this group's device, in the dtype of its state."""
        return to_plain(
            value, dtype=dtypes.float32 if self.wide is not None else self.params[0].dtype, device=self.device
        )

    def rebind(self, i: int) -> None:
        """Copy a parameter's value into the vector and make the parameter a view of it; its gradient too."""
        p = self.params[i]
        if p._data is not self.value_views[i]:
            self.value_views[i][...] = p._data
            p._data = self.value_views[i]
            shown = getattr(p, "_memory", None)
            if shown is not None:
                shown.moved(p)
        leaf = p.edge
        if type(leaf) is not Leaf:
            return
        place: Any = self.grad_views[i]
        grad: Any = leaf.grad
        kept = grad is None or grad.edge is not None or place is None or isinstance(grad, SparseRows)
        if not kept and grad._data is not place:
            place[...] = grad._data
            leaf.grad = wrap(place)
        leaf.buffer, leaf.rows, leaf.clean = place, None, self.untouched and leaf.grad is None

    def count(self, first: int, last: int, steps: int, numbers: Mapping[str, float] | None = None) -> None:
        """Note that the parameters first … last − 1 have been updated and are at this step, with these numbers."""
        now = clock()
        self.steps[first:last] = [steps] * (last - first)
        if numbers:
            for name, number in numbers.items():
                self.numbers[name][first:last] = [number] * (last - first)
        for p in self.params if last - first == len(self.params) else self.params[first:last]:
            leaf = p.edge
            if leaf is not None:
                leaf.written = now

    def touch(self) -> None:
        """Note that the parameters have been modified in place."""
        now = clock()
        for p in self.params:
            if p.edge is not None:
                p.edge.written = now

    def unchanged(self) -> bool:
        """Whether the fast path applies: all parameters and gradients are still views of the flat vectors."""
        for p, value, place in self.places:
            leaf = p.edge
            if p._data is not value or type(leaf) is not Leaf:
                return False
            grad = leaf.grad
            if grad is None or isinstance(grad, SparseRows) or grad._data is not place:
                return False
        return True

    def tables(self) -> Iterator[tuple[int, SparseRows]]:
        """The parameters whose gradient is rows, by their numbers."""
        for i, p in enumerate(self.params):
            if type(p.edge) is Leaf and isinstance(p.edge.grad, SparseRows):
                yield i, p.edge.grad

    def ready(self, rows: bool = False) -> list[bool]:
        """Which parameters have a gradient that is an array, or, where `rows` are not taken as such, can be made one; a parameter that
        was bound to other memory is made a view again."""
        out = []
        for i, p in enumerate(self.params):
            leaf = p.edge
            if p._data is not self.value_views[i] or (
                type(leaf) is Leaf and leaf.buffer is not self.grad_views[i]
            ):
                self.rebind(i)
            grad = leaf.grad if type(leaf) is Leaf else None
            if grad is None or (rows and isinstance(grad, SparseRows)):
                out.append(False)
                continue
            self.lend()
            if isinstance(grad, SparseRows):
                self.grad_views[i][...] = 0.0
                grad.rows.add_to(self.grad_views[i])
                leaf.rows, leaf.clean = None, False
            elif grad._data is not self.grad_views[i]:
                self.grad_views[i][...] = grad._data
                leaf.rows, leaf.clean = None, False
            out.append(True)
        return out

    def same_numbers(self) -> bool:
        """Whether all parameters have the same numbers."""
        return all(values.count(values[0]) == len(values) for values in self.numbers.values())

    def ranges(self, unchanged: bool, rows: bool = False) -> list[tuple[int, int, int]]:
        """(first, last, steps so far) of each maximal range of parameters with gradients, equal step counts and equal numbers; without
        those of `tables`, where their `rows` are taken as such."""
        steps = self.steps
        if unchanged and steps.count(steps[0]) == len(steps) and (not self.numbers or self.same_numbers()):
            return [(0, len(steps), steps[0])]
        ready = self.ready(rows)
        alike: list[Any] = (
            list(zip(self.steps, *self.numbers.values(), strict=True)) if self.numbers else self.steps
        )
        out: list[tuple[int, int, int]] = []
        for i, has_grad in enumerate(ready):
            if not has_grad:
                continue
            if out and out[-1][1] == i and alike[i] == alike[i - 1]:
                out[-1] = (out[-1][0], i + 1, out[-1][2])
            else:
                out.append((i, i + 1, self.steps[i]))
        return out
