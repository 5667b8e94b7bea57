"""profile: where the time of a computation goes, by layer and primitive, and how near it comes to the floor.

The floor of an operation is the larger of two times: its floating-point operations at the speed of a large matrix
product, and the bytes of its inputs and outputs at the speed of a copy, both measured on the machine (the roofline model,
Williams, Waterman and Patterson, Communications of the ACM 52 (2009)).
"""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from anynet._html import html_table
from anynet.autograd.backward import observer
from anynet.autograd.dispatch import INTERCEPT
from anynet.autograd.graph import Node, OutputEdge
from anynet.autograd.jit.host_callback import host_call_handlers
from anynet.autograd.location import location, locators
from anynet.autograd.primitive import Primitive
from anynet.autograd.pytree import flatten
from anynet.autograd.vmap import Batched, handle_batched
from anynet.tensor import Tensor, unwrap
from anynet_backends import Backend, backend_of, resolve
from anynet_backends.jit.program import replay_observers
from anynet_backends.memory.layout import reorders

__all__ = ["Event", "profile"]


@dataclass
class Event:
    """One operation: what, where, when, how long (seconds), and how much work."""

    name: str
    layer: str
    phase: str  # "forward", "backward", "update" or "compiled"
    start: float
    seconds: float
    flops: float
    bytes: float
    device: str
    shapes: tuple[tuple[int, ...], ...]
    inner: float = field(default=0.0, repr=False)  # time of the operations inside of it
    inner_flops: float = field(default=0.0, repr=False)
    inner_bytes: float = field(default=0.0, repr=False)


def _size(shape: Sequence[int]) -> int:
    return int(math.prod(shape))


def _product(shapes: Any, out: Any, meta: Any) -> float:
    return 2.0 * _size(out) * int(shapes[0][-1])


def _convolution(shapes: Any, out: Any, meta: Any) -> float:
    return 2.0 * _size(out) * _size(shapes[1][1:])


def _transposed(shapes: Any, out: Any, meta: Any) -> float:
    return 2.0 * _size(shapes[0]) * _size(shapes[1][1:])


def _weight(shapes: Any, out: Any, meta: Any) -> float:
    return 2.0 * _size(shapes[1]) * _size(out[1:])


def _scan(shapes: Any, out: Any, meta: Any) -> float:
    steps, n, width = shapes[0]
    return float(2 * steps * n * width * shapes[1][-1] + 10 * steps * n * width)


def _attention(shapes: Any, out: Any, meta: Any) -> float:
    query, key = shapes[0], shapes[1]
    scores = _size(query[:-1]) * key[-2] * (0.5 if meta.get("causal") else 1.0)
    return float(2.0 * scores * (query[-1] + out[-1]))


FLOPS: dict[str, Callable[[Any, Any, Any], float]] = {
    "matmul": _product, "linear": _product, "affine": _product, "vecdot": lambda s, o, m: 2.0 * _size(s[0]), "conv": _convolution,
    "conv_transpose": _transposed, "conv_weight": _weight, "rnn_scan": _scan, "lstm_scan": _scan, "gru_scan": _scan,
    "attention": _attention,
}  # fmt: skip
"""Floating-point operations of the forward pass from the shapes of inputs and output; others count one for each element."""


def _flops(name: str, shapes: Any, out: Any, meta: Any) -> float:
    rule = FLOPS.get(name)
    try:
        return rule(shapes, out, meta) if rule is not None else float(_size(out))
    except (IndexError, ValueError, TypeError):
        return float(_size(out))


