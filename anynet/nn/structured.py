"""Layers of Keras and Chainer that PyTorch lacks: convolutional and tree LSTMs, separable convolutions, Maxout, Highway,
conditional random fields, negative sampling."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

from anynet import random
from anynet.nn import functional as F
from anynet.nn import init
from anynet.nn.basic import Linear
from anynet.nn.containers import ModuleList, Sequential
from anynet.nn.conv import Conv1d, Conv2d, Conv3d
from anynet.nn.functional.losses import _reduce
from anynet.nn.module import Module, ShapeError
from anynet.ops import creation
from anynet.ops import elementwise as e
from anynet.ops.indexing import index_add, take, take_along_axis
from anynet.ops.manipulation import astype, concat, expand_dims, permute_dims, reshape, stack
from anynet.ops.neural import log_softmax, logsumexp, sigmoid, softplus
from anynet.ops.reductions import argmax, max, mean, sum
from anynet.tensor import Buffer, Parameter, Tensor
from anynet.typing import ArrayLike

__all__ = [
    "AdaptiveLogSoftmaxWithLoss", "CRF", "ChildSumTreeLSTM", "ConvLSTM1d", "ConvLSTM2d", "ConvLSTM3d", "Highway",
    "Maxout", "NCELoss", "NaryTreeLSTM", "NegativeSampling", "SeparableConv1d", "SeparableConv2d", "SeparableConv3d",
]  # fmt: skip

Size = int | Sequence[int]


class Maxout(Module):
    """The largest of `pool_size` linear functions, for each output (Goodfellow et al. 2013): (…, in) → (…, out).

    >>> import anynet as an
    >>> an.nn.Maxout(3, 2, pool_size=4)(an.ones((5, 3))).shape
    (5, 2)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        pool_size: int,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        if pool_size < 1:
            msg = f"Maxout: pool_size is at least 1, got {pool_size}"
            raise ValueError(msg)
        self.out_features, self.pool_size = out_features, pool_size
        self.linear = Linear(in_features, out_features * pool_size, bias, device, dtype)

    def forward(self, x: ArrayLike) -> Tensor:
        """max_k (W_k x + b_k)"""
        y = self.linear(x)
        return max(reshape(y, (*y.shape[:-1], self.out_features, self.pool_size)), axis=-1)


