"""Primitives: functions of arrays that know their gradient.

    @primitive
    def tanh(xp, x):
        return xp.tanh(x)

    tanh.vjp(x=lambda g, y: g * (1 - y * y))

A primitive is called with plain arrays (and returns plain arrays) or with Tensors (and returns Tensors, recorded where
one of them requires a gradient). Arrays are positional, metadata are keywords; the first parameter receives the
backend `xp`, which is the array API namespace of whatever library holds the data.

**A rule keeps what it names.** The parameters of a rule say what is held for the backward pass: ``g`` (the gradient
of the output, always first), ``y`` (the output), ``aux`` (the auxiliary outputs, where there are some), an input by its
name, ``<input>_shape`` or ``<input>_dtype``, a metadata keyword, ``need`` (which inputs want a gradient: only for joint
rules). A name that does not exist fails when the rule is defined.

**One rule serves every order.** An ordinary backward pass calls the rules with plain arrays; when the gradient itself
must be differentiable they are called with Tensors. So a rule uses primitives, operators and other functions of
`anynet.ops`, nothing else.

**Sums over broadcast axes and changes of dtype belong to the engine**, not to the rules.

**Complex numbers**: the gradient of a real L is ∂L/∂(Re z) + i ∂L/∂(Im z), the direction of steepest ascent, as in
PyTorch (JAX returns its conjugate). A holomorphic y = f(x) has the rule g · conj(f'(x)).

A kernel replaces the body on one backend (`Primitive.kernel`); the body above stays its reference.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from anynet.autograd.graph import Node, Pick
from anynet.autograd.jit.specialize import COLD, LARGEST, Hot, available, changes, enter, forget, key_of
from anynet.autograd.rules import Plan, _Rule
from anynet.tensor import Tensor, clock, mode, wrap
from anynet_backends import Array, Backend, backend_of
from anynet_backends.concurrency import ThreadStack, after_fork
from anynet_backends.config import KERNELS
from anynet_backends.jit.tracer_backend import TracerBackend
from anynet_backends.kernel_table import first_supported

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "INTERCEPT",
    "PRIMITIVES",
    "DeviceError",
    "Primitive",
    "adjoint",
    "kernels_on",
    "primitive",
    "use_kernels",
]

_F = TypeVar("_F", bound=Callable[..., Any])
_P = ParamSpec("_P")

PRIMITIVES: dict[str, Primitive[...]] = {}
"""Every primitive by name, for the parity and gradient suites."""

INTERCEPT: ThreadStack[Callable[[Primitive[...], tuple[Any, ...], dict[str, Any]], Any]] = ThreadStack()
"""The latest handles every call of a primitive in its thread (vmap, anomaly mode, profiling, compiling)."""

changes.on = KERNELS()
_MOST_HOT = 64
_new = Tensor.__new__
_SCALARS = frozenset((bool, int, float, complex))


class DeviceError(ValueError):
    """Arrays of different devices or libraries met in one operation."""


def _named(module: str, name: str) -> Primitive[...]:
    """A primitive that was pickled or copied: itself, and not another one."""
    importlib.import_module(module)
    return PRIMITIVES[name]


class Primitive(Generic[_P]):
    """A differentiable function of arrays. See the module's docstring; made by `primitive`."""

    def __init__(
        self, function: Callable[..., Any], name: str | None = None, *, has_aux: bool = False
    ) -> None:
        self.reference = function
        self.has_aux = has_aux  # it returns (result, auxiliary …), of which the latter are constants
        self.name: str = name or function.__name__.rstrip("_")
        self.__name__ = self.name
        self.__qualname__ = self.name
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.__wrapped__ = function
        parameters = list(inspect.signature(function).parameters.values())
        if not parameters or parameters[0].name != "xp":
            msg = f"the first parameter of primitive {self.name!r} must be xp, the backend"
            raise TypeError(msg)
        self.__signature__ = inspect.Signature(parameters[1:])
        kinds = inspect.Parameter
        self.inputs = tuple(
            p.name for p in parameters[1:] if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
        )
        self.variadic = next((p.name for p in parameters if p.kind is kinds.VAR_POSITIONAL), None)
        self.meta = tuple(p.name for p in parameters if p.kind is kinds.KEYWORD_ONLY)
        self.defaults = {p.name: p.default for p in parameters if p.kind is kinds.KEYWORD_ONLY}
        self.optional = {p.name for p in parameters[1:] if p.default is not kinds.empty} - set(self.meta)
        self.rules: list[_Rule] = []
        self.kind: str = "no rule"  # "rule" | "piecewise constant" | "no rule"
        self.reason: str = "no gradient rule has been written for it"
        self.stacked = False  # a hint for vmap: acts on the last axes, whatever axes stand before them
        self.elementwise = False  # a hint for vmap and fusion: acts on each element, with broadcasting
        self._plans: dict[tuple[bool, ...], Plan] = {}
        self._impl: dict[type, tuple[Backend, Callable[..., Any], Any, bool]] = {}
        self.hot: dict[Any, Hot] = {}  # by the inputs that need a gradient and the metadata
        self.hot_bytes = LARGEST  # of the arrays for which that is worth it
        self.heats = True  # False once it has turned out that it cannot become a built-in function
        self._kernels: dict[str, Callable[..., Any]] = {}
        if self.name in PRIMITIVES:
            msg = f"there is a primitive {self.name!r} already, in {PRIMITIVES[self.name].__module__}"
            raise ValueError(msg)
        PRIMITIVES[self.name] = self
        enter(self)

    def __repr__(self) -> str:
        return f"<primitive {self.name}{self.__signature__}>"

    def __reduce__(self) -> Any:
        return _named, (self.__module__, self.name)

    # ----- defining -----

    def vjp(self, **rules: Callable[..., Any]) -> Self:
        """Give the gradient rule of each named input: ``f.vjp(a=lambda g, b: …, b=lambda g, a: …)``.

        For a variadic input the rule returns a tuple, one gradient each (None for those that `need` says not).
        """
        for name, rule in rules.items():
            self._add(_Rule(rule, (name,), name == self.variadic, name if name == self.variadic else None))
        return self

    def vjps(self, *inputs: str) -> Callable[[_F], _F]:
        """Decorator: one rule that returns a tuple with the gradients of several inputs, which share work.

        It may take `need`, a tuple of flags: gradients that are not needed may be None.
        """

        def define(rule: _F) -> _F:
            self._add(_Rule(rule, inputs, True, None))
            return rule

        return define

    def _add(self, rule: _Rule) -> None:
        arrays = (*self.inputs, *([self.variadic] if self.variadic else []))
        for name in rule.inputs:
            if name not in arrays:
                msg = f"{self.name} has no array input {name!r}; it has {', '.join(arrays)}"
                raise TypeError(msg)
        if {"y", "aux", "need"}.intersection((*arrays, *self.meta)):
            msg = f"{self.name}: y, aux and need have a meaning in rules, so no input or keyword may be called so"
            raise TypeError(msg)
        known = {"y", "need", *self.meta, *(["aux"] if self.has_aux else [])}
        for a in arrays:
            known |= {a, f"{a}_shape", f"{a}_dtype"}
        for name in rule.names:
            if name not in known:
                msg = f"the rule of {self.name} for {', '.join(rule.inputs)} names {name!r}; known: {', '.join(sorted(known))}"
                raise TypeError(msg)
        self.rules.append(rule)
        self.kind = "rule"
        self._plans.clear()

    def piecewise_constant(self) -> Self:
        """The derivative is zero wherever it exists (floor, sign, comparisons)."""
        self.kind = "piecewise constant"
        return self

    def no_gradient(self, reason: str) -> Self:
        """A gradient asked through this primitive raises, with the reason."""
        self.kind, self.reason = "no rule", reason
        return self

    def kernel(self, backend: str, *, vjp: bool = False, opaque: bool = False) -> Callable[[_F], _F]:
        """Decorator: replace the body on one backend.

        The kernel has the signature of the body. It may return ``NotImplemented``, and the reference runs. With
        `vjp=True` it takes a keyword `need` too and, where that is not None, returns ``(y, pull)``: ``pull(g)`` gives
        the tuple of all inputs' gradients (None where not needed). A kernel serves the first order; higher orders run
        the rules of the reference. In a compiled program a kernel stands as what it calls, or with `opaque` as one
        instruction: for those whose intermediate arrays are large.
        """

        def define(function: _F) -> _F:
            function.vjp, function.opaque = vjp, opaque  # type: ignore[attr-defined]
            self._kernels[backend] = function
            self._impl.clear()
            forget()
            return function

        return define

    def positions(self, n: int) -> dict[str, tuple[int, ...]]:
        """Where each array input stands among `n` positional arguments."""
        at: dict[str, tuple[int, ...]] = {name: (i,) for i, name in enumerate(self.inputs) if i < n}
        if self.variadic is not None:
            at[self.variadic] = tuple(range(len(self.inputs), n))
        return at

    def extractor(self, name: str, n: int) -> str:
        """Source of the expression that takes what a rule names from output y, data d and metadata m."""
        if name in ("y", "aux"):
            return name if not self.has_aux else "y[0]" if name == "y" else "y[1:]"
        if name in self.meta:
            return f"m[{name!r}] if {name!r} in m else defaults[{name!r}]"
        at = self.positions(n)
        if name in at:
            return f"d[{at[name][0]}]" if name != self.variadic else f"tuple(d[{len(self.inputs)}:])"
        base, _, what = name.rpartition("_")
        if base in at:
            if base == self.variadic:
                return f"tuple({what}(x) for x in d[{len(self.inputs)}:])"
            return f"{what}(d[{at[base][0]}])"
        return "None"  # an optional input that was not given

    # ----- calling -----

    def __call__(self, *args: _P.args, **meta: _P.kwargs) -> Tensor:
        if INTERCEPT and INTERCEPT.own:
            return INTERCEPT.own[-1](self, args, meta)  # type: ignore[no-any-return]
        return self.bind(args, meta)  # type: ignore[no-any-return] # of plain arrays a plain array, of several outputs a tuple

    def bind(self, args: tuple[Any, ...], meta: dict[str, Any]) -> Any:
        """Compute, and record where an argument requires a gradient."""
        boxed = False
        edges: list[Any] | None = None
        data: list[Any] = []
        arrays = True  # nothing but arrays of one kind
        kind: type | None = None
        first: Any = None
        for i, x in enumerate(args):
            if isinstance(x, Tensor):
                boxed = True
                edge = x.edge
                if edge is not None:
                    if edges is None:
                        edges = [None] * len(args)
                    edges[i] = edge
                x = x._data
            data.append(x)
            t = type(x)
            if t is not kind:
                if t in _SCALARS or x is None:
                    arrays = False
                elif kind is None:
                    kind, first = t, x
                elif not _same_library(first, x):
                    raise self._mixed(args)
                else:
                    arrays = False
        impl = self._impl.get(kind)  # type: ignore[arg-type]
        if impl is None:
            impl = self._resolve(kind, args)
        xp = impl[0]
        if xp.multi_device and len(data) > 1:
            self._check_devices(xp, data, args)
        mask = None
        if edges is not None and mode.recording and self.kind != "piecewise constant":
            mask = tuple([e is not None for e in edges])
        y: Any = None
        pull = None
        if impl[3] and arrays and self.heats:
            key = key_of(mask, meta) if meta else mask
            hot = self.hot.get(key) or self._heat(key, mask, meta)
            y = hot.call(*data)
            if y is None and not hot.cold:
                y = hot.meet(data)
            if type(y) is tuple:
                y, pull = y
        if y is None:
            try:
                y, pull = self.compute(data, mask, meta, impl)
            except Exception as error:
                error.add_note(f"in anynet {self._describe(args, meta)}")
                raise
        if not boxed:
            return y
        if type(y) is not xp.array_type:
            if isinstance(y, tuple):
                return self._wrap_many(xp, y, data, None if mask is None else edges, meta, pull)
            y = xp.asarray(y)
        out = _new(Tensor)
        out._data = y
        if mask is not None:
            plan = self._plans.get(mask) or self.plan_of(mask)
            node = Node()
            node.seq = clock()
            node.prim = self
            node.plan = plan
            node.parents = edges  # type: ignore[assignment]
            node.saved = plan.keep(y, data, meta)
            node.pull = pull
            node.shape = y.shape
            node.dtype = y.dtype
            node.count = 0
            node.hooks = None
            out.edge = node
        else:
            out.edge = None
            if edges is not None and mode.recording and xp.dtype_name(y.dtype) in _FLOATING:
                out.edge = _zero_edge(self, y, edges)
        return out

    def _wrap_many(
        self,
        xp: Backend,
        ys: tuple[Any, ...],
        data: list[Any],
        edges: list[Any] | None,
        meta: dict[str, Any],
        pull: Any,
    ) -> tuple[Tensor, ...]:
        ys = tuple([y if type(y) is xp.array_type else xp.asarray(y) for y in ys])
        outs = tuple([wrap(y) for y in ys])
        if edges is not None:
            mask = tuple([e is not None for e in edges])
            plan = self.plan_of(mask)
            node = Node()
            node.seq = clock()
            node.prim, node.plan, node.parents = self, plan, edges
            node.saved = plan.keep(ys, data, meta)
            node.pull = pull
            node.hooks = None
            if self.has_aux:
                node.shape, node.dtype, node.count = ys[0].shape, ys[0].dtype, 0
                outs[0].edge = node
                return outs
            node.shape = tuple([tuple(y.shape) for y in ys])
            node.dtype = tuple([y.dtype for y in ys])
            node.count = len(ys)
            for i, out in enumerate(outs):
                out.edge = Pick(node, i) if xp.dtype_name(out._data.dtype) in _FLOATING else None
        return outs

    def compute(
        self, data: list[Any], need: tuple[bool, ...] | None, meta: dict[str, Any], impl: Any = None
    ) -> tuple[Any, Any]:
        """The result for plain arrays, and the kernel's own backward pass where inputs `need` a gradient and it has one."""
        xp, function, pulls, _ = (
            impl or self._impl.get(type(data[0])) or self._resolve(type(data[0]), tuple(data))
        )
        if pulls is not None and need is not None:
            y = pulls(xp, *data, need=need, **meta)
            return (self.reference(xp, *data, **meta), None) if y is NotImplemented else y
        y = function(xp, *data, **meta)
        return (self.reference(xp, *data, **meta) if y is NotImplemented else y), None

    def _heat(self, key: Any, need: tuple[bool, ...] | None, meta: dict[str, Any]) -> Hot:
        if len(self.hot) >= _MOST_HOT:
            self.hot.clear()
        made = self.hot[key] = Hot(self, need, meta, cold=key is COLD)
        return made

    def plan_of(self, mask: tuple[bool, ...]) -> Plan:
        """The rules that give the gradients of these inputs."""
        plan = self._plans.get(mask)
        if plan is None:
            plan = self._plans[mask] = Plan(self, mask)
        return plan

    def _resolve(
        self, kind: type | None, args: tuple[Any, ...]
    ) -> tuple[Backend, Callable[..., Any], Any, bool]:
        if kind is None:
            msg = f"{self.name} needs at least one array or Tensor, got {', '.join(repr(a) for a in args) or 'nothing'}"
            raise TypeError(msg)
        xp = backend_of(next(d for a in args if type(d := a._data if isinstance(a, Tensor) else a) is kind))
        function: Callable[..., Any] = self.reference
        pulls = None
        heats = changes.on and xp.eager and xp.compiles and available()
        if changes.on:
            found = [xp.kernels[self.name]] if self.name in xp.kernels else []
            if xp.name in self._kernels:
                own = self._kernels[xp.name]
                whole = getattr(own, "opaque", False)
                heats = heats and not whole
                found.append(xp.opaque(self.name, own) if whole and isinstance(xp, TracerBackend) else own)
            if heats and self.name in xp.kernels:  # that is one call already, for what it takes
                first = getattr(xp.kernels[self.name], "first", xp.kernels[self.name])
                if not getattr(first, "traceable", False):
                    self.hot_bytes = getattr(first, "least_bytes", 0)
                    heats = self.hot_bytes > 0
            if found:
                function = found[0] if len(found) == 1 else first_supported(*found)
                if getattr(function, "vjp", False):
                    function, pulls = _forward_of(function), function
        impl = self._impl[kind] = (xp, function, pulls, heats)
        return impl

    def _check_devices(self, xp: Backend, data: list[Any], args: tuple[Any, ...]) -> None:
        first = None
        for x in data:
            if x is None or type(x) in _SCALARS:
                continue
            if first is None:
                first = x.device
            elif x.device != first:
                raise self._mixed(args)

    def _mixed(self, args: tuple[Any, ...]) -> Exception:
        names = (*self.inputs, *(f"{self.variadic}[{i}]" for i in range(len(args))))
        where = []
        for name, x in zip(names, args, strict=False):
            x = x._data if isinstance(x, Tensor) else x
            if x is None or type(x) in _SCALARS:
                continue
            try:
                where.append(f"{name} of shape {tuple(x.shape)} on {backend_of(x).device_of(x)!r}")
            except TypeError:
                msg = f"{self.name} takes arrays and Tensors, but {name} is a {type(x).__name__}; use anynet.asarray"
                return TypeError(msg)
        return DeviceError(
            f"{self.name} got arrays on different devices: {', '.join(where)}; move one with .to(device)"
        )

    def _describe(self, args: tuple[Any, ...], meta: dict[str, Any]) -> str:
        parts = []
        for x in args:
            x = x._data if isinstance(x, Tensor) else x
            parts.append(
                f"{x.dtype}{tuple(x.shape)}" if hasattr(x, "shape") and hasattr(x, "dtype") else repr(x)[:40]
            )
        parts += [f"{k}={v!r}" for k, v in meta.items()]
        return f"{self.name}({', '.join(parts)})"


