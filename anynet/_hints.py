"""What to say to someone who wrote a name of another library, or misspelt one: the nearest name, or what it is called here."""

from __future__ import annotations

import difflib
import functools
import inspect
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = ["closest", "explained", "missing_attribute", "nearest"]

# What other libraries (PyTorch, NumPy) call otherwise, by where it is looked for.
FUNCTIONS = {
    "absolute": "anynet.abs", "allclose": "anynet.all(anynet.abs(a - b) <= atol + rtol * anynet.abs(b))",
    "amax": "anynet.max", "amin": "anynet.min", "amp": None, "array": "anynet.asarray", "as_tensor": "anynet.asarray",
    "autograd": "anynet.grad, anynet.jacrev, …", "bmm": "anynet.matmul", "cat": "anynet.concat",
    "chunk": "slices, x[i:j]", "clamp": "anynet.clip", "clone": "anynet.asarray(x, copy=True)", "concatenate": "anynet.concat",
    "cuda": 'device="cuda" in calls, or anynet.set_default_device("cuda")', "cumprod": "anynet.cumulative_prod",
    "cumsum": "anynet.cumulative_sum", "detach": "x.detach()", "device": 'strings, device="cpu", "cuda:0"',
    "distributed": None, "dot": "anynet.vecdot or anynet.matmul", "einsum": "anynet.tensordot, anynet.matmul or einops",
    "erf": "anynet.special.erf", "expand": "anynet.broadcast_to", "flatten": "anynet.reshape(x, (-1,)) or nn.Flatten",
    "float16": 'the string dtype="float16"',
    "bfloat16": 'the string dtype="bfloat16"', "half": 'the string dtype="float16"', "float": "anynet.float32", "double": "anynet.float64",
    "long": "anynet.int64", "int": "anynet.int32", "get_default_dtype": "anynet.dtypes",
    "set_default_dtype": "anynet.dtypes.set_default_float",
    "from_numpy": "anynet.asarray", "gather": "anynet.take_along_axis", "hstack": "anynet.concat(…, axis=1)",
    "inference_mode": "anynet.no_grad", "is_tensor": "isinstance(x, anynet.Tensor)", "isclose": "anynet.abs(a - b) <= tolerance",
    "jit": "anynet.compile", "logsumexp": "anynet.nn.functional.logsumexp", "manual_seed": "anynet.random.manual_seed",
    "median": "anynet.sort", "mm": "anynet.matmul", "mv": "anynet.matmul", "norm": "anynet.linalg.vector_norm",
    "permute": "anynet.permute_dims", "pad": "anynet.nn.functional.pad",
    "rand": "anynet.random.uniform", "randn": "anynet.random.normal", "rsqrt": "1 / anynet.sqrt(x)",
    "set_grad_enabled": "anynet.no_grad and anynet.enable_grad", "sigmoid": "anynet.nn.functional.sigmoid",
    "split": "slices, x[i:j]", "swapaxes": "anynet.moveaxis", "tensor": "anynet.asarray", "transpose": "anynet.permute_dims",
    "unique": "anynet.unique_values", "unsqueeze": "anynet.expand_dims", "Variable": "anynet.asarray(…, requires_grad=True)",
    "view": "anynet.reshape", "vstack": "anynet.concat(…, axis=0)",
}  # fmt: skip
METHODS = {
    "add_": "x += y", "chunk": "slices, x[i:j]", "clamp": "anynet.clip(x, low, high)", "clone": "anynet.asarray(x, copy=True)",
    "contiguous": "nothing to do: leave it out", "copy_": "x.assign_(y)", "cpu": 'x.to("cpu")', "cuda": 'x.to("cuda")',
    "dim": "x.ndim", "div_": "x /= y", "double": "anynet.astype(x, anynet.float64)", "expand": "anynet.broadcast_to(x, shape)",
    "expand_as": "anynet.broadcast_to(x, y.shape)", "fill_": "x[...] = value", "flatten": "anynet.reshape(x, (-1,))",
    "float": "anynet.astype(x, anynet.float32)", "gather": "anynet.take_along_axis(x, indices, axis=…)",
    "get_device": "x.device", "half": 'anynet.astype(x, "float16")', "int": "anynet.astype(x, anynet.int32)",
    "is_cuda": 'x.device.startswith("cuda")', "long": "anynet.astype(x, anynet.int64)",
    "masked_fill": "anynet.where(mask, value, x)", "mm": "x @ y", "mul_": "x *= y", "nelement": "x.size",
    "new_zeros": "anynet.zeros_like(x)",
    "norm": "anynet.linalg.vector_norm(x)", "numel": "x.size", "permute": "anynet.permute_dims(x, axes)",
    "repeat_interleave": "anynet.repeat(x, n)", "scatter_": "anynet.index_add", "sigmoid": "anynet.nn.functional.sigmoid(x)",
    "softmax": "anynet.nn.functional.softmax(x, dim=…)", "relu": "anynet.nn.functional.relu(x)", "sub_": "x -= y", "t": "x.T",
    "transpose": "anynet.permute_dims(x, axes), or x.mT for the last two", "type": "anynet.astype(x, dtype)",
    "type_as": "anynet.astype(x, y.dtype)", "uniform_": "anynet.nn.init.uniform_(x)", "normal_": "anynet.nn.init.normal_(x)",
    "unsqueeze": "anynet.expand_dims(x, axis=…)", "view": "anynet.reshape(x, shape)", "view_as": "anynet.reshape(x, y.shape)",
    "zero_": "x[...] = 0",
}  # fmt: skip
KEYWORDS = {
    "dim": "axis", "keepdim": "keepdims", "dims": "axis", "axes": "axis", "input": "the first argument", "size": "shape",
    "unbiased": "correction", "ddof": "correction", "other": "the second argument", "min_val": "min", "max_val": "max",
    "learning_rate": "lr", "num_epochs": "epochs", "validation_data": "val",
    "verbose": "progress", "initial_epoch": "resume", "log_dir": "run_dir", "output_dir": "run_dir",
}  # fmt: skip
ELSEWHERE = {
    "validation_split": "give the part of the data that is for validation as val=(inputs, targets)",
    "shuffle": "the training data are shuffled; for another order give a DataLoader(…, shuffle=False)",
    "class_weight": "give weights to the loss: loss=nn.CrossEntropyLoss(weight=…)",
    "sample_weight": "weigh in a loss of your own, a function (output, target) → Tensor of one element",
}
"""Options of other libraries' functions that are no option here, and what is done instead."""


