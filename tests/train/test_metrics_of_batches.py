"""Metrics that are measured some batches later are those of then."""

import pytest

import anynet as an
from anynet.train.metrics import Sums
from anynet.train.objectives import Objective


class Table(an.nn.Module):
    """The output is the parameter itself, which each update writes over."""

    def __init__(self):
        self.w = an.Parameter(an.asarray([[0.0, 1.0, 2.0]] * 4))

    def forward(self, x):
        return self.w


def test_outputs_that_the_update_writes_over_are_measured_before_it():
    y = an.asarray([0, 1, 2, 0] * 40)
    seen = []

    class By(an.train.Callback):
        def on_batch_begin(self, run):
            right = an.argmax(run.model.w, axis=1) == run.targets
            seen.append(float(an.mean(an.astype(right, "float32"))))

    history = an.fit(
        Table(), (an.zeros((160, 1)), y), loss="cross_entropy", optimizer="sgd", lr=3.0, batch_size=4, epochs=1,
        metrics=["accuracy"], callbacks=By(), progress=False,
    )  # fmt: skip
    assert len(seen) == 40
    assert len(set(seen)) > 1  # the updates change what is right
    assert history[0]["accuracy"] == pytest.approx(sum(seen) / 40)


def recorded(value):
    return value.numpy().tolist() if isinstance(value, an.Tensor) else value


@pytest.mark.parametrize(
    "metrics",
    [
        ["accuracy"],
        ["accuracy", "f1", "log_loss"],
        ["accuracy", lambda a, b: an.mean(a)],
        "every additive one",
    ],
)
def test_what_is_held_is_in_each_value_and_state(metrics):
    """Against metrics that are updated at once; a state in the middle goes on to the same values, as after a break."""
    from anynet.train.metrics import resolve

    objective = Objective("cross_entropy")
    if metrics == "every additive one":
        metrics = [m for m in (an.metrics.get(name) for name in an.metrics.METRICS) if m.additive]
        assert len(metrics) > 5
    made = resolve(metrics, objective)
    sums, plain = Sums(objective, made), [m.fresh() for m in Sums(objective, made).metrics]
    an.random.manual_seed(0)
    for i in range(75):
        n = 5 if i % 20 == 19 else 8  # another form now and then
        output, target = an.random.normal((n, 6)), an.random.integers(0, 6, (n,))
        sums.add(sums.measure(output, target))
        for m in plain:
            m.update(output, target)
        if i in (0, 3, 50):
            found = sums.result()
            assert [found[m.name] for m in plain] == [recorded(m.compute()) for m in plain]
        if i == 40:
            sums = Sums(objective, made, sums.state_dict())
    found = sums.result()
    assert [found[m.name] for m in plain] == [recorded(m.compute()) for m in plain]


def test_a_batch_of_a_form_that_does_not_do_is_refused_before_its_update():
    objective = Objective("cross_entropy")
    sums = Sums(objective, an.train.metrics.resolve("accuracy", objective))
    for _ in range(3):
        sums.add(sums.measure(an.zeros((4, 3)), an.zeros((4,), dtype="int64")))
    with pytest.raises(ValueError, match="does not go with a target"):
        sums.measure(an.zeros((4, 3)), an.zeros((3,), dtype="int64"))


def test_another_measure_is_not_taken_for_a_count():
    class OfBatches(an.metrics.Accuracy):
        """The mean of the batches' accuracies."""

        def measure(self, output, target, weight):
            state = super().measure(output, target, weight)
            return {**state, "sum": float(state["sum"]) / state["count"], "count": 1}

    assert an.metrics.Accuracy.additive
    assert not OfBatches.additive
