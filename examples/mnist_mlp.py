"""MNIST with a hidden layer of 128 ReLUs: the training curve by epoch, and the digits that it takes for others.

Adam 1e-3, batches of 128, 5 epochs. The test images are looked at after each epoch for the curve alone; nothing is
chosen by them.
"""

import anynet as an
from anynet import nn
from anynet.gallery import Figure, example, heat_map, history_lines, tiles


@example(
    topic="digits",
    figures=[Figure("test accuracy", at_least=97.0, unit="%", quick=80.0, source="97.15 to 97.22")],
)
def main(run):
    (x, y), (test_x, test_y) = run.data("mnist", "train", scaled=True), run.data("mnist", "test", scaled=True)
    test_x, test_y = test_x[: run.pick(10_000, 1000)], test_y[: run.pick(10_000, 1000)]
    count, epochs = run.pick(len(x), 6000), run.pick(5, 2)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    history = an.fit(
        net, (x[:count], y[:count]), (test_x, test_y), loss="cross_entropy", metrics=["accuracy"], batch_size=128, lr=1e-3,
        epochs=epochs, device=run.device, seed=run.seed, restore_best=False,
    )  # fmt: skip
    said = an.argmax(an.asarray(an.predict(net, test_x)), axis=-1).tolist()
    wrong = [i for i, label in enumerate(test_y.tolist()) if said[i] != label]
    table = [[0.0] * 10 for _ in range(10)]
    for label, answer in zip(test_y.tolist(), said, strict=True):
        table[label][answer] += 1.0
    shares = [[value / sum(row) for value in row] for row in table]
    names = [str(k) for k in range(10)]
    run.picture(
        history_lines(history, "accuracy", "val_accuracy", title="accuracy by epoch (val: the test images)"),
        history_lines(history, "loss", "val_loss", title="loss by epoch"),
        heat_map(
            shares,
            names,
            names,
            title="test images: what they are, what is said",
            row_label="is",
            column_label="said",
        ),
        tiles(
            test_x[wrong[:16]], [f"{test_y[i]}, not {said[i]}" for i in wrong[:16]], title="taken for others"
        ),
    )
    run.figure("test accuracy", 100 * history[-1]["val_accuracy"])


if __name__ == "__main__":
    main()
