"""Activations, with PyTorch's names and arguments: see `anynet.ops.activations` for the formulas.

`inplace` is accepted and changes nothing: the input is never overwritten. With `dtype` the input is converted first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from anynet import dtypes, streams
from anynet.autograd.broadcasting import cast_to
from anynet.equations import equation
from anynet.ops import activations as ops
from anynet.ops import elementwise as e
from anynet.ops import softmax as softmax_ops
from anynet.ops.manipulation import concat, reshape
from anynet.ops.reductions import sum
from anynet.tensor import Tensor, unwrap, wrap
from anynet.typing import ArrayLike
from anynet_backends import backend_of

__all__ = [
    "celu", "crelu", "elu", "gelu", "glu", "gumbel_softmax", "hardshrink", "hardsigmoid", "hardswish", "hardtanh",
    "leaky_relu", "log_softmax", "logsigmoid", "logsumexp", "mish", "prelu", "relu", "relu6", "rrelu", "selu",
    "sigmoid", "silu", "softmax", "softmin", "softplus", "softshrink", "softsign", "sparsemax", "squareplus", "tanh",
    "tanhshrink", "threshold",
]  # fmt: skip


@equation("y = max(x, 0)", where="x = input", gradient="dx = dy * [x > 0]")
def relu(input: ArrayLike, inplace: bool = False) -> Tensor:
    """max(x, 0); the gradient at 0 is 0. `inplace` is accepted and changes nothing: the input is never overwritten.

    Equation:
      y = max(x, 0)
      (x: input)

    >>> import anynet as an
    >>> an.nn.functional.relu(an.asarray([-2.0, 0.0, 2.0]))
    Tensor([0., 0., 2.])
    """
    return ops.relu(input)


@equation("y = 1 / (1 + exp(-x))", where="x = input", gradient="dx = dy * y * (1 - y)")
def sigmoid(input: ArrayLike) -> Tensor:
    """1 / (1 + e⁻ˣ).

    Equation:
      y = 1 / (1 + e⁻ˣ)
      (x: input)

    >>> import anynet as an
    >>> an.nn.functional.sigmoid(an.asarray([-0.5, 0.0, 2.0]))
    Tensor([0.37754068, 0.5       , 0.8807971 ])
    """
    return ops.sigmoid(input)


@equation(
    "y = x * sigmoid(x)",
    where="x = input",
    gradient="dx = dy * sigmoid(x) * (1 + x * (1 - sigmoid(x)))",
)
def silu(input: ArrayLike, inplace: bool = False) -> Tensor:
    """The input times its sigmoid, also called swish (Hendrycks & Gimpel 2016; Elfwing et al. 2018).

    Equation:
      y = x σ(x)
      (x: input)

    >>> import anynet as an
    >>> an.nn.functional.silu(an.asarray([-0.5, 0.0, 2.0]))
    Tensor([-0.18877034,  0.        ,  1.7615942 ])
    """
    return ops.silu(input)


@equation(
    "y = (exp(x) - exp(-x)) / (exp(x) + exp(-x))",
    where="x = input",
    gradient="dx = dy * (1 - y**2)",
)
def tanh(input: ArrayLike) -> Tensor:
    """tanh x.

    Equation:
      y = (eˣ − e⁻ˣ) / (eˣ + e⁻ˣ)
      (x: input)

    >>> import anynet as an
    >>> an.nn.functional.tanh(an.asarray([-2.0, 0.0, 2.0]))
    Tensor([-0.9640276,  0.       ,  0.9640276])
    """
    return e.tanh(input)


@equation(
    """
        y = 0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) if approximate == "tanh" else x * Phi(x)
    """,
    where="x = input; approximate",
    gradient="""
        u = tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))
        dx = dy * (0.5 * (1 + u) + 0.5 * x * (1 - u**2) * sqrt(2 / pi) * (1 + 0.134145 * x**2)) if approximate == "tanh"
            else dy * (Phi(x) + x * exp(-x**2 / 2) / sqrt(2 * pi))
    """,
)
def gelu(input: ArrayLike, approximate: str = "none") -> Tensor:
    """The input times the normal distribution function Φ of it; ``approximate="tanh"`` is the formula of Hendrycks &
    Gimpel 2016.

    Equation:
      y = ½ x · (1 + tanh(√(2 / π) · (x + 0.044715 x³))) if approximate = "tanh", else x Φ(x)
      (x: input; approximate)

    >>> import anynet as an
    >>> an.nn.functional.gelu(an.asarray([-2.0, 0.0, 2.0]))
    Tensor([-0.04550027,  0.        ,  1.9544997 ])
    """
    return ops.gelu(input, approximate)


@equation(
    "y = x if x > 0 else α * x",
    where="x = input; α = negative_slope",
    gradient="dx = dy * (1 if x > 0 else α)",
)
def leaky_relu(input: ArrayLike, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, else negative_slope · x.

    Equation:
      y = x if x > 0, else α x
      (x: input; α: negative_slope)

    >>> import anynet as an
    >>> an.nn.functional.leaky_relu(an.asarray([-2.0, 0.0, 2.0]))
    Tensor([-0.02,  0.  ,  2.  ])
    """
    return ops.leaky_relu(input, negative_slope=negative_slope)


