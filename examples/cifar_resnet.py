"""A small residual network on 4,000 colour pictures of CIFAR-10, with mirrored and shifted copies; 1,000 others are the test.

He, Zhang, Ren and Sun (2016). With 400 pictures a class and two minutes no network comes near the 91 % of the whole
data set; the figure is what this form must reach. The pictures are JPEGs (extra images).
"""

import anynet as an
from anynet.data import SOURCES
from anynet.data import transforms as T
from anynet.gallery import Figure, example, heat_map, history_lines, tiles


@example(
    topic="pictures",
    figures=[Figure("test accuracy", at_least=60.0, unit="%", quick=5.0)],
)
def main(run):
    name = "cifar10-jpeg-subset"
    (x, y), (test_x, test_y) = run.data(name, "train", scaled=True), run.data(name, "test", scaled=True)
    x, test_x = x.transpose(0, 3, 1, 2), test_x.transpose(0, 3, 1, 2)
    if run.quick:
        x, y, test_x, test_y = x[::20], y[::20], test_x[::10], test_y[::10]
    augment = T.Compose([T.RandomHorizontalFlip(), T.RandomCrop(32, padding=4, padding_mode="reflect")])
    net, size = (
        an.models.ResNet((1, 1, 1), num_classes=10, width=run.pick(16, 8), stem="cifar"),
        run.pick(64, 20),
    )

    def batches():
        order = an.random.permutation(len(x)).tolist()
        for i in range(0, len(order), size):
            yield augment(an.asarray(x[order[i : i + size]])), an.asarray(y[order[i : i + size]])

    history = an.fit(
        net, batches, (test_x, test_y), loss="cross_entropy", metrics=["accuracy"], lr=1e-2, scheduler="onecycle",
        steps_per_epoch=-(-len(x) // size), epochs=run.pick(20, 2), device=run.device, seed=run.seed, restore_best=False,
    )  # fmt: skip
    said, names = an.argmax(an.asarray(an.predict(net, test_x)), axis=-1).tolist(), SOURCES["cifar10"].classes
    table = [[0.0] * 10 for _ in range(10)]
    for label, answer in zip(test_y.tolist(), said, strict=True):
        table[label][answer] += 10 / len(said)
    run.picture(
        history_lines(
            history, "accuracy", "val_accuracy", title="accuracy by epoch (val: the test pictures)"
        ),
        heat_map(
            table,
            names,
            names,
            title="test pictures: what they are, what is said",
            row_label="is",
            column_label="said",
        ),
        tiles(
            test_x[:: len(said) // 10],
            [names[k] for k in said[:: len(said) // 10]],
            title="what is said of one of each",
        ),
    )
    run.figure("test accuracy", 100 * history[-1]["val_accuracy"])


if __name__ == "__main__":
    main()
