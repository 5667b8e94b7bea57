"""Laplace's approximation: a normal distribution around trained weights, with the curvature of the loss as its precision.

    p(w | D) ≈ N(ŵ, Λ⁻¹),  Λ = H + δI,  H = Σᵢ Jᵢᵀ Rᵢ Jᵢ

Jᵢ is the Jacobian of the outputs for sample i, Rᵢ the Hessian of −ln p(yᵢ | f) in the outputs f: 1/σ² for numbers, diag(p) − ppᵀ
for classes (the generalised Gauss-Newton matrix, which for a network that is linear in w is the Hessian). δ is the
precision of the prior N(0, I/δ). Predictions are those of the network made linear in w (A. Immer, M. Korzepa & M. Bauer, 2021; E. Daxberger
et al., "Laplace redux", 2021).
"""

from __future__ import annotations

import math
from typing import Any

from anynet.autograd.graph import RemovableHandle
from anynet.methods.checks import check_count, check_number
from anynet.methods.per_sample import jacobians
from anynet.methods.predictions import Classification, Regression
from anynet.nn.linear import Linear
from anynet.nn.modes import modes_kept
from anynet.nn.module import Module
from anynet.nn.utils.stateless import functional_call
from anynet.ops import linalg
from anynet.ops.creation import asarray, eye, ones_like, zeros_like
from anynet.ops.elementwise import log, maximum, sqrt
from anynet.ops.indexing import take_along_axis
from anynet.ops.linear import matmul
from anynet.ops.manipulation import concat, expand_dims, moveaxis, reshape
from anynet.ops.reductions import sum
from anynet.ops.softmax import log_softmax, softmax
from anynet.ops.special import entr
from anynet.tensor import Tensor, no_grad
from anynet.typing import ArrayLike

__all__ = ["Laplace"]


