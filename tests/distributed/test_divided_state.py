"""Optimizers whose state is divided among processes, loops of one's own, masks, MNIST, the command line."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from launching import LAUNCHERS, command, launch, run_with_variables

import anynet as an
from anynet.optim.zero import divide


@pytest.mark.parametrize("what", ["zero", "loop", "masks"])
@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("by", LAUNCHERS)
def test_in_processes(what, processes, by):
    done = launch(processes, "sharded.py", what, "-", by=by)
    assert done.returncode == 0, done.stderr
    assert {"zero": "divided as whole", "loop": "the loop is right", "masks": "masks are right"}[
        what
    ] in done.stdout


@pytest.mark.parametrize("what", ["zero", "loop"])
def test_alone(what):
    done = launch(1, "sharded.py", what, "-", alone=True)
    assert done.returncode == 0, done.stderr


def test_a_divided_state_goes_on_in_other_processes(tmp_path):
    command(2)
    for processes, folder, how in ((1, "whole", "whole"), (4, "run", "begin"), (2, "run", "resume")):
        done = launch(processes, "sharded.py", how, tmp_path / folder, alone=processes == 1)
        assert done.returncode == 0, done.stderr
    expected, found = np.load(tmp_path / "whole" / "whole.npz"), np.load(tmp_path / "run" / "resume.npz")
    for key in expected.files:
        np.testing.assert_allclose(found[key], expected[key], rtol=1e-12, atol=1e-13)


def test_mnist_in_processes(tmp_path, anynet_data):
    command(2)
    folder = anynet_data / "mnist"
    names = sorted(p.name for p in folder.iterdir() if p.name.startswith("train"))
    results = {}
    for processes in (1, 2, 4):
        out = tmp_path / f"{processes}.npz"
        done = launch(processes, "sharded.py", "mnist", folder, out, *names, alone=processes == 1)
        assert done.returncode == 0, done.stderr
        results[processes] = np.load(out)
    assert results[1]["accuracy"][-1] > 0.8  # it has learned
    for processes in (2, 4):
        for key in results[1].files:
            np.testing.assert_allclose(
                results[processes][key], results[1][key], rtol=1e-12, atol=1e-12, err_msg=key
            )


@pytest.mark.parametrize("by", LAUNCHERS)
def test_the_command_line_in_processes(tmp_path, by, monkeypatch):
    def run(*arguments):
        own = [sys.executable, "-m", "anynet", *arguments]
        if by == "variables":
            return run_with_variables(2, own, dict(os.environ))
        return subprocess.run([*command(2), *own], capture_output=True, text=True, timeout=300, check=False)

    monkeypatch.chdir(tmp_path)
    table = tmp_path / "line.csv"
    table.write_text("x,y\n" + "".join(f"{i},{3 * i + 1}\n" for i in range(60)))
    done = run("train", str(table), "target=y", "epochs=2", "run_dir=run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 1/2") == 1
    assert done.stdout.count("run folder") == 1
    done = run("resume", "run", "epochs=3")
    assert done.returncode == 0, done.stderr
    found = an.runs.open(tmp_path / "run")
    assert found.status == "done"
    assert len(found.history) == 3


def test_sizes_are_divided():
    owners = divide([100, 1, 1, 50, 49, 30], 3)
    held = [sum(s for s, r in zip([100, 1, 1, 50, 49, 30], owners, strict=True) if r == k) for k in range(3)]
    assert max(held) == 100
    assert min(held) >= 50
    assert divide([1], 4) == [0]


def test_what_cannot_be_divided():
    p = an.Parameter([1.0])
    with pytest.raises(TypeError, match="optimizer_class must be a class of optimizers, got 'adam'"):
        an.optim.ZeroRedundancyOptimizer([p], "adam")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ScheduleFreeAdamW holds more"):
        an.optim.ZeroRedundancyOptimizer([p], an.optim.ScheduleFreeAdamW)
    optimizer = an.optim.ZeroRedundancyOptimizer([p], an.optim.SGD, lr=0.1)
    with pytest.raises(NotImplementedError, match="make another one"):
        optimizer.add_param_group({"params": [an.Parameter([2.0])]})
    with pytest.raises(ValueError, match=r"groups of \[2\] parameters"):
        optimizer.load_state_dict({"state": {}, "param_groups": [{"params": [0, 1]}]})
    with pytest.raises(TypeError, match="module must be a Module, got int"):
        an.nn.parallel.DistributedDataParallel(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="lazy layer"):
        an.nn.parallel.DistributedDataParallel(an.nn.LazyLinear(3))
