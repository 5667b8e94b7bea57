"""Limits of time: the schedule of the learning rate comes to its end with them, and what was decided is kept."""

import itertools
import math
import types

import pytest

import anynet as an
from anynet.runs.reading import checkpoint
from anynet.runs.verifying import _AsThen
from anynet.train import callbacks
from anynet.train.checkpoint import CheckpointError
from anynet.train.schedules import SCHEDULES, UNKNOWN


class Clock:
    """A clock that only tests move; each update takes `each` seconds."""

    def __init__(self, monkeypatch, each):
        self.now, self.each = 100.0, each
        monkeypatch.setattr(callbacks, "time", types.SimpleNamespace(monotonic=lambda: self.now))

    def callback(self):
        clock = self

        class Tick(an.train.Callback):
            def __init__(self):
                self.rates = []

            def on_batch_end(self, run):
                clock.now += clock.each(run.steps) if callable(clock.each) else clock.each
                self.rates.append(run.optimizer.param_groups[0]["lr"])

        return Tick()


def train(clock, limit, epochs=10, scheduler="onecycle", **options):
    an.random.manual_seed(0)
    net = an.nn.Linear(3, 1)
    x = an.reshape(an.arange(120, dtype="float32"), (40, 3)) / 100
    tick = clock.callback()
    history = an.fit(
        net, (x, an.sum(x, axis=1)[:, None]), loss="mse", optimizer="sgd", lr=0.1, batch_size=4, epochs=epochs,
        scheduler=scheduler, time_limit=limit, progress=False, callbacks=[tick, *options.pop("callbacks", [])], **options,
    )  # fmt: skip
    return net, history, tick.rates


def test_a_limit_that_is_not_reached_changes_no_bit(monkeypatch):
    _, history, rates = train(Clock(monkeypatch, 1.0), limit=1000)
    _, free, expected = train(Clock(monkeypatch, 1.0), limit=None)
    assert rates == expected
    assert len(rates) == 100
    assert [r["loss"] for r in history] == [r["loss"] for r in free]
    assert history.stopped is None


@pytest.mark.parametrize("scheduler", ["onecycle", "cosine"])
def test_the_rate_reaches_its_end_in_time_on_a_slower_machine(monkeypatch, scheduler):
    clock = Clock(monkeypatch, 1.3)
    _, history, rates = train(clock, limit=100, scheduler=scheduler)
    assert 0.9 * 100 <= clock.now - 100.0 <= 100  # no longer than the limit, and hardly less
    assert len(rates) < 100
    assert max(rates) > 0.095  # it was up
    assert rates[-1] < 1e-3  # and is down again: after the last batch the rate for the next, near the end
    assert all(abs(a - b) < 0.05 for a, b in itertools.pairwise(rates))  # without jumps
    assert "fits into the time limit of 100 s" in history.stopped


def test_it_follows_a_machine_that_becomes_slower_and_quicker_again(monkeypatch):
    clock = Clock(monkeypatch, lambda step: 3.0 if 20 <= step < 40 else 0.8)
    _, _, rates = train(clock, limit=100)
    assert clock.now - 100.0 <= 100
    assert rates[-1] < 2e-3
    assert len(rates) > 55  # planned by the slow part alone it would be about 46


def test_time_alone_says_how_long_a_named_schedule_is(monkeypatch):
    clock = Clock(monkeypatch, 0.5)
    _, _, rates = train(clock, limit=60, epochs=None)
    assert 0.9 * 60 <= clock.now - 100.0 <= 60
    assert max(rates) > 0.09
    assert rates[-1] < 1e-3


def test_without_a_limit_a_named_schedule_asks_how_long():
    with pytest.raises(ValueError, match="or time_limit="):
        an.fit(an.nn.Linear(1, 1), iter([]), loss="mse", scheduler="cosine", progress=False)


def test_a_resumed_run_keeps_what_was_decided(monkeypatch, tmp_path):
    """Bit for bit, where the clock says the same: stopped by an error after 45 updates and gone on with."""

    class Fault(an.train.Callback):
        def on_batch_begin(self, run):
            if run.steps == 45:
                raise RuntimeError("fault")

    whole, history, rates = train(Clock(monkeypatch, 1.3), limit=100)
    with pytest.raises(RuntimeError, match="fault"):
        train(Clock(monkeypatch, 1.3), limit=100, run_dir=tmp_path / "run", callbacks=[Fault()])
    net, resumed, after = train(Clock(monkeypatch, 1.3), limit=100, run_dir=tmp_path / "run", resume=True)
    assert after == rates[45:]
    assert [r["loss"] for r in resumed] == [r["loss"] for r in history]
    assert all(bool(an.all(a == b)) for a, b in zip(net.parameters(), whole.parameters(), strict=True))


