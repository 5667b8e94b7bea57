"""LeNet-5 on MNIST: 61,706 parameters that share what they see in every place, and the feature maps of one digit.

LeCun, Bottou, Bengio and Haffner (1998), 0.95 % of errors; here with ReLU and max-pooling,
Adam 2e-3 with a cosine, batches of 64, 3 epochs.
"""

import anynet as an
from anynet import nn
from anynet.gallery import Figure, example, history_lines, tiles


def lenet5():
    """28×28 → 6 maps → 16 maps → 120 → 84 → 10."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


@example(
    topic="digits",
    figures=[
        Figure("parameters", 61706, 61706, form=".0f", quick=True),
        Figure("test accuracy after 10,000 images", at_least=96.0, unit="%", source="96.4", quick=60.0),
        Figure("test accuracy", at_least=98.9, unit="%", source="99.07; LeCun 1998: 99.05"),
    ],
)
def main(run):
    (x, y), (test_x, test_y) = run.data("mnist", "train", scaled=True), run.data("mnist", "test", scaled=True)
    x, test_x, test_y = x[:, None], test_x[: run.pick(10_000, 1000), None], test_y[: run.pick(10_000, 1000)]
    found = {}
    for name, count, epochs in (("10,000", run.pick(10_000, 4000), run.pick(3, 1)), ("all", len(x), 3)):
        if run.quick and name == "all":
            continue
        an.random.manual_seed(run.seed)
        net = lenet5()
        history = an.fit(
            net, (x[:count], y[:count]), loss="cross_entropy", metrics=["accuracy"], batch_size=64, lr=2e-3, scheduler="cosine",
            epochs=epochs, device=run.device, seed=run.seed,
        )  # fmt: skip
        found[name] = an.evaluate(net, (test_x, test_y), loss="cross_entropy", metrics=["accuracy"])
        run.say(f"{name} training images: test accuracy {100 * found[name]['accuracy']:.2f} %")
    with an.no_grad():
        first = nn.functional.relu(net[0](run.array(test_x[:1])))
        second = nn.functional.relu(net[3](net[2](first)))
    run.picture(
        history_lines(history, "loss", title="loss by epoch"),
        tiles(net[0].weight.detach()[:, 0], title="the first filters", columns=12),
        tiles(first[0], title="what they see in a 7", columns=6),
        tiles(second[0], title="and those behind them", columns=8),
    )
    run.figure("parameters", sum(p.size for p in net.parameters()))
    run.figure("test accuracy after 10,000 images", 100 * found["10,000"]["accuracy"])
    run.figure("test accuracy", 100 * found.get("all", found["10,000"])["accuracy"])


if __name__ == "__main__":
    main()
