"""How many kernels, copies and waits the hot operations make on a CUDA device: no more than tests/cuda_budget.toml allows.

The table is written anew from what is measured by

    python -m ci.cuda_emulator run python tests/cuda/test_budget.py

A number that grows, or a wait for the device where the table has none, is a slower program on every GPU.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import numpy as np
import pytest
from counted_operations import BY_CUDNN, CAPTURED, HOT

from ci.cuda_emulator.log import Log

TABLE = Path(__file__).parents[1] / "cuda_budget.toml"
BUDGET = tomllib.loads(TABLE.read_text())


def measured(name: str) -> dict[str, int]:
    """What the third step asks of the device: by then kernels are compiled and memory is in the pool."""
    step = (HOT | CAPTURED | BY_CUDNN)[name]()
    step()
    step()
    with Log() as log:
        step()
    return {"launches": log.launches, "copies": log.copies, "waits": log.synchronisations}


def fit_per_batch(**options: object) -> dict[str, float]:
    """What one more batch of `fit` asks of the device: of few and of 8 more batches, so that what a training does once is left out."""
    from anynet import nn
    from anynet.train import fit

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((128, 16)).astype(np.float32), rng.integers(0, 4, 128)
    found = []
    few = 8 if options.get("compile") else 3  # by then the step is captured
    for batches in (few, few, few + 8):  # the first to compile
        net = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 4))
        with Log() as log:
            fit(
                net, (x[: 8 * batches], y[: 8 * batches]), loss="cross_entropy", optimizer="adam", lr=1e-3, epochs=1,
                batch_size=8, device="cuda", progress=False, **options,
            )  # fmt: skip
        found.append({"launches": log.launches, "copies": log.copies, "waits": log.synchronisations})
    return {kind: (found[2][kind] - found[1][kind]) / 8 for kind in found[1]}


def evaluate_per_batch() -> dict[str, float]:
    """The same of `evaluate`."""
    from anynet import nn
    from anynet.train import evaluate

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((88, 16)).astype(np.float32), rng.integers(0, 4, 88)
    net = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4)).to("cuda")
    found = []
    for batches in (3, 3, 11):
        with Log() as log:
            evaluate(
                net,
                (x[: 8 * batches], y[: 8 * batches]),
                loss="cross_entropy",
                metrics=["accuracy"],
                batch_size=8,
            )
        found.append({"launches": log.launches, "copies": log.copies, "waits": log.synchronisations})
    return {kind: (found[2][kind] - found[1][kind]) / 8 for kind in found[1]}


FIT = {"fit": {}, "fit with accuracy": {"metrics": ["accuracy"]}, "fit with clipping": {"clip_norm": 1.0}}
FIT |= {
    "captured fit": {"compile": True},
    "captured fit with accuracy": {"compile": True, "metrics": ["accuracy"]},
    "captured fit with clipping": {"compile": True, "clip_norm": 1.0},
    "captured fit of scaled losses": {"compile": True, "precision": "mixed-fp16"},
    "captured fit of rounded products": {"compile": True, "precision": "tf32"},
}


def check(name: str, found: dict[str, float]) -> None:
    allowed = BUDGET[name]
    grown = [
        f"{kind}: {found[kind]:g}, allowed {allowed[kind]:g}" for kind in found if found[kind] > allowed[kind]
    ]
    assert not grown, f"{name}: {'; '.join(grown)} ({TABLE.name})"


pytestmark = pytest.mark.usefixtures("nothing_compiled")


@pytest.mark.parametrize("name", HOT | CAPTURED)
def test_an_operation_keeps_to_its_budget(name):
    check(name, measured(name))


@pytest.mark.usefixtures("cudnn")
@pytest.mark.parametrize("name", BY_CUDNN)
def test_what_cudnn_computes_keeps_to_its_budget(name):
    check(name, measured(name))


@pytest.mark.parametrize("name", FIT)
def test_a_batch_of_fit_keeps_to_its_budget(name):
    check(name, fit_per_batch(**FIT[name]))


def test_a_batch_of_evaluate_keeps_to_its_budget():
    check("evaluate with accuracy", evaluate_per_batch())


def main() -> None:
    """Writes the table from what is measured."""
    os.environ["ANYNET_CUDNN"] = "off"
    rows = {name: measured(name) for name in HOT | CAPTURED} | {
        name: fit_per_batch(**options) for name, options in FIT.items()
    }
    rows["evaluate with accuracy"] = evaluate_per_batch()
    os.environ["ANYNET_CUDNN"] = "on"
    rows |= {name: measured(name) for name in BY_CUDNN}
    text = "# What each hot operation may ask of a CUDA device, forward and backward, and each batch of fit: tests/cuda/test_budget.py\n"
    for name, row in rows.items():
        text += f'"{name}" = {{ ' + ", ".join(f"{kind} = {count:g}" for kind, count in row.items()) + " }\n"
    TABLE.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