class Laplace:
    """Laplace's approximation around a trained network, after training and without changing it.

    Parameters:
      model: a network with one output (n, K), trained with weight decay δ (or none).
      likelihood: "regression" (numbers, of noise variance `noise_variance`) or "classification" (logits).
      hessian: "full", "diagonal", or "kronecker" (for each Linear layer the product of the input's second moment and the output's
        curvature, J. Martens & R. Grosse, 2015; H. Ritter et al., 2018).
      layers: "last" (the last Linear layer alone) or "all".
      prior_precision: δ; `optimize_prior` finds it by the evidence.

    >>> import anynet as an
    >>> net = an.nn.Sequential(an.nn.Linear(2, 4), an.nn.Tanh(), an.nn.Linear(4, 1))
    >>> x, y = an.ones((5, 2)), an.zeros((5, 1))
    >>> an.methods.Laplace(net, "regression", noise_variance=0.1).fit(x, y).predict(x).variance.shape
    (5, 1)
    """

    def __init__(
        self,
        model: Module,
        likelihood: str,
        *,
        hessian: str = "full",
        layers: str = "last",
        prior_precision: float = 1.0,
        noise_variance: float = 1.0,
        batch_size: int = 256,
    ) -> None:
        for name, value, choices in (
            ("likelihood", likelihood, ("regression", "classification")),
            ("hessian", hessian, ("full", "diagonal", "kronecker")),
            ("layers", layers, ("last", "all")),
        ):
            if value not in choices:
                msg = f"Laplace: {name} must be {' or '.join(map(repr, choices))}, got {value!r}"
                raise ValueError(msg)
        self.model, self.likelihood, self.hessian = model, likelihood, hessian
        self.prior_precision = check_number("Laplace", "prior_precision", prior_precision, 0.0, open=True)
        self.noise_variance = check_number("Laplace", "noise_variance", noise_variance, 0.0, open=True)
        self.batch_size = check_count("Laplace", "batch_size", batch_size)
        linear = [n for n, m in model.named_modules() if isinstance(m, Linear)]
        if not linear and (layers == "last" or hessian == "kronecker"):
            msg = f"Laplace: the model must have a Linear layer, got {type(model).__name__} without"
            raise ValueError(msg)
        prefix = f"{linear[-1]}." if layers == "last" and linear[-1] else ""
        self.names = [n for n, p in model.named_parameters() if p.requires_grad and n.startswith(prefix)]
        self.linear = linear[-1:] if layers == "last" else linear
        if hessian == "kronecker":
            own = {f"{n}.{p}" if n else p for n in self.linear for p in ("weight", "bias")}
            others = [n for n in self.names if n not in own]
            if others:
                msg = f"Laplace: hessian='kronecker' takes Linear layers alone, got {', '.join(others[:5])}; use 'diagonal'"
                raise ValueError(msg)
        size = self.size
        if hessian == "full" and size > 5000:
            msg = f"Laplace: hessian='full' takes at most 5,000 parameters, got {size}; use 'kronecker', 'diagonal' or layers='last'"
            raise ValueError(msg)

    @property
    def size(self) -> int:
        """How many weights are uncertain."""
        own = dict(self.model.named_parameters())
        total = 0
        for name in self.names:
            total += own[name].size
        return total

    # ----- curvature -----

    def fit(self, x: ArrayLike, y: ArrayLike) -> Laplace:
        """Compute H and ln p(D | ŵ) over data x (n, …) and y, (n, K) or class indices (n,)."""
        x, y = asarray(x), asarray(y)
        if x.shape[:1] != y.shape[:1] or not x.shape[0]:
            msg = f"Laplace.fit: x and y must have as many samples, got {tuple(x.shape)} and {tuple(y.shape)}"
            raise ValueError(msg)
        self.n = int(x.shape[0])
        self.log_likelihood, total, inputs = 0.0, None, None
        with modes_kept(self.model), no_grad():
            self.model.eval()
            for at in range(0, self.n, self.batch_size):
                end = min(at + self.batch_size, self.n)
                part = x[at:end, ...]
                _, output, slopes, seen = self._rows(part)
                self.log_likelihood += float(self._log_likelihood(output, y[at:end, ...]))
                own = self._curvature(slopes, output)
                total = own if total is None else [a + b for a, b in zip(total, own, strict=True)]
                inputs = seen if inputs is None else [a + b for a, b in zip(inputs, seen, strict=True)]
        self._factors = self._decomposed(total, inputs)
        weights = dict(self.model.named_parameters())
        self.norm = float(
            sum(asarray([float(sum(weights[n].detach() ** 2)) for n in self.names], dtype="float64"))
        )
        return self

    def _rows(self, x: Tensor) -> tuple[list[Tensor], Tensor, list[Tensor], list[Tensor]]:
        """For each block of parameters its Jacobian (n, K, size), the outputs (n, K), the Jacobians (n, K, out) of what the curvature is
        taken of, and the second moments of the layers' inputs."""
        activations: dict[str, Tensor] = {}
        handles: list[RemovableHandle] = []
        if self.hessian == "kronecker":
            modules = dict(self.model.named_modules())

            def keep(name: str) -> Any:
                return lambda _module, args, _output: activations.__setitem__(name, args[0].detach())

            handles = [modules[n].register_forward_hook(keep(n)) for n in self.linear]
        try:
            output = self.model(x)
        finally:
            for handle in handles:
                handle.remove()
        if not isinstance(output, Tensor) or output.ndim != 2:
            got = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
            msg = f"Laplace: the model must return a Tensor (n, K), got {got}"
            raise ValueError(msg)
        own = dict(self.model.named_parameters())

        def call(theta: Any, x: Any) -> Tensor:
            return functional_call(self.model, theta, x)  # type: ignore[no-any-return]

        found = jacobians(call, x, wrt="parameters", params={n: own[n].detach() for n in self.names})
        n, k = output.shape
        if self.hessian != "kronecker":
            rows = [concat([reshape(found[name], (n, k, -1)) for name in self.names], axis=-1)]
            return rows, output, rows, []
        rows, slopes, seen = [], [], []
        for name in self.linear:
            a = activations[name]
            if a.ndim != 2:
                msg = f"Laplace: hessian='kronecker' takes Linear layers of rows (n, in), got an input of shape {tuple(a.shape)} in {name}"
                raise ValueError(msg)
            dot = f"{name}." if name else ""
            jacobian = found[f"{dot}weight"]  # (n, K, out, in), the product of ∂f/∂z and the input
            if f"{dot}bias" in found:
                slope = found[f"{dot}bias"]
                jacobian = concat([jacobian, expand_dims(slope, axis=-1)], axis=-1)
                a = concat([a, ones_like(a[:, :1])], axis=-1)
            else:
                size = maximum(sum(a * a, axis=-1), 1e-30)
                slope = sum(jacobian * reshape(a / expand_dims(size, axis=-1), (n, 1, 1, -1)), axis=-1)
            rows.append(jacobian)
            slopes.append(slope)
            seen.append(a.mT @ a)
        return rows, output, slopes, seen

    def _output_root(self, output: Tensor) -> Tensor:
        """S with Sᵀ S = R, (n, K, K)."""
        k = output.shape[-1]
        identity = eye(k, dtype=output.dtype, device=output.device)
        if self.likelihood == "regression":
            return zeros_like(expand_dims(output, axis=-1)) + identity / math.sqrt(self.noise_variance)
        p = softmax(output, axis=-1)
        # diag(p) − ppᵀ = (diag(√p) (I − 1pᵀ))ᵀ (…)
        return expand_dims(sqrt(p), axis=-1) * (identity - expand_dims(p, axis=-2))

    def _curvature(self, slopes: list[Tensor], output: Tensor) -> list[Tensor]:
        scaled = [self._output_root(output) @ slope for slope in slopes]
        if self.hessian == "diagonal":
            return [sum(s * s, axis=(0, 1)) for s in scaled]
        return [_inner(s) for s in scaled]

    def _decomposed(self, total: Any, inputs: Any) -> list[Any]:
        if self.hessian == "full":
            return [linalg.eigh(total[0])]
        if self.hessian == "diagonal":
            return [total[0]]
        return [(linalg.eigh(b), linalg.eigh(a / self.n)) for b, a in zip(total, inputs, strict=True)]

    def _log_likelihood(self, output: Tensor, y: Tensor) -> Tensor:
        if self.likelihood == "regression":
            if y.shape != output.shape:
                msg = f"Laplace.fit: y must have the shape of the output, {tuple(output.shape)}, got {tuple(y.shape)}"
                raise ValueError(msg)
            off = (y - output) ** 2 / self.noise_variance
            return -0.5 * sum(off + math.log(2 * math.pi * self.noise_variance))
        if y.ndim != 1:
            msg = f"Laplace.fit: y must be class indices (n,), got shape {tuple(y.shape)}"
            raise ValueError(msg)
        return sum(take_along_axis(log_softmax(output, axis=-1), expand_dims(y, axis=-1), axis=-1))

    # ----- evidence -----

    def _eigenvalues(self) -> list[Tensor]:
        self._fitted()
        if self.hessian == "full":
            return [self._factors[0].eigenvalues]
        if self.hessian == "diagonal":
            return [self._factors[0]]
        return [reshape(expand_dims(b.eigenvalues, axis=-1) * a.eigenvalues, (-1,)) for b, a in self._factors]

    def _fitted(self) -> None:
        if not hasattr(self, "_factors"):
            msg = "Laplace: call fit(x, y) first"
            raise RuntimeError(msg)

    def log_evidence(self, prior_precision: float | None = None) -> float:
        """ln p(D) ≈ ln p(D | ŵ) − ½ δ |ŵ|² + ½ d ln δ − ½ ln |H + δI| (D. MacKay 1992); of the layers taken."""
        delta = self.prior_precision if prior_precision is None else prior_precision
        check_number("Laplace.log_evidence", "prior_precision", delta, 0.0, open=True)
        log_det, size = 0.0, 0
        for values in self._eigenvalues():
            log_det += float(sum(log(_not_negative(values) + delta)))
            size += values.shape[0]
        return self.log_likelihood - 0.5 * delta * self.norm + 0.5 * size * math.log(delta) - 0.5 * log_det

    def optimize_prior(self, low: float = 1e-4, high: float = 1e4, points: int = 81) -> Laplace:
        """Take the δ of the largest evidence among `points` in [low, high], in equal ratios."""
        check_number("Laplace.optimize_prior", "low", low, 0.0, open=True)
        check_number("Laplace.optimize_prior", "high", high, low, open=True)
        check_count("Laplace.optimize_prior", "points", points, 2)
        grid = [low * (high / low) ** (i / (points - 1)) for i in range(points)]
        self.prior_precision = max((self.log_evidence(d), d) for d in grid)[1]
        return self

    # ----- predictions -----

    def functional_variance(self, x: ArrayLike) -> tuple[Tensor, Tensor]:
        """Outputs (n, K) and their covariance J Λ⁻¹ Jᵀ (n, K, K)."""
        self._fitted()
        x = asarray(x)
        outputs, spreads = [], []
        with modes_kept(self.model), no_grad():
            self.model.eval()
            n = int(x.shape[0])
            for at in range(0, max(n, 1), self.batch_size):
                rows, output, _, _ = self._rows(x[at : min(at + self.batch_size, n), ...])
                outputs.append(output)
                spreads.append(self._spread(rows))
        return concat(outputs), concat(spreads)

    def _spread(self, rows: list[Tensor]) -> Tensor:
        total: Any = 0.0
        for jacobian, factor in zip(rows, self._factors, strict=True):
            if self.hessian == "full":
                turned = matmul(jacobian, factor.eigenvectors)
                scaled = turned / (_not_negative(factor.eigenvalues) + self.prior_precision)
            elif self.hessian == "diagonal":
                turned, scaled = jacobian, jacobian / (factor + self.prior_precision)
            else:
                b, a = factor
                turned = b.eigenvectors.mT @ jacobian @ a.eigenvectors
                both = expand_dims(_not_negative(b.eigenvalues), axis=-1) * _not_negative(a.eigenvalues)
                scaled = turned / (both + self.prior_precision)
                turned, scaled = (reshape(t, (*t.shape[:2], -1)) for t in (turned, scaled))
            total = total + scaled @ moveaxis(turned, -1, -2)
        return total  # type: ignore[no-any-return]

    def predict(self, x: ArrayLike) -> Any:
        """A `Regression` (mean, epistemic variance, noise), or a `Classification`, whose probabilities are softmax(f / √(1 + π/8 var f))
        (D. MacKay, "The evidence framework applied to classification networks", 1992)."""
        mean, spread = self.functional_variance(x)
        variance = linalg.diagonal(spread)
        if self.likelihood == "regression":
            return Regression(mean, variance, zeros_like(mean) + self.noise_variance)
        p = softmax(mean / sqrt(1.0 + math.pi / 8 * variance), axis=-1)
        return Classification(p, sum(entr(p), axis=-1), sum(entr(softmax(mean, axis=-1)), axis=-1))


def _not_negative(values: Tensor) -> Tensor:
    """Eigenvalues without what rounding put below 0."""
    return maximum(values, 0.0)


def _inner(x: Tensor) -> Tensor:
    """Σᵢ Xᵢᵀ Xᵢ of matrices (n, K, d)."""
    flat = reshape(x, (-1, x.shape[-1]))
    return flat.mT @ flat
