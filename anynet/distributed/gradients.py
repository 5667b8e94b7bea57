"""The sum of gradients over processes, in chunks, while the backward pass goes on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from anynet.autograd.backward import watch
from anynet.distributed.group import Group, Pending
from anynet.sparse_rows import SparseRows
from anynet.tensor import Leaf, Tensor, unwrap, wrap
from anynet_backends import Array, backend_of, registry

__all__ = ["CHUNK", "GradientReducer"]

CHUNK: Final = 4 << 20
"""Bytes of gradients that are summed at a time."""

_IN_PLACE: Final = ("float32", "float64", "complex64", "complex128")


class _Chunk:
    """Parameters whose gradients are summed together: neighbours, of one dtype and device."""

    def __init__(self, params: list[Tensor]) -> None:
        self.params = params
        self.waits_for = len(params)
        self.pending: Pending | None = None
        self.whole = False  # whether the vector is the gradients themselves, which lie behind each other
        self.vector: Array | None = None


class GradientReducer:
    """Replaces gradients by their sums over the processes of a group.

    The parameters are divided into chunks of about `chunk` bytes, from the last parameter to the first, as their gradients come. A chunk
    is on its way as soon as all of its gradients and the chunks before it are there, while the backward pass computes the others. Where
    gradients lie behind each other in the vector of an optimizer, they are summed there, without a copy.

    `begin` is called before the backward pass; at its end, or in `finish` where none was made, the sums are complete. A parameter that
    has a gradient in some process has one in all; where it has none, it counts as zero. Gradients that are rows of a table
    (`nn.Embedding(…, sparse=True)`) stay rows: those of all processes, in their order, are gathered at the end.

    >>> import anynet as an
    >>> net = an.nn.Linear(2, 1)
    >>> reducer = an.distributed.GradientReducer(net.parameters(), an.distributed.world())
    >>> reducer.begin()
    >>> an.sum(net(an.ones((3, 2)))).backward()
    >>> net.weight.grad.tolist()
    [[3.0, 3.0]]
    """

    def __init__(
        self, parameters: Iterable[Tensor], group: Group, *, chunk: int = CHUNK, mean: bool = False
    ) -> None:
        self.params = [p for p in parameters if p.requires_grad]
        if not isinstance(chunk, int) or chunk < 1:
            msg = f"GradientReducer: chunk must be a number of bytes ≥ 1, got {chunk!r}"
            raise ValueError(msg)
        self.group, self.chunk, self.mean = group, chunk, mean
        self.synchronizes = True
        self._open = False
        self._chunks: list[_Chunk] = []
        self._tables: list[Tensor] = []  # whose gradients are rows
        self._of: dict[int, _Chunk] = {}  # by the identity of a leaf
        self._next = 0
        if group.size > 1:
            watch(self)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Within the block gradients stay those of this process, and add up; the first backward pass after it sums them all."""
        before, self.synchronizes = self.synchronizes, False
        try:
            yield
        finally:
            self.synchronizes = before

    def begin(self) -> None:
        """Before a backward pass whose gradients are to be summed."""
        if self.group.size == 1 or not self.synchronizes:
            return
        self._chunks, self._of, self._next, self._open = [], {}, 0, True
        kinds: dict[tuple[str, str], list[Tensor]] = {}
        self._tables = [p for p in self.params if type(p.edge) is Leaf and p.edge.table]
        tables = set(map(id, self._tables))
        for p in reversed(self.params):
            if id(p) in tables:
                continue
            kinds.setdefault((p.device, p.dtype.name), []).append(p)
        for params in kinds.values():
            size, run = 0, []
            for p in params:
                size += p.size * p.dtype.itemsize
                run.append(p)
                if size >= self.chunk:
                    self._chunks.append(_Chunk(run))
                    size, run = 0, []
            if run:
                self._chunks.append(_Chunk(run))
        for chunk in self._chunks:
            for p in chunk.params:
                self._of[id(p.edge)] = chunk

    # ----- what the backward pass tells -----

    def leaves(self) -> Iterable[Leaf]:
        """The variables, as they are now; none where nothing is to be summed."""
        return (
            [p.edge for p in self.params if type(p.edge) is Leaf] if self._open and self.synchronizes else ()
        )

    def ready(self, leaf: Leaf) -> None:
        """A gradient is whole: begin what can begin, and let go on what is on its way."""
        chunk = self._of.get(id(leaf))
        if chunk is None:
            return
        chunk.waits_for -= 1
        while self._next < len(self._chunks) and self._chunks[self._next].waits_for == 0:
            self._send(self._chunks[self._next])
            self._next += 1
        for sent in self._chunks[: self._next]:
            if sent.pending is not None:
                sent.pending.test()

    def done(self) -> None:
        """The backward pass has ended."""
        self.finish()

    def finish(self) -> None:
        """Send what is left, and return when all sums are there."""
        if not self._open:
            return
        self._open = False
        has = registry.asarray([int(p.grad is not None) for p in self.params], "uint8")
        used = self.group.all_reduce(has, "max").tolist() if self.params else []
        for chunk in self._chunks[self._next :]:
            self._send(chunk)
        some = {id(p) for p, u in zip(self.params, used, strict=True) if u}
        for chunk in self._chunks:
            self._receive(chunk, some)
        if self._tables:
            self._gather_tables()

    def _gather_tables(self) -> None:
        """The rows of all processes, one after the other; where one has an array, the sum of arrays."""
        parts = self.group.gather([_host_parts(p.grad) for p in self._tables])
        for p, *given in zip(self._tables, *parts, strict=True):
            found = [part for part in given if part is not None]
            if not found:
                continue
            total: Any = None
            for part in found:
                index, values = (None if a is None else Tensor(a, device=p.device) for a in part)
                g = values if index is None else SparseRows(index, values, tuple(p.shape))
                total = g if total is None else total + g
            p.grad = total / self.group.size if self.mean else total

    # ----- one chunk -----

    def _send(self, chunk: _Chunk) -> None:
        arrays = [_gradient(p) for p in reversed(chunk.params)]  # in the order of the vector
        xp = backend_of(arrays[0])
        there = None
        if xp.assigns_in_place and xp.dtype_name(arrays[0].dtype) in _IN_PLACE:
            there = xp.adjacent(arrays)
        chunk.whole = there is not None and self.group.takes(there)
        chunk.vector = there if chunk.whole else self._joined(arrays)
        chunk.pending = self.group.start_all_reduce(chunk.vector)

    def _receive(self, chunk: _Chunk, some: set[int]) -> None:
        assert chunk.pending is not None
        assert chunk.vector is not None
        chunk.pending.wait()
        vector: Any = chunk.vector
        if self.mean:
            vector /= self.group.size
        at = 0
        for p in reversed(chunk.params):
            n = math.prod(p.shape)
            if id(p) not in some:
                at += n
                continue
            if not chunk.whole:
                _put(p, vector[at : at + n].reshape(p.shape))
            elif p.grad is None:
                p.grad = wrap(_buffer(p))
            at += n
        chunk.vector = None

    def _joined(self, arrays: Sequence[Any]) -> Any:
        """A vector of all numbers of some arrays, of at least 32 bits, that the group takes."""
        flat = [self.group.staged(a).reshape(-1) for a in arrays]
        return backend_of(flat[0]).concat(flat, axis=0) if len(flat) > 1 else flat[0]