@functools.lru_cache(maxsize=16)
def peaks(device: str) -> tuple[float, float]:
    """(floating-point operations a second, bytes a second) of a device in float32: the best of a few large products and
    copies."""
    xp, name = resolve(device)
    where = xp.native_device(name)
    n = 768
    a = xp.ones((n, n), dtype=xp.float32, device=where)
    b = xp.ones((4 << 20,), dtype=xp.float32, device=where)

    def best(f: Callable[[], Any]) -> float:
        times = []
        for _ in range(6):
            xp.synchronize(name)
            began = time.perf_counter()
            f()
            xp.synchronize(name)
            times.append(time.perf_counter() - began)
        return min(times)

    return 2.0 * n**3 / best(lambda: xp.matmul(a, a)), 2.0 * b.nbytes / best(lambda: xp.asarray(b, copy=True))


def _cells(row: dict[str, Any], spent: float) -> list[str]:
    """The figures of a row of totals as text."""
    return [
        str(row["calls"]), f"{row['seconds'] * 1e3:.3f}", f"{row['seconds'] / (spent or 1):.1%}", f"{row['flops'] / 1e6:.2f}",
        f"{row['bytes'] / 1e6:.2f}", f"{row['floor'] / row['seconds']:.0%}" if row["floor"] and row["seconds"] else "",
    ]  # fmt: skip


