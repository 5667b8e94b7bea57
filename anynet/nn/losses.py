"""Losses as modules, over the functions of `anynet.nn.functional.losses`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from anynet.equations import REDUCED, REDUCED_GRADIENT, equation
from anynet.nn import functional as F
from anynet.nn.linear import Linear
from anynet.nn.module import Module
from anynet.ops.manipulation import reshape
from anynet.tensor import Buffer, Tensor, to_plain, unwrap
from anynet.typing import ArrayLike
from anynet_backends import Array, backend_of

__all__ = [
    "BCELoss", "BCEWithLogitsLoss", "CTCLoss", "CategoricalHingeLoss", "HingeLoss", "MAPELoss", "MSLELoss", "SquaredHingeLoss",
    "KLDivLoss", "L1Loss", "MSELoss", "NLLLoss", "NLLLoss2d", "BinaryFocalLoss",
    "CircleLoss", "CosineEmbeddingLoss", "CosineSimilarity", "CrossEntropyLoss", "DiceLoss", "FocalLoss",
    "GaussianNLLLoss", "HingeEmbeddingLoss", "HuberLoss", "LinearCrossEntropyLoss", "LogCoshLoss",
    "MarginRankingLoss", "MultiLabelMarginLoss", "MultiLabelSoftMarginLoss", "MultiMarginLoss", "PairwiseDistance",
    "PoissonNLLLoss", "SmoothL1Loss", "SoftMarginLoss", "TokenCrossEntropyLoss", "TripletMarginLoss", "TripletMarginWithDistanceLoss",
    "TverskyLoss",
]  # fmt: skip


class _Reduced(Module):
    _function: Callable[..., Any]

    def __init__(self, reduction: str = "mean") -> None:
        if reduction not in ("mean", "sum", "none"):
            msg = f"{type(self).__name__}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}"
            raise ValueError(msg)
        self.reduction = reduction

    def _options(self) -> dict[str, Any]:
        return {"reduction": self.reduction}

    def denominator(self, input: ArrayLike, target: ArrayLike) -> int | Array:
        """What ``reduction="mean"`` divides the sum by, so that the losses of batches combine to that of a whole data set."""
        return _size(input)


def _size(x: ArrayLike) -> int:
    return math.prod(x.shape)


def _rows(x: ArrayLike) -> int:
    """How many rows of scores (n, classes, d1, …) there are."""
    return _size(x) // (x.shape[1] if len(x.shape) > 1 else x.shape[0]) if _size(x) else 0


def _counted(
    input: ArrayLike, target: ArrayLike, ignore_index: int | None, weight: ArrayLike | None
) -> int | Array:
    """The number of targets that are not ignored, or the sum of their classes' weights; of probabilities all rows."""
    t = to_plain(target)
    xp = backend_of(t)
    if not xp.isdtype(t.dtype, "integral"):
        return _rows(input)
    live = t != (-100 if ignore_index is None else ignore_index)
    if weight is None:
        return xp.sum(xp.astype(live, xp.int64))
    w = unwrap(weight)
    index = xp.reshape(xp.where(live, t, xp.zeros_like(t)), (-1,))
    counts = xp.astype(xp.reshape(live, (-1,)), w.dtype)
    return xp.sum(xp.take(w, xp.astype(index, xp.int64), axis=0) * counts)


class _Loss(_Reduced):
    def forward(self, input: ArrayLike, target: ArrayLike) -> Tensor:
        """The loss of `input` against `target`."""
        return type(self)._function(input, target, **self._options())  # type: ignore[no-any-return]


@equation(F.mse_loss)
class MSELoss(_Loss):
    """The squared error (x − t)².

    input and target have one shape; the result is the mean over all elements, with ``reduction="sum"`` their sum, with "none" the
    losses in that shape. ValueError for shapes that differ and for another `reduction`.

    >>> import anynet as an
    >>> round(an.nn.MSELoss()(an.asarray([1.0, 2.0]), an.asarray([1.0, 4.0])).item(), 4)
    2.0

    Source: Legendre (1805); Gauss (1809).
    """

    _function = staticmethod(F.mse_loss)


@equation(F.l1_loss)
class L1Loss(_Loss):
    """The absolute error |x − t|.

    input and target have one shape; the result is the mean over all elements, with ``reduction="sum"`` their sum, with "none" the
    losses in that shape. ValueError for shapes that differ and for another `reduction`.

    >>> import anynet as an
    >>> round(an.nn.L1Loss()(an.asarray([1.0, 2.0]), an.asarray([1.0, 4.0])).item(), 4)
    1.0

    Source: Boscovich (1757); Laplace (1789).
    """

    _function = staticmethod(F.l1_loss)


@equation(F.huber_loss)
class HuberLoss(_Loss):
    """Half the square of small differences, and large ones in proportion; δ = `delta` is where the one becomes the other.

    input and target have one shape; the result is the mean over all elements, with ``reduction="sum"`` their sum, with "none" the
    losses in that shape. ValueError for shapes that differ and for another `reduction`.

    >>> import anynet as an
    >>> round(an.nn.HuberLoss()(an.asarray([3.0]), an.asarray([0.0])).item(), 4)
    2.5
    """

    _function = staticmethod(F.huber_loss)

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = delta

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "delta": self.delta}


