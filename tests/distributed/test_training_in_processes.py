"""Several processes train as one does: weights, losses and metrics."""

from __future__ import annotations

import ast

import numpy as np
import pytest
from launching import LAUNCHERS, PROGRAMS, command, launch

import anynet as an


def _cases():
    tree = ast.parse((PROGRAMS / "training_in_processes.py").read_text(encoding="utf-8"))
    [cases] = [n.value for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == "CASES"]
    return [key.value for key in cases.keys]


@pytest.fixture(scope="module", params=LAUNCHERS)
def trained(request, tmp_path_factory):
    """The results of the program for one process, two and four."""
    if request.param == "mpiexec":
        command(2)  # skips without MPI
    folder = tmp_path_factory.mktemp("trained")
    found = {}
    for processes in (1, 2, 4):
        done = launch(
            processes, "training_in_processes.py", folder / f"{processes}.npz", "cpu", by=request.param, alone=processes == 1
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found[processes] = dict(np.load(folder / f"{processes}.npz"))
    return found


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("case", _cases())
def test_several_processes_train_as_one(trained, case, processes):
    expected = {k: v for k, v in trained[1].items() if k.startswith(f"{case}/")}
    assert len(expected) > 4
    for key, value in expected.items():
        np.testing.assert_allclose(trained[processes][key], value, rtol=1e-12, atol=1e-12, err_msg=key)


@pytest.mark.parametrize(("first", "second"), [(1, 2), (4, 2), (2, 1)])
def test_a_run_goes_on_in_other_processes(tmp_path, first, second):
    command(2)
    whole, parts = tmp_path / "whole.npz", tmp_path / "parts.npz"
    done = launch(1, "resumed.py", tmp_path / "whole", "whole", whole, alone=True)
    assert done.returncode == 0, done.stderr
    for processes, how in ((first, "begin"), (second, "resume")):
        done = launch(processes, "resumed.py", tmp_path / "run", how, parts, alone=processes == 1)
        assert done.returncode == 0, done.stderr
    expected = np.load(whole)
    found = np.load(parts)
    for key in expected.files:
        np.testing.assert_allclose(found[key], expected[key], rtol=1e-12, atol=1e-12, err_msg=key)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["run", "whole"]
    assert an.runs.open(tmp_path / "run").status == "done"


def test_parts_of_batches():
    loader = an.data.DataLoader((an.arange(10), an.arange(10)), batch_size=4, shuffle=True, seed=3)
    parts = [[x.tolist() for x, _ in loader.shard(i, 3)] for i in range(3)]
    whole = [x.tolist() for x, _ in loader]
    assert [[i for part in parts for i in part[b]] for b in range(3)] == whole
    assert [len(part[2]) for part in parts] == [0, 1, 1]
    assert len(loader.shard(2, 3)) == 3
    with pytest.raises(ValueError, match="index must be one of 0 to count − 1, got index=3, count=3"):
        loader.shard(3, 3)
    with pytest.raises(ValueError, match="a part already"):
        loader.shard(0, 2).shard(0, 2)


def test_parts_of_batches_that_are_made_whole():
    batches = an.data.DataLoader([an.arange(4 * i, 4 * i + 4) for i in range(2)], batch_size=None)
    assert [x.tolist() for x in batches.shard(1, 2)] == [[2, 3], [6, 7]]
    uneven = an.data.DataLoader([(an.ones(3), an.ones(4))], batch_size=None).shard(0, 2)
    with pytest.raises(ValueError, match="samples along their first axis"):
        list(uneven)


def test_parts_draw_other_numbers():
    class Noisy(an.data.Dataset):
        draws = True

        def __len__(self):
            return 4

        def __getitem__(self, i):
            return an.random.normal((2,))

    first, second = (list(an.data.DataLoader(Noisy(), batch_size=2).shard(i, 2)) for i in range(2))
    assert first[0].tolist() != second[0].tolist()
    again = list(an.data.DataLoader(Noisy(), batch_size=2).shard(1, 2))
    assert [x.tolist() for x in second] == [x.tolist() for x in again]
