"""Capsules: groups of units whose length says how likely a thing is there, and whose direction says how it looks.

Source: Sabour, Frosst, Hinton: Dynamic routing between capsules (NeurIPS 2017).
"""

from __future__ import annotations

from typing import Any

from anynet.methods.checks import check_count, check_number
from anynet.nn import init
from anynet.nn.activations import ReLU, Sigmoid
from anynet.nn.containers import Sequential
from anynet.nn.conv import Conv2d
from anynet.nn.functional.embeddings import one_hot
from anynet.nn.linear import Linear
from anynet.nn.module import Module
from anynet.ops import elementwise as e
from anynet.ops.creation import empty, zeros
from anynet.ops.linear import matmul
from anynet.ops.manipulation import astype, expand_dims, permute_dims, reshape
from anynet.ops.reductions import argmax, mean
from anynet.ops.reductions import sum as sum_
from anynet.ops.softmax import softmax
from anynet.tensor import Parameter, Tensor
from anynet.typing import ArrayLike

__all__ = [
    "CapsNet",
    "CapsuleLayer",
    "CapsuleRouting",
    "PrimaryCapsules",
    "capsule_lengths",
    "margin_loss",
    "squash",
]

_TINY = 1e-12  # beneath the root, so that the gradient at 0 is 0


def squash(s: ArrayLike, dim: int = -1) -> Tensor:
    """v = ‖s‖² / (1 + ‖s‖²) · s / ‖s‖ along `dim`: the direction of s, with a length in [0, 1).

    Shapes: any; the gradient at s = 0 is 0.

    >>> import anynet as an
    >>> an.methods.squash(an.asarray([3.0, 4.0]))
    Tensor([0.5769..., 0.7692...])
    """
    square = sum_(s * s, axis=dim, keepdims=True)
    return e.sqrt(square + _TINY) / (1.0 + square) * s


def capsule_lengths(v: ArrayLike, dim: int = -1) -> Tensor:
    """‖v‖ along `dim`; the gradient at 0 is 0.

    >>> import anynet as an
    >>> an.methods.capsule_lengths(an.asarray([[3.0, 4.0]]))
    Tensor([5.])
    """
    return e.sqrt(sum_(v * v, axis=dim) + _TINY)


class CapsuleRouting(Module):
    """Routing by agreement: votes û (n, in, out, dim) → capsules v (n, out, dim).

        b = 0;   repeat: c = softmax_j(b),  v_j = squash(Σᵢ c_ij û_j|i),  b_ij ← b_ij + û_j|i · v_j

    `iterations` counts the rounds (1: every vote weighs the same). The last round alone is differentiated: the coefficients c are
    constants to the gradient.

    >>> import anynet as an
    >>> an.methods.CapsuleRouting()(an.ones((2, 6, 3, 4))).shape
    (2, 3, 4)
    """

    def __init__(self, iterations: int = 3) -> None:
        self.iterations = check_count("CapsuleRouting", "iterations", iterations)

    def forward(self, votes: Tensor) -> Tensor:
        """The capsules on which the votes agree."""
        if len(votes.shape) != 4:
            msg = f"CapsuleRouting: votes must be (n, in, out, dim), got {tuple(votes.shape)}"
            raise ValueError(msg)
        fixed = votes.detach()
        b: Any = zeros((*votes.shape[:3], 1), dtype=votes.dtype, device=votes.device)
        for _ in range(self.iterations - 1):
            v = squash(sum_(softmax(b, axis=2) * fixed, axis=1, keepdims=True))
            b = b + sum_(fixed * v, axis=-1, keepdims=True)
        return squash(sum_(softmax(b, axis=2) * votes, axis=1))

    def extra_repr(self) -> str:
        """The options."""
        return f"iterations={self.iterations}"


