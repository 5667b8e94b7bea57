"""What to say to someone who wrote a name of another library, or misspelt one: the nearest name, or what it is called here."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from anynet._parameters import parameters_of
from anynet_backends.concurrency import late_import

__all__ = ["closest", "explain_absent", "explained", "instead", "missing_attribute", "nearest"]

# What other libraries (PyTorch, NumPy) call otherwise, by where it is looked for.
FUNCTIONS = {
    "absolute": "anynet.abs", "allclose": "anynet.all(anynet.abs(a - b) <= atol + rtol * anynet.abs(b))",
    "amax": "anynet.max", "amin": "anynet.min", "amp": None, "array": "anynet.asarray", "as_tensor": "anynet.asarray",
    "autograd": "anynet.grad, anynet.jacrev, …", "bmm": "anynet.matmul", "cat": "anynet.concat",
    "chunk": "slices, x[i:j]", "clamp": "anynet.clip", "clone": "anynet.asarray(x, copy=True)", "concatenate": "anynet.concat",
    "cumprod": "anynet.cumulative_prod",
    "cumsum": "anynet.cumulative_sum", "detach": "x.detach()", "device": 'strings, device="cpu", "cuda:0"',
    "distributed": None, "dot": "anynet.vecdot or anynet.matmul",
    "erf": "anynet.special.erf", "expand": "anynet.broadcast_to", "flatten": "anynet.reshape(x, (-1,)) or nn.Flatten",
    "float16": 'the string dtype="float16"',
    "bfloat16": 'the string dtype="bfloat16"', "half": 'the string dtype="float16"', "float": "anynet.float32", "double": "anynet.float64",
    "long": "anynet.int64", "int": "anynet.int32", "get_default_dtype": "anynet.dtypes",
    "set_default_dtype": "anynet.dtypes.set_default_float",
    "from_numpy": "anynet.asarray", "hstack": "anynet.concat(…, axis=1)",
    "inference_mode": "anynet.no_grad", "is_tensor": "isinstance(x, anynet.Tensor)", "isclose": "anynet.abs(a - b) <= tolerance",
    "jit": "anynet.compile", "logsumexp": "anynet.nn.functional.logsumexp", "manual_seed": "anynet.random.manual_seed",
    "median": "anynet.sort", "multinomial": "anynet.random.categorical",
    "mm": "anynet.matmul", "mv": "anynet.matmul", "norm": "anynet.linalg.vector_norm",
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
    "float": "anynet.astype(x, anynet.float32)", "gather": "anynet.gather(x, indices, axis=…)",
    "get_device": "x.device", "half": 'anynet.astype(x, "float16")', "int": "anynet.astype(x, anynet.int32)",
    "is_cuda": 'x.device.startswith("cuda")', "long": "anynet.astype(x, anynet.int64)",
    "masked_fill": "anynet.where(mask, value, x)", "mm": "x @ y", "mul_": "x *= y", "nelement": "x.size",
    "new_zeros": "anynet.zeros_like(x)",
    "norm": "anynet.linalg.vector_norm(x)", "numel": "x.size", "permute": "anynet.permute_dims(x, axes)",
    "repeat_interleave": "anynet.repeat(x, n)", "scatter_": "anynet.scatter(x, indices, values, axis=…)",
    "sigmoid": "anynet.nn.functional.sigmoid(x)",
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
    "verbose": "progress", "initial_epoch": "resume", "log_dir": "run_dir", "output_dir": "run_dir", "default_root_dir": "run_dir",
    "max_epochs": "epochs", "n_epochs": "epochs", "num_train_epochs": "epochs", "max_steps": "steps", "max_time": "time_limit",
    "accumulate_grad_batches": "accumulate", "gradient_accumulation_steps": "accumulate", "gradient_clip_val": "clip_norm",
    "max_grad_norm": "clip_norm", "clipnorm": "clip_norm", "clipvalue": "clip_value",
    "class_weights": "class_weight", "weights": "class_weight",
    "restore_best_weights": "restore_best", "load_best_model_at_end": "restore_best", "enable_progress_bar": "progress",
    "ckpt_path": "resume", "criterion": "loss", "mixed_precision": "precision", "jit_compile": "compile",
    "validation_batch_size": "batch_size", "train_batch_size": "batch_size", "random_state": "seed", "lr_scheduler": "scheduler",
}  # fmt: skip
ELSEWHERE = {
    "validation_split": "give the fraction as val=0.2",
    "validation_fraction": "give the fraction as val=0.2",
    "shuffle": "the training data are shuffled; for another order give a DataLoader(…, shuffle=False)",
    "sample_weight": "give the weights of samples with the data: (inputs, targets, weights)",
    "validation_freq": "validation follows each epoch; with steps_per_epoch an epoch of a stream is as long as you like",
    "validation_steps": "give a val that ends after so many batches",
    "workers": "give a DataLoader(…, num_workers=…)",
    "num_workers": "give a DataLoader(…, num_workers=…)",
    "early_stopping": "give callbacks=[anynet.train.EarlyStopping(patience=…)]",
    "patience": "give callbacks=[anynet.train.EarlyStopping(patience=…)]",
    "logger": "loggers are callbacks: anynet.train.CSVLogger, TensorBoard, WandB, MLflow",
    "momentum": "give optimizer={'name': 'sgd', 'momentum': …}",
    "betas": "give optimizer={'name': 'adam', 'betas': …}",
    "label_smoothing": "give loss={'name': 'cross_entropy', 'label_smoothing': …}",
}
"""Options of other libraries' functions that are no option here, and what is done instead."""