def _buffer(p: Tensor) -> Any:
    """The place of a parameter's gradient in the vector of an optimizer, None where it has none."""
    return p.edge.buffer if type(p.edge) is Leaf else None


def _host_parts(grad: Tensor | None) -> tuple[Any, ...] | None:
    """A gradient as arrays on the host: (indices, values) of rows, (None, array) of another; None where there is none."""
    if grad is None:
        return None
    if isinstance(grad, SparseRows):
        rows = grad.rows
        return rows.xp.to_host(rows.index), rows.xp.to_host(rows.values)
    return None, backend_of(grad._data).to_host(grad._data)


def _gradient(p: Tensor) -> Any:
    """The array of a gradient, zeros where there is none."""
    if p.grad is not None:
        if type(p.edge) is Leaf:
            p.edge.rows, p.edge.clean = None, False  # other rows come from other processes
        return unwrap(p.grad)
    place, data = _buffer(p), unwrap(p)
    xp = backend_of(data)
    if place is not None and type(place) is type(data):
        xp.fill(place, 0.0)
        p.edge.rows, p.edge.clean = None, False
        return place
    return xp.zeros(data.shape, dtype=data.dtype, device=xp.native_device(p.device))


def _put(p: Tensor, sum_: Any) -> None:
    """Make this the gradient of a parameter, in its place where it has one."""
    data = unwrap(p)
    xp = backend_of(data)
    if backend_of(sum_) is not xp:
        sum_ = xp.from_host(sum_, p.device)
    there: Any = sum_ if sum_.dtype == data.dtype else xp.astype(sum_, data.dtype)
    place = _buffer(p)
    if place is not None and type(place) is type(there):
        p.grad = wrap(xp.store(place, there))
    else:
        p.grad = wrap(there)
