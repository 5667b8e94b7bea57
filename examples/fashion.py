"""Fashion-MNIST with a small convolutional network, and what it mixes up: shirts with everything that is worn above.

Xiao, Rasul and Vollgraf (2017); their benchmark gives 91.6 % for two convolutions with pooling. Every sixth training
image is held out.
"""

import anynet as an
from anynet.data import SOURCES
from anynet.gallery import Figure, example, heat_map, history_lines


@example(
    topic="pictures",
    figures=[
        Figure("test accuracy", at_least=91.0, unit="%", quick=60.0, source="91.6 of the data's authors")
    ],
)
def main(run):
    (x, y), (test_x, test_y) = (
        run.data("fashion", "train", scaled=True),
        run.data("fashion", "test", scaled=True),
    )
    x, test_x, count = x[:, None], test_x[:, None], run.pick(60_000, 2000)
    net = an.models.SmallCNN(10, in_channels=1, size=28, width=run.pick(64, 32))
    history = an.fit(
        net, (x[:count], y[:count]), 1 / 6, loss="cross_entropy", metrics=["accuracy"], batch_size=64, lr=2e-3, scheduler="cosine",
        epochs=run.pick(5, 2), device=run.device, seed=run.seed,
    )  # fmt: skip
    count = run.pick(10_000, 1000)
    said = an.argmax(an.asarray(an.predict(net, test_x[:count])), axis=-1).tolist()
    table, names = [[0.0] * 10 for _ in range(10)], SOURCES["fashion"].classes
    for label, answer in zip(test_y[:count].tolist(), said, strict=True):
        table[label][answer] += 1.0
    shares = [[value / max(1.0, sum(row)) for value in row] for row in table]
    run.picture(
        history_lines(history, "accuracy", "val_accuracy", title="accuracy by epoch (val: held out)"),
        heat_map(
            shares,
            names,
            names,
            title="test images: what they are, what is said",
            row_label="is",
            column_label="said",
        ),
    )
    run.figure("test accuracy", 100 * sum(table[k][k] for k in range(10)) / count)


if __name__ == "__main__":
    main()
