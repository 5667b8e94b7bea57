"""Random features and double descent: the test error of minimum-norm fits by the number of features.

Sources: Rahimi, Recht: Random features for large-scale kernel machines (NIPS 2007); Belkin, Hsu, Ma, Mandal: Reconciling modern
machine-learning practice and the classical bias-variance trade-off (PNAS 2019).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from anynet import random
from anynet.methods.checks import check_count, check_number
from anynet.tensor import to_plain, unwrap
from anynet_backends import Array, Backend, backend_of

__all__ = ["Width", "double_descent"]


class Width(NamedTuple):
    """One width of `double_descent`: mean squared errors, and the norm of the output weights."""

    width: int
    train_error: float
    test_error: float
    norm: float


def double_descent(
    x: Any, y: Any, test_x: Any, test_y: Any, widths: Sequence[int], *, ridge: float = 0.0, repeats: int = 1
) -> list[Width]:
    """The test error of least squares on p random features φ(x) = max(0, Wx), W Gaussian of variance 1/d, for each p of `widths`.

    The output weights are Φ⁺y, of minimum norm where they are not unique (`ridge` λ > 0: (ΦᵀΦ + λI)⁻¹Φᵀy). The error rises to a peak
    where p is the number of samples and the fit is exact for the first time, and falls again beyond it, as the norm does. X (n, d),
    y (n,) or (n, outputs); errors are means over all numbers, and over `repeats` draws of W from `anynet.random`.

    Errors: ValueError for shapes and options.

    >>> import anynet as an
    >>> an.random.manual_seed(0)
    >>> x, t = an.random.normal((40, 5), dtype="float64"), an.random.normal((100, 5), dtype="float64")
    >>> noise = 0.3 * an.random.normal((40,), dtype="float64")
    >>> curve = an.methods.double_descent(x, x[:, 0] + noise, t, t[:, 0], [10, 40, 1000], repeats=3)
    >>> errors = [w.test_error for w in curve]
    >>> errors[1] > 5 * errors[0] > errors[2]
    True
    """
    where = "double_descent"
    check_number(where, "ridge", ridge, 0)
    check_count(where, "repeats", repeats)
    for width in widths:
        check_count(where, "each width", width)
    rows = to_plain(x)
    xp = backend_of(rows)
    device = xp.device_of(rows)
    if not xp.isdtype(rows.dtype, "real floating"):
        rows = xp.astype(rows, xp.float64)
    targets, others, truth = (xp.astype(to_plain(a, device=device), rows.dtype) for a in (y, test_x, test_y))
    targets, truth = (xp.reshape(a, (a.shape[0], -1)) if len(a.shape) == 1 else a for a in (targets, truth))
    fits = len(rows.shape) == len(others.shape) == len(targets.shape) == len(truth.shape) == 2
    if (
        not fits
        or rows.shape[1] != others.shape[1]
        or (rows.shape[0], others.shape[0]) != (targets.shape[0], truth.shape[0])
    ):
        shapes = ", ".join(str(tuple(a.shape)) for a in (rows, targets, others, truth))
        msg = f"{where}: x (n, d), y (n,) or (n, k), and the same for the test; got {shapes}"
        raise ValueError(msg)
    return [_at_width(xp, rows, targets, others, truth, width, ridge, repeats) for width in widths]


def _at_width(
    xp: Backend, x: Array, y: Array, test_x: Array, test_y: Array, width: int, ridge: float, repeats: int
) -> Width:
    sums = [0.0, 0.0, 0.0]
    for _ in range(repeats):
        drawn = random.normal((x.shape[1], width), dtype="float64", device="cpu") / math.sqrt(x.shape[1])
        w = xp.astype(unwrap(drawn.to(xp.device_of(x))), x.dtype)
        phi, test_phi = (xp.matmul(a, w) for a in (x, test_x))
        phi, test_phi = (xp.where(a > 0, a, xp.zeros_like(a)) for a in (phi, test_phi))
        if ridge > 0:
            eye = xp.eye(width, dtype=x.dtype, device=x.device)
            phi_t = xp.matrix_transpose(phi)
            u = xp.linalg.solve(xp.matmul(phi_t, phi) + ridge * eye, xp.matmul(phi_t, y))
        else:
            u = xp.matmul(xp.linalg.pinv(phi), y)
        sums[0] += float(xp.mean((xp.matmul(phi, u) - y) ** 2))
        sums[1] += float(xp.mean((xp.matmul(test_phi, u) - test_y) ** 2))
        sums[2] += math.sqrt(float(xp.sum(u * u)))
    return Width(width, *(s / repeats for s in sums))