@pytest.mark.parametrize("as_callback", [False, True])
def test_a_run_that_time_has_shortened_is_trained_again_bit_for_bit(monkeypatch, tmp_path, as_callback):
    rows = {"x": [i / 10 for i in range(200)], "y": [3 * i / 10 + 1 for i in range(200)]}
    clock = Clock(monkeypatch, 1.3)
    limit = {"name": "time_limit", "limit": "100s"}
    run = an.train_on(
        rows, target="y", run_dir=tmp_path / "run", epochs=5, batch_size=4, scheduler="onecycle",
        time=None if as_callback else "100s", callbacks=[clock.callback(), *([limit] if as_callback else [])], progress=False,
    )  # fmt: skip
    assert "fits into the time limit" in run.history.stopped
    opened, best = (
        an.open(run.path).history,
        min(range(len(run.history)), key=lambda i: run.history[i]["val_loss"]),
    )
    assert (opened.stopped, opened.best_epoch) == (run.history.stopped, best + 1)
    monkeypatch.undo()  # the clock is now another one
    options = {"callbacks": [limit] if as_callback else []}
    assert an.runs.verify(run, data=an.data.Table(rows, target="y"), from_start=True, options=options).same


def plans_in(folder):
    return next(s["plans"] for s in checkpoint(folder / "last.safetensors")["callbacks"] if "plans" in s)


def test_a_longer_limit_is_planned_by_the_speed_since_the_run_went_on(monkeypatch, tmp_path):
    options = {"run_dir": tmp_path / "run", "epochs": 30}
    train(Clock(monkeypatch, 1.0), limit=50, **options)
    train(Clock(monkeypatch, 1.0), limit=90, resume=True, **options)
    plans = plans_in(tmp_path / "run")
    assert 48 <= plans[0][0] <= 56  # those of the shorter limit are given up
    assert all(85 <= end <= 90 for _, end in plans)


def test_what_was_planned_and_is_done_stays_done(monkeypatch, tmp_path):
    """Also where so much time has passed since the last look that another one would be due."""
    clock = Clock(monkeypatch, 1.0)
    options = {"limit": 50, "epochs": 30, "run_dir": tmp_path / "run"}
    slow = an.train.on(epoch_end=lambda run: setattr(clock, "now", clock.now + 1.5))
    _, history, _ = train(clock, callbacks=[slow], **options)
    assert "were what fits into the time limit" in history.stopped
    before = checkpoint(tmp_path / "run" / "last.safetensors")
    clock.now += 1000.0
    _, again, rates = train(clock, callbacks=[slow], resume=True, **options)
    assert (again.stopped, rates) == (history.stopped, [])
    assert str(checkpoint(tmp_path / "run" / "last.safetensors")) == str(before)


def test_a_run_without_a_limit_goes_on_with_one_and_without_it_again(monkeypatch, tmp_path):
    options = {"run_dir": tmp_path / "run", "epochs": 30}
    train(Clock(monkeypatch, 1.0), limit=None, **{**options, "epochs": 3})
    clock = Clock(monkeypatch, 1.0)
    stopper = an.train.EarlyStopping("loss", patience=1000)
    with pytest.raises(CheckpointError, match="callbacks with a state: 0 in the run, 2 now"):
        train(clock, limit=50, resume=True, callbacks=[stopper], **options)
    _, history, _ = train(clock, limit=50, resume=True, **options)
    assert "fits into the time limit of 50 s" in history.stopped
    assert 40 <= clock.now - 100.0 <= 50  # the first three epochs took no time by the other clock
    assert plans_in(tmp_path / "run")
    _, history, _ = train(clock, limit=None, resume=True, **{**options, "epochs": 10})
    assert (len(history), history.stopped) == (10, None)


def test_the_state_of_a_limit_is_taken_outside_of_a_training_and_from_earlier_versions():
    for limit in (an.train.TimeLimit("1min"), _AsThen([[3, 9]])):
        limit.load_state_dict({"seconds": 30.0})
        assert 30.0 <= limit.spent < 1e4
    limit = an.train.TimeLimit("1min")
    limit.load_state_dict(an.train.TimeLimit("1min").state_dict())
    assert limit.plans == []


def test_the_course_ends_where_it_is_told():
    optimizer = an.optim.SGD([an.Parameter([0.0])], lr=1.0)
    schedule = SCHEDULES["cosine"](optimizer, UNKNOWN)
    assert schedule.share(1000) < 1e-8
    schedule.finish(1000, 2000)
    assert schedule.share(1500) == pytest.approx(0.5)
    assert schedule.share(3000) == 1.0
    schedule.finish(1500, 1600)
    assert schedule.share(1550) == pytest.approx(0.75)
    assert math.isclose(schedule.share(1600), 1.0)


def test_an_epoch_that_was_cut_short_stands_once_in_the_table(monkeypatch, tmp_path):
    for limit, rows in ((25, [1, 2, 3]), (38, [1, 2, 3, 4]), (1000, [*range(1, 11)])):
        options = {"run_dir": tmp_path / "run", "callbacks": ["csv", "statistics"], "resume": limit > 25}
        train(Clock(monkeypatch, 1.0), limit=limit, scheduler=None, **options)
        lines = (tmp_path / "run" / "history.csv").read_text(encoding="utf-8").splitlines()
        assert [int(line.partition(",")[0]) for line in lines[1:]] == rows
        records = an.open(tmp_path / "run").records("statistics")
        assert [r["epoch"] for r in records] == rows
