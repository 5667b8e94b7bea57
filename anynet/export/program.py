"""A network as a program: the functions that it calls, in order, with the shapes as far as they follow from the batch.

A copy of the network runs on arrays without values (the device "meta"), twice, with batches of two sizes: what differs between the two
runs is what depends on the batch, and becomes a `Size`. Each call belongs to a primitive (`Group`) and to a layer, so that a target can
write a convolution as a convolution, and everything that it has no word for as what the primitive's reference computes.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anynet import dtypes, random
from anynet.autograd.dispatch import INTERCEPT
from anynet.autograd.location import location, watching
from anynet.autograd.primitive import Primitive
from anynet.autograd.pytree import flatten, map_tree
from anynet.nn.modes import evaluating
from anynet.nn.module import Module
from anynet.tensor import Tensor, no_grad, unwrap, wrap
from anynet_backends import Array, backend_of, get_backend
from anynet_backends.meta_backend import MetaArray, observing

__all__ = ["OPSET", "Call", "ExportError", "Group", "Program", "Size", "Value", "program_of"]

OPSET = 20
"""The version of the operators: the first with Gelu."""

_BATCHES = (5, 7)


class ExportError(ValueError):
    """What a target has no form for; the message names the layer and the line that defines it."""


@dataclass(frozen=True)
class Size:
    """A number that follows from the size of the batch: ``scale · batch + offset``."""

    scale: int
    offset: int = 0

    def at(self, batch: int) -> int:
        """The number for a batch of this size."""
        return self.scale * batch + self.offset


@dataclass(eq=False)
class Value:
    """An array of the program. `data` is a host array for parameters and constants; `name` is that of a parameter or input."""

    number: int
    shape: tuple[int | Size, ...]
    dtype: str
    role: str = "result"  # "input", "parameter", "constant", "result"
    name: str = ""
    data: Array = None


@dataclass(eq=False)
class Group:
    """A call of a primitive, with what belongs to it: `calls` are what its reference calls."""

    name: str
    args: tuple[Any, ...]
    meta: dict[str, Any]
    outputs: tuple[Any, ...]
    layer: str
    calls: list[Call] = field(default_factory=list)


@dataclass(eq=False)
class Call:
    """A call of a function of the standard (or "getitem", "setitem", "windows", "index_add"); arrays among the arguments are `Value`s,
    numbers that follow from the batch are `Size`s."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[Value, ...]
    layer: str
    group: Group | None

    @property
    def inputs(self) -> list[Value]:
        """The arrays among the arguments."""
        return list(values_in((self.args, self.kwargs)))


@dataclass(eq=False)
class LayerCall:
    """A call of one of the network's layers, with the calls inside."""

    path: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any
    calls: list[Call]

    @property
    def inputs(self) -> list[Value]:
        """The arrays among the arguments."""
        return list(values_in((self.args, self.kwargs)))

    @property
    def outputs(self) -> list[Value]:
        """The arrays of the output."""
        return list(values_in(self.output))


@dataclass
class Program:
    """What a network computes. `output` is a tree of `Value`s in the form of the network's output."""

    inputs: list[Value]
    calls: list[Call]
    output: Any
    values: list[Value]
    dynamic: bool  # whether the size of the batch is free
    layers: list[LayerCall]  # outer ones first
    data: dict[str, Array]  # the network's state by name

    def state(self, path: str, module: Module) -> Iterator[tuple[str, Array]]:
        """The state of the layer at a path, by the names that it has within the layer."""
        prefix = f"{path}." if path else ""
        for name in module.state_dict():
            yield name, self.data[prefix + name]

    @property
    def outputs(self) -> list[Value]:
        """The arrays of the output."""
        return list(values_in(self.output))

    @property
    def parameters(self) -> list[Value]:
        """The parameters and buffers that are used."""
        return [v for v in self.values if v.role == "parameter"]


