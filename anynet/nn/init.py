"""Initial weights: drawn on the host in float64, so that a seed gives the same network on every backend.

The functions change a Tensor in place and return it; names and arguments are those of ``torch.nn.init``. `generator`, an
`anynet.random.Generator`, takes the place of the global stream of weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from anynet import streams
from anynet.equations import equation
from anynet.streams import Generator
from anynet.tensor import Tensor, no_grad, unwrap
from anynet_backends import backend_of, resolve
from anynet_backends.concurrency import ThreadStack
from anynet_backends.jit.tracer import COMPILING

__all__ = [
    "calculate_gain", "constant_", "dirac_", "eye_", "kaiming_normal_", "kaiming_uniform_", "lecun_normal_",
    "lecun_uniform_", "normal_", "ones_", "orthogonal_", "sparse_", "trunc_normal_", "uniform_", "variance_scaling_",
    "xavier_normal_", "xavier_uniform_", "zeros_",
]  # fmt: skip


_skipping: ThreadStack[bool] = ThreadStack("initializing")


@contextmanager
def skipped(draw: bool = True) -> Iterator[None]:
    """Within the block the functions leave the Tensor as it is: in this thread. They draw nevertheless, so that the streams move on as
    ever, unless `draw` is False."""
    _skipping.append(draw)
    try:
        yield
    finally:
        _skipping.pop()


def _undrawn() -> bool:
    return bool(_skipping) and bool(_skipping.own) and not _skipping.own[-1]


def _fill(tensor: Tensor, values: Any) -> Tensor:
    if _skipping and _skipping.own:
        return tensor
    with no_grad():
        return tensor.assign_(values)


def _place(tensor: Tensor) -> Any:
    """The memory of a Tensor, where numbers may be drawn into it: no second array of its size is needed then."""
    if (_skipping and _skipping.own) or COMPILING or not tensor.is_leaf:
        return None
    data = unwrap(tensor)
    return backend_of(data).host_place(data)


@equation("W ~ Uniform(a, b)", where="W = tensor; a; b")
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform on [a, b).

    Equation:
      W ∼ Uniform(a, b)
      (W: tensor; a; b)

    >>> import anynet as an
    >>> an.nn.init.uniform_(an.nn.Parameter(an.zeros((4, 3)))).shape
    (4, 3)
    """
    if _undrawn():
        return tensor
    return _fill(tensor, streams.uniform(tensor.shape, a, b, generator))


@equation("W ~ Normal(μ, σ**2)", where="W = tensor; μ = mean; σ = std")
def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Normal with mean and standard deviation.

    Equation:
      W ∼ Normal(μ, σ²)
      (W: tensor; μ: mean; σ: std)

    >>> import anynet as an
    >>> an.nn.init.normal_(an.nn.Parameter(an.zeros((4, 3)))).shape
    (4, 3)
    """
    if _undrawn():
        return tensor
    return _fill(tensor, streams.normal(tensor.shape, mean, std, generator, _place(tensor)))


@equation("W ~ TruncatedNormal(μ, σ**2, a, b)", where="W = tensor; μ = mean; σ = std; a; b")
def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Normal, with draws outside [a, b] drawn again.

    Equation:
      W ∼ TruncatedNormal(μ, σ², a, b)
      (W: tensor; μ: mean; σ: std; a; b)

    >>> import anynet as an
    >>> an.nn.init.trunc_normal_(an.nn.Parameter(an.zeros((4, 3)))).shape
    (4, 3)
    """
    if not a < b:
        msg = f"trunc_normal_: a must be less than b, got a={a}, b={b}"
        raise ValueError(msg)
    if _undrawn():
        return tensor
    xp, _ = resolve("cpu")
    values = streams.normal(tensor.shape, mean, std, generator)
    for _ in range(1000):
        outside = xp.logical_or(values < a, values > b)
        if not bool(xp.any(outside)):
            return _fill(tensor, values)
        values = xp.where(outside, streams.normal(tensor.shape, mean, std, generator), values)
    msg = f"trunc_normal_: [a, b] must have some probability under N(mean, std²), got [{a}, {b}] with mean {mean}, std {std}"
    raise ValueError(msg)


