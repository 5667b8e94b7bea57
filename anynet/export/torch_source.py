"""A network as a PyTorch module: readable source, with the layers that PyTorch has as its layers."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from anynet import nn
from anynet._version import __version__
from anynet.export.program import Call, ExportError, Group, LayerCall, Program, Size, Value
from anynet.export.source_text import SourceText
from anynet.nn.description import DescriptionError, describe
from anynet.nn.module import Module
from anynet_backends import Array

__all__ = ["LAYERS", "torch_source"]

_NAMES = """
AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d AvgPool1d
AvgPool2d AvgPool3d BatchNorm1d BatchNorm2d BatchNorm3d Bilinear CELU ChannelShuffle ConstantPad1d ConstantPad2d
ConstantPad3d Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d CosineSimilarity Dropout Dropout1d
Dropout2d Dropout3d AlphaDropout ELU Embedding Flatten Fold GELU GLU GRU GroupNorm Hardshrink Hardsigmoid Hardswish Hardtanh
Identity InstanceNorm1d InstanceNorm2d InstanceNorm3d LSTM LayerNorm LeakyReLU Linear LocalResponseNorm LogSigmoid
LogSoftmax MaxPool1d MaxPool2d MaxPool3d Mish MultiheadAttention PReLU PixelShuffle PixelUnshuffle RMSNorm RNN ReLU ReLU6
ReflectionPad1d ReflectionPad2d ReflectionPad3d ReplicationPad1d ReplicationPad2d ReplicationPad3d SELU SiLU Sigmoid Softmax
Softmin Softplus Softshrink Softsign Tanh Tanhshrink Threshold TransformerDecoder TransformerDecoderLayer TransformerEncoder
TransformerEncoderLayer Unflatten Unfold Upsample UpsamplingBilinear2d UpsamplingNearest2d ZeroPad1d ZeroPad2d ZeroPad3d
"""

LAYERS: dict[str, tuple[str, ...]] = {
    name: ("bias",) if name in ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "GroupNorm") else ()
    for name in _NAMES.split()
}
"""The layers that PyTorch has under the same name with the same state and meaning, each with the options that only anynet has."""

_OWN_OPTIONS = ("device", "dtype")


def layer_source(module: Module) -> str | None:
    """``nn.Linear(4, 3)`` for a layer that PyTorch has, with the same options; None for others."""
    name = type(module).__name__
    if (
        type(module).__module__.partition(".")[0] != "anynet"
        or name not in LAYERS
        or getattr(nn, name, None) is not type(module)
    ):
        return None
    try:
        found = describe(module)
    except DescriptionError:
        return None
    if found.get("changes"):
        return None
    parameters = inspect.signature(type(module)).parameters
    given = dict(zip(parameters, found.get("args", ()), strict=False)) | dict(found.get("kwargs", {}))
    for own in _OWN_OPTIONS:
        given.pop(own, None)
    if any(k in LAYERS[name] and v != parameters[k].default for k, v in given.items()):
        return None
    given = {k: v for k, v in given.items() if k not in LAYERS[name]}
    try:
        texts = {k: _argument(v) for k, v in given.items()}
    except ValueError:
        return None
    positional = [
        texts[k]
        for k in list(parameters)[:3]
        if k in texts and list(texts).index(k) == list(parameters).index(k)
    ]
    rest = [f"{k}={v}" for k, v in list(texts.items())[len(positional) :]]
    return f"nn.{name}({', '.join([*positional, *rest])})"


def _argument(value: Any) -> str:
    """An argument of a constructor as source; ValueError for what has no text."""
    if isinstance(value, dict):
        if set(value) == {"$tuple"}:
            parts = [_argument(v) for v in value["$tuple"]]
            return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"
        if "class" in value and str(value["class"]).startswith("nn.") and str(value["class"])[3:] in LAYERS:
            inner = [
                *map(_argument, value.get("args", ())),
                *(f"{k}={_argument(v)}" for k, v in value.get("kwargs", {}).items()),
            ]
            return f"{value['class']}({', '.join(inner)})"
        raise ValueError(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_argument, value))}]"
    return repr(value)


# ----- functions -----

_INFIX = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "pow": "**", "matmul": "@", "equal": "==", "not_equal": "!=", "less": "<",
    "less_equal": "<=", "greater": ">", "greater_equal": ">=", "bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^",
    "bitwise_left_shift": "<<", "bitwise_right_shift": ">>", "floor_divide": "//", "remainder": "%",
}  # fmt: skip
_RENAMED = {
    "bitwise_invert": "bitwise_not", "concat": "cat", "permute_dims": "permute", "broadcast_arrays": "broadcast_tensors",
    "take_along_axis": "take_along_dim", "cumulative_sum": "cumsum", "cumulative_prod": "cumprod", "unstack": "unbind",
}  # fmt: skip
_SAME_TEXT = """
abs acos acosh asin asinh atan atan2 atanh ceil copysign cos cosh exp expm1 floor hypot isfinite isinf isnan log log1p log2
log10 logaddexp logical_and logical_not logical_or logical_xor negative nextafter positive reciprocal round sign signbit sin
sinh square sqrt tan tanh trunc tril triu real imag conj isin zeros_like ones_like empty_like full_like broadcast_to tile
moveaxis bitwise_invert
"""
_SAME = frozenset(_SAME_TEXT.split())
_PRIMITIVES = {
    "relu": "F.relu({0})", "sigmoid": "torch.sigmoid({0})", "silu": "F.silu({0})", "gelu": "F.gelu({0})",
    "gelu_tanh": 'F.gelu({0}, approximate="tanh")', "erf": "torch.erf({0})", "softsign": "F.softsign({0})", "mish": "F.mish({0})",
    "hardswish": "F.hardswish({0})", "hardsigmoid": "F.hardsigmoid({0})", "logsigmoid": "F.logsigmoid({0})",
    "tanhshrink": "F.tanhshrink({0})",
    "softmax": "torch.softmax({0}, {axis})", "log_softmax": "torch.log_softmax({0}, {axis})",
    "leaky_relu": "F.leaky_relu({0}, {negative_slope})",
    "linear": "F.linear({all})",
}  # fmt: skip
"""Primitives that PyTorch has: {0} is the first argument, {all} all of them, {name} an option."""


class _Source(SourceText):
    """Writes calls as lines of Python with PyTorch's functions."""

    def __init__(self, names: dict[int, str], device: str) -> None:
        super().__init__(names)
        self.device = device

    def special(self, word: str) -> str:
        return f"-float({word[1:]!r})" if word.startswith("-") else f"float({word!r})"

    def dtype(self, name: str) -> str:
        return f"torch.{name}"

    def statement(self, call: Call) -> str:
        """A call as a line."""
        if call.name == "setitem":
            return f"{self.text(call.args[0])}[{self.key(call.args[1])}] = {self.text(call.args[2])}"
        right = self.right(call)
        return f"{', '.join(self.names[v.number] for v in call.outputs)} = {right}"

    def right(self, call: Call) -> str:
        """What a call computes."""
        name, t = call.name, self.text
        args = [t(a) for a in call.args]
        kwargs = {k: v for k, v in call.kwargs.items() if k not in ("device", "copy")}
        if name in _INFIX and len(args) == 2:
            return f"{_enclosed(args[0])} {_INFIX[name]} {_enclosed(args[1])}"
        if name in _SPECIAL:
            return _SPECIAL[name](self, call)
        if name in _SAME or name in _RENAMED:
            named = {"axis": "dim", "keepdims": "keepdim"}
            dtype = next((a.dtype for a in call.args if isinstance(a, Value)), "float32")
            if name in ("atan2", "copysign", "hypot", "logaddexp", "nextafter"):  # of Tensors alone
                args = [
                    s
                    if isinstance(a, Value)
                    else f"torch.tensor({s}, dtype=torch.{dtype}, device={self.device})"
                    for s, a in zip(args, call.args, strict=True)
                ]
            given = [*args, *(f"{named.get(k, k)}={t(v)}" for k, v in kwargs.items())]
            return f"torch.{_RENAMED.get(name, name)}({', '.join(given)})"
        if name.startswith(("linalg.", "fft.")):
            named = {
                "axis": "dim",
                "keepdims": "keepdim",
                "axes": "dims" if name == "linalg.tensordot" else "dim",
            }
            given = [*args, *(f"{named.get(k, k)}={t(v)}" for k, v in kwargs.items())]
            return f"torch.{name}({', '.join(given)})"
        msg = (
            f"export to=torch: {call.layer or 'the network'} uses {name}, which has no form for PyTorch here"
        )
        raise ExportError(msg)


