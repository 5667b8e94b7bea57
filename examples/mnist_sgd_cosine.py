"""MNIST with 800 hidden units, plain SGD with momentum and a rate that falls as a cosine: 98.1 % in five epochs.

Simard, Steinkraus and Platt (2003) report 1.6 % of errors for 800 hidden units without distortions.
"""

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, example, history_lines, lines
from anynet.optim.lr_scheduler import CosineAnnealingLR


@example(
    topic="digits", figures=[Figure("test accuracy", at_least=98.0, unit="%", quick=85.0, source="98.1")]
)
def main(run):
    (x, y), (test_x, test_y) = run.data("mnist", "train", scaled=True), run.data("mnist", "test", scaled=True)
    test_x, test_y = test_x[: run.pick(10_000, 1000)], test_y[: run.pick(10_000, 1000)]
    count, epochs = run.pick(len(x), 6000), run.pick(5, 2)
    units = run.pick(800, 200)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, units), nn.ReLU(), nn.Linear(units, 10)).to(run.device)
    steps, rates = epochs * -(-count // 128), []

    def schedule(optimizer):
        return CosineAnnealingLR(optimizer, steps)

    class Rates(an.train.Callback):
        def on_batch_end(self, state):
            rates.append(state.optimizer.param_groups[0]["lr"])

    history = an.fit(
        net, (x[:count], y[:count]), (test_x, test_y), loss="cross_entropy", metrics=["accuracy"], batch_size=128,
        optimizer=an.optim.SGD(net.parameters(), lr=0.1, momentum=0.9), scheduler=schedule, schedule_by="batch", epochs=epochs,
        device=run.device, seed=run.seed, restore_best=False, callbacks=[Rates()],
    )  # fmt: skip
    run.picture(
        history_lines(history, "accuracy", "val_accuracy", title="accuracy by epoch (val: the test images)"),
        lines([Series("rate", range(1, len(rates) + 1), rates)], title="learning rate by step", height=120),
    )
    run.figure("test accuracy", 100 * history[-1]["val_accuracy"])


if __name__ == "__main__":
    main()
