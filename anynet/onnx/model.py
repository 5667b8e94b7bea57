"""A graph as a Module: weights as parameters, in layers of anynet where it has one for a node."""

from __future__ import annotations

import os
import re
from operator import attrgetter
from pathlib import Path
from typing import Any

import anynet as an
from anynet import nn
from anynet.onnx.files import ONNXError, read
from anynet.onnx.graph import FAILURES, Graph, Node, Reader
from anynet.onnx.layers import LAYERS
from anynet.onnx.operators import DOMAINS
from anynet.onnx.operators.calling import DTYPES, kinds_of, limited
from anynet.onnx.operators.pointwise import TABLE as POINTWISE
from anynet.typing import ArrayLike

__all__ = ["Model", "load"]

# operators whose result has as many axes as their inputs
_KEEP = {n for n in POINTWISE if not n.startswith(("Reduce", "Arg", "Einsum", "Det", "MatMul"))} | {
    "AveragePool", "BatchNormalization", "Cast", "Concat", "Dropout", "GlobalAveragePool", "InstanceNormalization", "LRN", "MaxPool", "Pad",
    "Resize", "Upsample",
}  # fmt: skip
_PARAMETER = re.compile(r"(weight|bias|kernel|gamma|beta|(running|moving)_\w+)(_\w+)?")


class _Part(nn.Module):
    """A part of a path."""


