"""Activations as modules; the formulas stand in `anynet.nn.functional.activations`."""

from __future__ import annotations

from typing import Any, ClassVar

from anynet.equations import equation
from anynet.nn import functional as F
from anynet.nn.errors import ShapeError
from anynet.nn.module import Module
from anynet.ops import creation
from anynet.tensor import Parameter, Tensor
from anynet.typing import ArrayLike

__all__ = [
    "CELU", "ELU", "GELU", "GLU", "SELU", "CReLU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU",
    "LogSigmoid", "LogSoftmax", "Mish", "PReLU", "RReLU", "ReLU", "ReLU6", "SiLU", "Sigmoid", "Softmax", "Softmax2d",
    "Softmin", "Softplus", "Softshrink", "Softsign", "Sparsemax", "SquarePlus", "Tanh", "Tanhshrink", "Threshold",
]  # fmt: skip


class _Activation(Module):
    """A function of one array; `_options` names its arguments, `_shown` those in its repr."""

    _pure = True

    _shown: ClassVar[tuple[str, ...]] = ()
    inplace = False

    def extra_repr(self) -> str:
        parts = [f"{name}={getattr(self, name)}" for name in self._shown]
        return ", ".join([*parts, *(["inplace=True"] if self.inplace else [])])


@equation(F.hardtanh)
class Hardtanh(_Activation):
    """x, but not below `min_val` nor above `max_val`. `inplace` is accepted as in PyTorch, but the input is never overwritten.

    >>> import anynet as an
    >>> an.nn.Hardtanh()(an.asarray([-2.0, 0.5, 2.0]))
    Tensor([-1. ,  0.5,  1. ])

    Source: Collobert: Large scale machine learning (2004).
    """

    _shown = ("min_val", "max_val")

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        if not min_val < max_val:
            msg = f"Hardtanh: min_val must be less than max_val, got {min_val} and {max_val}"
            raise ValueError(msg)
        self.min_val, self.max_val, self.inplace = min_val, max_val, inplace

    def forward(self, x: ArrayLike) -> Tensor:
        """clip x"""
        return F.hardtanh(x, self.min_val, self.max_val)


