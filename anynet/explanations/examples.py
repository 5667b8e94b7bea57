"""The calls in a docstring's example: with their arguments `explain` compares the code with the equation, and with finite differences."""

from __future__ import annotations

import ast
import contextlib
import copy
import doctest
import inspect
import io
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from anynet import random
from anynet.nn.module import Module
from anynet.ops.manipulation import astype
from anynet.tensor import Tensor

__all__ = ["Call", "example_calls", "example_made"]


class Call(NamedTuple):
    """A call of a function, or of a layer that an example made."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    options: dict[str, Any]

    def in_double(self) -> Call:
        """The same in float64, with a copy of the layer. The first argument stands off the kinks at which examples like to stand: it is a
        little larger, and uniform numbers where it is one number throughout (``ones``, of which each is the maximum)."""
        layer = self.function
        if isinstance(layer, Module):
            layer = copy.deepcopy(layer).to("float64")
        first, rest = _mapped(self.args[:1], _off_the_kinks), _mapped((self.args[1:], self.options), _double)
        return Call(layer, (*first, *rest[0]), rest[1])

    def run(self) -> Any:
        """Its result; the same where it draws numbers."""
        random.manual_seed(11)
        return self.function(*self.args, **self.options)

    def slopes(self) -> list[Tensor]:
        """The arguments by which the result may be differentiated."""
        return [x for x in _flat((self.args, self.options)) if _is_float(x)]

    def at(self, values: tuple[Tensor, ...]) -> Any:
        """The result with other values of `slopes`, in their order."""
        left = iter(values)
        return Call(self.function, *_mapped((self.args, self.options), lambda x: next(left) if _is_float(x) else x)).run()  # fmt: skip


def _is_float(x: Any) -> bool:
    return isinstance(x, Tensor) and str(x.dtype).startswith("float")


def _flat(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    return [x for part in value for x in _flat(part)] if isinstance(value, list | tuple) else [value]


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {k: _mapped(v, change) for k, v in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(_mapped(v, change) for v in value)
    return change(value)


def _double(x: Any) -> Any:
    return astype(x.detach(), "float64") if _is_float(x) else x


def _off_the_kinks(x: Any) -> Any:
    if not _is_float(x):
        return x
    numbers = x.numpy()
    if x.size > 1 and (numbers == numbers.flat[0]).all():
        return random.uniform(x.shape, low=0.1, high=0.9, dtype="float64", generator=random.Generator(7))
    return _double(x) + random.uniform(x.shape, low=0.01, high=0.04, dtype="float64", generator=random.Generator(8))  # fmt: skip


class _Watched(ast.NodeTransformer):
    """Each call ``f(…)`` as ``_watch(f, …)``."""

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        return ast.Call(ast.Name("_watch", ast.Load()), [node.func, *node.args], node.keywords)


def _watched(thing: Any, watch: Callable[..., Any]) -> None:
    """Run the docstring's example, up to where it raises, with `watch` in the place of each call."""
    names = {"_watch": watch}
    state = random.get_state()
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.suppress(Exception),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            for part in doctest.DocTestParser().get_examples(inspect.getdoc(thing) or ""):
                tree = ast.fix_missing_locations(_Watched().visit(ast.parse(part.source)))
                exec(compile(tree, "example", "exec"), names)
    finally:
        random.set_state(state)


def example_calls(thing: Any) -> list[Call]:
    """The calls of a function, or of objects of a class of layers, in the example of its docstring."""
    found: list[Call] = []

    def watch(f: Any, *args: Any, **options: Any) -> Any:
        if (type(f) if isinstance(thing, type) else f) is thing:  # a lazy layer has another class afterwards
            found.append(Call(f, args, options))
        return f(*args, **options)

    _watched(thing, watch)
    return found


def example_made(thing: type) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """The arguments with which the example makes an object of a class."""
    found: list[Any] = []

    def watch(f: Any, *args: Any, **options: Any) -> Any:
        if f is thing:
            found.append((args, options))
        return f(*args, **options)

    _watched(thing, watch)
    return found[0] if found else None
