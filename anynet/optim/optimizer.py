"""The base of all optimizers: parameter groups over flat buffers.

The parameters of a group that share a device and a dtype live in one flat array, of which each parameter is a view;
likewise their gradients and each piece of optimizer state. So an update is a handful of array operations on one long
vector, whatever the number of layers, and the gradient buffer is what distributed training sums.

A subclass names its state (`slots`) and writes its update (`update`) once, for a slice of those vectors.
"""

from __future__ import annotations

import copy
import difflib
import functools
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

from anynet.autograd.compiling import on_host
from anynet.autograd.primitive import kernels_on
from anynet.nn.hooks import add_hook
from anynet.tensor import Leaf, Parameter, Tensor, clock, enable_grad, to_plain, wrap
from anynet_backends import Array, Backend, backend_of
from anynet_backends.recorder import COMPILING

__all__ = ["Optimizer"]

Shape = tuple[int, ...]

BLOCK = 16384
"""Numbers updated at a time on the CPU: their temporaries stay in the cache."""


class _Flat:
    """Parameters of one group on one device in one dtype, as one vector; likewise gradients and state."""

    def __init__(
        self, params: list[Parameter], slots: tuple[str, ...], slot_shape: Callable[[str, Shape], Shape]
    ) -> None:
        self.params = params
        data = params[0]._data
        self.xp: Backend = backend_of(data)
        self.device = self.xp.device_of(data)
        self.dtype = data.dtype
        self.offsets = [0]
        for p in params:
            self.offsets.append(self.offsets[-1] + p.size)
        self.values = self._new()
        self.grads = self._new()
        self.state: dict[str, Array] = {}
        self.parts: dict[
            str, list[tuple[int, Shape]]
        ] = {}  # of each slot: where each parameter's lies, and its shape
        for name in slots:
            shapes = [slot_shape(name, p.shape) for p in params]
            ends = list(itertools.accumulate(map(math.prod, shapes)))
            self.parts[name] = list(zip([0, *ends[:-1]], shapes, strict=True))
            self.state[name] = self._new(ends[-1])
        self.steps = [0] * len(params)
        self.kernels: dict[tuple[int, int], Any] = {}  # of slices of the vectors
        self.whole: Any = None  # the kernel of all of them
        self.passes: dict[tuple[int, int], dict[Any, Any]] = {}  # what `elementwise` has made of them
        self.value_views: list[Array] = []
        self.grad_views: list[Array] = []
        for i, p in enumerate(params):
            self.value_views.append(self.view(self.values, i, p.shape))
            self.grad_views.append(self.view(self.grads, i, p.shape))
            self.adopt(i)
        self.places = list(zip(params, self.value_views, self.grad_views, strict=True))

    def _new(self, size: int | None = None) -> Array:
        xp = self.xp
        shape = (self.offsets[-1] if size is None else size,)
        return xp.zeros(shape, dtype=self.dtype, device=xp.native_device(self.device))

    def view(self, flat: Array, i: int, shape: Shape) -> Array:
        return self.xp.reshape(flat[self.offsets[i] : self.offsets[i + 1]], shape, copy=False)

    def part(self, name: str, i: int) -> Array:
        """A parameter's piece of state, a view."""
        begin, shape = self.parts[name][i]
        piece = self.state[name][begin : begin + math.prod(shape)]
        return piece if len(shape) == 1 else self.xp.reshape(piece, shape, copy=False)

    def adopt(self, i: int) -> None:
        """Copy a parameter's value into the vector and make the parameter a view of it; its gradient too."""
        p = self.params[i]
        self.value_views[i][...] = p._data
        p._data = self.value_views[i]
        leaf = p.edge
        if type(leaf) is not Leaf:
            return
        if leaf.grad is not None and leaf.grad.edge is None and leaf.grad._data is not self.grad_views[i]:
            self.grad_views[i][...] = leaf.grad._data
            leaf.grad = wrap(self.grad_views[i])
        leaf.buffer = self.grad_views[i]

    def count(self, first: int, last: int, steps: int) -> None:
        """The parameters of a run have been written and are at this step."""
        now = clock()
        self.steps[first:last] = [steps] * (last - first)
        for p in self.params if last - first == len(self.params) else self.params[first:last]:
            leaf = p.edge
            if leaf is not None:
                leaf.written = now

    def touch(self) -> None:
        """The parameters have been written in place."""
        now = clock()
        for p in self.params:
            if p.edge is not None:
                p.edge.written = now

    def steady(self) -> bool:
        """Whether all is as in most steps: every parameter is its view and its gradient lies in the vector."""
        for p, value, place in self.places:
            leaf = p.edge
            if p._data is not value or type(leaf) is not Leaf:
                return False
            grad = leaf.grad
            if grad is None or grad._data is not place:
                return False
        return True

    def ready(self) -> list[bool]:
        """Which parameters have a gradient; those that were bound to other memory meanwhile are taken back."""
        out = []
        for i, p in enumerate(self.params):
            leaf = p.edge
            if p._data is not self.value_views[i] or (
                type(leaf) is Leaf and leaf.buffer is not self.grad_views[i]
            ):
                self.adopt(i)
            grad = leaf.grad if type(leaf) is Leaf else None
            if grad is None:
                out.append(False)
                continue
            if grad._data is not self.grad_views[i]:
                self.grad_views[i][...] = grad._data
            out.append(True)
        return out

    def level(self) -> bool:
        """Whether all parameters have been updated as often."""
        return self.steps.count(self.steps[0]) == len(self.steps)

    def runs(self, steady: bool) -> list[tuple[int, int, int]]:
        """(first, last, steps so far) of each maximal run of parameters that have gradients and equal step counts."""
        if steady and self.level():
            return [(0, len(self.params), self.steps[0])]
        ready = self.ready()
        out: list[tuple[int, int, int]] = []
        for i, has in enumerate(ready):
            if not has:
                continue
            if out and out[-1][1] == i and out[-1][2] == self.steps[i]:
                out[-1] = (out[-1][0], i + 1, out[-1][2])
            else:
                out.append((i, i + 1, self.steps[i]))
        return out