@equation(F.smooth_l1_loss)
class SmoothL1Loss(_Loss):
    """The absolute difference, rounded off by a parabola where it is below β; β = 0 is `L1Loss`.

    input and target have one shape; the result is the mean over all elements, with ``reduction="sum"`` their sum, with "none" the
    losses in that shape. ValueError for shapes that differ and for another `reduction`.

    >>> import anynet as an
    >>> round(an.nn.SmoothL1Loss()(an.asarray([2.0]), an.asarray([0.0])).item(), 4)
    1.5

    Source: Girshick: Fast R-CNN (2015).
    """

    _function = staticmethod(F.smooth_l1_loss)

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = beta

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "beta": self.beta}


class _Weighted(_Loss):
    def __init__(self, weight: ArrayLike | None = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.weight = None if weight is None else Buffer(weight)

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "weight": self.weight}


@equation(F.cross_entropy)
class CrossEntropyLoss(_Weighted):
    """The negative logarithm of the target's probability; with `label_smoothing` a share of the target is spread over
    all classes.

    x: logits (n, classes), (n, classes, d1, …) or (classes,); target: class indices (n, d1, …), integers, or probabilities in
    the shape of x. `weight` (classes,) weighs the classes; targets equal to `ignore_index` count for nothing.

    The result is the mean over the targets that count, weighted by their classes' weights, with ``reduction="sum"`` the sum,
    with "none" the losses in the shape of target. ValueError for shapes that do not fit and for another
    `reduction`, IndexError for targets that are no class.

    >>> import anynet as an
    >>> round(an.nn.CrossEntropyLoss()(an.asarray([[0.0, 0.0]]), an.asarray([1])).item(), 4)
    0.6931

    Source: Good: Rational decisions (1952); smoothing: Szegedy et al.: Rethinking the Inception architecture (2016).
    """

    _function = staticmethod(F.cross_entropy)

    def __init__(
        self,
        weight: ArrayLike | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, reduction)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def _options(self) -> dict[str, Any]:
        return {
            **super()._options(), "ignore_index": self.ignore_index, "label_smoothing": self.label_smoothing,
        }  # fmt: skip

    def denominator(self, input: ArrayLike, target: ArrayLike) -> int | Array:
        """The targets that count, or the sum of their classes' weights."""
        return _counted(input, target, self.ignore_index, self.weight)


@equation(F.token_cross_entropy)
class TokenCrossEntropyLoss(CrossEntropyLoss):
    """`CrossEntropyLoss` with the classes along the last axis, as language models have them.

    x: logits (…, classes); target: class indices (…), integers, or probabilities in the shape of x. The options are those of
    `CrossEntropyLoss`; with ``reduction="none"`` the losses are in the shape of target. `anynet.fit` gives metrics the
    classes along axis 1, so that accuracy, perplexity and others need to know nothing of it.

    >>> import anynet as an
    >>> round(an.nn.TokenCrossEntropyLoss()(an.zeros((2, 5, 4)), an.zeros((2, 5), dtype=an.int64)).item(), 4)
    1.3863
    """

    _function = staticmethod(F.token_cross_entropy)

    def denominator(self, input: ArrayLike, target: ArrayLike) -> int | Array:
        """The targets that count, or the sum of their classes' weights."""
        return super().denominator(reshape(input, (-1, input.shape[-1])), target)


@equation(F.nll_loss)
class NLLLoss(_Weighted):
    """The negative log-likelihood of classes t under log-probabilities x.

    x (n, classes), (n, classes, d1, …) or (classes,); target: class indices (n, d1, …), integers. `weight` (classes,) weighs the
    classes; targets equal to `ignore_index` count for nothing.

    The result is the mean over the targets that count, weighted by their classes' weights, with ``reduction="sum"`` the sum,
    with "none" the losses in the shape of target. ValueError for shapes that do not fit and for another
    `reduction`, IndexError for targets that are no class.

    >>> import anynet as an
    >>> round(an.nn.NLLLoss()(an.asarray([[-2.0, -1.0]]), an.asarray([1])).item(), 4)
    1.0

    Source: Fisher: On the mathematical foundations of theoretical statistics (1922).
    """

    _function = staticmethod(F.nll_loss)

    def __init__(
        self, weight: ArrayLike | None = None, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        super().__init__(weight, reduction)
        self.ignore_index = ignore_index

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "ignore_index": self.ignore_index}

    def denominator(self, input: ArrayLike, target: ArrayLike) -> int | Array:
        """The targets that count, or the sum of their classes' weights."""
        return _counted(input, target, self.ignore_index, self.weight)


class NLLLoss2d(NLLLoss):
    """−w_t x_t: the older name of `NLLLoss`, which takes inputs of any number of axes.

    x: log-probabilities (n, classes), (n, classes, d1, …) or (classes,); target: class indices (n, d1, …), integers. `weight`
    (classes,) weighs the classes; targets equal to `ignore_index` count for nothing.

    The result is the mean over the targets that count, weighted by their classes' weights, with ``reduction="sum"`` the sum,
    with "none" the losses in the shape of target. ValueError for shapes that do not fit and for another
    `reduction`, IndexError for targets that are no class.

    >>> import anynet as an
    >>> an.nn.NLLLoss2d()(an.full((1, 3, 2, 2), -1.0), an.zeros((1, 2, 2), dtype=an.int64)).item()
    1.0
    """


