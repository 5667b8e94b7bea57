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

import functools
import importlib
import inspect
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from anynet._parameters import parameters_of
from anynet.autograd.dispatch import (
    INTERCEPT,
    Implementation,
    bind,
    bind_view,
    choose_implementation,
    describe,
    kernel_switch,
)
from anynet.autograd.jit.specialize import MAX_BYTES, Specialization, caches
from anynet.autograd.rules import Rule, RulePlan
from anynet.tensor import Tensor, module_version
from anynet_backends import Backend, backend_of
from anynet_backends.concurrency import after_fork
from anynet_backends.kernel_table import Kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "PRIMITIVES",
    "Primitive",
    "ViewPrimitive",
    "adjoint",
    "kernels_on",
    "primitive",
    "use_kernels",
]

_F = TypeVar("_F", bound=Callable[..., Any])
_P = ParamSpec("_P")

PRIMITIVES: dict[str, Primitive[...]] = {}
"""Every primitive by name, for the parity and gradient suites."""


def _named(module: str, name: str) -> Primitive[...]:
    """A primitive that was pickled or copied: itself, and not another one."""
    importlib.import_module(module)
    return PRIMITIVES[name]


class _SignatureOf:
    """The signature of a primitive: its reference's without the backend, read when it is asked for."""

    def __get__(self, instance: Primitive[...] | None, owner: type) -> inspect.Signature:
        if instance is None:
            raise AttributeError("__signature__")  # the class has its own
        return inspect.Signature(list(inspect.signature(instance.reference).parameters.values())[1:])


