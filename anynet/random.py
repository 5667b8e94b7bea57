"""Random numbers as Tensors, the same on every backend and device.

A draw is a function of (seed, stream, step): of `manual_seed`, or of a `Generator`, and of how many draws came before. All are
computed on the host in float64, from the words of a counter-based generator (Philox 4x64-10), and then put where they are wanted;
so the same seed gives the same numbers everywhere. They share their stream with the initial weights of layers.

>>> import anynet as an
>>> an.random.manual_seed(0)
>>> an.random.normal((2, 3)).shape
(2, 3)
>>> roll = an.random.integers(1, 7, 100, generator=an.random.Generator(3))
>>> int(an.min(roll)), int(an.max(roll))
(1, 6)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from anynet import dtypes, streams
from anynet._hints import explain_calls, missing_attribute
from anynet.ops.creation import asarray
from anynet.ops.indexing import take
from anynet.ops.manipulation import reshape
from anynet.ops.shapes import as_shape, broadcast_shapes
from anynet.streams import Generator, fork_rng, get_state, manual_seed, set_state
from anynet.tensor import Tensor, to_plain, unwrap, wrap
from anynet_backends import Array, backend_of, draws, philox, resolve

__all__ = [
    "Generator", "bernoulli", "binomial", "categorical", "choice", "fork_rng", "gamma", "get_state", "integers", "loggamma",
    "manual_seed", "multinomial", "normal", "permutation", "poisson", "set_state", "uniform", "von_mises",
]  # fmt: skip

Shape = int | Sequence[int]


def normal(
    shape: Shape = (),
    *,
    mean: float = 0.0,
    std: float = 1.0,
    dtype: Any = None,
    device: str | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Draws from N(mean, std²), in `dtype` (a floating-point one, the default float unless given) on `device`.

    >>> import anynet as an
    >>> x = an.random.normal(10_000, mean=5.0, std=2.0, generator=an.random.Generator(1))
    >>> abs(float(an.mean(x)) - 5.0) < 0.1 and abs(float(an.std(x)) - 2.0) < 0.1
    True
    """
    mean, std = _number("normal", "mean", mean), _number("normal", "std", std)
    if std < 0:
        msg = f"normal: std must be ≥ 0, got {std}"
        raise ValueError(msg)
    shape, kind = _shape("normal", shape), _float("normal", dtype)
    return _placed(philox.normal(*_next("normal", device, generator), shape, mean, std), kind, device)


