"""Parameter groups: dicts of options whose values are checked when they are written.

What an option may be stands in one table (`KINDS`, and `kinds` of an optimizer). Numbers of other libraries (NumPy's scalars,
arrays and Tensors of one element) become numbers of Python, but for a Tensor where a single number is expected: that stays,
and is read at each step, so that it may be changed in place as in PyTorch.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, NoReturn, TypedDict

from anynet._hints import nearest
from anynet.tensor import Tensor

__all__ = [
    "KINDS", "Hints", "Kind", "ParamGroup", "Params", "ParamsLike", "Rules", "choice", "each", "flag", "integer", "listed", "members",
    "optional", "options_of", "plain", "read", "real", "waiting",
]  # fmt: skip


ParamsLike = Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[Mapping[str, Any]]
"""What an optimizer is made with: parameters, pairs (name, parameter), or groups."""


class Hints(TypedDict, total=False):
    """What PyTorch's optimizers take to choose among their implementations: taken, kept in the groups, and without effect,
    since there is one implementation here, which chooses by itself. ``differentiable=True`` is refused."""

    foreach: bool | None
    fused: bool | None
    capturable: bool
    differentiable: bool


def plain(value: Any) -> Any:
    """A number of any library as a number of Python; anything else as it is."""
    if type(value) in (float, int, bool):
        return value
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return value.item() if math.prod(value.shape) == 1 else value
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    return value


class Kind(NamedTuple):
    """What an option may be: `text` completes "must be …"; `take` gives the value as it is kept, or raises ValueError."""

    text: str
    take: Callable[[Any], Any]


def real(low: float = -math.inf, high: float = math.inf, *, below: bool = False, above: bool = False) -> Kind:
    """A finite number in [low, high]; without the end itself with `below` and `above`."""
    if low == -math.inf and high == math.inf:
        text = "a finite number"
    elif high == math.inf:
        text = f"a number {'>' if above else '≥'} {low:g}"
    elif low == -math.inf:
        text = f"a number {'<' if below else '≤'} {high:g}"
    else:
        text = f"in {'(' if above else '['}{low:g}, {high:g}{')' if below else ']'}"

    def take(value: Any) -> Any:
        x = plain(value)
        if type(x) is bool or not isinstance(x, (int, float)) or not math.isfinite(x):
            raise ValueError
        if x < low or x > high or (below and x == high) or (above and x == low):
            raise ValueError
        return value if isinstance(value, Tensor) else x

    return Kind(text, take)


def integer(least: int, most: float = math.inf) -> Kind:
    """An integer from `least` to `most`."""

    def take(value: Any) -> int:
        x = plain(value)
        if type(x) is bool or not isinstance(x, int) or not least <= x <= most:
            raise ValueError
        return x

    return Kind(f"an integer ≥ {least}" if most == math.inf else f"an integer from {least} to {most:g}", take)


def _flag(value: Any) -> bool:
    x = plain(value)
    if x is not True and x is not False and x not in (0, 1):
        raise ValueError
    return bool(x)


flag = Kind("True or False", _flag)


def choice(*names: str | None) -> Kind:
    """One of some names."""

    def take(value: Any) -> Any:
        if not (value is None or isinstance(value, str)) or value not in names:
            raise ValueError
        return value

    return Kind(" or ".join(map(repr, names)), take)


def optional(kind: Kind) -> Kind:
    """None, or what `kind` says."""
    return Kind(f"None or {kind.text}", lambda value: None if value is None else kind.take(value))


class _Part(ValueError):
    """One part of a tuple does not fit."""

    def __init__(self, index: int, kind: Kind, value: Any) -> None:
        self.index, self.kind, self.value = index, kind, value


def each(*kinds: Kind) -> Kind:
    """A tuple, from any sequence."""

    def take(value: Any) -> tuple[Any, ...]:
        if isinstance(value, str) or not hasattr(value, "__len__") or len(value) != len(kinds):
            raise ValueError
        out = []
        for i, (kind, x) in enumerate(zip(kinds, value, strict=True)):
            try:
                out.append(kind.take(plain(x)))
            except ValueError:
                raise _Part(i, kind, x) from None
        return tuple(out)

    return Kind(f"{len(kinds)} numbers", take)


def _false(value: Any) -> bool:
    if plain(value) not in (False, None):
        raise ValueError
    return False


finite = real()
not_negative = real(0)
positive = real(0, above=True)
unit_interval = real(0, 1)
below_one = real(0, 1, below=True)

KINDS: dict[str, Kind] = {
    **dict.fromkeys(
        ("lr", "weight_decay", "l1", "eps", "momentum", "lr_decay", "initial_accumulator_value", "momentum_decay"), not_negative
    ),
    **dict.fromkeys(("maximize", "nesterov", "centered", "amsgrad", "decoupled_weight_decay"), flag),
    "dampening": real(),
    "betas": each(below_one, below_one),
}  # fmt: skip
"""What the options are that several optimizers share."""

_ANY = Kind("anything", plain)
_NOTES: dict[str, Kind] = {
    **dict.fromkeys(
        ("initial_lr", "swa_lr", "max_lr", "min_lr", "base_momentum", "max_momentum", "name", "param_names", "lr_scale"), _ANY
    ),
    **dict.fromkeys(("foreach", "fused", "capturable"), optional(flag)),
    "differentiable": Kind("False: steps are not recorded for backward", _false),
}  # fmt: skip
"""What a group may hold besides its options: notes of schedules and of layer-wise rates, names, PyTorch's hints."""


