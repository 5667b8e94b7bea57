"""A network as one Python file that needs NumPy alone."""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Callable, Iterable
from typing import Any

from anynet._version import __version__
from anynet.autograd.primitive import PRIMITIVES
from anynet.export.program import Call, Group, Program, Size, Value, values_in
from anynet.export.source_text import SourceText
from anynet_backends import host

__all__ = ["numpy_source"]

_HELPERS = {
    "windows": '''
def windows(x, kernel, stride, dilation):
    """All windows of the last axes of x: y[…, o, …, k, …] = x[…, o · stride + k · dilation, …]."""
    lead = x.ndim - len(kernel)
    out = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(x.shape[lead:], kernel, stride, dilation)]
    steps = x.strides[lead:]
    strides = (*x.strides[:lead], *(a * b for a, b in zip(steps, stride)), *(a * b for a, b in zip(steps, dilation)))
    return np.lib.stride_tricks.as_strided(x, (*x.shape[:lead], *out, *kernel), strides, writeable=False)
''',
    "index_add": '''
def index_add(x, index, values):
    """x with values[k] added to its row index[k]."""
    y = x.copy()
    np.add.at(y, index, values)
    return y
''',
    "argsort": '''
def argsort(x, axis=-1, descending=False, stable=True):
    """The order of the elements along an axis; equal ones stay in their order."""
    if not descending:
        return np.argsort(x, axis=axis, stable=stable)
    order = np.flip(np.argsort(np.flip(x, axis=axis), axis=axis, stable=stable), axis=axis)
    return x.shape[axis] - 1 - order
''',
    "sort": '''
def sort(x, axis=-1, descending=False, stable=True):
    """The elements in order along an axis."""
    y = np.sort(x, axis=axis, stable=stable)
    return np.flip(y, axis=axis) if descending else y
''',
}  # fmt: skip
"""Functions that NumPy lacks in this form; a file has those that it uses."""

_STEPS = """
def _steps(gates, reverse):
    return range(len(gates) - 1, -1, -1) if reverse else range(len(gates))


def _sigmoid(x):
    return np.tanh(x * 0.5) * 0.5 + 0.5
"""

_SCANS = {
    "rnn_scan": """
def rnn_scan(gates, h, weight, relu=False, reverse=False):
    \"\"\"h_t = tanh(gates_t + W h_{t-1}), or ReLU for tanh.\"\"\"
    out = [None] * len(gates)
    for t in _steps(gates, reverse):
        a = gates[t] + h @ weight.T
        h = out[t] = np.maximum(a, 0.0) if relu else np.tanh(a)
    return np.stack(out)
""",
    "lstm_scan": """
def lstm_scan(gates, h, c, weight, projection=None, reverse=False):
    \"\"\"i, f, u, o = parts of gates_t + W h_{t-1}; c_t = σ(f) c_{t-1} + σ(i) tanh(u); h_t = σ(o) tanh(c_t), projected.\"\"\"
    hs, cs = [None] * len(gates), [None] * len(gates)
    for t in _steps(gates, reverse):
        i, f, u, o = np.split(gates[t] + h @ weight.T, 4, axis=-1)
        c = cs[t] = _sigmoid(f) * c + _sigmoid(i) * np.tanh(u)
        h = _sigmoid(o) * np.tanh(c)
        h = hs[t] = h if projection is None else h @ projection.T
    return np.stack(hs), np.stack(cs)
""",
    "gru_scan": """
def gru_scan(gates, h, weight, bias=0.0, reverse=False):
    \"\"\"r, z = σ(parts of gates_t + W h_{t-1} + b); n = tanh(gates_n + r (W_n h_{t-1} + b_n)); h_t = (1 - z) n + z h_{t-1}.\"\"\"
    out = [None] * len(gates)
    for t in _steps(gates, reverse):
        (ar, az, an), (br, bz, bn) = np.split(gates[t], 3, axis=-1), np.split(h @ weight.T + bias, 3, axis=-1)
        r, z = _sigmoid(ar + br), _sigmoid(az + bz)
        n = np.tanh(an + r * bn)
        h = out[t] = n + z * (h - n)
    return np.stack(out)
""",
}
"""Primitives with a loop over time, which stands as a loop in the file."""


