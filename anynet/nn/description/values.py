"""Values in a description: what constructors are given, and what attributes hold, as JSON and back.

Plain data is itself. What JSON lacks is a dict of one key that begins with "$": ``{"$tuple": […]}``,
``{"$function": "nn.functional.relu"}``.
A module is ``{"class": "nn.Linear", "args": [4, 3]}``, or ``{"code": "module:Class", "sha256": …, "args": …}`` for a class of the user's.
"""

from __future__ import annotations

import base64
import enum
import functools
import math
from collections.abc import Mapping
from typing import Any

from anynet import dtypes
from anynet.nn.containers import ModuleDict, ModuleList, ParameterDict, ParameterList, Sequential
from anynet.nn.description.names import DescriptionError, Known, code_name, library_name, source_hash
from anynet.nn.lazy import UninitializedBuffer, UninitializedParameter
from anynet.nn.module import Module
from anynet.nn.recorded import ArrayValue, FieldsOf, Opaque, Recorded, plain
from anynet.tensor import Buffer, Parameter, wrap
from anynet_backends import host, resolve

__all__ = ["LARGEST", "Reader", "Writer"]

LARGEST = 1 << 16
"""The most bytes of numbers that one array may put into a description."""

_Containers = (Sequential, ModuleList, ModuleDict, ParameterList, ParameterDict)


class Writer:
    """From values to JSON. `objects` collects the user's classes and functions by their names."""

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}

    def code(self, value: Any) -> dict[str, Any]:
        """The name of a class or function of the user's, and the hash of its source."""
        name = code_name(value)
        self.objects[name] = value
        return {"code": name, "sha256": source_hash(value)}

    def module(self, module: Module, where: str) -> dict[str, Any]:
        """How a module was made. Of this library's containers that is what is in them now."""
        cls = getattr(type(module), "_unparametrized", type(module))
        if cls in _Containers:
            return self._container(module, cls, where)
        made = module.__dict__.get("_made")
        if not isinstance(made, Recorded):
            msg = f"{where}: {cls.__name__} does not know how it was made: its class has a __new__ that does not call Module's"
            raise DescriptionError(msg)
        return self.record(Recorded(cls, made.args, made.kwargs), where)

    def _container(self, module: Any, cls: type, where: str) -> dict[str, Any]:
        def item(name: str, value: Any) -> Any:
            inside = f"{where}.{name}" if where else name
            return (
                self.module(value, inside)
                if isinstance(value, Module)
                else self.value(plain(value, 0), inside)
            )

        items = {name: item(name, value) for name, value in module._items.items()}
        numbered = list(items) == [str(i) for i in range(len(items))]
        if cls is Sequential:
            args = list(items.values()) if numbered else [{"$dict": [[k, v] for k, v in items.items()]}]
        elif cls in (ModuleList, ParameterList):
            args = [list(items.values())]
        else:
            args = [[{"$tuple": [k, v]} for k, v in items.items()]]
        return {"class": f"nn.{cls.__name__}", "args": args}

    def record(self, made: Recorded, where: str) -> dict[str, Any]:
        """A class and its arguments."""
        name = library_name(made.cls)
        node: dict[str, Any] = {"class": name} if name else self.code(made.cls)
        here = f"{where or 'the network'} ({made.cls.__name__})"
        args = [self.value(v, f"{here}: argument {i + 1}") for i, v in enumerate(made.args)]
        given = {k: v for k, v in (made.kwargs or {}).items() if not (name and k == "device")}
        kwargs = {k: self.value(v, f"{here}: argument {k}") for k, v in given.items()}
        return node | ({"args": args} if args else {}) | ({"kwargs": kwargs} if kwargs else {})

    def value(self, value: Any, where: str) -> Any:
        """Any value as JSON; `DescriptionError` for what has no such form."""
        if value is None or (isinstance(value, (bool, str)) and not isinstance(value, enum.Enum)):
            return value
        if isinstance(value, Module):
            return self.module(value, where)
        if isinstance(value, Recorded):
            return self.record(value, where)
        if isinstance(value, ArrayValue):
            return {"$array": {k: getattr(value, k) for k in ArrayValue.__slots__}}
        if isinstance(value, enum.Enum):
            return {"$enum": self.code(type(value)), "name": value.name}
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
        return self._composed(value, where)

    def _composed(self, value: Any, where: str) -> Any:
        def each(items: Any) -> list[Any]:
            return [self.value(v, where) for v in items]

        if isinstance(value, complex):
            return {"$complex": each((value.real, value.imag))}
        if isinstance(value, bytes):
            return {"$bytes": base64.b64encode(value).decode()}
        if type(value) is list:
            return each(value)
        if type(value) in (tuple, set, frozenset):
            return {f"${type(value).__name__}": each(value)}
        if isinstance(value, dict):
            simple = all(isinstance(k, str) and not k.startswith("$") for k in value) and not value.keys() & {
                "class",
                "code",
            }
            return (
                {k: self.value(v, where) for k, v in value.items()}
                if simple
                else {"$dict": [[self.value(k, where), self.value(v, where)] for k, v in value.items()]}
            )
        if isinstance(value, (range, slice)):
            return {f"${type(value).__name__}": each((value.start, value.stop, value.step))}
        if isinstance(value, dtypes.DType):
            return {"$dtype": value.name}
        if isinstance(value, FieldsOf):
            return self._fields(value, where)
        if not isinstance(value, Opaque) and callable(value) and "<lambda>" not in code_name(value):
            word = "$type" if isinstance(value, type) else "$function"
            return {word: library_name(value) or self.code(value)}
        what = (
            value.what
            if isinstance(value, Opaque)
            else f"the function {getattr(value, '__qualname__', value)}"
        )
        msg = f"{where} is {what}, which a file cannot hold; use plain data, a Module, or a function that its module has by that name"
        raise DescriptionError(msg)

    def _fields(self, value: FieldsOf, where: str) -> Any:
        fields = {k: self.value(v, f"{where}.{k}") for k, v in value.fields.items()}
        if value.cls is functools.partial:
            return {"$partial": fields}
        if value.cls.__name__ in ("SimpleNamespace", "Namespace"):
            return {"$namespace": fields}
        return {"$object": self.code(value.cls), "fields": fields}


