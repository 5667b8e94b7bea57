"""A resumed run equals an unbroken one bit for bit, wherever it was broken off; another run is refused."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import anynet as an
from anynet import nn, optim, train

rng = np.random.RandomState(0)
X = rng.randn(40, 4).astype("f4")
Y = rng.randint(0, 3, 40)


class Net(nn.Module):
    def __init__(self):
        self.first, self.norm, self.drop = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.drop(an.nn.functional.relu(self.norm(self.first(x)))))


class Bags(nn.Module):
    """Rows of a table, whose gradient is rows."""

    def __init__(self):
        self.table = nn.EmbeddingBag(9, 3, sparse=True)

    def forward(self, x):
        return self.table(an.clip(an.astype(x * 2 + 4, an.int64), 0, 8))


def network(kind=""):
    an.random.manual_seed(0)
    return Bags() if "rows" in kind else Net()


class Break(train.Callback):
    """A signal after some batches."""

    def __init__(self, after, number=signal.SIGINT):
        self.left, self.number = after, number

    def on_batch_end(self, run):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)


class Average(train.Callback):
    """Moving averages of the weights: a callback whose state is arrays."""

    def on_train_begin(self, run):
        self.mean = {k: an.asarray(v, copy=True) for k, v in run.model.state_dict().items()}

    def on_batch_end(self, run):
        for k, v in run.model.state_dict().items():
            self.mean[k] = 0.9 * self.mean[k] + 0.1 * v

    def state_dict(self):
        return {"mean": getattr(self, "mean", {"none": 0})}

    def load_state_dict(self, state):
        self.mean = state["mean"]


def values(net):
    return {k: v.numpy().copy() for k, v in net.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(a[k].tobytes() == b[k].tobytes() for k in a)


def fit(net, *more, **options):
    given = {
        "loss": "cross_entropy",
        "progress": False,
        "device": "cpu",
        "batch_size": 8,
        "epochs": 4,
        **options,
    }
    given["callbacks"] = [*more, *given.get("callbacks", ())]
    data, val = given.pop("data", (X, Y)), given.pop("val", None)
    return an.fit(net, data, val, **given)


def without_time(history):
    return [{k: v for k, v in record.items() if k != "seconds"} for record in history]


KINDS = {
    "adam": {},
    "sgd, clipped, scheduled each batch": {
        "optimizer": lambda p: optim.SGD(p, lr=0.1, momentum=0.9), "clip_norm": 1.0, "schedule_by": "batch",
        "scheduler": lambda o: optim.OneCycleLR(o, 0.2, total_steps=20),
    },
    "plateau": {"scheduler": lambda o: optim.ReduceLROnPlateau(o, patience=0), "val": (X, Y)},
    "schedule-free": {"optimizer": "schedule_free_adamw", "lr": 0.1, "val": (X, Y)},
    "sums of gradients": {"optimizer": lambda p: optim.MultiSteps(optim.Adam(p), every=3)},
    "lbfgs": {"optimizer": lambda p: optim.LBFGS(p, lr=0.1, max_iter=2)},
    "prefetched": {"data": "loader"},
    "metrics": {"metrics": ["accuracy"], "val": (X, Y), "monitor": "val_accuracy"},
    "sums of rows": {"optimizer": lambda p: optim.MultiSteps(optim.SparseAdam(p, lr=0.1), every=3)},
}  # fmt: skip


@pytest.mark.parametrize(("kind", "after"), [(kind, 5 + i) for i, kind in enumerate(KINDS)])
def test_broken_off_and_resumed(kind, after, tmp_path):
    options = dict(KINDS[kind])

    def run(net, *more, **others):
        given = {**options, **others}
        if given.get("data") == "loader":
            given["data"] = an.data.DataLoader((X, Y), batch_size=8, shuffle=True, seed=3, prefetch=2)
        average, stop = Average(), train.EarlyStopping("loss", patience=3)
        history = fit(net, *more, callbacks=[average, stop], **given)
        return without_time(history), values(net), average.mean, (stop.best, stop.bad)

    whole = run(network(kind), run_dir=tmp_path / "whole")
    with pytest.raises(train.Interrupted, match=f"epoch {1 + (after - 1) // 5} after batch"):
        run(network(kind), Break(after), run_dir=tmp_path / "r")
    history, state, mean, stop = run(network(kind), run_dir=tmp_path / "r", resume=True)
    assert history == whole[0]
    assert same(state, whole[1])
    assert all((mean[k].numpy() == whole[2][k].numpy()).all() for k in mean)
    assert stop == whole[3]
    for name in ("best", "last"):
        a, b = (an.load(tmp_path / d / f"{name}.safetensors") for d in ("whole", "r"))
        a, b = (t.get("model", t) for t in (a, b))
        assert all((a[k].numpy() == b[k].numpy()).all() for k in a)


def test_broken_off_while_validating(tmp_path):
    class Val(an.data.Dataset):
        asked = False

        def __len__(self):
            return 600

        def __getitem__(self, i):
            if i == 10 and Val.asked:
                Val.asked = False
                os.kill(os.getpid(), signal.SIGTERM)
            return X[i % 40], Y[i % 40]

    whole = network()
    expected = fit(whole, val=Val())

    class Ask(train.Callback):
        def on_batch_end(self, run):
            Val.asked = (run.epoch, run.batch) == (2, 5)

    with pytest.raises(train.Interrupted, match="epoch 2 after batch 5") as stopped:
        fit(network(), Ask(), val=Val(), run_dir=tmp_path / "r")
    assert stopped.value.signal == signal.SIGTERM
    again = network()
    history = fit(again, val=Val(), run_dir=tmp_path / "r", resume=True)
    assert without_time(history) == without_time(expected)
    assert same(values(again), values(whole))


@pytest.mark.parametrize("every", [1, 2, "0.000001s"])
def test_killed_between_checkpoints_within_an_epoch(every, tmp_path):
    """Whatever the last checkpoint is, training goes on from it to the same end."""

    class Die(train.Callback):
        def on_batch_end(self, run):
            if (run.epoch, run.batch) == (2, 4):
                shutil.copy(tmp_path / "r" / "last.safetensors", tmp_path)
                raise SystemError("killed")

    whole = network()
    expected = fit(whole)
    with pytest.raises(SystemError):
        fit(network(), Die(), run_dir=tmp_path / "r", checkpoint_every=every)
    shutil.copy(tmp_path / "last.safetensors", tmp_path / "r")  # a process that is killed writes nothing more
    tree = an.load(tmp_path / "r" / "last.safetensors")
    assert (tree["epoch"], tree["batch"]) == (1, {1: 3, 2: 2}.get(every, 3))
    again = network()
    assert without_time(fit(again, run_dir=tmp_path / "r", resume=True)) == without_time(expected)
    assert same(values(again), values(whole))


def test_killed_before_the_first_checkpoint(tmp_path):
    class Die(train.Callback):
        def on_batch_end(self, run):
            raise SystemError("killed")

    whole = network()
    fit(whole)
    with pytest.raises(SystemError):
        fit(network(), Die(), run_dir=tmp_path / "r")
    again = network()
    fit(again, run_dir=tmp_path / "r", resume=True)
    assert same(values(again), values(whole))


@pytest.mark.parametrize("lost", ["last.safetensors", "best.safetensors"])
def test_a_run_that_has_lost_its_checkpoint_is_refused_as_it_is(lost, tmp_path):
    fit(network(), run_dir=tmp_path / "r", monitor="loss")
    (tmp_path / "r" / lost).unlink()
    kept = {p.name: p.read_bytes() for p in (tmp_path / "r").iterdir()}
    with pytest.raises(FileNotFoundError, match=f"no checkpoint at .*{lost}"):
        fit(network(), run_dir=tmp_path / "r", resume=True, epochs=9, monitor="loss")
    assert {p.name: p.read_bytes() for p in (tmp_path / "r").iterdir()} == kept


def test_a_folder_for_what_is_refused_is_not_left(tmp_path):
    net = network()
    with pytest.raises(nn.ShapeError):
        an.fit(net, (X, Y), (X[:, :1], Y), loss="cross_entropy", run_dir=tmp_path / "r", progress=False)
    assert list(tmp_path.iterdir()) == []


SCRIPT = """
    import os, signal, time, numpy as np, anynet as an
    class Slow(an.train.Callback):
        def on_batch_end(self, run):
            print(run.batch, flush=True)
            time.sleep(0.05)
    x = np.ones((40, 3), "f4")
    an.fit(an.nn.Linear(3, 1), (x, x[:, :1]), loss="mse", epochs=9, batch_size=4, run_dir={folder!r}, progress=False,
           device="cpu", callbacks=[Slow()])
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_a_script_saves_and_says_how_to_go_on(number, code, tmp_path):
    script, folder = tmp_path / "script.py", tmp_path / "run"
    script.write_text(textwrap.dedent(SCRIPT.format(folder=str(folder))), encoding="utf-8")
    command = [sys.executable, "-m", "anynet", "train", str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(3):
            process.stdout.readline()
        process.send_signal(number)
        _, error = process.communicate(timeout=60)
    assert process.returncode == code, error
    assert "go on with: fit(…, resume=True)" in error
    assert an.load(folder / "last.safetensors")["batch"] >= 3


def test_handlers_are_put_back_and_a_second_signal_stops_at_once():
    def own(number, frame):
        """A handler of the program's."""

    before = signal.signal(signal.SIGTERM, own)
    try:
        for after in (1, 99):
            try:
                fit(network(), Break(after, signal.SIGTERM))
            except train.Interrupted:
                assert after == 1
            assert signal.getsignal(signal.SIGTERM) is own
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        seen = []

        class Twice(train.Callback):
            def on_batch_end(self, run):
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGINT)
                seen.append(run.batch)

        with pytest.raises(KeyboardInterrupt) as stopped:
            fit(network(), Twice())
        assert not isinstance(stopped.value, train.Interrupted)
        assert not seen
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert len(fit(network(), Break(2, signal.SIGTERM))) == 4
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_was_stopped_early_stays_stopped(tmp_path):
    def run(resume):
        stop = train.EarlyStopping("loss", patience=1, min_delta=1e9)
        return len(fit(network(), stop, epochs=9, run_dir=tmp_path / "r", resume=resume))

    assert [run(False), run(True), run(True)] == [2, 2, 2]