class CapsuleLayer(Module):
    """Capsules fully connected by votes û_j|i = W_ij uᵢ and routing: u (n, in_capsules, in_dim) → v (n, out_capsules, out_dim).

    Parameter: ``weight`` (in_capsules, in_dim, out_capsules · out_dim), normal with standard deviation 0.1 at first.

    >>> import anynet as an
    >>> an.methods.CapsuleLayer(6, 8, 10, 16)(an.ones((2, 6, 8))).shape
    (2, 10, 16)
    """

    def __init__(
        self, in_capsules: int, in_dim: int, out_capsules: int, out_dim: int, iterations: int = 3,
        *, device: str | None = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        where = "CapsuleLayer"
        self.in_capsules = check_count(where, "in_capsules", in_capsules)
        self.in_dim = check_count(where, "in_dim", in_dim)
        self.out_capsules = check_count(where, "out_capsules", out_capsules)
        self.out_dim = check_count(where, "out_dim", out_dim)
        self.weight = Parameter(
            empty((in_capsules, in_dim, out_capsules * out_dim), dtype=dtype, device=device)
        )
        self.routing = CapsuleRouting(iterations)
        init.normal_(self.weight, 0.0, 0.1)

    def forward(self, u: Tensor) -> Tensor:
        """Votes of all capsules for all, routed."""
        if tuple(u.shape[1:]) != (self.in_capsules, self.in_dim):
            msg = f"CapsuleLayer: input must be (n, {self.in_capsules}, {self.in_dim}), got {tuple(u.shape)}"
            raise ValueError(msg)
        votes = permute_dims(matmul(permute_dims(u, (1, 0, 2)), self.weight), (1, 0, 2))
        return self.routing(reshape(votes, (u.shape[0], self.in_capsules, self.out_capsules, self.out_dim)))

    def extra_repr(self) -> str:
        """The options."""
        return f"{self.in_capsules}×{self.in_dim}D → {self.out_capsules}×{self.out_dim}D"


class PrimaryCapsules(Module):
    """A convolution whose channels are grouped into capsules and squashed: x (n, in_channels, h, w) → (n, capsules · h' · w', dim).

    >>> import anynet as an
    >>> an.methods.PrimaryCapsules(4, 2, 8, kernel_size=3, stride=2)(an.ones((1, 4, 7, 7))).shape
    (1, 18, 8)
    """

    def __init__(
        self, in_channels: int, capsules: int, dim: int, kernel_size: int = 9, stride: int = 2
    ) -> None:
        self.capsules = check_count("PrimaryCapsules", "capsules", capsules)
        self.dim = check_count("PrimaryCapsules", "dim", dim)
        self.conv = Conv2d(in_channels, capsules * dim, kernel_size, stride)

    def forward(self, x: Tensor) -> Tensor:
        """The capsules of all places."""
        y = self.conv(x)
        grouped = permute_dims(reshape(y, (y.shape[0], self.capsules, self.dim, -1)), (0, 1, 3, 2))
        return squash(reshape(grouped, (y.shape[0], -1, self.dim)))


def margin_loss(
    lengths: ArrayLike,
    target: ArrayLike,
    m_plus: float = 0.9,
    m_minus: float = 0.1,
    down_weight: float = 0.5,
    reduction: str = "mean",
) -> Tensor:
    """Σ_k T_k max(0, m⁺ − ‖v_k‖)² + λ (1 − T_k) max(0, ‖v_k‖ − m⁻)² of each sample, λ = `down_weight`; then the mean over the samples.

    `lengths` (n, classes) are those of the capsules; `target` (n,) class indices, or (n, classes) of 0 and 1 (several things may
    be there at once). `reduction` "mean", "sum" or "none" (n,).

    >>> import anynet as an
    >>> an.methods.margin_loss(an.asarray([[0.9, 0.3]]), an.asarray([0]))  # 0.5 · (0.3 − 0.1)²
    Tensor(0.02)
    """
    if len(lengths.shape) != 2:
        msg = f"margin_loss: lengths must be (n, classes), got {tuple(lengths.shape)}"
        raise ValueError(msg)
    if reduction not in ("mean", "sum", "none"):
        msg = f"margin_loss: reduction must be 'mean', 'sum' or 'none', got {reduction!r}"
        raise ValueError(msg)
    n, classes = lengths.shape
    if tuple(target.shape) == (n,):
        target = one_hot(target, int(classes))
    elif tuple(target.shape) != (n, classes):
        msg = f"margin_loss: target must be ({n},) or ({n}, {classes}), got {tuple(target.shape)}"
        raise ValueError(msg)
    there = astype(target, lengths.dtype)
    short, long = e.maximum(m_plus - lengths, 0.0), e.maximum(lengths - m_minus, 0.0)
    losses = sum_(there * short * short + down_weight * (1.0 - there) * long * long, axis=1)
    if reduction == "none":
        return losses
    return mean(losses) if reduction == "mean" else sum_(losses)


class CapsNet(Module):
    """A convolution, primary capsules, a capsule for each class, and a decoder: x (n, in_channels, size, size) → lengths (n, classes).

    The defaults are the paper's for MNIST (9×9 kernels, 256 channels, 32 channels of 8-dimensional capsules, 16 dimensions for each
    class, decoder 512-1024). ``loss(x, target)`` is the margin loss + `reconstruction` · Σ(pixels − decoded)² (mean over the
    samples); ``capsules(x)`` gives (n, classes, class_dim), ``reconstruct(capsules, target)`` pictures of the capsule of the target
    (of the longest one without). `reconstruction` = 0 leaves the decoder out. Pixels are expected in [0, 1].

    >>> import anynet as an
    >>> net = an.methods.CapsNet(size=8, kernel_size=3, channels=8, primary_channels=2, primary_kernel=3, primary_stride=2)
    >>> net(an.ones((2, 1, 8, 8))).shape
    (2, 10)
    """

    def __init__(
        self,
        in_channels: int = 1,
        size: int = 28,
        classes: int = 10,
        *,
        channels: int = 256,
        kernel_size: int = 9,
        primary_channels: int = 32,
        primary_dim: int = 8,
        primary_kernel: int = 9,
        primary_stride: int = 2,
        class_dim: int = 16,
        iterations: int = 3,
        decoder: tuple[int, int] = (512, 1024),
        reconstruction: float = 0.0005,
    ) -> None:
        first = check_count("CapsNet", "size", size) - kernel_size + 1
        places = (first - primary_kernel) // primary_stride + 1
        if first < primary_kernel:
            msg = f"CapsNet: pictures of {size}×{size} are too small for kernels of {kernel_size} and {primary_kernel}"
            raise ValueError(msg)
        self.shape, self.classes = (in_channels, size, size), classes
        self.reconstruction = check_number("CapsNet", "reconstruction", reconstruction, 0)
        self.conv = Conv2d(in_channels, channels, kernel_size)
        self.primary = PrimaryCapsules(
            channels, primary_channels, primary_dim, primary_kernel, primary_stride
        )
        self.digits = CapsuleLayer(
            primary_channels * places * places, primary_dim, classes, class_dim, iterations
        )
        pixels = in_channels * size * size
        self.decoder = (
            Sequential(
                Linear(classes * class_dim, decoder[0]), ReLU(), Linear(decoder[0], decoder[1]), ReLU(),
                Linear(decoder[1], pixels), Sigmoid(),
            )
            if reconstruction
            else None
        )  # fmt: skip

    def capsules(self, x: Tensor) -> Tensor:
        """The capsules of the classes, (n, classes, class_dim)."""
        return self.digits(self.primary(e.maximum(self.conv(x), 0.0)))

    def forward(self, x: Tensor) -> Tensor:
        """Their lengths."""
        return capsule_lengths(self.capsules(x))

    def reconstruct(self, capsules: Tensor, target: ArrayLike | None = None) -> Tensor:
        """What the decoder draws from one capsule of each sample, the others set to 0: (n, in_channels, size, size)."""
        if self.decoder is None:
            msg = "CapsNet: made with reconstruction=0, it has no decoder"
            raise ValueError(msg)
        chosen = argmax(capsule_lengths(capsules), axis=1) if target is None else target
        mask = expand_dims(astype(one_hot(chosen, self.classes), capsules.dtype), axis=-1)
        flat = reshape(capsules * mask, (capsules.shape[0], -1))
        return reshape(self.decoder(flat), (capsules.shape[0], *self.shape))

    def loss(self, x: Tensor, target: Tensor) -> Tensor:
        """Margin loss and reconstruction, for class indices (n,)."""
        found = self.capsules(x)
        value = margin_loss(capsule_lengths(found), target)
        if self.decoder is None:
            return value
        difference = self.reconstruct(found, target) - x
        return value + self.reconstruction * sum_(difference * difference) / x.shape[0]