def uniform(
    shape: Shape = (),
    *,
    low: float = 0.0,
    high: float = 1.0,
    dtype: Any = None,
    device: str | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Draws, uniform on [low, high), in `dtype` (a floating-point one, the default float unless given) on `device`; `high` itself is not
    drawn, whatever the rounding.

    >>> import anynet as an
    >>> x = an.random.uniform(1000, low=-1.0)
    >>> bool(an.all((x >= -1.0) & (x < 1.0)))
    True
    """
    low, high = _number("uniform", "low", low), _number("uniform", "high", high)
    if low > high:
        msg = f"uniform: low must be ≤ high, got {low} and {high}"
        raise ValueError(msg)
    shape, kind = _shape("uniform", shape), _float("uniform", dtype)
    host = kind.name if kind.name in ("float16", "float32", "float64") else "float32"
    return _placed(draws.uniform(_next("uniform", device, generator), shape, low, high, host), kind, device)


def integers(
    low: int,
    high: int | None = None,
    shape: Shape = (),
    *,
    dtype: Any = dtypes.int64,
    device: str | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Integers from `low` to `high` − 1, all equally likely; with one number, from 0 to it less 1. As NumPy's `Generator.integers` and
    PyTorch's `randint`.

    ValueError where there is none between them, or where `dtype` does not hold them.

    >>> import anynet as an
    >>> an.random.integers(10, 11, (2, 2)).tolist()
    [[10, 10], [10, 10]]
    """
    for name, value in (("low", low), ("high", high)):
        if not (hasattr(value, "__index__") or (name == "high" and value is None)) or isinstance(value, bool):
            msg = f"integers: {name} must be an integer, got {value!r}"
            raise TypeError(msg)
    first, last = (0, int(low)) if high is None else (int(low), int(high))
    kind = dtypes.of(dtype)
    if kind.kind not in ("int", "uint"):
        msg = f"integers: dtype must be one of integers, got {kind}"
        raise TypeError(msg)
    bits = 8 * kind.itemsize
    least, end = (-(1 << bits - 1), 1 << bits - 1) if kind.kind == "int" else (0, 1 << bits)
    if first >= last or first < least or last > end:
        msg = f"integers: low < high must lie in [{least}, {end}], what {kind} holds, got {first} and {last}"
        raise ValueError(msg)
    shape = _shape("integers", shape)
    return _placed(
        draws.integers(_next("integers", device, generator), shape, first, last, kind.name), kind, device
    )


def bernoulli(
    p: Any = 0.5,
    shape: Shape | None = None,
    *,
    device: str | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """True with probability `p`, a number or an array of them; booleans of `shape` (that of p unless given), on the device of p.

    >>> import anynet as an
    >>> an.random.bernoulli(an.asarray([0.0, 1.0, 1.0])).tolist()
    [False, True, True]
    """
    chances, device = _on_host("bernoulli", "p", p, device)
    _expect("bernoulli", "p", "must be in [0, 1]", chances, lambda xp, a: (a >= 0) & (a <= 1))
    wanted = _wide_enough("bernoulli", shape, p=chances)
    return _placed(
        draws.bernoulli(_next("bernoulli", device, generator), wanted, chances), dtypes.bool, device
    )


def gamma(
    concentration: Any,
    shape: Shape | None = None,
    *,
    dtype: Any = None,
    device: str | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Draws from the gamma distribution of rate 1, density x^{a−1} e^{−x} / Γ(a), a the `concentration` > 0, a number or an array.

    What is too small for the dtype becomes its smallest normal number, so that the logarithm stays finite.

    >>> import anynet as an
    >>> x = an.random.gamma(3.0, 10_000, generator=an.random.Generator(1))
    >>> abs(float(an.mean(x)) - 3.0) < 0.1 and abs(float(an.std(x)) - 3.0**0.5) < 0.1
    True
    """
    kind, device, log = _log_gamma("gamma", concentration, shape, dtype, device, generator)
    xp = backend_of(log)
    drawn = xp.exp(xp.minimum(log, xp.full_like(log, math.log(float(xp.finfo(xp.float64).max)))))
    return _placed(
        xp.maximum(drawn, xp.full_like(drawn, _SMALLEST.get(kind.name, _SMALLEST["float32"]))), kind, device
    )


def loggamma(
    concentration: Any,
    shape: Shape | None = None,
    *,
    dtype: Any = None,
    device: str | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """The logarithm of draws from the gamma distribution of rate 1: for small concentrations, whose draws are too small for a float.

    >>> import anynet as an
    >>> bool(an.random.loggamma(1e-3, generator=an.random.Generator(1)) < -100.0)
    True
    """
    kind, device, log = _log_gamma("loggamma", concentration, shape, dtype, device, generator)
    return _placed(log, kind, device)


_SMALLEST = {"float64": 2.0**-1022, "float32": 2.0**-126, "float16": 2.0**-14}


def _log_gamma(
    where: str, concentration: Any, shape: Any, dtype: Any, device: str | None, generator: Generator | None
) -> tuple[dtypes.DType, str | None, Array]:
    kind = _float(where, _dtype_of(concentration) if dtype is None else dtype)
    a, device = _on_host(where, "concentration", concentration, device)
    _expect(where, "concentration", "must be a finite number > 0", a, lambda xp, a: (a > 0) & (a < math.inf))
    wanted = _wide_enough(where, shape, concentration=a)
    return kind, device, draws.log_gamma(_next(where, device, generator), wanted, a)


def poisson(
    rate: Any,
    shape: Shape | None = None,
    *,
    dtype: Any = None,
    device: str | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Draws from Poisson(rate), `rate` ≥ 0 a number or an array: whole numbers in a floating-point dtype, as PyTorch's.

    >>> import anynet as an
    >>> an.random.poisson(an.asarray([0.0, 0.0])).tolist()
    [0.0, 0.0]
    """
    kind = _float("poisson", _dtype_of(rate) if dtype is None else dtype)
    mean, device = _on_host("poisson", "rate", rate, device)
    _expect("poisson", "rate", "must be in [0, 1e18]", mean, lambda xp, a: (a >= 0) & (a <= 1e18))
    wanted = _wide_enough("poisson", shape, rate=mean)
    return _placed(draws.poisson(_next("poisson", device, generator), wanted, mean), kind, device)


def binomial(
    n: Any,
    p: Any,
    shape: Shape | None = None,
    *,
    dtype: Any = None,
    device: str | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """How many of `n` draws, each with probability `p`, say yes; n and p are numbers or arrays that broadcast. Whole numbers in
    a floating-point dtype, as PyTorch's.

    >>> import anynet as an
    >>> an.random.binomial(7, an.asarray([0.0, 1.0])).tolist()
    [0.0, 7.0]
    """
    kind = _float("binomial", _dtype_of(p) if dtype is None else dtype)
    chance, device = _on_host("binomial", "p", p, device)
    count, device = _on_host("binomial", "n", n, device)
    _expect("binomial", "p", "must be in [0, 1]", chance, lambda xp, a: (a >= 0) & (a <= 1))
    _expect(
        "binomial",
        "n",
        "must be an integer ≥ 0",
        count,
        lambda xp, a: (a >= 0) & (a == xp.floor(a)) & (a < 2**63),
    )
    wanted = _wide_enough("binomial", shape, n=count, p=chance)
    return _placed(draws.binomial(_next("binomial", device, generator), wanted, count, chance), kind, device)


def von_mises(
    concentration: Any,
    shape: Shape | None = None,
    *,
    dtype: Any = None,
    device: str | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Angles in [−π, π] from the von Mises distribution around 0, density e^{κ cos x} / (2π I₀(κ)), κ the `concentration` ≥ 0.

    >>> import anynet as an
    >>> bool(an.abs(an.random.von_mises(1e6)) < 0.1)
    True
    """
    kind = _float("von_mises", _dtype_of(concentration) if dtype is None else dtype)
    k, device = _on_host("von_mises", "concentration", concentration, device)
    _expect(
        "von_mises",
        "concentration",
        "must be a finite number ≥ 0",
        k,
        lambda xp, a: (a >= 0) & (a < math.inf),
    )
    wanted = _wide_enough("von_mises", shape, concentration=k)
    return _placed(draws.von_mises(_next("von_mises", device, generator), wanted, k), kind, device)


def permutation(
    x: Any, *, axis: int = 0, device: str | None = None, generator: Generator | None = None
) -> Tensor:
    """The integers 0 … x − 1 in random order; of an array, what lies along `axis`, in random order.

    All orders are equally likely, as far as there are so many seeds. Gradients flow through the elements of a Tensor.

    >>> import anynet as an
    >>> sorted(an.random.permutation(4).tolist())
    [0, 1, 2, 3]
    """
    if _is_integer(x):
        if x < 0:
            msg = f"permutation: a number of elements must be ≥ 0, got {x}"
            raise ValueError(msg)
        return _placed(
            philox.permutation(*_next("permutation", device, generator), int(x)), dtypes.int64, device
        )
    array = asarray(x, device=device)
    n = _length("permutation", array, axis)
    order = philox.permutation(*_next("permutation", array.device, generator), n)
    return take(array, _placed(order, dtypes.int64, array.device), axis=axis)


def choice(
    a: Any,
    shape: Shape = (),
    *,
    replace: bool = True,
    p: Any = None,
    axis: int = 0,
    device: str | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Elements of `a` along `axis` at random, or integers of 0 … a − 1; as NumPy's and JAX's `choice`.

    Parameters:
      shape: how many, in the place of `axis`.
      replace: whether one may come several times.
      p: how likely each is, numbers ≥ 0 (their shares count; they need not sum to 1); all equally unless given.

    >>> import anynet as an
    >>> an.random.choice(3, 2, p=[0.0, 0.0, 1.0]).tolist()
    [2, 2]
    >>> sorted(an.random.choice(an.asarray([5.0, 6.0]), 2, replace=False).tolist())
    [5.0, 6.0]
    """
    array = None if _is_integer(a) else asarray(a, device=device)
    n = int(a) if array is None else _length("choice", array, axis)
    shape = _shape("choice", shape)
    count = math.prod(shape)
    if n < 1 and count:
        msg = f"choice: a must have elements, got {n}"
        raise ValueError(msg)
    if not replace and count > n:
        msg = f"choice: {count} elements without replacement must be at most {n}, those there are; or replace=True"
        raise ValueError(msg)
    where = device if array is None else array.device
    if p is not None:
        weights, _ = _weights("choice", "p", p, count, replace)
        if tuple(weights.shape) != (n,):
            msg = f"choice: p must have shape ({n},), one number an element, got {tuple(weights.shape)}"
            raise ValueError(msg)
        at = _next("choice", where, generator)
        index = (draws.by_weight if replace else draws.by_weight_once)(at, weights, count)
    elif replace:
        index = draws.integers(_next("choice", where, generator), (count,), 0, max(n, 1), "int64")
    else:
        index = draws.below(_next("choice", where, generator), n, count)
    found = _placed(index.reshape(shape if array is None else (count,)), dtypes.int64, where)
    if array is None:
        return found
    taken, first = take(array, found, axis=axis), axis % array.ndim
    return reshape(taken, (*array.shape[:first], *shape, *array.shape[first + 1 :]))


def multinomial(
    weights: Any, num_samples: int = 1, replacement: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Indices along the last axis of `weights` (…, n), each with the probability of its share: (…, num_samples), int64, as PyTorch's.

    Weights are numbers ≥ 0 that need not sum to 1. Without `replacement` each index comes once, drawn by the weights that are left.
    (NumPy's function of this name counts how often each came.)

    ValueError for weights that are negative, not finite or all 0, and for more samples than there are weights above 0 without
    replacement.

    >>> import anynet as an
    >>> an.random.multinomial(an.asarray([0.0, 3.0, 0.0]), 2, replacement=True).tolist()
    [1, 1]
    """
    if not _is_integer(num_samples) or num_samples < 1:
        msg = f"multinomial: num_samples must be an integer ≥ 1, got {num_samples!r}"
        raise ValueError(msg)
    checked, device = _weights("multinomial", "weights", weights, num_samples, replacement)
    at = _next("multinomial", device, generator)
    index = (draws.by_weight if replacement else draws.by_weight_once)(at, checked, num_samples)
    return _placed(index, dtypes.int64, device)


def categorical(
    logits: Any,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    axis: int = -1,
    generator: Generator | None = None,
) -> Tensor:
    """An index along `axis` for each row of scores, with probability softmax(logits / temperature): int64, in the shape of the
    logits without that axis, on their device.

    Parameters:
      temperature: below 1 the likely ones become likelier; 0 takes the largest (of equal ones the first).
      top_k: only the k largest; of equal ones the first.
      top_p: only the smallest set of largest ones whose probability (after `top_k`) reaches p (Holtzman et al. 2020); at least one.

    A score of −∞ is never drawn. ValueError for rows that are −∞ altogether, for NaN and +∞, and for options out of range.

    >>> import anynet as an
    >>> an.random.categorical(an.asarray([[0.0, 9.0, 1.0], [2.0, 1.0, 2.0]]), temperature=0).tolist()
    [1, 0]
    """
    temperature = _number("categorical", "temperature", temperature)
    if temperature < 0:
        msg = f"categorical: temperature must be ≥ 0, got {temperature}"
        raise ValueError(msg)
    if top_k is not None and (not _is_integer(top_k) or top_k < 1):
        msg = f"categorical: top_k must be an integer ≥ 1 or None, got {top_k!r}"
        raise ValueError(msg)
    if top_p is not None and not 0 < _number("categorical", "top_p", top_p) <= 1:
        msg = f"categorical: top_p must be in (0, 1] or None, got {top_p!r}"
        raise ValueError(msg)
    x, device = _on_host("categorical", "logits", logits, None)
    if not x.shape or not _is_integer(axis) or not -len(x.shape) <= axis < len(x.shape) or not x.shape[axis]:
        msg = f"categorical: logits of shape {tuple(x.shape)} have no scores along axis {axis}"
        raise ValueError(msg)
    xp = backend_of(x)
    x = xp.moveaxis(x, axis, -1)
    _expect("categorical", "logits", "must be numbers or -inf", x, lambda xp, a: a < math.inf)
    if bool(xp.any(xp.max(x, axis=-1) == -math.inf)):
        msg = "categorical: a row of logits must have a score above -inf, got one that is -inf altogether"
        raise ValueError(msg)
    if temperature == 0:
        return _placed(xp.argmax(x, axis=-1), dtypes.int64, device)
    weights = draws.log_weights(x, temperature, top_k, None if top_p == 1 else top_p)
    return _placed(
        draws.by_weight(_next("categorical", device, generator), weights, 1)[..., 0], dtypes.int64, device
    )


# ----- what is asked for, checked -----


def _next(where: str, device: str | None, generator: Generator | None) -> tuple[int, int, int]:
    """The address of the next draw, once nothing can be refused any more."""
    resolve(device)
    if generator is not None and not isinstance(generator, Generator):
        msg = f"{where}: generator must be an anynet.random.Generator, got {type(generator).__name__}"
        raise TypeError(msg)
    return streams.next_draw(generator)


def _placed(drawn: Any, kind: dtypes.DType, device: str | None) -> Tensor:
    """What was drawn on the host, in a dtype on a device."""
    xp, where = resolve(device)
    mine = drawn.base is None and type(drawn) is xp.array_type  # nobody else's: there is nothing to copy
    there = drawn if mine else xp.from_host(drawn, where)
    native = dtypes.native(xp, kind)
    return wrap(there if there.dtype == native else xp.astype(there, native))


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_NUMBERS: Final = frozenset((int, float))


def _number(where: str, name: str, value: Any) -> float:
    if type(value) in _NUMBERS and math.isfinite(value):
        return float(value)
    if getattr(value, "shape", None):
        hint = f"; for arrays scale the draws: mean + std * {where}(shape)" if where == "normal" else ""
        msg = f"{where}: {name} must be a number, got an array of shape {tuple(value.shape)}{hint}"
        raise TypeError(msg)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or isinstance(value, (bool, str)):
        msg = f"{where}: {name} must be a finite number, got {value!r}"
        raise ValueError(msg)
    return number


def _shape(where: str, shape: Any) -> tuple[int, ...]:
    try:
        lengths = as_shape(shape)
    except (TypeError, ValueError):
        lengths = (-1,)
    if lengths and min(lengths) < 0:
        msg = f"{where}: shape must be an integer ≥ 0 or a sequence of them, got {shape!r}"
        raise ValueError(msg)
    return lengths


def _float(where: str, dtype: Any) -> dtypes.DType:
    kind = dtypes.of(dtypes.default_float() if dtype is None else dtype)
    if kind.kind != "real":
        msg = f"{where}: dtype must be a real floating-point one, got {kind}"
        raise TypeError(msg)
    return kind


def _dtype_of(value: Any) -> Any:
    """The floating-point dtype of an array of parameters; None, the default float, of others."""
    found = getattr(unwrap(value), "dtype", None)
    return found if found is not None and dtypes.of(found).kind == "real" else None


def _wide_enough(where: str, shape: Any, **parameters: Array) -> tuple[int, ...]:
    """The shape that is asked for, or that of the parameters, which broadcast to it."""
    own, *others = [tuple(p.shape) for p in parameters.values()]
    own = broadcast_shapes(own, *others) if others else own
    wanted = own if shape is None else _shape(where, shape)
    if wanted != own and (
        len(own) > len(wanted)
        or any(a not in (1, b) for a, b in zip(reversed(own), reversed(wanted), strict=False))
    ):
        msg = f"{where}: {' and '.join(parameters)} of shape {own} does not broadcast to {wanted}"
        raise ValueError(msg)
    return wanted


def _length(where: str, array: Tensor, axis: int) -> int:
    if not -array.ndim <= axis < array.ndim:
        msg = f"{where}: an array of shape {array.shape} has no axis {axis}"
        raise ValueError(msg)
    return int(array.shape[axis])


def _on_host(where: str, name: str, value: Any, device: str | None) -> tuple[Array, str | None]:
    """float64 on the host, and the device that the result goes to: that of the value, where it has one."""
    array = hasattr(unwrap(value), "dtype")
    try:
        plain = to_plain(value) if array else to_plain(value, dtype=dtypes.float64, device="cpu")
    except (TypeError, ValueError) as error:
        msg = f"{where}: {name} must be numbers, got {type(value).__name__}: {error}"
        raise TypeError(msg) from None
    kind = dtypes.of(plain.dtype)
    if kind.kind not in ("real", "int", "uint"):
        msg = f"{where}: {name} must be real numbers, got {kind}"
        raise TypeError(msg)
    own = backend_of(plain).device_of(plain) if array else None
    moved = plain if own == "cpu" else to_plain(plain, device="cpu")
    xp = backend_of(moved)
    return xp.astype(moved, dtypes.native(xp, dtypes.float64)), device or own


def _expect(where: str, name: str, requirement: str, values: Array, holds: Any) -> None:
    xp = backend_of(values)
    good = holds(xp, values)
    if int(xp.count_nonzero(good)) != math.prod(good.shape):
        bad = values[xp.logical_not(good)]
        msg = f"{where}: {name} {requirement}, got {float(bad[0])}"
        raise ValueError(msg)


def _weights(where: str, name: str, value: Any, count: int, replace: bool) -> tuple[Array, str | None]:
    """Weights (…, n) on the host that so many can be drawn from, and the device that they come from."""
    weights, device = _on_host(where, name, value, None)
    if not weights.shape or not weights.shape[-1]:
        msg = f"{where}: {name} must have weights along its last axis, got shape {tuple(weights.shape)}"
        raise ValueError(msg)
    _expect(where, name, "must be finite numbers ≥ 0", weights, lambda xp, a: (a >= 0) & (a < math.inf))
    xp = backend_of(weights)
    if 0 in weights.shape:
        least = count
    elif replace:
        least = int(xp.min(xp.max(weights, axis=-1)) > 0)
    else:
        least = int(xp.min(xp.count_nonzero(weights, axis=-1)))
    if least < (1 if replace else count):
        more = "at least one" if replace else f"{count}, to draw as many without replacement"
        msg = f"{where}: the numbers above 0 of {name} must be {more}, got {least}"
        raise ValueError(msg)
    return weights, device


_ELSEWHERE = {
    "rand": "uniform(shape)", "randn": "normal(shape)", "randint": "integers(low, high, shape)", "random": "uniform(shape)",
    "standard_normal": "normal(shape)", "randperm": "permutation(n)", "shuffle": "permutation(x)", "seed": "manual_seed(seed)",
    "default_rng": "Generator(seed)", "RandomState": "Generator(seed)", "PRNGKey": "Generator(seed)", "key": "Generator(seed)",
    "random_sample": "uniform(shape)", "random_integers": "integers(low, high, shape)",
}  # fmt: skip


def __getattr__(name: str) -> object:
    if name in _ELSEWHERE:
        msg = f"module 'anynet.random' has no attribute {name!r}; use anynet.random.{_ELSEWHERE[name]}"
        raise AttributeError(msg)
    raise missing_attribute("anynet.random", name, __all__)


def __dir__() -> list[str]:
    return sorted([*__all__, "__doc__", "__file__", "__name__"])


explain_calls(globals())