@equation(F.binary_cross_entropy)
class BCELoss(_Weighted):
    """Cross-entropy of probabilities and targets in [0, 1]; the logarithms are at least −100, as in PyTorch.

    `weight` w is broadcast to the losses. input and target have one shape; the result is the mean over all elements, with
    ``reduction="sum"`` their sum, with "none" the losses in that shape. ValueError for shapes that differ and for another
    `reduction`.

    >>> import anynet as an
    >>> round(an.nn.BCELoss()(an.asarray([0.5]), an.asarray([1.0])).item(), 4)
    0.6931

    Source: Good: Rational decisions (1952).
    """

    _function = staticmethod(F.binary_cross_entropy)


@equation(F.binary_cross_entropy_with_logits)
class BCEWithLogitsLoss(_Weighted):
    """Binary cross-entropy of σ(x), from the logits x without overflow.

    `pos_weight` p weighs the positive targets; `weight` w and `pos_weight` are broadcast to the losses.
    input and target have one shape; the result is the mean over all elements, with ``reduction="sum"`` their sum, with "none" the
    losses in that shape. ValueError for shapes that differ and for another `reduction`.

    >>> import anynet as an
    >>> round(an.nn.BCEWithLogitsLoss()(an.asarray([0.0]), an.asarray([1.0])).item(), 4)
    0.6931

    Source: Good: Rational decisions (1952).
    """

    _function = staticmethod(F.binary_cross_entropy_with_logits)

    def __init__(
        self, weight: ArrayLike | None = None, reduction: str = "mean", pos_weight: ArrayLike | None = None
    ) -> None:
        super().__init__(weight, reduction)
        self.pos_weight = None if pos_weight is None else Buffer(pos_weight)

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "pos_weight": self.pos_weight}


@equation(F.kl_div)
class KLDivLoss(_Loss):
    """The Kullback-Leibler divergence of probabilities t from log-probabilities x, 0 where t is 0; with `log_target` t is a
    logarithm, too.

    input and target have one shape; the result is the mean over all elements, with ``reduction="batchmean"`` the sum over the
    length of the first axis, the divergence of the definition, with "sum" the sum, with "none" the losses in that shape.
    ValueError for shapes that differ and for another `reduction`.

    >>> import anynet as an
    >>> round(an.nn.KLDivLoss(reduction="batchmean")(an.log(an.asarray([[0.5, 0.5]])), an.asarray([[0.25, 0.75]])).item(), 4)
    0.1308

    Source: Kullback, Leibler: On information and sufficiency (1951).
    """

    _function = staticmethod(F.kl_div)

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__("mean" if reduction == "batchmean" else reduction)
        self.reduction, self.log_target = reduction, log_target

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "log_target": self.log_target}

    def denominator(self, input: ArrayLike, target: ArrayLike) -> int | Array:
        """The elements, or the rows for ``reduction="batchmean"``."""
        return _size(input) if self.reduction == "mean" else (input.shape[0] if input.shape else 1)


@equation(F.poisson_nll_loss)
class PoissonNLLLoss(_Loss):
    """The negative log-likelihood of a Poisson variable with rate eˣ, or x with ``log_input=False``, without ln t!.
    With `full` Stirling's approximation of ln t! is added where t > 1.

    input and target have one shape; the result is the mean over all elements, with ``reduction="sum"`` their sum, with "none" the
    losses in that shape. ValueError for shapes that differ and for another `reduction`.

    >>> import anynet as an
    >>> round(an.nn.PoissonNLLLoss()(an.asarray([0.0]), an.asarray([2.0])).item(), 4)
    1.0
    """

    _function = staticmethod(F.poisson_nll_loss)

    def __init__(
        self, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction)
        self.log_input, self.full, self.eps = log_input, full, eps

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "log_input": self.log_input, "full": self.full, "eps": self.eps}


@equation(F.gaussian_nll_loss)
class GaussianNLLLoss(_Reduced):
    """The negative log-likelihood of normal targets: x are means, var variances; with `full` its constant is added.

    input and target have one shape; var the same, or 1 in place of one axis, or nothing in place of the last, or is one number. The
    result is the mean over all elements, with ``reduction="sum"`` their sum, with "none" the losses in that shape. ValueError for
    shapes that do not fit, negative variances and another `reduction`.

    >>> import anynet as an
    >>> round(an.nn.GaussianNLLLoss()(an.asarray([1.0]), an.asarray([2.0]), an.asarray([1.0])).item(), 4)
    0.5

    Source: Nix, Weigend: Estimating the mean and variance of the target probability distribution (1994).
    """

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.full, self.eps = full, eps

    def forward(self, input: ArrayLike, target: ArrayLike, var: ArrayLike | None = None) -> Tensor:
        """The loss of means `input` and variances `var` for `target`."""
        if var is None:
            msg = "GaussianNLLLoss: input, target and var must be given, got two arguments"
            raise TypeError(msg)
        return F.gaussian_nll_loss(input, target, var, self.full, self.eps, self.reduction)

    def denominator(self, outputs: Sequence[ArrayLike], target: ArrayLike) -> int:  # type: ignore[override]
        """The elements."""
        return _size(outputs[0])


