"""Vanishing gradients: of 20 layers the first learns nothing with sigmoids; tanh with Xavier's and ReLU with He's first weights do.

The ratio of the gradient's norm in the first and in the last hidden layer, on digits, before any training (Hochreiter
1991; Glorot and Bengio 2010; He et al. 2015).
"""

import itertools

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, bars, example, lines

KINDS = {
    "sigmoid": (nn.Sigmoid, nn.init.xavier_uniform_),
    "tanh": (nn.Tanh, nn.init.xavier_uniform_),
    "ReLU": (nn.ReLU, nn.init.kaiming_normal_),
    "leaky ReLU": (nn.LeakyReLU, nn.init.kaiming_normal_),
    "ELU": (nn.ELU, nn.init.kaiming_normal_),
}


def norms(kind, depth, x, labels):
    """The norm of the gradient of each layer's weights."""
    activation, start = KINDS[kind]
    widths = [64] + [100] * depth
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
    net = nn.Sequential(*[part for layer in layers for part in (layer, activation())], nn.Linear(100, 10))
    for layer in (*layers, net[-1]):
        start(layer.weight)
        nn.init.zeros_(layer.bias)
    nn.functional.cross_entropy(net(x), labels).backward()
    return [an.linalg.vector_norm(an.reshape(layer.weight.grad, (-1,))).item() for layer in layers]


@example(
    topic="depth",
    figures=[
        Figure("first / last gradient, 20 layers, tanh", 0.3, 4.0, form=".2g", quick=True, source="1.3"),
        Figure("first / last gradient, 20 layers, ReLU", 0.2, 4.0, form=".2g", quick=True, source="0.67"),
        Figure(
            "first / last gradient, 20 layers, sigmoid", at_most=1e-9, form=".1e", quick=True, source="6e-13"
        ),
    ],
)
def main(run):
    an.dtypes.set_default_float("float64")
    images, targets = run.data("digits", "train", scaled=True)
    x = an.astype(an.reshape(run.array(images[:256]), (256, 64)), an.float64)
    labels = run.array(targets[:256])
    depths, by_layer, ratios = run.pick([2, 5, 10, 20, 40], [5, 20]), [], {kind: [] for kind in KINDS}
    for kind in KINDS:
        for depth in depths:
            found = norms(kind, depth, x, labels)
            ratios[kind].append(found[0] / found[-1])
            if depth == 20:
                by_layer.append(Series(kind, range(1, 21), found))
        said = ", ".join(f"{r:.1e} at {d}" for d, r in zip(depths, ratios[kind], strict=True))
        run.say(f"{kind:11} first / last: {said}")
    at = depths.index(20)
    run.picture(
        lines(by_layer, title="norm of the gradient by layer, 20 layers", x_label="layer", log_y=True),
        lines([Series(k, depths, r) for k, r in ratios.items()], title="first / last by depth", log_y=True),
        bars(list(KINDS), [ratios[k][at] for k in KINDS], title="first / last, 20 layers", log=True),
    )
    for kind in ("tanh", "ReLU", "sigmoid"):
        run.figure(f"first / last gradient, 20 layers, {kind}", ratios[kind][at])


if __name__ == "__main__":
    main()