def refuse(where: str, name: str, kind: Kind, value: Any) -> NoReturn:
    """The error for a value that does not fit."""
    if isinstance(value, Tensor):
        value = value.tolist()
    msg = f"{where}: {name} must be {kind.text}, got {value!r}"
    raise ValueError(msg)


def read(where: str, name: str, kind: Kind, value: Any) -> Any:
    """A value as `kind` keeps it; ValueError that says where it did not fit."""
    try:
        return kind.take(value)
    except _Part as part:
        refuse(where, f"{name}[{part.index}]", part.kind, part.value)
    except (ValueError, TypeError):
        refuse(where, name, kind, value)


class Rules:
    """Which options the groups of an optimizer have, and what they may be."""

    def __init__(self, owner: str, names: Iterable[str], kinds: Mapping[str, Kind]) -> None:
        self.owner, self.names = owner, frozenset(names)
        self.kinds = {**{name: kinds.get(name) or KINDS.get(name, _ANY) for name in self.names}, **{
            name: kind for name, kind in _NOTES.items() if name not in self.names
        }}  # fmt: skip

    def take(self, name: str, value: Any) -> Any:
        """The value as the group keeps it."""
        kind = self.kinds.get(name)
        if kind is None:
            msg = f"{self.owner}: unknown option {name!r}{nearest(name, sorted(self.names))}"
            raise TypeError(msg)
        return read(self.owner, name, kind, value)