@equation(F.hinge_embedding_loss)
class HingeEmbeddingLoss(_Loss):
    """A distance x, small where t = 1, and at least the margin where t = −1.

    input and target have one shape; the result is the mean over all elements, with ``reduction="sum"`` their sum, with "none" the
    losses in that shape. ValueError for shapes that differ and for another `reduction`.

    >>> import anynet as an
    >>> round(an.nn.HingeEmbeddingLoss()(an.asarray([0.5, 0.25]), an.asarray([1.0, -1.0])).item(), 4)
    0.625

    Source: Hadsell, Chopra, LeCun: Dimensionality reduction by learning an invariant mapping (2006).
    """

    _function = staticmethod(F.hinge_embedding_loss)

    def __init__(self, margin: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.margin = margin

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "margin": self.margin}


@equation(F.soft_margin_loss)
class SoftMarginLoss(_Loss):
    """The logistic loss of scores x, t = ±1.

    input and target have one shape; the result is the mean over all elements, with ``reduction="sum"`` their sum, with "none" the
    losses in that shape. ValueError for shapes that differ and for another `reduction`.

    >>> import anynet as an
    >>> round(an.nn.SoftMarginLoss()(an.asarray([0.0]), an.asarray([1.0])).item(), 4)
    0.6931

    Source: Cox: The regression analysis of binary sequences (1958).
    """

    _function = staticmethod(F.soft_margin_loss)


@equation(F.multilabel_margin_loss)
class MultiLabelMarginLoss(_Loss):
    """The classes that a row of target lists, up to the first −1, are to score higher by 1 than those that it does not.

    x and target (n, classes) or (classes,), target of class indices, integers. The result is the mean over the rows, with
    ``reduction="sum"`` their sum, with "none" the losses of the rows (n,). ValueError for shapes that do not fit and for
    another `reduction`.

    >>> import anynet as an
    >>> round(an.nn.MultiLabelMarginLoss()(an.asarray([[0.1, 0.2, 0.4, 0.8]]), an.asarray([[3, 0, -1, 1]])).item(), 4)
    0.85

    Source: Crammer, Singer: A family of additive online algorithms for category ranking (2003).
    """

    _function = staticmethod(F.multilabel_margin_loss)

    def denominator(self, input: ArrayLike, target: ArrayLike) -> int | Array:
        """The rows."""
        return input.shape[0] if len(input.shape) > 1 else 1


@equation(F.multilabel_soft_margin_loss)
class MultiLabelSoftMarginLoss(_Loss):
    """Binary cross-entropy of each class's logit, the mean over the last axis, t of 0 and 1.

    x and target (…, classes); `weight` w (classes,). The result is the mean over the rows, with ``reduction="sum"`` their sum,
    with "none" the losses of the rows (…). ValueError for shapes that differ and for another `reduction`.

    >>> import anynet as an
    >>> round(an.nn.MultiLabelSoftMarginLoss()(an.asarray([[0.0, 0.0]]), an.asarray([[1.0, 0.0]])).item(), 4)
    0.6931

    Source: Cox: The regression analysis of binary sequences (1958), a label at a time.
    """

    _function = staticmethod(F.multilabel_soft_margin_loss)

    def __init__(self, weight: ArrayLike | None = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.weight = None if weight is None else Buffer(weight)

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "weight": self.weight}

    def denominator(self, input: ArrayLike, target: ArrayLike) -> int | Array:
        """The rows."""
        return _size(input) // max(input.shape[-1], 1)


@equation(F.multi_margin_loss)
class MultiMarginLoss(_Loss):
    """The hinge loss of several classes: each other's score is to be below the target's by a margin.

    x (n, classes) or (classes,), target (n,) or () of class indices; `weight` w (classes,); p must be 1 or 2. The result is the
    mean over the rows, with ``reduction="sum"`` their sum, with "none" the losses of the rows (n,). ValueError for shapes that
    do not fit and for another `reduction`.

    >>> import anynet as an
    >>> round(an.nn.MultiMarginLoss()(an.asarray([[0.0, 0.5]]), an.asarray([1])).item(), 4)
    0.25

    Source: Crammer, Singer: On the algorithmic implementation of multiclass kernel-based vector machines (2001).
    """

    _function = staticmethod(F.multi_margin_loss)

    def __init__(
        self, p: int = 1, margin: float = 1.0, weight: ArrayLike | None = None, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction)
        if p not in (1, 2):
            msg = f"MultiMarginLoss: p must be 1 or 2, got {p}"
            raise ValueError(msg)
        self.p, self.margin = p, margin
        self.weight = None if weight is None else Buffer(weight)

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "p": self.p, "margin": self.margin, "weight": self.weight}

    def denominator(self, input: ArrayLike, target: ArrayLike) -> int | Array:
        """The rows."""
        return input.shape[0] if len(input.shape) > 1 else 1


