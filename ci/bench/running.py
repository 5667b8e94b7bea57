"""What anynet and PyTorch run: steps and inference of a `Training`, as functions without arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ci.bench import library
from ci.bench.library import array, compile, no_grad, optimizer, parameters
from ci.bench.workload import Training

__all__ = ["in_double", "inference", "load_state", "modules", "save", "training"]


def modules(made: Training) -> tuple[Any, ...]:
    """The modules of a training."""
    return made.net if isinstance(made.net, tuple) else (made.net,)


def save(made: Training, path: str) -> None:
    """The weights, named `number of the module:name`, and the batch."""
    state = {
        f"{i}:{name}": np.asarray(value.detach().numpy() if hasattr(value, "detach") else value)
        for i, net in enumerate(modules(made))
        for name, value in net.state_dict().items()
    }
    trained = [f"{i}:{name}" for i, net in enumerate(modules(made)) for name, _ in net.named_parameters()]
    batch = {f"batch:{i}": a for i, a in enumerate(made.batch)}
    np.savez(
        path,
        **state,
        **batch,
        trained=np.asarray(trained),
        optimizer=made.optimizer,
        lr=made.lr,
        inputs=made.inputs,
    )


def load_state(made: Training, path: str) -> None:
    """Give the modules the weights that are kept in a file."""
    kept: dict[int, dict[str, Any]] = {}
    with np.load(path) as file:
        for key in file.files:
            number, _, name = key.partition(":")
            if number.isdigit():
                kept.setdefault(int(number), {})[name] = array(np.array(file[key]))
    for i, net in enumerate(modules(made)):
        net.load_state_dict(kept.get(i, {}))


def _channels_last(made: Training) -> tuple[Any, ...]:
    import torch

    for net in modules(made):
        net.to(memory_format=torch.channels_last)
    return tuple(
        a.contiguous(memory_format=torch.channels_last) if a.ndim == 4 else a for a in map(array, made.batch)
    )


def training(made: Training, compiled: bool, channels_last: bool = False) -> Callable[[], Any]:
    """A function that makes one step and returns the loss."""
    batch = _channels_last(made) if channels_last else tuple(map(array, made.batch))
    if made.step is not None:
        step = compile(made.step) if compiled else made.step
        return lambda: step(*batch)
    assert made.loss is not None
    # torch.compile takes the network and its loss, `an.compile` the whole step
    loss_of = compile(made.loss) if compiled and library.LIBRARY == "torch" else made.loss
    update = optimizer(parameters(*modules(made)), made.optimizer, made.lr)

    def whole(*batch: Any) -> Any:
        update.zero_grad()
        loss = loss_of(*batch)
        loss.backward()
        update.step()
        return loss

    run = compile(whole) if compiled and library.LIBRARY == "anynet" else whole
    return lambda: run(*batch)


def inference(made: Training, compiled: bool, channels_last: bool = False) -> Callable[[], Any]:
    """A function that computes the output."""
    batch = _channels_last(made) if channels_last else tuple(map(array, made.batch))
    for net in modules(made):
        net.eval()
    forward = made.forward if made.forward is not None else made.net
    if compiled and library.LIBRARY == "torch":
        forward = compile(forward)

    def output(*batch: Any) -> Any:
        with no_grad():
            return forward(*batch)

    run = compile(output) if compiled and library.LIBRARY == "anynet" else output
    return lambda: run(*batch[: made.inputs])


def in_double(made: Training, steps: int) -> list[Any]:
    """The losses of the first steps in double precision."""
    for net in modules(made):
        library.to_double(net)
    batch = tuple(a.astype(np.float64) if a.dtype == np.float32 else a for a in made.batch)
    run = training(made._replace(batch=batch), compiled=False)
    return [run() for _ in range(steps)]
