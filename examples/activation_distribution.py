"""The distribution of activations through 8 layers of 512: kept by He's and Xavier's first weights, gone with a standard deviation of 0.01.

Glorot and Bengio (2010), He et al. (2015). Inputs are standard normal; biases are zero. One drawing of weights
wanders (by a tenth or two in layer 8), so the figures of He's are means over ten drawings.
"""

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, example, histogram, lines


def layers(x, activation, start):
    """The pre-activations and the activations of each layer."""
    found = []
    for _ in range(8):
        layer = nn.Linear(x.shape[1], 512, bias=False)
        start(layer.weight)
        z = layer(x)
        x = activation(z)
        found.append((z, x))
    return found


def spread(z):
    """Standard deviation and excess kurtosis."""
    z = z - an.mean(z)
    variance = an.mean(z * z)
    return an.sqrt(variance).item(), (an.mean(z**4) / variance**2).item() - 3.0


def bins(values, n=40):
    """Edges and counts, for a chart."""
    values = an.reshape(values, (-1,))
    low, high = an.min(values).item(), an.max(values).item()
    place = an.clip(an.astype((values - low) / ((high - low) / n or 1.0), an.int64), 0, n - 1)
    return [low + (high - low) * i / n for i in range(n + 1)], [
        an.sum(an.astype(place == i, an.int64)).item() for i in range(n)
    ]


@example(
    topic="depth",
    figures=[
        Figure(
            "standard deviation in layer 8, tanh, σ = 0.01", at_most=1e-3, form=".1e", quick=True, source="0"
        ),
        Figure(
            "smallest standard deviation of pre-activations, He, ReLU", at_least=1.3, source="1.39", quick=1.1
        ),
        Figure(
            "largest standard deviation of pre-activations, He, ReLU", at_most=1.55, source="1.47", quick=1.8
        ),
        Figure("largest |excess kurtosis|, He, ReLU", at_most=0.2, source="0.2", quick=0.6),
    ],
)
def main(run):
    x = an.random.normal((run.pick(1000, 200), 512))
    cases = {
        "He, ReLU": (nn.functional.relu, lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu")),
        "Xavier, tanh": (an.tanh, nn.init.xavier_normal_),
        "σ = 0.01, tanh": (an.tanh, lambda w: nn.init.normal_(w, std=0.01)),
        "σ = 1, tanh": (an.tanh, nn.init.normal_),
    }
    curves, charts, spreads = [], [], {}
    with an.no_grad():
        for name, (activation, start) in cases.items():
            found = layers(x, activation, start)
            spreads[name] = [spread(z) for z, _ in found], [spread(y)[0] for _, y in found]
            run.say(f"{name:15} std of activations " + " ".join(f"{s:.3g}" for s in spreads[name][1]))
            curves.append(Series(name, range(1, 9), spreads[name][1]))
            shown = found[-1][0 if "ReLU" in name else 1]
            edges, counts = bins(shown)
            charts.append(histogram(edges, counts, title=f"layer 8, {name}", height=90))
        start = cases["He, ReLU"][1]
        draws = [[spread(z) for z, _ in layers(x, nn.functional.relu, start)] for _ in range(run.pick(10, 3))]
        before = [[sum(d[i][k] for d in draws) / len(draws) for k in range(2)] for i in range(8)]
    run.picture(
        lines(curves, title="standard deviation of the activations by layer", log_y=True, whole=True), *charts
    )
    run.figure("standard deviation in layer 8, tanh, σ = 0.01", spreads["σ = 0.01, tanh"][1][-1])
    run.figure("smallest standard deviation of pre-activations, He, ReLU", min(s for s, _ in before))
    run.figure("largest standard deviation of pre-activations, He, ReLU", max(s for s, _ in before))
    run.figure("largest |excess kurtosis|, He, ReLU", max(abs(k) for _, k in before))


if __name__ == "__main__":
    main()