def _enclosed(text: str) -> str:
    return text if re.fullmatch(r"[\w.\[\]']+|-?[\d.e+-]+", text) else f"({text})"


def _get(call: Call, position: int, name: str, default: Any = None) -> Any:
    return call.args[position] if len(call.args) > position else call.kwargs.get(name, default)


def _reduced(kind: str) -> Callable[[_Source, Call], str]:
    def write(s: _Source, call: Call) -> str:
        x, axis, keep = s.text(call.args[0]), call.kwargs.get("axis"), call.kwargs.get("keepdims", False)
        extra = f", keepdim={keep}" if keep else ""
        if kind in ("var", "std"):
            extra += f", correction={s.text(call.kwargs.get('correction', 0))}"
        if kind == "sum" and call.args[0].dtype != call.outputs[0].dtype:
            extra += f", dtype=torch.{call.outputs[0].dtype}"
        if axis is None:
            axis = tuple(range(len(call.args[0].shape)))
        return f"{x}.{kind}({s.text(axis)}{extra})"

    return write


def _prod(s: _Source, call: Call) -> str:
    x, axis, keep = s.text(call.args[0]), call.kwargs.get("axis"), call.kwargs.get("keepdims", False)
    n = len(call.args[0].shape)
    axes = range(n) if axis is None else [a % n for a in ((axis,) if isinstance(axis, int) else axis)]
    for a in sorted(axes, reverse=True):
        x += f".prod({a}{', keepdim=True' if keep else ''})"
    return x