_FLOATING = frozenset(("float16", "bfloat16", "float32", "float64", "complex64", "complex128"))


def _same_library(a: Any, b: Any) -> bool:
    try:
        return backend_of(a) is backend_of(b)
    except TypeError:
        return False


def _forward_of(kernel: Callable[..., Any]) -> Callable[..., Any]:
    def forward(xp: Backend, *data: Any, **meta: Any) -> Any:
        return kernel(xp, *data, need=None, **meta)

    return forward


def _zero_edge(prim: Primitive[...], y: Array, edges: list[Any]) -> Node:
    """The node of a piecewise constant function: its gradient is zero by mathematics."""
    node = Node()
    node.seq = clock()
    node.prim, node.plan, node.parents, node.saved, node.pull = prim, None, edges, (), None
    node.shape, node.dtype, node.count, node.hooks = y.shape, y.dtype, 0, None
    return node


@overload
def primitive(function: Callable[Concatenate[Backend, _P], Any], /) -> Primitive[_P]: ...
@overload
def primitive(
    *, name: str | None = None, has_aux: bool = False
) -> Callable[[Callable[Concatenate[Backend, _P], Any]], Primitive[_P]]: ...
def primitive(
    function: Callable[..., Any] | None = None, /, *, name: str | None = None, has_aux: bool = False
) -> Any:
    """Make a function of ``(xp, *arrays, **metadata)`` a `Primitive`; the name is the function's.

    With `has_aux` the function returns a tuple of its result and auxiliary arrays, which are constants where the result is
    differentiated.
    """
    if function is not None:
        return Primitive(function)
    return lambda f: Primitive(f, name, has_aux=has_aux)