def test_a_finished_run_goes_on_to_more_epochs(tmp_path):
    whole = network()
    fit(whole, epochs=6)
    fit(network(), epochs=2, run_dir=tmp_path / "r")
    assert len(fit(network(), epochs=2, run_dir=tmp_path / "r", resume=True)) == 2
    again = network()
    assert len(fit(again, epochs=6, run_dir=tmp_path / "r", resume=True)) == 6
    assert same(values(again), values(whole))


class Other(Net):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(8, 4)


OTHERS = [
    ({"batch_size": 4}, r"data\.batch_size: 8 in the run, 4 now"),
    ({"seed": 1}, "seed: 0 in the run, 1 now"),
    ({"data": (X + 1, Y)}, r"data\.data: '"),
    ({"data": (X, (Y + 1) % 3)}, r"data\.data: '"),
    ({"data": (X[::-1], Y[::-1])}, r"data\.data: '"),
    ({"data": (X[:32], Y[:32])}, r"data\.samples: 40 in the run, 32 now"),
    ({"val": (X, Y)}, "val: None in the run"),
    ({"net": Other}, r"model\.last\.weight: 'float32 \(3, 8\)' in the run, 'float32 \(4, 8\)' now"),
    ({"optimizer": "sgd"}, "optimizer: 'Adam' in the run, 'SGD' now"),
    ({"lr": 0.5}, "lr: 0.001 in the run, 0.5 now"),
    ({"optimizer": lambda p: optim.Adam(p, weight_decay=0.1)}, "weight_decay: 0.0 in the run, 0.1 now"),
    ({"loss": "focal"}, "loss.name: 'CrossEntropyLoss' in the run, 'FocalLoss' now"),
    ({"loss": nn.CrossEntropyLoss(label_smoothing=0.1)}, "label_smoothing: 0.0 in the run, 0.1 now"),
    ({"scheduler": lambda o: optim.StepLR(o, 1)}, "scheduler: None in the run, 'StepLR' now"),
    ({"before": {"scheduler": lambda o: optim.StepLR(o, 2)}, "scheduler": lambda o: optim.StepLR(o, 3)},
     r"schedule\.step_size: 2 in the run, 3 now"),
    ({"clip_norm": 1.0}, "clip_norm: None in the run, 1.0 now"),
    ({"metrics": ["accuracy"]}, "metrics"),
    ({"callbacks": [train.EarlyStopping("loss")]}, "callbacks with a state: 0 in the run, 1 now"),
]  # fmt: skip