def _argument_of(kind: str) -> Callable[[_Source, Call], str]:
    def write(s: _Source, call: Call) -> str:
        axis, keep = call.kwargs.get("axis"), call.kwargs.get("keepdims", False)
        return f"{s.text(call.args[0])}.{kind}({s.text(axis)}{', keepdim=True' if keep else ''})"

    return write


def _created(kind: str) -> Callable[[_Source, Call], str]:
    def write(s: _Source, call: Call) -> str:
        shape = call.args[0] if call.args else call.kwargs["shape"]
        shape = shape if isinstance(shape, (tuple, list)) else (shape,)
        more = f", {s.text(_get(call, 1, 'fill_value'))}" if kind == "full" else ""
        return f"torch.{kind}({s.text(tuple(shape))}{more}, dtype=torch.{call.outputs[0].dtype}, device={s.device})"

    return write


def _arange(s: _Source, call: Call) -> str:
    start, stop, step = _get(call, 0, "start"), _get(call, 1, "stop"), _get(call, 2, "step", 1)
    ends = [start] if stop is None else [start, stop]
    given = [*map(s.text, ends), *([s.text(step)] if step != 1 and stop is not None else [])]
    return f"torch.arange({', '.join(given)}, dtype=torch.{call.outputs[0].dtype}, device={s.device})"


def _eye(s: _Source, call: Call) -> str:
    rows, columns, k = call.args[0], call.args[1] if len(call.args) > 1 else None, call.kwargs.get("k", 0)
    shape = ", ".join(s.text(a) for a in (rows, columns) if a is not None)
    options = f"dtype=torch.{call.outputs[0].dtype}, device={s.device}"
    if not k:
        return f"torch.eye({shape}, {options})"
    return f"torch.ones({s.text(rows)}, {s.text(rows if columns is None else columns)}, {options}).triu({k}).tril({k})"


def _linspace(s: _Source, call: Call) -> str:
    return f"torch.linspace({', '.join(map(s.text, call.args))}, dtype=torch.{call.outputs[0].dtype}, device={s.device})"


def _getitem(s: _Source, call: Call) -> str:
    x, key = call.args
    keys = list(key) if isinstance(key, tuple) else [key]
    back = [i for i, k in enumerate(keys) if isinstance(k, slice) and k.step is not None and k.step < 0]
    if back:
        if (
            len(back) > 1
            or keys[back[0]] != slice(None, None, -1)
            or Ellipsis in keys[: back[0]]
            or None in keys[: back[0]]
        ):
            msg = f"export to=torch: {call.layer or 'the network'} slices backwards in a way that PyTorch cannot"
            raise ExportError(msg)
        keys[back[0]] = slice(None)
        return f"torch.flip({s.text(x)}, ({back[0]},))[{s.key(tuple(keys))}]"
    return f"{s.text(x)}[{s.key(key)}]"


def _take(s: _Source, call: Call) -> str:
    axis = call.kwargs.get("axis")
    axis = 0 if axis is None else axis % len(call.args[0].shape)
    return f"{s.text(call.args[0])}[{': , ' * axis}{s.text(call.args[1])}]".replace(" ,", ",")


