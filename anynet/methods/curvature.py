"""Curvature of a loss: Hessian-vector products, eigenvalues by Lanczos's method; and learning rates by layer.

Sources: Pearlmutter: Fast exact multiplication by the Hessian (Neural Computation 1994); LeCun, Simard, Pearlmutter: Automatic learning
rate maximization by on-line estimation of the Hessian's eigenvectors (NIPS 1992); layer-wise decay: Howard, Ruder (ACL 2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from anynet import random
from anynet._hints import closest
from anynet.autograd.pytree import flatten
from anynet.autograd.transforms import grad
from anynet.methods.checks import check_count, check_number
from anynet.methods.per_sample import batched
from anynet.nn.module import Module
from anynet.nn.utils.stateless import functional_call
from anynet.ops.manipulation import reshape
from anynet.ops.reductions import sum as sum_
from anynet.tensor import Tensor, unwrap, wrap
from anynet.train.fine_tuning import layer_groups
from anynet.train.objectives import Objective
from anynet_backends import Array, Backend, backend_of, resolve

__all__ = [
    "Eigenvalues", "hessian_eigenvalues", "hessian_learning_rates", "hessian_vector_product", "layer_wise_learning_rates",
]  # fmt: skip


def hessian_vector_product(f: Callable[[Any], Tensor], params: Any, v: Any) -> Any:
    """H v with H = ∂²f/∂params², for a function of one nest of arrays that gives one number: the gradient of ⟨∇f, v⟩.

    `v` and the result have the structure of `params` (a dict for a Module's parameters, see `nn.functional_call`). H is never made.

    >>> import anynet as an
    >>> an.methods.hessian_vector_product(lambda x: an.sum(x**3), an.asarray([1.0, 2.0]), an.asarray([1.0, 10.0]))
    Tensor([  6., 120.])
    """
    slope = grad(f)
    direction, structure = flatten(v)
    if structure != flatten(params)[1]:
        msg = f"hessian_vector_product: v has the structure {structure}, params {flatten(params)[1]}"
        raise ValueError(msg)

    def along(at: Any) -> Any:
        parts = [sum_(g * d) for g, d in zip(flatten(slope(at))[0], direction, strict=True)]
        return sum(parts[1:], parts[0])

    return grad(along)(params)


class Eigenvalues(NamedTuple):
    """Eigenvalues of a Hessian, the largest first, with bounds on their errors: |λ − an eigenvalue of H| ≤ bound for each."""

    values: list[float]
    bounds: list[float]


def _loss_of_parameters(model: Module, loss: Any, x: Any, y: Any) -> Callable[[dict[str, Tensor]], Tensor]:
    where = "hessian_eigenvalues"
    function = Objective(loss).function
    data = batched(where, (x,) if y is None else (x, y))

    def of(parameters: dict[str, Tensor]) -> Tensor:
        value = function(functional_call(model, parameters, data[0]), *data[1:])
        if not isinstance(value, Tensor) or math.prod(value.shape) != 1:
            msg = f"{where}: the loss must be one number, got {getattr(value, 'shape', type(value).__name__)}"
            raise ValueError(msg)
        return reshape(value, ())

    return of


def hessian_eigenvalues(
    model: Module,
    loss: Any,
    x: Any,
    y: Any = None,
    *,
    count: int = 1,
    parameters: Sequence[str] | None = None,
    iterations: int = 40,
) -> Eigenvalues:
    """The `count` largest eigenvalues of ∂²loss/∂θ² for a batch, by Lanczos's method with full reorthogonalisation.

    `parameters` are names: the block of these alone, the others held fixed; all that require a gradient unless given. Takes at most
    `iterations` Hessian-vector products (fewer where the Krylov space is complete), and keeps as many vectors of the size of θ. The
    start is drawn from `anynet.random`. Layers run in the mode they are in: call ``model.eval()`` where there is dropout.

    Errors: ValueError for names that are not there, counts < 1, a loss that is not one number, and a Hessian that is not finite.

    >>> import anynet as an
    >>> net = an.nn.Linear(2, 1, bias=False)
    >>> x = an.asarray([[2.0, 0.0], [0.0, 1.0]])
    >>> found = an.methods.hessian_eigenvalues(net, "mse", x, an.zeros((2, 1)), count=2)  # H = XᵀX
    >>> [round(v, 4) for v in found.values]
    [4.0, 1.0]
    """
    where = "hessian_eigenvalues"
    check_count(where, "count", count)
    check_count(where, "iterations", iterations)
    known = {name: p for name, p in model.named_parameters() if p.requires_grad}
    names = list(known) if parameters is None else list(parameters)
    for name in names:
        if name not in known:
            near = closest(name, known)
            msg = f"{where}: the model has no trainable parameter {name!r}" + (
                f"; did you mean {near}?" if near else ""
            )
            raise ValueError(msg)
    if not names:
        msg = f"{where}: the model has no trainable parameters"
        raise ValueError(msg)
    function = _loss_of_parameters(model, loss, x, y)
    point = {name: wrap(unwrap(known[name])) for name in names}
    shapes = {name: tuple(p.shape) for name, p in point.items()}
    sizes = [math.prod(s) for s in shapes.values()]
    first = unwrap(point[names[0]])
    xp = backend_of(first)

    def multiply(v: Array) -> Array:
        parts, start = {}, 0
        for (name, shape), size in zip(shapes.items(), sizes, strict=True):
            parts[name] = wrap(
                xp.astype(xp.reshape(v[start : start + size], shape), unwrap(point[name]).dtype)
            )
            start += size
        product = hessian_vector_product(function, point, parts)
        return xp.concat([xp.astype(xp.reshape(unwrap(product[name]), (-1,)), v.dtype) for name in names])

    start = random.normal((sum(sizes),), dtype="float64", device="cpu")
    vector = xp.astype(unwrap(start.to(xp.device_of(first))), first.dtype)
    return _lanczos(xp, multiply, vector, iterations, count)


def _lanczos(
    xp: Backend, multiply: Callable[[Array], Array], v: Array, iterations: int, count: int
) -> Eigenvalues:
    """The largest Ritz values of a symmetric operator, with the residual norms as bounds."""
    n = v.shape[0]
    v = v / xp.sqrt(xp.sum(v * v))
    basis, diagonal, beside = [v], [], []
    rest = 0.0
    for _ in range(min(iterations, n)):
        w = multiply(basis[-1])
        diagonal.append(float(xp.sum(w * basis[-1])))
        q = xp.stack(basis)
        for _ in range(2):  # once loses orthogonality to rounding, twice is enough
            w = w - xp.matmul(xp.matmul(q, w), q)
        rest = float(xp.sum(w * w)) ** 0.5
        if not math.isfinite(rest + diagonal[-1]):
            msg = "hessian_eigenvalues: the Hessian is not finite here; has the training diverged?"
            raise ValueError(msg)
        scale = max(map(abs, diagonal))
        if rest <= 100 * float(xp.finfo(v.dtype).eps) * scale:
            rest = 0.0
            break
        beside.append(rest)
        basis.append(w / rest)
    m = len(diagonal)
    host, _ = resolve("cpu")
    t = host.zeros((m, m), dtype=host.float64)
    for i in range(m):
        t[i, i] = diagonal[i]
        if i:
            t[i, i - 1] = t[i - 1, i] = beside[i - 1]
    values, vectors = host.linalg.eigh(t)
    order = range(m - 1, max(-1, m - 1 - count), -1)
    return Eigenvalues([float(values[i]) for i in order], [abs(rest * float(vectors[-1, i])) for i in order])


def layer_wise_learning_rates(model: Module, lr: float, decay: float = 0.75) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer, with lr · decayᵏ for the k-th layer or block before the output: the last learns at `lr`.

    Groups are from the input to the output, each with "params", "lr" and its "name" (of its first parameter's module); norms belong to the
    layer before them (`train.fine_tuning.layer_groups`). Frozen parameters are left out. With decay 1/2.6 it is the "discriminative
    fine-tuning" of Howard and Ruder; ``fine_tune(layer_decay=…)`` uses the same groups.

    >>> import anynet as an
    >>> net = an.models.MLP(4, 2, hidden=(8,))
    >>> groups = an.methods.layer_wise_learning_rates(net, 0.1, decay=0.5)
    >>> [(g["name"], g["lr"]) for g in groups]
    [('0', 0.05), ('2', 0.1)]
    >>> optimizer = an.optim.SGD(groups, lr=0.1)
    """
    check_number("layer_wise_learning_rates", "lr", lr, 0)
    check_number("layer_wise_learning_rates", "decay", decay, 0, open=True)
    groups = _layers(model)
    depth = len(groups) - 1
    return [
        {"params": params, "lr": lr * decay ** (depth - i), "name": name}
        for i, (name, _, params) in enumerate(groups)
    ]


def _layers(model: Module) -> list[tuple[str, list[str], list[Tensor]]]:
    """Name, names of parameters and parameters of each layer that is trained."""
    named = dict(model.named_parameters())
    found: list[tuple[str, list[str], list[Tensor]]] = []
    for names in layer_groups(model):
        live = [n for n in names if named[n].requires_grad]
        if live:
            found.append((live[0].rpartition(".")[0] or live[0], live, [named[n] for n in live]))
    return found


def hessian_learning_rates(
    model: Module, loss: Any, x: Any, y: Any = None, *, scale: float = 1.0, iterations: int = 20
) -> list[dict[str, Any]]:
    """Parameter groups with lr = `scale` / λₘₐₓ of each layer's block of the Hessian: where a layer curves more, it steps less.

    2/λₘₐₓ is where gradient descent on that layer alone begins to diverge. Each group has "params", "lr" and "name" as those of
    `layer_wise_learning_rates`. ValueError for a layer without positive curvature (a dead one, say).

    Source: LeCun, Simard, Pearlmutter (1992).

    >>> import anynet as an
    >>> net = an.nn.Linear(2, 1, bias=False)
    >>> x = an.asarray([[2.0, 0.0], [0.0, 1.0]])
    >>> [group] = an.methods.hessian_learning_rates(net, "mse", x, an.zeros((2, 1)))
    >>> round(group["lr"], 4)
    0.25
    """
    check_number("hessian_learning_rates", "scale", scale, 0, open=True)
    groups = []
    for name, names, params in _layers(model):
        [largest], [bound] = hessian_eigenvalues(model, loss, x, y, parameters=names, iterations=iterations)
        if not largest > bound:
            msg = f"hessian_learning_rates: the layer {name!r} has no positive curvature (largest eigenvalue {largest:.3g})"
            raise ValueError(msg)
        groups.append({"params": params, "lr": scale / largest, "name": name})
    return groups
