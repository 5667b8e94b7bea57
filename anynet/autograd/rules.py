"""Gradient rules: what each keeps of the forward pass, how it is run, and how its gradients are fitted to the inputs.

A rule keeps what it names: for each choice of inputs that require a gradient a `RulePlan` says what is held from the forward
pass, and calls the rules with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from anynet._parameters import parameters_of
from anynet_backends import Array, Backend, backend_of

if TYPE_CHECKING:
    from anynet.autograd.primitive import Primitive

__all__ = ["Rule", "RulePlan", "fit", "plain_cast", "plain_sum_to", "run_rules"]


class Rule:
    """The gradient rule of some inputs: a function of g and of what its parameters name, or, with `keywords`, of g and of
    keywords that stand for these names. A `joint` rule gives a tuple; `single` is the variadic input it is for, if any."""

    __slots__ = ("function", "inputs", "joint", "keywords", "names", "single")

    def __init__(
        self,
        function: Callable[..., Any],
        inputs: tuple[str, ...],
        joint: bool = False,
        single: str | None = None,
        keywords: dict[str, str] | None = None,
    ) -> None:
        self.function = function
        self.inputs = inputs
        self.joint = joint
        self.single = single
        if keywords is None:
            self.names = parameters_of(function).names[1:]
            self.keywords = ("",) * len(self.names)
        else:
            self.names = tuple(keywords.values())
            self.keywords = tuple(f"{keyword}=" for keyword in keywords)


class RulePlan:
    """For one choice of inputs that require a gradient: what to keep, and which rules to run on it.

    Behind what the rules name stand the inputs that are no part of the graph and the metadata, where no rule names them: with these an
    operation can be computed again from the values of its parents (`anynet.explanations`).

    `keep` and the calls of the rules are compiled from source, once for each choice: they run at each recorded call and in
    each backward pass, and take 0.08 µs, where a loop over closures takes 1 µs.
    """

    __slots__ = ("constants", "inputs", "keep", "meta", "narrowed", "output", "rules")

    def __init__(
        self, prim: Primitive[...], mask: tuple[bool, ...], asked: tuple[bool, ...] | None = None
    ) -> None:
        """`asked`: the inputs whose gradients the rules are to give, if not those of all in `mask`; what is kept is the same."""
        asked = mask if asked is None else asked
        self.narrowed: dict[tuple[bool, ...], RulePlan] = {}
        positions = prim.positions(len(mask))
        wanted = {name for name, at in positions.items() if any(mask[i] for i in at)}
        slots: dict[str, str] = {}
        # (slot, input) of the kept inputs: Tensors when differentiated again
        self.inputs: list[tuple[int, int]] = []
        self.output: int | None = None  # the slot of the kept output
        calls: list[tuple[tuple[int, ...], Callable[[Any, Any], Any], bool]] = []
        for rule in prim.rules:
            if not wanted.intersection(rule.inputs):
                continue
            args = ["g"]
            for name, keyword in zip(rule.names, rule.keywords, strict=True):
                if name == "need":
                    flags = tuple(any(asked[i] for i in positions.get(n, ())) for n in rule.inputs)
                    args.append(
                        repr(
                            flags if rule.single is None else tuple(asked[i] for i in positions[rule.single])
                        )
                    )
                    continue
                if name not in slots:
                    slot = len(slots)
                    slots[name] = _extractor(prim, name, positions)
                    if name == "y":
                        self.output = slot
                    elif name in positions:
                        self.inputs.append((slot, -1 if name == prim.variadic else positions[name][0]))
                args.append(f"{keyword}s[{list(slots).index(name)}]")
            targets = tuple(i for n in rule.inputs for i in (positions.get(n) or (-1,)))
            if not any(asked[i] for i in targets if i >= 0):
                continue
            call = eval(f"lambda g, s: rule({', '.join(args)})", {"rule": rule.function})  # noqa: S307
            calls.append((targets, call, rule.joint))
        self.rules = tuple(calls)
        codes = list(slots.values())
        # where the inputs that are no part of the graph are kept, by position; and the metadata, by name or as a whole (None)
        self.constants: dict[int, int] = {}
        self.meta: dict[str | None, int] = {name: i for i, name in enumerate(slots) if name in prim.meta}
        for i, needed in enumerate(mask):
            if not needed:
                code = f"d[{i}]"
                if code not in codes:
                    codes.append(code)
                self.constants[i] = codes.index(code)
        if not all(name in slots for name in prim.meta):
            self.meta[None] = len(codes)
            codes.append("m")
        source = f"lambda y, d, m: ({''.join(code + ', ' for code in codes)})"
        scope = {"shape": _shape, "dtype": _dtype, "defaults": prim.defaults}
        self.keep: Callable[[Any, Any, Any], tuple[Any, ...]] = eval(source, scope)  # noqa: S307

    def narrow(self, prim: Primitive[...], mask: tuple[bool, ...], asked: tuple[bool, ...]) -> RulePlan:
        """The same with the rules of the inputs that are `asked` for alone."""
        plan = self.narrowed.get(asked)
        if plan is None:
            plan = self.narrowed[asked] = RulePlan(prim, mask, asked)
        return plan


def _extractor(prim: Primitive[...], name: str, positions: dict[str, tuple[int, ...]]) -> str:
    """Source of the expression that takes what a rule names from output y, data d and metadata m."""
    if name in ("y", "aux"):
        return name if not prim.has_aux else "y[0]" if name == "y" else "y[1:]"
    if name in prim.meta:
        return f"m[{name!r}] if {name!r} in m else defaults[{name!r}]"
    if name in positions:
        return f"d[{positions[name][0]}]" if name != prim.variadic else f"tuple(d[{len(prim.inputs)}:])"
    base, _, what = name.rpartition("_")
    if base in positions:
        if base == prim.variadic:
            return f"tuple({what}(x) for x in d[{len(prim.inputs)}:])"
        return f"{what}(d[{positions[base][0]}])"
    return "None"  # an optional input that was not given


def _shape(x: Any) -> tuple[int, ...]:
    return tuple(x.shape) if hasattr(x, "shape") else ()


def _dtype(x: Any) -> Any:
    return x.dtype if hasattr(x, "dtype") else type(x)


def run_rules(plan: Any, g: Any, saved: tuple[Any, ...]) -> list[tuple[int, Any]]:
    """The gradients that the rules of a plan give, as (input, gradient), from that of the output and what was kept."""
    out: list[tuple[int, Any]] = []
    for where, rule, joint in plan.rules:
        got = rule(g, saved)
        if joint:
            out.extend((i, gi) for i, gi in zip(where, got, strict=True) if i >= 0)
        else:
            out.append((where[0], got))
    return out


def fit(g: Array, spec: Any) -> Array:
    """Sum a gradient over broadcast axes to the shape of `spec`, and take its dtype."""
    xp = backend_of(g)
    if tuple(g.shape) != tuple(spec.shape):
        g = plain_sum_to(xp, g, tuple(spec.shape))
    return g if g.dtype == spec.dtype else plain_cast(xp, g, spec.dtype)


def plain_sum_to(xp: Backend, g: Array, shape: tuple[int, ...]) -> Array:
    """Sum over the axes along which `shape` was broadcast to the shape of `g`."""
    extra = len(g.shape) - len(shape)
    axes = tuple(range(extra)) + tuple(
        extra + i for i, n in enumerate(shape) if n == 1 and g.shape[extra + i] != 1
    )
    if axes:
        g = xp.sum(g, axis=axes, keepdims=True, dtype=g.dtype)
    return g if tuple(g.shape) == shape else xp.reshape(g, shape)


def plain_cast(xp: Backend, x: Array, dtype: Any) -> Array:
    """Convert to a native dtype; complex to real takes the real part."""
    if xp.isdtype(x.dtype, "complex floating") and not xp.isdtype(dtype, "complex floating"):
        x = xp.real(x)
    return xp.astype(x, dtype)
