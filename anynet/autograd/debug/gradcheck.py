"""Gradients against finite differences: does the chain rule say what the function does?

For outputs y = f(x) and fixed weights v, L = Re Σ conj(v) · y is a real number whose gradient has two
sources: a backward pass, and the central difference of the function itself,

    ∂L/∂x_i ≈ (L(x + ε e_i) − L(x − ε e_i)) / 2ε.

For a complex x_i the gradient is ∂L/∂(Re x_i) + i ∂L/∂(Im x_i): ε is added to either part in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from anynet.autograd.backward import backprop
from anynet.autograd.graph import GradientError
from anynet.tensor import Leaf, Tensor, enable_grad, no_grad, wrap
from anynet_backends import backend_of, philox

__all__ = ["GradcheckError", "gradcheck", "gradgradcheck"]


class GradcheckError(AssertionError):
    """A gradient differs from the finite difference."""


def gradcheck(
    f: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-6,
    rtol: float = 1e-5,
    parameters: Any = None,
    seed: int = 0,
    raise_exception: bool = True,
) -> bool:
    """Compare the gradients of ``f(*inputs)`` with central differences; True where they agree.

    Parameters
    ----------
    f: a function or Module that returns a Tensor, or a tuple, list or dict of them.
    inputs: a Tensor or a sequence of arguments. Each Tensor with ``requires_grad`` is checked; it must be
        float64 or complex128 (finite differences in float32 have no digits left).
    eps: the step.
    atol, rtol: a gradient passes where |got − expected| ≤ atol + rtol · max|expected| of its input.
    parameters: more variables to check, which f uses without their being passed: a Module, a dict
        name → Tensor, or a sequence of Tensors.
    seed: of the random weights with which the outputs are summed up.
    raise_exception: with False, a mismatch returns False.

    Raises `GradcheckError`, which names the first wrong input and index with got and expected; ValueError
    where the inputs are not fit for a check (dtype, nothing that requires a gradient, f not deterministic).

    >>> import anynet as an
    >>> from anynet.autograd import gradcheck
    >>> x = an.asarray([0.5, 2.0], dtype=an.float64, requires_grad=True)
    >>> gradcheck(lambda x: an.exp(x) / x, x)
    True
    """
    arguments = _arguments(inputs)
    targets = _targets(arguments, parameters, "gradcheck")
    got, weights, before = _backpropagated(f, arguments, targets, seed)

    def loss() -> list[Any]:
        with no_grad():
            return [y.detach().numpy() for y in _outputs(f(*arguments), "gradcheck")]

    _check_deterministic(before, loss())
    for (name, x), g in zip(targets.items(), got, strict=True):
        problem = _mismatch(name, x, g, _finite_difference(loss, x, weights, eps), atol, rtol)
        if problem is not None:
            if not raise_exception:
                return False
            raise GradcheckError(problem)
    return True


def _backpropagated(
    f: Callable[..., Any], arguments: Sequence[Any], targets: Mapping[str, Tensor], seed: int
) -> tuple[list[Any], list[Any], list[Any]]:
    """The gradients of the weighted sum of the outputs in the targets; the weights; the outputs, as host arrays."""
    with enable_grad():
        outputs = _outputs(f(*arguments), "gradcheck")
    weights = [_weights(y, seed + k) for k, y in enumerate(outputs)]
    before = [y.detach().numpy() for y in outputs]

    roots = [
        (y.edge, backend_of(y._data).from_host(v, y.device))
        for y, v in zip(outputs, weights, strict=True)
        if y.edge is not None
    ]
    got = backprop(roots, targets=[t.edge for t in targets.values()]) or []
    if len(roots) < len(outputs) and not roots:
        msg = "gradcheck: no output depends on an input that requires a gradient (detached, or no_grad?)"
        raise GradientError(msg)
    return got, weights, before


def _check_deterministic(before: list[Any], again: list[Any]) -> None:
    for a, b in zip(before, again, strict=True):
        if a.shape != b.shape or not ((a == b) | ((a != a) & (b != b))).all():
            msg = (
                "gradcheck: f gave two different results for the same inputs; make it deterministic first "
                "(module.eval(), a fixed seed for dropout)"
            )
            raise ValueError(msg)


def _finite_difference(loss: Callable[[], list[Any]], x: Tensor, weights: list[Any], eps: float) -> Any:
    """The gradient of the weighted sum of the outputs that `loss` gives, in x: central differences, as a host array."""
    original, xp = x._data, backend_of(x._data)
    base = x.detach().numpy().copy()
    expected = base.copy()
    expected[...] = 0  # not base * 0, which makes a scalar of a 0-d array

    def difference(i: int, step: complex) -> float:
        sides = []
        for sign in (1, -1):
            moved = base.copy()
            moved.reshape(-1)[i] += sign * step
            x._data = xp.from_host(moved, x.device)
            sides.append(loss())
        # the difference of each output first, then the sum: fewer digits are lost
        total = sum((v.conj() * (up - down)).sum().real for v, up, down in zip(weights, *sides, strict=True))
        return float(total) / (2 * eps)

    try:
        for i in range(base.size):
            expected.reshape(-1)[i] = difference(i, eps)
            if base.dtype.kind == "c":
                x._data = original
                expected.reshape(-1)[i] += 1j * difference(i, 1j * eps)
    finally:
        x._data = original
    return expected


def _mismatch(name: str, x: Tensor, g: Any, expected: Any, atol: float, rtol: float) -> str | None:
    """Where the gradient g of x differs from the finite difference, in words; None where they agree."""
    actual = expected * 0 if g is None else wrap(g._data if isinstance(g, Tensor) else g).numpy()
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        msg = (
            f"gradcheck: the gradient of {name} is {actual.dtype}{actual.shape}, "
            f"expected that of the input, {expected.dtype}{expected.shape}"
        )
        raise GradcheckError(msg)
    if not expected.size:
        return None
    error = abs(actual - expected)
    wrong = ~(error <= atol + rtol * float(abs(expected).max()))  # a NaN is wrong too
    if not wrong.any():
        return None
    first = int(wrong.reshape(-1).argmax())
    index = _unravel(first, x.shape)
    where = f"{name}[{', '.join(map(str, index))}]" if index else name
    missing = "" if g is not None else "; no gradient reached this input at all"
    return (
        f"gradcheck: wrong gradient of {where}: got {actual.reshape(-1)[first]!s}, "
        f"expected {expected.reshape(-1)[first]!s} (finite difference); "
        f"{int(wrong.sum())} of {expected.size} elements differ, worst by {float(error.max()):.3g}{missing}"
    )


def gradgradcheck(
    f: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-6,
    rtol: float = 1e-5,
    parameters: Any = None,
    seed: int = 0,
    raise_exception: bool = True,
) -> bool:
    """Compare second derivatives with central differences of first ones: `gradcheck` of the gradient of f.

    The gradient is taken with respect to the inputs, the `parameters`, and the gradients of the outputs.
    Arguments as those of `gradcheck`.

    >>> import anynet as an
    >>> from anynet.autograd import gradgradcheck
    >>> x = an.asarray([0.5, 2.0], dtype=an.float64, requires_grad=True)
    >>> gradgradcheck(lambda x: an.exp(x) / x, x)
    True
    """
    arguments = _arguments(inputs)
    targets = _targets(arguments, parameters, "gradgradcheck")
    with no_grad():
        outputs = _outputs(f(*arguments), "gradgradcheck")
    starts = []
    for k, y in enumerate(outputs):
        start = backend_of(y._data).from_host(_weights(y, seed + 100 + k), y.device)
        starts.append(wrap(start).requires_grad_())

    def gradient(*given: Any) -> list[Any]:
        n = len(arguments)
        with enable_grad():
            ys = _outputs(f(*given[:n]), "gradgradcheck")
            roots = [(y.edge, v) for y, v in zip(ys, given[n:], strict=True) if y.edge is not None]
            edges = [t.edge for t in targets.values()]
            grads = backprop(roots, targets=edges, create_graph=True, retain_graph=True) or []
        return [g for g in grads if g is not None]

    return gradcheck(
        gradient, [*arguments, *starts], eps=eps, atol=atol, rtol=rtol, parameters=parameters, seed=seed,
        raise_exception=raise_exception,
    )  # fmt: skip


def _arguments(inputs: Any) -> list[Any]:
    return list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]


def _targets(arguments: Sequence[Any], parameters: Any, where: str) -> dict[str, Tensor]:
    """The variables to check, by the name under which a failure is reported."""
    named = [(f"input {i}", x) for i, x in enumerate(arguments)]
    if parameters is not None:
        if hasattr(parameters, "named_parameters"):
            more: Iterable[Any] = parameters.named_parameters()
        elif isinstance(parameters, Mapping):
            more = parameters.items()
        else:
            more = ((f"{i}", p) for i, p in enumerate(parameters))
        named += [(f"parameter {name}", p) for name, p in more]
    out: dict[str, Tensor] = {}
    for name, x in named:
        if not isinstance(x, Tensor) or x.edge is None:
            continue
        if any(x is other for other in out.values()):
            continue
        if type(x.edge) is not Leaf:
            msg = f"{where}: {name} is the result of an operation; pass x.detach().requires_grad_()"
            raise ValueError(msg)
        if x.dtype.name not in ("float64", "complex128"):
            msg = (
                f"{where}: {name} has dtype {x.dtype}; finite differences need float64 or complex128: "
                "convert inputs and module, e.g. module.to(anynet.float64)"
            )
            raise ValueError(msg)
        out[name] = x
    if not out:
        msg = f"{where}: no input requires a gradient; make one with requires_grad=True, or give parameters="
        raise ValueError(msg)
    return out


def _outputs(result: Any, where: str) -> list[Tensor]:
    """The floating-point Tensors among the results of f."""
    found: list[Tensor] = []

    def collect(x: Any) -> None:
        if isinstance(x, Tensor):
            if x.dtype.is_floating:
                found.append(x)
        elif isinstance(x, Mapping):
            for v in x.values():
                collect(v)
        elif isinstance(x, (list, tuple)):
            for v in x:
                collect(v)

    collect(result)
    if not found:
        msg = (
            f"{where}: f must return floating-point Tensors (one, a tuple, list or dict), got {result!r:.80}"
        )
        raise TypeError(msg)
    return found


def _weights(y: Tensor, seed: int) -> Any:
    """Random weights of magnitude 0.5 to 1.5 and either sign, as a host array of y's dtype."""
    like = y.detach().numpy()
    n = like.size

    def draw(stream: int) -> Any:
        words = philox.philox_words(seed, stream, 0, 2 * n) / 2.0**32
        return ((0.5 + words[:n]) * (1.0 - 2.0 * (words[n:] < 0.5))).reshape(like.shape)

    values = draw(1) + 1j * draw(2) if like.dtype.kind == "c" else draw(1)
    return values.astype(like.dtype)


def _unravel(flat: int, shape: Sequence[int]) -> tuple[int, ...]:
    index = []
    for n in reversed(shape):
        flat, i = divmod(flat, n)
        index.append(i)
    return tuple(reversed(index))