class Primitive(Generic[_P]):
    """A differentiable function of arrays. See the module's docstring; made by `primitive`."""

    __signature__ = _SignatureOf()

    def __init__(
        self,
        function: Callable[..., Any],
        name: str | None = None,
        *,
        has_aux: bool = False,
        keeps_aux: bool = False,
    ) -> None:
        self.reference = function
        # it returns (result, auxiliary …), of which the latter are constants, or are for the rules alone
        self.has_aux = has_aux or keeps_aux
        self.keeps_aux = keeps_aux
        self.name: str = name or function.__name__.rstrip("_")
        self.__name__ = self.name
        self.__qualname__ = self.name
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.__wrapped__ = function
        own = parameters_of(function)
        if own.names[:1] != ("xp",):
            msg = f"the first parameter of primitive {self.name!r} must be xp, the backend"
            raise TypeError(msg)
        self.inputs, self.variadic = own.positional[1:], own.variadic
        self.meta, self.defaults = own.keywords, own.defaults
        self.rules: list[Rule] = []
        self.kind: str = "no rule"  # "rule" | "piecewise constant" | "no rule"
        self.reason: str = "no gradient rule has been written for it"
        self.stacked = False  # a hint for vmap: acts on the last axes, whatever axes stand before them
        self.elementwise = False  # a hint for vmap: acts on each element, with broadcasting
        self.blockable = (
            True  # whether it may be carried out block by block: its arrays are all that it reads
        )
        self.array_meta: tuple[str, ...] = ()  # the metadata that are arrays
        # whether metadata say where random words stand, which are others at each call
        self.draws = "seed" in self.meta and "step" in self.meta
        self.selects: str | None = None  # the metadata with which ``x[it]`` is the result
        self.plans: dict[tuple[bool, ...], RulePlan] = {}
        self.implementations: dict[type, Implementation] = {}
        self.specializations: dict[
            Any, Specialization
        ] = {}  # by the inputs that need a gradient and the metadata
        # whether it is operations that are called where machine code does not take the arrays, or a gradient; else its rules take over
        self.made_of_operations = False
        # whether its gradients have the same bits however that of the result lies in memory
        self.any_layout = False
        self.max_bytes = MAX_BYTES  # of the arrays for which that is worth it
        self.compilable = True  # False once it has turned out that it cannot become a built-in function
        self.kernels: dict[str, Kernel] = {}
        if self.name in PRIMITIVES:
            msg = f"there is a primitive {self.name!r} already, in {PRIMITIVES[self.name].__module__}"
            raise ValueError(msg)
        PRIMITIVES[self.name] = self
        caches.register(self)

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
            variadic = name == self.variadic
            self.add_rule(Rule(rule, (name,), joint=variadic, single=name if variadic else None))
        return self

    def vjps(self, *inputs: str) -> Callable[[_F], _F]:
        """Decorator: one rule that returns a tuple with the gradients of several inputs, which share work.

        It may take `need`, a tuple of flags: gradients that are not needed may be None.
        """

        def define(rule: _F) -> _F:
            self.add_rule(Rule(rule, inputs, joint=True))
            return rule

        return define

    def add_rule(self, rule: Rule) -> None:
        """Take a rule, after checking that it names what there is."""
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
        self.plans.clear()

    def piecewise_constant(self) -> Self:
        """The derivative is zero wherever it exists (floor, sign, comparisons)."""
        self.kind = "piecewise constant"
        return self

    def no_gradient(self, reason: str) -> Self:
        """A gradient asked through this primitive raises, with the reason."""
        self.kind, self.reason = "no rule", reason
        return self

    def kernel(self, backend: str, *, vjp: bool = False) -> Callable[[_F], _F]:
        """Decorator: replace the body on one backend.

        The kernel has the signature of the body. It may return ``NotImplemented``, and the reference runs. With
        `vjp=True` it takes a keyword `need` too and, where that is not None, returns ``(y, pullback)``: ``pullback(g)`` gives
        the tuple of all inputs' gradients (None where not needed). A kernel serves the first order; higher orders run
        the rules of the reference. In a compiled program a kernel stands as what it calls.
        """

        def define(function: _F) -> _F:
            self.kernels[backend] = Kernel(function, vjp=vjp)
            self.implementations.clear()
            caches.invalidate_all()
            return function

        return define

    def positions(self, n: int) -> dict[str, tuple[int, ...]]:
        """Where each array input stands among `n` positional arguments."""
        at: dict[str, tuple[int, ...]] = {name: (i,) for i, name in enumerate(self.inputs) if i < n}
        if self.variadic is not None:
            at[self.variadic] = tuple(range(len(self.inputs), n))
        return at

    # ----- calling -----

    bind = bind

    def __call__(self, *args: _P.args, **meta: _P.kwargs) -> Tensor:
        if INTERCEPT and INTERCEPT.own:
            return INTERCEPT.own[-1](self, args, meta)  # type: ignore[no-any-return]
        return self.bind(args, meta)  # type: ignore[no-any-return] # of plain arrays a plain array, of several outputs a tuple

    def compute(
        self,
        data: list[Any],
        need: tuple[bool, ...] | None,
        meta: dict[str, Any],
        impl: Implementation | None = None,
    ) -> tuple[Any, Any]:
        """The result for plain arrays, and the kernel's own backward pass where inputs `need` a gradient and it has one."""
        if impl is None:
            kind = type(data[0])
            impl = self.implementations.get(kind) or choose_implementation(self, kind, tuple(data))
        xp = impl.xp
        if xp.switches_devices:
            xp.follow(next(x for x in data if isinstance(x, xp.array_types)))
        try:
            if need is not None and impl.with_pullback is not None:
                y = impl.with_pullback(xp, *data, need=need, **meta)
                if y is not NotImplemented:
                    return y  # type: ignore[no-any-return]
            else:
                y = impl.forward(xp, *data, **meta)
            if y is NotImplemented:
                y = self.reference(xp, *data, **meta)
            if xp.narrows:
                y = self.narrowed(xp, y, data, meta)
            return (self.result(y) if need is None else y), None
        except Exception as error:
            error.add_note(f"in anynet {describe(self, data, meta)}")
            if (note := xp.note_on(error)) is not None:
                error.add_note(note)
            raise

    def narrowed(self, xp: Backend, y: Any, data: list[Any], meta: dict[str, Any]) -> Any:
        """The result, or each of several, in the dtype that its operands have together (`Backend.promoted`); what is auxiliary stays."""
        if isinstance(y, tuple):
            most = 1 if self.has_aux else len(y)
            return (*[self.narrowed(xp, v, data, meta) for v in y[:most]], *y[most:])
        found = getattr(y, "dtype", None)
        kind = None if found is None else xp.promoted(found, data, meta)
        return y if kind is found else xp.astype(y, kind)

    def result(self, y: Any) -> Any:
        """What a call gives of what the body does: without what is for the rules alone."""
        return y[0] if self.keeps_aux and isinstance(y, tuple) else y

    def traceable(
        self, data: list[Any], need: tuple[bool, ...] | None, meta: dict[str, Any]
    ) -> Callable[..., tuple[Any, Any]] | None:
        """`compute` for arrays like these, if it consists of array operations alone; None where a kernel does it that does not."""
        xp = backend_of(data[0])
        own = self.kernels.get(xp.name)
        for known in (xp.kernels.get(self.name), own):
            for kernel in () if known is None else known.alternatives():
                run = functools.partial(_run_kernel, self, kernel)
                if run(data, need, meta)[0] is not NotImplemented:
                    return run if known is own or kernel.traceable else None
        return functools.partial(_run_kernel, self, Kernel(self.reference))

    def plan_of(self, mask: tuple[bool, ...]) -> RulePlan:
        """The rules that give the gradients of these inputs."""
        plan = self.plans.get(mask)
        if plan is None:
            plan = self.plans[mask] = RulePlan(self, mask)
        return plan