class Model(nn.Module):
    """A network from an ONNX file (`load`): its nodes in their order, each with its layer or its operator.

    `forward` takes the graph's inputs, by position or by name, and gives its output, or a tuple of several. Layers and parameters lie where
    the file's names say: ``features.0.weight`` is the parameter `weight` of the layer ``features.0``.

    Errors: `ONNXError` for inputs of other shapes or kinds than the file says, and, with the name of the node, for what goes wrong in it.

    >>> import anynet as an
    >>> issubclass(an.onnx.Model, an.nn.Module)
    True
    """

    def __init__(self, graph: Graph, inputs: dict[str, Any], largest: float) -> None:
        self._graph, self._inputs, self._largest = graph, inputs, largest
        self._stored: dict[str, str] = {}  # where each value lies that is a parameter or a buffer
        self._again: dict[str, int] = {}  # how often a name was taken
        fixed = self._simplify()
        self._place(fixed)
        graph.finish()

    def forward(self, *inputs: ArrayLike, **named: ArrayLike) -> Any:
        """What the graph computes."""
        values = dict(zip(self._inputs, inputs, strict=False)) | named
        if len(inputs) + len(named) != len(values) or set(values) != set(self._inputs):
            raise ONNXError(
                f"the inputs must be {', '.join(self._inputs) or 'none'}, got {len(inputs)} and {', '.join(named) or 'none by name'}"
            )
        for name, x in values.items():
            values[name] = x = x if isinstance(x, an.Tensor) else an.asarray(x)
            dtype, shape = self._inputs[name]
            kinds = ("bool", "integral", "real floating")
            if any(an.isdtype(x.dtype, k) != an.isdtype(getattr(an, dtype, an.float32), k) for k in kinds) or (
                shape and (len(shape) != len(x.shape) or any(isinstance(n, int) and n != m for n, m in zip(shape, x.shape, strict=True)))
            ):  # fmt: skip
                raise ONNXError(
                    f"the input {name!r} must be {dtype} of shape {shape}, got {x.dtype} of {tuple(x.shape)}"
                )
        values |= {name: attrgetter(path)(self) for name, path in self._stored.items()}
        with limited(self._largest):
            found = self._graph.run(values, self)
        return found[0] if len(found) == 1 else tuple(found)

    def _simplify(self) -> set[str]:
        """Outputs that nobody reads go, constants stand with those of the file (their names come back), sums behind products join them."""
        graph, fixed, kept = self._graph, set(), []
        constants, uses = graph.constants, graph.uses()
        products: dict[str, Node] = {}
        for node in graph.nodes:
            while len(node.outputs) > 1 and not uses[node.outputs[-1]]:
                node.outputs.pop()
            if node.op == "Constant" and node.body is None:
                constants[node.outputs[0]] = node.run({}, self)[0]
                fixed.add(node.outputs[0])
                continue
            x = constants.get(node.inputs[0]) if node.op == "Identity" else None
            # PyTorch writes equal arrays once: those of one number (ones, zeros) are not therefore the same weight
            if (
                x is not None
                and x.size
                and not an.any(x != an.reshape(x, (-1,))[0])
                and node.outputs[0] not in graph.outputs
            ):
                constants[node.outputs[0]] = an.asarray(x, copy=True)
                continue
            if node.op == "Add" and node.body is None:
                y, b = node.inputs if node.inputs[0] in products else node.inputs[::-1]
                product, bias = products.get(y), constants.get(b)
                if product is not None and bias is not None and uses[y] == uses[b] == 1:
                    w = constants[product.inputs[1]]
                    if uses[product.inputs[1]] == 1 and len(w.shape) == 2 and bias.shape == w.shape[1:]:
                        product.inputs, product.outputs = [*product.inputs, b], node.outputs
                        continue
            kept.append(node)
            if node.op == "MatMul" and node.inputs[1] in constants:
                products[node.outputs[0]] = node
        graph.nodes = kept
        return fixed

    def _place(self, fixed: set[str]) -> None:
        """Layers and parameters, where the names of the file say."""
        graph, uses = self._graph, self._graph.uses()
        ranks = {n: None if s is None else len(s) for n, (_, s) in self._inputs.items()}
        ranks |= {n: len(x.shape) for n, x in graph.constants.items()}
        for node in graph.nodes:
            ranks |= dict.fromkeys(node.outputs, self._rank(node, ranks))
            row = LAYERS.get(node.op)
            given = [graph.constants.get(n) for n in node.inputs]
            others = [i for i, n in enumerate(node.inputs) if n and row and i not in row.data]
            ready = all(given[i] is not None and uses[node.inputs[i]] == 1 for i in others)
            if (
                row is None
                or isinstance(node.body, Graph)
                or not ready
                or not (others or node.op == "Dropout")
            ):
                continue
            try:
                made = row.make(node, ranks.get(node.inputs[0]), *given)
            except FAILURES as error:
                raise ONNXError(f"{node}: {error}") from error
            if made is not None:
                names = [_words(node.inputs[i]) for i in others]
                words = next(
                    (w[:-1] for w in names if len(w) > 1 and _PARAMETER.fullmatch(w[-1])), _words(node.name)
                )
                node.layer = self._put(words, made[0])
                for name, value in made[1].items():
                    setattr(made[0], name, (nn.Buffer if name.startswith("running") else nn.Parameter)(value))
                node.inputs = [node.inputs[i] if i < len(node.inputs) else "" for i in row.data]
        used = graph.uses()
        graph.constants = {n: x for n, x in graph.constants.items() if used[n]}
        numbers = self._numbers()
        for name, x in list(graph.constants.items()):
            if an.isdtype(x.dtype, "real floating") and name not in fixed and name not in numbers:
                self._stored[name] = self._put(_words(name), nn.Parameter(x) if x.size > 1 else nn.Buffer(x))
                del graph.constants[name]

    def _rank(self, node: Node, ranks: dict[str, int | None]) -> int | None:
        if node.op in ("Gemm", "Flatten"):
            return 2
        if node.op == "Reshape" and node.inputs[-1] in self._graph.constants:
            return int(self._graph.constants[node.inputs[-1]].size)
        given = [
            ranks.get(n)
            for n in (
                node.inputs[1:2] if node.op.startswith("Conv") else node.inputs if node.op in _KEEP else []
            )
            if n
        ]
        return None if not given or None in given else max(r for r in given if r is not None)

    def _numbers(self) -> set[str]:
        """The values that are read as numbers wherever they stand: they are no weights."""
        read: dict[str, bool] = {}
        for node in self._graph.nodes:
            row = DOMAINS[node.domain].get(node.op) if node.body is None and not node.layer else None
            kinds = kinds_of(row)[0] if row is not None else []
            for i, name in enumerate(node.inputs):
                read[name] = read.get(name, True) and i < len(kinds) and bool(kinds[i])
        return {name for name, as_number in read.items() if as_number}

    def _put(self, words: list[str], value: Any) -> str:
        """Set a member at a path, or at another one where that is taken; returns the path."""
        holder: Any = self
        path: list[str] = []
        for i, word in enumerate(words, 1 - len(words)):
            while hasattr(holder, word) and (i == 0 or not isinstance(getattr(holder, word), _Part)):
                key = f"{'.'.join(path)}.{word}"
                self._again[key] = self._again.get(key, 0) + 1
                word = f"{word}_{self._again[key]}"
            if not hasattr(holder, word):
                setattr(holder, word, value if i == 0 else _Part())
            path.append(word)
            holder = getattr(holder, word)
        return ".".join(path)


