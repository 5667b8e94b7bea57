"""Connectionist temporal classification: labels of sequences without an alignment."""

from __future__ import annotations

import itertools
from typing import Any

from anynet import dtypes
from anynet.equations import equation
from anynet.nn.functional._common import device_of, reduce
from anynet.ops import elementwise as e
from anynet.ops.creation import asarray
from anynet.ops.indexing import take_along_axis
from anynet.ops.manipulation import concat, reshape
from anynet.ops.reductions import mean, sum
from anynet.tensor import Tensor, to_plain, unwrap
from anynet.typing import ArrayLike
from anynet_backends import backend_of

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
    inputs, lengths = _lengths(x.shape, input_lengths, target_lengths)
    labels = _labels(targets, lengths, blank, x.shape[2], single)
    alpha = _forward_variables(x, inputs, labels, blank)
    loss = -_log_likelihood(alpha, lengths)
    impossible = e.greater(loss, -_NEVER / 10)
    loss = e.where(impossible, 0.0 if zero_infinity else float("inf"), loss)
    if reduction == "mean":
        return mean(loss / asarray([float(k or 1) for k in lengths], dtype=loss.dtype, device=device_of(x)))
    return reduce(reshape(loss, ()) if single and reduction == "none" else loss, reduction)


def _lengths(shape: tuple[int, ...], input_lengths: Any, target_lengths: Any) -> tuple[list[int], list[int]]:
    """The lengths of inputs and targets as lists, checked."""
    steps, n, _ = shape
    inputs, lengths = ([int(i) for i in _listed(v)] for v in (input_lengths, target_lengths))
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
        msg = f"ctc_loss: log_probs must hold at least one sequence of one step, got shape {tuple(shape)}"
        raise ValueError(msg)
    return inputs, lengths


def _labels(targets: Any, lengths: list[int], blank: int, classes: int, single: bool) -> list[list[int]]:
    """The labels of each target, checked: from rows of a matrix, or from one vector of them all."""
    if not 0 <= blank < classes:
        msg = f"ctc_loss: blank must be a class in [0, {classes - 1}], got {blank}"
        raise ValueError(msg)
    plain = to_plain(targets)
    rows = _listed(plain)
    if len(plain.shape) == 2 and not single:
        labels = [[int(v) for v in row[:k]] for row, k in zip(rows, lengths, strict=True)]
    else:
        begins = [0, *itertools.accumulate(lengths)]
        labels = [[int(v) for v in rows[a:b]] for a, b in itertools.pairwise(begins)]
    if any(len(row) != k for row, k in zip(labels, lengths, strict=True)) or any(
        not 0 <= v < classes or v == blank for row in labels for v in row
    ):
        msg = (
            f"ctc_loss: targets of the lengths {lengths[:8]} must hold classes in [0, {classes - 1}] other than blank={blank}, "
            f"got {[row[:8] for row in labels[:4]]}"
        )
        raise ValueError(msg)
    return labels


def _forward_variables(x: Any, inputs: list[int], labels: list[list[int]], blank: int) -> Any:
    """ln a_t(s) of each sequence after its last frame, (n, 2 · longest + 1)."""
    n = len(labels)
    width = 2 * max(map(len, labels), default=0) + 1
    path = [[blank, *(v for label in row for v in (label, blank))] for row in labels]
    path = [row + [blank] * (width - len(row)) for row in path]
    skip = [[s > 1 and row[s] != blank and row[s] != row[s - 2] for s in range(width)] for row in path]
    device, dtype = device_of(x), dtypes.of(unwrap(x).dtype)
    index = asarray(path, dtype=dtypes.int64, device=device)
    may = asarray(skip, dtype=dtypes.bool, device=device)
    never = asarray([[_NEVER] * 2] * n, dtype=dtype, device=device)
    first = asarray(
        [[0.0, 0.0 if row else _NEVER] + [_NEVER] * (width - 2) for row in labels], dtype=dtype, device=device
    )[:, :width]
    # before the first frame only the empty target is possible; the sum over no frames joins x to the graph
    nothing = asarray([[0.0] + [_NEVER] * (width - 1)] * n, dtype=dtype, device=device)
    alpha = nothing + reshape(sum(x[:0, :, :], axis=(0, 2)), (n, 1))
    for t in range(max(inputs)):
        emitted = take_along_axis(x[t, ...], index, axis=1)
        if t == 0:
            new = first + emitted
        else:
            behind = concat([never, alpha], axis=1)
            both = e.logaddexp(alpha, behind[:, 1 : width + 1])
            new = e.where(may, e.logaddexp(both, behind[:, :width]), both) + emitted
        running = [t < k for k in inputs]
        if all(running):
            alpha = new
        else:
            alpha = e.where(reshape(asarray(running, device=device), (n, 1)), new, alpha)
    return alpha


def _log_likelihood(alpha: Any, lengths: list[int]) -> Any:
    """ln (a(2k) + a(2k − 1)): the target of length k ends with a blank or with its last label."""
    device = device_of(alpha)
    ends = asarray([[2 * k, max(2 * k - 1, 0)] for k in lengths], dtype=dtypes.int64, device=device)
    last = take_along_axis(alpha, ends, axis=1)
    lost = asarray([[False, k == 0] for k in lengths], dtype=dtypes.bool, device=device)
    last = e.where(lost, _NEVER, last)
    return e.logaddexp(last[:, 0], last[:, 1])


def _listed(values: Any) -> list[Any]:
    """Numbers or lists of numbers as Python lists, from a number, a list or an array."""
    if isinstance(values, (list, tuple)):
        return list(values)
    if isinstance(values, int):
        return [values]
    plain = to_plain(values)
    found = backend_of(plain).to_host(plain).tolist()
    return found if isinstance(found, list) else [found]
