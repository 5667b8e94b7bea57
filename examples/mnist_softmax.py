"""MNIST with one layer and a softmax: logistic regression with ten classes, and the picture that each class looks for.

Adam, 5 epochs. To reach: 92.2 % (LeCun et al. 1998: linear classifiers 88 to 92.4 %).
"""

import anynet as an
from anynet import nn
from anynet.gallery import Figure, example, history_lines, tiles


@example(
    topic="digits", figures=[Figure("test accuracy", at_least=92.0, unit="%", quick=80.0, source="92.2")]
)
def main(run):
    (x, y), (test_x, test_y) = run.data("mnist", "train", scaled=True), run.data("mnist", "test", scaled=True)
    test_x, test_y = test_x[: run.pick(10_000, 1000)], test_y[: run.pick(10_000, 1000)]
    count, epochs = run.pick(len(x), 6000), run.pick(5, 2)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    history = an.fit(
        net, (x[:count], y[:count]), (test_x, test_y), loss="cross_entropy", metrics=["accuracy"], batch_size=128,
        lr=1e-3, epochs=epochs, device=run.device, seed=run.seed, restore_best=False,
    )  # fmt: skip
    weights = an.reshape(net[1].weight.detach(), (10, 28, 28))
    run.picture(
        history_lines(history, "accuracy", "val_accuracy", title="accuracy by epoch (val: the test images)"),
        tiles(weights, [str(k) for k in range(10)], title="the weights of each class", columns=10),
    )
    run.figure("test accuracy", 100 * history[-1]["val_accuracy"])


if __name__ == "__main__":
    main()