def adjoint(f: Primitive[...], h: Primitive[...]) -> None:
    """Declare two linear maps of their first argument each other's transpose: each is the other's gradient rule.

    Both take the same metadata, and each may take the shape of the other's result as the keyword `shape`.
    """
    for here, there in ((f, h), (h, f)) if f is not h else ((f, f),):
        name = here.inputs[0]
        shared = [m for m in there.meta if m != "shape"]
        missing = [m for m in shared if m not in here.meta]
        if missing:
            msg = f"adjoint({f.name}, {h.name}): {here.name} lacks the metadata {', '.join(missing)}"
            raise TypeError(msg)
        names = [*shared, *([f"{name}_shape"] if "shape" in there.meta else [])]
        keywords = [f"{m}={m}" for m in shared] + ([f"shape={name}_shape"] if "shape" in there.meta else [])
        source = f"lambda g, {', '.join(names)}: there(g, {', '.join(keywords)})"
        here.vjp(**{name: eval(source, {"there": there})})  # noqa: S307


after_fork(forget)  # they may hold calls that count on threads which are not there


def kernels_on() -> bool:
    """Whether backends' kernels are used."""
    return changes.on


@contextmanager
def use_kernels(on: bool) -> Iterator[None]:
    """Within the block, backends' kernels are used, or only the references (also: ``ANYNET_KERNELS=off``)."""
    before = changes.on
    changes.on = on
    changes.note()
    for prim in PRIMITIVES.values():
        prim._impl.clear()
    try:
        yield
    finally:
        changes.on = before
        changes.note()
        for prim in PRIMITIVES.values():
            prim._impl.clear()