def _clip(s: _Source, call: Call) -> str:
    low, high = _get(call, 1, "min"), _get(call, 2, "max")
    ends = [f"{k}={s.text(v)}" for k, v in (("min", low), ("max", high)) if v is not None]
    return f"torch.clamp({', '.join([s.text(call.args[0]), *ends])})"


def _extremum(kind: str, bound: str) -> Callable[[_Source, Call], str]:
    def write(s: _Source, call: Call) -> str:
        a, b = call.args
        if isinstance(a, Value) and isinstance(b, Value):
            return f"torch.{kind}({s.text(a)}, {s.text(b)})"
        x, number = (a, b) if isinstance(a, Value) else (b, a)
        return f"torch.clamp({s.text(x)}, {bound}={s.text(number)})"

    return write


def _sorted(place: int) -> Callable[[_Source, Call], str]:
    def write(s: _Source, call: Call) -> str:
        axis, down = call.kwargs.get("axis", -1), call.kwargs.get("descending", False)
        return f"torch.sort({s.text(call.args[0])}, dim={axis}, descending={down}, stable=True)[{place}]"

    return write


def _windows(s: _Source, call: Call) -> str:
    s.helpers.add("windows")
    return f"windows({', '.join(map(s.text, call.args))})"


def _asarray(s: _Source, call: Call) -> str:
    x = call.args[0]
    if not isinstance(x, Value):
        return f"torch.tensor({s.text(x)}, dtype=torch.{call.outputs[0].dtype}, device={s.device})"
    return f"{s.text(x)}.to(torch.{call.outputs[0].dtype})" + (".clone()" if call.kwargs.get("copy") else "")


def _tensordot(s: _Source, call: Call) -> str:
    axes = _get(call, 2, "axes", 2)
    return f"torch.tensordot({s.text(call.args[0])}, {s.text(call.args[1])}, dims={s.text(axes)})"


def _searchsorted(s: _Source, call: Call) -> str:
    return f"torch.searchsorted({s.text(call.args[0])}, {s.text(call.args[1])}, side={call.kwargs.get('side', 'left')!r})"


_SPECIAL: dict[str, Callable[[_Source, Call], str]] = {
    **{k: _reduced(v) for k, v in {"sum": "sum", "mean": "mean", "max": "amax", "min": "amin", "var": "var", "std": "std"}.items()},
    "any": _reduced("any"), "all": _reduced("all"), "count_nonzero": _reduced("count_nonzero"), "prod": _prod,
    "argmax": _argument_of("argmax"), "argmin": _argument_of("argmin"), "zeros": _created("zeros"), "ones": _created("ones"),
    "empty": _created("empty"), "full": _created("full"), "arange": _arange, "eye": _eye, "linspace": _linspace, "getitem": _getitem,
    "take": _take, "clip": _clip, "maximum": _extremum("maximum", "min"), "minimum": _extremum("minimum", "max"), "sort": _sorted(0),
    "argsort": _sorted(1), "windows": _windows, "asarray": _asarray, "tensordot": _tensordot, "searchsorted": _searchsorted,
    "astype": lambda s, c: f"{s.text(c.args[0])}.to(torch.{c.outputs[0].dtype})",
    "where": lambda s, c: f"torch.where({', '.join(map(s.text, c.args))})",
    "reshape": lambda s, c: f"{s.text(c.args[0])}.reshape({s.text(_get(c, 1, 'shape'))})",
    "permute_dims": lambda s, c: f"{s.text(c.args[0])}.permute({s.text(_get(c, 1, 'axes'))})",
    "matrix_transpose": lambda s, c: f"{s.text(c.args[0])}.mT", "linalg.matrix_transpose": lambda s, c: f"{s.text(c.args[0])}.mT",
    "expand_dims": lambda s, c: _unsqueezed(s, c), "squeeze": lambda s, c: f"{s.text(c.args[0])}.squeeze({s.text(_get(c, 1, 'axis'))})",
    "flip": lambda s, c: f"torch.flip({s.text(c.args[0])}, {s.text(_every(c))})",
    "concat": lambda s, c: f"torch.cat({s.text(list(c.args[0]))}, dim={c.kwargs.get('axis', 0)})",
    "stack": lambda s, c: f"torch.stack({s.text(list(c.args[0]))}, dim={c.kwargs.get('axis', 0)})",
    "unstack": lambda s, c: f"torch.unbind({s.text(c.args[0])}, dim={c.kwargs.get('axis', 0)})",
    "roll": lambda s, c: f"torch.roll({s.text(c.args[0])}, {s.text(_get(c, 1, 'shift'))}, {s.text(c.kwargs.get('axis'))})",
    "repeat": lambda s, c: f"{s.text(c.args[0])}.repeat_interleave({s.text(_get(c, 1, 'repeats'))}, dim={c.kwargs.get('axis')})",
    "index_add": lambda s, c: f"{s.text(c.args[0])}.index_add(0, {s.text(c.args[1])}, {s.text(c.args[2])})",
    "vecdot": lambda s, c: f"torch.linalg.vecdot({s.text(c.args[0])}, {s.text(c.args[1])}, dim={c.kwargs.get('axis', -1)})",
    "linalg.diagonal": lambda s, c: f"torch.diagonal({s.text(c.args[0])}, {c.kwargs.get('offset', 0)}, -2, -1)",
}  # fmt: skip


