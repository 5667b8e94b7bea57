"""Traces: a few steps of a training as numbers in a small file, which another machine computes again.

A trace holds the inputs, the initial weights, and in the order of their making: of the first step the output of each layer, the loss, the
gradient of each output and of each parameter; of every step the loss and the weights after it. Its metadata hold the program as plain
data (network, loss, optimizer, steps, seed) and where it ran. `check_trace` (`anynet.runs.trace_checks`) computes the program
again. Programs in PyTorch are recorded by `ci.torch_trace` in the same form.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anynet import random
from anynet.explanations.layers import Call, layer_calls
from anynet.nn.description import DescriptionError, describe
from anynet.nn.module import Module
from anynet.ops import reductions
from anynet.ops.precision import SHORT
from anynet.ops.precision import precision as rounded_products
from anynet.runs.reading import RunError
from anynet.tensor import Leaf, Tensor, enable_grad, unwrap
from anynet.train.circumstances import environment
from anynet.train.objectives import Objective
from anynet.train.setup import OPTIMIZERS
from anynet_backends import backend_of, registry, resolve, safetensors_io

__all__ = ["FORMAT", "LONGEST", "Found", "Program", "compute", "record_trace", "write_trace"]

FORMAT = "anynet-trace/1"
LONGEST = 100
"""Steps of a trace, at most."""


@dataclass
class Program:
    """What a trace computes.

    Attributes:
      model: the network, with its initial weights, in the mode in which it is.
      inputs: arrays on the host that it is called with; `target`: that of the loss, None where there is none.
      loss: a name as of `fit`, or a mapping with one; None: the mean of the squares of the output.
      optimizer: a name as of `fit`, or a mapping with one; `steps`: how many; `seed`: of what is drawn in them (dropout).
      dtype: "float32" or "float64"; precision: None or one of `anynet.precision`.
    """

    model: Module
    inputs: Sequence[Any]
    target: Any = None
    loss: Any = None
    optimizer: Any = "sgd"
    steps: int = 3
    seed: int = 0
    dtype: str = "float32"
    precision: str | None = None

    def check(self) -> Program:
        """ValueError for what cannot be traced."""
        if not isinstance(self.model, Module):
            msg = f"trace: the model must be a Module, got {type(self.model).__name__}"
            raise RunError(msg)
        if type(self.steps) is not int or not 1 <= self.steps <= LONGEST:
            msg = f"trace: steps must be a whole number from 1 to {LONGEST}, got {self.steps!r:.40}"
            raise RunError(msg)
        if self.dtype not in ("float32", "float64"):
            msg = f"trace: dtype must be 'float32' or 'float64', got {self.dtype!r:.40}"
            raise RunError(msg)
        if self.precision not in (None, *SHORT):
            msg = f"trace: precision must be one of {', '.join(SHORT)} or None, got {self.precision!r:.40}"
            raise RunError(msg)
        if self.precision is not None and self.dtype != "float32":
            msg = f"trace: precision={self.precision!r} is of float32, the dtype is {self.dtype}"
            raise RunError(msg)
        if self.target is not None and self.loss is None:
            msg = "trace: a target needs a loss"
            raise RunError(msg)
        make, options = self._optimizer()
        try:
            make(list(self.model.parameters()), **options)
        except (TypeError, ValueError) as error:
            msg = f"trace: optimizer: {error}"
            raise RunError(msg) from None
        if self.loss is not None:
            Objective(self.loss)
        return self

    def _optimizer(self) -> tuple[Any, dict[str, Any]]:
        options = dict(self.optimizer) if isinstance(self.optimizer, Mapping) else {"name": self.optimizer}
        name = options.pop("name", None)
        if not isinstance(name, str) or name not in OPTIMIZERS or name in ("lbfgs", "sam"):
            msg = f"trace: optimizer must be a name such as 'sgd' or 'adam', or a mapping with one, got {self.optimizer!r:.80}"
            raise RunError(msg)
        return OPTIMIZERS[name], options


@dataclass
class Found:
    """What a program computed: host arrays by (step, what, name) in the order of their making, and what was raised.

    `what` is "output", "loss", "gradient of output", "gradient" or "weights".
    """

    values: dict[tuple[int, str, str], Any] = field(default_factory=dict)
    raised: str = ""

    def add(self, step: int, what: str, name: str, value: Any) -> None:
        """Add an array; the second of a name is called "name #2"."""
        plain = unwrap(value)
        array = (
            backend_of(plain).to_host(plain).copy() if hasattr(plain, "dtype") else registry.asarray(plain)
        )
        count = 1
        key = (step, what, name)
        while key in self.values:
            count += 1
            key = (step, what, f"{name} #{count}")
        self.values[key] = array


def compute(program: Program, device: str, dtype: str | None = None) -> Found:
    """Run the program on a device, on a copy of its model; in another dtype than its own everything is in full precision.

    What is raised on the way ends it, with what there is until then.
    """
    found = Found()
    kind = dtype or program.dtype
    short = program.precision if kind == program.dtype else None
    with random.fork_rng(program.seed), resolve(device)[0].errstate():
        try:
            model = copy.deepcopy(program.model).to(kind).to(device)
            inputs = [_placed(x, device, kind) for x in program.inputs]
            target = None if program.target is None else _placed(program.target, device, kind)
            objective = None if program.loss is None else Objective(program.loss)
            make, options = program._optimizer()
            optimizer = make(list(model.parameters()), **options)
            for step in range(1, program.steps + 1):
                _step(found, step, model, inputs, target, objective, optimizer, short)
        except Exception as error:  # noqa: BLE001 whatever a device raises, the rest is still to be seen
            found.raised = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return found


def _placed(x: Any, device: str, dtype: str) -> Tensor:
    made = Tensor(registry.asarray(x), device=device)
    return made.to(dtype) if made.dtype.is_floating else made


def _step(
    found: Found, step: int, model: Module, inputs: Sequence[Tensor], target: Tensor | None, objective: Objective | None,
    optimizer: Any, precision: str | None,
) -> None:  # fmt: skip
    optimizer.zero_grad()
    calls: list[Call] = []
    with enable_grad():
        try:
            with rounded_products(precision or "float32"), layer_calls(model) as calls:
                output = model(*inputs)
                if objective is None:
                    value = reductions.mean(output * output)
                else:
                    value = objective.function(output, target)
        finally:
            if step == 1:
                for call in calls:
                    for y in call.outputs:
                        found.add(step, "output", f"{call.name} ({type(call.module).__name__})", y)
    found.add(step, "loss", "", value)
    if step == 1:
        for call in calls:
            for y in call.outputs:
                if y.edge is not None and type(y.edge) is not Leaf:
                    y.retain_grad()
    value.backward()
    if step == 1:
        for call in reversed(calls):
            for y in call.outputs:
                if y.edge is not None and y.grad is not None:
                    name = f"{call.name} ({type(call.module).__name__})"
                    found.add(step, "gradient of output", name, y.grad)
        for name, p in model.named_parameters():
            if p.grad is not None:
                found.add(step, "gradient", name, p.grad)
    optimizer.step()
    for name, p in model.named_parameters():
        found.add(step, "weights", name, p)


def record_trace(
    path: str | os.PathLike[str], program: Program, device: str = "cpu", *, code: str | None = None, note: str = ""
) -> int:  # fmt: skip
    """Compute a program on a device and write its trace; returns the bytes of the file.

    `code`: how the network is named where it is not this library's ("file.py:make"); whoever checks the trace names it again.
    `note`: what else is to be said of where it ran. What raises is part of the trace.
    """
    program.check()
    name = resolve(device)[1]
    described: dict[str, Any] = {"code": code} if code is not None else {}
    try:
        made = describe(program.model)
        if '"code"' not in json.dumps(made):
            described = {"description": made}
    except DescriptionError:
        if code is None:
            raise
    if not described:
        msg = "trace: a network of one's own classes is named as module:Class or file.py:function, so that it can be made again"
        raise RunError(msg)
    state = {
        k: backend_of(unwrap(v)).to_host(unwrap(v)).copy() for k, v in program.model.state_dict().items()
    }
    xp = resolve(name)[0]
    where = {
        "library": "anynet", "backend": xp.name, "device": name, "note": note, "blas": xp.blas_info(), **_circumstances()
    }  # fmt: skip
    facts = {
        "model": described, "loss": program.loss, "optimizer": program.optimizer, "steps": program.steps, "seed": program.seed,
        "dtype": program.dtype, "precision": program.precision, "training": program.model.training,
    }  # fmt: skip
    write_trace(path, facts, state, program.inputs, program.target, compute(program, name), where)
    return os.path.getsize(path)


def _circumstances() -> dict[str, Any]:
    """Versions, threads and switches; not whose machine it was."""
    return {
        k: v
        for k, v in environment().items()
        if k in ("anynet", "python", "platform", "versions", "threads", "variables")
    }


def write_trace(
    path: str | os.PathLike[str], facts: Mapping[str, Any], state: Mapping[str, Any], inputs: Sequence[Any], target: Any,
    found: Found, where: Mapping[str, Any],
) -> None:  # fmt: skip
    """The file of a trace: program and circumstances as JSON, and the arrays."""
    arrays = {f"state|{k}": v for k, v in state.items()}
    arrays |= {f"input|{i}": registry.asarray(x) for i, x in enumerate(inputs)}
    if target is not None:
        arrays["target"] = registry.asarray(target)
    order = []
    for i, (key, value) in enumerate(found.values.items()):
        order.append(list(key))
        arrays[f"value|{i}"] = value
    metadata = {
        "anynet trace": FORMAT, "program": json.dumps(facts), "where": json.dumps(where), "values": json.dumps(order),
        "raised": found.raised,
    }  # fmt: skip
    safetensors_io.save(path, arrays, metadata)
