"""Do all workloads compute the same in anynet and PyTorch? Two small steps of each in double precision, the losses compared.

Each library works in a process of its own, PyTorch with the weights that anynet drew. In double precision the losses of two steps agree to
ten digits, or the two have not computed the same: the first loss is the forward pass, the second everything else. This is
``python -m ci.bench --quick``; CI runs it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from typing import Any

import numpy as np

from ci.bench.contender import ROOT

__all__ = ["TOLERANCE", "compare", "losses_of", "main"]

TOLERANCE = 1e-8
"""Relative; double precision leaves 1e-12 of what a step adds up, and normalisations and Adam's first steps magnify it."""

STEPS = 2
SMALL = 2  # examples in a batch


def losses_of(names: list[str], files: list[str], folder: str, write: bool) -> dict[str, list[float] | str]:
    """The losses of the first steps in the library of this process, or what it said instead.

    The weights are written into `folder`, or read from it.
    """
    from ci.bench import running  # with the library that the environment names
    from ci.bench.workload import build, load

    known = load(files)
    found: dict[str, list[float] | str] = {}
    for name in names:
        try:
            made = build(known[name], min(SMALL, known[name].batch))
            path = os.path.join(folder, f"{name}.npz")
            running.save(made, path) if write else running.load_state(made, path)
            found[name] = [float(loss) for loss in running.in_double(made, STEPS)]
        except Exception as error:  # whatever a library says is the answer
            found[name] = f"{type(error).__name__}: {error}"
    return found


def compare(names: list[str], files: list[str], jax: bool = False) -> dict[str, tuple[dict[str, Any], float]]:
    """For each workload the losses of each library, and how far they are from PyTorch's; infinitely where one has none.

    With `jax` the forms in JAX take part, as far as the first loss.
    """
    libraries = ["anynet", "torch", *(["jax"] if jax else [])]
    with tempfile.TemporaryDirectory(prefix="anynet-bench-") as folder:
        said = {library: _elsewhere(library, names, files, folder) for library in libraries}
    found = {}
    for name in names:
        losses = {library: answer[name] for library, answer in said.items() if name in answer}
        found[name] = (
            losses,
            max(_apart(losses[library], losses["torch"]) for library in losses if library != "torch"),
        )
    return found


def _apart(ours: Any, theirs: Any) -> float:
    if isinstance(ours, str) or isinstance(theirs, str):
        return float("inf")
    theirs = theirs[: len(ours)]
    apart = float(np.max(np.abs(np.subtract(ours, theirs)) / np.maximum(np.abs(theirs), 1e-3)))
    return apart if apart == apart else float("inf")


def _in_jax(names: list[str], folder: str) -> dict[str, list[float] | str]:
    """The first losses of the forms in JAX, with the weights of `folder`."""
    import jax

    jax.config.update("jax_enable_x64", True)
    from ci.bench.with_jax import FORMS, first_loss_in_double

    found: dict[str, list[float] | str] = {}
    for name in names:
        if name in FORMS:
            try:
                found[name] = [first_loss_in_double(name, os.path.join(folder, f"{name}.npz"))]
            except Exception as error:  # whatever a library says is the answer
                found[name] = f"{type(error).__name__}: {error}"
    return found


def _elsewhere(library: str, names: list[str], files: list[str], folder: str) -> Any:
    paths = os.pathsep.join((str(ROOT), str(ROOT / "backends")))
    order = json.dumps({"names": names, "files": files, "folder": folder, "write": library == "anynet"})
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "ci.bench.agreement"], input=order, capture_output=True, text=True,
        env=os.environ | {"ANYNET_BENCH_LIBRARY": library, "PYTHONPATH": paths},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{library}: {done.stderr[-1500:]}")
    return json.loads(done.stdout)


def main(names: list[str], files: list[str]) -> int:
    """Print what differs; 1 if anything does."""
    found = compare(names, files, jax=not files and find_spec("jax") is not None)
    wrong = [name for name, (_, apart) in found.items() if apart > TOLERANCE]
    for name in wrong:
        losses, apart = found[name]
        print(f"{name}: {apart:.1e} apart, must be at most {TOLERANCE:.0e}")
        print("".join(f"    {library}: {said}\n" for library, said in losses.items()), end="")
    most = max((apart for _, apart in found.values()), default=0.0)
    print(f"{len(found) - len(wrong)} of {len(found)} workloads agree; the largest difference is {most:.1e}")
    return int(bool(wrong))


if __name__ == "__main__":
    given, out = json.loads(sys.stdin.read()), sys.stdout
    sys.stdout = sys.stderr  # what a library prints must not mix with the reply
    if os.environ["ANYNET_BENCH_LIBRARY"] == "jax":
        reply = _in_jax(given["names"], given["folder"])
    else:
        reply = losses_of(**given)
    print(json.dumps(reply), file=out)
