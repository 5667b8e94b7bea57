"""Processes that are killed while they save or train, or run into a full disk: the checkpoint is whole, resume goes on.

The short form kills some 40 processes; with ANYNET_LONG_TESTS=1 they are 500.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import anynet as an

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="SIGKILL and fork of POSIX systems")
LONG = os.environ.get("ANYNET_LONG_TESTS") == "1"

COMMON = """
import os, sys, time, traceback
import numpy as np
import anynet as an
from anynet import nn, optim
folder = sys.argv[1]

def save_for_ever():
    k = 1
    while True:
        an.save(folder + "/a", {"step": k, "w": an.asarray(np.full(2000, k, "f8"))})
        k += 1

class Wait(an.train.Callback): # holds the training at the end of its first epoch until there is a file "go"
    def on_epoch_end(self, state):
        while not os.path.exists(folder + "/go"):
            time.sleep(0.001)

def train(name="run", callbacks=()):
    an.random.manual_seed(1)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))
    x = np.random.default_rng(0).normal(size=(32, 4)).astype("f4")
    run = folder + "/" + name
    resume = os.path.exists(run + "/last.safetensors")
    an.fit(net, (x, x.sum(1, keepdims=True)), loss="mse", optimizer="adam", epochs=10, batch_size=8, seed=3,
           device="cpu", progress=False, run_dir=run, resume=resume, callbacks=callbacks)

# each line of the input is a statement, which a forked child runs
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os.close(0)
        code = 1
        try:
            exec(line)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Nursery:
    """A process that has imported everything and forks children: one costs a millisecond instead of a second."""

    def __init__(self, folder):
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMON, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def begin(self, statement):
        self.process.stdin.write(statement + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self):
        """The status of the child, as of waitpid."""
        return int(self.process.stdout.readline())

    def close(self):
        """End it; what its children said on stderr."""
        return self.process.communicate()[1]


@pytest.fixture
def nursery(tmp_path):
    one = Nursery(tmp_path)
    yield one
    one.close()


def kill(child):
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)


def whole(state):
    return (state["w"].numpy() == state["step"]).all()


def test_kills_while_saving(nursery, tmp_path):
    """A kill at any instant leaves one whole checkpoint; the next save removes what was unfinished."""
    path, rng, unfinished = (
        an.save(tmp_path / "a", {"step": 0, "w": an.asarray(np.zeros(2000))}),
        random.Random(2),
        0,
    )
    kills = 0
    while kills < (250 if LONG else 20) or (unfinished == 0 and kills < 1000):
        kills += 1
        child = nursery.begin("save_for_ever()")
        time.sleep(rng.random() * 0.03)
        kill(child)
        assert nursery.end() == signal.SIGKILL
        assert whole(an.load(path))
        unfinished += len(os.listdir(tmp_path)) - 1
        an.save(path, {"step": 0, "w": an.asarray(np.zeros(2000))})
        assert os.listdir(tmp_path) == ["a"]
    assert unfinished > 0  # some were hit while they wrote


def test_a_load_while_another_process_saves_is_of_one_checkpoint(nursery, tmp_path):
    path = an.save(tmp_path / "a", {"step": 0, "w": an.asarray(np.zeros(2000))})
    child = nursery.begin("save_for_ever()")
    end, steps = time.monotonic() + 20, set()
    while len(steps) < (5000 if LONG else 60) and time.monotonic() < end:
        state = an.load(path)
        assert whole(state)
        steps.add(state["step"])
    kill(child)
    nursery.end()
    assert len(steps) > 1


def test_kills_while_training(nursery, tmp_path):
    """Killed and resumed again and again, a run ends with the bits of one that nobody disturbed."""
    nursery.begin("train('unbroken')")
    assert nursery.end() == 0
    expected, rng = an.load(tmp_path / "unbroken" / "last.safetensors"), random.Random(3)
    kills = runs = 0
    while kills < (250 if LONG else 12):
        runs += 1
        patience = 0.1
        while True:
            child = nursery.begin(f"train('{runs}')")
            time.sleep(rng.random() * patience)
            kill(child)
            if nursery.end() == 0:
                break
            kills += 1
            patience *= 1.2  # on a busy machine, too, it ends some time
            last = tmp_path / str(runs) / "last.safetensors"
            if last.exists():
                assert an.load(last)["kind"] == "training"
        found = an.load(tmp_path / str(runs) / "last.safetensors")
        assert all((found["model"][k].numpy() == v.numpy()).all() for k, v in expected["model"].items())
        assert found["epoch"] == expected["epoch"] == 10
        names = {
            "run.json",
            "model.json",
            "preprocessing.json",
            "history.jsonl",
            "proof.jsonl",
            "previous.safetensors",
        }
        names |= {"best.safetensors", "last.safetensors"}
        assert set(os.listdir(tmp_path / str(runs))) == names


def test_a_full_disk_while_training(nursery, tmp_path):
    """The run ends with the system's error; what was saved before is whole, and goes on when there is room again."""
    nursery.begin("train('unbroken')")
    assert nursery.end() == 0
    size = os.path.getsize(tmp_path / "unbroken" / "last.safetensors")  # it grows with the history
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0})); train()"
    nursery.begin(limit.format(size - 500))
    assert nursery.end() != 0
    before = an.load(tmp_path / "run" / "last.safetensors")["epoch"]
    assert 0 < before < 10
    assert not any(name.endswith((".tmp", "lock")) for name in os.listdir(tmp_path / "run"))
    nursery.begin("train()")
    assert nursery.end() == 0
    ours, theirs = (an.load(tmp_path / name / "last.safetensors")["model"] for name in ("run", "unbroken"))
    assert all((ours[k].numpy() == v.numpy()).all() for k, v in theirs.items())


def test_two_processes_on_one_folder(nursery, tmp_path):
    other = Nursery(tmp_path)
    other.begin("pass")
    other.end()
    first = nursery.begin("train(callbacks=[Wait()])")
    while not (tmp_path / "run" / "run.lock").exists():
        time.sleep(0.001)
    other.begin("train()")
    refused = other.end()
    (tmp_path / "go").touch()
    statuses = nursery.end(), refused
    assert statuses[0] == 0
    assert statuses[1] != 0
    said = other.close()
    assert f"RunFolderError: the run folder {tmp_path / 'run'} is in use: process {first} on" in said
