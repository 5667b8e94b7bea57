"""Groups of processes: every call, launchers, failures."""

from __future__ import annotations

import numpy as np
import pytest
from launching import LAUNCHERS, launch

import anynet as an
from anynet import distributed
from anynet.distributed import DistributedError, Group, Pending, SingleProcess, launched


@pytest.fixture(params=LAUNCHERS)
def by(request):
    """What starts the processes."""
    return request.param


@pytest.mark.parametrize("processes", [2, 4])
def test_calls(processes, by):
    done = launch(processes, "calls.py", by=by)
    assert done.returncode == 0, done.stderr
    assert "all calls are right" in done.stdout


def test_one_process_alone():
    done = launch(1, "calls.py", alone=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("processes", [1, 2])
def test_names_of_pytorch(processes, by):
    done = launch(processes, "torch_names.py", by=by, alone=processes == 1)
    assert done.returncode == 0, done.stderr
    assert "all names are right" in done.stdout


@pytest.mark.parametrize(("way", "processes"), [("own", 2), ("own", 4), ("names", 3)])
def test_messages(way, processes, by):
    done = launch(processes, "messages.py", way, by=by)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("messages are right") == processes


def test_a_message_of_one_that_has_left_is_not_waited_for(by):
    done = launch(2, "messages.py", "ends", by=by)
    assert done.returncode != 0
    assert "heard: process 1 of 2" in done.stdout
    done = launch(2, "messages.py", "fails", by=by)
    assert done.returncode != 0
    assert "process 1 of 2 has failed: RuntimeError: a mistake of process 1" in done.stderr


def test_there_is_no_other_process():
    for call in (lambda: SingleProcess().send(1, 0), lambda: SingleProcess().receive()):
        with pytest.raises(DistributedError, match="there is no other process"):
            call()


def test_what_pytorchs_names_refuse():
    dist = an.torch.distributed
    with pytest.raises(ValueError, match="call init_process_group first"):
        dist.get_rank()
    with pytest.raises(
        AttributeError,
        match=r"torch\.distributed\.new_group is not offered; there are P2POp, ReduceOp, Work, all_gather",
    ):
        dist.new_group  # noqa: B018
    assert dist.get_world_size(SingleProcess()) == 1
    assert dist.get_backend(SingleProcess()) == "mpi"


def test_launchers():
    assert launched({}) is None
    assert launched({"PMI_SIZE": "1"}) is None
    assert launched({"PMI_SIZE": "4", "PMI_RANK": "0"}) == (4, "mpiexec (MPICH, Intel MPI)")
    assert launched({"OMPI_COMM_WORLD_SIZE": "2"}) == (2, "mpiexec (Open MPI)")
    assert launched({"SLURM_STEP_NUM_TASKS": "8"}) == (8, "srun")
    assert launched({"SLURM_NTASKS": "8"}) is None  # a batch script is one process
    assert launched({"RANK": "0", "WORLD_SIZE": "1"}) is None
    given = {"RANK": "0", "WORLD_SIZE": "4"}
    assert launched({**given, "MASTER_ADDR": "localhost"}) == (4, "torchrun")
    assert launched({**given, "MASTER_ADDR": "localhost", "PMI_SIZE": "4"}) == (
        4,
        "mpiexec (MPICH, Intel MPI)",
    )
    with pytest.raises(DistributedError, match="MASTER_ADDR, the host of process 0, is missing"):
        launched(given)
    with pytest.raises(DistributedError, match="PMI_SIZE must be a number of processes, got 'many'"):
        launched({"PMI_SIZE": "many"})


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setitem(__import__("sys").modules, "mpi4py", None)
    monkeypatch.delitem(__import__("sys").modules, "mpi4py.MPI", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"anynet-nn\[mpi\]"):
        distributed.world()


def test_a_group_of_choice():
    group = SingleProcess()
    with distributed.use(group):
        assert distributed.world() is group
    assert distributed.world() is not group
    with pytest.raises(TypeError, match="group must be a Group"):
        distributed.use(3).__enter__()  # type: ignore[arg-type]


class Recorded(Group):
    """Two processes, of which this is one; the other has the same gradients. Writes down when sums begin."""

    size = 2

    def __init__(self, events):
        self.events = events

    def _start(self, host, op):
        return Pending()

    def start_all_reduce(self, host):
        self.events.append(("sum", host.size))
        host *= 2.0
        return Pending()


@pytest.mark.parametrize("packed", [True, False])
def test_sums_begin_while_the_backward_pass_goes_on(packed):
    events: list[tuple[str, int]] = []
    net = an.nn.Sequential(*(layer for _ in range(3) for layer in (an.nn.Linear(4, 4), an.nn.Tanh()))).to(
        dtype="float64"
    )
    optimizer = an.optim.SGD(net.parameters(), lr=0.1) if packed else None
    x = an.asarray(np.random.default_rng(0).normal(size=(5, 4)))

    def loss():
        h = x
        for i, layer in enumerate(net):
            h = layer(h)
            h.register_hook(lambda g, i=i: events.append(("node", i)))
        return an.sum(h)

    loss().backward()
    expected = [2.0 * p.grad.numpy() for p in net.parameters()]
    net.zero_grad()
    events.clear()
    reducer = distributed.GradientReducer(net.parameters(), Recorded(events), chunk=20 * 8)
    reducer.begin()
    loss().backward()
    for p, e in zip(net.parameters(), expected, strict=True):
        np.testing.assert_array_equal(p.grad.numpy(), e)
    sums = [i for i, event in enumerate(events) if event == ("sum", 20)]
    assert len(sums) == 3  # one for each layer, its weight and bias
    assert sums[0] < events.index(("node", 2)) < sums[1] < events.index(("node", 0))
    if optimizer is not None:  # summed in the optimizer's own vector
        flat = optimizer.param_groups[0].flats[0]
        np.testing.assert_array_equal(flat.grads, np.concatenate([e.ravel() for e in expected]))


def test_a_parameter_used_twice_is_summed_once():
    events: list[tuple[str, int]] = []
    layer = an.nn.Linear(3, 3, bias=False, dtype="float64")
    reducer = distributed.GradientReducer(layer.parameters(), Recorded(events))
    x = an.ones((2, 3), dtype="float64")
    an.sum(layer(layer(x))).backward()
    once = layer.weight.grad.numpy().copy()
    layer.zero_grad()
    reducer.begin()
    an.sum(layer(layer(x))).backward()
    assert events == [("sum", 9)]
    np.testing.assert_array_equal(layer.weight.grad.numpy(), 2.0 * once)


def test_options_of_a_reducer():
    with pytest.raises(ValueError, match="chunk must be a number of bytes"):
        distributed.GradientReducer([], SingleProcess(), chunk=0)


def test_one_that_raises_stops_all(by):
    done = launch(2, "failing.py", "one raises", "-", by=by)
    assert done.returncode != 0
    assert "ValueError: sample 33 cannot be read" in done.stderr
    assert "has failed: ValueError: sample 33 cannot be read" in done.stderr  # what the other process says


def test_one_that_ends_stops_all(by):
    done = launch(2, "failing.py", "one ends", "-", by=by)
    assert done.returncode != 0
    assert "process 1 of 2 has ended its program" in done.stderr


def test_an_error_outside_of_fit_stops_all(by):
    done = launch(2, "failing.py", "own loop", "-", by=by)
    assert done.returncode != 0
    assert "process 1 of 2 has failed: RuntimeError: a mistake in the script" in done.stderr


def test_errors_that_all_have_leave_them_together(by):
    done = launch(2, "failing.py", "all refuse", "-", by=by)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("said:") == 4
    assert done.stdout.count("refused:") == 2
    assert done.stdout.count("trained: 1") == 2


def test_one_that_stops_stops_all(by):
    done = launch(2, "failing.py", "stop", "-", by=by)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("stopped: enough") == 2


def test_parameters_that_part_are_an_error(by):
    done = launch(2, "failing.py", "other parameters", "-", by=by)
    assert done.returncode != 0
    assert "the parameters of process 1 are not those of process 0" in done.stderr


def test_one_that_is_killed_loses_nothing(tmp_path, by):
    done = launch(2, "failing.py", "one is killed", tmp_path, by=by)
    assert done.returncode != 0
    assert (tmp_path / "run" / "last.safetensors").exists()
    (tmp_path / "again").touch()
    done = launch(4, "failing.py", "one is killed", tmp_path, by=by)
    assert done.returncode == 0, done.stderr
    assert len(an.runs.open(tmp_path / "run").history) == 2