class _OfThree(_Reduced):
    def forward(self, input1: ArrayLike, input2: ArrayLike, target: ArrayLike | None = None) -> Tensor:
        """The loss of the two inputs against `target`."""
        if target is None:
            msg = f"{type(self).__name__}: three arguments must be given, got two"
            raise TypeError(msg)
        return type(self)._function(input1, input2, target, **self._options())  # type: ignore[no-any-return]

    def denominator(self, inputs: Sequence[ArrayLike], target: ArrayLike) -> int:  # type: ignore[override]
        """The elements of the loss: those of the first input, of triplets and pairs of vectors the rows."""
        first = inputs[0]
        return _size(first) if type(self) is MarginRankingLoss else _size(first) // max(first.shape[-1], 1)


@equation(F.margin_ranking_loss)
class MarginRankingLoss(_OfThree):
    """Which of two scores is to be larger, by a margin: t = 1 says that it is x₁, t = −1 that it is x₂.

    x₁, x₂ and target have one shape; the result is the mean over all elements, with ``reduction="sum"`` their sum, with "none"
    the losses in that shape. ValueError for another `reduction`.

    >>> import anynet as an
    >>> round(an.nn.MarginRankingLoss(margin=0.5)(an.asarray([1.0]), an.asarray([2.0]), an.asarray([1.0])).item(), 4)
    1.5

    Source: Herbrich, Graepel, Obermayer: Large margin rank boundaries for ordinal regression (2000).
    """

    _function = staticmethod(F.margin_ranking_loss)

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.margin = margin

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "margin": self.margin}


@equation(F.cosine_embedding_loss)
class CosineEmbeddingLoss(MarginRankingLoss):
    """Vectors in one direction where t = 1, and with a cosine of at most the margin where t = −1.

    x₁ and x₂ (n, d), target (n,), or (d,) and (). The result is the mean over the rows, with ``reduction="sum"`` their sum,
    with "none" the losses of the rows (n,). ValueError for shapes that do not fit and for another `reduction`.

    >>> import anynet as an
    >>> round(an.nn.CosineEmbeddingLoss()(an.asarray([[1.0, 0.0]]), an.asarray([[0.0, 1.0]]), an.asarray([1.0])).item(), 4)
    1.0

    Source: Hadsell, Chopra, LeCun: Dimensionality reduction by learning an invariant mapping (2006), with the cosine
      as distance.
    """

    _function = staticmethod(F.cosine_embedding_loss)


