"""How a model learns features: the average gradient outer product (AGOP), the neural feature ansatz, recursive feature machines.

Source: Radhakrishnan, Beaglehole, Pandit, Belkin: Mechanism for feature learning in neural networks and backpropagation-free machine
learning models (Science 383, 2024); of convolutions: Beaglehole et al. (2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from anynet.autograd.transforms import jacrev
from anynet.autograd.vmap import vmap
from anynet.methods.per_sample import batched, one_by_one, output_of_one
from anynet.methods.supervised import one_hot_of, points_of, right_share
from anynet.nn.conv import Conv1d, Conv2d, Conv3d
from anynet.nn.linear import Linear
from anynet.nn.module import Module
from anynet.ops.creation import zeros
from anynet.tensor import Tensor, no_grad, to_plain, unwrap, wrap
from anynet_backends import Array, Backend, backend_of

__all__ = ["Ansatz", "RecursiveFeatureMachine", "agop", "neural_feature_ansatz"]

_CONVOLUTIONS = (Conv1d, Conv2d, Conv3d)


def agop(model: Callable[..., Any], x: Any, *, layer: str | None = None, batch_size: int = 256) -> Tensor:
    """G = (1/n) Σᵢ Jᵢᵀ Jᵢ with Jᵢ = ∂model(xᵢ)/∂xᵢ, (d, d): the average gradient outer product; d is the size of one input.

    `model` is a Module or a function of a batch x (n, …) → (n, …); outputs of several numbers are summed over (ΣJᵀJ). With
    `layer`, the name of a Linear or convolution of the model, it is the AGOP with respect to what enters that layer (for a convolution
    its patches, in the order of the flattened weight (in, *kernel); summed over positions): J = ∂model/∂a · W for its output a = W h.

    Errors: those of `jacobians`; ValueError for a layer that is not there, not of these kinds, or not called exactly once.

    >>> import anynet as an
    >>> an.methods.agop(lambda x: 2.0 * x[:, 0] + x[:, 1], an.asarray([[1.0, 2.0], [3.0, 4.0]]))
    Tensor([[4., 2.],
            [2., 1.]])
    """
    where = "agop"
    if batch_size < 1:
        msg = f"{where}: batch_size must be ≥ 1, got {batch_size}"
        raise ValueError(msg)
    data = batched(where, x)
    if not isinstance(data, Tensor):
        msg = f"{where}: takes one array (n, …) of inputs, got {type(x).__name__}"
        raise TypeError(msg)
    if layer is None:
        with one_by_one(where, model, model, data):
            jacobian = vmap(jacrev(lambda sample: output_of_one(where, model, sample)))
            return _mean_outer(jacobian, data, batch_size, last=math.prod(data.shape[1:]))
    if not isinstance(model, Module):
        msg = f"{where}: layer={layer!r} needs a Module, got {type(model).__name__}"
        raise TypeError(msg)
    return _agop_of_layer(model, data, layer, batch_size)


def _mean_outer(jacobian: Callable[[Tensor], Any], x: Tensor, batch_size: int, last: int) -> Tensor:
    """(1/n) Σᵢ JᵢᵀJᵢ, where the Jacobian's last axes have `last` elements, in batches."""
    total: Any = None
    with no_grad():
        for start in range(0, x.shape[0], batch_size):
            j = unwrap(jacobian(x[start : min(start + batch_size, x.shape[0])]))
            xp = backend_of(j)
            flat = xp.reshape(j, (-1, last))
            product = xp.matmul(xp.matrix_transpose(flat), flat)
            total = product if total is None else total + product
    return wrap(total / x.shape[0])