class ViewPrimitive(Primitive[_P]):
    """A primitive of one array that mostly gives a view of it: it has no kernels, and is never compiled by itself."""

    bind = bind_view


def _run_kernel(
    prim: Primitive[...],
    kernel: Kernel,
    data: list[Any],
    need: tuple[bool, ...] | None,
    meta: dict[str, Any],
) -> tuple[Any, Any]:
    """What a kernel gives, and its backward pass, if it has one."""
    xp = backend_of(data[0])
    options = {"need": need, **meta} if kernel.vjp else meta
    y = kernel.forward(xp, *data, **options)
    if need is None:
        return prim.result(y), None
    return y if kernel.vjp and y is not NotImplemented else (y, None)


@overload
def primitive(function: Callable[Concatenate[Backend, _P], Any], /) -> Primitive[_P]: ...
@overload
def primitive(
    *, name: str | None = None, has_aux: bool = False, keeps_aux: bool = False, view: bool = False
) -> Callable[[Callable[Concatenate[Backend, _P], Any]], Primitive[_P]]: ...
def primitive(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    has_aux: bool = False,
    keeps_aux: bool = False,
    view: bool = False,
) -> Any:
    """Make a function of ``(xp, *arrays, **metadata)`` a `Primitive`; the name is the function's.

    With `has_aux` the function returns a tuple of its result and auxiliary arrays, which are constants where the result is
    differentiated. With `keeps_aux` these are for its rules alone: a call gives the result, and without a gradient a kernel gives
    nothing else. With `view` it is a `ViewPrimitive`.
    """
    if function is not None:
        return Primitive(function)
    kind = ViewPrimitive if view else Primitive
    return lambda f: kind(f, name, has_aux=has_aux, keeps_aux=keeps_aux)


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
        keywords = {m: m for m in shared}
        if "shape" in there.meta:
            keywords["shape"] = f"{name}_shape"
        here.add_rule(Rule(there, (name,), keywords=keywords))


after_fork(caches.invalidate_all)  # they may hold calls that rely on threads which the fork does not have


def kernels_on() -> bool:
    """Whether backends' kernels are used."""
    return kernel_switch.on


@contextmanager
def use_kernels(on: bool) -> Iterator[None]:
    """Within the block, backends' kernels are used, or only the references (also: ``ANYNET_KERNELS=off``)."""
    before = kernel_switch.on
    _switch_kernels(on)
    try:
        yield
    finally:
        _switch_kernels(before)


def _switch_kernels(on: bool) -> None:
    kernel_switch.on = on
    module_version.bump()
    for prim in PRIMITIVES.values():
        prim.implementations.clear()
