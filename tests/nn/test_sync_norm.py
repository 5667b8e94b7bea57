"""Batch normalization over several processes: threads that add up each other's arrays stand in for them."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.ops.collectives import all_sum


class Group:
    """What a communicator offers, for one of `size` threads; like mpi4py's it returns a new array."""

    def __init__(self, size: int) -> None:
        self.size, self.barrier, self.values = size, threading.Barrier(size), {}

    def of(self, rank: int) -> Group._Rank:
        return Group._Rank(self, rank)

    class _Rank:
        def __init__(self, group: Group, rank: int) -> None:
            self.group, self.rank = group, rank

        def allreduce(self, value):
            group = self.group
            group.values[self.rank] = value
            group.barrier.wait(60)
            total = sum(group.values[r] for r in range(group.size))
            group.barrier.wait(60)
            return total


def together(size, work):
    """The results of work(rank, its group) in `size` threads."""
    group, results, errors = Group(size), [None] * size, []

    def run(rank: int) -> None:
        try:
            results[rank] = work(rank, group.of(rank))
        except Exception as error:
            errors.append(error)
            group.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


@pytest.mark.parametrize("device", ["cpu", "strict:device1"])
@pytest.mark.parametrize("sizes", [(3, 2), (4, 0, 1), (1, 1)])
@pytest.mark.parametrize(
    "options", [{}, {"affine": False, "momentum": None}, {"track_running_stats": False, "eps": 0.1}]
)
def test_as_one_process_with_all_batches(device, sizes, options):
    rng = np.random.default_rng(1)
    parts = [rng.normal(size=(n, 3, 2, 4)) * 2 + 5 for n in sizes]
    gs = [rng.normal(size=p.shape) for p in parts]
    whole = nn.BatchNorm2d(3, **options).double()
    x = an.asarray(np.concatenate(parts), requires_grad=True)
    y = whole(x)
    y.backward(an.asarray(np.concatenate(gs)))

    def work(rank, group):
        net = nn.SyncBatchNorm(3, process_group=group, **options).double().to(device)
        a = an.asarray(parts[rank], device=device, requires_grad=True)
        out = net(a)
        out.backward(an.asarray(gs[rank], device=device))
        return (
            out.numpy(),
            a.grad.numpy(),
            [p.grad.numpy() for p in net.parameters()],
            [b.numpy() for b in net.buffers()],
        )

    results = together(len(sizes), work)
    np.testing.assert_allclose(np.concatenate([r[0] for r in results]), y.numpy(), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(
        np.concatenate([r[1] for r in results]), x.grad.numpy(), rtol=1e-11, atol=1e-13
    )
    for i, p in enumerate(whole.parameters()):  # each process has the part of its own batch
        np.testing.assert_allclose(sum(r[2][i] for r in results), p.grad.numpy(), rtol=1e-11, atol=1e-13)
    for i, b in enumerate(whole.buffers()):
        for r in results:
            np.testing.assert_allclose(r[3][i], b.numpy(), rtol=1e-12)


def test_alone_and_in_evaluation_it_is_batch_norm():
    x = an.asarray(np.random.default_rng(2).normal(size=(5, 3)))
    plain, sync = nn.BatchNorm1d(3).double(), nn.SyncBatchNorm(3).double()
    assert (sync(x).numpy() == plain(x).numpy()).all()
    sync.process_group = Group(2).of(0)  # which nobody else joins
    assert (sync.eval()(x).numpy() == plain.eval()(x).numpy()).all()


def test_the_sum_is_its_own_transpose():
    def work(rank, group):
        x = an.asarray([1.0 + rank], requires_grad=True)
        y = all_sum(x * x, group=group)
        (gradient,) = an.grad(lambda v: an.sum(all_sum(v * v, group=group) * (rank + 1.0)), argnums=(0,))(
            x.detach()
        )
        return y.tolist(), gradient.tolist()

    assert together(2, work) == [([5.0], [6.0]), ([5.0], [12.0])]


def test_conversion_keeps_parameters_places_and_mode():
    norm = nn.BatchNorm2d(4, eps=0.1, momentum=0.3)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), norm, nn.ModuleDict({"a": nn.Sequential(nn.BatchNorm1d(2)), "same": norm})
    )
    net.eval()
    state = net.state_dict()
    group = Group(1).of(0)
    assert nn.SyncBatchNorm.convert_sync_batchnorm(net, group) is net
    assert type(net[1]) is nn.SyncBatchNorm
    assert net[1] is net[2]["same"]
    assert net[1].weight is norm.weight
    assert (net[1].eps, net[1].momentum, net[1].training, net[1].process_group) == (0.1, 0.3, False, group)
    assert type(net[2]["a"][0]) is nn.SyncBatchNorm
    assert list(net.state_dict()) == list(state)
    alone = nn.SyncBatchNorm.convert_sync_batchnorm(norm)
    assert type(alone) is nn.SyncBatchNorm
    assert repr(alone) == repr(norm).replace("BatchNorm2d", "SyncBatchNorm")
    holder = nn.Module()
    holder.parts, holder.pair = [nn.BatchNorm1d(2)], (nn.BatchNorm1d(3), 5)
    nn.SyncBatchNorm.convert_sync_batchnorm(holder)
    assert type(holder.parts[0]) is type(holder.pair[0]) is nn.SyncBatchNorm


def test_refusals():
    with pytest.raises(TypeError, match="allreduce"):
        nn.SyncBatchNorm(3, process_group=7)
    with pytest.raises(ValueError, match="got"):
        nn.SyncBatchNorm(3)(an.ones((2, 4)))
    with pytest.raises(ValueError, match="more than one value per channel, all processes together have 1"):
        nn.SyncBatchNorm(3, process_group=Group(1).of(0))(an.ones((1, 3)))
    with pytest.raises(an.CompileError, match=r"test_sync_norm\.py:\d+: a sum over processes"):
        an.compile(nn.SyncBatchNorm(3, process_group=Group(1).of(0)))(an.ones((4, 3)))