@equation(F.relu6)
class ReLU6(Hardtanh):
    """min(max(x, 0), 6).

    >>> import anynet as an
    >>> an.nn.ReLU6()(an.asarray([-1.0, 3.0, 9.0]))
    Tensor([0., 3., 6.])

    Source: Krizhevsky: Convolutional deep belief networks on CIFAR-10 (2010).
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(0.0, 6.0, inplace)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


@equation(F.hardsigmoid)
class Hardsigmoid(_Activation):
    """x/6 + ½ between −3 and 3, else 0 or 1.

    >>> import anynet as an
    >>> an.nn.Hardsigmoid()(an.asarray([-4.0, 0.0, 4.0]))
    Tensor([0. , 0.5, 1. ])

    Source: Courbariaux, Bengio, David: BinaryConnect (2015), with the slope of Howard et al. (2019).
    """

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = inplace

    def forward(self, x: ArrayLike) -> Tensor:
        """hardsigmoid(x)"""
        return F.hardsigmoid(x)


@equation(F.hardswish)
class Hardswish(_Activation):
    """x · hardsigmoid(x).

    >>> import anynet as an
    >>> an.nn.Hardswish()(an.asarray([-4.0, 0.0, 4.0]))
    Tensor([0., 0., 4.])

    Source: Howard et al.: Searching for MobileNetV3 (2019).
    """

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = inplace

    def forward(self, x: ArrayLike) -> Tensor:
        """hardswish(x)"""
        return F.hardswish(x)


@equation(F.hardshrink)
class Hardshrink(_Activation):
    """x where |x| > λ, else 0.

    >>> import anynet as an
    >>> an.nn.Hardshrink()(an.asarray([-1.0, 0.2, 1.0]))
    Tensor([-1.,  0.,  1.])

    Source: Donoho, Johnstone: Ideal spatial adaptation by wavelet shrinkage (1994).
    """

    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = lambd

    def forward(self, x: ArrayLike) -> Tensor:
        """hardshrink(x)"""
        return F.hardshrink(x, self.lambd)

    def extra_repr(self) -> str:
        return f"{self.lambd}"


@equation(F.softshrink)
class Softshrink(_Activation):
    """x moved by λ towards 0, at most to 0.

    >>> import anynet as an
    >>> an.nn.Softshrink()(an.asarray([-1.0, 0.2, 1.0]))
    Tensor([-0.5,  0. ,  0.5])

    Source: Donoho: De-noising by soft-thresholding (1995).
    """

    def __init__(self, lambd: float = 0.5) -> None:
        if lambd < 0:
            msg = f"Softshrink: lambd must be ≥ 0, got {lambd}"
            raise ValueError(msg)
        self.lambd = lambd

    def forward(self, x: ArrayLike) -> Tensor:
        """softshrink(x)"""
        return F.softshrink(x, self.lambd)

    def extra_repr(self) -> str:
        return f"{self.lambd}"


@equation(F.tanhshrink)
class Tanhshrink(_Activation):
    """x − tanh x.

    >>> import anynet as an
    >>> an.nn.Tanhshrink()(an.zeros(1))
    Tensor([0.])
    """

    def forward(self, x: ArrayLike) -> Tensor:
        """x − tanh x"""
        return F.tanhshrink(x)


@equation(F.softsign)
class Softsign(_Activation):
    """x / (1 + |x|).

    >>> import anynet as an
    >>> an.nn.Softsign()(an.asarray([-1.0, 1.0]))
    Tensor([-0.5,  0.5])

    Source: Turian, Bergstra, Bengio: Quadratic features and deep architectures for chunking (2009).
    """

    def forward(self, x: ArrayLike) -> Tensor:
        """x / (1 + |x|)"""
        return F.softsign(x)


@equation(F.logsigmoid)
class LogSigmoid(_Activation):
    """ln σ(x), without overflow.

    >>> import anynet as an
    >>> an.nn.LogSigmoid()(an.asarray([-1e4]))
    Tensor([-10000.])
    """

    def forward(self, x: ArrayLike) -> Tensor:
        """ln σ(x)"""
        return F.logsigmoid(x)


@equation(F.mish)
class Mish(_Activation):
    """A smooth ReLU that dips below 0.

    >>> import anynet as an
    >>> an.nn.Mish()(an.zeros(1))
    Tensor([0.])

    Source: Misra: Mish, a self regularized non-monotonic activation function (2019).
    """

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = inplace

    def forward(self, x: ArrayLike) -> Tensor:
        """x tanh(softplus(x))"""
        return F.mish(x)


@equation(F.selu)
class SELU(_Activation):
    """λ x where x > 0, else λ α (eˣ − 1), with λ ≈ 1.0507 and α ≈ 1.6733, which keep mean 0 and variance 1.

    >>> import anynet as an
    >>> round(an.nn.SELU()(an.ones(())).item(), 4)
    1.0507

    Source: Klambauer et al.: Self-normalizing neural networks (2017).
    """

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = inplace

    def forward(self, x: ArrayLike) -> Tensor:
        """selu(x)"""
        return F.selu(x)


@equation(F.celu)
class CELU(_Activation):
    """x where x > 0, else α (e^{x/α} − 1).

    >>> import anynet as an
    >>> an.nn.CELU()(an.asarray([0.0, 2.0]))
    Tensor([0., 2.])

    Source: Barron: Continuously differentiable exponential linear units (2017).
    """

    _shown = ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        self.alpha, self.inplace = alpha, inplace

    def forward(self, x: ArrayLike) -> Tensor:
        """celu(x)"""
        return F.celu(x, self.alpha)


@equation(F.threshold)
class Threshold(_Activation):
    """x where x > threshold, else `value`.

    >>> import anynet as an
    >>> an.nn.Threshold(1.0, 20.0)(an.asarray([0.0, 2.0]))
    Tensor([20.,  2.])
    """

    _shown = ("threshold", "value")

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        self.threshold, self.value, self.inplace = threshold, value, inplace

    def forward(self, x: ArrayLike) -> Tensor:
        """x or `value`"""
        return F.threshold(x, self.threshold, self.value)


@equation(F.glu)
class GLU(_Activation):
    """The first half of x along `dim`, let through by the sigmoid of the second.

    >>> import anynet as an
    >>> an.nn.GLU()(an.asarray([2.0, 0.0]))
    Tensor([1.])

    Source: Dauphin et al.: Language modeling with gated convolutional networks (2017).
    """

    _shown = ("dim",)

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def forward(self, x: ArrayLike) -> Tensor:
        """a σ(b)"""
        return F.glu(x, self.dim)


@equation(F.prelu)
class PReLU(_Activation):
    """x where x > 0, else w x; the parameter `weight` holds one number, or one for each channel.

    >>> import anynet as an
    >>> an.nn.PReLU()(an.asarray([-1.0, 1.0])).tolist()
    [-0.25, 1.0]

    Source: He et al.: Delving deep into rectifiers (2015).
    """

    _shown = ("num_parameters",)

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, device: str | None = None, dtype: Any = None
    ) -> None:
        self.num_parameters, self.init = num_parameters, init
        self.weight = Parameter(creation.full(num_parameters, float(init), device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """All slopes as at first."""
        self.weight.assign_(creation.full_like(self.weight.detach(), self.init))

    def forward(self, x: ArrayLike) -> Tensor:
        """prelu(x)"""
        return F.prelu(x, self.weight)


@equation(F.rrelu)
class RReLU(_Activation):
    """x where x > 0, else a x: in training a from U(lower, upper) for each element, else their middle.

    >>> import anynet as an
    >>> an.nn.RReLU(0.1, 0.3).eval()(an.asarray([-1.0, 1.0])).tolist()
    [-0.20000000298023224, 1.0]

    Source: Xu et al.: Empirical evaluation of rectified activations in convolutional network (2015).
    """

    _pure_in_training = False

    _shown = ("lower", "upper")

    def __init__(self, lower: float = 1 / 8, upper: float = 1 / 3, inplace: bool = False) -> None:
        self.lower, self.upper, self.inplace = lower, upper, inplace

    def forward(self, x: ArrayLike) -> Tensor:
        """rrelu(x)"""
        return F.rrelu(x, self.lower, self.upper, self.training)


@equation(F.softmin)
class Softmin(_Activation):
    """softmax(−x) along `dim`.

    >>> import anynet as an
    >>> an.nn.Softmin(0)(an.zeros(2))
    Tensor([0.5, 0.5])
    """

    _shown = ("dim",)

    def __init__(self, dim: int | None = None) -> None:
        self.dim = dim

    def forward(self, x: ArrayLike) -> Tensor:
        """softmin(x)"""
        return F.softmin(x, self.dim)


@equation(
    "y[..., c, h, w] = exp(x[..., c, h, w]) / sum[k](exp(x[..., k, h, w]))",
    where="x[..., C, H, W] = input: k runs over the channels",
)
class Softmax2d(_Activation):
    """softmax over the channels of (n, c, h, w) or (c, h, w).

    >>> import anynet as an
    >>> an.nn.Softmax2d()(an.zeros((1, 2, 1, 1))).tolist()
    [[[[0.5]], [[0.5]]]]
    """

    def forward(self, x: ArrayLike) -> Tensor:
        """softmax(x)"""
        if len(x.shape) not in (3, 4):
            msg = f"got {tuple(x.shape)}: expected 4 axes (batch, channels, height, width), or 3 without the batch"
            raise ShapeError(msg)
        return F.softmax(x, -3)


@equation(F.sigmoid)
class Sigmoid(Module):
    """The logistic function: from 0 to 1.

    >>> import anynet as an
    >>> an.nn.Sigmoid()(an.asarray([-0.5, 0.0, 2.0]))
    Tensor([0.37754068, 0.5       , 0.8807971 ])

    Source: Verhulst (1838); Rumelhart, Hinton, Williams: Learning representations by back-propagating errors (1986).
    """

    _pure = True

    def forward(self, x: ArrayLike) -> Tensor:
        """σ(x)"""
        return F.sigmoid(x)


@equation(F.tanh)
class Tanh(Module):
    """tanh x.

    >>> import anynet as an
    >>> an.nn.Tanh()(an.asarray([-1.0, 0.0, 2.0]))
    Tensor([-0.7615942,  0.       ,  0.9640276])

    Source: LeCun et al.: Efficient BackProp (1998).
    """

    _pure = True

    def forward(self, x: ArrayLike) -> Tensor:
        """tanh x"""
        return F.tanh(x)


@equation(F.relu)
class ReLU(Module):
    """max(x, 0). `inplace` is accepted as in PyTorch, but the input is never overwritten.

    >>> import anynet as an
    >>> an.nn.ReLU()(an.asarray([-1.0, 0.0, 2.0]))
    Tensor([0., 0., 2.])

    Source: Nair, Hinton: Rectified linear units improve restricted Boltzmann machines (2010).
    """

    _pure = True

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = inplace

    def forward(self, x: ArrayLike) -> Tensor:
        """max(x, 0)"""
        return F.relu(x)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


@equation(F.leaky_relu)
class LeakyReLU(Module):
    """x where x > 0, else negative_slope · x.

    >>> import anynet as an
    >>> an.nn.LeakyReLU()(an.asarray([-1.0, 0.0, 2.0]))
    Tensor([-0.01,  0.  ,  2.  ])

    Source: Maas, Hannun, Ng: Rectifier nonlinearities improve neural network acoustic models (2013).
    """

    _pure = True

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        self.negative_slope, self.inplace = negative_slope, inplace

    def forward(self, x: ArrayLike) -> Tensor:
        """Leaky ReLU of x."""
        return F.leaky_relu(x, negative_slope=self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}" + (", inplace=True" if self.inplace else "")


@equation(F.elu)
class ELU(Module):
    """x where x > 0, else α (eˣ − 1).

    >>> import anynet as an
    >>> an.nn.ELU()(an.asarray([-1.0, 0.0, 2.0]))
    Tensor([-0.63212055,  0.        ,  2.        ])

    Source: Clevert, Unterthiner, Hochreiter: Fast and accurate deep network learning by exponential linear units
      (2016).
    """

    _pure = True

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        self.alpha, self.inplace = alpha, inplace

    def forward(self, x: ArrayLike) -> Tensor:
        """ELU of x."""
        return F.elu(x, alpha=self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}" + (", inplace=True" if self.inplace else "")


@equation(F.gelu)
class GELU(Module):
    """x Φ(x), or its approximation by tanh.

    >>> import anynet as an
    >>> an.nn.GELU()(an.asarray([-1.0, 0.0, 2.0]))
    Tensor([-0.15865524,  0.        ,  1.9544997 ])

    Source: Hendrycks, Gimpel: Gaussian error linear units (2016).
    """

    _pure = True

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            msg = f"GELU: approximate must be 'none' or 'tanh', got {approximate!r}"
            raise ValueError(msg)
        self.approximate = approximate

    def forward(self, x: ArrayLike) -> Tensor:
        """GELU of x."""
        return F.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


@equation(F.silu)
class SiLU(Module):
    """x σ(x). `inplace` is accepted as in PyTorch, but the input is never overwritten.

    >>> import anynet as an
    >>> an.nn.SiLU()(an.asarray([-0.5, 0.0, 2.0]))
    Tensor([-0.18877034,  0.        ,  1.7615942 ])

    Source: Elfwing, Uchibe, Doya: Sigmoid-weighted linear units (2018); Ramachandran et al.: Searching for activation
      functions (2017).
    """

    _pure = True

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = inplace

    def forward(self, x: ArrayLike) -> Tensor:
        """x σ(x)"""
        return F.silu(x)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


@equation(F.softplus)
class Softplus(Module):
    """(1/β) ln(1 + e^{βx}).

    >>> import anynet as an
    >>> [round(y, 4) for y in an.nn.Softplus()(an.asarray([-1.0, 0.0, 2.0])).tolist()]
    [0.3133, 0.6931, 2.1269]

    Source: Dugas et al.: Incorporating second-order functional knowledge for better option pricing (2001).
    """

    _pure = True

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta, self.threshold = beta, threshold

    def forward(self, x: ArrayLike) -> Tensor:
        """softplus of x"""
        return F.softplus(x, beta=self.beta, threshold=self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


@equation(F.softmax)
class Softmax(Module):
    """Positive numbers with the sum 1 along `dim`, which may be left out for one axis and two: it is the last. PyTorch
    guesses for more (the first of three axes, the second of four); anynet asks.

    >>> import anynet as an
    >>> an.nn.Softmax(dim=1)(an.asarray([[0.0, 0.0]]))
    Tensor([[0.5, 0.5]])

    Source: Bridle: Probabilistic interpretation of feedforward classification network outputs (1990).
    """

    _pure = True

    def __init__(self, dim: int | None = None) -> None:
        self.dim = dim

    def forward(self, x: ArrayLike) -> Tensor:
        """softmax of x"""
        return F.softmax(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


@equation(F.log_softmax)
class LogSoftmax(Softmax):
    """The logarithm of softmax.

    >>> import anynet as an
    >>> an.nn.LogSoftmax(dim=1)(an.asarray([[0.0, 0.0]]))
    Tensor([[-0.6931472, -0.6931472]])
    """

    def forward(self, x: ArrayLike) -> Tensor:
        """log-softmax of x"""
        return F.log_softmax(x, self.dim)


@equation(F.crelu)
class CReLU(Module):
    """max(x, 0) and max(−x, 0), one after the other along `dim`.

    >>> import anynet as an
    >>> an.nn.CReLU()(an.ones((2, 3, 4))).shape
    (2, 6, 4)

    Source: Shang et al.: Understanding and improving convolutional neural networks via concatenated rectified linear units (2016).
    """

    def __init__(self, dim: int = 1) -> None:
        self.dim = dim

    def forward(self, x: ArrayLike) -> Tensor:
        """Twice as many channels."""
        return F.crelu(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


@equation(F.squareplus)
class SquarePlus(Module):
    """A smooth ReLU without exponentials.

    >>> import anynet as an
    >>> an.nn.SquarePlus()(an.asarray([0.0, 1.5]))
    Tensor([1., 2.])

    Source: Barron: Squareplus (2021).
    """

    def __init__(self, b: float = 4.0) -> None:
        if b < 0:
            msg = f"SquarePlus: b must be ≥ 0, got {b}"
            raise ValueError(msg)
        self.b = b

    def forward(self, x: ArrayLike) -> Tensor:
        """squareplus of x"""
        return F.squareplus(x, self.b)

    def extra_repr(self) -> str:
        return f"b={self.b}"


@equation(F.sparsemax)
class Sparsemax(Module):
    """The point of the simplex that is closest to x, along `dim`: probabilities of which small ones are 0.

    >>> import anynet as an
    >>> an.nn.Sparsemax()(an.asarray([1.0, 0.5, -1.0])).tolist()
    [0.75, 0.25, 0.0]

    Source: Martins, Astudillo: From softmax to sparsemax (2016).
    """

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def forward(self, x: ArrayLike) -> Tensor:
        """sparsemax of x"""
        return F.sparsemax(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