def closest(word: object, known: Iterable[str]) -> str | None:
    """The known name that is most like a word, letter case aside; None where none is."""
    folded = {name.lower(): name for name in known}
    near = late_import("difflib").get_close_matches(str(word).lower(), folded, 1)
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


class _AbsentAttributeError(AttributeError):
    """The error for an attribute that an object has not. What to write instead is looked for when the error is read, since most are
    not: ``hasattr(x, name)``."""

    def __init__(self, message: str, hint: Callable[[], str]) -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.args[0]}{self.hint()}"

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return AttributeError, (str(self),)


def instead(name: str, what: str) -> Any:
    """In a class that has no attribute `name`: the error for it says what to write instead. An instance may have one of that name."""
    return _Elsewhere(name, f"; {what}")


MODULES = {
    "fit": "write anynet.fit(net, (x, y), loss=…)", "fit_generator": "write anynet.fit(net, generator, loss=…)",
    "compile": "loss, optimizer and metrics are given to anynet.fit(…); functions are compiled by anynet.compile",
    "predict": "write anynet.predict(net, x)", "predict_proba": "write anynet.predict(net, x), or use anynet.sklearn.Classifier",
    "evaluate": "write anynet.evaluate(net, (x, y), loss=…)", "score": "write anynet.evaluate(net, (x, y), loss=…, metrics=[…])",
    "save": "write anynet.save(path, net.state_dict()); anynet.fit(…, run_dir=…) keeps all that anynet.open needs",
    "save_weights": "write anynet.save(path, net.state_dict())", "load_weights": "write net.load_state_dict(anynet.load(path))",
    "get_weights": "write net.state_dict()", "set_weights": "write net.load_state_dict(state)",
    "count_params": "write sum(p.size for p in net.parameters())", "layers": "write net.children()",
    "trainable": "write net.requires_grad_(False)", "freeze": "write net.requires_grad_(False)",
}  # fmt: skip
"""Methods that modules have in other libraries, and what is written here."""


def explain_absent(cls: Any, names: Mapping[str, str]) -> None:
    """Let the errors for `names`, which a class has not, say what is written instead. It costs nothing where attributes are found."""
    for name, what in names.items():
        if not hasattr(cls, name):
            setattr(cls, name, instead(name, what))
    cls.__dir__ = lambda self: [n for n in object.__dir__(self) if n not in names or hasattr(self, n)]


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
        msg = f"{type(self).__name__!r} object has no attribute {name!r}"
        raise _AbsentAttributeError(msg, lambda: hint(name))

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


def explain_calls(namespace: dict[str, Any]) -> dict[str, Any]:
    """Replace in a module's namespace, which is returned, the functions that take an axis, a shape or a loss by their `explained` forms."""
    for name, value in list(namespace.items()):
        if (
            isinstance(value, types.FunctionType)
            and not name.startswith("_")
            and value.__module__.startswith("anynet.")
        ):
            if not {"axis", "shape", "loss"}.isdisjoint(parameters_of(value).names):
                namespace[name] = explained(value)
    return namespace
