"""Networks as plain data: `describe` writes down how a network is made, `build` makes it again.

>>> import anynet as an
>>> net = an.nn.Sequential(an.nn.Linear(4, 3), an.nn.ReLU())
>>> describe(net)["args"]
[{'class': 'nn.Linear', 'args': [4, 3]}, {'class': 'nn.ReLU'}]
>>> build(describe(net))
Sequential(
  (0): Linear(in_features=4, out_features=3, bias=True)
  (1): ReLU()
)
"""

from __future__ import annotations

import contextlib
import io
import json
import random as python_random
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from anynet import random
from anynet.nn import init
from anynet.nn.description.changes import apply, compare
from anynet.nn.description.names import DescriptionError, Known
from anynet.nn.description.values import Reader, Writer
from anynet.nn.module import Module
from anynet_backends import host

__all__ = ["FORMAT", "DescriptionError", "build", "describe"]

FORMAT = "anynet-model/1"


def describe(module: Module) -> dict[str, Any]:
    """How a network is made, as JSON: nested constructors, and what was changed since they ran.

    ``{"format": "anynet-model/1", "class": "nn.Sequential", "args": [{"class": "nn.Linear", "args": [4, 3]}, …]}``. A class
    of the user's is ``{"code": "module:Class", "sha256": …, "args": […]}`` with the hash of its source text. ``changes``
    lists what is otherwise than the constructors make it: replaced layers, changed attributes, parametrizations, shared and frozen
    parameters, dtypes. ``left_out`` names attributes that cannot be kept and are no part of the state (an activation that was
    stored, an optimizer, hooks), with the reason. Numbers are not in it: they are the ``state_dict``'s.

    It is right: the network is made again from the description and compared, attribute by attribute, before it is returned. So
    the constructors run again; random streams stay as they are.

    Errors: `DescriptionError` says what cannot be described, and where (a lambda among the arguments, say). The network is as it was.
    """
    if not isinstance(module, Module):
        msg = f"describe: expected a Module, got {type(module).__name__}"
        raise TypeError(msg)
    writer = Writer()
    try:
        node = _plain(writer.module(module, ""))
        with _quietly():
            twin = Reader(Known(writer.objects)).module(node)
            steps, left_out = compare(module, twin, writer)
            if steps:
                node["changes"] = _plain(steps)
                again = build({"format": FORMAT, **node}, writer.objects)
                rest, _ = compare(module, again, writer)
                if rest:
                    name = type(module).__name__
                    msg = f"{name} is otherwise than its constructor makes it, in a way that cannot be repeated: {rest[0]!r:.200}"
                    raise DescriptionError(msg)
    except RecursionError:
        msg = f"{type(module).__name__} is nested too deeply to be described"
        raise DescriptionError(msg) from None
    _same_state(module, twin)
    return {"format": FORMAT, **node} | ({"left_out": left_out} if left_out else {})


def build(description: Mapping[str, Any], classes: Any = None, *, trust: Any = None) -> Module:
    """The network that a description stands for, with new initial values (load a ``state_dict`` afterwards).

    Parameters:
      description: what `describe` has returned.
      classes: the user's own classes and functions that it names: a class, a module, a dict by name, a network, or several.
      trust: the path of a Python file (or several) that defines them. It is executed.

    Nothing is imported or executed but this library and what is named here. A class whose source has changed since is used with a
    warning.

    Errors: `DescriptionError` for what is no description, names a class that was not given or does not fit it.
    """
    if not isinstance(description, Mapping) or description.get("format") != FORMAT:
        got = description.get("format") if isinstance(description, Mapping) else type(description).__name__
        msg = f"build: expected a description of format {FORMAT}, got {got!r:.60}"
        raise DescriptionError(msg)
    reader = Reader(Known(classes, trust))
    try:
        module = reader.module(dict(description))
        apply(module, description.get("changes", []), reader)
    except RecursionError:
        msg = "build: the description is nested too deeply"
        raise DescriptionError(msg) from None
    return module


def _plain(value: Any) -> Any:
    """As JSON brings it back."""
    return json.loads(json.dumps(value, allow_nan=False))


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Constructors within the block print nothing, move no random stream, and fill no parameters."""
    restore, state = host.random_keeper(), python_random.getstate()
    try:
        with (
            random.fork_rng(),
            init.skipped(draw=False),
            contextlib.redirect_stdout(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # of what is computed from parameters that have no values
            yield
    finally:
        restore()
        python_random.setstate(state)


def _same_state(module: Module, twin: Module) -> None:
    def state(m: Module) -> dict[str, Any]:
        return {k: (t.shape, t.dtype) for k, t in m.state_dict().items()}

    if any(m.waiting for m in module.modules()):
        return
    own, made = state(module), state(twin)
    if list(own.items()) != list(made.items()):
        name = next((k for k in (*own, *made) if own.get(k) != made.get(k)), "the order of its entries")
        msg = f"the description of {type(module).__name__} would not give the same state: {name} differs"
        raise DescriptionError(msg)
