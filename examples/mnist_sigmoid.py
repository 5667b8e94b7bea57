"""The textbook network: 784-30-10 with sigmoids and a quadratic cost, by plain gradient descent on batches of ten.

M. Nielsen, Neural Networks and Deep Learning (2015), chapter 1: rate 3.0, 30 epochs, about 95 %.
"""

import math

import anynet as an
from anynet import nn
from anynet.gallery import Figure, example, history_lines, tiles


def half_squared_distance(output, target):
    """½ |a − t|² for each sample, its mean over the batch; t is one for the class, zero for the others."""
    wanted = an.astype(an.expand_dims(target, axis=1) == an.arange(10), output.dtype)
    return an.mean(an.sum((output - wanted) ** 2, axis=1)) / 2


@example(
    topic="digits",
    figures=[Figure("test accuracy", at_least=95.0, unit="%", quick=50.0, source="95.7 to 96.1")],
)
def main(run):
    (x, y), (test_x, test_y) = run.data("mnist", "train", scaled=True), run.data("mnist", "test", scaled=True)
    test_x, test_y = test_x[: run.pick(10_000, 1000)], test_y[: run.pick(10_000, 1000)]
    count, epochs = run.pick(len(x), 1500), run.pick(30, 2)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 30), nn.Sigmoid(), nn.Linear(30, 10), nn.Sigmoid()).to(
        run.device
    )
    for layer in (net[1], net[3]):  # the book's second way to begin: σ = 1/√inputs
        nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.weight.shape[1]))
        nn.init.normal_(layer.bias)
    history = an.fit(
        net, (x[:count], y[:count]), (test_x, test_y), loss=half_squared_distance, metrics=["accuracy"], batch_size=10,
        optimizer="sgd", lr=3.0, epochs=epochs, device=run.device, seed=run.seed, restore_best=False,
    )  # fmt: skip
    seen = an.reshape(net[1].weight.detach(), (30, 28, 28))
    run.picture(
        history_lines(history, "accuracy", "val_accuracy", title="accuracy by epoch (val: the test images)"),
        tiles(seen, title="what the hidden units look for", columns=10),
    )
    run.figure("test accuracy", 100 * history[-1]["val_accuracy"])


if __name__ == "__main__":
    main()
