"""Normalization layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from anynet import dtypes
from anynet.equations import equation
from anynet.nn import functional as F
from anynet.nn.errors import ShapeError
from anynet.nn.module import Module
from anynet.nn.spatial import Spatial
from anynet.ops import creation, normalization
from anynet.ops.collectives import statistics_group
from anynet.ops.manipulation import reshape
from anynet.tensor import Buffer, Parameter, Tensor, no_grad
from anynet.typing import ArrayLike

__all__ = [
    "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "CrossMapLRN2d", "GroupNorm", "InstanceNorm1d", "InstanceNorm2d",
    "InstanceNorm3d", "LayerNorm", "LocalResponseNorm", "RMSNorm", "SyncBatchNorm", "UnitNorm",
]  # fmt: skip


def _affine(
    shape: tuple[int, ...], bias: bool, device: str | None, dtype: Any
) -> tuple[Parameter, Parameter | None]:
    weight = Parameter(creation.ones(shape, device=device, dtype=dtype))
    return weight, Parameter(creation.zeros(shape, device=device, dtype=dtype)) if bias else None


def _reset_affine(weight: Parameter | None, bias: Parameter | None) -> None:
    with no_grad():
        if weight is not None:
            weight.assign_(1.0)
        if bias is not None:
            bias.assign_(0.0)


@equation(F.batch_norm)
class _BatchNorm(Spatial):
    """y = γ (x − μ) / √(σ² + ε) + β for each channel of a batch of $data: μ and σ² are the mean and the (biased) variance over the batch
    and all places.

    x $shapes → the same shape. In training μ and σ² are the batch's, and the running statistics follow them: running ← (1 − momentum) ·
    running + momentum · new, with the unbiased variance (with ``momentum=None`` the plain average of all batches). In evaluation
    they are the running statistics; with ``track_running_stats=False`` the batch's then, too.

    Parameters: `weight` (γ, ones) and `bias` (β, zeros), both (num_features,), none with ``affine=False``, no `bias` with
    ``bias=False``. Buffers: `running_mean` (zeros), `running_var` (ones), both (num_features,), and `num_batches_tracked` (an int64),
    none with ``track_running_stats=False``.

    Errors: ValueError for ``num_features < 1``, ``eps < 0`` and, in training, for one value for each channel; ShapeError for an input
    of other axes or channels.

    >>> import anynet as an
    >>> an.nn.$name(6)(an.ones((8, 6$example))).shape
    (8, 6$example)

    Source: Ioffe, Szegedy: Batch normalization (2015).
    """

    _pure, _pure_in_training = True, False

    dims: ClassVar[tuple[int, ...]]  # numbers of axes that the input may have

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: str | None = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        if num_features < 1 or eps < 0:
            msg = f"{type(self).__name__}: num_features must be ≥ 1 and eps ≥ 0, got num_features={num_features}, eps={eps}"
            raise ValueError(msg)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.weight: Parameter | None = None
        self.bias: Parameter | None = None
        self.running_mean: Buffer | None = None
        self.running_var: Buffer | None = None
        self.num_batches_tracked: Buffer | None = None
        if affine:
            self.weight, self.bias = _affine((num_features,), bias, device, dtype)
        if track_running_stats:
            self.running_mean = Buffer(creation.zeros(num_features, device=device, dtype=dtype))
            self.running_var = Buffer(creation.ones(num_features, device=device, dtype=dtype))
            self.num_batches_tracked = Buffer(creation.zeros((), device=device, dtype=dtypes.int64))

    def reset_running_stats(self) -> None:
        """Forget what was seen: mean 0, variance 1, no batches."""
        for buffer, value in (
            (self.running_mean, 0.0),
            (self.running_var, 1.0),
            (self.num_batches_tracked, 0),
        ):
            if buffer is not None:
                buffer.assign_(value)

    def reset_parameters(self) -> None:
        """γ = 1, β = 0, and no statistics."""
        self.reset_running_stats()
        _reset_affine(self.weight, self.bias)

    def forward(self, x: ArrayLike) -> Tensor:
        """The normalized x; in training the running statistics are updated."""
        if len(x.shape) not in self.dims or x.shape[1] != self.num_features:
            sizes = " or ".join(str(d) for d in self.dims)
            msg = (
                f"got {tuple(x.shape)}: expected {sizes} axes (batch, channels, …) with "
                f"{self.num_features} channels"
            )
            raise ShapeError(msg)
        # without running statistics those of the batch serve in evaluation too
        use_batch = self.training or self.running_mean is None
        momentum = 0.1 if self.momentum is None else self.momentum
        mean, var = self.running_mean, self.running_var
        if not self.training and use_batch:
            mean = var = None
        if self.training and self.momentum is None and self.num_batches_tracked is not None:
            momentum = 1.0 / (int(self.num_batches_tracked) + 1)  # the plain average of all batches
        return self._normalize(x, mean, var, use_batch, momentum)

    def _normalize(self, x: Any, mean: Any, var: Any, use_batch: bool, momentum: float) -> Tensor:
        group = statistics_group() if self.training else None
        batches = self.num_batches_tracked if self.training else None
        if group is not None:  # a training in several processes
            return normalization.batch_norm_over(
                group, x, mean, var, self.weight, self.bias, momentum, self.eps, batches
            )
        return normalization.batch_norm(
            x, mean, var, self.weight, self.bias, use_batch, momentum, self.eps, batches=batches
        )

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    axes, dims = 1, (2, 3)


class BatchNorm2d(_BatchNorm):
    axes, dims = 2, (4,)


class BatchNorm3d(_BatchNorm):
    axes, dims = 3, (5,)


@equation(F.batch_norm)
class SyncBatchNorm(_BatchNorm):
    """Batch normalization of (batch, channels, …) by the statistics of the batches of all processes of `process_group`
    together.

    x (batch, num_features, *spatial), up to three spatial axes or none → the same shape. In training μ and σ² are those of all
    processes' batches, and the running statistics follow them: running ← (1 − momentum) · running + momentum · new, with the unbiased
    variance (with ``momentum=None`` the plain average of all batches). In evaluation they are the running statistics.

    `process_group` is any object whose ``allreduce(array)`` returns the sum over the processes, such as a communicator of mpi4py
    (``MPI.COMM_WORLD``); without one there is this process alone. Gradients are summed over the processes where the statistics were,
    so every process must run forward and backward, each on a batch of its own (an empty one too).

    Parameters: `weight` (γ, ones) and `bias` (β, zeros), both (num_features,), none with ``affine=False``, no `bias` with
    ``bias=False``. Buffers: `running_mean` (zeros), `running_var` (ones), both (num_features,), and `num_batches_tracked` (an int64),
    none with ``track_running_stats=False``.

    >>> import anynet as an
    >>> an.nn.SyncBatchNorm(1, eps=0.0)(an.asarray([[1.0], [3.0]])).tolist()
    [[-1.0], [1.0]]

    Source: Zhang et al.: Context encoding for semantic segmentation (2018), appendix.
    """

    dims = (2, 3, 4, 5)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Any = None,
        device: str | None = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        if process_group is not None and not hasattr(process_group, "allreduce"):
            msg = (
                f"SyncBatchNorm: process_group must be an object with allreduce(array), got {process_group!r}"
            )
            raise TypeError(msg)
        self.process_group = process_group

    def _normalize(self, x: Any, mean: Any, var: Any, use_batch: bool, momentum: float) -> Tensor:
        if self.process_group is None or not use_batch:
            return super()._normalize(x, mean, var, use_batch, momentum)
        return normalization.batch_norm_over(
            self.process_group, x, mean, var, self.weight, self.bias, momentum, self.eps,
            self.num_batches_tracked if self.training else None,
        )  # fmt: skip

    @classmethod
    def convert_sync_batchnorm(cls, module: Module, process_group: Any = None) -> Module:
        """`module` with a SyncBatchNorm, of the same parameters and buffers, in the place of each BatchNorm1d, 2d and 3d.

        >>> import anynet as an
        >>> an.nn.SyncBatchNorm.convert_sync_batchnorm(an.nn.Sequential(an.nn.BatchNorm1d(2)))[0].num_features
        2
        """

        def convert(value: Any) -> Any:
            if isinstance(value, Module):
                if id(value) not in done:
                    done[id(value)] = value
                    if isinstance(value, _BatchNorm) and not isinstance(value, SyncBatchNorm):
                        done[id(value)] = cls._of(value, process_group)
                    else:
                        for name, item in list(vars(value).items()):
                            if (new := convert(item)) is not item:
                                setattr(value, name, new)
                return done[id(value)]
            if isinstance(value, dict):
                value.update({key: convert(item) for key, item in value.items()})
            elif isinstance(value, list):
                value[:] = map(convert, value)
            elif type(value) is tuple and any(isinstance(item, Module) for item in value):
                return tuple(map(convert, value))
            return value

        done: dict[int, Any] = {}  # a layer that stands in two places stays one
        converted: Module = convert(module)
        return converted

    @classmethod
    def _of(cls, norm: _BatchNorm, process_group: Any) -> SyncBatchNorm:
        new = cls(norm.num_features, norm.eps, norm.momentum, False, False, process_group)
        for name in (
            "affine",
            "track_running_stats",
            "weight",
            "bias",
            "running_mean",
            "running_var",
            "num_batches_tracked",
        ):
            setattr(new, name, getattr(norm, name))
        return new.train(norm.training)


@equation(F.layer_norm)
class LayerNorm(Module):
    """Mean 0 and variance 1 over the last axes of x, those of `normalized_shape`, then scaled by γ and shifted by β.

    Parameters `weight` (γ = 1) and `bias` (β = 0) of normalized_shape; none with
    ``elementwise_affine=False``.

    >>> import anynet as an
    >>> an.nn.LayerNorm(2, eps=0.0)(an.asarray([[1.0, 3.0]])).tolist()
    [[-1.0, 1.0]]

    Source: Ba, Kiros, Hinton: Layer normalization (2016).
    """

    _pure = True

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        given = (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape
        self.normalized_shape = tuple(int(n) for n in given)
        if not self.normalized_shape or min(self.normalized_shape) < 1 or eps < 0:
            msg = f"LayerNorm: the sizes of normalized_shape must be ≥ 1 and eps ≥ 0, got normalized_shape={normalized_shape}, eps={eps}"
            raise ValueError(msg)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.weight: Parameter | None = None
        self.bias: Parameter | None = None
        if elementwise_affine:
            self.weight, self.bias = _affine(self.normalized_shape, bias, device, dtype)

    def reset_parameters(self) -> None:
        """γ = 1, β = 0."""
        _reset_affine(self.weight, self.bias)

    def forward(self, x: ArrayLike) -> Tensor:
        """x (…, *normalized_shape) → the same shape."""
        last = self.normalized_shape
        if tuple(x.shape[max(len(x.shape) - len(last), 0) :]) != last:
            msg = f"got {tuple(x.shape)}: the last axes must be {last}"
            raise ShapeError(msg)
        return normalization.layer_norm(x, last, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


@equation(F.group_norm)
class GroupNorm(Module):
    """Mean 0 and variance 1 over each of `num_groups` groups of channels of each sample, then scaled by γ and shifted by β.

    x (n, num_channels, …) → the same. Parameters `weight` (γ = 1) and `bias` (β = 0), none with
    ``affine=False``.

    >>> import anynet as an
    >>> an.nn.GroupNorm(2, 4)(an.ones((3, 4, 5))).shape
    (3, 4, 5)

    Source: Wu, He: Group normalization (2018).
    """

    _pure = True

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: str | None = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        if num_groups < 1 or num_channels < 1 or num_channels % num_groups or eps < 0:
            msg = (
                "GroupNorm: num_groups must be ≥ 1 and divide num_channels, and eps be ≥ 0, got "
                f"num_groups={num_groups}, num_channels={num_channels}, eps={eps}"
            )
            raise ValueError(msg)
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self.weight: Parameter | None = None
        self.bias: Parameter | None = None
        if affine:
            self.weight, self.bias = _affine((num_channels,), bias, device, dtype)

    def reset_parameters(self) -> None:
        """γ = 1, β = 0."""
        _reset_affine(self.weight, self.bias)

    def forward(self, x: ArrayLike) -> Tensor:
        """x (n, num_channels, …) → the same shape."""
        if len(x.shape) < 2 or x.shape[1] != self.num_channels:
            msg = f"got {tuple(x.shape)}: expected (batch, channels, …) with {self.num_channels} channels"
            raise ShapeError(msg)
        return normalization.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


@equation(
    "own = training or not track",
    "μ[n, c] = mean[t](x[n, c, t]) if own else M[c]",
    "v[n, c] = var[t](x[n, c, t]) if own else V[c]",
    "x_hat[n, c, t] = (x[n, c, t] - μ[n, c]) / sqrt(v[n, c] + ε)",
    "y[n, c, t] = γ[c] * x_hat[n, c, t] + β[c]",
    where="""
        x[N?, C, T]
        γ[C] = weight or 1
        β[C] = bias or 0
        M[C] = running_mean or 0
        V[C] = running_var or 1
        ε = eps
        training
        track = track_running_stats
    """,
    gradient="""
        dβ[c] = sum[n, t](dy[n, c, t])
        dγ[c] = sum[n, t](dy[n, c, t] * x_hat[n, c, t])
        dx[n, c, t] = γ[c] / sqrt(v[n, c] + ε) * (dy[n, c, t] - mean[t](dy[n, c, t]) - x_hat[n, c, t] * mean[t](dy[n, c,
            t] * x_hat[n, c, t]))
        if own else γ[c] / sqrt(v[n, c] + ε) * dy[n, c, t]
    """,
    spatial="t T",
)
class _InstanceNorm(_BatchNorm):
    """y = γ (x − μ) / √(σ² + ε) + β for each channel of each example: μ and σ² are the mean and the (biased) variance over its places
    alone.

    x (batch, num_features, $spatial) or (num_features, $spatial) → the same shape. With ``track_running_stats=True`` running
    statistics follow those of the examples in training, running ← (1 − momentum) · running + momentum · new, and take their place
    in evaluation.

    Parameters: none, unless ``affine=True``: `weight` (γ, ones) and, unless ``bias=False``, `bias` (β, zeros), both (num_features,).
    Buffers: none, unless ``track_running_stats=True``: `running_mean`, `running_var`, both (num_features,), `num_batches_tracked`.

    Errors: ValueError for ``num_features < 1``, ``eps < 0`` and, in training, for one place for each channel; ShapeError for an input
    of other axes or channels.

    >>> import anynet as an
    >>> an.nn.$name(3)(an.ones((2, 3, $4))).shape
    (2, 3, $4)

    Source: Ulyanov, Vedaldi, Lempitsky: Instance normalization (2016).
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: str | None = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)

    def forward(self, x: ArrayLike) -> Tensor:
        """The normalized x; in training the running statistics, if any, are updated."""
        ndim = len(x.shape)
        if ndim not in self.dims or x.shape[0 if ndim == self.dims[0] else 1] != self.num_features:
            msg = (
                f"got {tuple(x.shape)}: expected {self.dims[1]} axes (batch, channels, …), or {self.dims[0]} without the "
                f"batch, with {self.num_features} channels"
            )
            raise ShapeError(msg)
        single = ndim == self.dims[0]
        if single:
            x = reshape(x, (1, *x.shape))
        own = self.training or not self.track_running_stats
        momentum = 0.0 if self.momentum is None else self.momentum  # PyTorch counts no batches here
        y = normalization.instance_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, own, momentum, self.eps
        )
        return reshape(y, tuple(y.shape[1:])) if single else y


