"""plan: what a training would take (parameters, operations, memory, time) before it is begun.

What follows from shapes is computed on arrays without values (the device "meta"): one step of training, of any size, in milliseconds. How
much memory and time the kernels of this machine take beside that is measured by a trial of a few steps with a small batch, in a process of
its own, and carried over to the batch that is asked for: memory and time grow with the batch along a line.

Source of the bound on the time: Williams, Waterman, Patterson: Roofline (2009).
"""

from __future__ import annotations

import copy
import gc
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from anynet import dtypes, optim, random
from anynet._hints import nearest
from anynet._trials import TooLong, available, load_libraries, measured, peak_of
from anynet.autograd.debug.profiler import peaks, profile
from anynet.autograd.pytree import flatten
from anynet.data.source import Source
from anynet.nn import Embedding
from anynet.nn.module import Module
from anynet.ops.creation import zeros
from anynet.ops.elementwise import square
from anynet.ops.reductions import mean
from anynet.tensor import Tensor
from anynet.train.batches import call
from anynet.train.setup import OPTIMIZERS
from anynet_backends.meta_backend import Memory

__all__ = ["LayerPlan", "Plan", "bytes_of", "plan"]

_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_TRIAL_BYTES = 1e9  # about so much may the arrays of a trial occupy, and a quarter of what is free


@dataclass(frozen=True)
class LayerPlan:
    """What a layer takes: its parameters, and its forward and backward operations for the batch."""

    layer: str
    parameters: int
    flops: float
    bytes: float  # that its operations read and write


@dataclass(frozen=True)
class Plan:
    """What a step of training takes with this batch. Sizes are in bytes, times in seconds.

    `activations` is what the backward pass needs of the forward pass; `peak` all that lives at the worst moment, weights, gradients and the
    optimizer's state included. `by` says what the peak and the time are from: "trial" or "shapes".
    """

    network: str
    batch: int
    inputs: list[tuple[int, ...]]
    outputs: list[tuple[int, ...]]
    parameters: int
    trainable: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    peak: int
    flops: float
    floor: float  # no step is quicker on this machine
    seconds: float
    by: str
    layers: list[LayerPlan]
    per_sample: float  # bytes of the peak that each sample adds
    memory: int | None = None  # what there is
    largest_batch: int | None = None  # that fits into it
    why: str | None = None  # it is by shapes alone: then peak and time are the least that there can be

    @property
    def fits(self) -> bool | None:
        """Whether the batch fits into `memory`; None where that was not given."""
        return None if self.memory is None else self.peak <= self.memory

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "fits": self.fits}

    def __str__(self) -> str:
        wide = max([len(row.layer) for row in self.layers] + [5]) + 2
        lines = [f"{'layer':<{wide}}{'parameters':>12}{'Gflop':>10}{'MB moved':>12}"]
        for row in self.layers:
            lines.append(
                f"{row.layer:<{wide}}{row.parameters:>12,}{row.flops / 1e9:>10.3f}{row.bytes / 1e6:>12.1f}"
            )
        shapes = ", ".join(str(s) for s in self.inputs), ", ".join(str(s) for s in self.outputs)
        how = "measured with small batches" if self.by == "trial" else "by shapes alone: at least"
        lines += [
            "", f"{self.network}: {shapes[0]} → {shapes[1]}",
            f"{self.parameters:,} parameters, {self.trainable:,} of them trained; {self.flops / 1e9:.3g} Gflop a step",
            f"weights {_size(self.weights)}, gradients {_size(self.gradients)}, optimizer {_size(self.optimizer)}, "
            f"activations {_size(self.activations)}",
            f"peak {_size(self.peak)} with a batch of {self.batch}, {_size(self.per_sample)} more for each sample ({how})",
            f"about {_duration(self.seconds)} a step ({how}); no less than {_duration(self.floor)}",
        ]  # fmt: skip
        if self.by == "shapes":
            lines.append(
                f"memory and time are estimates from below, without what the kernels need beside: {self.why}"
            )
        if self.memory is not None:
            answer = (
                f"the largest batch is {self.largest_batch}"
                if self.largest_batch
                else "not even a batch of 1 fits"
            )
            lines.append(
                f"in {_size(self.memory)}: this batch {'fits' if self.fits else 'does not fit'}; {answer}"
            )
        return "\n".join(lines)