def closest(word: object, known: Iterable[str]) -> str | None:
    """The known name that is most like a word, letter case aside; None where none is."""
    folded = {name.lower(): name for name in known}
    near = difflib.get_close_matches(str(word).lower(), folded, 1)
    return folded[near[0]] if near else None


def nearest(word: object, known: Iterable[str], *, everything: bool = True) -> str:
    """``"; did you mean 'adam'?"``, else ``"; known: adam, sgd"`` (nothing with ``everything=False``).

    >>> nearest("Relu", ["ReLU", "GELU"]), nearest("x", ["adam"])
    ("; did you mean 'ReLU'?", '; known: adam')
    """
    names = list(known)
    near = closest(word, names)
    if near is not None:
        return f"; did you mean {near!r}?"
    return f"; known: {', '.join(names)}" if everything else ""


def missing_attribute(module: str, name: str, known: Iterable[str]) -> AttributeError:
    """The error for a name that a module of anynet has not: what it is called here, where it is, or the nearest name."""
    nn = sys.modules["anynet.nn"]

    if module == "anynet" and name in FUNCTIONS:
        here = FUNCTIONS[name]
        hint = f"; use {here}" if here else "; there is nothing like it yet"
    elif module == "anynet" and (hasattr(nn.functional, name) or hasattr(nn, name)):
        hint = f"; use anynet.nn{'.functional' if hasattr(nn.functional, name) else ''}.{name}"
    else:
        hint = nearest(name, (k for k in known if not k.startswith("_")), everything=False)
    return AttributeError(f"module {module!r} has no attribute {name!r}{hint}")


