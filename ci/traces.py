"""Writes the traces of `tests/parity/traces`: some steps of one small training, computed by PyTorch itself, by array-api-strict, and by the
real CuPy over the CUDA emulator. What each is stands in its metadata.

    python -m ci.traces pytorch FILE                                      a program in PyTorch, with the same weights
    python -m ci.traces DEVICE FILE [NOTE]                                anynet on a device
    python -m ci.cuda_emulator run python -m ci.traces cuda FILE NOTE
"""

from __future__ import annotations

import platform
import sys
from typing import Any

import anynet as an
from anynet.nn.description import describe
from anynet.runs.tracing import Found, Program, record_trace, write_trace
from anynet_backends import philox, registry

__all__ = ["program"]

OPTIMIZER = {"name": "adam", "lr": 0.01}
STEPS = 3


def network() -> tuple[an.nn.Module, Any, Any]:
    """Layers whose sums are taken in another order by each library, with inputs and classes: a MODEL for `anynet parity record`. The
    convolution has no bias: before a batch norm its gradient is 0 by mathematics, so that what is computed is rounding alone, and Adam
    makes steps of its sign."""
    model = an.nn.Sequential(
        an.nn.Conv2d(1, 4, 3, bias=False), an.nn.BatchNorm2d(4), an.nn.ReLU(), an.nn.MaxPool2d(2), an.nn.Flatten(), an.nn.Linear(36, 12),
        an.nn.LayerNorm(12), an.nn.GELU(), an.nn.Linear(12, 5),
    )  # fmt: skip
    x = registry.asarray(philox.normal(7, 21, 0, (6, 1, 8, 8)), dtype="float32")
    y = registry.asarray(philox.uniform(7, 22, 0, (6,), 0.0, 5.0), dtype="int64")
    return model, x, y


def program() -> Program:
    """Some steps of training that network."""
    an.random.manual_seed(7)
    model, x, y = network()
    return Program(model, [x], y, "cross_entropy", OPTIMIZER, STEPS)


def pytorch(path: str) -> None:
    """The same program written in PyTorch, recorded by hooks."""
    import torch  # the recorder of anynet's own programs does without

    torch.set_num_threads(1)
    here = program()
    nn = torch.nn
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 12),
        nn.LayerNorm(12), nn.GELU(), nn.Linear(12, 5),
    )  # fmt: skip
    state = {k: v.numpy().copy() for k, v in here.model.state_dict().items()}
    model.load_state_dict({k: torch.tensor(v) for k, v in state.items()})
    optimizer = torch.optim.Adam(model.parameters(), lr=OPTIMIZER["lr"])
    x, y = torch.tensor(here.inputs[0]), torch.tensor(here.target)
    found = Found()
    for step in range(1, STEPS + 1):
        _step(found, step, model, optimizer, nn.functional.cross_entropy, x, y)
    facts = {
        "model": {"description": describe(here.model)}, "loss": here.loss, "optimizer": here.optimizer, "steps": STEPS, "seed": here.seed,
        "dtype": "float32", "precision": None, "training": True,
    }  # fmt: skip
    where = {
        "library": "PyTorch", "backend": "torch", "device": "cpu", "note": "a program in PyTorch, not anynet on it",
        "blas": {"name": "MKL" if torch.backends.mkl.is_available() else "unknown"}, "python": platform.python_version(),
        "platform": platform.platform(), "versions": {"torch": {"torch": torch.__version__}},
    }  # fmt: skip
    write_trace(path, facts, state, here.inputs, here.target, found, where)


def _step(found: Found, step: int, model: Any, optimizer: Any, loss: Any, x: Any, y: Any) -> None:
    calls: list[tuple[str, Any]] = []
    hooks = []
    for name, module in model.named_modules():
        if not list(module.children()):

            def note(m: Any, _: Any, output: Any, name: str = name) -> Any:
                # of its own, so that its gradient is what comes from outside
                output = output.clone()
                output.retain_grad()
                calls.append((f"{name} ({type(m).__name__})", output))
                return output

            hooks.append(module.register_forward_hook(note))
    optimizer.zero_grad()
    value = loss(model(x), y)
    for hook in hooks:
        hook.remove()
    value.backward()
    if step == 1:
        for name, output in calls:
            found.add(step, "output", name, output.detach().numpy())
    found.add(step, "loss", "", value.detach().numpy())
    if step == 1:
        for name, output in reversed(calls):
            found.add(step, "gradient of output", name, output.grad.numpy())
        for name, p in model.named_parameters():
            found.add(step, "gradient", name, p.grad.numpy())
    optimizer.step()
    for name, p in model.named_parameters():
        found.add(step, "weights", name, p.detach().numpy())


def main(arguments: list[str]) -> None:
    """Write one trace."""
    what, path, *note = arguments
    if what == "pytorch":
        pytorch(path)
    else:
        record_trace(path, program(), what, note=" ".join(note))


if __name__ == "__main__":
    main(sys.argv[1:])
