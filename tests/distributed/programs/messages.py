"""Messages from one process to another, and the collectives made of them, under both names: `messages.py WAY`."""

import sys

import numpy as np

import anynet as an
import anynet.torch as torch
import anynet.torch.distributed as dist
from anynet.distributed import DistributedError

way = sys.argv[1]
group = an.distributed.world()
r, n = group.rank, group.size
after, before = (r + 1) % n, (r - 1) % n


def own():
    sent = [group.send({"from": r, "i": i}, after) for i in range(3)]
    assert [group.receive(before) for _ in range(3)] == [(before, {"from": before, "i": i}) for i in range(3)]
    for pending in sent:
        pending.wait()
    # tags keep apart; any process
    for to in range(1, n) if r == 0 else ():
        group.send("second", to, tag=2)
        group.send("first", to, tag=1)
    if r:
        assert group.receive(0, tag=1) == (0, "first")
        assert group.receive(tag=2) == (0, "second")
        group.send(r, 0)
    else:
        assert sorted(group.receive() for _ in range(n - 1)) == [(k, k) for k in range(1, n)]
    whole = np.random.default_rng(r).normal(size=400_000)  # larger than a buffer of the system
    group.send(whole, after)
    np.testing.assert_array_equal(
        group.receive(before)[1], np.random.default_rng(before).normal(size=400_000)
    )
    for wrong, error in (
        (lambda: group.send(1, n), ValueError),
        (lambda: group.receive(-1), ValueError),
        (lambda: group.send(1, r), ValueError),
        (lambda: group.receive(r), ValueError),
    ):
        try:
            wrong()
        except error:
            continue
        raise AssertionError(wrong)


def names():
    dist.init_process_group("gloo")
    x = torch.zeros(2)
    if r == 0:
        dist.send(torch.tensor([1.0, 2.0]), dst=1)
    elif r == 1:
        assert dist.recv(x, src=0) == 0
        assert x.tolist() == [1.0, 2.0]
    works = dist.batch_isend_irecv([dist.P2POp(dist.isend, torch.full((3,), float(r)), after),
                                    dist.P2POp(dist.irecv, got := torch.zeros(3), before)])  # fmt: skip
    assert all(work.wait() for work in works)
    assert got.tolist() == [float(before)] * 3
    assert works[0].is_completed()
    parts = [torch.zeros(1) for _ in range(n)]
    dist.gather(torch.tensor([float(r)]), parts if r == 1 else None, dst=1)
    assert [p.item() for p in parts] == (list(range(n)) if r == 1 else [0.0] * n)
    one = torch.zeros(2)
    dist.scatter(one, [torch.tensor([k, 2.0 * k]) for k in range(n)] if r == 0 else None, src=0)
    assert one.tolist() == [r, 2.0 * r]
    y = torch.tensor([r + 2.0])
    dist.all_reduce(y, dist.ReduceOp.PRODUCT)
    assert y.item() == float(np.prod([k + 2.0 for k in range(n)]))
    total = torch.zeros(1)
    dist.reduce_scatter(total, [torch.tensor([float(r * k)]) for k in range(n)])
    assert total.item() == r * sum(range(n))
    into = [torch.zeros(1) for _ in range(n)]
    dist.all_to_all(into, [torch.tensor([10.0 * r + k]) for k in range(n)])
    assert [p.item() for p in into] == [10.0 * k + r for k in range(n)]
    objects = [None] * n
    dist.gather_object({"rank": r}, objects if r == 0 else None)
    assert objects == ([{"rank": k} for k in range(n)] if r == 0 else [None] * n)
    out = [None]
    dist.scatter_object_list(out, [str(k) for k in range(n)] if r == 0 else None)
    assert out == [str(r)]
    dist.monitored_barrier()
    try:
        if r == 0:
            dist.send(torch.zeros(3), 1)
        elif r == 1:
            dist.recv(torch.zeros(2), 0)
    except ValueError as error:
        assert "has sent shape (3,), and the tensor has (2,)" in str(error)  # noqa: PT017
    dist.barrier()
    dist.destroy_process_group()


def ends():
    """Whoever waits for a message of a process that has ended is told."""
    if r == 1:
        sys.exit(0)
    try:
        group.receive(1)
    except DistributedError as error:
        print(f"heard: {error}", flush=True)
        raise


def fails():
    if r == 1:
        raise RuntimeError("a mistake of process 1")
    group.receive()


def calls():
    """Processes in different calls: an error, not numbers."""
    wrong = (lambda: group.all_reduce(np.ones(4, "f4")), lambda: group.all_reduce(np.ones(2, "f8")))
    wrong[r % 2]()


def forks():
    """What a forked process does at its end is nothing to the others, and they see the end of its parent."""
    import os

    if r == 0:
        child = os.fork()
        if child == 0:
            raise ValueError("the child's")
        os.waitpid(child, 0)
    assert group.all_reduce(1) == n


{"own": own, "names": names, "ends": ends, "fails": fails, "calls": calls, "forks": forks}[way]()
print("messages are right", flush=True)