def test_another_run_is_refused_with_the_difference(tmp_path):
    for number, (options, message) in enumerate(OTHERS):
        change = dict(options)
        before = change.pop("before", None)
        folder = tmp_path / ("r" if before is None else f"r{number}")
        if before is not None or number == 0:
            with pytest.raises(train.Interrupted):
                fit(network(), Break(3), run_dir=folder, **(before or {}))
        kept = {p.name: p.read_bytes() for p in folder.iterdir()}
        an.random.manual_seed(0)
        net = change.pop("net", Net)()
        state = values(net)
        with pytest.raises(train.CheckpointError, match=message) as refused:
            fit(net, run_dir=folder, resume=True, **change)
        assert "nothing was changed" in str(refused.value)
        assert same(values(net), state)
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == kept


def without(tree, *path):
    if len(path) == 1:
        return {k: v for k, v in tree.items() if k != path[0]}
    return {**tree, path[0]: without(tree[path[0]], *path[1:])}


def put(tree, value, *path):
    return value if not path else {**tree, path[0]: put(tree.get(path[0], {}), value, *path[1:])}


DAMAGES = [
    *[("without", (k,)) for k in ("model", "optimizer", "scheduler", "callbacks", "random", "epoch", "batch", "history")],
    ("without", ("model", "first.weight")),
    ("without", ("optimizer", "param_groups")),
    ("without", ("optimizer", "state", 0, "exp_avg")),
    ("without", ("optimizer", "state", 2, "step")),
    ("without", ("random", "masks")),
    *[(value, (k,)) for k in ("epoch", "batch", "history", "callbacks", "random", "sums", "model") for value in
      (-1, 1e30, "x", 10**30, [3], {"a": 3})],
    (3, ("model", "first.weight")),
    (an.ones(2), ("model", "first.weight")),
    (3, ("optimizer", "state", 0, "exp_avg")),
    (an.ones(3), ("optimizer", "state", 0, "exp_avg")),
    ("x", ("optimizer", "state", 0, "step")),
    (None, ("optimizer", "state")),
    ([3], ("optimizer", "param_groups")),
    ("weights", ("kind",)),
]  # fmt: skip


def test_damaged_states_are_refused_whole(tmp_path):
    with pytest.raises(train.Interrupted):
        fit(network(), Break(7), run_dir=tmp_path / "r")
    file = tmp_path / "r" / "last.safetensors"
    tree = an.load(file)
    for what, path in DAMAGES:
        an.save(file, without(tree, *path) if what == "without" else put(tree, what, *path))
        net = network()
        before = values(net)
        optimizer = optim.Adam(net.parameters())
        state = repr(optimizer.state_dict())
        with pytest.raises(train.CheckpointError):
            fit(net, optimizer=optimizer, run_dir=tmp_path / "r", resume=True)
        assert same(values(net), before), path
        assert repr(optimizer.state_dict()) == state, path