def values_in(tree: Any) -> Iterator[Value]:
    """The values in a tree of tuples, lists, dicts and slices."""
    if isinstance(tree, Value):
        yield tree
    elif isinstance(tree, Mapping):
        for item in tree.values():
            yield from values_in(item)
    elif isinstance(tree, (tuple, list)):
        for item in tree:
            yield from values_in(item)
    elif isinstance(tree, slice):
        yield from values_in((tree.start, tree.stop, tree.step))


# ----- one run -----


class _Run:
    """The calls of one run on arrays without values."""

    def __init__(self, model: Module, inputs: Any, batch: int, first: int, number: int) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any], Any, str, int]] = []
        self.groups: list[list[Any]] = []
        self.layers: list[list[Any]] = []
        self.inside = 0
        copied = copy.deepcopy(model)
        self.names: dict[int, str] = {}
        host = {k: unwrap(v) for k, v in model.state_dict().items()}
        copied.to("meta")
        meta = get_backend("meta")
        for name, tensor in copied.state_dict().items():
            self.names.setdefault(id(unwrap(tensor)), name)
        self.data = {name: backend_of(a).to_host(a) for name, a in host.items()}
        self.kept = [copied]  # the names go by identity

        def blank(x: Any) -> Any:
            shape = tuple(batch if n == first and i == 0 else n for i, n in enumerate(x.shape))
            kind = meta.native_dtype[str(dtypes.of(unwrap(x).dtype))]
            return wrap(meta.empty(shape, dtype=kind))

        given = map_tree(blank, inputs)
        self.inputs = [unwrap(x) for x in flatten(given)[0]]
        for path, module in copied.named_modules():
            self._watch(path, module)
        INTERCEPT.append(self._primitive)
        try:
            # random streams stay as they are; each run has its own numbers, so that what is drawn shows as a difference
            with (
                random.fork_rng(batch + number),
                no_grad(),
                evaluating(copied),
                observing(self._call),
                watching(),
            ):
                if isinstance(given, Mapping):
                    found = copied(**given)
                else:
                    found = copied(*given) if isinstance(given, (tuple, list)) else copied(given)
        finally:
            INTERCEPT.remove(self._primitive)
        self.output = map_tree(unwrap, found)

    def _watch(self, path: str, module: Module) -> None:
        """Note the calls of a layer."""
        inner = module.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            note = [path, map_tree_any(args), map_tree_any(kwargs), None, len(self.calls), 0]
            self.layers.append(note)
            output = inner(*args, **kwargs)
            note[3], note[5] = map_tree_any(output), len(self.calls)
            return output

        module.__dict__["forward"] = forward

    def _call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        group = len(self.groups) - 1 if self.inside else -1
        self.calls.append((name, args, kwargs, result, location(), group))

    def _primitive(self, prim: Primitive[...], args: tuple[Any, ...], meta: dict[str, Any]) -> Any:
        if self.inside:
            return prim.bind(args, meta)
        self.groups.append([prim.name, map_tree_any(args), map_tree_any(meta), None, location()])
        self.inside += 1
        try:
            found = prim.bind(args, meta)
        finally:
            self.inside -= 1
        self.groups[-1][3] = map_tree_any(found)
        return found


def map_tree_any(tree: Any) -> Any:
    """A tree of arguments with plain arrays in the place of Tensors."""
    if isinstance(tree, Tensor):
        return unwrap(tree)
    if isinstance(tree, dict):
        return {k: map_tree_any(v) for k, v in tree.items()}
    if isinstance(tree, (tuple, list)):
        return type(tree)(map_tree_any(v) for v in tree)
    return tree


# ----- two runs, compared -----