@equation(
    "y = x if x > 0 else α * (exp(x) - 1)",
    where="x = input; α = alpha",
    gradient="dx = dy * (1 if x > 0 else α * exp(x))",
)
def elu(input: ArrayLike, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """The exponential linear unit: the identity above 0, and below a curve that ends at −α (Clevert et al. 2016).

    Equation:
      y = x if x > 0, else α · (eˣ − 1)
      (x: input; α: alpha)

    >>> import anynet as an
    >>> an.nn.functional.elu(an.asarray([-2.0, 0.0, 2.0]))
    Tensor([-0.86466473,  0.        ,  2.        ])
    """
    return ops.elu(input, alpha=alpha)


@equation(
    "y = x if β * x > threshold else log(1 + exp(β * x)) / β",
    where="x = input; β = beta; threshold",
    gradient="dx = dy * (1 if β * x > threshold else sigmoid(β * x))",
)
def softplus(input: ArrayLike, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """A smooth ReLU; x itself where βx > threshold.

    Equation:
      y = x if β x > threshold, else ln(1 + exp(β x)) / β
      (x: input; β: beta; threshold)

    >>> import anynet as an
    >>> an.nn.functional.softplus(an.asarray([-2.0, 0.0, 2.0]))
    Tensor([0.126928 , 0.6931472, 2.126928 ])
    """
    return ops.softplus(input, beta=beta, threshold=threshold)


def _prepared(where: str, input: Any, dim: int | None, dtype: Any) -> tuple[Any, int]:
    if dim is None:
        if len(input.shape) > 2:
            msg = f"{where}: an input of shape {tuple(input.shape)} needs `dim`, the axis along which the results add up to 1"
            raise ValueError(msg)
        dim = -1
    return input if dtype is None else cast_to(input, dtype=dtype), dim


def _along(function: Callable[..., Tensor], input: Any, dim: int) -> Tensor:
    """A function along an axis; a number is an axis of one number."""
    if not input.shape and dim in (0, -1):
        return reshape(function(reshape(input, (1,)), axis=0), ())
    return function(input, axis=dim)


@equation(
    "y[..., i] = exp(x[..., i]) / sum[j](exp(x[..., j]))",
    where="x[..., J] = input along dim: j runs along `dim`",
    gradient="dx[..., i] = y[..., i] * (dy[..., i] - sum[j](dy[..., j] * y[..., j]))",
)
def softmax(input: ArrayLike, dim: int | None = None, dtype: Any = None) -> Tensor:
    """Positive numbers with the sum 1 along `dim`, the last axis of one or two unless given.

    Equation:
      yᵢ = exp(xᵢ) / (Σ_j exp(xⱼ))
      (x: input along dim (…, J): j runs along `dim`)

    >>> import anynet as an
    >>> an.nn.functional.softmax(an.asarray([0.0, 0.0]))
    Tensor([0.5, 0.5])
    """
    input, dim = _prepared("softmax", input, dim, dtype)
    return _along(softmax_ops.softmax, input, dim)


@equation(
    "y[..., i] = x[..., i] - log(sum[j](exp(x[..., j])))",
    where="x[..., J] = input along dim: j runs along `dim`",
    gradient="dx[..., i] = dy[..., i] - exp(y[..., i]) * sum[j](dy[..., j])",
)
def log_softmax(input: ArrayLike, dim: int | None = None, dtype: Any = None) -> Tensor:
    """ln softmax along `dim`, computed without overflow.

    Equation:
      yᵢ = xᵢ − ln(Σ_j exp(xⱼ))
      (x: input along dim (…, J): j runs along `dim`)

    >>> import anynet as an
    >>> an.nn.functional.log_softmax(an.asarray([0.0, 0.0]), dim=0)
    Tensor([-0.6931472, -0.6931472])
    """
    input, dim = _prepared("log_softmax", input, dim, dtype)
    return _along(softmax_ops.log_softmax, input, dim)


@equation(
    "y = log(sum[j](exp(x[..., j])))",
    where="x[..., J] = input along dim: j runs along `dim`",
    gradient="dx[..., i] = dy * exp(x[..., i] - y)",
)
def logsumexp(input: ArrayLike, dim: int | tuple[int, ...] | None = None, keepdim: bool = False) -> Tensor:
    """The logarithm of the sum of exponentials along `dim` (None: all), computed without overflow.

    Equation:
      y = ln(Σ_j exp(xⱼ))
      (x: input along dim (…, J): j runs along `dim`)

    >>> import anynet as an
    >>> an.nn.functional.logsumexp(an.asarray([1000.0, 1000.0]), 0)
    Tensor(1000.6932)
    """
    return softmax_ops.logsumexp(input, axis=dim if input.shape else None, keepdims=keepdim)


@equation(
    "y[..., i] = exp(-x[..., i]) / sum[j](exp(-x[..., j]))",
    where="x[..., J] = input along dim: j runs along `dim`",
    gradient="dx[..., i] = -y[..., i] * (dy[..., i] - sum[j](dy[..., j] * y[..., j]))",
)
def softmin(input: ArrayLike, dim: int | None = None, dtype: Any = None) -> Tensor:
    """softmax(−x) along `dim`.

    Equation:
      yᵢ = exp(−xᵢ) / (Σ_j exp(−xⱼ))
      (x: input along dim (…, J): j runs along `dim`)

    >>> import anynet as an
    >>> an.nn.functional.softmin(an.asarray([0.0, 0.0]), dim=0)
    Tensor([0.5, 0.5])
    """
    input, dim = _prepared("softmin", -input, dim, dtype)
    return _along(softmax_ops.softmax, input, dim)


@equation(
    "y = min(max(x, a), b)",
    where="x = input; a = min_val; b = max_val",
    gradient="dx = dy * [a < x and x < b]",
)
def hardtanh(input: ArrayLike, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x, but not below `min_val` nor above `max_val`; the gradient is 0 at the bounds and beyond. NaN stays NaN.

    Equation:
      y = min(max(x, a), b)
      (x: input; a: min_val; b: max_val)

    >>> import anynet as an
    >>> an.nn.functional.hardtanh(an.asarray([-2.0, 0.0, 2.0]))
    Tensor([-1.,  0.,  1.])
    """
    if not min_val <= max_val:
        msg = f"hardtanh: min_val must be at most max_val, got {min_val} and {max_val}"
        raise ValueError(msg)
    return ops.hardtanh(input, low=float(min_val), high=float(max_val))


@equation("y = min(max(x, 0), 6)", where="x = input", gradient="dx = dy * [0 < x and x < 6]")
def relu6(input: ArrayLike, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6) (Krizhevsky 2010).

    Equation:
      y = min(max(x, 0), 6)
      (x: input)

    >>> import anynet as an
    >>> an.nn.functional.relu6(an.asarray([-2.0, 0.0, 2.0]))
    Tensor([0., 0., 2.])
    """
    return hardtanh(input, 0.0, 6.0)


@equation(
    "y = min(max(x / 6 + 0.5, 0), 1)",
    where="x = input",
    gradient="dx = dy * [-3 < x and x < 3] / 6",
)
def hardsigmoid(input: ArrayLike, inplace: bool = False) -> Tensor:
    """x/6 + ½ between −3 and 3, else 0 or 1: a sigmoid of straight lines.

    Equation:
      y = min(max(x / 6 + ½, 0), 1)
      (x: input)

    >>> import anynet as an
    >>> an.nn.functional.hardsigmoid(an.asarray([-2.0, 0.0, 2.0]))
    Tensor([0.16666666, 0.5       , 0.8333334 ])
    """
    return ops.hardsigmoid(input)


@equation(
    "y = x * min(max(x / 6 + 0.5, 0), 1)",
    where="x = input",
    gradient="dx = dy * (0 if x <= -3 else 1 if x >= 3 else x / 3 + 0.5)",
)
def hardswish(input: ArrayLike, inplace: bool = False) -> Tensor:
    """x · hardsigmoid(x): 0 below −3, x above 3, between them x (x + 3) / 6 (Howard et al. 2019).

    Equation:
      y = x min(max(x / 6 + ½, 0), 1)
      (x: input)

    >>> import anynet as an
    >>> an.nn.functional.hardswish(an.asarray([-2.0, 0.0, 2.0]))
    Tensor([-0.33333334,  0.        ,  1.6666666 ])
    """
    return ops.hardswish(input)


@equation(
    "y = x if abs(x) > λ else 0",
    where="x = input; λ = lambd",
    gradient="dx = dy * [abs(x) > λ]",
)
def hardshrink(input: ArrayLike, lambd: float = 0.5) -> Tensor:
    """x where |x| > λ, else 0.

    Equation:
      y = x if |x| > λ, else 0
      (x: input; λ: lambd)

    >>> import anynet as an
    >>> an.nn.functional.hardshrink(an.asarray([-2.0, 0.0, 2.0]))
    Tensor([-2.,  0.,  2.])
    """
    return ops.hardshrink(input, bound=float(lambd))


@equation(
    "y = sign(x) * max(abs(x) - λ, 0)",
    where="x = input; λ = lambd",
    gradient="dx = dy * [abs(x) > λ]",
)
def softshrink(input: ArrayLike, lambd: float = 0.5) -> Tensor:
    """x moved by λ towards 0, at most to 0: the proximal map of λ |x|.

    Equation:
      y = sign(x) max(|x| − λ, 0)
      (x: input; λ: lambd)

    >>> import anynet as an
    >>> an.nn.functional.softshrink(an.asarray([-2.0, 0.0, 2.0]))
    Tensor([-1.5,  0. ,  1.5])
    """
    if lambd < 0:
        msg = f"softshrink: lambd must be ≥ 0, got {lambd}"
        raise ValueError(msg)
    return ops.softshrink(input, bound=float(lambd))


@equation("y = x - tanh(x)", where="x = input", gradient="dx = dy * tanh(x)**2")
def tanhshrink(input: ArrayLike) -> Tensor:
    """x − tanh x.

    Equation:
      y = x − tanh(x)
      (x: input)

    >>> import anynet as an
    >>> an.nn.functional.tanhshrink(an.asarray([-2.0, 0.0, 2.0]))
    Tensor([-1.0359724,  0.       ,  1.0359724])
    """
    return ops.tanhshrink(input)


@equation("y = x / (1 + abs(x))", where="x = input", gradient="dx = dy / (1 + abs(x))**2")
def softsign(input: ArrayLike) -> Tensor:
    """x / (1 + |x|).

    Equation:
      y = x / (1 + |x|)
      (x: input)

    >>> import anynet as an
    >>> an.nn.functional.softsign(an.asarray([-2.0, 0.0, 2.0]))
    Tensor([-0.6666667,  0.       ,  0.6666667])
    """
    return ops.softsign(input)


@equation("y = -log(1 + exp(-x))", where="x = input", gradient="dx = dy * (1 - sigmoid(x))")
def logsigmoid(input: ArrayLike) -> Tensor:
    """The logarithm of the sigmoid, computed as min(x, 0) − ln(1 + e^{−|x|}), without overflow.

    Equation:
      y = −ln(1 + e⁻ˣ)
      (x: input)

    >>> import anynet as an
    >>> an.nn.functional.logsigmoid(an.asarray([-2.0, 0.0, 2.0]))
    Tensor([-2.126928 , -0.6931472, -0.126928 ])
    """
    return ops.logsigmoid(input)


@equation(
    "y = x * tanh(log(1 + exp(x)))",
    where="x = input",
    gradient="u = tanh(log(1 + exp(x))); dx = dy * (u + x * (1 - u**2) * sigmoid(x))",
)
def mish(input: ArrayLike, inplace: bool = False) -> Tensor:
    """A smooth ReLU that dips below 0 (Misra 2019).

    Equation:
      y = x tanh(ln(1 + eˣ))
      (x: input)

    >>> import anynet as an
    >>> [round(y, 4) for y in an.nn.functional.mish(an.asarray([-2.0, 0.0, 2.0])).tolist()]
    [-0.2525, 0.0, 1.944]
    """
    return ops.mish(input)


_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


@equation(
    "α = 1.6732632423543772",
    "λ = 1.0507009873554805",
    "y = λ * x if x > 0 else λ * α * (exp(x) - 1)",
    where="x = input",
    gradient="dx = dy * (λ if x > 0 else λ * α * exp(x))",
)
def selu(input: ArrayLike, inplace: bool = False) -> Tensor:
    """The ELU scaled, with λ and α that keep mean 0 and variance 1 (Klambauer et al. 2017).

    Equation:
      α = 1.6732632423543772
      λ = 1.0507009873554805
      y = λ x if x > 0, else λ α · (eˣ − 1)
      (x: input)

    >>> import anynet as an
    >>> an.nn.functional.selu(an.asarray([-2.0, 0.0, 2.0]))
    Tensor([-1.5201665,  0.       ,  2.101402 ])
    """
    return ops.elu(input, alpha=_SELU_ALPHA, scale=_SELU_SCALE)


@equation(
    "y = x if x > 0 else α * (exp(x / α) - 1)",
    where="x = input; α = alpha",
    gradient="dx = dy * (1 if x > 0 else exp(x / α))",
)
def celu(input: ArrayLike, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """The ELU with a continuous slope for every α (Barron 2017).

    Equation:
      y = x if x > 0, else α · (exp(x / α) − 1)
      (x: input; α: alpha)

    >>> import anynet as an
    >>> an.nn.functional.celu(an.asarray([-2.0, 0.0, 2.0]))
    Tensor([-0.86466473,  0.        ,  2.        ])
    """
    if alpha == 0:
        msg = "celu: alpha must not be 0, got 0"
        raise ValueError(msg)
    return (
        ops.elu(input, alpha=float(alpha), rate=1.0 / alpha) if alpha > 0 else ops.elu(input / alpha) * alpha
    )


@equation(
    "y = x if x > θ else v",
    where="x = input; θ = threshold; v = value",
    gradient="dx = dy * [x > θ]",
)
def threshold(input: ArrayLike, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where x > threshold, else `value`; NaN stays NaN.

    Equation:
      y = x if x > θ, else v
      (x: input; θ: threshold; v: value)

    >>> import anynet as an
    >>> an.nn.functional.threshold(an.asarray([-2.0, 0.0, 2.0]), 1.0, 9.0)
    Tensor([9., 9., 2.])
    """
    return ops.threshold(input, bound=float(threshold), value=float(value))


@equation(
    "y[..., j: J // 2] = x[..., j] * sigmoid(x[..., j + J // 2])",
    where="x[..., J] = input along dim: j runs along `dim`",
)
def glu(input: ArrayLike, dim: int = -1) -> Tensor:
    """The first half of x along `dim`, let through by the sigmoid of the second (Dauphin et al. 2017).

    Equation:
      y[j] = xⱼ σ(x[j + ⌊J / 2⌋])  for 0 ≤ j < ⌊J / 2⌋
      (x: input along dim (…, J): j runs along `dim`)

    >>> import anynet as an
    >>> an.nn.functional.glu(an.asarray([3.0, 5.0, 0.0, 0.0]))
    Tensor([1.5, 2.5])
    """
    n = input.shape[dim]
    if n % 2:
        msg = f"glu: the length of axis {dim}, which is cut into halves, must be even, got {n}"
        raise ValueError(msg)
    ndim = len(input.shape)
    return ops.glu(input, axis=dim % ndim - ndim)


@equation(
    "y = x if x > 0 else w * x",
    where="x = input; w = weight: one number, or one for each channel (axis 1)",
)
def prelu(input: ArrayLike, weight: ArrayLike) -> Tensor:
    """The leaky ReLU with learned slopes: `weight` holds one number, or one for each channel (axis 1) (He et al. 2015).

    Equation:
      y = x if x > 0, else w x
      (x: input; w: weight: one number, or one for each channel (axis 1))

    >>> import anynet as an
    >>> an.nn.functional.prelu(an.asarray([-2.0, 0.0, 2.0]), an.asarray([0.25]))
    Tensor([-0.5,  0. ,  2. ])
    """
    n = weight.shape[0] if len(weight.shape) else 1
    ndim = len(input.shape)
    channels = input.shape[1] if ndim > 1 else 1
    if len(weight.shape) > 1 or n not in (1, channels):
        msg = f"prelu: weight must have shape (1,) or ({channels},), one number a channel, got {tuple(weight.shape)}"
        raise ValueError(msg)
    w = reshape(weight, (1, n, *(1,) * (ndim - 2)) if ndim > 1 else (n,) if ndim else ())
    return ops.relu(input) + w * e.clip(input, max=0.0)


@equation(
    "a ~ Uniform(lower, upper)",
    "y = x if x > 0 else a * x if training else (lower + upper) / 2 * x",
    where="x = input; lower; upper; training",
)
def rrelu(
    input: ArrayLike,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Tensor:
    """x where x > 0, else a x, in training with a from U(lower, upper) for each element, else a the middle of the two
    (Xu et al. 2015). The numbers come from the stream of dropout masks: the same on every backend.

    Equation:
      a ∼ Uniform(lower, upper)
      y = x if x > 0, a x if training, else (lower + upper) / 2 · x
      (x: input; lower; upper; training)

    >>> import anynet as an
    >>> an.nn.functional.rrelu(an.asarray([-2.0, 0.0, 2.0]), 0.5, 0.5)
    Tensor([-1.,  0.,  2.])
    """
    if not lower <= upper:
        msg = f"rrelu: lower must be ≤ upper, got {lower} and {upper}"
        raise ValueError(msg)
    if not training:
        return leaky_relu(input, (lower + upper) / 2)
    plain = unwrap(input)
    xp = backend_of(plain)
    n = int(input.size) if hasattr(input, "size") else 1
    unit = streams.next_units(xp, n, dtypes.native(xp, dtypes.of(plain.dtype)), xp.device_of(plain))
    slope = wrap(
        xp.astype(xp.reshape(unit * (upper - lower) + lower, tuple(input.shape)), plain.dtype, copy=False)
    )
    return e.where(input > 0.0, input, slope * input)


@equation(
    "y[..., c: 2 * C] = max(x[..., c], 0) + max(-x[..., c - C], 0)",
    where="x[..., C] = input along dim: c runs along `dim`",
)
def crelu(input: ArrayLike, dim: int = 1) -> Tensor:
    """max(x, 0) and max(−x, 0), one after the other along `dim` (Shang et al. 2016).

    Equation:
      y[c] = max(x[c], 0) + max(−x[c − C], 0)  for 0 ≤ c < 2 C
      (x: input along dim (…, C): c runs along `dim`)

    >>> import anynet as an
    >>> an.nn.functional.crelu(an.asarray([[1.0, -2.0]])).tolist()
    [[1.0, 0.0, 0.0, 2.0]]
    """
    return concat([ops.relu(input), ops.relu(-input)], axis=dim)


@equation(
    "y = (x + sqrt(x**2 + b)) / 2",
    where="x = input; b",
    gradient="dx = dy * (1 + x / sqrt(x**2 + b)) / 2",
)
def squareplus(input: ArrayLike, b: float = 4.0) -> Tensor:
    """A smooth ReLU without exponentials (Barron 2021).

    Equation:
      y = (x + √(x² + b)) / 2
      (x: input; b)

    >>> import anynet as an
    >>> an.nn.functional.squareplus(an.asarray([0.0, 1.5]))
    Tensor([1., 2.])
    """
    return (input + e.hypot(input, math.sqrt(b))) / 2.0


@equation(
    "z[..., i] = sort[i](x[..., i])",
    "k = sum[i]([1 + (i + 1) * z[..., i] > sum[j, j <= i](z[..., j])])",
    "τ = (sum[i, i < k](z[..., i]) - 1) / k",
    "y[..., i] = max(x[..., i] - τ, 0)",
    where="x[..., J] = input along dim: i runs along `dim`",
    gradient="""
        s = sum[i]([y[..., i] > 0])
        dx[..., i] = [y[..., i] > 0] * (dy[..., i] - sum[j](dy[..., j] * [y[..., j] > 0]) / s)
    """,
)
def sparsemax(input: ArrayLike, dim: int = -1) -> Tensor:
    """The point of the simplex that is closest to x: a number taken off, negative values 0, the sum along `dim` 1.

    Unlike those of softmax, small values become 0 (Martins & Astudillo 2016).

    Equation:
      zᵢ = sort_i(xᵢ)
      k = Σ_i [1 + (i + 1) zᵢ > Σ_{j, j ≤ i} zⱼ]
      τ = (Σ_{i, i < k} zᵢ − 1) / k
      yᵢ = max(xᵢ − τ, 0)
      (x: input along dim (…, J): i runs along `dim`)

    >>> import anynet as an
    >>> an.nn.functional.sparsemax(an.asarray([1.0, 0.5, -1.0])).tolist()
    [0.75, 0.25, 0.0]
    """
    plain = unwrap(input)
    xp = backend_of(plain)
    axis = dim % len(plain.shape)
    ordered = xp.sort(plain, axis=axis, descending=True)
    shape = tuple(plain.shape[axis] if i == axis else 1 for i in range(len(plain.shape)))
    k = xp.reshape(xp.arange(1, plain.shape[axis] + 1, dtype=plain.dtype, device=plain.device), shape)
    inside = 1.0 + k * ordered > xp.cumulative_sum(ordered, axis=axis)
    # the support are all values not below the smallest of the first k
    least = xp.min(xp.where(inside, ordered, xp.full_like(ordered, math.inf)), axis=axis, keepdims=True)
    support = xp.astype(plain >= least, plain.dtype)
    count = xp.sum(support, axis=axis, keepdims=True)
    kept = wrap(support)
    return kept * (input - (sum(input * kept, axis=axis, keepdims=True) - 1.0) / wrap(count))


@equation(
    "G ~ Gumbel(0, 1)",
    "y[..., i] = exp((x[..., i] + G[..., i]) / τ) / sum[j](exp((x[..., j] + G[..., j]) / τ))",
    where="x[..., J] = logits along dim: j runs along `dim`; τ = tau",
)
def gumbel_softmax(
    logits: ArrayLike, tau: float = 1.0, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    """A differentiable draw of a category: softmax((x + G) / τ), G of Gumbel's distribution (Jang et al. 2017).

    With `hard` the value is the one-hot vector of the largest, the gradient that of the soft draw. The numbers come from
    the stream of dropout masks: the same on every backend. `eps` is accepted and unused.

    Equation:
      G ∼ Gumbel(0, 1)
      yᵢ = exp((xᵢ + Gᵢ) / τ) / (Σ_j exp((xⱼ + Gⱼ) / τ))
      (x: logits along dim (…, J): j runs along `dim`; τ: tau)

    >>> import anynet as an
    >>> an.nn.functional.gumbel_softmax(an.zeros(3)).shape, float(an.sum(an.nn.functional.gumbel_softmax(an.zeros(3), hard=True)))
    ((3,), 1.0)
    """
    if not tau > 0:
        msg = f"gumbel_softmax: tau must be > 0, got {tau}"
        raise ValueError(msg)
    plain = unwrap(logits)
    xp = backend_of(plain)
    shape = tuple(logits.shape)
    kind = dtypes.wide(xp, plain.dtype)
    unit = streams.next_units(xp, math.prod(shape), kind, xp.device_of(plain))
    unit = xp.minimum(unit + 2.0**-25, 1.0 - 2.0**-24)  # not 0, and not rounded to 1
    gumbel = xp.astype(-xp.log(-xp.log(xp.reshape(unit, shape))), plain.dtype, copy=False)
    soft = softmax_ops.softmax((logits + wrap(gumbel)) / tau, axis=dim)
    if not hard:
        return soft
    values = unwrap(soft)
    axis = dim % len(shape)
    place = xp.expand_dims(xp.argmax(values, axis=axis), axis=axis)
    numbers = xp.reshape(xp.arange(shape[axis], dtype=place.dtype, device=place.device),
                         tuple(-1 if i == axis else 1 for i in range(len(shape))))  # fmt: skip
    one = wrap(xp.astype(xp.equal(numbers, place), kind))
    return (one - soft.detach()) + soft if isinstance(soft, Tensor) else one
