"""Functions of functions: gradients, Jacobians and their products, of any order and in any nesting.

    grad(f)        ∂f/∂x of a scalar f            one reverse pass
    vjp(f, x)      v ↦ (∂f/∂x)ᴴ v                 one reverse pass
    jvp(f, x, t)   (∂f/∂x) t                      two reverse passes
    jacrev         ∂f_i/∂x_j, row by row          one pass for each output element
    jacfwd         ∂f_i/∂x_j, column by column    one jvp for each input element
    hessian        ∂²f/∂x_i∂x_j                   jacrev of grad

Arguments may be Tensors, plain arrays, Python floats, nests of them (dict, list, tuple) or Modules; a gradient has the
structure of its argument, for a Module that of a dict parameter name → Tensor. Nothing is added to any ``.grad``.

What is differentiated enters f under a new name (a fresh edge of the graph), so that an inner and an outer
differentiation of the same variable are never confused. Results can themselves be differentiated where something
outside can see it: an enclosing transform, or a Tensor that requires a gradient. Under `no_grad` the transforms work,
and their results are constants.

Complex numbers: a gradient is ∂L/∂(Re z) + i ∂L/∂(Im z), as everywhere in anynet.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from anynet.autograd.backward import backprop
from anynet.autograd.broadcasting import cast_to
from anynet.autograd.graph import GradientError, custom_node, depends_on_others
from anynet.autograd.primitive import PRIMITIVES
from anynet.autograd.pytree import flatten, map_tree, unflatten
from anynet.autograd.vmap import VmapError, active_levels, from_levels, levels_of, rebatch, strip, to_levels
from anynet.tensor import Leaf, Tensor, to_plain, wrap
from anynet_backends import backend_of
from anynet_backends.concurrency import this_thread
from anynet_backends.jit.tracer import COMPILING

__all__ = ["grad", "hessian", "jacfwd", "jacrev", "jvp", "value_and_grad", "vjp"]


class _Input:
    """One array to be differentiated: the edge under which f sees it, and how its gradient is handed back."""

    __slots__ = ("edge", "levels", "spec")

    def __init__(self, physical: Tensor, edge: Any, levels: tuple[tuple[int, int], ...]) -> None:
        self.edge = edge
        self.levels = levels
        self.spec = physical._data

    def restore(self, g: Any) -> Tensor:
        """A gradient from the engine as a Tensor like the input; zeros where there is none."""
        if g is None:
            xp = backend_of(self.spec)
            g = xp.zeros_like(self.spec)
        return rebatch(g if isinstance(g, Tensor) else wrap(g), self.levels)


class _Inputs:
    """The arguments to be differentiated, under fresh edges. Use `entered` around the call of f."""

    def __init__(self, args: tuple[Any, ...], argnums: Sequence[int], what: str) -> None:
        self.inputs: list[_Input] = []
        self.linked = (
            False  # whether an argument is itself the result of something that is being differentiated
        )
        self.swapped: list[tuple[Tensor, Any, Any]] = []
        self.own: list[Leaf] = []
        self.structures: list[Any] = []
        self.args = list(args)
        try:
            self._enter_all(args, argnums, what)
        except BaseException:
            self._leave()
            raise

    def _enter_all(self, args: tuple[Any, ...], argnums: Sequence[int], what: str) -> None:
        for i in argnums:
            leaves, structure = flatten(args[i])
            fresh = []
            kinds: list[Any] = []
            for x in leaves:
                if hasattr(x, "named_parameters"):
                    names = []
                    for name, p in x.named_parameters():
                        if p.requires_grad:
                            self._module_parameter(p)
                            names.append(name)
                    kinds.append(names)
                    fresh.append(x)
                else:
                    kinds.append(None)
                    fresh.append(self._fresh(x, i, what))
            self.structures.append((structure, kinds))
            self.args[i] = unflatten(structure, fresh)

    def _leave(self) -> None:
        for p, data, edge in self.swapped:
            p._data, p.edge = data, edge

    def _fresh(self, x: Any, i: int, what: str) -> Tensor:
        if not isinstance(x, Tensor):
            if isinstance(x, (bool, int, str)) or not (
                hasattr(x, "shape") or isinstance(x, (float, complex))
            ):
                msg = (
                    f"{what}: argument {i} has a {type(x).__name__} ({x!r:.40}), which cannot be differentiated; "
                    "give floating-point arrays, Tensors, floats or Modules"
                )
                raise TypeError(msg)
            x = wrap(to_plain(x))
        if not x.dtype.is_floating:
            msg = (
                f"{what}: argument {i} has dtype {x.dtype}; only floating-point arrays can be differentiated: "
                "convert it with anynet.astype, or choose other argnums"
            )
            raise TypeError(msg)
        return self._enter(x)

    def _enter(self, x: Tensor) -> Tensor:
        levels = active_levels()
        physical = strip(to_levels(x, levels))
        if COMPILING and COMPILING.own:  # a gradient may reach it without another operation on it
            COMPILING.own[-1].see(physical)
        alias = wrap(physical._data)
        if physical.edge is not None and this_thread.recording:
            self.linked = True
            alias.edge = custom_node("identity", physical._data, [physical.edge], lambda g, _: [g])
        else:
            alias.edge = Leaf(physical._data)
            self.own.append(alias.edge)
        self.inputs.append(_Input(physical, alias.edge, levels))
        return rebatch(alias, levels)

    def _module_parameter(self, p: Tensor) -> None:
        if this_thread.transforms == 0 and not active_levels() and type(p.edge) is Leaf:
            self.inputs.append(_Input(p, p.edge, ()))
            return
        alias = self._enter(p)
        self.swapped.append((p, p._data, p.edge))
        p._data, p.edge = alias._data, alias.edge

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Within, f may be called: recording is on, Modules hold the fresh edges."""
        recording = this_thread.recording
        this_thread.recording = True
        this_thread.transforms += 1
        try:
            yield
        finally:
            this_thread.transforms -= 1
            this_thread.recording = recording
            self._leave()

    def seen_from_outside(self, results: Sequence[Any]) -> bool:
        """Whether a differentiation outside this one can reach the results: then all must stay differentiable."""
        if not this_thread.recording:
            return False
        if self.linked:
            return True
        edges = [strip(y).edge for y in results if isinstance(y, Tensor)]
        return depends_on_others([e for e in edges if e is not None], [i.edge for i in self.inputs])

    def collect(self, grads: Sequence[Any]) -> list[Any]:
        """The gradients in the structure of the arguments."""
        values = iter(zip(self.inputs, grads, strict=True))
        out = []
        for structure, kinds in self.structures:
            leaves: list[Any] = []
            for names in kinds:
                if names is None:
                    x, g = next(values)
                    leaves.append(x.restore(g))
                else:
                    leaves.append({name: x.restore(g) for name, (x, g) in ((n, next(values)) for n in names)})
            out.append(unflatten(structure, leaves))
        return out