class _Joined:
    """The program that two runs with batches of different sizes have in common."""

    def __init__(self, one: _Run, two: _Run) -> None:
        self.one, self.two = one, two
        self.values: list[Value] = []
        self.known: dict[int, Value] = {}
        self.where = ""
        for i, (a, b) in enumerate(zip(one.inputs, two.inputs, strict=True)):
            self.made(a, b, role="input", name=f"x{i}")

    def made(self, a: MetaArray, b: MetaArray, **more: Any) -> Value:
        """The value that the arrays of both runs are."""
        if id(a) in self.known:
            return self.known[id(a)]
        shape = tuple(self.number(m, n) for m, n in zip(a.shape, b.shape, strict=True))
        value = Value(len(self.values), shape, a.dtype.name, **more)
        self.values.append(value)
        self.known[id(a)] = value
        return value

    def number(self, a: int, b: int) -> int | Size:
        """A number of both runs: the same, or one that follows from the batch."""
        if a == b:
            return a
        scale, rest = divmod(b - a, _BATCHES[1] - _BATCHES[0])
        if rest:
            msg = f"{self.where} computes {a} for a batch of {_BATCHES[0]} and {b} for {_BATCHES[1]}: no multiple of the batch"
            raise ExportError(msg)
        return Size(scale, a - scale * _BATCHES[0])

    def tree(self, a: Any, b: Any) -> Any:
        """Arguments of both runs."""
        if isinstance(a, MetaArray):
            return self.array(a, b)
        if type(a) is not type(b):
            msg = f"{self.where} does otherwise for another size of the batch"
            raise ExportError(msg)
        if isinstance(a, dict):
            return {k: self.tree(v, b[k]) for k, v in a.items()}
        if isinstance(a, (tuple, list)):
            if len(a) != len(b):
                msg = f"{self.where} takes {len(a)} parts for a batch of {_BATCHES[0]} and {len(b)} for {_BATCHES[1]}"
                raise ExportError(msg)
            parts = [self.tree(m, n) for m, n in zip(a, b, strict=True)]
            return type(a)(*parts) if hasattr(a, "_fields") else type(a)(parts)
        if isinstance(a, slice):
            return slice(
                *(
                    self.tree(m, n)
                    for m, n in zip((a.start, a.stop, a.step), (b.start, b.stop, b.step), strict=True)
                )
            )
        if type(a) is int:
            return self.number(a, b)
        return a

    def array(self, a: MetaArray, b: MetaArray) -> Value:
        """An array of both runs: a parameter, or what an earlier call has made."""
        if id(a) in self.known:
            return self.known[id(a)]
        name = self.one.names.get(id(a))
        if name is not None:
            return self.made(a, b, role="parameter", name=name, data=self.one.data[name])
        msg = (
            f"{self.where} uses an array of shape {a.shape} that is neither an input, a parameter, a buffer nor computed from one: "
            "make it a Buffer"
        )
        raise ExportError(msg)


def program_of(model: Module, example: Any, *, dynamic: bool = True) -> Program:
    """The program that `model` runs for inputs like `example` (an array, or a tuple or dict of arrays), in evaluation mode.

    `dynamic`: the first axis of the inputs is the batch, of any size; otherwise all sizes are those of the example.

    Errors: `ExportError` names the layer where it draws random numbers, depends on the values of arrays, or does otherwise for another
    size of the batch.
    """
    if not isinstance(model, Module):
        msg = f"export: the model must be a Module, got {type(model).__name__}"
        raise TypeError(msg)
    leaves = flatten(example)[0]
    if not leaves or not all(hasattr(x, "shape") and len(x.shape) for x in leaves):
        msg = "export: the example must be an array with the samples along its first axis, or a tuple or dict of such arrays"
        raise ValueError(msg)
    first = int(leaves[0].shape[0])
    sizes = _BATCHES if dynamic else (first, first)
    try:
        one, two = (_Run(model, example, n, first, i) for i, n in enumerate(sizes))
    except TypeError as error:
        if "depends on values" not in str(error):
            raise
        msg = f"export: {error}{_notes(error)}"
        raise ExportError(msg) from error
    if [c[0] for c in one.calls] != [c[0] for c in two.calls]:
        k = next((i for i, (a, b) in enumerate(zip(one.calls, two.calls, strict=False)) if a[0] != b[0]), 0)
        msg = f"export: {one.calls[k][4] or 'the network'} does otherwise for another size of the batch; dynamic=False fixes the size"
        raise ExportError(msg)
    return _join(_Joined(one, two), dynamic)


def _notes(error: BaseException) -> str:
    return "".join(f"; {note}" for note in getattr(error, "__notes__", ()))


