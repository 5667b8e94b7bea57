"""Gradients and Jacobians of each sample of a batch, for any model.

The model is called with one sample at a time, as a batch of one, under `vmap`: what comes out is exact for networks with attention,
recurrence or anything else, as long as the value of a sample does not depend on the other samples. Batch norm in training does that
and is refused, as is what draws random numbers (dropout in training); whatever else mixes samples (a recurrent layer with its steps
along axis 0) is found by comparing the first two samples together with each alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from anynet import streams
from anynet.autograd.pytree import flatten, map_tree, unflatten
from anynet.autograd.transforms import grad, jacrev
from anynet.autograd.vmap import vmap
from anynet.nn.module import Module
from anynet.nn.norm import BatchNorm1d, BatchNorm2d, BatchNorm3d, SyncBatchNorm
from anynet.ops.manipulation import concat, expand_dims, reshape, squeeze
from anynet.tensor import Tensor, no_grad, to_plain, unwrap, wrap
from anynet.train.objectives import Objective
from anynet_backends import backend_of

__all__ = ["jacobians", "per_sample_gradients"]

_BATCH_NORMS = (BatchNorm1d, BatchNorm2d, BatchNorm3d, SyncBatchNorm)


@contextmanager
def one_by_one(where: str, model: Any, call: Callable[..., Any], x: Any) -> Iterator[None]:
    """Within, `call` may be called sample by sample; ValueError where that would not give what it gives for a batch."""
    if isinstance(model, Module):
        for name, layer in model.named_modules():
            if isinstance(layer, _BATCH_NORMS) and (layer.training or layer.running_mean is None):
                msg = (
                    f"{where}: {name or 'the model'} ({type(layer).__name__}) normalises with the statistics of the batch, so no sample "
                    "has a gradient of its own; call model.eval(), or use GroupNorm"
                )
                raise ValueError(msg)
    before = streams.get_state()
    if _mixes(call, x) and streams.get_state() == before:
        msg = (
            f"{where}: what the model gives for one sample depends on the others, so no sample has a gradient of its own; samples must lie "
            "along axis 0 (recurrent and attention layers: batch_first=True)"
        )
        raise ValueError(msg)
    yield
    if streams.get_state() != before:
        streams.set_state(before)
        msg = f"{where}: the model draws random numbers (dropout?), which would be the same for all samples; call model.eval()"
        raise ValueError(msg)


def _mixes(call: Callable[..., Any], x: Any) -> bool:
    """Whether the first two samples together give something else than each alone."""
    leaves, structure = flatten(x)
    if leaves[0].shape[0] < 2:
        return False
    with no_grad():
        together, first, second = (
            flatten(_call(call, unflatten(structure, [leaf[a:b] for leaf in leaves])))[0][0]
            for a, b in ((0, 2), (0, 1), (1, 2))
        )
    if (
        not isinstance(together, Tensor)
        or tuple(together.shape)[:1] != (2,)
        or tuple(first.shape)[:1] != (1,)
    ):
        return False  # no outputs by sample: that is said where they are used
    pair, alone = unwrap(together), unwrap(concat((first, second), axis=0))
    xp = backend_of(pair)
    if pair.shape != alone.shape:
        return True
    if not xp.isdtype(pair.dtype, "real floating") or 0 in pair.shape:
        return False
    allowed = 1e-3 * float(xp.max(xp.abs(pair)))  # far above rounding, far below what other samples do
    return float(xp.max(xp.abs(pair - alone))) > allowed


def batched(where: str, x: Any) -> Any:
    """The nest x as Tensors without a history; ValueError without a first axis of one length."""
    tree = map_tree(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else wrap(to_plain(leaf)), x)
    sizes = {tuple(leaf.shape)[:1] for leaf in flatten(tree)[0]}
    if len(sizes) != 1 or () in sizes:
        msg = f"{where}: all inputs and targets need one number of samples along axis 0, got {sorted(sizes)}"
        raise ValueError(msg)
    return tree


def _alone(tree: Any) -> Any:
    return map_tree(lambda leaf: expand_dims(leaf, axis=0), tree)


def _call(model: Callable[..., Any], x: Any) -> Any:
    return model(*x) if isinstance(x, tuple) else model(x)


def output_of_one(where: str, model: Callable[..., Any], x: Any) -> Tensor:
    """The output of a model for one sample (without the axis of the batch)."""
    y = _call(model, _alone(x))
    if not isinstance(y, Tensor) or not y.shape or y.shape[0] != 1:
        got = f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
        msg = f"{where}: for a batch of one sample the model must return one Tensor (1, …), got {got}; wrap it in a function"
        raise ValueError(msg)
    return squeeze(y, axis=0)


def _model_or_function(where: str, model: Any, params: Any) -> Any:
    """What is differentiated: the Module, or the parameters of a function."""
    if isinstance(model, Module) == (params is None):
        return model if params is None else params
    without = "without" if params is None else "and"
    msg = f"{where}: give a Module, or a function f(params, x) with params=; got {type(model).__name__} {without} params"
    raise TypeError(msg)


def per_sample_gradients(model: Any, loss: Any, x: Any, y: Any = None, *, params: Any = None) -> Any:
    """gᵢ = ∂/∂θ loss(model(xᵢ), yᵢ) for each sample i: for DP-SGD's clipping, Fisher information, gradient noise, influence.

    `model` is a Module: the result is a dict parameter name → (n, *shape of the parameter), of what requires a gradient. Or it is a
    function ``f(params, x)``: the result has the structure of `params`. `loss` is a loss by name, a Module or a function (output,
    target) → one number, called with the output and the target of one sample as batches of one (so with ``reduction="mean"`` the mean
    of the gradients is the gradient of the batch; class weights cancel there: use ``reduction="sum"`` with them). Without `y`
    it is called with the output alone. `x` and `y` are arrays (n, …) or nests of them; a tuple x is several arguments.

    Dtypes are those of the parameters. Errors: ValueError for batch norm or dropout in training and for what else mixes samples (the
    model's state and the random state stay as they were), for differing numbers of samples, and for a loss that is not one number.

    >>> import anynet as an
    >>> net = an.nn.Linear(2, 1, bias=False)
    >>> x = an.asarray([[1.0, 0.0], [0.0, 2.0]])
    >>> an.methods.per_sample_gradients(net, lambda output: an.sum(output), x)["weight"]
    Tensor([[[1., 0.]],
    <BLANKLINE>
            [[0., 2.]]])
    """
    where = "per_sample_gradients"
    variables = _model_or_function(where, model, params)
    function = Objective(loss).function
    data = batched(where, (x,) if y is None else (x, y))
    call = model if params is None else lambda *given: model(params, *given)

    def of_one(theta: Any, sample: tuple[Any, ...]) -> Tensor:
        output = _call(theta, _alone(sample[0])) if params is None else model(theta, _alone(sample[0]))
        value = function(output, *(_alone(target) for target in sample[1:]))
        if not isinstance(value, Tensor) or any(n != 1 for n in value.shape):
            msg = f"{where}: the loss of one sample must be one number, got {getattr(value, 'shape', type(value).__name__)}"
            raise ValueError(msg)
        return reshape(value, ())

    with one_by_one(where, model, call, data[0]):
        return vmap(grad(of_one), in_axes=(None, 0))(variables, data)


def jacobians(model: Any, x: Any, *, wrt: str = "inputs", params: Any = None) -> Any:
    """Jᵢ = ∂model(xᵢ)/∂xᵢ (``wrt="inputs"``) or ∂model(xᵢ)/∂θ (``wrt="parameters"``) for each sample i.

    For outputs (n, *out): of inputs (n, *in) the Jacobians (n, *out, *in), in the structure of x; of parameters a dict name →
    (n, *out, *shape). A function takes ``f(x)`` for the inputs and ``f(params, x)`` with `params` for the parameters. One reverse
    pass of the batch for each element of the output of one sample.

    Errors as those of `per_sample_gradients`; TypeError for the Jacobian of integers.

    >>> import anynet as an
    >>> an.methods.jacobians(lambda x: x * x, an.asarray([[1.0, 2.0], [3.0, 4.0]]))
    Tensor([[[2., 0.],
             [0., 4.]],
    <BLANKLINE>
            [[6., 0.],
             [0., 8.]]])
    """
    where = "jacobians"
    data = batched(where, x)
    if wrt == "parameters":
        variables = _model_or_function(where, model, params)

        def of_parameters(theta: Any, sample: Any) -> Tensor:
            call = theta if params is None else lambda *given: model(theta, *given)
            return output_of_one(where, call, sample)

        with one_by_one(
            where, model, model if params is None else lambda *given: model(params, *given), data
        ):
            return vmap(jacrev(of_parameters), in_axes=(None, 0))(variables, data)
    if wrt != "inputs":
        msg = f"{where}: wrt must be 'inputs' or 'parameters', got {wrt!r}"
        raise ValueError(msg)
    call = model if params is None else lambda *given: model(params, *given)
    with one_by_one(where, model, call, data):
        return vmap(jacrev(lambda sample: output_of_one(where, call, sample)))(data)