class InstanceNorm1d(_InstanceNorm):
    axes, dims = 1, (2, 3)


class InstanceNorm2d(_InstanceNorm):
    axes, dims = 2, (3, 4)


class InstanceNorm3d(_InstanceNorm):
    axes, dims = 3, (4, 5)


@equation(F.rms_norm)
class RMSNorm(Module):
    """Each vector of the last axes divided by its root mean square; ε is the dtype's unless given; γ = 1 at first.

    >>> import anynet as an
    >>> an.nn.RMSNorm(2, eps=0.0)(an.asarray([3.0, 3.0])).tolist()
    [1.0, 1.0]

    Source: Zhang, Sennrich: Root mean square layer normalization (2019).
    """

    _pure = True

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        self.normalized_shape: tuple[int, ...] = (
            (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        )
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.weight: Parameter | None = None
        if elementwise_affine:
            self.weight = Parameter(creation.ones(self.normalized_shape, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """γ = 1."""
        _reset_affine(self.weight, None)

    def forward(self, x: ArrayLike) -> Tensor:
        """The normalized x."""
        n = len(self.normalized_shape)
        if tuple(x.shape[len(x.shape) - n :]) != self.normalized_shape:
            msg = f"got {tuple(x.shape)}: expected (…, {', '.join(map(str, self.normalized_shape))})"
            raise ShapeError(msg)
        return normalization.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


@equation(F.local_response_norm)
class LocalResponseNorm(Module):
    """Each number divided by a power of the mean square over `size` neighbouring channels.

    >>> import anynet as an
    >>> an.nn.LocalResponseNorm(2)(an.ones((1, 3, 4, 4))).shape
    (1, 3, 4, 4)

    Source: Krizhevsky, Sutskever, Hinton: ImageNet classification with deep networks (2012).
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x: ArrayLike) -> Tensor:
        """The normalized x."""
        return normalization.local_response_norm(x, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


@equation(
    "w = 2 * ((s - 1) // 2) + 1",
    "y[n, c, t] = x[n, c, t] / (k + α * sum[j: w](x[n, c + j - w // 2, t]**2) / s)**β",
    where="x[N, C, T*] = x; s = size; α = alpha; β = beta; k",
)
class CrossMapLRN2d(LocalResponseNorm):
    """x / (k + α/size · (sum of x² over the channels at most ⌊(size − 1)/2⌋ away))^β, of images (n, c, height, width): as
    `LocalResponseNorm` for an odd `size`; for an even one the window is one channel shorter.

    >>> import anynet as an
    >>> an.nn.CrossMapLRN2d(3)(an.ones((1, 3, 4, 4))).shape
    (1, 3, 4, 4)
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1) -> None:
        super().__init__(size, alpha, beta, k)

    def forward(self, x: ArrayLike) -> Tensor:
        """The normalized x."""
        if len(x.shape) != 4:
            msg = f"got {tuple(x.shape)}: expected 4 axes (batch, channels, height, width)"
            raise ShapeError(msg)
        width = 2 * ((self.size - 1) // 2) + 1
        return normalization.local_response_norm(x, width, self.alpha * width / self.size, self.beta, self.k)


@equation(
    "y[..., j] = x[..., j] / max(norm[k](x[..., k]), ε)",
    where="x[..., J] = x along dim; ε = eps",
)
class UnitNorm(Module):
    """x / max(‖x‖₂, ε), the norm over the axes `dim`.

    >>> import anynet as an
    >>> [round(v, 6) for v in an.nn.UnitNorm()(an.asarray([3.0, 4.0])).tolist()]
    [0.6, 0.8]

    Source: the layer UnitNormalization of Keras.
    """

    def __init__(self, dim: int | tuple[int, ...] = -1, eps: float = 1e-12) -> None:
        self.dim, self.eps = dim, eps

    def forward(self, x: ArrayLike) -> Tensor:
        """x of length 1."""
        return F.normalize(x, 2.0, self.dim, self.eps)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, eps={self.eps}"
