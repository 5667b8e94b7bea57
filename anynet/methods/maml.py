"""Model-agnostic meta-learning: first weights from which a few steps of an optimizer learn a new task, found by the gradient through
these steps.

Source: Finn, Abbeel and Levine: Model-agnostic meta-learning for fast adaptation of deep networks (2017).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from anynet.autograd.transforms import value_and_grad
from anynet.methods.checks import check_count
from anynet.nn.module import Module
from anynet.nn.utils.stateless import functional_call
from anynet.ops.creation import asarray
from anynet.ops.elementwise import sign
from anynet.optim.fused_update import changed_gradient
from anynet.optim.optimizer import Optimizer
from anynet.optim.sgd import SGD
from anynet.tensor import Parameter, Tensor, wrap

__all__ = ["DifferentiableOptimizer", "adapt", "maml_loss"]

Make = Callable[[list[Parameter]], Optimizer]


class DifferentiableOptimizer:
    """An optimizer's update as a function, recorded, so that gradients flow through its steps: (θ, g, state) ↦ (θ′, state′).

    `make` is called with Parameters like those of the model and gives the optimizer: ``lambda p: an.optim.Adam(p, lr=0.01)``. Each of the
    library, and own ones, whose `update` works element by element or parameter by parameter. A Tensor as learning rate gets a gradient,
    too (Meta-SGD, Li et al. 2017).

    Errors: TypeError where `make` gives no optimizer; ValueError for one whose update needs all parameters at once.

    >>> import anynet as an
    >>> rule = an.methods.DifferentiableOptimizer(lambda p: an.optim.SGD(p, lr=0.5), {"w": an.ones(1)})
    >>> def after_one_step(w):
    ...     new, _ = rule.step({"w": w}, {"w": 2 * w}, rule.init())
    ...     return an.sum(new["w"] ** 3)  # (w − 0.5 · 2w)³ = 0
    >>> an.grad(after_one_step)(an.ones(1)).tolist()
    [0.0]
    """

    def __init__(self, make: Make, like: Mapping[str, Any]) -> None:
        self.names = list(like)
        copies = [Parameter(asarray(like[name]).detach(), requires_grad=True) for name in self.names]
        optimizer = make(copies)
        if not isinstance(optimizer, Optimizer):
            msg = f"DifferentiableOptimizer: make must return an optimizer, got {type(optimizer).__name__}"
            raise TypeError(msg)
        kind = type(optimizer)
        whole = not (kind.elementwise or kind.per_parameter)
        if whole or kind.numbers or kind.step is not Optimizer.step:
            msg = (
                f"DifferentiableOptimizer: {kind.__name__}'s step is not an update of each parameter by itself; take SGD, Adam, "
                "RMSprop or another that is"
            )
            raise ValueError(msg)
        self.optimizer = optimizer
        # of each parameter its options, those by which its gradient is changed first, and its state
        self._place: dict[str, tuple[dict[str, Any], Sequence[tuple[str, str]], dict[str, Any]]] = {}
        by_id = {id(p): name for name, p in zip(self.names, copies, strict=True)}
        for group in optimizer.param_groups:
            for flat in group.flats:  # type: ignore[attr-defined]
                for i, p in enumerate(flat.params):
                    state = {slot: flat.xp.asarray(flat.part(slot, i), copy=True) for slot in flat.state}
                    self._place[by_id[id(p)]] = group, flat.changes, state

    def init(self) -> dict[str, Any]:
        """The state before the first step."""
        return {
            "step": 0,
            **{name: {k: wrap(v) for k, v in self._place[name][2].items()} for name in self._place},
        }

    def step(
        self, params: Mapping[str, Any], grads: Mapping[str, Any], state: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """New parameters and state; what is given stays as it is. A parameter without a gradient (None) is passed on."""
        new: dict[str, Any] = {}
        after: dict[str, Any] = {"step": state["step"] + 1}
        for name, p in params.items():
            if grads[name] is None or name not in self._place:
                new[name] = p
                after[name] = state.get(name, {})
                continue
            group, options, _ = self._place[name]
            changes = {name: group[option] for name, option in options}
            g = changed_gradient(p, grads[name] + 0.0, changes, sign)
            # new Tensors, which the update then changes: a change in place of a recorded Tensor is recorded
            value, slots = p + 0.0, {k: v + 0.0 for k, v in state[name].items()}
            self.optimizer.update(value.__array_namespace__(), value, g, slots, after["step"], dict(group))
            new[name], after[name] = value, slots
        return new, after


def _sgd(lr: float) -> Make:
    return lambda params: SGD(params, lr=lr)


def adapt(
    model: Module,
    loss: Callable[[Callable[..., Any]], Tensor],
    *,
    steps: int = 1,
    lr: float = 0.01,
    optimizer: Make | DifferentiableOptimizer | None = None,
    first_order: bool = False,
    params: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The parameters after `steps` steps on one task, as functions of those before: θ′ = θ − α ∇L(θ), again and again.

    The model stays as it is; ``an.nn.functional_call(model, θ′, x)`` computes with the result, and gradients flow through all steps to the
    model's parameters (to `params`, where these are given).

    Parameters:
      model: any Module; buffers (running statistics) are not changed.
      loss: a function of the network, ``lambda net: F.mse_loss(net(x), y)``, the loss of the task's examples.
      steps, lr: how many steps, and their length (of SGD).
      optimizer: another rule for the steps: a function from parameters to an optimizer, ``lambda p: an.optim.Adam(p, lr=0.01)``, or a
        `DifferentiableOptimizer`.
      first_order: take the gradients in the steps for constants (FOMAML), which saves second derivatives.
      params: where to begin, by name; the model's own unless given.

    It can be a function of a task under `vmap`, and all of it compiled; the `DifferentiableOptimizer` is made outside then.

    Errors: ValueError for steps below 0; what `functional_call` says about names and shapes.

    >>> import anynet as an
    >>> net = an.nn.Linear(1, 1, bias=False)
    >>> an.nn.init.constant_(net.weight, 3.0)
    Parameter([[3.]], requires_grad=True)
    >>> fast = an.methods.adapt(net, lambda f: an.sum(f(an.ones((1, 1))) ** 2), lr=0.25)  # w − 0.25 · 2w
    >>> fast["weight"].item()
    1.5
    >>> an.sum(fast["weight"]).backward()
    >>> net.weight.grad.item()  # d(w − 0.5w)/dw
    0.5

    Source: Finn et al. (2017), equation 1.
    """
    check_count("adapt", "steps", steps, least=0)
    fast = dict(model.named_parameters()) if params is None else dict(params)
    if not isinstance(optimizer, DifferentiableOptimizer):
        optimizer = DifferentiableOptimizer(optimizer or _sgd(lr), fast)
    state = optimizer.init()
    names = list(fast)

    def task_loss(*values: Any) -> Tensor:
        weights = dict(zip(names, values, strict=True))
        return loss(lambda *args, **kwargs: functional_call(model, weights, args, kwargs))

    for _ in range(steps):
        _, found = value_and_grad(task_loss, argnums=tuple(range(len(names))))(*fast.values())
        grads = dict(zip(names, found, strict=True))
        if first_order:
            grads = {name: g.detach() for name, g in grads.items()}
        fast, state = optimizer.step(fast, grads, state)
    return fast