def _hooked(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step with the hooks of `register_step_pre_hook` and `register_step_post_hook` around it."""

    @functools.wraps(step)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not self._step_pre_hooks and not self._step_post_hooks:
            return step(self, *args, **kwargs)
        for pre in self._step_pre_hooks:
            changed = pre(self, args, kwargs)
            if changed is not None:
                args, kwargs = changed
        out = step(self, *args, **kwargs)
        for post in self._step_post_hooks:
            post(self, args, kwargs)
        return out

    return call


class Optimizer:
    """Updates parameters with their gradients.

    `params`: Parameters, (name, Parameter) pairs, or dicts ``{"params": …, "lr": …}``, one a group, whose other keys
    override the defaults (layer-wise learning rates). The attribute `param_groups` is a list of such dicts; changing a
    number in it takes effect at the next step.

    >>> import anynet as an
    >>> p = an.nn.Parameter(an.asarray([1.0]))
    >>> optimizer = an.optim.SGD([{"params": [p], "lr": 0.5}], lr=0.1)
    >>> an.sum(p * p).backward()
    >>> optimizer.step()
    >>> p.tolist()
    [0.0]
    """

    slots: tuple[str, ...] = ()
    not_negative: tuple[str, ...] = ("lr", "weight_decay", "l1", "eps")
    later: tuple[str, ...] = ()  # options that states saved by earlier versions lack
    shaped = False  # whether `update` gets each parameter by itself, in its own shape
    blocked = False  # whether `update` acts on each number by itself, so that a vector may be cut into blocks
    defaults: dict[str, Any]
    _step_pre_hooks: tuple[Callable[..., Any], ...] = ()
    _step_post_hooks: tuple[Callable[..., Any], ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """In a compiled function a step is a call of Python code between array operations."""
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = on_host(_hooked(cls.__dict__["step"]))  # type: ignore[method-assign]

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self._flats: list[list[_Flat]] = []
        groups: list[Any] = [params] if isinstance(params, Tensor) else list(params)
        if not groups:
            msg = f"{type(self).__name__} got no parameters"
            raise ValueError(msg)
        if isinstance(groups[0], dict):
            ready = [self._checked(g) for g in groups]
        else:
            ready = [self._checked({"params": groups})]
        self._refuse_duplicates(ready)
        for group in ready:
            self._add(group)

    # ----- groups -----

    def check(self, group: dict[str, Any]) -> None:
        """Refuse hyper-parameters that make no sense; subclasses add theirs."""

    def slots_of(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The state that a group with these options needs."""
        return self.slots

    def slot_shape(self, name: str, shape: Shape) -> Shape:
        """The shape of a parameter's piece of state; another than its own only where the optimizer is `shaped`."""
        return shape

    def prepare(self, group: dict[str, Any]) -> None:
        """Called once a step for each group, before its parameters are updated."""

    def _checked(self, group: dict[str, Any]) -> dict[str, Any]:
        unknown = [k for k in group if k not in self.defaults and k != "params"]
        if unknown:
            near = difflib.get_close_matches(unknown[0], self.defaults, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(self.defaults)}"
            msg = f"{type(self).__name__}: unknown option {unknown[0]!r}{hint}"
            raise TypeError(msg)
        if "params" not in group:
            msg = f"{type(self).__name__}: a parameter group is a dict with the key 'params'"
            raise ValueError(msg)
        params = group["params"]
        items = [params] if isinstance(params, Tensor) else list(params)
        items = [p[1] if isinstance(p, tuple) else p for p in items]
        for p in items:
            if not isinstance(p, Tensor) or not p.is_leaf:
                what = "the result of an operation" if isinstance(p, Tensor) else type(p).__name__
                msg = f"{type(self).__name__} optimizes Parameters, got {what}"
                raise TypeError(msg)
            if not p.dtype.is_floating:
                msg = f"{type(self).__name__} optimizes floating-point Parameters, got {p.dtype}"
                raise TypeError(msg)
        full = {**self.defaults, **group, "params": items}
        for name in self.not_negative:
            value = full.get(name, 0.0)
            if not isinstance(value, (int, float)) or not value >= 0.0:
                msg = f"{type(self).__name__}: {name} is a number ≥ 0, got {value!r}"
                raise ValueError(msg)
        self.check(full)
        return full

    def _refuse_duplicates(self, groups: list[dict[str, Any]]) -> None:
        seen = {id(p) for g in self.param_groups for p in g["params"]}
        for group in groups:
            for p in group["params"]:
                if id(p) in seen:
                    msg = f"{type(self).__name__}: a parameter of shape {p.shape} is given twice"
                    raise ValueError(msg)
                seen.add(id(p))

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Optimize more parameters, with options of their own."""
        ready = self._checked(group)
        self._refuse_duplicates([ready])
        self._add(ready)

    def _add(self, group: dict[str, Any]) -> None:
        self.param_groups.append(group)
        self._flats.append(self._pack(group))

    def _pack(self, group: dict[str, Any]) -> list[_Flat]:
        kinds: dict[tuple[str, str], list[Parameter]] = {}
        for p in group["params"]:
            kinds.setdefault((p.device, p.dtype.name), []).append(p)
        flats = [_Flat(params, self.slots_of(group), self.slot_shape) for params in kinds.values()]
        for flat in flats:
            self.begin(flat, group)
        return flats

    def begin(self, flat: Any, group: dict[str, Any]) -> None:
        """Set initial state that is not zero."""

    # ----- the update -----

    def update(
        self, xp: Backend, p: Array, g: Array, state: dict[str, Array], step: int, group: dict[str, Any]
    ) -> None:
        """Change `p` in place, given its gradient `g` (which may be overwritten) and its state (changed in place).

        All are 1-d, of one length, or with `shaped` in the shapes of one parameter; `step` counts the updates of these
        parameters, this one included.
        """
        raise NotImplementedError

    def kernel(self, xp: Backend, p: Array, g: Array, state: dict[str, Array]) -> Any:
        """The same as `update` by a kernel of the backend, which leaves g as it is: a function of the step's number and
        the group, made once for these arrays; or None."""
        return None

    @on_host
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient. `closure`, if given, computes the loss anew and returns it."""
        if self._step_pre_hooks or self._step_post_hooks:
            return _hooked(Optimizer._step)(self, *(() if closure is None else (closure,)))
        return self._step(closure)

    def _step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for index, group in enumerate(self.param_groups):
            flats = self._flats[index]
            steady = True
            for flat in flats:
                steady = steady and flat.steady()
            if not steady and any(self._moved(f) for f in flats):
                flats = self._flats[index] = self._repack(group, flats)
            self.prepare(group)
            plain = not (self.shaped or group.get("maximize") or group.get("l1")) and kernels_on()
            for flat in flats:
                if steady and plain and flat.whole is not None and flat.level():  # as in most steps
                    steps = flat.steps[0] + 1
                    flat.whole(steps, group)
                    flat.count(0, len(flat.steps), steps)
                    continue
                for first, last, steps in flat.runs(steady):
                    begin, end = flat.offsets[first], flat.offsets[last]
                    kernel = self._kernel(flat, begin, end) if plain else None
                    if self.shaped:
                        for i in range(first, last):
                            self._update_shaped(flat, i, steps + 1, group)
                    elif kernel is not None:
                        kernel(steps + 1, group)
                    else:
                        self._update(flat, begin, end, steps + 1, group)
                    flat.count(first, last, steps + 1)
        return loss

    def _kernel(self, flat: _Flat, a: int, b: int) -> Any:
        try:
            return flat.kernels[a, b]
        except KeyError:
            state = {name: s[a:b] for name, s in flat.state.items()}
            made = flat.kernels[a, b] = self.kernel(flat.xp, flat.values[a:b], flat.grads[a:b], state)
            if b - a == flat.offsets[-1]:
                flat.whole = made
            return made

    def _update(self, flat: _Flat, begin: int, end: int, step: int, group: dict[str, Any]) -> None:
        """One run of the vectors: in one pass over memory where the backend can, else on the CPU in blocks."""

        def function(xp: Any, p: Array, g: Array, *state: Array) -> None:
            g = self._gradient(xp, p, g, group)
            self.update(xp, p, g, dict(zip(flat.state, state, strict=True)), step, group)

        def cut(a: int, b: int) -> tuple[Array, ...]:
            return (flat.values[a:b], flat.grads[a:b], *[s[a:b] for s in flat.state.values()])

        run = flat.xp.elementwise if self.blocked and kernels_on() else None
        if run is not None and run(function, cut(begin, end), (1,), flat.passes.setdefault((begin, end), {})):
            return
        width = BLOCK if self.blocked and flat.xp.name == "numpy" else end - begin
        for a in range(begin, end, max(width, 1)):
            function(flat.xp, *cut(a, min(a + width, end)))

    def _update_shaped(self, flat: _Flat, i: int, step: int, group: dict[str, Any]) -> None:
        """One parameter."""
        state = {name: flat.part(name, i) for name in flat.state}
        p = flat.value_views[i]
        self.update(flat.xp, p, self._gradient(flat.xp, p, flat.grad_views[i], group), state, step, group)

    @staticmethod
    def _gradient(xp: Backend, p: Array, g: Array, group: dict[str, Any]) -> Array:
        g = xp.asarray(g, copy=True)
        if group.get("maximize"):
            g = -g
        if group.get("l1"):
            g += group["l1"] * xp.sign(p)
        return g

    @staticmethod
    def _moved(flat: _Flat) -> bool:
        for p, v in zip(flat.params, flat.value_views):  # noqa: B905 - equal by construction
            if p._data is not v and (p.device != flat.device or p._data.dtype != flat.dtype):
                return True
        return False

    def _repack(self, group: dict[str, Any], old: list[_Flat]) -> list[_Flat]:
        """After the parameters have moved to another device or dtype: new vectors there, with the state so far."""
        kept: dict[int, tuple[int, dict[str, Any]]] = {}
        for flat in old:
            for i, p in enumerate(flat.params):
                kept[id(p)] = flat.steps[i], {k: flat.part(k, i) for k in flat.state}
        new = self._pack(group)
        for flat in new:
            for i, p in enumerate(flat.params):
                flat.steps[i], state = kept[id(p)]
                for k, value in state.items():
                    moved = to_plain(value, dtype=p.dtype, device=p.device)
                    flat.part(k, i)[...] = moved
        return new

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients (or, with ``set_to_none=False``, set them to zero)."""
        if set_to_none:
            self._forget()
        else:
            self._set_zero()

    def _forget(self) -> None:
        compiling = COMPILING.own if COMPILING else None
        for flats in self._flats:
            for flat in flats:
                for p in flat.params:
                    leaf = p.edge
                    if leaf is not None:
                        leaf.grad = None
                        if compiling:
                            compiling[-1].forgotten.add(id(leaf))

    @on_host
    def _set_zero(self) -> None:
        for flats in self._flats:
            for flat in flats:
                for i, p in enumerate(flat.params):
                    if p.edge is not None and p.edge.grad is not None:
                        flat.grad_views[i][...] = 0.0
                        p.edge.grad = wrap(flat.grad_views[i])

    # ----- hooks -----

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> Callable[[], None]:
        """Call ``hook(optimizer, args, kwargs)`` before each step; what it returns (not None), a pair, replaces args and kwargs.
        Returns a function that removes the hook.
        """
        return add_hook(self, "_step_pre_hooks", hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> Callable[[], None]:
        """Call ``hook(optimizer, args, kwargs)`` after each step. Returns a function that removes the hook."""
        return add_hook(self, "_step_post_hooks", hook)

    # ----- state -----

    def __deepcopy__(self, memo: dict[int, Any]) -> Optimizer:
        """A copy with parameters of its own, in vectors of its own."""
        twin: Optimizer = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__.update({k: copy.deepcopy(v, memo) for k, v in self.__dict__.items() if k != "_flats"})
        twin._flats = [twin._pack(group) for group in twin.param_groups]
        for flats, own in zip(self._flats, twin._flats, strict=True):
            for old, new in zip(flats, own, strict=True):
                new.steps[:] = old.steps
                for name, values in old.state.items():
                    new.state[name][...] = values
        return twin

    def state_dict(self) -> dict[str, Any]:
        """The state of each parameter by its number, and the groups: data only (arrays are copies)."""
        state: dict[int, dict[str, Any]] = {}
        groups = []
        number = 0
        for group, flats in zip(self.param_groups, self._flats, strict=True):
            where = {id(p): (flat, i) for flat in flats for i, p in enumerate(flat.params)}
            ids = []
            for p in group["params"]:
                flat, i = where[id(p)]
                if flat.steps[i]:
                    entry: dict[str, Any] = {"step": flat.steps[i]}
                    for name in flat.state:
                        entry[name] = wrap(flat.xp.asarray(flat.part(name, i), copy=True))
                    state[number] = entry
                ids.append(number)
                number += 1
            groups.append({**{k: v for k, v in group.items() if k != "params"}, "params": ids})
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave; everything is checked before anything changes."""
        try:
            groups, entries = state["param_groups"], {int(k): v for k, v in state["state"].items()}
        except (KeyError, TypeError, ValueError, AttributeError):
            msg = f"{type(self).__name__}: not an optimizer's state: it has the keys state and param_groups"
            raise ValueError(msg) from None
        sizes, own = [len(g["params"]) for g in groups], [len(g["params"]) for g in self.param_groups]
        if sizes != own:
            msg = (
                f"{type(self).__name__}: the state has groups of {sizes} parameters, this optimizer of {own}"
            )
            raise ValueError(msg)
        for group in groups:
            if missing := [k for k in self.defaults if k not in group and k not in self.later]:
                msg = (
                    f"{type(self).__name__}: the state lacks {', '.join(missing)}: it is another optimizer's"
                )
                raise ValueError(msg)
            self.check(group)
        params = [p for g in self.param_groups for p in g["params"]]
        numbers = [n for g in groups for n in g["params"]]
        for n, p in zip(numbers, params, strict=True):
            for name, value in entries.get(n, {}).items():
                expected = () if name == "step" else self.slot_shape(name, p.shape)
                if name != "step" and tuple(value.shape) != expected:
                    msg = f"{type(self).__name__}: {name} of parameter {n} has shape {tuple(value.shape)}, expected {expected}"
                    raise ValueError(msg)
        number = iter(numbers)
        for index, (group, new) in enumerate(zip(self.param_groups, groups, strict=True)):
            group.update({k: v for k, v in new.items() if k != "params"})
            flats = self._flats[index] = self._pack(group)
            where = {id(p): (flat, i) for flat in flats for i, p in enumerate(flat.params)}
            for p in group["params"]:
                entry = entries.get(next(number), {})
                flat, i = where[id(p)]
                flat.steps[i] = int(entry.get("step", 0))
                for name in flat.state:
                    if name in entry:
                        value = to_plain(entry[name], dtype=p.dtype, device=p.device)
                        flat.part(name, i)[...] = value

    def __repr__(self) -> str:
        lines = []
        for i, group in enumerate(self.param_groups):
            count = sum(math.prod(p.shape) for p in group["params"])
            options = ", ".join(f"{k}={v}" for k, v in group.items() if k != "params")
            lines.append(f"  group {i}: {len(group['params'])} parameters ({count:,} numbers), {options}")
        return "\n".join([f"{type(self).__name__}(", *lines, ")"])


def between(name: str, option: str, value: float, low: float, high: float) -> None:
    """Refuse a value outside [low, high)."""
    if not low <= value < high:
        msg = f"{name}: {option} is in [{low}, {high}), got {value!r}"
        raise ValueError(msg)