class _Elsewhere:
    """In the place of an attribute that a class has not."""

    def __init__(self, name: str, hint: str) -> None:
        self.name, self.hint = name, hint

    def __get__(self, instance: object, owner: type) -> object:
        what = f"type object {owner.__name__!r}" if instance is None else f"{owner.__name__!r} object"
        msg = f"{what} has no attribute {self.name!r}{self.hint}"
        raise AttributeError(msg)


def explain_attributes(cls: Any, functions: Mapping[str, Any]) -> None:
    """Let the errors for attributes that arrays of `cls` have not say what it is called here: one of METHODS, one of `functions`, or
    the nearest name.

    Before Python 3.12 each attribute of a class with `__getattr__` takes several times as long to read, and steps of small networks
    10 % longer. There the known names are descriptors, and what is near a misspelt one is left to Python, whose tracebacks show it.
    """

    def hint(name: str) -> str:
        if name in METHODS:
            return f"; here it is: {METHODS[name]}"
        if name in functions:
            return f"; the array API has functions, not methods: anynet.{name}(x)"
        return nearest(name, dir(cls), everything=False)

    def missing(self: object, name: str) -> object:
        return _Elsewhere(name, hint(name)).__get__(self, type(self))

    if sys.version_info >= (3, 12):
        cls.__getattr__ = missing
        return
    absent = {n for n in (*METHODS, *functions) if not n.startswith("_") and not hasattr(cls, n)}
    for name in absent:
        setattr(cls, name, _Elsewhere(name, hint(name)))
    cls.__dir__ = lambda self: [n for n in object.__dir__(self) if n not in absent or hasattr(self, n)]


def _explanation(
    function: Callable[..., Any], message: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> str:
    names = list(inspect.signature(function).parameters)
    for word in kwargs:
        if word not in names:
            here = KEYWORDS.get(word, "")
            if here in names or here.startswith("the "):
                return f"{message}; it is {here} here"
            if word in ELSEWHERE and "val" in names:
                return f"{message}; {ELSEWHERE[word]}"
            return f"{message}{nearest(word, names)}"
    if names and names[0] == "shape" and len(args) > 1 and all(isinstance(a, int) for a in args):
        return f"{message}; the shape is one argument: {function.__name__}({args!r})"
    if len(names) > 1 and names[1] == "shape" and len(args) > 2 and all(isinstance(a, int) for a in args[1:]):
        return f"{message}; the shape is one argument: {function.__name__}(x, {args[1:]!r})"
    if len(args) == 2 and "axis" in names:
        return f"{message}; give the axis by its name: {function.__name__}(x, axis={args[1]!r})"
    return message


def explained(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with a better TypeError where it is called with names or numbers of arguments that it does not take."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except TypeError as error:
            if error.__traceback__ is None or error.__traceback__.tb_next is not None:
                raise  # not the call, but something inside
            message = str(error).partition(". Did you mean")[0]  # what Python 3.13 adds
            message = _explanation(function, message, args, kwargs)
        raise TypeError(message)

    call.__module__ = "anynet"
    return call


def explain_calls(namespace: dict[str, Any]) -> None:
    """Replace in a module's namespace the functions that take an axis, a shape or a loss by their `explained` forms."""
    for name, value in list(namespace.items()):
        if (
            isinstance(value, types.FunctionType)
            and not name.startswith("_")
            and value.__module__.startswith("anynet.")
        ):
            if {"axis", "shape", "loss"} & set(inspect.signature(value).parameters):
                namespace[name] = explained(value)