def _words(name: str) -> list[str]:
    """The parts of a name of the file as names of members."""
    parts = re.split(r"[./:]+", name[:400].strip("./:"))[:32]
    return [re.sub(r"\W", "_", p, flags=re.ASCII).lstrip("_") or "value" for p in parts]


def load(path: str | os.PathLike[str], *, largest: float | None = None) -> Model:
    """A network from an ONNX file (extra onnx), as it computes there; it can be trained further.

    Nodes whose weights are in the file become layers of anynet (Conv → `nn.Conv2d`, Gemm and MatMul → `nn.Linear`, …) under the file's
    names; all others are computed by anynet's functions, and what of them is a floating array in the file is a `Parameter`, too (a `Buffer`
    if it is one number). Layers are in evaluation mode unless the file says otherwise; ``.train()`` as ever.

    The operators, and examples: docs/onnx.md.

    Parameters:
      path: the file; weights in files beside it are read, too. Sizes that it leaves open may be any.
      largest: how many bytes the arrays of a call may take at a time; by default half of what the machine has.

    Nothing in the file is run. Errors: `ONNXError` names the node that anynet has no counterpart for, and what is wrong with a file that is
    damaged or asks for too much; ModuleNotFoundError names the extra.

    >>> import anynet as an
    >>> net = an.onnx.load("resnet.onnx")
    Traceback (most recent call last):
    FileNotFoundError: [Errno 2] No such file or directory: 'resnet.onnx'

    Source: the standard, https://onnx.ai/onnx/.
    """
    try:
        proto = read(path)
        reader = Reader(proto, Path(path).parent)
        graph = reader.graph(proto.graph, reader.opsets)
        inputs = {v.name: _declared(v) for v in proto.graph.input if v.name in graph.inputs}
        model = Model(graph, inputs, _half_the_memory() if largest is None else largest)
    except OSError:
        raise
    except FAILURES as error:
        damaged = "" if isinstance(error, ONNXError) else f"it is damaged ({type(error).__name__}): "
        raise ONNXError(f"onnx.load: {os.fspath(path)}: {damaged}{error!s:.2000}") from error.__cause__
    return model.to(an.get_default_device())


def _half_the_memory() -> float:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
    except (AttributeError, ValueError, OSError):  # not on every system
        return float(1 << 33)


def _declared(value: Any) -> tuple[str, tuple[Any, ...] | None]:
    """The dtype and shape of an input: a size that is left open as its name."""
    kind = value.type.tensor_type
    if kind.elem_type not in DTYPES:
        raise ONNXError(f"the input {value.name!r:.200} must be an array of {', '.join(DTYPES.values())}")
    sizes = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in kind.shape.dim)
    return DTYPES[kind.elem_type], sizes if kind.HasField("shape") else None