def _every(call: Call) -> tuple[int, ...]:
    axis = call.kwargs.get("axis")
    if axis is None:
        return tuple(range(len(call.args[0].shape)))
    return (axis,) if isinstance(axis, int) else tuple(axis)


def _unsqueezed(s: _Source, call: Call) -> str:
    axis = _get(call, 1, "axis", 0)
    text = s.text(call.args[0])
    for a in sorted((axis,) if isinstance(axis, int) else axis):
        text += f".unsqueeze({a})"
    return text


_WINDOWS = '''
def windows(x, kernel, stride, dilation):
    """All windows of the last axes of x: y[…, o, …, k, …] = x[…, o · stride + k · dilation, …]."""
    lead = x.ndim - len(kernel)
    out = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(x.shape[lead:], kernel, stride, dilation)]
    steps = x.stride()[lead:]
    strides = (*x.stride()[:lead], *(a * b for a, b in zip(steps, stride)), *(a * b for a, b in zip(steps, dilation)))
    return x.as_strided((*x.shape[:lead], *out, *kernel), strides, x.storage_offset())

'''


class _File:
    """The module that is being written."""

    def __init__(self, program: Program, names: list[str], modules: Mapping[str, Module]) -> None:
        self.program, self.modules = program, modules
        self.attributes: dict[str, str] = {}  # attribute → what is assigned to it
        self.state: dict[str, Array] = {}
        self.names = {v.number: n for v, n in zip(program.inputs, names, strict=True)}
        self.source = _Source(self.names, f"{names[0]}.device")
        self.lines: list[str] = []
        self.layer = ""
        self.paths: dict[str, str] = {}

    def write(self) -> None:
        """All calls; those of a layer that PyTorch has as a call of the layer, those of a primitive that it has as its function."""
        skip: set[int] = set()
        layers = self._layers()
        groups: set[int] = set()
        for i, call in enumerate(self.program.calls):
            if id(call) in skip:
                continue
            layer = layers.get(id(call))
            if layer is not None:
                self._layer(layer)
                skip |= {id(c) for c in layer.calls}
                continue
            group = call.group
            if (
                group is not None
                and group.name in _PRIMITIVES
                and id(group) not in groups
                and self._primitive(group)
            ):
                skip |= {id(c) for c in self.program.calls[i:] if c.group is group}
                groups.add(id(group))
                continue
            self._values(call)
            self._name(call.outputs)
            self._line(self.source.statement(call), call.layer)

    def _layers(self) -> dict[int, LayerCall]:
        """For the first call of each layer that PyTorch has: the layer."""
        kept = {id(c) for c in self.program.calls}
        found: dict[int, LayerCall] = {}
        for layer in self.program.layers:
            calls = [c for c in layer.calls if id(c) in kept]
            text = self._source_of(layer.path)
            if calls and text is not None and not any(id(c) in found for c in calls):
                found[id(calls[0])] = layer
                found |= dict.fromkeys((id(c) for c in calls[1:]), layer)
        return found

    def _source_of(self, path: str) -> str | None:
        if path not in self.paths:
            self.paths[path] = layer_source(self.modules[path]) or ""
        return self.paths[path] or None

    def _layer(self, layer: LayerCall) -> None:
        module, attribute = self.modules[layer.path], _attribute(layer.path)
        if attribute not in self.attributes:
            self.attributes[attribute] = self.paths[layer.path]
            for name, value in self.program.state(layer.path, module):
                self.state[f"{attribute}.{name}"] = value
        for v in layer.inputs:
            self._value(v)
        given = [self.source.text(a) for a in layer.args]
        given += [f"{k}={self.source.text(v)}" for k, v in layer.kwargs.items()]
        self._name(layer.outputs)
        left = _pattern(layer.output, self.names)
        self._line(f"{left} = self.{attribute}({', '.join(given)})", "")

    def _primitive(self, group: Group) -> bool:
        for v in group.args:
            if isinstance(v, Value):
                self._value(v)
        given = [self.source.text(a) for a in group.args if a is not None]
        options = {k: self.source.text(v) for k, v in group.meta.items()}
        template = _PRIMITIVES[group.name]
        try:
            text = template.format(*given, all=", ".join(given), **options)
        except (KeyError, IndexError):
            return False
        self._name([v for v in group.outputs if isinstance(v, Value)])
        self._line(f"{self.names[group.outputs[0].number]} = {text}", group.layer)
        return True

    def _values(self, call: Call) -> None:
        for v in call.inputs:
            self._value(v)

    def _value(self, value: Value) -> None:
        """A parameter or constant that is used by itself becomes one of the module's own."""
        if value.number in self.names:
            return
        attribute = _attribute(value.name or f"constant_{value.number}")
        kind = (
            "Parameter"
            if value.role == "parameter" and value.dtype.startswith(("float", "bfloat"))
            else "buffer"
        )
        shape = tuple(value.data.shape)
        empty = f"torch.zeros({shape!r}, dtype=torch.{value.dtype})"
        self.attributes[attribute] = (
            f"nn.Parameter({empty})" if kind == "Parameter" else f"nn.Buffer({empty})"
        )
        self.state[attribute] = value.data
        self.names[value.number] = f"self.{attribute}"

    def _name(self, values: Any) -> None:
        for value in values:
            self.names[value.number] = f"v{value.number}"

    def _line(self, line: str, layer: str) -> None:
        self.lines.append(f"{line}  # {layer}" if layer and layer != self.layer else line)
        self.layer = layer