@equation(F.triplet_margin_loss, where="a[..., K] = input1; y[..., K] = input2; z[..., K] = target")
class TripletMarginLoss(_OfThree):
    """An anchor a is to be nearer to p than to n by a margin, in the p-norm.

    anchor, positive and negative (n, features) or (features,). With `swap` the smaller of d(a, n) and d(p, n) counts. The
    result is the mean over the rows, with ``reduction="sum"`` their sum, with "none" the losses of the rows (n,). ValueError
    for shapes that do not fit and for another `reduction`. `margin` must be > 0.

    >>> import anynet as an
    >>> round(an.nn.TripletMarginLoss()(an.asarray([[0.0]]), an.asarray([[1.0]]), an.asarray([[1.5]])).item(), 4)
    0.5

    Source: Balntas et al.: Learning local feature descriptors with triplets (2016).
    """

    _function = staticmethod(F.triplet_margin_loss)

    def __init__(
        self,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-6,
        swap: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        if not margin > 0:
            msg = f"TripletMarginLoss: margin must be > 0, got {margin}"
            raise ValueError(msg)
        self.margin, self.p, self.eps, self.swap = margin, p, eps, swap

    def _options(self) -> dict[str, Any]:
        options = {"margin": self.margin, "p": self.p, "eps": self.eps, "swap": self.swap}
        return {**super()._options(), **options}


@equation(F.triplet_margin_with_distance_loss, where="a = input1; y = input2; z = target")
class TripletMarginWithDistanceLoss(_OfThree):
    """An anchor a is to be nearer to p than to n by a margin, d = `distance_function`.

    anchor, positive and negative (n, features); ``distance_function(x, y)`` gives (n,), by default `PairwiseDistance`'s. With
    `swap` the smaller of d(a, n) and d(p, n) counts. The result is the mean over the rows, with ``reduction="sum"`` their sum,
    with "none" the losses of the rows (n,). ValueError for shapes that do not fit and for another `reduction`. `margin` must be
    > 0.

    >>> import anynet as an
    >>> round(an.nn.TripletMarginWithDistanceLoss()(an.asarray([[0.0]]), an.asarray([[1.0]]), an.asarray([[1.5]])).item(), 4)
    0.5

    Source: Balntas et al.: Learning local feature descriptors with triplets (2016).
    """

    _function = staticmethod(F.triplet_margin_with_distance_loss)

    def __init__(
        self,
        *,
        distance_function: Callable[[ArrayLike, ArrayLike], Tensor] | None = None,
        margin: float = 1.0,
        swap: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        if not margin > 0:
            msg = f"TripletMarginWithDistanceLoss: margin must be > 0, got {margin}"
            raise ValueError(msg)
        self.distance_function = F.pairwise_distance if distance_function is None else distance_function
        self.margin, self.swap = margin, swap

    def _options(self) -> dict[str, Any]:
        options = {"distance_function": self.distance_function, "margin": self.margin, "swap": self.swap}
        return {**super()._options(), **options}


@equation(F.cosine_similarity)
class CosineSimilarity(Module):
    """The cosine of the angle between x₁ and x₂ along `dim`.

    x₁ and x₂ are broadcast; the result has their shape without the axis `dim`.

    >>> import anynet as an
    >>> an.nn.CosineSimilarity()(an.asarray([[1.0, 0.0]]), an.asarray([[0.0, 2.0]]))
    Tensor([0.])
    """

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        self.dim, self.eps = dim, eps

    def forward(self, x1: ArrayLike, x2: ArrayLike) -> Tensor:
        """cos(x₁, x₂)"""
        return F.cosine_similarity(x1, x2, self.dim, self.eps)


@equation(F.pairwise_distance, where="p = norm")
class PairwiseDistance(Module):
    """The p-norm of the difference over the last axis.

    x₁ and x₂ (…, features) are broadcast → (…), with `keepdim` (…, 1). Where the distance is 0 the gradient is 0.

    >>> import anynet as an
    >>> an.nn.PairwiseDistance(1, eps=0.0)(an.asarray([0.0, 3.0]), an.asarray([4.0, 0.0])).item()
    7.0
    """

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        self.norm, self.eps, self.keepdim = p, eps, keepdim

    def forward(self, x1: ArrayLike, x2: ArrayLike) -> Tensor:
        """‖x₁ − x₂ + ε‖_p"""
        return F.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)


@equation(F.ctc_loss)
class CTCLoss(_Reduced):
    """−ln of the probability that a sequence of labels, with blanks and repetitions between them, gives the target (connectionist
    temporal classification).

    log_probs (steps, n, classes), or (steps, classes) without a batch: log-probabilities. targets (n, longest), or all targets
    one after the other; input_lengths and target_lengths (n,). `blank` is the class of blanks. The recursion runs over
    the target with blanks around each label, in logarithms.

    The result is the mean of the losses, each divided by the length of its target, with ``reduction="sum"`` the sum of the
    losses, with "none" the losses (n,). A target that does not fit has an infinite loss, with `zero_infinity` a loss of 0, and
    no gradient either way. ValueError for shapes and lengths that do not fit and for another `reduction`.

    >>> import anynet as an
    >>> loss = an.nn.CTCLoss()
    >>> x = an.nn.functional.log_softmax(an.zeros((5, 1, 3)), -1)
    >>> round(loss(x, an.asarray([[1, 2]]), [5], [2]).item(), 4)
    0.9689

    Source: Graves et al.: Connectionist temporal classification (2006).
    """

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False) -> None:
        super().__init__(reduction)
        self.blank, self.zero_infinity = blank, zero_infinity

    def forward(
        self, log_probs: ArrayLike, targets: ArrayLike, input_lengths: ArrayLike, target_lengths: ArrayLike
    ) -> Tensor:
        """The loss of log_probs against the targets."""
        return F.ctc_loss(
            log_probs, targets, input_lengths, target_lengths, self.blank, self.reduction, self.zero_infinity
        )

    def denominator(self, log_probs: ArrayLike, target: ArrayLike) -> int:
        """The sequences."""
        return log_probs.shape[1] if len(log_probs.shape) == 3 else 1


@equation(F.dice_loss)
class DiceLoss(_Loss):
    """1 less the Dice coefficient of probabilities and targets, summed over the axes `dim` (all unless given).

    input and target have one shape; with the axes of the examples left out of `dim`, the result is the mean over them, with
    ``reduction="sum"`` the sum, with "none" the losses. ValueError for shapes that differ and for another `reduction`.

    >>> import anynet as an
    >>> an.nn.DiceLoss()(an.ones(3), an.ones(3)).item()
    0.0
    """

    _function = staticmethod(F.dice_loss)

    def __init__(
        self, dim: int | tuple[int, ...] | None = None, smooth: float = 1e-7, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction)
        self.dim, self.smooth = dim, smooth

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "dim": self.dim, "smooth": self.smooth}

    def denominator(self, input: ArrayLike, target: ArrayLike) -> int | Array:
        """The samples; exact where `dim` leaves out the first axis, else the loss of a whole is no mean over batches."""
        return input.shape[0] if input.shape else 1


@equation(F.tversky_loss)
class TverskyLoss(_Loss):
    """The Dice loss with weights: α of what is wrongly found (F), β of what is missed (M), summed over the axes `dim`
    (all unless given); α = β = ½ is the Dice loss.

    input (probabilities p) and target t have one shape; with the axes of the examples left out of `dim`, the result is the mean
    over them, with ``reduction="sum"`` the sum, with "none" the losses. ValueError for shapes that differ and for another
    `reduction`.

    >>> import anynet as an
    >>> an.nn.TverskyLoss(alpha=0.3, beta=0.7)(an.ones(3), an.ones(3)).item()
    0.0
    """

    _function = staticmethod(F.tversky_loss)

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 0.5,
        dim: int | tuple[int, ...] | None = None,
        smooth: float = 1e-7,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        self.alpha, self.beta, self.dim, self.smooth = alpha, beta, dim, smooth

    def _options(self) -> dict[str, Any]:
        own = {"alpha": self.alpha, "beta": self.beta, "dim": self.dim, "smooth": self.smooth}
        return {**super()._options(), **own}

    def denominator(self, input: ArrayLike, target: ArrayLike) -> int | Array:
        """The samples; exact where `dim` leaves out the first axis, else the loss of a whole is no mean over batches."""
        return input.shape[0] if input.shape else 1


