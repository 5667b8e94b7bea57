"""Early stopping: with a fifth of the labels wrong a network first learns the digits, then the wrong labels by heart.

400 digits to learn from, 200 to stop by (their labels as wrong as the others'), the test part to score. The weights
of the epoch with the lowest loss on the 200 are compared with those of the last epoch (Prechelt 1998).
"""

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, example, lines


@example(
    topic="regularisation and normalisation",
    figures=[
        Figure("test accuracy at the end", unit="%"),
        Figure(
            "test accuracy of the epoch chosen",
            at_least=85.0,
            unit="%",
            source="the share of right labels is 80",
        ),
        Figure("gain", at_least=5.0, unit="points"),
    ],
)
def main(run):
    (x, y), (test_x, test_y) = (
        run.data("digits", "train", scaled=True),
        run.data("digits", "test", scaled=True),
    )
    wrong, other = an.random.uniform((len(y),)).numpy() < 0.2, an.random.integers(1, 10, (len(y),)).numpy()
    y = (y + wrong * other) % 10
    order = an.random.permutation(len(y)).tolist()
    learnt, held = order[:400], order[400:600]
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    )
    tests = []

    class Test(an.train.Callback):
        """The test accuracy by epoch, for the curve; nothing is chosen by it."""

        def on_epoch_end(self, state):
            tests.append(
                100
                * an.evaluate(net, (test_x, test_y), loss="cross_entropy", metrics=["accuracy"])["accuracy"]
            )

    history = an.fit(
        net, (x[learnt], y[learnt]), (x[held], y[held]), loss="cross_entropy", metrics=["accuracy"], lr=1e-3, batch_size=32,
        epochs=run.pick(120, 10), device=run.device, seed=run.seed, callbacks=[Test()], progress=False,
    )  # fmt: skip
    epochs = [row["epoch"] for row in history]
    best = history.best_epoch
    run.say(
        f"lowest loss on what is held out after epoch {best} of {len(epochs)}; training accuracy at the end {history[-1]['accuracy']:.3f}"
    )
    columns = {"loss": "training", "val_loss": "held out"}
    run.picture(
        lines(
            [Series(said, epochs, [r[k] for r in history]) for k, said in columns.items()],
            title="loss by epoch",
            whole=True,
        ),
        lines(
            [Series("test", epochs, tests)],
            title=f"test accuracy in % by epoch; the loss held out is lowest after {best}",
            whole=True,
        ),
    )
    chosen = 100 * an.evaluate(net, (test_x, test_y), loss="cross_entropy", metrics=["accuracy"])["accuracy"]
    run.figure("test accuracy at the end", tests[-1])
    run.figure("test accuracy of the epoch chosen", chosen)
    run.figure("gain", chosen - tests[-1])


if __name__ == "__main__":
    main()
