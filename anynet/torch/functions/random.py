"""Random tensors. The numbers are anynet's, not PyTorch's; their distributions are the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from anynet import dtypes, random
from anynet.ops import reductions as r
from anynet.tensor import Tensor as AnyTensor
from anynet.tensor import unwrap, wrap
from anynet.torch.functions.creation import lengths, place, settled
from anynet.torch.memory import fitted, write
from anynet.torch.promotion import as_float
from anynet.torch.table import offered
from anynet.torch.tensor import Tensor
from anynet_backends import Backend, backend_of

_OTHER = "the numbers are anynet's, the same on every device; not those of PyTorch for the same seed"


def _plain(drawn: Any) -> tuple[Backend, Any]:
    """The library and the array of draws, through which no gradient flows."""
    return backend_of(drawn._data), drawn._data


def _as(drawn: Any, dtype: Any) -> Any:
    """Draws in a dtype."""
    if drawn.dtype is dtype:
        return drawn
    xp, x = _plain(drawn)
    return wrap(xp.astype(x, dtypes.native(xp, dtypes.of(dtype))))


def _drawn(name: str, draw: Callable[..., Any]) -> None:
    def call(
        *size: Any,
        dtype: Any = None,
        device: Any = None,
        requires_grad: bool = False,
        generator: Any = None,
        **named: Any,
    ) -> Any:
        shape = lengths(size, named)
        return settled(
            draw(shape, dtype=dtype, device=place(device), generator=generator), requires_grad, named
        )

    offered(
        f"torch.{name}(2, 3).shape",
        f"torch.{name}((2,), dtype=torch.float64).dtype",
        name=name,
        method=False,
        differs=_OTHER,
    )(call)

    def like(
        input: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **named: Any
    ) -> Any:
        where = str(input.device) if device is None else place(device)
        y = draw(
            tuple(input.shape),
            dtype=input.dtype if dtype is None else dtype,
            device=where,
            generator=named.pop("generator", None),
        )
        return settled(y, requires_grad, named)

    offered(f"torch.{name}_like(x).shape", name=f"{name}_like", method=False, differs=_OTHER)(like)


def _of_parts(draw: Callable[..., Any], scale: float) -> Callable[..., Any]:
    """Draws that may be of a complex dtype: real and imaginary parts by themselves, times `scale`."""

    def call(shape: Any, *, dtype: Any, **options: Any) -> Any:
        if dtype is None or not dtype.is_complex:
            return draw(shape, dtype=dtype, **options)
        part = dtypes.float32 if dtype is dtypes.complex64 else dtypes.float64
        (xp, real), (_, imaginary) = (_plain(draw(shape, dtype=part, **options)) for _ in range(2))
        kind = dtypes.native(xp, dtype)
        return wrap((xp.astype(real, kind) + xp.astype(imaginary, kind) * 1j) * scale)

    return call


_drawn("rand", _of_parts(random.uniform, 1.0))
_drawn("randn", _of_parts(random.normal, math.sqrt(0.5)))  # of variance 1 together


@offered(
    "torch.randint(5, (2, 3)).shape",
    "torch.randint(1, 2, (3,))",
    "torch.randint(high=3, size=(2,)).dtype",
    method=False,
    differs=_OTHER,
)
def randint(
    *args: Any,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    generator: Any = None,
    **named: Any,
) -> Any:
    given = list(args)
    size = named.pop("size") if "size" in named else given.pop()
    low, high = (0, given[0]) if len(given) == 1 else (given[0], given[1]) if given else (0, 0)
    low, high = int(named.pop("low", low)), int(named.pop("high", high))
    y = random.integers(low, high, lengths((size,), {}), device=place(device), generator=generator)
    return settled(y if dtype is None else _as(y, dtype), requires_grad, named)


@offered("torch.randint_like(x, 1, 2)", method=False, differs=_OTHER)
def randint_like(input: Any, *args: Any, dtype: Any = None, **named: Any) -> Any:
    return randint(
        *args, size=tuple(input.shape), dtype=dtype or input.dtype, device=str(input.device), **named
    )


@offered("torch.randperm(1)", "torch.randperm(4).sort().values", method=False, differs=_OTHER)
def randperm(
    n: int,
    *,
    generator: Any = None,
    dtype: Any = dtypes.int64,
    device: Any = None,
    requires_grad: bool = False,
    **named: Any,
) -> Any:
    return settled(
        _as(random.permutation(int(n), device=place(device), generator=generator), dtype),
        requires_grad,
        named,
    )


@offered(
    "torch.normal(0.0, 1.0, (2, 3)).shape",
    "torch.normal(x, pos).shape",
    "torch.normal(mean=x, std=1.0).shape",
    method=False,
    differs=_OTHER,
)
def normal(
    mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, generator: Any = None, **options: Any
) -> Any:
    if size is not None:
        requires = options.pop("requires_grad", False)
        dtype, device = options.pop("dtype", None), place(options.pop("device", None))
        shape = lengths((size,), {})
        y = random.normal(
            shape, mean=float(mean), std=float(std), dtype=dtype, device=device, generator=generator
        )
        return settled(y, requires, options)
    like = mean if isinstance(mean, AnyTensor) else std
    shape = tuple((mean + 0.0 * std).shape)
    return mean + std * random.normal(shape, dtype=like.dtype, device=str(like.device), generator=generator)


@offered("torch.bernoulli(torch.ones(2, 3))", "torch.zeros(3).bernoulli()", differs=_OTHER)
def bernoulli(input: Any, p: float | None = None, *, generator: Any = None) -> Any:
    chance = input if p is None else 0.0 * input + p
    return _as(random.bernoulli(chance, generator=generator), input.dtype)


@offered("torch.poisson(torch.zeros(2, 3))", method=False, differs=_OTHER)
def poisson(input: Any, generator: Any = None) -> Any:
    return random.poisson(input, dtype=input.dtype, generator=generator)


@offered(
    "torch.binomial(torch.tensor([3., 7.]), torch.tensor([0., 1.]))",
    "torch.binomial(torch.ones(2, 1) * 4, torch.zeros(3)).shape",
    method=False,
    differs=_OTHER,
)
def binomial(count: Any, prob: Any, generator: Any = None) -> Any:
    return random.binomial(count, prob, dtype=count.dtype, generator=generator)


@offered(
    "torch.multinomial(torch.tensor([0., 1., 0.]), 1)", "torch.multinomial(torch.tensor([[0., 1.], [1., 0.]]), 2, replacement=True)",
    "torch.multinomial(torch.ones(3, 4), 4).sort().values", differs=_OTHER,
)  # fmt: skip
def multinomial(input: Any, num_samples: int, replacement: bool = False, *, generator: Any = None) -> Any:
    if input.ndim not in (1, 2):
        msg = f"multinomial: prob_dist must be 1 or 2 dim, got {input.ndim}"
        raise RuntimeError(msg)
    plain: Any = unwrap(input)  # no gradient flows here
    if dtypes.of(plain.dtype).kind != "real":
        plain = unwrap(as_float(wrap(plain)))
    rows, xp = plain if input.ndim == 2 else plain[None, :], backend_of(plain)
    total = xp.sum(rows, axis=1, keepdims=True)
    if not bool(xp.all(rows >= 0)) or not bool(xp.all(xp.isfinite(total) & (total > 0))):
        msg = "multinomial: probabilities must be finite and ≥ 0, and some of each row > 0"
        raise RuntimeError(msg)
    draw = _with_replacement if replacement else _without_replacement
    found = draw(xp, rows, num_samples, generator)
    return wrap(found if input.ndim == 2 else found[0, :])


def _with_replacement(xp: Backend, rows: Any, count: int, generator: Any) -> Any:
    total: Any = r.sum(rows, axis=1, keepdims=True)
    edges: Any = r.cumulative_sum(rows, axis=1) / total
    kind, device = dtypes.of(edges.dtype), xp.device_of(rows)
    u: Any = random.uniform((rows.shape[0], count), dtype=kind, device=device, generator=generator)._data
    # the number of edges that a draw has reached: an element of weight 0 is never drawn, its edge is that before it
    found = xp.sum(xp.astype(u[:, :, None] >= edges[:, None, :], xp.int64), axis=2)
    return xp.minimum(
        found, xp.argmax(xp.cumulative_sum(xp.astype(rows > 0, xp.int64), axis=1), axis=1, keepdims=True)
    )


def _without_replacement(xp: Backend, rows: Any, count: int, generator: Any) -> Any:
    if count > int(xp.min(xp.count_nonzero(rows, axis=1))):
        msg = "multinomial: invalid multinomial distribution (with replacement=False, not enough non-negative category to sample)"
        raise RuntimeError(msg)
    device = xp.device_of(rows)
    u: Any = random.uniform(tuple(rows.shape), dtype=dtypes.float64, device=device, generator=generator)._data
    drawn = xp.log(-xp.log(xp.maximum(u, 1e-300)))
    weights = xp.astype(rows, xp.float64)
    logs = xp.where(weights > 0, xp.log(xp.where(weights > 0, weights, 1.0)), -math.inf)
    keys = logs - drawn  # Gumbel: the largest are a draw in order
    order = xp.argsort(keys, axis=1, descending=True)
    return order[:, :count]


# ----- in place -----


def _in_place(name: str, draw: Callable[..., Any]) -> None:
    def call(self: Any, *args: Any, generator: Any = None, **kwargs: Any) -> Any:
        return write(self, fitted(self, draw(self, *args, generator=generator, **kwargs), name))

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"Every element becomes a draw ({name[:-1]})."
    setattr(Tensor, name, call)


def _like(x: Any) -> dict[str, Any]:
    """The shape, floating-point dtype and device of draws that x takes."""
    plain = x._data
    kind = x.dtype if x.dtype.kind == "real" else dtypes.default_float()
    return {"shape": tuple(plain.shape), "dtype": kind, "device": backend_of(plain).device_of(plain)}


def _uniform(x: Any, a: float = 0.0, b: float = 1.0, *, generator: Any, **named: Any) -> Any:
    low, high = named.get("from", a), named.get("to", b)
    return random.uniform(low=float(low), high=float(high), generator=generator, **_like(x))


def _normal(x: Any, mean: float = 0.0, std: float = 1.0, *, generator: Any) -> Any:
    return random.normal(mean=float(mean), std=float(std), generator=generator, **_like(x))


def _bernoulli(x: Any, p: Any = 0.5, *, generator: Any) -> Any:
    like = _like(x)
    return _as(random.bernoulli(p, like["shape"], device=like["device"], generator=generator), x.dtype)


def _exponential(x: Any, lambd: float = 1.0, *, generator: Any) -> Any:
    xp, u = _plain(random.uniform(generator=generator, **_like(x)))
    return wrap(-xp.log1p(-u) / lambd)


def _geometric(x: Any, p: float, *, generator: Any) -> Any:
    xp, u = _plain(random.uniform(generator=generator, **_like(x) | {"dtype": dtypes.float64}))
    return _as(wrap(xp.maximum(xp.ceil(xp.log1p(-u) / math.log1p(-p)), 1.0)), x.dtype)


def _cauchy(x: Any, median: float = 0.0, sigma: float = 1.0, *, generator: Any) -> Any:
    xp, u = _plain(random.uniform(generator=generator, **_like(x)))
    return wrap(median + sigma * xp.tan(math.pi * (u - 0.5)))


def _log_normal(x: Any, mean: float = 1.0, std: float = 2.0, *, generator: Any) -> Any:
    xp, drawn = _plain(_normal(x, mean, std, generator=generator))
    return wrap(xp.exp(drawn))


def _integers(x: Any, a: int = 0, b: int | None = None, *, generator: Any, **named: Any) -> Any:
    low, high = named.get("from", a), named.get("to", b)
    if high is None and "to" not in named and "from" not in named and a:
        low, high = 0, a
    high = (
        (1 << 24 if x.dtype.kind == "real" else 1 << (8 * x.dtype.itemsize - 1)) - 1 if high is None else high
    )
    drawn = random.integers(int(low), int(high), tuple(x.shape), device=str(x.device), generator=generator)
    return _as(drawn, x.dtype)


_DRAWS: dict[str, Any] = {
    "uniform_": _uniform, "normal_": _normal, "bernoulli_": _bernoulli, "exponential_": _exponential, "geometric_": _geometric,
    "cauchy_": _cauchy, "log_normal_": _log_normal, "random_": _integers,
}  # fmt: skip
for _name, _draw in _DRAWS.items():
    _in_place(_name, _draw)
