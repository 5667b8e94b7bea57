"""Connectionist temporal classification: labels of sequences without an alignment."""

from __future__ import annotations

import functools
import itertools
from typing import Any

from anynet import dtypes
from anynet.autograd.jit.fused import fused
from anynet.equations import equation
from anynet.nn.functional._common import device_of, reduce
from anynet.ops import elementwise as e
from anynet.ops.indexing import take_along_axis
from anynet.ops.manipulation import concat, reshape
from anynet.ops.reductions import mean, sum
from anynet.tensor import Tensor, to_plain, unwrap, wrap
from anynet.typing import ArrayLike
from anynet_backends import Array, backend_of

__all__ = ["ctc_loss"]

_NEVER = -1e30  # the logarithm of a probability of 0: finite, so that its gradient is 0 and not nan


@equation(
    """
        c[n, s: 2 * U + 1] = blank if s % 2 == 0 else t[n, (s - 1) // 2]
        a[-1, n: N, s: 2 * U + 1] = [s == 0]
        a[τ, n, s] = exp(x[τ, n, c[n, s]]) * (a[τ - 1, n, s] + a[τ - 1, n, s - 1]
    + [c[n, s] != blank and c[n, s] !=
            c[n, s - 2]] * a[τ - 1, n, s - 2])
        l[n] = -log(a[I[n] - 1, n, 2 * K[n]] + a[I[n] - 1, n, 2 * K[n] - 1])
        L = mean[n](l[n] / max(K[n], 1)) if reduction == "mean" else sum(l) if reduction == "sum" else l
    """,
    where="""
        x[T, N, C] = log_probs
        t[N, U] = targets
        I[N] = input_lengths
        K[N] = target_lengths
        blank
        reduction
    """,
)
def ctc_loss(
    log_probs: ArrayLike,
    targets: ArrayLike,
    input_lengths: ArrayLike,
    target_lengths: ArrayLike,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """−ln of the probability that a sequence of labels with blanks and repetitions between them gives the target
    (connectionist temporal classification, Graves et al. 2006).

    log_probs (steps, n, classes), or (steps, classes) without a batch: logarithms of probabilities. targets (n, longest), or
    all targets one after the other. `input_lengths` and `target_lengths` (n,). The recursion runs over the target with blanks
    around each label, in logarithms.

    "mean" divides each loss by the length of its target and takes the mean. A target that is too long for its frames (with
    no frames, all but the empty one) has an infinite loss, with `zero_infinity` a loss of 0, and in both cases no gradient.

    Equation:
      c[n, s] = blank if s mod 2 = 0, else t[n, ⌊(s − 1) / 2⌋]  for 0 ≤ s < 2 U + 1
      a[−1, n, s] = [s = 0]  for 0 ≤ n < N, 0 ≤ s < 2 U + 1
      a[τ, n, s] = exp(x[τ, n, c[n, s]]) (a[τ − 1, n, s] + a[τ − 1, n, s − 1] + [c[n, s] ≠ blank and c[n, s] ≠ c[n, s − 2]]
          a[τ − 1, n, s − 2])
      lₙ = −ln(a[Iₙ − 1, n, 2 Kₙ] + a[Iₙ − 1, n, 2 Kₙ − 1])
      L = mean_n(lₙ / max(Kₙ, 1)) if reduction = "mean", Σ l if reduction = "sum", else l
      (x: log_probs (T, N, C); t: targets (N, U); I: input_lengths (N); K: target_lengths (N); blank; reduction)

    >>> import anynet as an
    >>> an.nn.functional.ctc_loss(an.log(an.full((2, 1, 2), 0.5)), an.asarray([[1]]), [2], [1])
    Tensor(0.2876821)
    """
    single = len(log_probs.shape) == 2
    x = reshape(log_probs, (log_probs.shape[0], 1, log_probs.shape[1])) if single else log_probs
    if len(x.shape) != 3:
        msg = f"ctc_loss: log_probs must have shape (steps, n, classes) or (steps, classes), got {tuple(log_probs.shape)}"
        raise ValueError(msg)
    counts = [_counted(v, device_of(x)) for v in (input_lengths, target_lengths)]
    labels = to_plain(targets, device=device_of(x))
    matrix = len(labels.shape) == 2 and not single
    backend_of(labels).check(functools.partial(_check, tuple(x.shape), blank, matrix), labels, *counts)
    inputs, lengths = counts
    labels = labels if matrix else _matrix(labels, lengths)
    alpha = _forward_variables(x, inputs, lengths, labels, blank)
    loss = -_log_likelihood(alpha, lengths)
    impossible = e.greater(loss, -_NEVER / 10)
    loss = e.where(impossible, 0.0 if zero_infinity else float("inf"), loss)
    if reduction == "mean":
        xp = backend_of(lengths)
        return mean(loss / wrap(xp.astype(xp.where(lengths > 1, lengths, 1), dtypes.native(xp, loss.dtype))))
    return reduce(reshape(loss, ()) if single and reduction == "none" else loss, reduction)


def _counted(lengths: Any, device: str) -> Array:
    """The lengths of inputs or targets as a vector of integers."""
    plain = to_plain(lengths, device=device)
    xp = backend_of(plain)
    return xp.astype(xp.reshape(plain, (-1,)), xp.int64)


def _check(shape: tuple[int, ...], blank: int, matrix: bool, labels: Array, *counts: Array) -> None:
    """Refuse lengths and labels that do not fit; `matrix`: whether targets are the rows of a matrix, not one after the other."""
    steps, n, classes = shape
    inputs, lengths, rows = (backend_of(v).to_host(v).tolist() for v in (*counts, labels))
    if (
        len(inputs) != n
        or len(lengths) != n
        or max(inputs, default=0) > steps
        or min(inputs + lengths, default=0) < 0
    ):
        msg = (
            f"ctc_loss: input_lengths (in [0, {steps}]) and target_lengths (≥ 0) must be {n} numbers each, got {inputs[:8]} and "
            f"{lengths[:8]}"
        )
        raise ValueError(msg)
    if not n or not steps:
        msg = f"ctc_loss: log_probs must hold at least one sequence of one step, got shape {shape}"
        raise ValueError(msg)
    if not 0 <= blank < classes:
        msg = f"ctc_loss: blank must be a class in [0, {classes - 1}], got {blank}"
        raise ValueError(msg)
    if matrix:
        found = [row[:k] for row, k in zip(rows, lengths, strict=True)]
    else:
        found = [rows[a:b] for a, b in itertools.pairwise([0, *itertools.accumulate(lengths)])]
    if any(len(row) != k for row, k in zip(found, lengths, strict=True)) or any(
        not 0 <= v < classes or v == blank for row in found for v in row
    ):
        msg = (
            f"ctc_loss: targets of the lengths {lengths[:8]} must hold classes in [0, {classes - 1}] other than blank={blank}, "
            f"got {[row[:8] for row in found[:4]]}"
        )
        raise ValueError(msg)


def _matrix(labels: Array, lengths: Array) -> Array:
    """Labels that stand one after the other as the rows of a matrix."""
    xp = backend_of(labels)
    labels = xp.reshape(labels, (-1,))
    ends = xp.cumulative_sum(lengths)
    along = xp.arange(int(xp.max(lengths)), dtype=xp.int64, device=labels.device)
    there = along < xp.expand_dims(lengths, axis=1)
    places = xp.where(there, xp.expand_dims(ends - lengths, axis=1) + along, 0)
    return xp.reshape(xp.take(labels, xp.reshape(places, (-1,)), axis=0), tuple(places.shape))


def _forward_variables(x: Any, inputs: Array, lengths: Array, labels: Array, blank: int) -> Any:
    """ln a_t(s) of each sequence after its last frame, (n, 2 · longest + 1)."""
    xp = backend_of(labels)
    steps, n, _ = x.shape
    width = 2 * labels.shape[1] + 1
    dtype, where = dtypes.native(xp, dtypes.of(unwrap(x).dtype)), labels.device
    there = xp.arange(labels.shape[1], dtype=xp.int64, device=where) < xp.expand_dims(lengths, axis=1)
    labels = xp.where(there, xp.astype(labels, xp.int64), blank)
    blanks = xp.full((n, 1), blank, dtype=xp.int64, device=where)
    pairs = xp.stack([xp.broadcast_to(blanks, labels.shape), labels], axis=2)
    path = xp.concat([xp.reshape(pairs, (n, width - 1)), blanks], axis=1)
    may = (path[:, 2:] != blank) & (path[:, 2:] != path[:, :-2])
    may = xp.concat([xp.zeros((n, 2), dtype=xp.bool, device=where), may], axis=1)[:, :width]
    never = xp.full((n, width), _NEVER, dtype=dtype, device=where)
    none = xp.zeros((n, 1), dtype=dtype, device=where)
    # before the first frame only the empty target is possible; the sum over no frames joins x to the graph
    alpha = wrap(xp.concat([none, never[:, 1:]], axis=1)) + reshape(sum(x[:0, :, :], axis=(0, 2)), (n, 1))
    second = xp.where(xp.expand_dims(lengths, axis=1) > 0, none, never[:, :1])
    first = wrap(xp.concat([none, second, never[:, 2:]], axis=1)[:, :width])
    emitted = take_along_axis(x, wrap(xp.broadcast_to(path, (steps, n, width))), axis=2)
    least = int(xp.min(inputs)) if xp.eager else 0
    allowed, outside = wrap(may), wrap(never[:, :2])
    for t in range(int(xp.max(inputs)) if xp.eager else steps):
        new = _next(alpha, emitted[t, ...], allowed, outside) if t else first + emitted[t, ...]
        alpha = new if t < least else e.where(wrap(xp.expand_dims(inputs, axis=1) > t), new, alpha)
    return alpha


@fused(4)
def _next(alpha: Tensor, emitted: Tensor, may: Tensor, outside: Tensor) -> Tensor:
    """The variables of the next frame: from the same state, the one before, and where it `may` be, the one before that."""
    behind = concat([outside, alpha], axis=1)
    width = alpha.shape[1]
    both = e.logaddexp(alpha, behind[:, 1 : width + 1])
    return e.where(may, e.logaddexp(both, behind[:, :width]), both) + emitted


def _log_likelihood(alpha: Any, lengths: Array) -> Any:
    """ln (a(2k) + a(2k − 1)): the target of length k ends with a blank or with its last label."""
    xp = backend_of(lengths)
    ends = xp.stack([2 * lengths, xp.where(lengths > 0, 2 * lengths - 1, 0)], axis=1)
    last = take_along_axis(alpha, wrap(ends), axis=1)
    lost = xp.stack([lengths < 0, lengths == 0], axis=1)
    last = e.where(wrap(lost), _NEVER, last)
    return e.logaddexp(last[:, 0], last[:, 1])
