"""An equation against the code that it stands beside: `agrees` compares values, and gradients where the equation has them."""

import numpy as np

import anynet as an
from anynet import nn
from anynet.equations import of, reading


def normal(*shape, seed=0):
    """Numbers of the normal distribution, float64."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def _plain(value):
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value)


def _close(ours, theirs, where):
    ours, theirs = _plain(ours), _plain(theirs)
    if ours.shape != theirs.shape and ours.size == theirs.size:
        theirs = theirs.reshape(ours.shape)
    ours = np.broadcast_to(ours, theirs.shape) if ours.ndim <= theirs.ndim else ours
    assert theirs.dtype in (np.float64, np.int64, np.bool_), (where, theirs.dtype)
    np.testing.assert_allclose(theirs, ours, rtol=1e-9, atol=1e-11, err_msg=where)


def agrees(thing, *args, given=None, out=None, axes=None, gradient=True, **kwargs):
    """The call ``thing(*args, **kwargs)`` gives what the equation of `thing` gives, and its gradients what the equation's lines for
    them give. `given` are values that are drawn, `out` brings the call's result into the equation's form,
    `axes` is the number of spatial axes where the name does not say it; with
    ``gradient=False`` that of the code is another than the equation's."""
    equation = of(thing, axes)
    is_float = [isinstance(a, np.ndarray) and a.dtype.kind == "f" for a in args]
    tensors = [an.asarray(a, requires_grad=True) if f else an.asarray(a) if isinstance(a, np.ndarray) else a
               for a, f in zip(args, is_float, strict=True)]  # fmt: skip
    kwargs = {k: an.asarray(v, requires_grad=v.dtype.kind == "f") if isinstance(v, np.ndarray) else v
              for k, v in kwargs.items()}  # fmt: skip
    if hasattr(thing, "zero_grad"):
        thing.zero_grad()
    result = thing(*tensors, **kwargs)
    drawn = given(_first(result)) if callable(given) else given or {}
    values = equation.bind(thing, *tensors, **kwargs, **drawn)
    made = equation.evaluate(values)
    expected = equation.result_of(made)
    results = result if isinstance(expected, tuple) else (result,)
    for name, one, other in zip(
        equation.result,
        expected if isinstance(expected, tuple) else (expected,),
        _flat(results),
        strict=False,
    ):
        shown = out(other) if out else _as_equation(equation, name, other, thing, tensors, kwargs)
        _close(one, shown, f"{thing}: {name}")
    if equation.gradient:
        _gradients_agree(equation, thing, tensors, kwargs, values, result, drawn, out)
    elif gradient and not out:
        _gradients_by_autograd(equation, thing, tensors, kwargs, values, result, drawn)


def _flat(results):
    for value in results:
        if isinstance(value, tuple):
            yield from _flat(value)
        else:
            yield value


def _first(result):
    return next(_flat((result,)))


def _call(thing, tensors, kwargs, extra=()):
    return reading.arguments(thing, tensors, {**kwargs, **dict(extra)})[0]


def _as_equation(equation, name, value, thing, tensors, kwargs):
    """The result with the axes that the input has in the equation, where that moves one to the end."""
    moved = [s for s in equation.symbols if s.along is not None]
    same = value.shape and len(value.shape) == len(tensors[0].shape)
    if moved and same:
        return reading.shaped(moved[0], value, thing, _call(thing, tensors, kwargs))
    return value


def _gradients_by_autograd(equation, thing, tensors, kwargs, values, result, drawn):
    """The equation evaluated on Tensors, and differentiated, for equations without lines for the gradient."""
    result = _first(result)
    if not isinstance(result, an.Tensor) or not result.requires_grad:
        return
    call = _call(thing, tensors, kwargs, drawn.items())
    seed = an.asarray(np.random.default_rng(9).standard_normal(result.shape))
    an.sum(result * seed).backward()
    own = {
        k: an.asarray(v, requires_grad=True) if isinstance(v, np.ndarray) and v.dtype.kind == "f" else v
        for k, v in values.items()
    }
    y = equation.evaluate(own)[equation.result[0]]
    shown = _as_equation(equation, equation.result[0], seed, thing, tensors, kwargs)
    an.sum(y * an.reshape(shown, y.shape)).backward()
    checked = 0
    for symbol in equation.symbols:
        tensor, mine = reading.located(symbol, thing, call), own.get(symbol.name)
        # class weights are constants: no gradient
        if isinstance(tensor, an.Tensor) and tensor.grad is not None and isinstance(mine, an.Tensor):
            ours = np.zeros(mine.shape) if mine.grad is None else mine.grad
            theirs = reading.shaped(symbol, tensor.grad, thing, call)
            _close(ours, theirs, f"{thing}: gradient of {symbol.name}")
            checked += 1
    assert checked or isinstance(thing, nn.Module)


def _gradients_agree(equation, thing, tensors, kwargs, values, result, drawn, out):
    y = equation.result[0]
    result = _first(result)
    seed = np.random.default_rng(9).standard_normal(result.shape) if y != "L" else np.ones(result.shape)
    an.sum(result * an.asarray(seed)).backward()
    call = _call(thing, tensors, kwargs, drawn.items())
    seed = an.asarray(seed)
    shown = out(seed) if out else _as_equation(equation, y, seed, thing, tensors, kwargs)
    computed = _plain(equation.evaluate(values)[y])
    shown = _plain(shown).reshape(computed.shape) if _plain(shown).size == computed.size else _plain(shown)
    slopes = equation.evaluate_gradient({**values, f"d{y}": shown})
    checked = 0
    for symbol in equation.symbols:
        if f"d{symbol.name}" not in slopes:
            continue
        tensor = reading.located(symbol, thing, call)
        if tensor is None:
            continue
        _close(
            slopes[f"d{symbol.name}"],
            reading.shaped(symbol, tensor.grad, thing, call),
            f"{thing}: gradient of {symbol.name}",
        )
        checked += 1
    assert checked