class profile:
    """Within the block every operation of this thread is timed. Nested blocks are refused.

    ``print(p)`` shows time, floating-point operations, bytes and the share of the floor by layer and operation;
    ``p.save(file)`` writes a trace for Perfetto or Chrome (chrome://tracing); ``p.events`` is the list of all. Timing
    takes a few microseconds an operation, and on a GPU each operation is waited for. Compiled functions show up as one
    operation for each instruction. `p.reorders` is how many arrays kernels had to copy into another order of axes (a
    network that keeps one order from layer to layer has few), `p.reordered` their bytes.

    >>> import anynet as an
    >>> net = an.nn.Sequential(an.nn.Linear(4, 3), an.nn.ReLU())
    >>> with an.profile() as p:
    ...     an.sum(net(an.ones((2, 4)))).backward()
    >>> sorted({event.name for event in p.events if event.phase == "forward"})
    ['linear', 'relu', 'sum']
    """

    _active: list[profile] = []  # noqa: RUF012 - shared on purpose: one at a time

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.seconds = 0.0
        self.reorders = self.reordered = 0
        self._open: list[Event] = []
        self._began = 0.0

    # ----- recording -----

    def __enter__(self) -> profile:
        if self._active:
            msg = "profile: another profile is running; end it first"
            raise RuntimeError(msg)
        self._active.append(self)
        INTERCEPT.append(self._handle)
        observer.append(self)
        host_call_handlers.append(self._host)
        replay_observers.append(self._instruction)
        for switch, _ in locators:
            switch(True)
        self.reorders, self.reordered = self.reorders - reorders.calls, self.reordered - reorders.bytes
        self._began = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds += time.perf_counter() - self._began
        self.reorders, self.reordered = self.reorders + reorders.calls, self.reordered + reorders.bytes
        self._active.clear()
        for switch, _ in locators:
            switch(False)
        host_call_handlers.remove(self._host)
        replay_observers.remove(self._instruction)
        observer.remove(self)
        INTERCEPT.remove(self._handle)
        self._open.clear()

    def _start(self, name: str, layer: str, phase: str, device: str) -> Event:
        event = Event(name, layer, phase, time.perf_counter() - self._began, 0.0, 0.0, 0.0, device, ())
        self._open.append(event)
        return event

    def _end(self, event: Event, xp: Backend | None) -> None:
        if xp is not None:
            xp.synchronize(event.device)
        event.seconds = time.perf_counter() - self._began - event.start
        while self._open and self._open.pop() is not event:
            pass
        if self._open:
            self._open[-1].inner += event.seconds
        self.events.append(event)

    def _count(self, event: Event, flops: float, size: float) -> None:
        """An event that has ended took so many operations and bytes, beside what is inside it."""
        event.flops, event.bytes = flops, size
        if self._open:
            self._open[-1].inner_flops += flops + event.inner_flops
            self._open[-1].inner_bytes += size + event.inner_bytes

    def _handle(self, prim: Primitive[...], args: tuple[Any, ...], meta: dict[str, Any]) -> Any:
        if any(isinstance(x, Tensor) and isinstance(x._data, Batched) for x in args):
            return handle_batched(prim, args, meta)
        arrays = [d for x in args if hasattr(d := unwrap(x), "shape") and hasattr(d, "dtype")]
        if not arrays:
            return prim.bind(args, meta)
        xp = backend_of(arrays[0])
        inside = self._open[-1] if self._open else None
        phase = inside.phase if inside is not None else "forward"
        layer = inside.layer if inside is not None and phase == "backward" else location()
        event = self._start(prim.name, layer, phase, xp.device_of(arrays[0]))
        try:
            out = prim.bind(args, meta)
        finally:
            self._end(event, xp)
        results = [unwrap(y) for y in (out if isinstance(out, tuple) else (out,))]
        event.shapes = tuple(tuple(a.shape) for a in arrays)
        self._count(
            event,
            _flops(prim.name, event.shapes, tuple(results[0].shape), meta),
            float(sum(a.nbytes for a in (*arrays, *results))),
        )
        for y in out if isinstance(out, tuple) else (out,):
            if isinstance(y, Tensor) and y.edge is not None:
                node = y.edge.node if type(y.edge) is OutputEdge else y.edge
                if isinstance(node, Node):
                    node.where = (event.layer, event.flops, event.bytes, event.shapes)
        return out

    def before(self, node: Node, g: Any) -> None:
        """A node of the graph is about to give its gradients."""
        layer = node.where[0] if isinstance(getattr(node, "where", None), tuple) else ""
        plain = unwrap(g[0] if isinstance(g, tuple) else g)
        self._start(node.label, layer, "backward", backend_of(plain).device_of(plain))

    def after(self, node: Node, grads: Sequence[Any]) -> None:
        """It has given them."""
        event = next((e for e in reversed(self._open) if e.phase == "backward"), None)
        if event is None:
            return
        given = [g for g in grads if g is not None]
        self._end(event, backend_of(unwrap(given[0])) if given else None)
        about = getattr(node, "where", None)
        if not isinstance(about, tuple):
            self._count(event, 0.0, 0.0)
        else:
            _, flops, size, event.shapes = about
            # as many products as gradients of matrices; that of a bias is a sum
            products = sum(len(unwrap(g).shape) > 1 for g in given) if event.name in FLOPS else 1
            # a rule made of primitives: they are counted, and of the rule only what is more
            self._count(
                event,
                max(0.0, flops * products - event.inner_flops),
                max(0.0, size * max(1, products) - event.inner_bytes),
            )

    def _host(self, name: str, run: Callable[[], Any]) -> Any:
        event = self._start(name, "", "update", "cpu")
        try:
            return run()
        finally:
            self._end(event, None)

    def _instruction(self, name: str, f: Callable[..., Any], args: tuple[Any, ...]) -> None:
        event = self._start(name, "", "compiled", "cpu")
        try:
            f(*args)
        finally:
            self._end(event, None)
        arrays = [a for a in flatten(list(args))[0] if hasattr(a, "nbytes") and hasattr(a, "shape")]
        event.shapes = tuple(tuple(a.shape) for a in arrays)
        event.bytes = float(sum(a.nbytes for a in arrays))
        if arrays:
            event.flops = _flops(name, event.shapes, event.shapes[-1], {})

    # ----- reporting -----

    def totals(self, by: str = "layer and operation") -> list[dict[str, Any]]:
        """Sums by "layer and operation", "layer", "operation" or "phase", longest first: calls, seconds (without the
        operations inside), flops, bytes, floor (seconds)."""
        keys: dict[str, Callable[[Event], tuple[str, ...]]] = {
            "layer and operation": lambda e: (e.layer, e.name, e.phase), "layer": lambda e: (e.layer,),
            "operation": lambda e: (e.name, e.phase), "phase": lambda e: (e.phase,),
        }  # fmt: skip
        if by not in keys:
            msg = f"profile: by must be one of {', '.join(map(repr, keys))}, got {by!r}"
            raise ValueError(msg)
        rows: dict[tuple[str, ...], dict[str, Any]] = {}
        sums = ("seconds", "flops", "bytes", "floor")
        for event in self.events:
            key = keys[by](event)
            row = rows.setdefault(key, {"key": key, "calls": 0, **dict.fromkeys(sums, 0.0)})
            row["calls"] += 1
            row["seconds"] += max(event.seconds - event.inner, 0.0)
            row["flops"] += event.flops
            row["bytes"] += event.bytes
            if event.flops or event.bytes:
                speed, width = peaks(event.device)
                row["floor"] += max(event.flops / speed, event.bytes / width)
        return sorted(rows.values(), key=lambda r: -r["seconds"])

    def table(self, by: str = "layer and operation", limit: int = 30) -> str:
        """The totals as text."""
        rows = self.totals(by)
        spent = sum(r["seconds"] for r in rows)
        wide = max([len(" ".join(r["key"])) for r in rows[:limit]] + [len(by)]) + 2
        lines = [f"{by:<{wide}}{'calls':>7}{'ms':>10}{'share':>8}{'Mflop':>10}{'MB':>9}{'of floor':>10}"]
        for r in rows[:limit]:
            name = " ".join(k for k in r["key"] if k) or "(no layer)"
            cells = zip(_cells(r, spent), (7, 10, 8, 10, 9, 10), strict=True)
            lines.append(f"{name:<{wide}}{''.join(f'{cell:>{width}}' for cell, width in cells)}")
        if len(rows) > limit:
            rest = sum(r["seconds"] for r in rows[limit:])
            lines.append(f"{f'{len(rows) - limit} more':<{wide}}{'':>7}{rest * 1e3:>10.3f}")
        outside = max(self.seconds - spent, 0.0)
        lines.append(
            f"{len(self.events)} operations take {spent * 1e3:.3f} ms of {self.seconds * 1e3:.3f} ms; "
            f"{outside * 1e3:.3f} ms are Python and the profile itself"
        )
        if self.reorders:
            lines[-1] += f"; {self.reorders} arrays of {self.reordered / 1e6:.2f} MB were reordered in memory"
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        return self.table() if self.events else "<profile without operations>"

    def _repr_html_(self) -> str:
        """For notebooks: the totals as a table."""
        head = ["layer", "operation", "calls", "ms", "share", "Mflop", "MB", "of floor"]
        totals = self.totals()
        spent = sum(r["seconds"] for r in totals)
        rows = [[r["key"][0] or "(no layer)", " ".join(r["key"][1:]), *_cells(r, spent)] for r in totals[:30]]
        return html_table(head, rows, self.table(limit=0).rsplit("\n", 1)[-1])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the trace-event format that Perfetto (ui.perfetto.dev) and chrome://tracing read."""
        lanes = {"forward": 1, "backward": 2, "update": 3, "compiled": 4}
        named = [
            {"name": "thread_name", "ph": "M", "pid": 1, "tid": lane, "args": {"name": phase}}
            for phase, lane in lanes.items()
        ]
        events = [
            {
                "name": e.name, "cat": e.phase, "ph": "X", "pid": 1, "tid": lanes[e.phase], "ts": e.start * 1e6,
                "dur": e.seconds * 1e6,
                "args": {"layer": e.layer, "shapes": e.shapes, "flops": e.flops, "bytes": e.bytes, "device": e.device},
            }
            for e in sorted(self.events, key=lambda e: e.start)
        ]  # fmt: skip
        import json  # start-up time: only a trace that is written asks

        with open(path, "w", encoding="utf-8") as file:
            json.dump({"displayTimeUnit": "ms", "traceEvents": [*named, *events]}, file)