class _Writer(SourceText):
    """Writes calls as lines of Python with NumPy's functions."""

    def special(self, word: str) -> str:
        return word.replace("nan", "np.nan").replace("inf", "np.inf")

    def dtype(self, name: str) -> str:
        return f"np.{'bool_' if name == 'bool' else name}"

    def line(self, call: Call) -> str:
        """A call as a statement."""
        args, kwargs = call.args, {k: v for k, v in call.kwargs.items() if k not in ("device", "copy")}
        if call.name == "setitem":
            return f"{self.text(args[0])}[{self.key(args[1])}] = {self.text(args[2])}"
        if call.name == "getitem":
            right = f"{self.text(args[0])}[{self.key(args[1])}]"
        else:
            given = [*map(self.text, args), *(f"{k}={self.text(v)}" for k, v in kwargs.items())]
            if call.name in _HELPERS:
                self.helpers.add(call.name)
                right = f"{call.name}({', '.join(given)})"
            elif call.name == "asarray" and call.kwargs.get("copy"):
                right = f"np.array({', '.join(given)})"
            elif call.name == "take_along_axis" and "axis" not in kwargs:
                right = f"np.take_along_axis({', '.join(given)}, axis=-1)"
            elif call.name == "vecdot" and "axis" not in kwargs:
                right = f"np.vecdot({', '.join(given)})"
            else:
                right = f"np.{call.name}({', '.join(given)})"
        left = ", ".join(self.names[v.number] for v in call.outputs)
        return f"{left} = {right}"


def _letters(count: int) -> Iterable[str]:
    for i in range(count):
        yield "abcdefghijklmnopqrstuvwxyz"[i] if i < 26 else f"t{i}"


class _File:
    """The parts of the file: functions for the primitives, and the lines of the network."""

    def __init__(self, program: Program, names: list[str]) -> None:
        self.program = program
        self.functions: dict[str, str] = {}  # the text of a body → the function's name
        self.defined: list[str] = []
        self.used: dict[str, int] = {}
        self.names: dict[int, str] = {}
        self.constants: dict[str, Value] = {}
        self.helpers: set[str] = set()
        self.scans: set[str] = set()
        for name, value in zip(names, program.inputs, strict=True):
            self.names[value.number] = name
        for value in program.values:
            if value.role == "parameter":
                self.names[value.number] = f"W[{value.name!r}]"
            elif value.role == "constant":
                key = f"constant.{len(self.constants)}"
                self.constants[key] = value
                self.names[value.number] = f"W[{key!r}]"
        self.lines: list[str] = []
        self.layer = ""

    def write(self) -> None:
        """All calls, those of a primitive as one."""
        done: set[int] = set()
        needed = self._needed()
        for call in self.program.calls:
            group = call.group
            if group is None or len(group.calls) == 1:
                self._name(call.outputs)
                writer = _Writer(self.names)
                self._line(writer.line(call), call.layer)
                self.helpers |= writer.helpers
            elif id(group) not in done:
                done.add(id(group))
                if group.name in _SCANS and group.meta.get("sizes") is None:
                    self._scan(group)
                else:
                    self._group(group, needed)

    def _needed(self) -> dict[int, int]:
        """For each value how many calls outside of the group that makes it use it, the output included."""
        count: dict[int, int] = {}
        maker = {v.number: id(c.group) for c in self.program.calls for v in c.outputs if c.group is not None}
        for call in self.program.calls:
            for v in call.inputs:
                if call.group is None or maker.get(v.number) != id(call.group):
                    count[v.number] = count.get(v.number, 0) + 1
        for v in self.program.outputs:
            count[v.number] = count.get(v.number, 0) + 1
        return count

    def _name(self, values: Iterable[Value]) -> None:
        for value in values:
            self.names[value.number] = f"v{value.number}"

    def _scan(self, group: Group) -> None:
        """A loop over time."""
        writer = _Writer(self.names)
        self.scans.add(group.name)
        self._name(group.outputs)
        given = [writer.text(a) for a in group.args if a is not None]
        given += [f"{k}=True" for k, v in group.meta.items() if v is True]
        left = ", ".join(self.names[v.number] for v in group.outputs)
        self._line(f"{left} = {group.name}({', '.join(given)})", group.layer)

    def _group(self, group: Group, needed: dict[int, int]) -> None:
        calls = [c for c in self.program.calls if c.group is group]
        made = {v.number for c in calls for v in c.outputs}
        given: dict[int, Value] = {v.number: v for v in values_in(group.args) if v.number not in made}
        spelled = dict(zip(given, PRIMITIVES[group.name].inputs, strict=False))
        for call in calls:
            for v in call.inputs:
                if v.number not in made:
                    given.setdefault(v.number, v)
        results = [v for c in calls for v in c.outputs if needed.get(v.number)]
        letters = iter(n for n in _letters(len(given) + len(made) + 4) if n not in spelled.values())
        local = {number: spelled.get(number) or next(letters) for number in given}
        for call in calls:
            for v in call.outputs:
                local[v.number] = next(letters)
        writer = _Writer(local)
        body = [writer.line(c) for c in calls]
        answer = ", ".join(local[v.number] for v in results)
        if body and body[-1] == f"{answer} = {body[-1].partition(' = ')[2]}" and len(results) == 1:
            body[-1] = f"return {body[-1].partition(' = ')[2]}"
        else:
            body.append(f"return {answer}")
        parameters = [*(local[number] for number in given), *(["batch"] if writer.batch else [])]
        text = f"({', '.join(parameters)}):\n" + textwrap.indent("\n".join(body), "    ")
        name = self.functions.get(text)
        if name is None or (name.rpartition("_")[0] != group.name and name != group.name):
            self.used[group.name] = self.used.get(group.name, 0) + 1
            name = group.name if self.used[group.name] == 1 else f"{group.name}_{self.used[group.name]}"
            self.functions[text] = name
            self.defined.append(f"def {name}{text}")
        self.helpers |= writer.helpers
        arguments = [*(self.names[number] for number in given), *(["batch"] if writer.batch else [])]
        self._name(results)
        left = ", ".join(self.names[v.number] for v in results)
        self._line(f"{left} = {name}({', '.join(arguments)})", group.layer)

    def _line(self, line: str, layer: str) -> None:
        self.lines.append(f"{line}  # {layer}" if layer and layer != self.layer else line)
        self.layer = layer


