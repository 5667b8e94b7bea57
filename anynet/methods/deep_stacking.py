"""Deep stacking networks: modules with closed-form output weights, each of which sees the data and the predictions of those before it.

Source: Deng, Yu: Deep convex net (Interspeech 2011); Deng, Yu, Platt: Scalable stacking and learning for building deep architectures
(ICASSP 2012).
"""

from __future__ import annotations

import math
from typing import Any

from anynet import random
from anynet.methods.checks import check_count, check_number
from anynet.methods.supervised import one_hot_of, points_of, right_share
from anynet.ops.activations import sigmoid
from anynet.ops.creation import asarray
from anynet.ops.linalg import solve
from anynet.ops.linear import matmul
from anynet.ops.manipulation import concat
from anynet.ops.reductions import sum as sum_
from anynet.optim import Adam
from anynet.tensor import Parameter, Tensor, no_grad, to_plain, unwrap, wrap
from anynet_backends import Array, Backend, backend_of

__all__ = ["DeepStackingNetwork"]


class DeepStackingNetwork:
    """A stack of `modules`: H = σ([X, Y₁, …, Yₖ₋₁, 1] W), Yₖ = H U with U = (HᵀH + λI)⁻¹ HᵀT; the last Yₖ is the prediction.

    Each module has `hidden` units; W is Gaussian with variance 1/inputs (of standardised inputs, from `anynet.random`) and then improved by
    `steps` of Adam at `lr` on E(W) = ‖T − H U(W)‖² + λ‖U(W)‖², through the closed form of U (steps=0: random W, solved once). `ridge` is λ
    per sample: λ = ridge · n. ``task="classification"`` takes labels of any kind, one column of T for each.

    After `fit`: ``layers`` pairs (W, U), ``errors`` the mean squared error on the training data of each module, which falls from module to
    module. ``predict(x, modules=k)`` uses the first k.

    Errors: ValueError for shapes, options out of range, numbers that are not finite; RuntimeError for `predict` before `fit`.

    >>> import anynet as an
    >>> an.random.manual_seed(0)
    >>> x = an.random.normal((200, 2))
    >>> net = an.methods.DeepStackingNetwork(hidden=16, modules=2).fit(x, x[:, 0] * x[:, 1])
    >>> net.errors[1] < net.errors[0] < 0.5
    True
    """

    def __init__(
        self,
        hidden: int = 100,
        modules: int = 3,
        *,
        ridge: float = 1e-4,
        steps: int = 50,
        lr: float = 0.02,
        task: str = "regression",
    ) -> None:
        where = "DeepStackingNetwork"
        if task not in ("regression", "classification"):
            msg = f"{where}: task must be 'regression' or 'classification', got {task!r}"
            raise ValueError(msg)
        self.hidden, self.modules = (
            check_count(where, "hidden", hidden),
            check_count(where, "modules", modules),
        )
        self.ridge = check_number(where, "ridge", ridge, 0, open=True)
        self.steps = check_count(where, "steps", steps, 0)
        self.lr = check_number(where, "lr", lr, 0, open=True)
        self.task = task
        self.layers: list[tuple[Tensor, Tensor]] = []
        self.errors: list[float] = []
        self.classes: list[Any] = []

    def fit(self, x: Any, y: Any) -> DeepStackingNetwork:
        """Learn from X (n, d) and y (n,) or (n, outputs), labels (n,) for classification, module by module."""
        rows = points_of("DeepStackingNetwork.fit", x)
        xp = backend_of(rows)
        targets, classes, vector = self._targets(xp, rows, y)
        center = xp.mean(rows, axis=0)
        spread = xp.sqrt(xp.mean((rows - center) ** 2, axis=0))
        self._center, self._spread = center, xp.where(spread > 0, spread, xp.ones_like(spread))
        self.classes, self._vector, self.layers, self.errors = classes, vector, [], []
        inputs = self._standardised(xp, rows)
        t = wrap(targets)
        for _ in range(self.modules):
            w = self._improved(inputs, t)
            with no_grad():
                h, u = self._solved(inputs, w, t)
                y_k = matmul(h, u)
                self.errors.append(float(sum_((t - y_k) ** 2)) / math.prod(targets.shape))
            self.layers.append((wrap(unwrap(w)), u))
            inputs = concat((inputs[:, :-1], y_k, inputs[:, -1:]), axis=1)
        return self

    def _standardised(self, xp: Backend, rows: Array) -> Tensor:
        ones = xp.ones((rows.shape[0], 1), dtype=rows.dtype, device=rows.device)
        return wrap(xp.concat(((rows - self._center) / self._spread, ones), axis=1))

    def _solved(self, inputs: Tensor, w: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """H, and U in closed form."""
        h = sigmoid(matmul(inputs, w))
        xp = backend_of(unwrap(inputs))
        eye = wrap(xp.eye(self.hidden, dtype=unwrap(inputs).dtype, device=unwrap(inputs).device))
        return h, solve(matmul(h.mT, h) + self.ridge * inputs.shape[0] * eye, matmul(h.mT, t))

    def _improved(self, inputs: Tensor, t: Tensor) -> Tensor:
        """W after some steps down the error, U being what is best for it."""
        drawn = random.normal((int(inputs.shape[1]), self.hidden), dtype=inputs.dtype, device=inputs.device)
        w = Parameter(unwrap(drawn) / math.sqrt(inputs.shape[1]))
        optimizer = Adam([w], lr=self.lr)
        for _ in range(self.steps):
            optimizer.zero_grad()
            h, u = self._solved(inputs, w, t)
            rest = t - matmul(h, u)
            error = sum_(rest * rest) / inputs.shape[0] + self.ridge * sum_(u * u)
            error.backward()
            optimizer.step()
        return w

    def predict(self, x: Any, *, modules: int | None = None) -> Any:
        """Predictions (m,) or (m, outputs), or a list of labels, of all modules or the first so many."""
        if not self.layers:
            msg = "DeepStackingNetwork: predict needs fit first"
            raise RuntimeError(msg)
        count = (
            len(self.layers)
            if modules is None
            else check_count("DeepStackingNetwork.predict", "modules", modules)
        )
        if count > len(self.layers):
            msg = f"DeepStackingNetwork.predict: modules must be ≤ {len(self.layers)}, got {count}"
            raise ValueError(msg)
        rows = points_of("DeepStackingNetwork.predict", x, self._center.shape[0], self._center)
        xp = backend_of(rows)
        with no_grad():
            inputs = self._standardised(xp, rows)
            for w, u in self.layers[:count]:
                y_k = matmul(sigmoid(matmul(inputs, w)), u)
                inputs = concat((inputs[:, :-1], y_k, inputs[:, -1:]), axis=1)
        if self.task == "classification":
            best = xp.argmax(unwrap(y_k), axis=1)
            return [self.classes[i] for i in xp.to_host(best).tolist()]
        return y_k[:, 0] if self._vector else y_k

    def score(self, x: Any, y: Any, *, modules: int | None = None) -> float:
        """R² (all outputs together), or the share of right labels."""
        found = self.predict(x, modules=modules)
        if self.task == "classification":
            return right_share(found, y)
        truth = asarray(to_plain(y, device=found.device), dtype=found.dtype)
        if truth.shape != found.shape:
            msg = f"DeepStackingNetwork.score: y must be {tuple(found.shape)}, got {tuple(truth.shape)}"
            raise ValueError(msg)
        rest, spread = truth - found, truth - sum_(truth, axis=0) / truth.shape[0]
        return 1.0 - float(sum_(rest * rest)) / float(sum_(spread * spread))

    def _targets(self, xp: Backend, rows: Array, y: Any) -> tuple[Array, list[Any], bool]:
        n = rows.shape[0]
        if self.task == "classification":
            return *one_hot_of("DeepStackingNetwork.fit", rows, y), False
        targets = xp.astype(to_plain(y, device=xp.device_of(rows)), rows.dtype)
        if (
            len(targets.shape) not in (1, 2)
            or targets.shape[0] != n
            or not bool(xp.all(xp.isfinite(targets)))
        ):
            msg = f"DeepStackingNetwork.fit: y must be finite, ({n},) or ({n}, outputs), got {tuple(targets.shape)}"
            raise ValueError(msg)
        vector = len(targets.shape) == 1
        return (xp.reshape(targets, (n, 1)) if vector else targets), [], vector