def _agop_of_layer(model: Module, x: Tensor, name: str, batch_size: int) -> Tensor:
    """The gradient with respect to a layer's output, as that of an addend of it, times the layer's weight."""
    where = "agop"
    layers = dict(model.named_modules())
    found: Any = layers.get(name)
    if not isinstance(found, (Linear, *_CONVOLUTIONS)) or getattr(found, "groups", 1) != 1:
        known = [n for n, m in layers.items() if isinstance(m, (Linear, *_CONVOLUTIONS))]
        msg = f"{where}: layer must be the name of a Linear or ungrouped convolution: {', '.join(known) or 'none here'}; got {name!r}"
        raise ValueError(msg)
    shapes: list[Tensor] = []
    hook = found.register_forward_hook(lambda _m, _a, out: shapes.append(out.detach()))
    with hook, no_grad():
        model(x[:1])
    if len(shapes) != 1:
        msg = f"{where}: the layer {name!r} was called {len(shapes)} times for one sample; its features are defined for one call"
        raise ValueError(msg)
    addend = zeros(shapes[0].shape, dtype=shapes[0].dtype, device=shapes[0].device)

    def output(extra: Tensor, sample: Tensor) -> Tensor:
        with found.register_forward_hook(lambda _m, _a, out: out + extra):
            return output_of_one(where, model, sample)

    def jacobian(part: Tensor) -> Tensor:
        j = unwrap(vmap(jacrev(output), in_axes=(None, 0))(addend, part))
        if isinstance(found, Linear):  # the features are the last axis
            return wrap(j)
        xp = backend_of(j)
        channels = len(j.shape) - len(addend.shape) + 1
        return wrap(xp.moveaxis(j, channels, -1))

    with one_by_one(where, model, model, x):
        g = unwrap(_mean_outer(jacobian, x, batch_size, last=found.weight.shape[0]))
    xp = backend_of(g)
    w = xp.reshape(unwrap(found.weight), (found.weight.shape[0], -1))
    return wrap(xp.matmul(xp.matrix_transpose(w), xp.matmul(g, w)))


class Ansatz(NamedTuple):
    """One layer of `neural_feature_ansatz`: the correlation, and the two matrices (d, d) that are compared."""

    correlation: float
    feature_matrix: Tensor
    agop: Tensor


def neural_feature_ansatz(
    model: Module, x: Any, *, power: float = 1.0, batch_size: int = 256
) -> dict[str, Ansatz]:
    """How far WₗᵀWₗ ∝ Gₗᵖ holds: for each Linear and convolution the correlation of the entries of the two matrices.

    Gₗ is the `agop` with respect to the inputs of layer l, p the `power` (1 in the paper's statement for gradients, ½ in later work).
    The correlation is Pearson's, over all entries; NaN where a matrix is constant. Layers that share a module, or that are not called
    exactly once, are refused by `agop`.

    >>> import anynet as an
    >>> an.random.manual_seed(0)
    >>> net = an.nn.Sequential(an.nn.Linear(3, 1))
    >>> round(an.methods.neural_feature_ansatz(net, an.random.normal((8, 3)))["0"].correlation, 6)  # the gradient is W
    1.0
    """
    if not (math.isfinite(power) and power > 0):
        msg = f"neural_feature_ansatz: power must be > 0, got {power}"
        raise ValueError(msg)
    found = {}
    for name, layer in model.named_modules():
        if isinstance(layer, (Linear, *_CONVOLUTIONS)) and getattr(layer, "groups", 1) == 1:
            g = unwrap(agop(model, x, layer=name, batch_size=batch_size))
            xp = backend_of(g)
            w = xp.reshape(unwrap(layer.weight), (layer.weight.shape[0], -1))
            features = xp.matmul(xp.matrix_transpose(w), w)
            if power != 1.0:
                g = _matrix_power(xp, g, power)
            found[name] = Ansatz(_correlation(xp, features, g), wrap(features), wrap(g))
    if not found:
        msg = "neural_feature_ansatz: the model has no Linear and no ungrouped convolution"
        raise ValueError(msg)
    return found


def _matrix_power(xp: Backend, m: Array, power: float) -> Array:
    values, vectors = xp.linalg.eigh(m)
    values = xp.where(values > 0, values, xp.zeros_like(values)) ** power
    return xp.matmul(vectors * values, xp.matrix_transpose(vectors))


def _correlation(xp: Backend, a: Array, b: Array) -> float:
    a, b = a - xp.mean(a), b - xp.mean(b)
    size = math.sqrt(float(xp.sum(a * a)) * float(xp.sum(b * b)))
    return float(xp.sum(a * b)) / size if size > 0 else math.nan


