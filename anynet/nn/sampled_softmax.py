"""Losses over a few sampled classes: negative sampling and noise-contrastive estimation."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import Any

from anynet import streams
from anynet.equations import REDUCED, equation
from anynet.nn.errors import ShapeError
from anynet.nn.functional._common import reduce
from anynet.nn.module import Module
from anynet.ops import creation
from anynet.ops import elementwise as e
from anynet.ops.activations import softplus
from anynet.ops.indexing import take
from anynet.ops.manipulation import concat, expand_dims, reshape
from anynet.ops.reductions import sum
from anynet.tensor import Buffer, Parameter, Tensor
from anynet.typing import ArrayLike

__all__ = ["NCELoss", "NegativeSampling"]


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
            msg = (
                f"{type(self).__name__}: counts must hold a number > 0 and sample_size be ≥ 1, got counts={list(counts)[:8]}, "
                f"sample_size={sample_size}"
            )
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
        draws = streams.uniform((count, self.sample_size))
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


@equation(
    """
        l[n] = -log(sigmoid(sum[j](W[t[n], j] * x[n, j]))) - sum[k](log(sigmoid(-sum[j](W[s[n, k], j] * x[n, j]))))
    """,
    REDUCED,
    where="""
        x[N, J]
        t[N] = target
        s[N, K] = samples: drawn in proportion to countsᵖ
        W[V, J] = weight
        reduction
    """,
)
class NegativeSampling(_Sampled):
    """−log σ(w_t · x) − Σ_k log σ(−w_k · x) with `sample_size` classes k drawn in proportion to counts^power (Mikolov et al.
    2013). x (n, in_features), target (n,) of classes; `reduction` "sum", "mean" or "none".

    >>> import anynet as an
    >>> loss = an.nn.NegativeSampling(4, counts=[5, 3, 2], sample_size=2)
    >>> round(loss(an.ones((1, 4)), an.asarray([1])).item(), 4)  # the vectors begin at zero: 3 log 2
    2.0794
    """

    def forward(
        self,
        x: ArrayLike,
        target: ArrayLike,
        reduction: str = "sum",
        samples: ArrayLike | Sequence[Sequence[int]] | None = None,
    ) -> Tensor:
        """The loss; `samples` (n, sample_size) gives the drawn classes instead of drawing them."""
        logits, _ = self._logits(x, target, samples)
        sign = creation.asarray([-1.0] + [1.0] * self.sample_size, dtype=logits.dtype, device=logits.device)
        return reduce(sum(softplus(logits * sign), axis=1), reduction)


@equation(
    "u[n] = sum[j](W[t[n], j] * x[n, j]) - log(K * q[t[n]])",
    "v[n, k] = sum[j](W[s[n, k], j] * x[n, j]) - log(K * q[s[n, k]])",
    "l[n] = -log(sigmoid(u[n])) - sum[k](log(sigmoid(-v[n, k])))",
    REDUCED,
    where="""
        x[N, J]
        t[N] = target
        s[N, K] = samples: drawn from q
        W[V, J] = weight
        q[V] = probabilities
        reduction
    """,
)
class NCELoss(_Sampled):
    """Noise-contrastive estimation (Gutmann & Hyvärinen 2010): logistic regression between the target and `sample_size` drawn
    classes, with logits w_y · x − log(sample_size · q(y)), q the distribution of the draws.

    >>> import anynet as an
    >>> loss = an.nn.NCELoss(4, counts=[1, 1], sample_size=2, power=1.0)
    >>> round(loss(an.ones((1, 4)), an.asarray([1])).item(), 4)  # all logits are 0
    2.0794
    """

    def forward(
        self,
        x: ArrayLike,
        target: ArrayLike,
        reduction: str = "sum",
        samples: ArrayLike | Sequence[Sequence[int]] | None = None,
    ) -> Tensor:
        """The loss; `samples` (n, sample_size) gives the drawn classes instead of drawing them."""
        logits, classes = self._logits(x, target, samples)
        chance = reshape(take(self.probabilities, reshape(classes, (-1,)), axis=0), tuple(classes.shape))
        logits = logits - e.log(chance * float(self.sample_size))
        sign = creation.asarray([-1.0] + [1.0] * self.sample_size, dtype=logits.dtype, device=logits.device)
        return reduce(sum(softplus(logits * sign), axis=1), reduction)
