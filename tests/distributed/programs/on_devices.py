"""Two processes with a CUDA device each: `on_devices.py WAY`."""

import os
import signal
import sys
import time
import warnings

import numpy as np

import anynet as an
from anynet.distributed import DistributedError, MPIGroup, NCCLGroup, TCPGroup, on_device
from ci.cuda_emulator.log import Log, late

warnings.simplefilter("always")
way = sys.argv[1]
HANGS = ("hangs", "hangs unread", "stops")
make = TCPGroup.of_environment if "WORLD_SIZE" in os.environ else MPIGroup
world = make(timeout=2.0 if way in HANGS else 300.0, grace=1.0)
rank = world.rank


def say(line):
    """One write: the lines of processes that speak at the same time stay whole."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def network():
    an.random.manual_seed(0)
    return an.nn.Sequential(an.nn.Linear(3, 8), an.nn.Tanh(), an.nn.Linear(8, 2)).to(device="cuda")


def train(group, steps, *, at=None, how=lambda f: f, parts=False):
    """`how`: what is made of the step; with `parts` of what comes before the sum and after it."""
    net = network()
    optimizer = an.optim.SGD(net.parameters(), lr=0.1)
    reducer = an.distributed.GradientReducer(net.parameters(), group, mean=True)
    x = an.asarray(np.random.default_rng(rank).normal(size=(16, 3)).astype("float32"), device="cuda")

    def gradients(x):
        optimizer.zero_grad()
        an.mean(net(x) ** 2).backward()

    def update():
        optimizer.step()

    def whole(x):
        reducer.begin()
        gradients(x)
        update()

    if parts:
        gradients, update = how(gradients), how(update)
    else:
        whole = how(whole)
    for step in range(steps):
        if rank == 1 and step == at:
            raise RuntimeError("a mistake in process 1")
        if parts:
            gradients(x)
            reducer.begin()
            reducer.finish()
            update()
        else:
            whole(x)
    return net


if way == "one raises":
    net = train(on_device(world, "cuda"), 200, at=3)
    say(str(an.sum(net[0].weight).item()))
elif way == "other call":
    group = on_device(world, "cuda")
    if rank == 1:
        raise RuntimeError("a mistake in process 1")
    say(str(group.all_reduce(an.ones(3, device="cuda")).tolist()))
elif way == "one device":
    group = on_device(world, "cuda:0")
    assert group is world
    assert on_device(world, "cuda:0") is world  # said once
    try:
        NCCLGroup(world, "cuda:0")
    except DistributedError as error:
        say(f"refused: {error}")
    say(f"sum: {group.all_reduce(an.asarray([rank + 1.0], device='cuda:0')).item()}")
elif way in HANGS:
    group = NCCLGroup(world, "cuda")
    x = an.ones(3, device="cuda")
    say(f"first sum: {group.all_reduce(x).tolist()}")

    def busy():
        if way == "stops":
            os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(120)

    if rank == 1:
        busy()
    with late("all" if way == "hangs unread" else "others"):
        try:
            y = group.all_reduce(x)
            say(f"read after {y.shape}")
            y.tolist()  # waits on the device
            group.all_reduce(x)
        except DistributedError as error:
            say(f"heard: {error}")
            raise
elif way == "in place":
    group = on_device(world, "cuda")
    assert on_device(world, "cuda") is group
    train(group, 3)
    with Log() as log:
        train(group, 5)
    collectives = log.having("collective")
    assert len(collectives) == 5, collectives
    copies = log.having("copy DtoH")
    assert not copies, copies
    say("no copies of gradients")
elif way == "compiled":
    group = on_device(world, "cuda")
    assert isinstance(group, NCCLGroup)
    eager = train(group, 8)
    warnings.simplefilter("ignore")
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        compiled = train(group, 8, how=an.compile)
    for a, b in zip(eager.parameters(), compiled.parameters(), strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()
    for warning in found:
        say(f"warned: {warning.message}")
    with Log() as log:
        compiled = train(group, 8, how=an.compile, parts=True)
    for a, b in zip(eager.parameters(), compiled.parameters(), strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()
    say(f"graphs: {len(log.having('graph '))}")