class Reader:
    """From JSON to values."""

    def __init__(self, known: Known) -> None:
        self.known = known

    def module(self, node: Any, where: str = "the network") -> Module:
        """The module that a node describes."""
        if not isinstance(node, dict) or not ("class" in node) ^ ("code" in node):
            msg = f"{where} must be described by a dict with class or code, got {node!r:.80}"
            raise DescriptionError(msg)
        if "class" in node:
            cls = self.known.library(node["class"], where)
        else:
            cls = self.known.code(node["code"], node.get("sha256"), where)
        if not isinstance(cls, type) or not issubclass(cls, Module):
            msg = f"{where} must be described by the class of a Module, got {node.get('class', node.get('code'))!r:.80}"
            raise DescriptionError(msg)
        args, kwargs = node.get("args", []), node.get("kwargs", {})
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            msg = f"{where}: args must be a list and kwargs a dict, got {args!r:.40} and {kwargs!r:.40}"
            raise DescriptionError(msg)
        here = f"{where} ({cls.__name__})"
        values = [self.value(v, f"{here}: argument {i + 1}") for i, v in enumerate(args)]
        named = {k: self.value(v, f"{here}: argument {k}") for k, v in kwargs.items()}
        try:
            return cls(*values, **named)
        except DescriptionError:
            raise
        except Exception as error:
            msg = f"{here} cannot be made with the arguments of its description: {type(error).__name__}: {error}"
            raise DescriptionError(msg) from error

    def value(self, value: Any, where: str) -> Any:
        """The value that JSON stands for."""
        if isinstance(value, list):
            return [self.value(v, where) for v in value]
        if not isinstance(value, dict):
            return value
        if "class" in value or "code" in value:
            return self.module(value, where)
        if not any(k.startswith("$") for k in value):
            return {k: self.value(v, where) for k, v in value.items()}
        try:
            return self._special(value, where)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, DescriptionError):
                raise
            msg = f"{where}: {value!r:.80} stands for no value ({type(error).__name__}: {error})"
            raise DescriptionError(msg) from error

    def _special(self, value: dict[str, Any], where: str) -> Any:
        kind = next(k for k in value if k.startswith("$"))
        content = value[kind]
        if kind in ("$tuple", "$set", "$frozenset"):
            return {"$tuple": tuple, "$set": set, "$frozenset": frozenset}[kind](
                self.value(v, where) for v in content
            )
        if kind == "$dict":
            return {self.value(k, where): self.value(v, where) for k, v in content}
        if kind == "$float":
            return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[content]
        if kind in ("$range", "$slice"):
            return {"$range": range, "$slice": slice}[kind](*content)
        if kind == "$complex":
            return complex(*(self.value(v, where) for v in content))
        if kind == "$bytes":
            return base64.b64decode(content, validate=True)
        if kind == "$dtype":
            return dtypes.of(str(content))
        if kind == "$array":
            return array(content, where)
        return self._named(kind, content, value, where)

    def _named(self, kind: str, content: Any, value: dict[str, Any], where: str) -> Any:
        if kind == "$namespace":
            import types  # few networks have one

            return types.SimpleNamespace(**{k: self.value(v, where) for k, v in content.items()})
        if kind == "$partial":
            found = {k: self.value(v, where) for k, v in content.items()}
            return functools.partial(found["function"], *found["args"], **found["kwargs"])
        if kind == "$enum":
            return getattr(self._code(content, where), value["name"])
        if kind == "$object":
            return self._code(content, where)(**{k: self.value(v, where) for k, v in value["fields"].items()})
        if kind in ("$type", "$function"):
            return (
                self.known.library(content, where) if isinstance(content, str) else self._code(content, where)
            )
        msg = f"{where}: unknown kind of value {kind!r:.40}"
        raise DescriptionError(msg)

    def _code(self, content: Mapping[str, Any], where: str) -> Any:
        return self.known.code(content["code"], content.get("sha256"), where)


def array(content: Mapping[str, Any], where: str) -> Any:
    """The array or Tensor of a description: zeros where its numbers are not in it."""
    kind, shape, dtype = content["kind"], content["shape"], dtypes.of(str(content["dtype"]))
    wanted, persistent = bool(content["requires_grad"]), bool(content["persistent"])
    if shape is None:
        return (
            UninitializedParameter(wanted, dtype=dtype)
            if kind == "parameter"
            else UninitializedBuffer(persistent=persistent, dtype=dtype)
        )
    if not all(type(n) is int and n >= 0 for n in shape):
        msg = f"{where}: an array's shape must be whole numbers, got {shape!r:.60}"
        raise DescriptionError(msg)
    xp, device = resolve(None)
    if content["data"] is None:
        plain_array = xp.zeros(tuple(shape), dtype=dtypes.native(xp, dtype))
    else:
        raw = base64.b64decode(content["data"], validate=True)
        plain_array = xp.from_host(host.from_bytes(raw, dtype.name, tuple(shape)), device)
    if kind == "array":
        return plain_array
    if kind == "parameter":
        return Parameter(plain_array, wanted)
    made: Any = wrap(plain_array, Buffer) if kind == "buffer" else wrap(plain_array)
    if kind == "buffer":
        made.persistent = persistent
    return made
