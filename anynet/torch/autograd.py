"""`torch.autograd`: gradients of given tensors, functions with a rule of one's own."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from anynet.autograd import transforms
from anynet.autograd.backward import backprop, start_gradient
from anynet.autograd.backward import backward as _backward
from anynet.autograd.custom_vjp import custom_vjp
from anynet.autograd.debug.anomaly import anomaly
from anynet.autograd.debug.gradcheck import gradcheck as _gradcheck
from anynet.autograd.debug.gradcheck import gradgradcheck as _gradgradcheck
from anynet.ops.creation import ones_like, zeros_like
from anynet.tensor import Tensor as AnyTensor
from anynet.tensor import enable_grad, no_grad, wrap
from anynet.torch.memory import write
from anynet.torch.tensor import Tensor, adopt

__all__ = [
    "Function",
    "Variable",
    "backward",
    "detect_anomaly",
    "enable_grad",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "no_grad",
]


def _several(x: Any) -> list[Any]:
    return [x] if isinstance(x, AnyTensor) else list(x)


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """The gradients of `outputs`, weighted by `grad_outputs`, for each of `inputs`; nothing is added to any ``grad``.

    RuntimeError for an input that no output depends on, unless `allow_unused` (None in its place) or `materialize_grads` (zeros).

    >>> import anynet.torch as torch
    >>> x = torch.tensor(3.0, requires_grad=True)
    >>> torch.autograd.grad(x**2, x)
    (tensor(6.),)
    """
    if not only_inputs:
        msg = "autograd.grad: only_inputs must be True; backward() adds to the grad of all variables"
        raise NotImplementedError(msg)
    if is_grads_batched:
        msg = "autograd.grad: is_grads_batched must be False; anynet.vmap of anynet.vjp is the same"
        raise NotImplementedError(msg)
    ys, xs = _several(outputs), _several(inputs)
    weights = [None] * len(ys) if grad_outputs is None else _several(grad_outputs)
    for x in xs:
        if x.edge is None:
            msg = "One of the differentiated Tensors does not require grad"
            raise RuntimeError(msg)
    roots = []
    for y, w in zip(ys, weights, strict=True):
        if y.edge is None:
            msg = "element of tensors does not require grad and does not have a grad_fn"
            raise RuntimeError(msg)
        g = start_gradient(y, w)
        if create_graph:
            g = w if isinstance(w, AnyTensor) else wrap(g, Tensor)
        roots.append((y.edge, g))
    keep = create_graph if retain_graph is None else retain_graph
    found = backprop(roots, targets=[x.edge for x in xs], create_graph=create_graph, retain_graph=keep) or []
    out = []
    for x, gradient in zip(xs, found, strict=True):
        if gradient is None and materialize_grads:
            gradient = zeros_like(x)
        elif gradient is None and not allow_unused:
            msg = (
                "One of the differentiated Tensors appears to not have been used in the graph. Set allow_unused=True if this is the "
                "desired behavior."
            )
            raise RuntimeError(msg)
        out.append(
            None
            if gradient is None
            else adopt(gradient if isinstance(gradient, AnyTensor) else wrap(gradient))
        )
    return tuple(out)


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """``backward()`` of several tensors, one after the other."""
    ys = _several(tensors)
    weights = [None] * len(ys) if grad_tensors is None else _several(grad_tensors)
    for i, (y, w) in enumerate(zip(ys, weights, strict=True)):
        keep = True if i < len(ys) - 1 else retain_graph
        adopt(y).backward(w, retain_graph=keep, create_graph=create_graph, inputs=inputs)


def _of_tensor(
    self: Any,
    gradient: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Gradients of the variables it depends on, added to their ``grad``; `inputs`: of these alone."""
    if inputs is None:
        _backward(self, gradient, retain_graph=retain_graph, create_graph=create_graph)
        return
    wanted = _several(inputs)
    found = grad(
        self, wanted, gradient, retain_graph=retain_graph, create_graph=create_graph, allow_unused=True
    )
    for x, g in zip(wanted, found, strict=True):
        if g is not None:
            x.grad = g if x.grad is None else x.grad + g


