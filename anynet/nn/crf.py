"""The linear-chain conditional random field."""

from __future__ import annotations

from typing import Any

from anynet.equations import equation
from anynet.nn import init
from anynet.nn.errors import ShapeError
from anynet.nn.module import Module
from anynet.ops import creation
from anynet.ops import elementwise as e
from anynet.ops.indexing import take, take_along_axis
from anynet.ops.manipulation import astype, expand_dims, permute_dims, reshape
from anynet.ops.reductions import argmax, max, mean, sum
from anynet.ops.softmax import logsumexp
from anynet.tensor import Parameter, Tensor
from anynet.typing import ArrayLike

__all__ = ["CRF"]


@equation(
    "l[n: N] = sum[t: T](m[t, n]) - 1",
    """
        s[n] = b[y[0, n]] + x[0, n, y[0, n]] + sum[t: 1: T](m[t, n] * (A[y[t - 1, n], y[t, n]] + x[t, n, y[t, n]])) +
            d[y[l[n], n]]
    """,
    "α[0, n: N, k: K] = b[k] + x[0, n, k]",
    """
        α[t, n, k] = log(sum[j](exp(α[t - 1, n, j] + A[j, k]))) + x[t, n, k] if m[t, n] == 1 else α[t - 1, n, k]
    """,
    "z[n: N] = log(sum[k](exp(α[T - 1, n, k] + d[k])))",
    "q[n] = s[n] - z[n]",
    """
        L = mean(q) if reduction == "mean" else sum(q) / sum[n: N, t: T](m[t, n]) if reduction == "token_mean" else q if
            reduction == "none" else sum(q)
    """,
    where="""
        x[T, N, K] = emissions swap batch_first
        y[T, N] = tags swap batch_first
        m[T, N] = mask or 1 swap batch_first
        b[K] = start_transitions
        A[K, J] = transitions
        d[K] = end_transitions
        reduction
    """,
)
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
            msg = f"CRF: num_tags must be ≥ 1, got {num_tags}"
            raise ValueError(msg)
        self.num_tags, self.batch_first = num_tags, batch_first
        self.start_transitions = Parameter(creation.empty(num_tags, device=device, dtype=dtype))
        self.end_transitions = Parameter(creation.empty(num_tags, device=device, dtype=dtype))
        self.transitions = Parameter(creation.empty((num_tags, num_tags), device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Redraw the transitions from U(−0.1, 0.1)."""
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
            msg = f"CRF: reduction must be 'sum', 'mean', 'token_mean' or 'none', got {reduction!r}"
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
        lengths = [int(n) for n in sum(astype(mask, "int64"), axis=0).tolist()]
        best = self.start_transitions.detach() + emissions[0, ...]
        scores, back = [best], []
        for t in range(1, steps):
            all_ways = expand_dims(best, axis=2) + self.transitions.detach()
            back.append(argmax(all_ways, axis=1).tolist())
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