def _join(joined: _Joined, dynamic: bool) -> Program:
    one, two = joined.one, joined.two
    groups: dict[int, Group] = {}
    calls: list[Call | None] = []  # by the number of the call in the run; None: it made a constant
    for a, b in zip(one.calls, two.calls, strict=True):
        calls.append(_joined_call(joined, a, b, groups))
    for i, of in groups.items():
        (name, args, meta, found, layer), (_, args2, meta2, found2, _) = one.groups[i], two.groups[i]
        joined.where = f"export: {layer or 'the network'} ({name})"
        of.name, of.layer = name, layer
        of.args, of.meta = joined.tree(args, args2), joined.tree(meta, meta2)
        outputs = joined.tree(found, found2)
        of.outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    joined.where = "export: the network's output"
    output = joined.tree(one.output, two.output)
    inputs = [joined.known[id(a)] for a in one.inputs]
    live = _live([c for c in calls if c is not None], output)
    return Program(inputs, live, output, joined.values, dynamic, _joined_layers(joined, calls), one.data)


def _joined_call(joined: _Joined, a: Any, b: Any, groups: dict[int, Group]) -> Call | None:
    """A call of both runs; None for an array that came from the host, which is a constant."""
    (name, args, kwargs, result, layer, group), (_, args2, kwargs2, result2, *_) = a, b
    joined.where = f"export: {layer or 'the network'} ({name})"
    if name == "random_bits":
        msg = f"{joined.where} draws random numbers, which an exported network cannot"
        raise ExportError(msg)
    if name == "setitem" and (id(args[0]) in joined.one.names or joined.known[id(args[0])].role != "result"):
        msg = f"{joined.where} changes its own state when it is called, which an exported network cannot"
        raise ExportError(msg)
    if name == "from_host":
        if args[0].shape != args2[0].shape or args[0].tobytes() != args2[0].tobytes():
            msg = (
                f"{joined.where} makes an array on the host that depends on the size of the batch (dynamic=False fixes it) or is drawn "
                "at random"
            )
            raise ExportError(msg)
        joined.made(result, result2, role="constant", data=args[0])
        return None
    given = joined.tree(args, args2), joined.tree(kwargs, kwargs2)
    made: list[tuple[Any, Any]] = [] if result is None else [(result, result2)]
    if isinstance(result, (tuple, list)):
        made = list(zip(result, result2, strict=True))
    outputs = tuple(joined.made(x, y) for x, y in made if isinstance(x, MetaArray))
    of = groups.setdefault(group, Group("", (), {}, (), "")) if group >= 0 else None
    call = Call(name, *given, outputs, layer, of)
    if of is not None:
        of.calls.append(call)
    return call


def _joined_layers(joined: _Joined, calls: Sequence[Call | None]) -> list[LayerCall]:
    """The calls of layers whose arguments and outputs are arrays and plain data; others are written out."""
    layers = []
    for (path, args, kwargs, found, begin, end), (_, args2, kwargs2, found2, *_) in zip(
        joined.one.layers, joined.two.layers, strict=True
    ):
        joined.where = f"export: layer {path}"
        try:
            parts = joined.tree(args, args2), joined.tree(kwargs, kwargs2), joined.tree(found, found2)
        except ExportError:
            continue
        layers.append(LayerCall(path, *parts, [c for c in calls[begin:end] if c is not None]))
    return layers


def _live(calls: Sequence[Call], output: Any) -> list[Call]:
    """The calls that the output needs; those that write into arrays stay."""
    needed = {id(v) for v in values_in(output)}
    kept = []
    for call in reversed(calls):
        if call.name == "setitem" or any(id(v) in needed for v in call.outputs):
            needed |= {id(v) for v in call.inputs}
            kept.append(call)
    return kept[::-1]


def input_names(model: Module, count: int) -> list[str]:
    """The names of forward's arguments, for as many inputs."""
    forward: Callable[..., Any] = model.forward
    names = [
        p.name
        for p in inspect.signature(forward).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return names[:count] if len(names) >= count else [f"x{i}" for i in range(count)]