@equation(F.binary_focal_loss)
class BinaryFocalLoss(_Loss):
    """Binary cross-entropy of logits, in which what is already right counts less, the more the larger γ (for targets
    between 0 and 1 too); `alpha` weighs the two classes with α and 1 − α.

    input and target have one shape; the result is the mean over all elements, with ``reduction="sum"`` their sum, with "none" the
    losses in that shape. ValueError for shapes that differ and for another `reduction`.

    >>> import anynet as an
    >>> round(an.nn.BinaryFocalLoss(alpha=0.25)(an.zeros(2), an.ones(2)).item(), 4)
    0.0433

    Source: Lin et al.: Focal loss for dense object detection (2017).
    """

    _function = staticmethod(F.binary_focal_loss)

    def __init__(self, alpha: float | None = None, gamma: float = 2.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.alpha, self.gamma = alpha, gamma

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "alpha": self.alpha, "gamma": self.gamma}


@equation(F.focal_loss)
class FocalLoss(_Loss):
    """Cross-entropy in which what is already right counts less, the more the larger γ.

    x: logits (n, classes, d1, …); target: class indices (n, d1, …), integers. `alpha` (classes,) weighs the classes; targets
    equal to `ignore_index` count for nothing.

    The result is the mean over the targets that count, with ``reduction="sum"`` the sum, with "none" the losses in the shape of
    target. ValueError for shapes that do not fit, for another `reduction`, IndexError for targets that are no class.

    >>> import anynet as an
    >>> round(an.nn.FocalLoss()(an.zeros((1, 2)), an.asarray([1])).item(), 4)
    0.1733

    Source: Lin et al.: Focal loss for dense object detection (2017).
    """

    _function = staticmethod(F.focal_loss)

    def __init__(
        self,
        alpha: ArrayLike | Sequence[float] | None = None,
        gamma: float = 2.0,
        ignore_index: int = -100,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        self.alpha = None if alpha is None else Buffer(alpha, persistent=False)
        self.gamma, self.ignore_index = gamma, ignore_index

    def _options(self) -> dict[str, Any]:
        own = {"alpha": self.alpha, "gamma": self.gamma, "ignore_index": self.ignore_index}
        return {**super()._options(), **own}

    def denominator(self, input: ArrayLike, target: ArrayLike) -> int | Array:
        """The targets that count."""
        return _counted(input, target, self.ignore_index, None)


@equation(F.log_cosh_loss)
class LogCoshLoss(_Loss):
    """Half the square of small differences, and nearly the size of large ones.

    input and target have one shape; the result is the mean over all elements, with ``reduction="sum"`` their sum, with "none" the
    losses in that shape. ValueError for shapes that differ and for another `reduction`.

    >>> import anynet as an
    >>> an.nn.LogCoshLoss()(an.ones(2), an.ones(2)).item()
    0.0

    Source: Green: Bayesian reconstructions from emission tomography data (1990).
    """

    _function = staticmethod(F.log_cosh_loss)


@equation(F.circle_loss)
class CircleLoss(_Loss):
    """Each row similar to the rows of its class, dissimilar to the others, by cosines whose weights grow with what they
    lack and are held constant (Sun et al. 2020).

    input (n, features), target (n,) of classes; rows without a p or an n give 0. The result is the mean over the rows, with
    ``reduction="sum"`` their sum, with "none" the losses of the rows (n,). ValueError for shapes that do not fit and for
    another `reduction`.

    >>> import anynet as an
    >>> an.nn.CircleLoss()(an.eye(2), an.asarray([0, 1])).item()
    0.0

    Source: Sun et al.: Circle loss (2020).
    """

    _function = staticmethod(F.circle_loss)

    def __init__(self, gamma: float = 80.0, margin: float = 0.4, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.gamma, self.margin = gamma, margin

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "gamma": self.gamma, "margin": self.margin}

    def denominator(self, input: ArrayLike, target: ArrayLike) -> int | Array:
        """The rows."""
        return input.shape[0]


@equation(F.linear_cross_entropy, where="W[C, J] = linear.weight; b[C] = linear.bias or 0")
class LinearCrossEntropyLoss(_Reduced):
    """Cross-entropy of a linear layer's outputs, −Σ_c q_c w_c ln softmax(W x + b)_c, layer and loss in one.

    input (n, in_features) or (in_features,); target: class indices (n, …), integers, or probabilities. With `out_features` (d1,
    …) each example has scores (num_classes, d1, …). `weight` (num_classes,) weighs the classes; targets equal to `ignore_index`
    count for nothing; `label_smoothing` s makes q (1 − s) q + s / classes. ``options`` must be None.

    Parameters: `linear.weight` (num_classes · ∏ out_features, in_features) and, with ``bias=True``, `linear.bias`, drawn as
    those of `Linear`.

    The result is the mean over the targets that count, weighted by their classes' weights, with ``reduction="sum"`` the sum,
    with "none" the losses in the shape of target. ValueError for shapes that do not fit and for another
    `reduction`, IndexError for targets that are no class.

    >>> import anynet as an
    >>> an.nn.LinearCrossEntropyLoss(3, 4)(an.zeros((2, 3)), an.asarray([0, 3])).shape
    ()

    Source: Wijmans et al.: Cut your losses in large-vocabulary language models (2024).
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        out_features: tuple[int, ...] = (),
        bias: bool = False,
        device: str | None = None,
        dtype: Any = None,
        reduction: str = "mean",
        weight: ArrayLike | None = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        options: None = None,
    ) -> None:
        super().__init__(reduction)
        if options is not None:
            msg = f"LinearCrossEntropyLoss: options must be None, got {options!r}; PyTorch's chunks are not offered"
            raise NotImplementedError(msg)
        self.num_classes, self.out_features = num_classes, tuple(out_features)
        self.linear = Linear(in_features, num_classes * math.prod(self.out_features), bias, device, dtype)
        self.weight = None if weight is None else Buffer(weight)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, input: ArrayLike, target: ArrayLike) -> Tensor:
        """The loss of the layer's logits."""
        form, bias = (self.num_classes, *self.out_features), self.linear.bias
        return F.linear_cross_entropy(
            input, reshape(self.linear.weight, (*form, self.linear.in_features)), target, weight=self.weight,
            linear_bias=None if bias is None else reshape(bias, form),
            reduction=self.reduction, ignore_index=self.ignore_index, label_smoothing=self.label_smoothing,
        )  # fmt: skip

    def denominator(self, input: ArrayLike, target: ArrayLike) -> int | Array:
        """The targets that count, or the sum of their classes' weights."""
        return _counted(input, target, self.ignore_index, self.weight)


@equation(F.hinge_loss)
class HingeLoss(_Loss):
    """Scores x on the right side by at least 1: t = ±1, 0 standing for −1 too.

    input and target have one shape; the result is the mean over all elements, with ``reduction="sum"`` their sum, with "none" the
    losses in that shape. ValueError for shapes that differ and for another `reduction`.

    >>> import anynet as an
    >>> an.nn.HingeLoss()(an.asarray([0.5, -2.0]), an.asarray([1.0, -1.0])).item()
    0.25

    Source: Cortes, Vapnik: Support-vector networks (1995).
    """

    _function = staticmethod(F.hinge_loss)


@equation(
    "s = -1 if t == 0 else t",
    "l = max(0, 1 - s * x)**2",
    REDUCED,
    where="x = input; t = target: 1, or −1 or 0; reduction",
    gradient=f"{REDUCED_GRADIENT}; dx = -2 * dl * s * max(0, 1 - s * x)",
)
class SquaredHingeLoss(_Loss):
    """The square of `HingeLoss`: t = ±1, 0 standing for −1 too.

    input and target have one shape; the result is the mean over all elements, with ``reduction="sum"`` their sum, with "none" the
    losses in that shape. ValueError for shapes that differ and for another `reduction`.

    >>> import anynet as an
    >>> an.nn.SquaredHingeLoss()(an.asarray([0.5, -2.0]), an.asarray([1.0, -1.0])).item()
    0.125

    Source: Cortes, Vapnik: Support-vector networks (1995), with squared slack.
    """

    _function = staticmethod(F.hinge_loss)

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "p": 2}