def _register_hook(self: Any, hook: Callable[[Any], Any]) -> Any:
    """Call `hook(gradient)` when the gradient of this tensor is known; what it returns replaces it."""
    return AnyTensor.register_hook(self, lambda g: hook(adopt(g)))


Tensor.backward = _of_tensor  # type: ignore[method-assign]
Tensor.register_hook = _register_hook  # type: ignore[method-assign]


class _Context:
    """What a `Function` keeps between its forward and its backward."""

    def __init__(self) -> None:
        self.saved_tensors: tuple[Any, ...] = ()
        self.dirty: tuple[Any, ...] = ()
        self.needs_input_grad: tuple[bool, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep tensors for backward, where they are ``ctx.saved_tensors``."""
        self.saved_tensors = tensors

    @property
    def saved_variables(self) -> tuple[Any, ...]:
        """An older name of `saved_tensors`."""
        return self.saved_tensors

    def mark_dirty(self, *args: Any) -> None:
        """These inputs are changed in place; where they are returned, they become what is returned."""
        self.dirty = args

    def mark_non_differentiable(self, *tensors: Any) -> None:
        """These outputs have no gradient."""
        self.constant = {id(t) for t in tensors}

    def set_materialize_grads(self, value: bool) -> None:
        """Gradients that are zero are always given as zeros."""


class Function:
    """A function with a gradient rule of its own: static methods ``forward(ctx, …)`` and ``backward(ctx, …)``, called by ``apply``.

    What `forward` computes is not recorded; `backward` is, so that it can be differentiated where it is made of tensors' operations.

    >>> import anynet.torch as torch
    >>> class Double(torch.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         return 2 * x
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         return 2 * g
    >>> x = torch.tensor(1.0, requires_grad=True)
    >>> Double.apply(x).backward()
    >>> x.grad
    tensor(2.)
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        """What the function computes."""
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """The gradients of the arguments, from those of the outputs."""
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom autograd.Function"
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep what `backward` needs, where `forward` takes no context."""

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """The function of these arguments, recorded where one of them requires a gradient."""
        ctx = _Context()
        ctx.needs_input_grad = tuple(isinstance(a, AnyTensor) and a.requires_grad for a in args)
        places = [i for i, a in enumerate(args) if isinstance(a, AnyTensor)]

        def computed(*given: Any) -> Any:
            values = list(args)
            for i, x in zip(places, given, strict=True):
                values[i] = adopt(x)
            with no_grad():
                if cls.setup_context is not Function.setup_context:
                    y = cls.forward(*values)
                    cls.setup_context(ctx, tuple(values), y)
                else:
                    y = cls.forward(ctx, *values)
            return y

        def rule(_: Any, g: Any) -> tuple[Any, ...]:
            grads = cls.backward(ctx, *adopt(g if isinstance(g, tuple) else (g,)))
            grads = grads if isinstance(grads, tuple) else (grads,)
            return tuple(grads[i] if ctx.needs_input_grad[i] else None for i in places)

        function = custom_vjp(computed)
        function.f.__name__ = cls.__name__
        returned: list[Any] = []

        def recorded(*given: Any) -> tuple[Any, None]:
            returned[:] = _several(y := computed(*given))
            return y, None

        function.defvjp(recorded, rule)
        y = adopt(function(*(args[i] for i in places)))
        if not ctx.dirty or not returned:
            return y
        # an input that was changed in place is what it is returned as
        ys = [y] if isinstance(y, AnyTensor) else list(y)
        changed = [
            write(x, new) if any(x is d for d in ctx.dirty) else new
            for x, new in zip(returned, ys, strict=True)
        ]
        return changed[0] if isinstance(y, AnyTensor) else type(y)(changed)


def Variable(data: Any, requires_grad: bool = False) -> Any:
    """An older name: a tensor of the same data, outside of its graph."""
    y = adopt(data.detach())
    return y.requires_grad_() if requires_grad else y


def detect_anomaly(check_nan: bool = True) -> Any:
    """Within the block a gradient that is not a number is an error that names the operation that made it."""
    return anomaly()


class set_detect_anomaly:
    """`detect_anomaly` switched on here; PyTorch's form for the whole process is not offered."""

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        if mode:
            msg = "set_detect_anomaly(True): write `with torch.autograd.detect_anomaly():` around what is to be checked"
            raise NotImplementedError(msg)


def gradcheck(func: Callable[..., Any], inputs: Any, **options: Any) -> bool:
    """Whether the gradients of a function agree with finite differences."""
    return bool(_gradcheck(func, inputs if isinstance(inputs, tuple) else (inputs,), **options))


def gradgradcheck(func: Callable[..., Any], inputs: Any, **options: Any) -> bool:
    """The same for second derivatives."""
    return bool(_gradgradcheck(func, inputs if isinstance(inputs, tuple) else (inputs,), **options))


def adopting(func: Callable[..., Any]) -> Callable[..., Any]:
    """A function as a transform calls it: its arguments are tensors of this room."""

    @functools.wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        return func(*adopt(args), **adopt(kwargs))

    return call


# ----- torch.autograd.functional -----


def _of_all(transform: Any, func: Callable[..., Any], inputs: Any) -> Any:
    func = adopting(func)
    if isinstance(inputs, AnyTensor):
        return adopt(transform(func)(inputs))
    many: Sequence[Any] = tuple(inputs)
    return adopt(transform(func, argnums=tuple(range(len(many))))(*many))


def _jacobian(func: Callable[..., Any], inputs: Any, create_graph: bool = False, **_: Any) -> Any:
    """∂f_i/∂x_j."""
    return _of_all(transforms.jacrev, func, inputs)


def _hessian(func: Callable[..., Any], inputs: Any, create_graph: bool = False, **_: Any) -> Any:
    """∂²f/∂x_i∂x_j."""
    return _of_all(transforms.hessian, func, inputs)


def _like(inputs: Any, found: tuple[Any, ...]) -> Any:
    """One tensor for one, else a tuple."""
    return adopt(found[0] if isinstance(inputs, AnyTensor) else found)


def _vjp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> Any:
    """The value, and v times the Jacobian; v is 1 where the value is one number."""
    value, back = transforms.vjp(adopting(func), *_several(inputs))
    return adopt(value), _like(inputs, back(ones_like(value) if v is None else v))


def _jvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> Any:
    """The value, and the Jacobian times v; v is 1 where the input is one number."""
    xs = tuple(_several(inputs))
    tangents = tuple(map(ones_like, xs)) if v is None else tuple(_several(v))
    return tuple(adopt(y) for y in transforms.jvp(adopting(func), xs, tangents))


def _hvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> Any:
    """The value, and the Hessian of a function with one number as its value times v (`vhp`: v times it, the same)."""
    xs = tuple(_several(inputs))
    weights = tuple(map(ones_like, xs)) if v is None else tuple(_several(v))
    call = adopting(func)

    def slopes(*given: Any) -> Any:
        return transforms.grad(call, argnums=tuple(range(len(given))))(*given)

    _, products = transforms.jvp(slopes, xs, weights)
    return adopt(call(*(x.detach() for x in xs))), _like(inputs, tuple(products))


functional = ModuleType("anynet.torch.autograd.functional", "torch.autograd.functional")
vars(functional).update(jacobian=_jacobian, hessian=_hessian, vjp=_vjp, jvp=_jvp, hvp=_hvp, vhp=_hvp)
sys.modules[functional.__name__] = functional


def once_differentiable(fn: Any) -> Any:
    """The backward of a `Function`, which is not differentiated again: second derivatives follow from its operations here."""
    return fn


function = ModuleType("anynet.torch.autograd.function", "torch.autograd.function")
vars(function).update(Function=Function, FunctionCtx=_Context, once_differentiable=once_differentiable)
sys.modules[function.__name__] = function
