"""Deep stacking: modules whose output weights have a closed form, each of which sees the digits and what the modules before it said.

Deng and Yu (2011, 2012). No backpropagation through modules: the hidden weights of each are improved through the closed
form. Hidden units and ridge are fixed beforehand; the test images are looked at for the curve alone.
"""

import anynet as an
from anynet.gallery import Figure, Series, example, heat_map, lines
from anynet.methods import DeepStackingNetwork


@example(
    topic="networks",
    figures=[
        Figure("test accuracy, all modules", at_least=96.0, unit="%", quick=75.0),
        Figure("test accuracy, one module", unit="%"),
        Figure(
            "training error, last / first module",
            at_most=0.6,
            quick=1.0,
            source="it falls from module to module",
        ),
    ],
)
def main(run):
    (a, labels), (b, truth) = (
        run.data("digits", "train", scaled=True),
        run.data("digits", "test", scaled=True),
    )
    x, test_x = (an.reshape(an.asarray(p, device=run.device), (-1, 64)) for p in (a, b))
    if run.quick:
        x, labels = x[:400], labels[:400]
    modules = run.pick(5, 2)
    net = DeepStackingNetwork(
        hidden=run.pick(100, 30), modules=modules, steps=run.pick(60, 5), ridge=1e-4, task="classification"
    )
    net.fit(x, labels)
    counts = list(range(1, modules + 1))
    train = [100 * net.score(x, labels, modules=k) for k in counts]
    test = [100 * net.score(test_x, truth, modules=k) for k in counts]
    for k, error in zip(counts, net.errors, strict=True):
        run.say(
            f"{k} modules: training error {error:.5f}, accuracy {train[k - 1]:.2f} %, test {test[k - 1]:.2f} %"
        )
    said, table = net.predict(test_x), [[0.0] * 10 for _ in range(10)]
    for label, answer in zip(truth.tolist(), said, strict=True):
        table[label][answer] += 1.0
    names = [str(k) for k in range(10)]
    shares = [[value / max(1.0, sum(row)) for value in row] for row in table]
    run.picture(
        lines(
            [Series("squared error", counts, net.errors)],
            title="training error by module",
            log_y=True,
            whole=True,
        ),
        lines(
            [Series("training", counts, train), Series("test", counts, test)],
            title="accuracy in % by module",
            whole=True,
        ),
        heat_map(shares, names, names, title="test images", row_label="is", column_label="said"),
    )
    run.figure("test accuracy, all modules", test[-1])
    run.figure("test accuracy, one module", test[0])
    run.figure("training error, last / first module", net.errors[-1] / net.errors[0])


if __name__ == "__main__":
    main()