@equation(F.categorical_hinge_loss)
class CategoricalHingeLoss(_Loss):
    """The right class's score above the highest other one by 1, t one-hot.

    x and target (…, classes). The result is the mean over the rows, with ``reduction="sum"`` their sum, with "none" the losses
    of the rows (…). ValueError for shapes that differ and for another `reduction`.

    >>> import anynet as an
    >>> an.nn.CategoricalHingeLoss()(an.asarray([[2.0, 1.5]]), an.asarray([[1.0, 0.0]])).item()
    0.5

    Source: Crammer, Singer: On the algorithmic implementation of multiclass kernel-based vector machines (2001).
    """

    _function = staticmethod(F.categorical_hinge_loss)

    def denominator(self, input: ArrayLike, target: ArrayLike) -> int | Array:
        """The rows."""
        return _size(input) // max(input.shape[-1], 1)


@equation(F.mape_loss)
class MAPELoss(_Loss):
    """100 |x − t| / max(|t|, 10⁻⁷), the mean absolute percentage error.

    input and target have one shape; the result is the mean over all elements, with ``reduction="sum"`` their sum, with "none" the
    losses in that shape. ValueError for shapes that differ and for another `reduction`.

    >>> import anynet as an
    >>> an.nn.MAPELoss()(an.asarray([1.5]), an.asarray([2.0])).item()
    25.0
    """

    _function = staticmethod(F.mape_loss)


@equation(F.msle_loss)
class MSLELoss(_Loss):
    """(ln(1 + x) − ln(1 + t))², with x and t not below 10⁻⁷: the mean squared logarithmic error.

    input and target have one shape; the result is the mean over all elements, with ``reduction="sum"`` their sum, with "none" the
    losses in that shape. ValueError for shapes that differ and for another `reduction`.

    >>> import anynet as an
    >>> round(an.nn.MSLELoss()(an.asarray([0.0]), an.asarray([1.0])).item(), 4)
    0.4805
    """

    _function = staticmethod(F.msle_loss)