def _size(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if abs(n) < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"


def _duration(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def bytes_of(text: str | float) -> int:
    """A size such as "12GB", "512 MiB" or a number, in bytes.

    >>> bytes_of("12GB"), bytes_of("1.5 KiB")
    (12000000000, 1536)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([a-zA-Z]*)\s*", str(text))
    if found is None or found[2].lower() not in _UNITS:
        msg = f"a size must be a number with a unit (MB, GB, GiB, …), got {text!r}"
        raise ValueError(msg)
    return int(float(found[1]) * _UNITS[found[2].lower()])


# ----- the step -----


class _Step:
    """A step of training for a batch of any size, on any device."""

    def __init__(
        self, model: Module, inputs: Any, loss: Callable[[Any, Any], Any] | None, targets: Any, optimizer: str
    ) -> None:
        self.model, self.inputs, self.loss, self.targets = model, inputs, loss, targets
        if optimizer not in OPTIMIZERS:
            msg = f"plan: unknown optimizer {optimizer!r}{nearest(optimizer, OPTIMIZERS)}"
            raise ValueError(msg)
        self.make = OPTIMIZERS[optimizer]

    def data(self, batch: int, device: str) -> tuple[Any, Any]:
        """Inputs and targets of zeros; for integers zero is a class and a token."""

        def blank(x: tuple[tuple[int, ...], str]) -> Tensor:
            return zeros((batch, *x[0][1:]), dtype=x[1], device=device)

        return map_tree_shapes(blank, self.inputs), None if self.targets is None else map_tree_shapes(
            blank, self.targets
        )

    def forward(self, model: Module, x: Any, y: Any) -> tuple[Any, Any]:
        """Output and loss."""
        output = call(model, x)
        if self.loss is not None and y is not None:
            return output, self.loss(output, y)
        total: Any = 0.0
        for leaf in flatten(output)[0]:
            if isinstance(leaf, Tensor) and leaf.dtype.kind == "real":
                total = total + mean(square(leaf))
        return output, total

    def optimizer(self, model: Module) -> Any:
        """The optimizer of what is trained."""
        params = [p for p in model.parameters() if p.requires_grad]
        options: dict[str, Any] = {"lr": 0.01} if self.make is optim.SGD else {}
        return self.make(params, **options) if params else None

    def trial(self, batch: int) -> tuple[int, float]:
        """What some steps with this batch take in this process: bytes at most, and the seconds of the last one."""
        model = self.model.train()
        seconds = 0.0

        def train() -> None:
            nonlocal seconds
            x, y = self.data(batch, "cpu")
            optimizer = self.optimizer(model)
            for _ in range(4):  # what the allocator holds grows over the first steps
                gc.collect()
                began = time.perf_counter()
                if optimizer is not None:
                    optimizer.zero_grad()
                _, loss = self.forward(model, x, y)
                if optimizer is not None:
                    loss.backward()
                    optimizer.step()
                seconds = time.perf_counter() - began

        load_libraries()
        return peak_of(train), seconds


def map_tree_shapes(function: Callable[[Any], Any], tree: Any) -> Any:
    """Map over a tree whose leaves are pairs (shape, dtype)."""
    if isinstance(tree, Mapping):
        return {k: map_tree_shapes(function, v) for k, v in tree.items()}
    if isinstance(tree, list):
        return tuple(map_tree_shapes(function, v) for v in tree)
    return function(tree)


def _shapes(tree: Any) -> Any:
    """The shapes and dtypes of a tree of arrays; several are a list."""
    if isinstance(tree, Mapping):
        return {k: _shapes(v) for k, v in tree.items()}
    if isinstance(tree, (tuple, list)):
        return [_shapes(v) for v in tree]
    return tuple(map(int, tree.shape)), str(tree.dtype)


@dataclass
class _Sizes:
    """What one step needs by shapes alone."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    peak: int
    outputs: list[tuple[int, ...]]


def _by_shapes(step: _Step, batch: int, seen: profile | None = None) -> _Sizes:
    """Run a step on arrays without values."""
    with Memory() as memory, random.fork_rng():
        model = copy.deepcopy(step.model)
        model.to("meta")
        model.train()
        weights = memory.now
        x, y = step.data(batch, "meta")
        given = memory.now
        if seen is not None:
            seen.__enter__()
        try:
            output, loss = step.forward(model, x, y)
            outputs = [tuple(t.shape) for t in flatten(output)[0] if isinstance(t, Tensor)]
            kept = memory.now
            if loss is not None and getattr(loss, "requires_grad", False):
                loss.backward()
        finally:
            if seen is not None:
                seen.__exit__(None, None, None)
        del output, loss
        after = memory.now
        optimizer = step.optimizer(model)
        if optimizer is not None:
            optimizer.step()
        state = memory.now - after
        first = memory.peak
        memory.restart()
        if optimizer is not None:  # a second step, with the gradients and the state there
            optimizer.zero_grad()
            _, loss = step.forward(model, x, y)
            loss.backward()
            optimizer.step()
        return _Sizes(weights, after - given, state, kept - given, max(first, memory.peak), outputs)


# ----- plan -----


# Over 60 lines, most of them the signature and what each option means, which belong where help looks.
def plan(
    what: Module | Source,
    inputs: Sequence[int] | Sequence[Sequence[int]] | None = None,
    *,
    network: Module | None = None,
    batch_size: int | None = None,
    dtype: str | None = None,
    loss: Callable[[Any, Any], Any] | None = None,
    targets: Sequence[int] | None = None,
    optimizer: str = "adam",
    memory: str | float | None = None,
    trial: bool = True,
) -> Plan:
    """What training a network takes: parameters, operations, memory and time, layer by layer.

    Parameters:
      what: a network, or a `Source` (then its network, shapes, loss and batch size are taken).
      inputs: the shape of the input with the batch, such as (32, 3, 224, 224), or several shapes.
      network: another network for a source than its own.
      batch_size: another batch than that of `inputs`.
      dtype: of the inputs; by default int64 where the first layer is an embedding, else the network's.
      loss, targets: a function (output, target) and the targets' shape; without them the mean of the squared outputs stands for the loss.
      optimizer: its name; its state counts.
      memory: what there is, such as "12GB": the largest batch that fits is found.
      trial: measure memory and time with a small batch on this machine's CPU, in a process of its own (Linux). False, or where that
        cannot be: by shapes alone, which is what the formulas need, without the work space of the kernels.

    Errors: ValueError for shapes that do not go together, with the layer.

    >>> import anynet as an
    >>> net = an.nn.Sequential(an.nn.Linear(784, 100), an.nn.ReLU(), an.nn.Linear(100, 10))
    >>> found = an.plan(net, (32, 784), trial=False)
    >>> found.parameters, found.weights, found.optimizer
    (79510, 318040, 636080)
    """
    model, shapes, goal, wanted, batch = _asked(what, inputs, dtype, loss, targets, network)
    batch = batch if batch_size is None else int(batch_size)
    if batch < 1:
        msg = f"plan: batch_size must be at least 1, got {batch}"
        raise ValueError(msg)
    step = _Step(model, shapes, goal, wanted, optimizer)
    seen = profile()
    sizes = _by_shapes(step, batch, seen)
    speed, width = peaks("cpu")
    floor = sum(max(e.flops / speed, e.bytes / width) for e in seen.events)
    more = _by_shapes(step, 2 * batch)
    per_sample = (more.peak - sizes.peak) / batch
    peak, seconds, by = float(sizes.peak), floor, "shapes"
    found = _tried(step, batch, per_sample, sizes.weights) if trial else "no trial was asked for"
    if not isinstance(found, str):
        peak, per_sample, seconds, by = *found, "trial"
    there = None if memory is None else bytes_of(memory)
    largest = None
    if there is not None:
        largest = (
            max(0, int(batch + (there - peak) // per_sample))
            if per_sample > 0
            else batch
            if peak <= there
            else 0
        )
    flat = flatten(step.data(batch, "meta")[0])[0]
    return Plan(
        type(model).__name__, batch, [tuple(x.shape) for x in flat], sizes.outputs, sum(p.size for p in model.parameters()),
        sum(p.size for p in model.parameters() if p.requires_grad), sizes.weights, sizes.gradients, sizes.optimizer, sizes.activations,
        int(peak), sum(e.flops for e in seen.events), floor, seconds, by, _layers(model, seen), per_sample, there, largest,
        found if isinstance(found, str) else None,
    )  # fmt: skip


def _asked(
    what: Any, inputs: Any, dtype: str | None, loss: Any, targets: Any, network: Module | None
) -> tuple[Module, Any, Any, Any, int]:
    """The network, the shapes of inputs and targets, the loss, the batch."""
    if isinstance(what, Source):
        own = {"inputs": inputs, "dtype": dtype, "loss": loss, "targets": targets}
        if given := [name for name, value in own.items() if value is not None]:
            msg = f"plan: a source brings its own {' and '.join(given)}"
            raise ValueError(msg)
        chosen = what.defaults()
        batch = int(chosen.get("batch_size", 32))
        pair = what.train.batch(range(min(2, len(what.train))))
        # a higher room knows losses by name; here the same as fit's
        from anynet.train.objectives import Objective

        model = what.network() if network is None else network
        return model, _shapes(pair[0]), Objective(chosen["loss"]), _shapes(pair[1]), batch
    if not isinstance(what, Module) or network is not None:
        which = "a network or a source" if network is None else "a source, to go with network="
        msg = f"plan: expected {which}, got {type(what).__name__}"
        raise TypeError(msg)
    if inputs is None or not len(inputs):
        msg = "plan: a network needs the shape of its input with the batch, such as (32, 3, 224, 224)"
        raise ValueError(msg)
    several = [tuple(s) for s in inputs] if not isinstance(inputs[0], int) else [tuple(inputs)]
    if any(not s or any(not isinstance(n, int) or n < 1 for n in s) for s in several):
        msg = f"plan: a shape must be integers of at least 1, got {inputs}"
        raise ValueError(msg)
    kind = dtype or _input_dtype(what)
    shapes: Any = [(s, kind) for s in several] if len(several) > 1 else (several[0], kind)
    goal = None if targets is None else (tuple(targets), "int64" if loss is not None else kind)
    return what, shapes, loss, goal, int(several[0][0])


def _input_dtype(model: Module) -> str:
    """int64 for a network that begins with an embedding, else that of its first parameter."""
    children = [
        m
        for m in model.modules()
        if next(iter(m.children()), None) is None and next(iter(m.parameters()), None) is not None
    ]
    if children and isinstance(children[0], Embedding):
        return "int64"
    real = next((p.dtype for p in model.parameters() if p.dtype.kind == "real"), dtypes.default_float())
    return str(real)


def _tried(step: _Step, batch: int, per_sample: float, weights: int) -> tuple[float, float, float] | str:
    """Peak, bytes a sample and seconds, from trials with batches that are small enough; or why there are none."""
    most = max(2, int(min(_TRIAL_BYTES, available() / 4) / max(per_sample, 1.0)))
    large = min(batch, most)
    one = measured(step.trial, large)
    while isinstance(one, TooLong) and large >= 8:
        large //= 4
        one = measured(step.trial, large)
    if isinstance(one, str):
        return one
    slope, peak, seconds = per_sample, float(one[0]), one[1] * batch / large
    if large != batch:
        small = max(1, large // 2)
        two = measured(step.trial, small)
        if isinstance(two, str):
            return two
        slope = max(0.0, (one[0] - two[0]) / (large - small))
        peak += slope * (batch - large)
    return peak + weights, slope, seconds


def _layers(model: Module, seen: profile) -> list[LayerPlan]:
    """The totals of each layer that has operations, in the order of the network."""
    root = type(model).__name__
    found: dict[str, list[float]] = {}
    for event in seen.events:
        row = found.setdefault(event.layer, [0.0, 0.0])
        row[0] += event.flops
        row[1] += event.bytes
    rows = []
    for path, module in model.named_modules():
        name = f"{root}.{path}" if path else root
        own = sum(p.size for p in vars(module).values() if hasattr(p, "requires_grad") and hasattr(p, "size"))
        if name in found:
            rows.append(LayerPlan(path or root, own, *found.pop(name)))
        elif own:
            rows.append(LayerPlan(path or root, own, 0.0, 0.0))
    return rows
