"""Dropout against overfitting: 2,000 digits, a network of 670,000 weights, with and without units left out at random.

Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov (2014), on a small part of MNIST: 784-512-512-10, p = 0.2
of the inputs and 0.5 of the hidden units, 40 epochs each.
"""

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, example, lines


def network(inputs, hidden):
    """784-512-512-10 that leaves out so much."""
    return nn.Sequential(
        nn.Flatten(), nn.Dropout(inputs), nn.Linear(784, 512), nn.ReLU(), nn.Dropout(hidden), nn.Linear(512, 512), nn.ReLU(),
        nn.Dropout(hidden), nn.Linear(512, 10),
    )  # fmt: skip


@example(
    topic="regularisation and normalisation",
    figures=[
        Figure("test accuracy without", form=".2f", unit="%", source="91.6"),
        Figure("test accuracy with dropout", at_least=92.5, unit="%", source="92.7 to 93.3", quick=60.0),
        Figure("gain", at_least=0.8, unit="points", form=".2f", source="1.1 to 1.7"),
    ],
)
def main(run):
    (x, y), (test_x, test_y) = run.data("mnist", "train", scaled=True), run.data("mnist", "test", scaled=True)
    count, epochs, tests = run.pick(2000, 500), run.pick(40, 3), run.pick(10_000, 1000)
    accuracy, losses, last = [], [], {}
    for name, shares in (("without", (0.0, 0.0)), ("with dropout", (0.2, 0.5))):
        an.random.manual_seed(run.seed)
        net = network(*shares)
        history = an.fit(
            net, (x[:count], y[:count]), (test_x[:tests], test_y[:tests]), loss="cross_entropy", metrics=["accuracy"], batch_size=64,
            lr=1e-3, epochs=epochs, device=run.device, seed=run.seed, restore_best=False, progress=False,
        )  # fmt: skip
        last[name] = 100 * history[-1]["val_accuracy"]
        run.say(f"{name:12} training loss {history[-1]['loss']:.4f}, test accuracy {last[name]:.2f} %")
        at = [row["epoch"] for row in history]
        accuracy.append(Series(name, at, [100 * row["val_accuracy"] for row in history]))
        losses.append(Series(f"{name}: test", at, [row["val_loss"] for row in history]))
        losses.append(Series(f"{name}: training", at, [row["loss"] for row in history], dash=1))
        run.figure(f"test accuracy {name}", last[name])
    run.picture(
        lines(accuracy, title="test accuracy in % by epoch", x_label="epoch", whole=True),
        lines(
            losses,
            title="loss by epoch: what is learnt by heart shows in the test's",
            x_label="epoch",
            whole=True,
            log_y=True,
        ),
    )
    run.figure("gain", last["with dropout"] - last["without"])


if __name__ == "__main__":
    main()