class Highway(Module):
    """H(x) T(x) + x (1 − T(x)), H = activation(W_h x + b_h), T = σ(W_t x + b_t), with b_t = −1 at first, so that x passes
    (Srivastava et al. 2015).

    >>> import anynet as an
    >>> an.nn.Highway(3)(an.ones((2, 3))).shape
    (2, 3)
    """

    def __init__(
        self,
        features: int,
        activation: Callable[[Tensor], Tensor] = F.relu,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        self.plain = Linear(features, features, bias, device, dtype)
        self.transform = Linear(features, features, bias, device, dtype)
        if self.transform.bias is not None:
            init.constant_(self.transform.bias, -1.0)
        self.activation = activation

    def forward(self, x: ArrayLike) -> Tensor:
        """A mixture of H(x) and x."""
        gate = sigmoid(self.transform(x))
        return self.activation(self.plain(x)) * gate + x * (1.0 - gate)


class _SeparableConv(Module):
    _conv: ClassVar[Any]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        depth_multiplier: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        if depth_multiplier < 1:
            msg = f"{type(self).__name__}: depth_multiplier is at least 1, got {depth_multiplier}"
            raise ValueError(msg)
        wide = in_channels * depth_multiplier
        self.depthwise = self._conv(
            in_channels,
            wide,
            kernel_size,
            stride,
            padding,
            dilation,
            in_channels,
            False,
            padding_mode,
            device,
            dtype,
        )
        self.pointwise = self._conv(wide, out_channels, 1, bias=bias, device=device, dtype=dtype)

    def forward(self, x: ArrayLike) -> Tensor:
        """Each channel by itself, then all channels at each place."""
        return self.pointwise(self.depthwise(x))  # type: ignore[no-any-return]


class SeparableConv1d(_SeparableConv):
    """A convolution of each channel, `depth_multiplier` filters each, and a 1×1 convolution over the results (Sifre 2014;
    Chollet 2017). Arguments as for `Conv1d`.

    >>> import anynet as an
    >>> an.nn.SeparableConv1d(3, 6, 3)(an.ones((2, 3, 8))).shape
    (2, 6, 6)
    """

    _conv = Conv1d


class SeparableConv2d(_SeparableConv):
    """As `SeparableConv1d`, of images.

    >>> import anynet as an
    >>> an.nn.SeparableConv2d(3, 6, 3, padding="same")(an.ones((2, 3, 8, 8))).shape
    (2, 6, 8, 8)
    """

    _conv = Conv2d


class SeparableConv3d(_SeparableConv):
    """As `SeparableConv1d`, of volumes.

    >>> import anynet as an
    >>> an.nn.SeparableConv3d(1, 2, 3)(an.ones((1, 1, 4, 4, 4))).shape
    (1, 2, 2, 2, 2)
    """

    _conv = Conv3d


class _ConvLSTM(Module):
    _conv: ClassVar[Any]
    axes: ClassVar[int]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = "same",
        dilation: Size = 1,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        self.out_channels = out_channels
        made = {"device": device, "dtype": dtype}
        self.input = self._conv(
            in_channels, 4 * out_channels, kernel_size, stride, padding, dilation, bias=bias, **made
        )
        self.hidden = self._conv(
            out_channels, 4 * out_channels, kernel_size, padding="same", bias=False, **made
        )

    def forward(
        self, x: ArrayLike, hx: tuple[ArrayLike, ArrayLike] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x (steps, batch, in_channels, *spatial) → outputs (steps, batch, out_channels, *spatial), (h, c)."""
        if len(x.shape) != self.axes + 3 or x.shape[2] != self.input.in_channels:
            msg = f"got {tuple(x.shape)}: expected (steps, batch, {self.input.in_channels}, *spatial) of {self.axes} axes"
            raise ShapeError(msg)
        steps, batch = x.shape[:2]
        gates = self.input(reshape(x, (steps * batch, *x.shape[2:])))
        gates = reshape(gates, (steps, batch, *gates.shape[1:]))
        h: Any
        c: Any
        if hx is None:
            shape = (batch, self.out_channels, *gates.shape[3:])
            h = c = creation.zeros(shape, dtype=gates.dtype, device=gates.device)
        else:
            h, c = hx
        outs = []
        n = self.out_channels
        for t in range(steps):
            a = gates[t, ...] + self.hidden(h)
            i, f, g, o = (a[:, k * n : (k + 1) * n, ...] for k in range(4))
            c = sigmoid(f) * c + sigmoid(i) * e.tanh(g)
            h = sigmoid(o) * e.tanh(c)
            outs.append(h)
        return stack(outs), (h, c)


class ConvLSTM1d(_ConvLSTM):
    """An LSTM whose products are convolutions (Shi et al. 2015, without peepholes): with a = W_x ∗ x_t + W_h ∗ h_{t−1} + b in
    the parts i, f, g, o, c_t = σ(f) c_{t−1} + σ(i) tanh(g), h_t = σ(o) tanh(c_t).

    `stride`, `padding` and `dilation` are those of W_x; W_h keeps the size.

    >>> import anynet as an
    >>> y, (h, c) = an.nn.ConvLSTM1d(2, 3, 3)(an.ones((4, 1, 2, 6)))
    >>> y.shape, h.shape
    ((4, 1, 3, 6), (1, 3, 6))
    """

    _conv, axes = Conv1d, 1


class ConvLSTM2d(_ConvLSTM):
    """As `ConvLSTM1d`, of images.

    >>> import anynet as an
    >>> an.nn.ConvLSTM2d(2, 3, 3)(an.ones((4, 1, 2, 6, 6)))[0].shape
    (4, 1, 3, 6, 6)
    """

    _conv, axes = Conv2d, 2


class ConvLSTM3d(_ConvLSTM):
    """As `ConvLSTM1d`, of volumes.

    >>> import anynet as an
    >>> an.nn.ConvLSTM3d(1, 2, 3)(an.ones((2, 1, 1, 4, 4, 4)))[0].shape
    (2, 1, 2, 4, 4, 4)
    """

    _conv, axes = Conv3d, 3


class ChildSumTreeLSTM(Module):
    """An LSTM over trees with any number of children (Tai et al. 2015, equations 2-8): h̃ = Σ h_k, i, o, u from x and h̃, a
    forget gate f_k for each child from x and h_k, c = σ(i) tanh(u) + Σ σ(f_k) c_k, h = σ(o) tanh(c).

    `forward(x, children)`: x (batch, in), children a list of (h, c) → (h, c) of the node.

    >>> import anynet as an
    >>> tree = an.nn.ChildSumTreeLSTM(3, 2)
    >>> leaf = tree(an.ones((1, 3)))
    >>> h, c = tree(an.ones((1, 3)), [leaf, leaf, leaf])
    >>> h.shape
    (1, 2)
    """

    def __init__(
        self, in_features: int, out_features: int, device: str | None = None, dtype: Any = None
    ) -> None:
        self.out_features = out_features
        self.input = Linear(in_features, 4 * out_features, True, device, dtype)
        self.hidden = Linear(out_features, 3 * out_features, False, device, dtype)
        self.forget = Linear(out_features, out_features, False, device, dtype)

    def forward(self, x: ArrayLike, children: Sequence[tuple[Any, Any]] = ()) -> tuple[Tensor, Tensor]:
        """(h, c) of a node."""
        n = self.out_features
        a = self.input(x)
        iou, f = a[:, : 3 * n], a[:, 3 * n :]
        c: Any = 0.0
        if children:
            total = children[0][0]
            for h, _ in children[1:]:
                total = total + h
            iou = iou + self.hidden(total)
            for h, before in children:
                c = c + sigmoid(f + self.forget(h)) * before
        i, o, u = (iou[:, k * n : (k + 1) * n] for k in range(3))
        c = c + sigmoid(i) * e.tanh(u)
        return sigmoid(o) * e.tanh(c), c


class NaryTreeLSTM(Module):
    """An LSTM over trees with at most `n_ary` children in order, each with weights of its own, also for the forget gates
    (Tai et al. 2015, equations 9-14).

    `forward(x, children)`: children a list of at most n_ary (h, c), or None where one is missing.

    >>> import anynet as an
    >>> tree = an.nn.NaryTreeLSTM(3, 2, n_ary=2)
    >>> left = tree(an.ones((1, 3)))
    >>> tree(an.ones((1, 3)), [left, None])[0].shape
    (1, 2)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        n_ary: int = 2,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        if n_ary < 1:
            msg = f"NaryTreeLSTM: n_ary is at least 1, got {n_ary}"
            raise ValueError(msg)
        self.out_features, self.n_ary = out_features, n_ary
        self.input = Linear(in_features, 4 * out_features, True, device, dtype)
        self.children_weights = [
            Linear(out_features, (3 + n_ary) * out_features, False, device, dtype) for _ in range(n_ary)
        ]

    def forward(self, x: ArrayLike, children: Sequence[tuple[Any, Any] | None] = ()) -> tuple[Tensor, Tensor]:
        """(h, c) of a node."""
        if len(children) > self.n_ary:
            msg = f"got {len(children)} children, expected at most {self.n_ary}"
            raise ShapeError(msg)
        n = self.out_features
        a = self.input(x)
        iou, f = a[:, : 3 * n], a[:, 3 * n :]
        gates = [f] * self.n_ary
        for child, weights in zip(children, self.children_weights, strict=False):
            if child is not None:
                b = weights(child[0])
                iou = iou + b[:, : 3 * n]
                gates = [g + b[:, (3 + k) * n : (4 + k) * n] for k, g in enumerate(gates)]
        i, o, u = (iou[:, k * n : (k + 1) * n] for k in range(3))
        c = sigmoid(i) * e.tanh(u)
        for child, gate in zip(children, gates, strict=False):
            if child is not None:
                c = c + sigmoid(gate) * child[1]
        return sigmoid(o) * e.tanh(c), c


class CRF(Module):
    """A linear-chain conditional random field (Lafferty et al. 2001): p(tags | emissions) ∝ exp(start[y₁] + Σ emission[t, y_t]
    + Σ transition[y_{t−1}, y_t] + end[y_T]).

    emissions (steps, batch, num_tags), or (batch, steps, num_tags) with `batch_first`; tags (steps, batch) of integers; mask
    (steps, batch), True where there is a step, which begin at the first. `forward` gives log p (`reduction` "sum",
    "mean", "token_mean" or "none"), by the forward recursion; `decode` the best tags, by Viterbi's.

    >>> import anynet as an
    >>> crf = an.nn.CRF(3)
    >>> emissions = an.asarray([[[9.0, 0.0, 0.0]], [[0.0, 0.0, 9.0]]])
    >>> crf.decode(emissions)
    [[0, 2]]
    >>> crf(emissions, an.asarray([[0], [2]])).item() > -0.1
    True
    """

    def __init__(
        self, num_tags: int, batch_first: bool = False, device: str | None = None, dtype: Any = None
    ) -> None:
        if num_tags < 1:
            msg = f"CRF: num_tags is at least 1, got {num_tags}"
            raise ValueError(msg)
        self.num_tags, self.batch_first = num_tags, batch_first
        self.start_transitions = Parameter(creation.empty(num_tags, device=device, dtype=dtype))
        self.end_transitions = Parameter(creation.empty(num_tags, device=device, dtype=dtype))
        self.transitions = Parameter(creation.empty((num_tags, num_tags), device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the transitions anew from U(−0.1, 0.1)."""
        for p in (self.start_transitions, self.end_transitions, self.transitions):
            init.uniform_(p, -0.1, 0.1)

    def _steps_first(self, emissions: Any, mask: Any) -> tuple[Any, Any]:
        if len(emissions.shape) != 3 or emissions.shape[2] != self.num_tags:
            order = "(batch, steps, " if self.batch_first else "(steps, batch, "
            msg = f"got {tuple(emissions.shape)}: expected {order}{self.num_tags})"
            raise ShapeError(msg)
        if mask is None:
            mask = creation.ones(tuple(emissions.shape[:2]), dtype="bool", device=emissions.device)
        elif tuple(mask.shape) != tuple(emissions.shape[:2]):
            msg = f"got a mask of shape {tuple(mask.shape)}, expected {tuple(emissions.shape[:2])}"
            raise ShapeError(msg)
        if self.batch_first:
            emissions, mask = _turned(emissions), _turned(mask)
        return emissions, mask

    def forward(
        self, emissions: ArrayLike, tags: ArrayLike, mask: ArrayLike | None = None, reduction: str = "sum"
    ) -> Tensor:
        """log p(tags | emissions)"""
        if reduction not in ("sum", "mean", "token_mean", "none"):
            msg = f"CRF: reduction is 'sum', 'mean', 'token_mean' or 'none', got {reduction!r}"
            raise ValueError(msg)
        if tuple(tags.shape) != tuple(emissions.shape[:2]):
            msg = f"got tags of shape {tuple(tags.shape)}, expected {tuple(emissions.shape[:2])}"
            raise ShapeError(msg)
        emissions, mask = self._steps_first(emissions, mask)
        tags = _turned(tags) if self.batch_first else tags
        score = self._score(emissions, tags, mask) - self._total(emissions, mask)
        if reduction == "none":
            return score  # type: ignore[no-any-return]
        if reduction == "mean":
            return mean(score)
        return sum(score) / sum(astype(mask, score.dtype)) if reduction == "token_mean" else sum(score)

    def _score(self, emissions: Any, tags: Any, mask: Any) -> Any:
        """Of the given tags."""
        at = take_along_axis(emissions, expand_dims(tags, axis=2), axis=2)[..., 0]
        some = astype(mask, emissions.dtype)
        score = take(self.start_transitions, tags[0, ...], axis=0) + at[0, ...]
        pairs = reshape(self.transitions, (-1,))
        for t in range(1, emissions.shape[0]):
            step = take(pairs, tags[t - 1, ...] * self.num_tags + tags[t, ...], axis=0) + at[t, ...]
            score = score + step * some[t, ...]
        last = astype(sum(astype(mask, tags.dtype), axis=0) - 1, tags.dtype)
        ends = take_along_axis(tags, expand_dims(last, axis=0), axis=0)[0, ...]
        return score + take(self.end_transitions, ends, axis=0)

    def _total(self, emissions: Any, mask: Any) -> Any:
        """log Σ over all tags of exp(score)."""
        a = self.start_transitions + emissions[0, ...]
        for t in range(1, emissions.shape[0]):
            new = logsumexp(expand_dims(a, axis=2) + self.transitions, axis=1) + emissions[t, ...]
            a = e.where(expand_dims(mask[t, ...], axis=1), new, a)
        return logsumexp(a + self.end_transitions, axis=1)

    def decode(self, emissions: ArrayLike, mask: ArrayLike | None = None) -> list[list[int]]:
        """The best tags of each sequence, as lists of integers."""
        emissions, mask = self._steps_first(emissions, mask)
        emissions = emissions.detach() if isinstance(emissions, Tensor) else emissions
        steps, batch = emissions.shape[:2]
        lengths = [int(n) for n in _listed(sum(astype(mask, "int64"), axis=0))]
        best = self.start_transitions.detach() + emissions[0, ...]
        scores, back = [best], []
        for t in range(1, steps):
            all_ways = expand_dims(best, axis=2) + self.transitions.detach()
            back.append(_listed(argmax(all_ways, axis=1)))
            best = max(all_ways, axis=1) + emissions[t, ...]
            scores.append(best)
        found = []
        for i in range(batch):
            n = lengths[i]
            tag = int(argmax(scores[n - 1][i, ...] + self.end_transitions.detach()))
            path = [tag]
            for t in range(n - 2, -1, -1):
                tag = int(back[t][i][tag])
                path.append(tag)
            found.append(path[::-1])
        return found


def _turned(x: Any) -> Any:
    """The first two axes exchanged."""
    return permute_dims(x, (1, 0, *range(2, len(x.shape))))


def _listed(x: Any) -> Any:
    return x.tolist() if isinstance(x, Tensor) else Tensor(x).tolist()


class _Sampled(Module):
    """What losses over a few drawn classes share: the classes' vectors, and draws in proportion to countsᵖ."""

    def __init__(
        self,
        in_features: int,
        counts: Sequence[float],
        sample_size: int,
        power: float = 0.75,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        weights = [float(n) ** power if n > 0 else 0.0 for n in counts]
        if not weights or math.fsum(weights) <= 0 or sample_size < 1:
            msg = f"{type(self).__name__}: counts are not negative and not all zero, and sample_size is at least 1"
            raise ValueError(msg)
        total = math.fsum(weights)
        self.sample_size, self.in_features = sample_size, in_features
        self.weight = Parameter(creation.zeros((len(weights), in_features), device=device, dtype=dtype))
        made = {"device": device, "dtype": dtype}
        self.probabilities = Buffer([w / total for w in weights], persistent=False, **made)
        ends, so_far = [], 0.0
        for w in weights:
            so_far += w / total
            ends.append(so_far)
        self._ends = [*ends[:-1], 1.0]

    def sample(self, count: int) -> list[list[int]]:
        """`sample_size` classes for each of `count` examples, from the stream of weights."""
        draws = random.uniform((count, self.sample_size))
        return [[bisect.bisect_right(self._ends, float(u)) for u in row] for row in draws]

    def _logits(self, x: Any, target: Any, samples: Any) -> tuple[Any, Any]:
        """(batch, 1 + sample_size): of the target and of the drawn classes; and which classes those are."""
        if len(x.shape) != 2 or x.shape[1] != self.in_features or tuple(target.shape) != tuple(x.shape[:1]):
            msg = f"got x {tuple(x.shape)} and target {tuple(target.shape)}: expected (n, {self.in_features}) and (n,)"
            raise ShapeError(msg)
        drawn: Any = samples if samples is not None else self.sample(x.shape[0])
        if not hasattr(drawn, "shape"):
            drawn = Tensor(drawn, dtype=target.dtype, device=x.device)
        classes = concat([expand_dims(target, axis=1), drawn], axis=1)
        vectors = reshape(
            take(self.weight, reshape(classes, (-1,)), axis=0), (*classes.shape, self.in_features)
        )
        return sum(vectors * expand_dims(x, axis=1), axis=-1), classes


class NegativeSampling(_Sampled):
    """−log σ(w_t · x) − Σ_k log σ(−w_k · x) with `sample_size` classes k drawn in proportion to counts^power (Mikolov et al.
    2013). x (n, in_features), target (n,) of classes; `reduction` "sum", "mean" or "none".

    >>> import anynet as an
    >>> loss = an.nn.NegativeSampling(4, counts=[5, 3, 2], sample_size=2)
    >>> round(loss(an.ones((1, 4)), an.asarray([1])).item(), 4)  # the vectors begin at zero: 3 log 2
    2.0794
    """

    def forward(self, x: ArrayLike, target: ArrayLike, reduction: str = "sum", samples: Any = None) -> Tensor:
        """The loss; `samples` (n, sample_size) gives the drawn classes instead of drawing them."""
        logits, _ = self._logits(x, target, samples)
        sign = creation.asarray([-1.0] + [1.0] * self.sample_size, dtype=logits.dtype, device=logits.device)
        return _reduce(sum(softplus(logits * sign), axis=1), reduction)


class NCELoss(_Sampled):
    """Noise-contrastive estimation (Gutmann & Hyvärinen 2010): logistic regression between the target and `sample_size` drawn
    classes, with logits w_y · x − log(sample_size · q(y)), q the distribution of the draws.

    >>> import anynet as an
    >>> loss = an.nn.NCELoss(4, counts=[1, 1], sample_size=2, power=1.0)
    >>> round(loss(an.ones((1, 4)), an.asarray([1])).item(), 4)  # all logits are 0
    2.0794
    """

    def forward(self, x: ArrayLike, target: ArrayLike, reduction: str = "sum", samples: Any = None) -> Tensor:
        """The loss; `samples` (n, sample_size) gives the drawn classes instead of drawing them."""
        logits, classes = self._logits(x, target, samples)
        chance = reshape(take(self.probabilities, reshape(classes, (-1,)), axis=0), tuple(classes.shape))
        logits = logits - e.log(chance * float(self.sample_size))
        sign = creation.asarray([-1.0] + [1.0] * self.sample_size, dtype=logits.dtype, device=logits.device)
        return _reduce(sum(softplus(logits * sign), axis=1), reduction)


class AdaptiveOutput(NamedTuple):
    """What `AdaptiveLogSoftmaxWithLoss` gives: log p of the targets (n,), and the loss, −their mean."""

    output: Any
    loss: Any


class AdaptiveLogSoftmaxWithLoss(Module):
    """log softmax over many classes sorted by frequency (Grave et al. 2017): the classes below `cutoffs`[0] and one entry for
    each further cluster are one softmax, and the classes of a cluster another, over in_features / div_value^i features.

    x (n, in_features) or (in_features,), target (n,) or () of classes → (log p of the targets, loss). `log_prob` gives all
    classes, `predict` the most probable. Only the rows of a cluster run through its layers.

    >>> import anynet as an
    >>> layer = an.nn.AdaptiveLogSoftmaxWithLoss(16, 10, cutoffs=[3, 6])
    >>> out = layer(an.ones((2, 16)), an.asarray([0, 9]))
    >>> out.output.shape, out.loss.shape, layer.log_prob(an.ones((2, 16))).shape
    ((2,), (), (2, 10))
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        cutoffs = [int(c) for c in cutoffs]
        if not cutoffs or cutoffs != sorted(set(cutoffs)) or cutoffs[0] < 1 or cutoffs[-1] > n_classes - 1:
            msg = (
                f"AdaptiveLogSoftmaxWithLoss: cutoffs are increasing integers between 1 and n_classes − 1 = {n_classes - 1}, got "
                f"{cutoffs}"
            )
            raise ValueError(msg)
        self.in_features, self.n_classes, self.div_value = in_features, n_classes, div_value
        self.cutoffs = [*cutoffs, n_classes]
        self.head = Linear(in_features, cutoffs[0] + len(cutoffs), head_bias, device, dtype)
        self.tail = ModuleList()
        for i, (low, high) in enumerate(itertools.pairwise(self.cutoffs)):
            width = int(in_features // div_value ** (i + 1))
            if width < 1:
                msg = f"AdaptiveLogSoftmaxWithLoss: in_features {in_features} / div_value^{i + 1} is less than 1"
                raise ValueError(msg)
            self.tail.append(
                Sequential(
                    Linear(in_features, width, False, device, dtype),
                    Linear(width, high - low, False, device, dtype),
                )
            )

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        self.head.reset_parameters()
        for first, second in self.tail:
            first.reset_parameters()
            second.reset_parameters()

    def _rows(self, x: Any) -> None:
        if len(x.shape) != 2 or x.shape[1] != self.in_features:
            msg = f"got {tuple(x.shape)}: expected (n, {self.in_features})"
            raise ShapeError(msg)

    def forward(self, x: ArrayLike, target: ArrayLike) -> AdaptiveOutput:
        """(log p of the targets, −their mean)"""
        single = len(target.shape) == 0
        if single:
            x, target = expand_dims(x, axis=0), expand_dims(target, axis=0)
        self._rows(x)
        if tuple(target.shape) != tuple(x.shape[:1]):
            msg = f"got x {tuple(x.shape)} and target {tuple(target.shape)}: expected one target for each row"
            raise ShapeError(msg)
        classes = _listed(target)
        if any(not 0 <= k < self.n_classes for k in classes):
            ends = sorted(classes)
            msg = f"AdaptiveLogSoftmaxWithLoss: targets lie between 0 and {self.n_classes - 1}, got {ends[0]} to {ends[-1]}"
            raise ValueError(msg)
        head = log_softmax(self.head(x), axis=1)
        first = self.cutoffs[0]
        clusters = [bisect.bisect_right(self.cutoffs, k) for k in classes]
        entries = [k if c == 0 else first + c - 1 for k, c in zip(classes, clusters, strict=True)]
        index = Tensor(entries, dtype="int64", device=x.device)
        output = take_along_axis(head, expand_dims(index, axis=1), axis=1)[:, 0]
        for c, layers in enumerate(self.tail, 1):
            rows = [i for i, own in enumerate(clusters) if own == c]
            if not rows:
                continue
            at = Tensor(rows, dtype="int64", device=x.device)
            logs = log_softmax(layers(take(x, at, axis=0)), axis=1)
            inner = Tensor([classes[i] - self.cutoffs[c - 1] for i in rows], dtype="int64", device=x.device)
            picked = take_along_axis(logs, expand_dims(inner, axis=1), axis=1)[:, 0]
            output = output + index_add(output * 0.0, at, picked)
        loss = -mean(output)
        return AdaptiveOutput(output[0] if single else output, loss)

    def log_prob(self, x: ArrayLike) -> Any:
        """log p of all classes, (n, n_classes)."""
        self._rows(x)
        head = log_softmax(self.head(x), axis=1)
        first = self.cutoffs[0]
        parts = [head[:, :first]]
        for c, layers in enumerate(self.tail):
            parts.append(log_softmax(layers(x), axis=1) + head[:, first + c : first + c + 1])
        return concat(parts, axis=1)

    def predict(self, x: ArrayLike) -> Any:
        """The most probable class of each row."""
        return argmax(self.log_prob(x), axis=1)