class RecursiveFeatureMachine:
    """Kernel ridge regression that learns its metric M from its own gradients, without backpropagation.

        K(x, z) = exp(−‖x − z‖_M / L) (``kernel="laplace"``) or exp(−‖x − z‖²_M / 2L²) ("gaussian"), ‖v‖²_M = vᵀ M v,
        M = I;   repeat: α = (K + λI)⁻¹ y,  f(x) = Σⱼ αⱼ K(x, xⱼ),  M ← (1/n) Σᵢ ∇f(xᵢ) ∇f(xᵢ)ᵀ

    so `iterations` = 0 is the plain kernel machine. `bandwidth` is L, `ridge` is λ; with `diagonal` only the diagonal of M is
    learned (for many features). ``task="classification"`` takes labels of any kind, one column of y for each (1 for its class, 0
    for others), and `predict` gives labels. Numbers stay on the device and of the floating-point dtype of X (float64 is advised).

    After `fit`: ``M`` (d, d) or (d,), ``alpha`` (n, outputs), ``classes`` (labels in order). ``callback(iteration, machine)``
    is called after each solution, so that the error by iteration can be had.

    Errors: ValueError for options out of range, X that is not (n, d), differing lengths, numbers that are not finite; RuntimeError for
    `predict` before `fit`.

    Source: Radhakrishnan et al. (Science 2024), algorithm 1.

    >>> import anynet as an
    >>> an.random.manual_seed(0)
    >>> x = an.random.normal((60, 5), dtype="float64")
    >>> machine = an.methods.RecursiveFeatureMachine(bandwidth=5.0).fit(x, x[:, 0] * x[:, 1])
    >>> diagonal = [machine.M[i, i].item() for i in range(5)]
    >>> sum(diagonal[:2]) > 0.9 * sum(diagonal)  # the two features that matter
    True
    """

    M: Tensor
    alpha: Tensor
    classes: list[Any]

    def __init__(
        self,
        kernel: str = "laplace",
        *,
        bandwidth: float = 10.0,
        ridge: float = 1e-3,
        iterations: int = 5,
        diagonal: bool = False,
        task: str = "regression",
    ) -> None:
        where = "RecursiveFeatureMachine"
        if kernel not in ("laplace", "gaussian"):
            msg = f"{where}: kernel must be 'laplace' or 'gaussian', got {kernel!r}"
            raise ValueError(msg)
        if task not in ("regression", "classification"):
            msg = f"{where}: task must be 'regression' or 'classification', got {task!r}"
            raise ValueError(msg)
        if not (math.isfinite(bandwidth) and bandwidth > 0):
            msg = f"{where}: bandwidth must be > 0, got {bandwidth}"
            raise ValueError(msg)
        if not (math.isfinite(ridge) and ridge >= 0):
            msg = f"{where}: ridge must be ≥ 0, got {ridge}"
            raise ValueError(msg)
        if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 0:
            msg = f"{where}: iterations must be an integer ≥ 0, got {iterations!r}"
            raise ValueError(msg)
        self.kernel, self.bandwidth, self.ridge = kernel, float(bandwidth), float(ridge)
        self.iterations, self.diagonal, self.task = iterations, bool(diagonal), task
        self._x: Array | None = None

    def fit(self, x: Any, y: Any, *, callback: Callable[[int, Any], None] | None = None) -> Any:
        """Learn from X (n, d) and y (n,) or (n, outputs); labels (n,) for classification. Gives the machine itself."""
        points = points_of("RecursiveFeatureMachine.fit", x)
        xp = backend_of(points)
        targets, classes, vector = self._targets(xp, points, y)
        d = points.shape[1]
        kind = {"dtype": points.dtype, "device": points.device}
        m = xp.ones((d,), **kind) if self.diagonal else xp.eye(d, **kind)
        self._vector, self.classes = vector, classes
        n = points.shape[0]
        ridge = self.ridge * xp.eye(n, **kind)
        for iteration in range(self.iterations + 1):
            k, weights = self._kernel(xp, points, points, m)
            alpha = xp.linalg.solve(k + ridge, targets)
            self._x, self.alpha, self.M = points, wrap(alpha), wrap(m)
            if callback is not None:
                callback(iteration, self)
            if iteration < self.iterations:
                m = self._agop(xp, points, weights, alpha, m)
        return self

    def predict(self, x: Any) -> Any:
        """f(x) as a Tensor (m,) or (m, outputs); for classification the list of the labels with the largest f."""
        if self._x is None:
            msg = "RecursiveFeatureMachine: predict needs fit first"
            raise RuntimeError(msg)
        points = points_of("RecursiveFeatureMachine.predict", x, self._x.shape[1], self._x)
        xp = backend_of(self._x)
        k, _ = self._kernel(xp, points, self._x, unwrap(self.M))
        values = xp.matmul(k, unwrap(self.alpha))
        if self.task == "classification":
            best = xp.argmax(values, axis=1)
            return [self.classes[int(best[i])] for i in range(best.shape[0])]
        return wrap(values[:, 0] if self._vector else values)

    def score(self, x: Any, y: Any) -> float:
        """R² for regression (of all outputs together), the share of right labels for classification."""
        predicted = self.predict(x)
        if self.task == "classification":
            return right_share(predicted, y)
        values = unwrap(predicted)
        xp = backend_of(values)
        targets = xp.astype(to_plain(y, device=xp.device_of(values)), values.dtype)
        if targets.shape != values.shape:
            msg = f"RecursiveFeatureMachine: score got y of shape {tuple(targets.shape)} for predictions {tuple(values.shape)}"
            raise ValueError(msg)
        rest, spread = targets - values, targets - xp.mean(targets, axis=0)
        return 1.0 - float(xp.sum(rest * rest)) / float(xp.sum(spread * spread))

    def _targets(self, xp: Backend, points: Array, y: Any) -> tuple[Array, list[Any], bool]:
        """Columns of targets, the labels, and whether y was a vector."""
        n = points.shape[0]
        if self.task == "classification":
            return *one_hot_of("RecursiveFeatureMachine.fit", points, y), False
        values = xp.astype(to_plain(y, device=xp.device_of(points)), points.dtype)
        if len(values.shape) not in (1, 2) or values.shape[0] != n:
            msg = (
                f"RecursiveFeatureMachine.fit: y must be ({n},) or ({n}, outputs), got {tuple(values.shape)}"
            )
            raise ValueError(msg)
        if not bool(xp.all(xp.isfinite(values))):
            msg = "RecursiveFeatureMachine.fit: y has numbers that are not finite"
            raise ValueError(msg)
        vector = len(values.shape) == 1
        return (xp.reshape(values, (n, 1)) if vector else values), [], vector

    def _kernel(self, xp: Backend, x: Array, z: Array, m: Array) -> tuple[Array, Array]:
        """K (n, k), and w with ∇f(xᵢ) = M Σⱼ αⱼ wᵢⱼ (zⱼ − xᵢ)."""
        xm = x * m if self.diagonal else xp.matmul(x, m)
        zm = z * m if self.diagonal else xp.matmul(z, m)
        squares = xp.sum(xm * x, axis=1)[:, None] + xp.sum(zm * z, axis=1)[None, :]
        squares = squares - 2.0 * xp.matmul(xm, xp.matrix_transpose(z))
        squares = xp.where(squares > 0, squares, xp.zeros_like(squares))
        if self.kernel == "gaussian":
            k = xp.exp(squares * (-0.5 / self.bandwidth**2))
            return k, k / self.bandwidth**2
        distance = xp.sqrt(squares)
        k = xp.exp(distance * (-1.0 / self.bandwidth))
        # a point has no gradient of its own kernel function, which has a kink there: what is left is rounding
        tiny = float(xp.finfo(x.dtype).eps) ** 0.5 * float(xp.max(distance))
        apart = distance > tiny
        return k, xp.where(
            apart, k / xp.where(apart, distance, xp.ones_like(k)), xp.zeros_like(k)
        ) / self.bandwidth

    def _agop(self, xp: Backend, x: Array, weights: Array, alpha: Array, m: Array) -> Array:
        """(1/n) Σᵢ Σ_c ∇f_c(xᵢ) ∇f_c(xᵢ)ᵀ, or its diagonal."""
        total: Any = None
        for c in range(alpha.shape[1]):
            w = weights * alpha[:, c][None, :]
            g = xp.matmul(w, x) - x * xp.sum(w, axis=1)[:, None]
            g = g * m if self.diagonal else xp.matmul(g, m)
            part = xp.sum(g * g, axis=0) if self.diagonal else xp.matmul(xp.matrix_transpose(g), g)
            total = part if total is None else total + part
        return total / x.shape[0]