@equation("W = c", where="c = val")
def constant_(tensor: Tensor, val: float) -> Tensor:
    """One value everywhere.

    Equation:
      W = c
      (c: val)

    >>> import anynet as an
    >>> an.nn.init.constant_(an.nn.Parameter(an.zeros((2, 2))), 0.5).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """
    return _fill(tensor, val)


@equation("W = 1")
def ones_(tensor: Tensor) -> Tensor:
    """Ones.

    Equation:
      W = 1

    >>> import anynet as an
    >>> an.nn.init.ones_(an.nn.Parameter(an.zeros((2, 2)))).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    return _fill(tensor, 1.0)


@equation("W = 0")
def zeros_(tensor: Tensor) -> Tensor:
    """Zeros.

    Equation:
      W = 0

    >>> import anynet as an
    >>> an.nn.init.zeros_(an.nn.Parameter(an.zeros((2, 2)))).tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    """
    return _fill(tensor, 0.0)


@equation("W[i: I, j: J] = [i == j]", where="V[I, J] = tensor: the tensor as it was")
def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix.

    Equation:
      W[i, j] = [i = j]  for 0 ≤ i < I, 0 ≤ j < J
      (V: tensor (I, J): the tensor as it was)

    >>> import anynet as an
    >>> an.nn.init.eye_(an.nn.Parameter(an.zeros((2, 2)))).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    if tensor.ndim != 2:
        msg = f"eye_: the tensor must be a matrix, got shape {tensor.shape}"
        raise ValueError(msg)
    xp, _ = resolve("cpu")
    return _fill(tensor, xp.eye(*tensor.shape, dtype=xp.float64))


def _fans(tensor: Tensor) -> tuple[int, int]:
    if tensor.ndim < 2:
        msg = f"fan-in and fan-out: the tensor must have at least 2 axes, got shape {tensor.shape}"
        raise ValueError(msg)
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


@equation(
    'g = sqrt(2 / (1 + α**2)) if f == "leaky_relu" else sqrt(2) if f == "relu" else 5 / 3 if f == "tanh" else 0.75 if f == "selu" else 1',
    where="f = nonlinearity; α = param or 0.01",
)
def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that keeps the variance of activations through a non-linearity.

    Equation:
      g = √(2 / (1 + α²)) if f = "leaky_relu", √2 if f = "relu", 5 / 3 if f = "tanh", 0.75 if f = "selu", else 1
      (f: nonlinearity; α: param or 0.01)

    >>> import anynet as an
    >>> round(an.nn.init.calculate_gain("relu"), 4)
    1.4142
    """
    gains = {"linear": 1.0, "conv1d": 1.0, "conv2d": 1.0, "conv3d": 1.0, "sigmoid": 1.0, "tanh": 5.0 / 3.0,
             "relu": math.sqrt(2.0), "selu": 0.75}  # fmt: skip
    if nonlinearity == "leaky_relu":
        return math.sqrt(2.0 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in gains:
        msg = f"calculate_gain: unknown non-linearity {nonlinearity!r}; known: {', '.join([*gains, 'leaky_relu'])}"
        raise ValueError(msg)
    return gains[nonlinearity]


@equation(
    "a = gain * sqrt(6 / (I * F + O * F))",
    "W ~ Uniform(-a, a)",
    where="W[O, I, F*] = tensor; gain",
)
def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform, for gradients of one size forwards and backwards (Glorot & Bengio 2010).

    Equation:
      a = gain √(6 / (I F + O F))
      W ∼ Uniform(−a, a)
      (W: tensor (O, I, F); gain)

    >>> import anynet as an
    >>> an.nn.init.xavier_uniform_(an.nn.Parameter(an.zeros((4, 3)))).shape
    (4, 3)
    """
    a = gain * math.sqrt(6.0 / sum(_fans(tensor)))
    return uniform_(tensor, -a, a, generator)


@equation(
    "σ = gain * sqrt(2 / (I * F + O * F))",
    "W ~ Normal(0, σ**2)",
    where="W[O, I, F*] = tensor; gain",
)
def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """N(0, gain² · 2 / (fan_in + fan_out)) (Glorot & Bengio 2010).

    Equation:
      σ = gain √(2 / (I F + O F))
      W ∼ Normal(0, σ²)
      (W: tensor (O, I, F); gain)

    >>> import anynet as an
    >>> an.nn.init.xavier_normal_(an.nn.Parameter(an.zeros((4, 3)))).shape
    (4, 3)
    """
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(_fans(tensor))), generator)


def _he(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        msg = f"mode must be 'fan_in' or 'fan_out', got {mode!r}"
        raise ValueError(msg)
    fan = _fans(tensor)[0 if mode == "fan_in" else 1]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan) if fan else 0.0


@equation(
    """
        g = sqrt(2 / (1 + α**2)) if f == "leaky_relu" else sqrt(2) if f == "relu" else 5 / 3 if f == "tanh" else 0.75 if
            f == "selu" else 1
    """,
    'n = I * F if mode == "fan_in" else O * F',
    "b = g * sqrt(3 / n)",
    "W ~ Uniform(-b, b)",
    where="W[O, I, F*] = tensor; α = a: the slope of leaky_relu; mode; f = nonlinearity",
)
def kaiming_uniform_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:  # fmt: skip
    """Uniform, for one variance through layers of the non-linearity (He et al. 2015).

    Equation:
      g = √(2 / (1 + α²)) if f = "leaky_relu", √2 if f = "relu", 5 / 3 if f = "tanh", 0.75 if f = "selu", else 1
      n = I F if mode = "fan_in", else O F
      b = g √(3 / n)
      W ∼ Uniform(−b, b)
      (W: tensor (O, I, F); α: a: the slope of leaky_relu; mode; f: nonlinearity)

    >>> import anynet as an
    >>> an.nn.init.kaiming_uniform_(an.nn.Parameter(an.zeros((4, 3)))).shape
    (4, 3)
    """
    bound = math.sqrt(3.0) * _he(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


@equation(
    """
        g = sqrt(2 / (1 + α**2)) if f == "leaky_relu" else sqrt(2) if f == "relu" else 5 / 3 if f == "tanh" else 0.75 if
            f == "selu" else 1
    """,
    'n = I * F if mode == "fan_in" else O * F',
    "σ = g / sqrt(n)",
    "W ~ Normal(0, σ**2)",
    where="W[O, I, F*] = tensor; α = a: the slope of leaky_relu; mode; f = nonlinearity",
)
def kaiming_normal_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:  # fmt: skip
    """N(0, gain² / fan) (He et al. 2015).

    Equation:
      g = √(2 / (1 + α²)) if f = "leaky_relu", √2 if f = "relu", 5 / 3 if f = "tanh", 0.75 if f = "selu", else 1
      n = I F if mode = "fan_in", else O F
      σ = g / √n
      W ∼ Normal(0, σ²)
      (W: tensor (O, I, F); α: a: the slope of leaky_relu; mode; f: nonlinearity)

    >>> import anynet as an
    >>> an.nn.init.kaiming_normal_(an.nn.Parameter(an.zeros((4, 3)))).shape
    (4, 3)
    """
    return normal_(tensor, 0.0, _he(tensor, a, mode, nonlinearity), generator)


@equation("b = sqrt(3 / (I * F))", "W ~ Uniform(-b, b)", where="W[O, I, F*] = tensor")
def lecun_uniform_(tensor: Tensor, generator: Generator | None = None) -> Tensor:
    """Uniform with the variance 1 / fan_in (LeCun et al. 1998).

    Equation:
      b = √(3 / (I F))
      W ∼ Uniform(−b, b)
      (W: tensor (O, I, F))

    >>> import anynet as an
    >>> an.nn.init.lecun_uniform_(an.nn.Parameter(an.zeros((4, 3)))).shape
    (4, 3)
    """
    return variance_scaling_(tensor, distribution="uniform", generator=generator)


@equation(
    "σ = sqrt(1 / (I * F)) / 0.8796256610342398",
    "W ~ TruncatedNormal(0, σ**2, -2 * σ, 2 * σ)",
    where="W[O, I, F*] = tensor",
)
def lecun_normal_(tensor: Tensor, generator: Generator | None = None) -> Tensor:
    """N(0, 1 / fan_in), cut at two standard deviations (LeCun et al. 1998), as Keras and Flax draw it.

    Equation:
      σ = √(1 / (I F)) / 0.8796256610342398
      W ∼ TruncatedNormal(0, σ², −2 σ, 2 σ)
      (W: tensor (O, I, F))

    >>> import anynet as an
    >>> an.nn.init.lecun_normal_(an.nn.Parameter(an.zeros((4, 3)))).shape
    (4, 3)
    """
    return variance_scaling_(tensor, generator=generator)


@equation(
    'n = I * F if mode == "fan_in" else O * F if mode == "fan_out" else (I * F + O * F) / 2',
    "σ = sqrt(scale / max(1, n))",
    "τ = σ / 0.87962566103423978",
    'W ~ Uniform(-sqrt(3) * σ, sqrt(3) * σ) if d == "uniform" else Normal(0, σ**2) if d == "untruncated_normal"'
    " else TruncatedNormal(0, τ**2, -2 * τ, 2 * τ)",
    where="W[O, I, F*] = tensor; scale; mode; d = distribution",
)
def variance_scaling_(
    tensor: Tensor,
    scale: float = 1.0,
    mode: str = "fan_in",
    distribution: str = "truncated_normal",
    generator: Generator | None = None,
) -> Tensor:
    """Mean 0 and variance scale / fan, fan the inputs ("fan_in"), outputs ("fan_out") or their mean ("fan_avg"). Distributions:
    "truncated_normal" (cut at two standard deviations of the uncut one), "untruncated_normal", "uniform". As in Keras and Flax;
    Glorot's, He's and LeCun's are special cases (Glorot & Bengio 2010).

    Equation:
      n = I F if mode = "fan_in", O F if mode = "fan_out", else (I F + O F) / 2
      σ = √(scale / max(1, n))
      τ = σ / 0.8796256610342398
      W ∼ Uniform(−√3 σ, √3 σ) if d = "uniform", Normal(0, σ²) if d = "untruncated_normal", else TruncatedNormal(0, τ², −2 τ,
          2 τ)
      (W: tensor (O, I, F); scale; mode; d: distribution)

    >>> import anynet as an
    >>> an.nn.init.variance_scaling_(an.nn.Parameter(an.zeros((4, 3))), 2.0, "fan_avg", "uniform").shape
    (4, 3)
    """
    if scale <= 0 or mode not in ("fan_in", "fan_out", "fan_avg"):
        msg = f"variance_scaling_: scale must be > 0 and mode 'fan_in', 'fan_out' or 'fan_avg', got {scale}, {mode!r}"
        raise ValueError(msg)
    inputs, outputs = _fans(tensor)
    fan = {"fan_in": inputs, "fan_out": outputs, "fan_avg": (inputs + outputs) / 2}[mode]
    std = math.sqrt(scale / max(1.0, fan))
    if distribution == "uniform":
        return uniform_(tensor, -math.sqrt(3.0) * std, math.sqrt(3.0) * std, generator)
    if distribution == "untruncated_normal":
        return normal_(tensor, 0.0, std, generator)
    if distribution == "truncated_normal":
        std /= 0.87962566103423978  # the standard deviation of N(0, 1) cut at ±2
        return trunc_normal_(tensor, 0.0, std, -2 * std, 2 * std, generator)
    msg = f"variance_scaling_: distribution must be 'truncated_normal', 'untruncated_normal' or 'uniform', got {distribution!r}"
    raise ValueError(msg)


def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """A matrix with orthonormal rows or columns, from the QR decomposition of a normal one (Saxe et al. 2014).

    >>> import anynet as an
    >>> an.nn.init.orthogonal_(an.nn.Parameter(an.zeros((4, 3)))).shape
    (4, 3)
    """
    if tensor.ndim < 2:
        msg = f"orthogonal_: the tensor must have at least 2 axes, got shape {tensor.shape}"
        raise ValueError(msg)
    xp, _ = resolve("cpu")
    rows, cols = tensor.shape[0], math.prod(tensor.shape[1:])
    flat = xp.asarray(streams.normal((max(rows, cols), min(rows, cols)), generator=generator))
    q, r = xp.linalg.qr(flat)
    q = q * xp.sign(xp.linalg.diagonal(r))
    if rows < cols:
        q = xp.matrix_transpose(q)
    return _fill(tensor, xp.reshape(gain * q, tensor.shape))


@equation(
    "W[o: O, c: C, k: K] = [o % (O // G) == c and all(k == K // 2)]",
    where="V[O, C, K] = tensor: the tensor as it was; G = groups",
    spatial="k K",
)
def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """A convolution that passes its input on: 1 in the middle of the kernel where output and input channel agree, in
    each group; other outputs are 0. For 3 to 5 axes.

    Equation:
      W[o, c, k] = [o mod ⌊O / G⌋ = c and all(k = ⌊K / 2⌋)]  for 0 ≤ o < O, 0 ≤ c < C, 0 ≤ k < K
      (V: tensor (O, C, K): the tensor as it was; G: groups; one for each spatial axis: k, K)

    >>> import anynet as an
    >>> an.nn.init.dirac_(an.nn.Parameter(an.zeros((1, 1, 3)))).tolist()
    [[[0.0, 1.0, 0.0]]]
    """
    shape = tensor.shape
    if len(shape) not in (3, 4, 5) or groups < 1 or shape[0] % groups:
        msg = f"dirac_: the tensor must have 3 to 5 axes, the first divisible by groups={groups}, got shape {shape}"
        raise ValueError(msg)
    xp, _ = resolve("cpu")
    values = xp.zeros(shape, dtype=xp.float64, device=xp.native_device("cpu"))
    middle = tuple(n // 2 for n in shape[2:])
    each = shape[0] // groups
    for g in range(groups):
        for d in range(min(each, shape[1])):
            values[(g * each + d, d, *middle)] = 1.0
    return _fill(tensor, values)


@equation(
    "z[i, j] ~ Normal(0, σ**2)",
    "u[i, j] ~ Uniform(0, 1)",
    "r[i, j] = sum[k]([u[k, j] < u[i, j]])",
    "W[i, j] = 0 if r[i, j] < ceil(s * I) else z[i, j]",
    where="V[I, J] = tensor: the tensor as it was; s = sparsity; σ = std",
)
def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> Tensor:
    """Normal with standard deviation `std`, and in each column a share `sparsity` of the rows, drawn at random, 0
    (Martens 2010). For matrices.

    Equation:
      z[i, j] ∼ Normal(0, σ²)
      u[i, j] ∼ Uniform(0, 1)
      r[i, j] = Σ_k [u[k, j] < u[i, j]]
      W[i, j] = 0 if r[i, j] < ⌈s I⌉, else z[i, j]
      (V: tensor (I, J): the tensor as it was; s: sparsity; σ: std)

    >>> import anynet as an
    >>> an.nn.init.sparse_(an.nn.Parameter(an.zeros((4, 3))), 0.5).shape
    (4, 3)
    """
    if len(tensor.shape) != 2:
        msg = f"sparse_: a matrix, got shape {tensor.shape}"
        raise ValueError(msg)
    rows, columns = tensor.shape
    xp, _ = resolve("cpu")
    values = streams.normal(tensor.shape, 0.0, std, generator)
    order = xp.argsort(streams.uniform((rows, columns), generator=generator), axis=0)
    place = xp.argsort(order, axis=0)
    return _fill(tensor, xp.where(place < math.ceil(sparsity * rows), xp.zeros_like(values), values))
