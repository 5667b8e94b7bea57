"""Callbacks: what they are given, what is refused, what they find after an error."""

import numpy as np
import pytest

import anynet as an
from anynet import nn, train

rng = np.random.RandomState(0)
X = rng.randn(40, 4).astype("f4")
Y = rng.randint(0, 3, 40)


def network():
    an.random.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, 3))


def fit(net=None, data=(X, Y), val=None, **options):
    given = {"loss": "cross_entropy", "progress": False, "device": "cpu", "batch_size": 8, **options}
    return an.fit(network() if net is None else net, data, val, **given)


# ----- the one object -----


def test_what_a_callback_is_given(tmp_path):
    seen = {}

    class All(train.Callback):
        def on_train_begin(self, run):
            seen["begin"] = run.epochs, run.batches, run.folder, run.stopped, list(run.history)

        def on_batch_begin(self, run):
            seen.setdefault("before", []).append((run.epoch, run.batch))

        def on_batch_end(self, run):
            seen.setdefault("after", []).append((run.epoch, run.batch))
            assert run.inputs.shape == (8, 4)
            assert run.targets.shape == (8,)
            assert run.output.shape == (8, 3)
            assert not run.output.requires_grad
            assert type(run.loss) is float
            expected = nn.functional.cross_entropy(run.output, run.targets).item()
            assert abs(run.loss - expected) < 1e-6

        def on_epoch_end(self, run):
            assert run.schedule.optimizer is run.optimizer
            assert run.record["epoch"] == run.epoch
            run.record["double"] = 2 * run.record["loss"]

        def on_train_end(self, run):
            seen["end"] = len(run.history), run.epoch, run.model

    net = network()
    history = fit(
        net, epochs=2, callbacks=All(), run_dir=tmp_path / "r",
        scheduler=lambda o: an.optim.StepLR(o, step_size=1),
    )  # fmt: skip
    assert seen["begin"] == (2, 5, tmp_path / "r", None, [])
    assert seen["before"] == [(e, b) for e in (1, 2) for b in range(5)]
    assert seen["after"] == [(e, b + 1) for e in (1, 2) for b in range(5)]
    assert seen["end"] == (2, 2, net)
    assert history.column("double") == [2 * loss for loss in history.column("loss")]
    assert history.stopped is None


def test_stop_after_a_batch_and_stay_stopped(tmp_path):
    def stop(run):
        if (run.epoch, run.batch) == (2, 3):
            run.stop("enough")
            run.stop("not heard")

    history = fit(val=(X, Y), epochs=5, callbacks=train.on(batch_end=stop), run_dir=tmp_path / "r")
    assert len(history) == 2
    assert history.stopped == "enough"
    assert "val_loss" in history[1]
    again = fit(val=(X, Y), epochs=5, callbacks=train.on(batch_end=stop), run_dir=tmp_path / "r", resume=True)
    assert (len(again), again.stopped) == (2, "enough")
    with pytest.raises(TypeError, match="say why"):
        fit(callbacks=train.on(batch_end=lambda run: run.stop("")))


def test_early_stopping_says_why():
    history = fit(epochs=9, callbacks=train.EarlyStopping("loss", patience=2, min_delta=1e9))
    assert history.stopped == "loss has not improved for 2 epochs"


# ----- refused -----

FORMER = {
    "on_train_begin": ("model", "run.model"),
    "on_epoch_begin": ("model, epoch", "run.model, run.epoch"),
    "on_batch_end": ("model, epoch, batch, loss", "run.model, run.epoch, run.batch, run.loss"),
    "on_epoch_end": ("model, record", "run.model, run.record"),
}


@pytest.mark.parametrize("name", FORMER)
def test_former_arguments_are_refused_with_what_they_are_now(name):
    space = {}
    exec(f"def {name}(self, {FORMER[name][0]}): pass", space)  # noqa: S102
    cls = type("Mine", (train.Callback,), {name: space[name]})
    with pytest.raises(TypeError, match=rf"Mine.{name}\(.*one object, the training.*are {FORMER[name][1]}$"):
        cls()


def test_what_is_never_called_is_refused_when_it_is_made():
    class Typo(train.Callback):
        def on_epoch_ends(self, run):
            """Never called."""

    class Keras(train.Callback):
        def on_epoch_end(self, epoch, logs=None):
            """Keras has other arguments."""

    class Other(train.Callback):
        def on_train_stop(self, run):
            """Never called."""

    with pytest.raises(TypeError, match=r"Typo.on_epoch_ends; did you mean on_epoch_end\?"):
        Typo()
    with pytest.raises(TypeError, match=r"fit never calls Other.on_train_stop"):
        Other()
    with pytest.raises(TypeError, match=r"given one object, the training: on_batch_end\(self, run\)"):
        type("Few", (train.Callback,), {"on_batch_end": lambda self: None})()
    with pytest.raises(TypeError, match=r"Keras.on_epoch_end\(self, epoch, logs=None\): .*given one object"):
        Keras()
    with pytest.raises(TypeError, match=r"returned True, which has no effect; .*run.stop\(reason\)"):
        fit(callbacks=[type("Returns", (train.Callback,), {"on_epoch_end": lambda self, run: True})()])
    with pytest.raises(TypeError, match=r"on: fit never calls 'batch_ended'; did you mean batch_end=\?"):
        train.on(batch_ended=print)
    with pytest.raises(TypeError, match="must be a function"):
        train.on(batch_end=3)
    with pytest.raises(TypeError, match=r"got function; .*train.on\(batch_end=function\)"):
        fit(callbacks=[lambda run: None])


# ----- errors -----


def test_an_error_is_told_after_a_checkpoint_from_which_the_run_goes_on(tmp_path):
    seen = []

    def breaks(run):
        if (run.epoch, run.batch) == (2, 3) and not seen:
            raise ZeroDivisionError

    def told(run, error):
        seen.append((type(error), (run.folder / "last.safetensors").exists(), run.epoch, run.batch))

    whole, broken = network(), network()
    fit(whole, epochs=3, callbacks=train.on(batch_end=lambda run: None))
    options = {
        "epochs": 3,
        "callbacks": train.on(batch_end=breaks, exception=told),
        "run_dir": tmp_path / "r",
    }
    with pytest.raises(ZeroDivisionError) as caught:
        fit(broken, **options)
    assert seen == [(ZeroDivisionError, True, 2, 3)]
    assert "epoch 2 after batch 3" in caught.value.__notes__[0]
    fit(other := network(), **options, resume=True)
    assert all(
        a.numpy().tobytes() == b.numpy().tobytes()
        for a, b in zip(whole.parameters(), other.parameters(), strict=True)
    )


def test_an_error_of_an_exception_handler_does_not_hide_the_first():
    def fails(run, error):
        raise KeyError

    with pytest.raises(ZeroDivisionError) as caught:
        fit(callbacks=train.on(batch_end=lambda run: 1 // 0, exception=fails))
    assert "on_exception raised KeyError()" in caught.value.__notes__[-1]