def _attribute(path: str) -> str:
    name = path.replace(".", "_") or "network"
    return f"layer_{name}" if name[0].isdigit() else name


def _pattern(tree: Any, names: Mapping[int, str]) -> str:
    if isinstance(tree, Value):
        return names[tree.number]
    if tree is None:
        return "_"
    return f"({', '.join(_pattern(v, names) for v in tree)}{',' if len(tree) == 1 else ''})"


def _tree(tree: Any, names: Mapping[int, str]) -> str:
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{k!r}: {_tree(v, names)}" for k, v in tree.items()) + "}"
    if isinstance(tree, list):
        return f"[{', '.join(_tree(v, names) for v in tree)}]"
    return _pattern(tree, names) if tree is not None else "None"


# Over 60 lines, of which half are the text of the file that is written.
def torch_source(
    program: Program, names: list[str], title: str, modules: Mapping[str, Module]
) -> tuple[str, dict[str, Array]]:
    """The text of a file with a PyTorch module ``Model``, and its state by name.

    `modules` are the network's by path; those that PyTorch has (`LAYERS`) are its layers, the rest is written out.
    """
    file = _File(program, names, modules)
    file.write()
    for v in program.outputs:
        file._value(v)
    lines = file.lines
    if file.source.batch:
        lines = [f"batch = {names[0]}.shape[0]", *lines]
    made = (
        "\n".join(f"        self.{name} = {text}" for name, text in file.attributes.items()) or "        pass"
    )
    shapes = "\n".join(
        f"        {n}: {v.dtype} ({', '.join('batch' if isinstance(s, Size) else str(s) for s in v.shape)})"
        for n, v in zip(names, program.inputs, strict=True)
    )
    body = "\n".join(f"        {line}" for line in lines)
    helpers = _WINDOWS if "windows" in file.source.helpers else ""
    output = _tree(program.output, file.names)
    text = f'''"""{title}, as a PyTorch module. Written by anynet {__version__}.

    from model import load
    model = load()                      # with the weights in model.safetensors
    y = model({", ".join(names)})
"""

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
{helpers}

class Model(nn.Module):
    def __init__(self):
        super().__init__()
{made}

    def forward(self, {", ".join(names)}):
        """
{shapes}
        """
{body}
        return {output}


def load(path=Path(__file__).with_name("model.safetensors")):
    """The module with its weights, in evaluation mode."""
    from safetensors.torch import load_file

    model = Model()
    model.load_state_dict(load_file(path))
    return model.eval()
'''
    if "F." not in body:
        text = text.replace("from torch.nn import functional as F\n", "")
    return text, file.state
