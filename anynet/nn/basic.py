"""Linear layers, activations, dropout, embedding, reshaping."""

from __future__ import annotations

import math
from typing import Any

from anynet.nn import functional as F
from anynet.nn import init
from anynet.nn.module import Module, ShapeError
from anynet.ops import creation
from anynet.ops.manipulation import reshape
from anynet.tensor import Parameter, Tensor, unwrap
from anynet.typing import ArrayLike

__all__ = [
    "ELU", "GELU", "Dropout", "Embedding", "Flatten", "Identity", "LeakyReLU", "Linear", "LogSoftmax", "ReLU", "SiLU",
    "Sigmoid", "Softmax", "Softplus", "Tanh", "Unflatten",
]  # fmt: skip


class Identity(Module):
    """Returns its input.

    >>> import anynet as an
    >>> an.nn.Identity()(an.ones(2))
    Tensor([1., 1.])
    """

    _pure = True

    def forward(self, x: ArrayLike) -> Tensor:
        """x"""
        return x  # type: ignore[return-value]


class Linear(Module):
    """y = x Wᵀ + b: x (…, in_features) → (…, out_features).

    Parameters `weight` (out, in) and `bias` (out), both drawn from U(−1/√in, 1/√in) as in PyTorch.

    >>> import anynet as an
    >>> an.nn.Linear(3, 2)(an.ones((4, 3))).shape
    (4, 2)

    Source: Rosenblatt: The perceptron (1958); the initial values: LeCun et al.: Efficient BackProp (1998).
    """

    _pure = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        if in_features < 0 or out_features < 0:
            msg = (
                f"Linear: sizes are not negative, got in_features={in_features}, out_features={out_features}"
            )
            raise ValueError(msg)
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(creation.empty((out_features, in_features), device=device, dtype=dtype))
        self.bias = Parameter(creation.empty(out_features, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        bound = 1 / math.sqrt(self.in_features) if self.in_features else 0.0
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def label(self) -> str:
        return f"Linear {self.in_features}→{self.out_features}"

    def forward(self, x: ArrayLike) -> Tensor:
        """x Wᵀ + b"""
        if not x.shape or x.shape[-1] != self.in_features:
            last = x.shape[-1] if x.shape else "none"
            msg = f"got {tuple(x.shape)}: last axis {last}, expected {self.in_features}"
            raise ShapeError(msg)
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        )


class Flatten(Module):
    """Merge the axes from `start_dim` to `end_dim` into one.

    >>> import anynet as an
    >>> an.nn.Flatten()(an.ones((2, 3, 4))).shape
    (2, 12)
    """

    _pure = True

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: ArrayLike) -> Tensor:
        """(n, c, h, w) → (n, c·h·w) by default."""
        n = len(x.shape)
        if n == 0:
            return reshape(x, (1,))
        start, end = self.start_dim, self.end_dim
        if not -n <= start < n or not -n <= end < n or start % n > end % n:
            msg = f"got {tuple(x.shape)}: cannot merge axes {start} to {end}"
            raise ShapeError(msg)
        start, end = start % n, end % n
        size = math.prod(x.shape[start : end + 1])
        return reshape(x, (*x.shape[:start], size, *x.shape[end + 1 :]))

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Split axis `dim` into the shape `unflattened_size`; one length may be -1.

    >>> import anynet as an
    >>> an.nn.Unflatten(1, (2, 3))(an.ones((4, 6))).shape
    (4, 2, 3)
    """

    _pure = True

    def __init__(self, dim: int, unflattened_size: tuple[int, ...]) -> None:
        size = tuple(int(n) for n in unflattened_size)
        if not size or any(n < -1 for n in size) or size.count(-1) > 1:
            msg = f"Unflatten: unflattened_size is a shape in which one length may be -1, got {unflattened_size}"
            raise ValueError(msg)
        self.dim, self.unflattened_size = dim, size

    def forward(self, x: ArrayLike) -> Tensor:
        """The inverse of Flatten."""
        n, size = len(x.shape), self.unflattened_size
        if not -n <= self.dim < n:
            msg = f"got {tuple(x.shape)}: there is no axis {self.dim} to split"
            raise ShapeError(msg)
        dim = self.dim % n
        known = math.prod(k for k in size if k != -1)
        length = x.shape[dim]
        if (known != length) if -1 not in size else (known == 0 or length % known):
            msg = f"got {tuple(x.shape)}: axis {self.dim} of length {length} does not split into {size}"
            raise ShapeError(msg)
        size = tuple(length // known if k == -1 else k for k in size)
        return reshape(x, (*x.shape[:dim], *size, *x.shape[dim + 1 :]))

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class Dropout(Module):
    """In training, zero each element with probability p and scale the rest by 1 / (1 − p); else the identity.

    The same seed gives the same masks, bit for bit, on every device (Srivastava et al. 2014). `inplace` is accepted for
    PyTorch's sake and changes nothing: the input is never overwritten.

    >>> import anynet as an
    >>> an.nn.Dropout(0.5).eval()(an.ones(2))
    Tensor([1., 1.])
    """

    _pure, _pure_in_training = True, False

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        if not 0.0 <= p <= 1.0:
            msg = f"Dropout: p is between 0 and 1, got {p}"
            raise ValueError(msg)
        self.p, self.inplace = p, inplace

    def forward(self, x: ArrayLike) -> Tensor:
        """x with elements dropped."""
        return F.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Embedding(Module):
    """Integers (…) → rows of `weight` (num_embeddings, embedding_dim), drawn from N(0, 1).

    The row `padding_idx` is zero at first and receives no gradient. With `max_norm` a row that is looked up and whose
    `norm_type`-norm is larger is first scaled to that norm, in place; `scale_grad_by_freq` divides the gradient of a row
    by the number of times that it was looked up. `sparse=True` is refused: gradients are dense.

    >>> import anynet as an
    >>> words = an.nn.Embedding(10, 3, padding_idx=0)
    >>> words(an.asarray([[1, 2, 0], [4, 0, 0]])).shape
    (2, 3, 3)

    Source: Bengio et al.: A neural probabilistic language model (2003).
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: ArrayLike | None = None,
        _freeze: bool = False,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            msg = f"Embedding: padding_idx {padding_idx} is out of range for {num_embeddings} rows"
            raise ValueError(msg)
        if sparse:
            msg = "Embedding: sparse gradients are not offered; leave out sparse=True: the gradient is the same, dense"
            raise NotImplementedError(msg)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.max_norm, self.norm_type, self.scale_grad_by_freq = max_norm, norm_type, scale_grad_by_freq
        if _weight is None:
            weight = creation.empty((num_embeddings, embedding_dim), device=device, dtype=dtype)
            self.weight = Parameter(weight, not _freeze)
            self.reset_parameters()
        else:
            if tuple(_weight.shape) != (num_embeddings, embedding_dim):
                msg = f"Embedding: got _weight of shape {tuple(_weight.shape)}, expected {(num_embeddings, embedding_dim)}"
                raise ValueError(msg)
            self.weight = Parameter(_weight, not _freeze, device=device, dtype=dtype)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: ArrayLike,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Embedding:
        """An Embedding with these rows, a matrix; they stay as they are unless ``freeze=False``."""
        if len(embeddings.shape) != 2:
            msg = f"Embedding.from_pretrained takes a matrix, got shape {tuple(embeddings.shape)}"
            raise ValueError(msg)
        rows, width = (int(n) for n in embeddings.shape)
        return cls(
            rows, width, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, _weight=embeddings, _freeze=freeze
        )  # fmt: skip

    def reset_parameters(self) -> None:
        """Draw the rows anew."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            unwrap(self.weight)[self.padding_idx, ...] = 0.0

    def forward(self, index: ArrayLike) -> Tensor:
        """weight[index]"""
        return F.embedding(
            index, self.weight, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq
        )

    def extra_repr(self) -> str:
        extra = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        if self.max_norm is not None:
            extra += f", max_norm={self.max_norm}"
        if self.norm_type != 2.0:
            extra += f", norm_type={self.norm_type}"
        if self.scale_grad_by_freq:
            extra += ", scale_grad_by_freq=True"
        return f"{self.num_embeddings}, {self.embedding_dim}{extra}"


class Sigmoid(Module):
    """σ(x) = 1 / (1 + e⁻ˣ).

    >>> import anynet as an
    >>> an.nn.Sigmoid()(an.asarray([-1.0, 0.0, 2.0]))
    Tensor([0.2689414, 0.5      , 0.8807971])

    Source: Verhulst (1838); Rumelhart, Hinton, Williams: Learning representations by back-propagating errors (1986).
    """

    _pure = True

    def forward(self, x: ArrayLike) -> Tensor:
        """σ(x)"""
        return F.sigmoid(x)


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


class ReLU(Module):
    """max(x, 0). `inplace` is accepted for PyTorch's sake: the input is never overwritten.

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
            msg = f"GELU: approximate is 'none' or 'tanh', got {approximate!r}"
            raise ValueError(msg)
        self.approximate = approximate

    def forward(self, x: ArrayLike) -> Tensor:
        """GELU of x."""
        return F.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """x σ(x). `inplace` is accepted for PyTorch's sake: the input is never overwritten.

    >>> import anynet as an
    >>> an.nn.SiLU()(an.asarray([-1.0, 0.0, 2.0]))
    Tensor([-0.2689414,  0.       ,  1.7615942])

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


class Softmax(Module):
    """e^{x_i} / Σ_j e^{x_j} along `dim`, which may be left out for one axis and two: it is the last. PyTorch guesses for more
    (the first of three axes, the second of four); anynet asks.

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


class LogSoftmax(Softmax):
    """The logarithm of softmax.

    >>> import anynet as an
    >>> an.nn.LogSoftmax(dim=1)(an.asarray([[0.0, 0.0]]))
    Tensor([[-0.6931472, -0.6931472]])
    """

    def forward(self, x: ArrayLike) -> Tensor:
        """log-softmax of x"""
        return F.log_softmax(x, self.dim)