def _positions(argnums: int | Sequence[int], n: int, what: str) -> tuple[int, ...]:
    given = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for i in given:
        if not -n <= i < n:
            msg = f"{what}: argnums {i} is out of range for {n} positional arguments"
            raise ValueError(msg)
    out = tuple(i % n for i in given)
    if len(set(out)) != len(out) or not out:
        msg = f"{what}: argnums must be distinct positions, got {argnums!r}"
        raise ValueError(msg)
    return out


def _with_aux(result: Any, what: str, name: str) -> tuple[Any, Any]:
    """What a function gives that has auxiliary results."""
    if not isinstance(result, tuple) or len(result) != 2:
        msg = f"{what} with has_aux: f must return ({name}, aux), got {type(result).__name__}"
        raise TypeError(msg)
    return result


def _cut(x: Any) -> Any:
    return x.detach() if isinstance(x, Tensor) else x


def _tensors(tree: Any) -> list[Tensor]:
    return [x for x in flatten(tree)[0] if isinstance(x, Tensor)]


# ----- gradients of scalars -----


def value_and_grad(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., tuple[Any, Any]]:
    """A function that gives the value of f and its gradient, ``(value, grad)``.

    `argnums` are the positions of the arguments to differentiate: a number gives one gradient, a sequence a tuple. With
    `has_aux`, f returns ``(value, aux)``, and so does the value of the result: ``((value, aux), grad)``.

    >>> import anynet as an
    >>> from anynet.autograd import value_and_grad
    >>> value_and_grad(lambda x: an.sum(x * x))(an.asarray([1.0, 2.0]))
    (Tensor(5.), Tensor([2., 4.]))
    """

    @functools.wraps(f)
    def differentiated(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        inputs = _Inputs(args, _positions(argnums, len(args), "grad"), "grad")
        with inputs.entered():
            result = f(*inputs.args, **kwargs)
        result, aux = _with_aux(result, "grad", "value") if has_aux else (result, None)
        if not isinstance(result, Tensor):
            msg = f"grad: f must return a scalar Tensor, got {type(result).__name__} {result!r:.60}"
            raise TypeError(msg)
        if tuple(result.shape) != ():
            msg = (
                f"grad: f must return a scalar, got shape {tuple(result.shape)}; "
                "use jacrev for all derivatives, vjp for products with them, or reduce: anynet.sum(y)"
            )
            raise GradientError(msg)
        if result.dtype.kind != "real":
            msg = f"grad: f must return a real number, got {result.dtype}; take anynet.real or anynet.abs"
            raise GradientError(msg)
        keep = inputs.seen_from_outside([result, *_tensors(aux)])
        y = strip(result)
        grads: Sequence[Any] = [None] * len(inputs.inputs)
        if y.edge is not None:
            ones = backend_of(y._data).ones_like(y._data)
            grads = _gradients([(y.edge, wrap(ones) if keep else ones)], inputs, keep)
        collected = inputs.collect(grads)
        for leaf in inputs.own:  # this differentiation is done: no other can ask for them
            leaf.private = True
        gradient = collected[0] if isinstance(argnums, int) else tuple(collected)
        if not keep:
            result, aux = _cut(result), map_tree(_cut, aux)
        return (result, aux) if has_aux else result, gradient

    return differentiated


def _gradients(roots: list[tuple[Any, Any]], inputs: _Inputs, keep: bool, retain: bool = False) -> list[Any]:
    targets = [x.edge for x in inputs.inputs]
    return backprop(roots, targets=targets, create_graph=keep, retain_graph=keep or retain) or []


def grad(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """The gradient of a scalar function, as a function of the same arguments.

    Arguments as those of `value_and_grad`; with `has_aux` the result is ``(grad, aux)``.

    >>> import anynet as an
    >>> from anynet.autograd import grad
    >>> grad(grad(lambda x: x**3))(2.0)
    Tensor(12.)
    """
    both = value_and_grad(f, argnums, has_aux)

    @functools.wraps(f)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, g = both(*args, **kwargs)
        return (g, value[1]) if has_aux else g

    return gradient


# ----- products with the Jacobian -----


def vjp(f: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """The value of f and the function that pulls a gradient of it back: ``(y, pullback)``.

    ``pullback(v)`` gives the tuple of (∂y/∂x)ᴴ v, one for each argument; v has the structure of y. It may be called any
    number of times. With `has_aux`, f returns ``(y, aux)`` and the result is ``(y, pullback, aux)``.

    >>> import anynet as an
    >>> from anynet.autograd import vjp
    >>> y, pullback = vjp(an.exp, an.asarray([0.0, 0.0]))
    >>> pullback(an.asarray([1.0, 2.0]))
    (Tensor([1., 2.]),)
    """
    result, aux, pullback, keep = _linearize(f, primals, has_aux, "vjp")
    if not keep:
        result, aux = map_tree(_cut, result), map_tree(_cut, aux)
    return (result, pullback, aux) if has_aux else (result, pullback)


def _linearize(
    f: Callable[..., Any], primals: tuple[Any, ...], has_aux: bool, what: str
) -> tuple[Any, Any, Callable[[Any], tuple[Any, ...]], bool]:
    if not primals:
        msg = f"{what} needs at least one argument of f"
        raise TypeError(msg)
    inputs = _Inputs(primals, range(len(primals)), what)
    with inputs.entered():
        result = f(*inputs.args)
    result, aux = _with_aux(result, what, "y") if has_aux else (result, None)
    leaves, structure = flatten(result)
    for y in leaves:
        if not isinstance(y, Tensor):
            msg = f"{what}: f must return Tensors, got {type(y).__name__} {y!r:.60}"
            raise TypeError(msg)
    keep = inputs.seen_from_outside([*leaves, *_tensors(aux)])

    def pullback(v: Any) -> tuple[Any, ...]:
        given, shape = flatten(v)
        if shape != structure:
            msg = f"{what}: the gradient has the structure {shape}, the result of f {structure}"
            raise ValueError(msg)
        vs = [_cotangent(x, y, what) for x, y in zip(given, leaves, strict=True)]
        again = this_thread.recording and (keep or any(x.edge is not None for x in vs))
        deeper = any(set(levels_of(x)) - set(levels_of(y)) for x, y in zip(vs, leaves, strict=True))
        if deeper and any(levels_of(y) for y in leaves):
            msg = f"{what}: the pullback of a result batched by one vmap was called inside another; call {what} there"
            raise VmapError(msg)
        roots = []
        for x, y in zip(vs, leaves, strict=True):
            edge = strip(y).edge
            if edge is not None and y.dtype.is_floating:
                g = x if deeper else from_levels(x, levels_of(y))
                roots.append((edge, g if again or deeper else g._data))
        grads = (
            _gradients(roots, inputs, again or deeper, retain=True) if roots else [None] * len(inputs.inputs)
        )
        out = tuple(inputs.collect(grads))
        return map_tree(_cut, out) if deeper and not again else out

    return result, aux, pullback, keep


def _cotangent(x: Any, y: Tensor, what: str) -> Tensor:
    """The gradient or tangent x given for y, checked; converted to its dtype."""
    if isinstance(x, Tensor):
        t = x
    else:
        t = wrap(to_plain(x, dtype=None if hasattr(x, "dtype") else y.dtype, device=y.device))
    if tuple(t.shape) != tuple(y.shape):
        msg = f"{what}: shape {tuple(t.shape)} was given for an array of shape {tuple(y.shape)}"
        raise ValueError(msg)
    if t.dtype is y.dtype:
        return t
    if t.dtype.kind == "complex" and y.dtype.kind != "complex":
        msg = f"{what}: {t.dtype} was given for an array of {y.dtype}"
        raise ValueError(msg)
    return cast_to(t, dtype=y.dtype)


def jvp(
    f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False
) -> tuple[Any, ...]:
    """The value of f and its derivative in a direction: ``(y, (∂y/∂x) t)``; with `has_aux` ``(y, (∂y/∂x) t, aux)``.

    Computed by two reverse passes: v ↦ (∂y/∂x)ᴴ v is linear, so its own pullback of t is (∂y/∂x) t, whatever v is.
    That costs a few times the work of f and its memory; a forward mode of its own would be somewhat cheaper.

    >>> import anynet as an
    >>> from anynet.autograd import jvp
    >>> jvp(lambda x: x * x, (an.asarray([1.0, 2.0]),), (an.asarray([1.0, 10.0]),))
    (Tensor([1., 4.]), Tensor([ 2., 40.]))
    """
    primals, tangents = tuple(primals), tuple(tangents)
    if len(primals) != len(tangents):
        msg = f"jvp: {len(primals)} primals and {len(tangents)} tangents"
        raise ValueError(msg)
    recording = this_thread.recording
    result, aux, pullback, keep = _linearize(f, primals, has_aux, "jvp")
    leaves, structure = flatten(result)
    this_thread.recording = True
    try:
        vs = []
        edges = []
        for y in leaves:
            levels = levels_of(y)
            v = wrap(strip(y.detach())._data)
            v.edge = Leaf(v._data)
            edges.append((v, levels))
            vs.append(rebatch(v, levels))
        pulled = flatten(pullback(unflatten(structure, vs)))[0]
    finally:
        this_thread.recording = recording
    given = flatten(tangents)[0]
    if len(given) != len(pulled):
        msg = f"jvp: the tangents have {len(given)} arrays, the primals {len(pulled)}"
        raise ValueError(msg)
    ts = [_cotangent(t, g, "jvp") for t, g in zip(given, pulled, strict=True)]
    again = recording and (keep or any(t.edge is not None for t in ts))
    roots = []
    for t, g in zip(ts, pulled, strict=True):
        base = strip(g)
        if base.edge is not None:
            t = strip(to_levels(t, levels_of(g)))
            roots.append((base.edge, t if again else t._data))
    targets = [v.edge for v, _ in edges]
    grads: Sequence[Any] = [None] * len(targets)
    if roots:
        grads = backprop(roots, targets=targets, create_graph=again, retain_graph=again) or grads
    out = [_Input(v, None, levels).restore(g) for (v, levels), g in zip(edges, grads, strict=True)]
    if not keep:
        result, aux = map_tree(_cut, result), map_tree(_cut, aux)
    derivative = unflatten(structure, out)
    for v, _ in edges:
        v.edge.private = True
    return (result, derivative, aux) if has_aux else (result, derivative)


# ----- Jacobians -----


def jacrev(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """The Jacobian ∂y_i/∂x_j of f, by one reverse pass for each element of the output: for few outputs.

    For y of shape (a…) and x of shape (b…) the result has shape (a…, b…). It has the structure of the output and, at
    each leaf, that of the argument. For complex outputs or inputs use `vjp`.

    >>> import anynet as an
    >>> from anynet.autograd import jacrev
    >>> jacrev(lambda x: x * x)(an.asarray([1.0, 2.0]))
    Tensor([[2., 0.],
            [0., 4.]])
    """

    @functools.wraps(f)
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        where = _positions(argnums, len(args), "jacrev")

        def partial(*chosen: Any) -> Any:
            full = list(args)
            for i, x in zip(where, chosen, strict=True):
                full[i] = x
            return f(*full, **kwargs)

        result, _, pullback, _ = _linearize(partial, tuple(args[i] for i in where), False, "jacrev")
        leaves, structure = flatten(result)
        rows_of: list[Any] = []
        for k, y in enumerate(leaves):
            _refuse_complex(y, "jacrev")
            rows = []
            for unit in _basis(y):
                vs = [unit if j == k else _zeros(other) for j, other in enumerate(leaves)]
                rows.append(pullback(unflatten(structure, vs)))
            shape = tuple(y.shape)
            rows = rows or [map_tree(_zeros, tuple(args[i] for i in where))]
            parts = [flatten(r)[0] for r in rows]
            tree = flatten(rows[0])[1]
            stacked = [_stack([p[i] for p in parts], shape, front=True) for i in range(len(parts[0]))]
            block = unflatten(tree, stacked)
            rows_of.append(block[0] if isinstance(argnums, int) else block)
        return unflatten(structure, rows_of)

    return jacobian


def jacfwd(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """The Jacobian ∂y_i/∂x_j of f, by one `jvp` for each element of the input: for few inputs.

    Shapes and structure as those of `jacrev`; Modules and complex arrays are not accepted.

    >>> import anynet as an
    >>> from anynet.autograd import jacfwd
    >>> jacfwd(lambda x: x * x)(an.asarray([1.0, 2.0]))
    Tensor([[2., 0.],
            [0., 4.]])
    """

    @functools.wraps(f)
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        where = _positions(argnums, len(args), "jacfwd")
        chosen = tuple(map_tree(_as_tensor, args[i]) for i in where)
        leaves, structure = flatten(chosen)

        def partial(*flat: Any) -> Any:
            full = list(args)
            for i, x in zip(where, unflatten(structure, flat), strict=True):
                full[i] = x
            return f(*full, **kwargs)

        columns: list[list[Any]] = []  # for each input leaf, for each output leaf, the block
        shape_of_result: Any = None
        for k, x in enumerate(leaves):
            _refuse_complex(x, "jacfwd")
            parts = []
            for unit in _basis(x) or [_zeros(x)]:
                ts = [unit if j == k else _zeros(other) for j, other in enumerate(leaves)]
                _, dy = jvp(partial, leaves, ts)
                flat, shape_of_result = flatten(dy)
                parts.append(flat)
            shape = tuple(x.shape)
            columns.append([_stack([p[i] for p in parts], shape, front=False) for i in range(len(parts[0]))])
        blocks = []
        for i in range(len(columns[0])):
            block = unflatten(structure, [column[i] for column in columns])
            blocks.append(block[0] if isinstance(argnums, int) else block)
        return unflatten(shape_of_result, blocks)

    return jacobian


def hessian(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """The matrix of second derivatives ∂²f/∂x_i∂x_j of a scalar function: ``jacrev(grad(f))``.

    >>> import anynet as an
    >>> from anynet.autograd import hessian
    >>> hessian(lambda x: x[0] ** 2 * x[1])(an.asarray([1.0, 3.0]))
    Tensor([[6., 2.],
            [2., 0.]])
    """
    return jacrev(grad(f, argnums), argnums)


def _as_tensor(x: Any) -> Tensor:
    if isinstance(x, Tensor):
        return x
    if isinstance(x, (bool, int, str)) or not (hasattr(x, "shape") or isinstance(x, float)):
        msg = f"jacfwd: a {type(x).__name__} cannot be differentiated; give floating-point arrays, Tensors or floats"
        raise TypeError(msg)
    return wrap(to_plain(x))


def _refuse_complex(x: Tensor, what: str) -> None:
    if x.dtype.kind == "complex":
        msg = f"{what} of complex arrays: the derivative is not one complex number; use vjp or jvp, or split the parts"
        raise TypeError(msg)


def _zeros(x: Any, shape: tuple[int, ...] | None = None) -> Tensor:
    """Zeros like x, of its shape or another."""
    data = x._data if isinstance(x, Tensor) else to_plain(x)
    xp = backend_of(data)
    full = tuple(data.shape) if shape is None else shape
    return wrap(xp.zeros(full, dtype=data.dtype, device=xp.native_device(xp.device_of(data))))


def _basis(x: Tensor) -> list[Tensor]:
    """The unit arrays of the shape of x."""
    xp = backend_of(x._data)
    n = x.size
    eye = xp.eye(n, dtype=x._data.dtype, device=xp.native_device(xp.device_of(x._data)))
    return [wrap(xp.reshape(eye[i, ...], tuple(x.shape))) for i in range(n)]


def _stack(items: list[Any], shape: tuple[int, ...], *, front: bool) -> Tensor:
    """Items joined along new axes of `shape`, in front of theirs or after them."""
    reshape, concat = PRIMITIVES["reshape"], PRIMITIVES["concat"]
    inner = tuple(items[0].shape)
    if 0 in shape:
        return _zeros(items[0], (*shape, *inner) if front else (*inner, *shape))
    if front:
        rows = concat(*[reshape(x, shape=(1, *inner)) for x in items], axis=0)
        return reshape(rows, shape=(*shape, *inner))
    columns = concat(*[reshape(x, shape=(*inner, 1)) for x in items], axis=len(inner))
    return reshape(columns, shape=(*inner, *shape))
