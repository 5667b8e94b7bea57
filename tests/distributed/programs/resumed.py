"""Three epochs of a network with dropout off, of which a run of other processes may have made some: `resumed.py FOLDER HOW OUT`."""

import sys

import numpy as np

import anynet as an

folder, how, out = sys.argv[1:]
rng = np.random.default_rng(0)
data = rng.normal(size=(50, 4)), rng.integers(0, 3, 50)
an.random.manual_seed(1)
net = an.nn.Sequential(
    an.nn.Linear(4, 8, bias=False), an.nn.BatchNorm1d(8), an.nn.ReLU(), an.nn.Linear(8, 3)
).to(dtype="float64")
ends = an.train.on(
    batch_end=lambda run: run.stop("for now", for_good=False) if run.epoch == 2 and run.batch == 3 else None
)
history = an.fit(
    net, data, loss="cross_entropy", metrics=["accuracy", "f1"], epochs=3, batch_size=8, accumulate=2, lr=0.02, progress=False,
    run_dir=folder, resume=how == "resume", callbacks=ends if how == "begin" else (), restore_best=False,
)  # fmt: skip
if an.distributed.world().rank == 0:
    columns = {k: np.asarray(v) for k, v in history.to_dict().items() if k != "seconds"}
    np.savez(out, **columns, **{f"net.{k}": v.numpy() for k, v in net.state_dict().items()})
