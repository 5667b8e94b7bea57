"""The base of all optimizers: parameter groups over flat buffers.

The parameters of a group that share a device and a dtype live in one flat array, of which each parameter is a view;
likewise their gradients and each piece of optimizer state. So an update is a handful of array operations on one long
vector for any number of layers, and the gradient buffer is what distributed training sums.

A subclass names its state (`slots`) and writes its update (`update`) once, for a slice of those vectors.

The groups are dicts that check what is written into them (`anynet.optim.groups`). What depends on options, such as which
state there is, is updated at the next step, for all groups before any parameter changes.

Parameters of 16 bits are updated in float32, with state in float32: in their own type ε = 1e-8 and squares of small gradients
would be 0.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, NoReturn

from anynet.autograd.graph import RemovableHandle
from anynet.autograd.jit.host_callback import host_callback
from anynet.autograd.primitive import kernels_on
from anynet.nn.hooks import add_hook
from anynet.optim.flat_group import FlatGroup, Shape
from anynet.optim.fused_update import apply, update_in_place, update_rows
from anynet.optim.groups import Kind, ParamGroup, Params, ParamsLike, Rules, listed, members, plain, waiting
from anynet.optim.state_dict import read_entry, read_groups, read_options
from anynet.sparse_rows import SparseRows, numbers_of
from anynet.tensor import Leaf, Parameter, Tensor, enable_grad, frozen_leaf, wrap
from anynet_backends import Array, Backend, backend_of
from anynet_backends.jit.errors import CompileError, user_line
from anynet_backends.jit.tracer import CAPTURING, COMPILING

__all__ = ["Optimizer", "evaluated", "hooked"]


def evaluated(closure: Callable[[], Any]) -> Any:
    """The loss that a closure computes, with its gradients."""
    with enable_grad():
        return closure()


def hooked(step: Callable[..., Any]) -> Callable[..., Any]:
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


def _layout(params: list[Parameter], by_row: bool) -> list[tuple[list[Parameter], bool]]:
    """Those of one device and dtype together; where gradients are taken `by_row`, each table whose gradients are rows by itself, without
    a vector for gradients."""
    kinds: dict[tuple[Any, ...], list[Parameter]] = {}
    for i, p in enumerate(params):
        table = by_row and type(p.edge) is Leaf and p.edge.table
        kinds.setdefault((p.device, p.dtype.name, *((i,) if table else ())), []).append(p)
    return [(together, len(kind) == 2) for kind, together in kinds.items()]


_RENAMED = {
    "shaped": "per_parameter", "blocked": "elementwise", "later": "new_options", "begin": "init_state", "check": "validate",
}  # fmt: skip
"""Hooks under their former names, which would have no effect; to be removed with version 1."""


class Optimizer:
    """Updates parameters with their gradients.

    `params`: Parameters, (name, Parameter) pairs, or dicts ``{"params": …, "lr": …}``, one a group, whose other keys
    override the defaults (layer-wise learning rates). The attribute `param_groups` is a list of such dicts; an option that is
    changed there takes effect at the next step, as if the optimizer had been made with it, its state as it is then; what does
    not fit is refused. Numbers may be NumPy's; a Tensor as learning rate is read at each step.

    >>> import anynet as an
    >>> p = an.nn.Parameter(an.asarray([1.0]))
    >>> optimizer = an.optim.SGD([{"params": [p], "lr": 0.5}], lr=0.1)
    >>> an.sum(p * p).backward()
    >>> optimizer.step()
    >>> p.tolist()
    [0.0]

    A subclass hands its options to ``super().__init__(params, defaults)``, names its state in `slots`, and changes p in place. Where
    it does so number by number, it defines `coefficients`, the numbers of a step, and `elementwise_update`, what they do to the
    arrays: on the CPU that becomes one compiled loop. Else it defines `update`, and may set `elementwise` (each number by itself, so
    that vectors may be cut into blocks) or `per_parameter` (parameters one by one, in their shapes). It may say in `kinds` what its
    options may be, and define `validate`, `init_state`, `slots_of`, `slot_shape` and `prepare`. `anynet.testing.check_optimizer`
    checks the result.

    >>> class SignDescent(an.optim.Optimizer):
    ...     def __init__(self, params, lr=0.1):
    ...         super().__init__(params, {"lr": lr})
    ...
    ...     def coefficients(self, step, group):
    ...         return {"lr": group["lr"]}
    ...
    ...     @staticmethod
    ...     def elementwise_update(xp, p, g, state, c):
    ...         p -= c["lr"] * xp.sign(g)
    >>> p = an.Parameter([3.0])
    >>> an.sum(p * p).backward()
    >>> SignDescent([p]).step()
    >>> p.tolist()
    [2.9]
    """

    # the names of the state that is an array for each parameter, zero at the beginning
    slots: tuple[str, ...] = ()
    # the names of state that only some options need, with the option that is to be neither 0 nor False
    optional: ClassVar[Mapping[str, str]] = {}
    # state that is one number for each parameter, and its initial value
    numbers: ClassVar[dict[str, float]] = {}
    # state that PyTorch's optimizer has and this one does not need
    foreign: tuple[str, ...] = ()
    # what options may be, where `anynet.optim.groups.KINDS` does not say so
    kinds: ClassVar[dict[str, Kind]] = {}
    # options that are read when the state begins and cannot be changed after that
    settled: tuple[str, ...] = ()
    # options that states saved by earlier versions lack
    new_options: tuple[str, ...] = ()
    # whether `update` gets each parameter by itself, in its own shape
    per_parameter = False
    # whether `update` acts on each number by itself, so that vectors may be cut into blocks
    elementwise = False
    # whether `weight_decay`, where it is not decoupled, is added to the gradient before the update
    decays_gradient: ClassVar[bool] = False
    # whether all gradients are rows of a table, so that there is no vector for them
    sparse_only: ClassVar[bool] = False
    # for the error of gradients that are rows of a table: what takes them
    instead: ClassVar[str] = "SGD, Adagrad and SparseAdam"
    # in a compiled step its `step` is done again at each replay, so that what it changes is no change of the step
    _replayed: ClassVar[bool] = True
    # whether it has an `elementwise_update`, and that is its update
    _has_program: ClassVar[bool] = False
    defaults: dict[str, Any]
    _step_pre_hooks: tuple[Callable[..., Any], ...] = ()
    _step_post_hooks: tuple[Callable[..., Any], ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """In a compiled function a step is a call of Python code between array operations."""
        super().__init_subclass__(**kwargs)
        for old, new in _RENAMED.items():
            if old in cls.__dict__:
                msg = f"{cls.__name__}.{old}: this hook of Optimizer is called {new} now; rename it"
                raise TypeError(msg)
        given = cls.__dict__
        if "kernel" in given:
            msg = f"{cls.__name__}.kernel: this hook of Optimizer is no longer called; write `elementwise_update`, which is compiled"
            raise TypeError(msg)
        if "elementwise_update" in given and not isinstance(given["elementwise_update"], staticmethod):
            msg = f"{cls.__name__}.elementwise_update must be a static method (xp, p, g, state, c): it is traced once for all steps"
            raise TypeError(msg)
        if "update" in given and "decays_gradient" not in given:  # it takes the gradient as it is
            cls.decays_gradient = False
        cls._has_program = (
            cls.update is Optimizer.update
            and cls.elementwise_update is not Optimizer.elementwise_update
            and not cls.per_parameter
        )
        if cls._has_program:
            cls.elementwise = True
        if "step" in cls.__dict__:
            cls.step = host_callback(hooked(cls.__dict__["step"]))  # type: ignore[method-assign]

    def __init__(
        self, params: ParamsLike, defaults: dict[str, Any], hints: Mapping[str, Any] | None = None
    ) -> None:
        if COMPILING and COMPILING.own:
            msg = f"{user_line()}: {type(self).__name__} is made inside a compiled function; make it outside"
            raise CompileError(msg)
        rules = Rules(type(self).__name__, defaults, self.kinds)
        self.defaults = {name: rules.take(name, value) for name, value in defaults.items()}
        self._hints = {name: rules.take(name, value) for name, value in (hints or {}).items()}
        self.param_groups: list[dict[str, Any]] = []
        given = listed(type(self).__name__, params)
        if not given:
            msg = f"{type(self).__name__}: params must hold at least one parameter, got none"
            raise ValueError(msg)
        groups = given if isinstance(given[0], dict) else [{"params": given}]
        self._extend([self._checked(group) for group in groups])

    # ----- groups -----

    def validate(self, group: dict[str, Any]) -> None:
        """Refuse options that do not go together; subclasses add theirs. What each may be by itself stands in `kinds`."""

    def slots_of(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The state that a group with these options needs."""
        return (*self.slots, *(name for name, option in self.optional.items() if plain(group[option])))

    def slot_shape(self, name: str, shape: Shape) -> Shape:
        """The shape of a parameter's piece of state; another than its own only where the optimizer is `per_parameter`."""
        return shape

    def sparse_gradients(self, group: dict[str, Any]) -> str:
        """How a group with these options takes gradients that are rows of a table (`SparseRows`): as "rows", which alone are updated;
        as "arrays" with zeros; or "refused". For "rows" an optimizer has an `elementwise_update`."""
        return "refused"

    def prepare(self, group: dict[str, Any]) -> None:
        """Called once a step for each group, before its parameters are updated."""

    def _rules(self) -> Rules:
        return Rules(type(self).__name__, self.defaults, self.kinds)

    def _checked(self, group: Any) -> ParamGroup:
        """A group of this optimizer, from a dict that may lack options; its vectors are still to be made."""
        owner = type(self).__name__
        if not isinstance(group, dict) or "params" not in group:
            msg = (
                f"{owner}: a parameter group must be a dict with the key 'params', got {type(group).__name__}"
            )
            raise ValueError(msg)
        items, names = members(owner, group["params"])
        rules = self._rules()
        full = {**self.defaults, **self._hints}
        for name, value in group.items():
            if name != "params":
                full[name] = rules.take(name, value)
        if names is not None:
            full["param_names"] = names
        made = ParamGroup({**full, "params": items}, rules)
        self.validate(made)
        return made

    def _refuse_duplicates(self, groups: Iterable[dict[str, Any]]) -> None:
        seen: set[int] = set()
        for group in groups:
            for p in group["params"]:
                if id(p) in seen:
                    what = "a parameter" if waiting(p) else f"a parameter of shape {p.shape}"
                    msg = f"{type(self).__name__}: {what} is given twice"
                    raise ValueError(msg)
                seen.add(id(p))

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Optimize more parameters, with options of their own."""
        self._extend([self._checked(group)])

    def _extend(self, groups: list[ParamGroup]) -> None:
        self._refuse_duplicates([*self.param_groups, *groups])
        self.param_groups.extend(groups)
        for group in groups:
            self._put(group, self._pack(group))

    def _put(self, group: ParamGroup, flats: list[FlatGroup]) -> None:
        """The vectors of a group, and what is derived from its options."""
        group.flats = flats
        group.live = tuple(k for k, v in group.items() if isinstance(v, Tensor))
        changes = {"maximize": "maximize", "l1": "l1"}
        if self.decays_gradient and not group.get("decoupled_weight_decay"):
            changes["l2"] = "weight_decay"
        found = tuple([(n, k) for n, k in changes.items() if isinstance(v := group.get(k), Tensor) or v])
        for flat in flats:
            flat.changes = found
        group.fixed = {name: group[name] for name in self.settled}
        group.changed = any(map(waiting, group["params"]))

    def _settle(self) -> None:
        """Apply what has been written into the groups; everything is checked before anything changes."""
        ready: list[ParamGroup] = []
        for group in self.param_groups:
            mine = type(group) is ParamGroup and group.rules.owner == type(self).__name__
            ready.append(group if mine else self._checked(group))  # type: ignore[arg-type]
        for group in ready:
            if group.changed:
                items, _ = members(type(self).__name__, group["params"])
                dict.__setitem__(group, "params", items)
                self.validate(group)
                group.now()
                self._refuse_settled(group)
        self._refuse_duplicates(ready)
        self.param_groups[:] = ready
        for group in ready:
            if group.changed:
                self._renew(group)

    def _refuse_settled(self, group: ParamGroup) -> None:
        for name, value in group.fixed.items():
            if group[name] != value and any(any(flat.steps) for flat in group.flats):
                msg = (
                    f"{type(self).__name__}: {name} is read when the state begins; it was {value!r} then, and {group[name]!r} "
                    "would have no effect. Set it back, or make another optimizer"
                )
                raise ValueError(msg)

    def _renew(self, group: ParamGroup) -> None:
        """Vectors for the parameters and the state that a group has now, where these are others than before."""
        flats = group.flats
        begun = any(any(flat.steps) for flat in flats)
        has = {name for flat in flats for name in flat.state}
        new = [name for name in self.slots_of(group) if name not in has]
        ready = [p for p in group["params"] if not waiting(p)]
        same = sorted(id(p) for flat in flats for p in flat.params) == sorted(map(id, ready))
        if flats and same and not new and (begun or all(group[k] == v for k, v in group.fixed.items())):
            self._put(group, flats)
        else:
            self._put(group, self._repack(group, flats))

    def _pack(self, group: ParamGroup, more: Iterable[str] = ()) -> list[FlatGroup]:
        """Vectors for a group's parameters; with the state that its options need, and `more`."""
        slots = list(dict.fromkeys([*self.slots_of(group), *more]))
        ready = [p for p in group["params"] if not waiting(p)]
        flats = [
            FlatGroup(params, slots, self.numbers, self.slot_shape, buffered and not self.sparse_only)
            for params, buffered in _layout(ready, self.sparse_gradients(group) == "rows")
        ]
        for flat in flats:
            self.init_state(flat, group)
        return flats

    def init_state(self, flat: FlatGroup, group: dict[str, Any]) -> None:
        """Set initial state that is not zero."""

    def fresh(self, flat: FlatGroup, i: int, name: str) -> None:
        """A piece of optional state of a parameter that has been updated before begins now, at zero."""

    # ----- the update -----

    def update(
        self, xp: Backend, p: Array, g: Array, state: dict[str, Array], step: int, group: dict[str, Any]
    ) -> None:
        """Change `p` in place, given its gradient `g` (which may be overwritten) and its state (changed in place).

        All are 1-d, of one length, or with `per_parameter` in the shapes of one parameter; `step` counts the updates of these
        parameters, this one included. The default is `elementwise_update`.
        """
        self.elementwise_update(xp, p, g, state, self.coefficients(step, group))

    def advance(self, numbers: dict[str, float], step: int, group: dict[str, Any]) -> dict[str, float]:
        """The `numbers` of parameters at this step, given those before it; `update` finds them in the group."""
        return numbers

    def coefficients(self, step: int, group: dict[str, Any]) -> dict[str, Any]:
        """The numbers that `elementwise_update` computes with at this step, by their names. Which names there are may depend on the
        options and the step, and decides what the update does."""
        raise NotImplementedError

    @staticmethod
    def elementwise_update(
        xp: Backend, p: Array, g: Array, state: dict[str, Array], c: dict[str, Any]
    ) -> None:
        """Change `p` and its state in place, each number by itself, given its gradient `g`, which stays as it is, and the
        `coefficients` c. It is traced once and becomes one loop, so it asks for no values: ``if "decay" in c`` may decide,
        ``if c["decay"] > 0`` may not.
        """
        raise NotImplementedError

    @host_callback
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient. `closure`, if given, computes the loss again and returns it."""
        if self._step_pre_hooks or self._step_post_hooks:
            return hooked(Optimizer._step)(self, *(() if closure is None else (closure,)))
        return self._step(closure)

    def _step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None if closure is None else evaluated(closure)
        groups: list[Any] = self.param_groups
        try:
            for group in groups:
                if group.changed:
                    self._settle()
                    break
        except AttributeError:  # a group that was added as an ordinary dict
            self._settle()
        kernels = kernels_on()
        all_unchanged = [all([flat.unchanged() for flat in group.flats]) for group in groups]
        rows = not all(all_unchanged) and self._check_layouts()
        for group, unchanged in zip(groups, all_unchanged, strict=True):
            flats = group.flats
            if not unchanged and any(self._moved(f) for f in flats):
                self._put(group, self._repack(group, flats))
                flats = group.flats
            self.prepare(group)
            options: dict[str, Any] = group.now() if group.live else group
            for flat in flats:
                if flat.xp.switches_devices:
                    flat.xp.follow(flat.values)
                names, program = flat.latest
                steps = flat.steps[0]
                whole = program is not None and unchanged and kernels and not flat.numbers
                if whole and flat.steps.count(steps) == len(flat.steps):
                    c = self.coefficients(steps + 1, options)
                    for name, option in flat.changes:
                        c[name] = options[option]
                    if tuple(c) == names and not self.rows_suffice(c):  # the usual case
                        program(c.values())
                        flat.count(0, len(flat.steps), steps + 1)
                        continue
                by_row = rows and self._has_program and self.sparse_gradients(options) == "rows"
                if by_row:
                    self._update_tables(flat, options)
                for first, last, steps in flat.ranges(unchanged, by_row):
                    numbers = self._advanced(flat, first, options)
                    now = {**options, **numbers} if numbers else options
                    if self._has_program:
                        self._update_program(flat, first, last, self._coefficients(flat, first, now), kernels)
                    else:
                        update = self._next_update(flat, first, now)
                        for p, g, state in self._parts(flat, first, last):
                            update(flat.xp, p, g, state)
                    flat.count(first, last, steps + 1, numbers)
        return loss

    def _advanced(self, flat: FlatGroup, i: int, options: dict[str, Any]) -> dict[str, float]:
        """The `numbers` of a parameter at its next step."""
        if not flat.numbers:
            return {}
        return self.advance({k: v[i] for k, v in flat.numbers.items()}, flat.steps[i] + 1, options)

    def _coefficients(self, flat: FlatGroup, i: int, options: dict[str, Any]) -> dict[str, Any]:
        """The numbers of the next step of the parameters from number i on, with those that change the gradient first."""
        c = self.coefficients(flat.steps[i] + 1, options)
        for name, option in flat.changes:
            c[name] = options[option]
        return c

    def _next_update(self, flat: FlatGroup, i: int, options: dict[str, Any]) -> Callable[..., None]:
        """What the next step does to the parameters from number i on, and their gradients and state, by a backend."""
        if self._has_program:
            own, c = self.elementwise_update, self._coefficients(flat, i, options)
            return lambda xp, p, g, state: apply(own, xp, flat.wide, p, g, state, c)
        step, c = flat.steps[i] + 1, {name: options[option] for name, option in flat.changes}
        if not c and flat.wide is None:  # it may overwrite the gradient that it is given
            return lambda xp, p, g, state: self.update(xp, p, xp.asarray(g, copy=True), state, step, options)

        def update(xp: Any, p: Array, g: Array, state: dict[str, Array], c: dict[str, Any]) -> None:
            self.update(xp, p, g, state, step, options)

        return lambda xp, p, g, state: apply(update, xp, flat.wide, p, g, state, c)

    def _parts(
        self, flat: FlatGroup, first: int, last: int
    ) -> Iterable[tuple[Array, Array, dict[str, Array]]]:
        """What `update` gets of a range: the parameters in their shapes, or vectors, on the CPU in blocks that stay in the cache where
        it is element by element."""
        if self.per_parameter:
            return map(flat.piece, range(first, last))
        return flat.blocks(first, last, flat.xp.block_size if self.elementwise else None)

    def _update_program(
        self, flat: FlatGroup, first: int, last: int, c: dict[str, Any], kernels: bool
    ) -> None:
        """`elementwise_update` of a range; of a table of which few rows have a gradient, of these alone where the others stay."""
        if not self.rows_suffice(c):
            update_in_place(self.elementwise_update, flat, first, last, c, kernels)
            return
        for a, b, rows in flat.by_rows(first, last):
            if rows is None:
                update_in_place(self.elementwise_update, flat, a, b, c, kernels)
            else:
                update_rows(self.elementwise_update, flat, a, rows, flat.grad_views[a][rows], c)

    def _update_tables(self, flat: FlatGroup, options: dict[str, Any]) -> None:
        """`elementwise_update` of the rows that are the gradients of tables."""
        for i, grad in flat.tables():
            numbers = self._advanced(flat, i, options)
            c = self._coefficients(flat, i, {**options, **numbers})
            rows = grad.rows.coalesce()
            if rows.index.shape[0]:
                update_rows(self.elementwise_update, flat, i, rows.index, rows.values, c)
            flat.count(i, i + 1, flat.steps[i] + 1, numbers)

    def _check_layouts(self) -> bool:
        """Whether a gradient is rows of a table; refused, before anything changes, where those, or arrays, are not taken."""
        found = False
        for group in self._groups():
            for p in group["params"]:
                grad = p.edge.grad if not waiting(p) and type(p.edge) is Leaf else None
                if isinstance(grad, SparseRows):
                    found = True
                    if self.sparse_gradients(group) == "refused":
                        self._refuse_gradient(
                            p, f"sparse (rows of a table), which it does not take with these options; {self.instead} do, or give the "
                            "lookup sparse=False",
                        )  # fmt: skip
                elif grad is not None and self.sparse_only:
                    self._refuse_gradient(
                        p, "an array; it takes rows of a table (nn.Embedding(…, sparse=True)) alone. Give the others to another "
                        "optimizer, such as Adam",
                    )  # fmt: skip
        return found

    def _refuse_gradient(self, p: Parameter, why: str) -> NoReturn:
        msg = f"{type(self).__name__}: the gradient of a parameter of shape {tuple(p.shape)} is {why}"
        raise RuntimeError(msg)

    def rows_suffice(self, c: dict[str, Any]) -> bool:
        """Whether `elementwise_update` with these coefficients leaves numbers and their state as they are where the gradient is 0."""
        return False

    @staticmethod
    def _moved(flat: FlatGroup) -> bool:
        for p, v in zip(flat.params, flat.value_views):  # noqa: B905 - equal by construction
            if p._data is not v and (
                p.device != flat.device or p._data.dtype != flat.dtype or p._data.shape != v.shape
            ):
                return True
        return False

    def _repack(self, group: ParamGroup, old: list[FlatGroup]) -> list[FlatGroup]:
        """New vectors, for parameters that have moved to another device or dtype, or for other parameters or state than before,
        with the state so far."""
        kept = {id(p): (flat, i) for flat in old for i, p in enumerate(flat.params)}
        before = {name for flat in old for name in flat.state}
        new = self._pack(group, before)
        for flat in new:
            for i, p in enumerate(flat.params):
                if id(p) not in kept or not kept[id(p)][0].steps[kept[id(p)][1]]:
                    continue
                was, j = kept[id(p)]
                flat.steps[i] = was.steps[j]
                for name in flat.numbers:
                    flat.numbers[name][i] = was.numbers[name][j]
                for name in flat.state:
                    if name in was.state:
                        flat.part(name, i)[...] = flat.moved(was.part(name, j))
                    else:
                        self.fresh(flat, i, name)
        return new

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set the gradients to None (or, with ``set_to_none=False``, set them to zero)."""
        if set_to_none:
            self._clear_gradients()
        else:
            self._set_zero()

    def _clear_gradients(self) -> None:
        compiling = COMPILING.own if COMPILING else None
        capturing = CAPTURING.own if CAPTURING and not compiling else None
        for group in self.param_groups:
            for p in group["params"]:
                leaf = p.edge or frozen_leaf(p)
                if leaf is not None:
                    if compiling:
                        compiling[-1].forgotten[id(leaf)] = p
                    elif capturing:
                        capturing[-1].see(p)
                        capturing[-1].forget(leaf)
                    leaf.grad = None

    @host_callback
    def _set_zero(self) -> None:
        for group in self.param_groups:
            for flat in getattr(group, "flats", ()):
                for i, p in enumerate(flat.params):
                    if p.edge is not None and isinstance(p.edge.grad, SparseRows):
                        p.edge.grad = p.edge.grad.none()
                    elif p.edge is not None and p.edge.grad is not None:
                        flat.lend()
                        flat.grad_views[i][...] = 0.0
                        p.edge.grad = wrap(flat.grad_views[i])
                    elif (kept := frozen_leaf(p)) is not None and kept.grad is not None:
                        kept.grad = wrap(backend_of(p._data).zeros_like(p._data))

    def finite_gradients(self) -> bool:
        """Whether no gradient holds a NaN or an infinity: one pass over the vectors that hold them."""
        if any(getattr(group, "changed", True) for group in self.param_groups):
            self._settle()
        return all(flat.finite() for group in self._groups() for flat in group.flats)

    def _each_finite(self) -> bool:
        """The same by parameter, for optimizers without vectors."""
        grads = [numbers_of(p.grad) for g in self.param_groups for p in g["params"] if p.grad is not None]
        return all(backend_of(g).all_finite(g) for g in grads)

    # ----- hooks -----

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` before each step; what it returns (not None), a pair, replaces args and kwargs.
        ``remove()`` of what is returned removes it.
        """
        return add_hook(self, "_step_pre_hooks", hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` after each step. ``remove()`` of what is returned removes it."""
        return add_hook(self, "_step_post_hooks", hook)

    # ----- state -----

    def __getstate__(self) -> dict[str, Any]:
        """All of it as data, for copies and processes: the groups as dicts, and what `state_dict` holds of each parameter."""
        self._settle()
        state = {k: v for k, v in self.__dict__.items() if k != "param_groups"}
        entries = self._entries(lambda flat, array: array)
        return {**state, "groups": [(dict(g), e) for g, e in zip(self.param_groups, entries, strict=True)]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        groups = state.pop("groups")
        self.__dict__.update(state)
        self.param_groups = []
        for values, entries in groups:
            group = ParamGroup({**values, "params": Params(values["params"])}, self._rules())
            self.param_groups.append(group)
            self._restore(group, entries)

    def __copy__(self) -> Optimizer:
        twin: Optimizer = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def _groups(self) -> list[ParamGroup]:
        return self.param_groups  # type: ignore[return-value]

    def _entries(self, taken: Callable[[FlatGroup, Array], Array]) -> list[list[dict[str, Any]]]:
        """The state of each parameter by group, empty before its first update; `taken` gives an array for a piece of state."""
        found = []
        for group in self._groups():
            where = {id(p): (flat, i) for flat in group.flats for i, p in enumerate(flat.params)}
            entries: list[dict[str, Any]] = []
            for p in group["params"]:
                flat, i = where.get(id(p), (None, 0))
                if flat is None or not flat.steps[i]:
                    entries.append({})
                    continue
                numbers = {name: values[i] for name, values in flat.numbers.items()}
                arrays = {name: wrap(taken(flat, flat.part(name, i))) for name in flat.state}
                entries.append({"step": flat.steps[i], **numbers, **arrays})
            found.append(entries)
        return found

    def state_dict(self) -> dict[str, Any]:
        """The state of each parameter by its number, and the groups: data only (arrays are copies)."""
        self._settle()
        state: dict[int, dict[str, Any]] = {}
        groups = []
        count = itertools.count()
        for group, entries in zip(
            self._groups(), self._entries(lambda flat, a: flat.xp.asarray(a, copy=True)), strict=True
        ):
            ids = [next(count) for _ in entries]
            state.update({n: entry for n, entry in zip(ids, entries, strict=True) if entry})
            groups.append({**{k: v for k, v in group.items() if k != "params"}, "params": ids})
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`; everything is checked before anything changes.

        States are matched by position, as in PyTorch; by name where this optimizer and the state's were made with the same
        ``named_parameters()``.
        """
        self._settle()
        saved, numbers, entries = read_groups(self, state)
        ready: list[tuple[ParamGroup, dict[str, Any], list[dict[str, Any]]]] = []
        for group, new, ids in zip(self._groups(), saved, numbers, strict=True):
            values = read_options(self, group, new)
            parts = [
                read_entry(self, n, entries.get(n, {}), p) for n, p in zip(ids, group["params"], strict=True)
            ]
            ready.append((group, values, parts))
        for group, values, parts in ready:
            dict.update(group, values)
            group.version += 1
            self._restore(group, parts)

    def _restore(self, group: ParamGroup, parts: list[dict[str, Any]]) -> None:
        """Vectors for a group, with the state of its parameters."""
        flats = self._pack(group, dict.fromkeys(k for part in parts for k in part if k in self.optional))
        where = {id(p): (flat, i) for flat in flats for i, p in enumerate(flat.params)}
        for p, part in zip(group["params"], parts, strict=True):
            if part:
                self._fill(*where[id(p)], part, group)
        self._put(group, flats)

    def _fill(self, flat: FlatGroup, i: int, part: dict[str, Any], group: dict[str, Any]) -> None:
        flat.steps[i] = part["step"]
        for name in flat.numbers:
            flat.numbers[name][i] = part[name] if name in part else self.former(name, part["step"], group)
        for name in flat.state:
            if name in part:
                flat.part(name, i)[...] = flat.moved(part[name])
            else:
                self.fresh(flat, i, name)

    def former(self, name: str, step: int, group: dict[str, Any]) -> float:
        """One of the `numbers` at a step, for a state of an earlier version that lacks it."""
        return self.numbers[name]

    def __repr__(self) -> str:
        lines = []
        for i, group in enumerate(self.param_groups):
            count = sum(math.prod(p.shape) for p in group["params"] if not waiting(p))
            options = ", ".join(f"{k}={v}" for k, v in group.items() if k != "params")
            lines.append(f"  group {i}: {len(group['params'])} parameters ({count:,} numbers), {options}")
        return "\n".join([f"{type(self).__name__}(", *lines, ")"])
