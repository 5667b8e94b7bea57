"""Optimizers whose state is divided, loops of one's own, MNIST: `sharded.py WHAT FOLDER`; "alone" is what one process does."""

import sys
from pathlib import Path

import numpy as np

import anynet as an
from anynet import nn, optim

group = an.distributed.world()
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(24, 5)), rng.integers(0, 3, 24)


def net():
    an.random.manual_seed(1 + group.rank)  # the first one's weights count
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).to(dtype="float64")


OPTIMIZERS = {
    "sgd": (optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "adam": (optim.Adam, {"lr": 0.01}),
    "adamw": (optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
    "lamb": (optim.LAMB, {"lr": 0.01}),
    "adafactor": (optim.Adafactor, {"lr": 0.01}),
}


def zero(folder):
    """Each optimizer, divided and whole, by fit with a schedule; the divided state is the whole one."""
    for name, (cls, options) in OPTIMIZERS.items():
        ends = {}
        for divided in (True, False):
            model = net()
            made = []

            def make(p, divided=divided, made=made, cls=cls, options=options):
                made.append(
                    optim.ZeroRedundancyOptimizer(p, cls, **options) if divided else cls(p, **options)
                )
                return made[0]

            an.fit(model, (X, Y), loss="cross_entropy", optimizer=make, epochs=3, batch_size=8, progress=False, clip_norm=1.0,
                   scheduler=lambda o: optim.StepLR(o, 1, 0.5))  # fmt: skip
            state = made[0].state_dict()
            ends[divided] = (model.state_dict(), state)
            if divided and group.size > 1:
                held = 0 if made[0].inner is None else sum(
                    s.size for g in made[0].inner.param_groups for f in g.flats for s in f.state.values()
                )  # fmt: skip
                whole = group.all_reduce(held)
                assert group.all_reduce(held, "max") < whole or whole == 0, (name, held, whole)
        for key, value in ends[False][0].items():
            np.testing.assert_allclose(
                ends[True][0][key].numpy(), value.numpy(), rtol=1e-12, atol=1e-13, err_msg=name
            )
        one, two = ends[True][1], ends[False][1]
        assert [sorted(g) for g in one["param_groups"]] == [sorted(g) for g in two["param_groups"]]
        assert one["state"].keys() == two["state"].keys()
        for number, entry in two["state"].items():
            assert entry.keys() == one["state"][number].keys()
            for key, value in entry.items():
                np.testing.assert_allclose(
                    np.asarray(one["state"][number][key]), np.asarray(value), rtol=1e-11, atol=1e-13
                )
    if group.rank == 0:
        print("divided as whole")


def resumed(folder, how):
    """A run with a divided optimizer, begun by some processes and gone on by others."""
    ends = an.train.on(epoch_end=lambda run: run.stop("for now", for_good=False) if run.epoch == 2 else None)
    model = net()
    an.fit(model, (X, Y), loss="cross_entropy", optimizer=lambda p: optim.ZeroRedundancyOptimizer(p, optim.Adam, lr=0.01),
           epochs=4, batch_size=8, progress=False, run_dir=folder, resume=how == "resume", restore_best=False,
           callbacks=ends if how == "begin" else ())  # fmt: skip
    if group.rank == 0:
        np.savez(Path(folder) / f"{how}.npz", **{k: v.numpy() for k, v in model.state_dict().items()})


def loop(folder):
    """A loop of one's own with DistributedDataParallel, against the same with all samples."""
    model = nn.parallel.DistributedDataParallel(net(), bucket_cap_mb=0.0001)
    assert all(k.startswith("module.") for k in model.state_dict())
    whole = net()
    whole.load_state_dict({k.removeprefix("module."): v for k, v in model.state_dict().items()})
    both = [
        (model, optim.Adam(model.parameters(), lr=0.01)),
        (whole, optim.Adam(whole.parameters(), lr=0.01)),
    ]
    a, b = group.share(24)
    for step in range(6):
        for network, optimizer in both:
            x, y = (X[a:b], Y[a:b]) if network is model else (X, Y)
            loss = nn.functional.cross_entropy(network(an.asarray(x)), an.asarray(y))
            if step % 2 == 0 and network is model:  # accumulated, and summed once
                with model.no_sync():
                    nn.functional.cross_entropy(network(an.asarray(x)), an.asarray(y)).backward()
            elif step % 2 == 0:
                loss.backward(retain_graph=True)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    for p, q in zip(model.parameters(), whole.parameters(), strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-12, atol=1e-13)
    if group.rank == 0:
        print("the loop is right")


def masks(folder):
    """Dropout: other masks in each process, the same in each run."""
    seen = []
    for _ in range(2):
        model = nn.Sequential(nn.Linear(5, 50), nn.Dropout(0.5), nn.Linear(50, 3)).to(dtype="float64")
        outputs = []
        model[1].register_forward_hook(
            lambda m, args, y, outputs=outputs: outputs.append(y.detach().numpy() == 0)
        )
        an.fit(model, (X, Y), loss="cross_entropy", batch_size=24, progress=False, seed=3)
        seen.append(outputs[-1])
    assert np.array_equal(*seen)
    every = group.gather(seen[0])
    assert all(not np.array_equal(every[0], other) for other in every[1:])
    if group.rank == 0:
        print("masks are right")


def mnist(folder):
    """2,000 digits, in double precision."""
    images, labels = (an.data.read_idx(Path(folder) / name) for name in sys.argv[4:6])
    x = np.asarray(images[:2000]).reshape(2000, 784) / 255.0
    y = np.asarray(labels[:2000]).astype("int64")
    an.random.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(784, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10)
    ).to(dtype="float64")
    history = an.fit(
        model,
        (x, y),
        loss="cross_entropy",
        metrics="accuracy",
        epochs=2,
        batch_size=96,
        lr=0.01,
        progress=False,
    )
    if group.rank == 0:
        np.savez(sys.argv[3], loss=history.column("loss"), accuracy=history.column("accuracy"),
                 **{k: v.numpy() for k, v in model.state_dict().items()})  # fmt: skip


what, folder = sys.argv[1:3]
if what in ("begin", "resume", "whole"):
    resumed(folder, what)
else:
    {"zero": zero, "loop": loop, "masks": masks, "mnist": mnist}[what](folder)
