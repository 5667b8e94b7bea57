"""`evaluate` and `predict`: a model over a whole data set, in evaluation mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from anynet.autograd.pytree import flatten, unflatten
from anynet.nn.modes import evaluating
from anynet.nn.module import Module
from anynet.ops.manipulation import concat
from anynet.tensor import Tensor, no_grad, unwrap
from anynet.train.batches import Batches, call, device_of, first_batch, inputs_loader, loader_of
from anynet.train.checks import whole_number
from anynet.train.metrics import Sums, resolve
from anynet.train.objectives import Objective
from anynet.train.sharing import Sharing
from anynet.train.state import Logs
from anynet.train.streams import length

if TYPE_CHECKING:
    from anynet.metrics import Metric

__all__ = ["evaluate", "over", "predict"]


def over(
    model: Module,
    loader: Any,
    batches: Batches,
    sums: Sums,
    after: Callable[[], None] | None = None,
    sharing: Sharing | None = None,
) -> dict[str, float]:
    """The loss and the metrics over a loader's batches; `after` is called after each. With `sharing` each process has a part of them."""
    objective, logs = sums.objective, Logs()
    with no_grad(), evaluating(model):
        for batch in loader:
            parts = batches.parts(batch)
            if sharing is None or sharing.has_rows(parts):
                add_batch(model, parts, objective, sums, logs)
            if after is not None:
                after()
    sums.read()
    if sharing is not None:
        sums, logs = sharing.joined(sums, logs, loss=True)
    return {**sums.result(), **logs.result()}


def add_batch(model: Module, parts: tuple[Any, ...], objective: Any, sums: Sums, logs: Logs) -> None:
    """Take the loss and the metrics of one batch, (inputs, targets) or (inputs, targets, weights), into the totals."""
    found = objective.of_batch(model, parts)
    mass = objective.mass(found[1], parts[1]) if len(found) == 2 else unwrap(found[2])
    sums.add_loss(found[0], mass)
    if len(parts) == 1:  # a module's own step, which gives numbers beside the loss
        logs.add(found[1], float(mass))
    else:
        sums.add(sums.measure(found[1], *parts[1:]))


def evaluate(
    model: Module,
    data: Any,
    *,
    loss: Any,
    metrics: str | Metric | Callable[..., Any] | Sequence[Any] = (),
    batch_size: int = 256,
    device: str | None = None,
) -> dict[str, float]:
    """The loss and the metrics over a data set, in evaluation mode, without recording.

    `data` is what `fit` takes. The loss is that of the whole set, for any batch size: Σ loss · denominator /
    Σ denominator, where the denominator is what the loss of a batch was divided by: the elements, the targets that are not
    ignored, the sum of their classes' weights. With ``reduction="sum"`` it is the sum. (`dice_loss` and `tversky_loss` over
    whole batches and `circle_loss` are no means over samples: theirs are averaged by the number of samples.) For a loss of
    one's own see `anynet.train.Objective`.

    The model stays where it is, and each module in it in the mode that it had; the streams of random numbers too.

    >>> import anynet as an
    >>> net = an.nn.Linear(1, 2)
    >>> data = an.asarray([[1.0], [2.0], [3.0]]), an.asarray([0, 1, -100])
    >>> found = an.evaluate(net, data, loss="cross_entropy", metrics=["accuracy"], batch_size=2)
    >>> sorted(found)
    ['accuracy', 'loss']
    """
    batch_size = whole_number("evaluate", "batch_size", batch_size, 1)
    objective = Objective(loss)
    sums = Sums(objective, resolve(metrics, objective, reserved=("loss",)))
    where = device or device_of(model)
    loader = loader_of("evaluate", data, batch_size, shuffle=False, seed=0, device=where)
    return over(model, loader, Batches("evaluate", model, where), sums)


def predict(model: Module, x: Any, *, batch_size: int = 256, device: str | None = None) -> Any:
    """The model's output for all rows of x, computed in batches, in evaluation mode.

    x is an array, a tuple or dict of arrays (several inputs), a Dataset (any object with a length that gives samples by number)
    or a DataLoader; of samples or batches that are pairs, the first is taken. A model with several outputs gives them in the same
    form. Each module stays in the mode that it had.

    >>> import anynet as an
    >>> an.predict(an.nn.Linear(3, 2), an.ones((5, 3)), batch_size=2).shape
    (5, 2)
    """
    batch_size = whole_number("predict", "batch_size", batch_size, 1)
    where = device or device_of(model)
    loader, inputs_of = inputs_loader("predict", x, batch_size, where)
    batches = Batches("predict", model, where)
    parts: list[list[Any]] = []
    structure: Any = None
    with no_grad(), evaluating(model):
        for batch in loader if length(loader) != 0 else [first_batch(loader)]:
            leaves, structure = flatten(call(model, batches.inputs(inputs_of(batch))))
            parts.append(leaves)
    if not all(isinstance(y, Tensor) and y.shape for leaves in parts for y in leaves):
        msg = "predict: the model must give arrays with the samples along their first axis"
        raise TypeError(msg)
    return unflatten(
        structure, [concat(list(of), axis=0) if len(of) > 1 else of[0] for of in zip(*parts, strict=True)]
    )