def numpy_source(program: Program, names: list[str], title: str) -> str:
    """The text of a Python file with a function ``predict`` that computes what `program` does.

    `names` are those of the inputs; `title` says what the network is.
    """
    file = _File(program, names)
    file.write()
    output = _tree(program.output, lambda v: file.names[v.number])
    body = "\n".join(file.lines)
    batch = f"batch = {names[0]}.shape[0]\n" if "batch" in body else ""
    checks = "".join(
        f"{name} = np.asarray({name}, dtype=np.{v.dtype})\n"
        for name, v in zip(names, program.inputs, strict=True)
    )
    weights = {v.name: v for v in program.parameters} | file.constants
    used = [key for key in weights if f"W[{key!r}]" in body]
    shapes = "\n".join(f"  {n}: {v.dtype} {_shape(v)}" for n, v in zip(names, program.inputs, strict=True))
    packed = "".join(f"    {key!r}: {_packed(weights[key].data)},\n" for key in used)
    helpers = "".join(_HELPERS[name] + "\n" for name in _HELPERS if name in file.helpers)
    helpers += (_STEPS + "\n" if file.scans else "") + "".join(
        _SCANS[name] + "\n" for name in _SCANS if name in file.scans
    )
    functions = "\n\n\n".join(file.defined)
    return f'''"""{title}, as NumPy alone computes it (NumPy ≥ 2.1). Written by anynet {__version__}.

    from this_file import predict
    y = predict({", ".join(names)})
"""

import base64

import numpy as np


def _array(dtype, shape, text):
    return np.frombuffer(base64.b85decode(text), dtype).reshape(shape)

{helpers}
{functions}


def predict({", ".join(names)}):
    """The output of the network.

{textwrap.indent(shapes, "  ")}
    """
{textwrap.indent(checks + batch, "    ")}    with np.errstate(all="ignore"):
{textwrap.indent(body, "        ")}
        return {output}


W = {{
{packed}}}
'''  # fmt: skip


def _shape(value: Value) -> str:
    return "(" + ", ".join("batch" if isinstance(n, Size) else str(n) for n in value.shape) + ")"


def _packed(array: Any) -> str:
    data = base64.b85encode(host.to_bytes(array)).decode("ascii")
    return f"_array({array.dtype.str!r}, {tuple(array.shape)!r}, {data!r})"


def _tree(tree: Any, name: Callable[[Value], str]) -> str:
    if isinstance(tree, Value):
        return name(tree)
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{k!r}: {_tree(v, name)}" for k, v in tree.items()) + "}"
    parts = ", ".join(_tree(v, name) for v in tree)
    return f"[{parts}]" if isinstance(tree, list) else f"({parts}{',' if len(tree) == 1 else ''})"
