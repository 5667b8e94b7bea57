"""Ways in which processes fail: `failing.py WAY FOLDER`."""

import os
import signal
import sys

import numpy as np

import anynet as an


class Samples:
    """64 samples; `at` is a function that is called with the number of each."""

    def __init__(self, at=None):
        self.at = at

    def __len__(self):
        return 64

    def __getitem__(self, i):
        if self.at is not None:
            self.at(i)
        return np.full(3, float(i)), i % 2


def fit(samples, **options):
    an.random.manual_seed(0)
    net = an.nn.Linear(3, 2, dtype="float64")
    options = {
        "loss": "cross_entropy",
        "batch_size": 8,
        "lr": 0.01,
        "progress": False,
        "compile": False,
    } | options
    return net, an.fit(net, samples, **options)


def say(line):
    """One write: the lines of processes that speak at the same time stay whole."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def broken(i):
    if i == 33:
        raise ValueError(f"sample {i} cannot be read")


class Infinite(Samples):
    def __getitem__(self, i):
        return np.full(3, np.inf if i == 33 else float(i)), i % 2


def kill(run):
    if run.batch == 5 and an.distributed.world().rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def main(way, folder):
    group = an.distributed.world()
    if way == "one raises":
        fit(Samples(broken))
    elif way == "one is killed":
        again = os.path.exists(folder + "/again")
        options = {"resume": True} if again else {"callbacks": an.train.on(batch_end=kill)}
        fit(Samples(), run_dir=folder + "/run", checkpoint_every=2, epochs=2, **options)
    elif way == "one ends":
        if group.rank == 1:
            sys.exit(0)
        fit(Samples())
    elif way == "own loop":
        if group.rank == 1:
            raise RuntimeError("a mistake in the script")
        group.barrier()
    elif way == "all refuse":
        for _ in range(2):  # and can go on together
            try:
                fit(Samples(), loss="no such loss")
            except ValueError as error:
                say(f"said: {error}")
        try:
            fit(Infinite())
        except an.train.NonFiniteError as error:
            say(f"refused: {error}")
        _, history = fit(Samples())
        say(f"trained: {len(history)}")
    elif way == "stop":
        stop = an.train.on(
            batch_end=lambda run: (
                run.stop("enough") if group.rank == group.size - 1 and run.batch == 3 else None
            )
        )
        _, history = fit(Samples(), callbacks=stop, epochs=5)
        assert history.stopped == "enough", history.stopped
        assert len(history) == 1
        say(f"stopped: {history.stopped}")
    elif way == "other parameters":
        changes = an.train.on(
            batch_end=lambda run: run.model.bias.assign_(run.model.bias.detach() + group.rank)
        )
        fit(Samples(), callbacks=changes)


main(*sys.argv[1:])