def maml_loss(
    model: Module,
    tasks: Iterable[tuple[Any, Any, Any, Any]],
    loss: Callable[[Any, Any], Tensor],
    *,
    steps: int = 1,
    lr: float = 0.01,
    optimizer: Make | None = None,
    first_order: bool = False,
) -> Tensor:
    """The meta-objective: the mean over tasks of L_query(θ′), θ′ = `adapt` of θ on the task's support.

    ``maml_loss(…).backward()`` gives the meta-gradient, which an optimizer of the model's parameters takes. Of `tasks` each is
    (x_support, y_support, x_query, y_query); `loss` is a function of outputs and targets. The other arguments are those of `adapt`.

    Errors: ValueError for no tasks, and those of `adapt`.

    >>> import anynet as an
    >>> net = an.nn.Linear(1, 1)
    >>> x, y = an.asarray([[1.0], [2.0]]), an.asarray([[2.0], [4.0]])
    >>> an.methods.maml_loss(net, [(x, y, x, y)], an.nn.functional.mse_loss, lr=0.1).backward()
    >>> net.weight.grad.shape
    (1, 1)

    Source: Finn et al. (2017), algorithm 1.
    """
    rule = DifferentiableOptimizer(optimizer or _sgd(lr), dict(model.named_parameters()))
    losses = []
    for x_support, y_support, x_query, y_query in tasks:

        def support_loss(net: Callable[..., Any], x: Any = x_support, y: Any = y_support) -> Tensor:
            return loss(net(x), y)

        fast = adapt(model, support_loss, steps=steps, optimizer=rule, first_order=first_order)
        losses.append(loss(functional_call(model, fast, (x_query,)), y_query))
    if not losses:
        msg = "maml_loss: there must be at least one task, got none"
        raise ValueError(msg)
    total: Tensor = sum(losses[1:], losses[0]) / len(losses)
    return total
