"""Processes that a PyTorch script starts itself: `started.py WAY`."""

import multiprocessing
import os
import signal
import sys
import time

import anynet as an
import anynet.torch as torch
import anynet.torch.distributed as dist
from anynet.torch import multiprocessing as mp
from anynet.torch.nn.parallel import DistributedDataParallel as DDP

OTHER = ("early", "long", "has a worker", "exits")


def say(line):
    """One write: the lines of processes that speak at the same time stay whole."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def train(rank, size, way, method):
    """The tutorial's: a network in each process, gradients of all."""
    dist.init_process_group("gloo", init_method=method, rank=rank, world_size=size)
    torch.manual_seed(0)
    net = DDP(torch.nn.Linear(3, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for step in range(4):
        if rank == 1 and step == 2:
            if way == "raises":
                raise ValueError("a mistake of process 1")
            if way == "is killed":
                os.kill(os.getpid(), signal.SIGKILL)
        optimizer.zero_grad()
        x = torch.arange(12.0).reshape(4, 3)[rank * 4 // size : (rank + 1) * 4 // size] / 10
        net(x).square().mean().backward()
        optimizer.step()
    say(
        f"{dist.get_backend()} {rank} of {size}: {[round(v, 6) for v in net.module.weight.flatten().tolist()]}"
    )
    assert an.distributed.world().size == size
    dist.destroy_process_group()
    assert an.distributed.world().size == 1


def work_long():
    """A worker that its parent's end does not end."""
    time.sleep(20)
    os._exit(0)


def other(rank, size, way, method):
    """Other ends of processes."""
    if way == "early":
        os.environ.update(
            RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="localhost", MASTER_PORT=sys.argv[2]
        )
        if rank == 1:
            raise ImportError("no module")
        time.sleep(1)
        return
    dist.init_process_group("gloo", init_method=method, rank=rank, world_size=size)
    if way == "long" and rank == 1:
        raise ValueError("x" * 200_000)
    if way == "has a worker" and rank == 1:
        multiprocessing.get_context("fork").Process(target=work_long, daemon=True).start()
        os.kill(os.getpid(), signal.SIGKILL)
    dist.barrier()
    if way == "exits":
        if rank == 0:
            time.sleep(2)  # the other one has ended meanwhile
        say(f"process {rank} worked to its end")
        sys.exit(0)
    dist.barrier()


def main(way):
    if way == "leaves":
        for _ in range(2):
            dist.init_process_group("gloo")
            assert an.distributed.world().size == 2
            dist.barrier()
            dist.destroy_process_group()
            assert an.distributed.world().size == 1  # nobody is waited for
        if os.environ["RANK"] == "1":
            raise OSError("disk full")
        time.sleep(2)
        say("process 0 has saved")
        return
    if way == "waits too long":
        rank = int(os.environ["RANK"])
        group = an.distributed.TCPGroup.of_environment(timeout=1.0, grace=0.5)
        group.barrier()
        if rank == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        group.barrier()
        return
    if way == "forks":
        group = an.distributed.world()
        child = os.fork()
        if child == 0:
            alone = an.distributed.world()
            say(f"child: {alone.size}")
            os._exit(0)
        os.waitpid(child, 0)
        say(f"sum: {group.all_reduce(group.rank + 1)}")
        return
    method = "env://" if way == "env" else f"tcp://localhost:{sys.argv[2]}"
    size = int(sys.argv[3])
    began = time.monotonic()
    try:
        mp.spawn(other if way in OTHER else train, args=(size, way, method), nprocs=size)
    except RuntimeError as error:
        text = str(error)
        say(f"spawn: {text[:4000]} … {text[-300:]}")
    if way not in ("tcp", "env"):
        say(f"fast: {time.monotonic() - began < (15 if way == 'has a worker' else 60)}")


if __name__ == "__main__":
    main(sys.argv[1])