class ParamGroup(dict[str, Any]):
    """One group of an optimizer: its options by name, and ``"params"``.

    Writing a value checks it, increments `version`, and marks the group as `changed`: the next step updates what depends on the
    options. Nothing depends on the learning rate, so that does not mark it. A copy is an ordinary dict.
    """

    __slots__ = ("changed", "fixed", "flats", "live", "rules", "version")

    def __init__(self, values: Mapping[str, Any], rules: Rules) -> None:
        super().__init__(values)
        self.rules = rules
        self.version = 0
        self.changed = True
        self.flats: list[Any] = []
        self.live: tuple[str, ...] = ()  # options that are Tensors, read at each step
        self.fixed: dict[str, Any] = {}  # options that cannot change any more, as they were

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "lr" and type(value) is float and 0.0 <= value < math.inf and not self.live:
            super().__setitem__(name, value)
        else:
            super().__setitem__(name, value if name == "params" else self.rules.take(name, value))
            self.changed = True
        self.version += 1

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Write several; all are checked first."""
        new = dict(*args, **kwargs)
        for name, value in new.items():
            if name != "params":
                self.rules.take(name, value)
        for name, value in new.items():
            self[name] = value

    def __ior__(self, other: Any) -> ParamGroup:  # type: ignore[override,misc]
        self.update(other)
        return self

    def setdefault(self, name: str, default: Any = None) -> Any:
        """The value; where there is none, `default` is written."""
        if name not in self:
            self[name] = default
        return self[name]

    def __delitem__(self, name: str) -> None:
        self.pop(name)

    def pop(self, name: str, *default: Any) -> Any:
        """Remove a note, such as a schedule's; options cannot be removed."""
        if name in self.rules.names or name == "params":
            msg = (
                f"{self.rules.owner}: {name} belongs to every parameter group; it can be changed, not removed"
            )
            raise TypeError(msg)
        self.version += 1
        return super().pop(name, *default)

    def popitem(self) -> NoReturn:
        """Refused: options cannot be removed."""
        self.clear()

    def clear(self) -> NoReturn:
        """Refused: options cannot be removed."""
        msg = f"{self.rules.owner}: the options of a parameter group can be changed, not removed"
        raise TypeError(msg)

    def copy(self) -> dict[str, Any]:
        """An ordinary dict."""
        return dict(self)

    __copy__ = copy

    def __reduce_ex__(self, protocol: Any) -> Any:
        return dict, (dict(self),)

    def now(self) -> dict[str, Any]:
        """The options with numbers in the places of Tensors."""
        if not self.live:
            return self
        values = dict(self)
        for name in self.live:
            values[name] = plain(self.rules.take(name, self[name]))
        return values


def options_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an optimizer among the arguments that its ``__init__`` was called with, which are its ``locals()``."""
    return {k: v for k, v in arguments.items() if k not in ("self", "__class__", "params", "hints")}


class Params(list[Any]):
    """The parameters of a group. A change in place would go unseen, so it is refused; another list may be written."""

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        msg = 'the parameters of a group are changed as a whole: group["params"] = [*group["params"], more]'
        raise TypeError(msg)

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse
    append = extend = insert = remove = clear = sort = reverse = pop = _refuse

    def __reduce_ex__(self, protocol: Any) -> Any:
        return list, (list(self),)


def listed(owner: str, params: Any) -> list[Any]:
    """What an optimizer got, as a list: parameters, pairs (name, parameter), or dicts."""
    if isinstance(params, Tensor):
        return [params]
    if isinstance(params, (set, frozenset)):
        msg = f"{owner}: parameters need an order, got a {type(params).__name__}; give a list"
        raise TypeError(msg)
    if isinstance(params, dict):
        msg = f"{owner} optimizes Parameters, got a dict; put it into a list where it is a group, or give its values()"
        raise TypeError(msg)
    try:
        return list(params)
    except TypeError:
        hint = "; give its parameters()" if hasattr(params, "parameters") else ""
        msg = f"{owner} optimizes Parameters, got {type(params).__name__}{hint}"
        raise TypeError(msg) from None


def waiting(p: Any) -> bool:
    """Whether a parameter is a lazy layer's, whose shape is not known yet: its vector is made when it is."""
    return hasattr(type(p), "materialize")


def members(owner: str, params: Any) -> tuple[Params, list[str] | None]:
    """The parameters of a group, and their names where pairs (name, parameter) are given."""
    items = listed(owner, params)
    named = [isinstance(p, tuple) and len(p) == 2 and isinstance(p[0], str) for p in items]
    if any(named) and not all(named):
        msg = f"{owner}: give names with all parameters of a group, or with none"
        raise ValueError(msg)
    names = [p[0] for p in items] if items and all(named) else None
    items = [p[1] for p in items] if names else items
    for p in items:
        if not isinstance(p, Tensor) or not p.is_leaf:
            what = "the result of an operation" if isinstance(p, Tensor) else type(p).__name__
            msg = f"{owner} optimizes Parameters, got {what}"
            raise TypeError(msg)
        if not p.dtype.is_floating:
            msg = f"{owner} optimizes floating-point Parameters, got {p.dtype}"
            raise TypeError(msg)
    return Params(items), names
