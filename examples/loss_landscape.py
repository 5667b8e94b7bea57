"""The loss around a trained network, along two random directions scaled filter by filter: a basin with the network at its bottom.

Li, Xu, Taylor, Studer and Goldstein (2018). A network of one hidden layer on the digits; the same directions before
and after training.
"""

import math

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, example, heat_map, lines


@example(
    topic="optimisation",
    figures=[
        Figure("share of points above the trained network's loss", at_least=99.0, unit="%", quick=90.0),
        Figure("loss at the corner / at the bottom", at_least=10.0, quick=2.0),
    ],
)
def main(run):
    x, y = run.data("digits", "train", scaled=True)
    net, n = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)), run.pick(31, 7)
    data = (x, y)
    before = an.viz.Landscape(net, data, "cross_entropy", n=n, seed=run.seed)
    an.fit(
        net, data, loss="cross_entropy", epochs=run.pick(60, 15), device=run.device, seed=run.seed, lr=3e-3, batch_size=64, progress=False,
    )  # fmt: skip
    after = an.viz.Landscape(net, data, "cross_entropy", n=n, seed=run.seed)
    run.say(f"loss before {before.loss:.4f}, after {after.loss:.4f}")
    charts = []
    for name, found in (("before", before), ("after", after)):
        logs = [[math.log10(v + 1e-6) for v in row] for row in found.values]
        low, high = min(map(min, logs)), max(map(max, logs))
        shares = [[(v - low) / (high - low or 1.0) for v in row] for row in logs]
        places = ["" if i % 5 else f"{s:.1f}" for i, s in enumerate(found.steps)]
        charts.append(
            heat_map(
                shares,
                places,
                places,
                title=f"log of the loss {name} training: {10**low:.3g} to {10**high:.3g}",
            )
        )
    middle = n // 2
    cut = [
        Series(name, found.steps, found.values[middle])
        for name, found in (("before", before), ("after", after))
    ]
    run.picture(*charts, lines(cut, title="loss along the first direction", log_y=True))
    flat = [v for row in after.values for v in row]
    run.figure(
        "share of points above the trained network's loss",
        100 * sum(v >= after.loss for v in flat) / len(flat),
    )
    run.figure("loss at the corner / at the bottom", after.values[0][0] / after.loss)


if __name__ == "__main__":
    main()
