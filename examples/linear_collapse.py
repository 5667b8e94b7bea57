"""A stack of linear layers is one linear layer: the product of its matrices gives the same outputs; a ReLU between undoes that.

W₃(W₂(W₁x + b₁) + b₂) + b₃ = (W₃W₂W₁)x + (W₃W₂b₁ + W₃b₂ + b₃), whatever is trained.
"""

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, bars, example, lines


def collapsed(layers):
    """The one layer that a row of linear layers is."""
    weight, bias = layers[0].weight, layers[0].bias
    for layer in layers[1:]:
        weight, bias = an.matmul(layer.weight, weight), an.matmul(layer.weight, bias) + layer.bias
    return weight, bias


@example(
    topic="what non-linearity buys",
    figures=[
        Figure(
            "loss of the best linear stack on XOR",
            0.2499,
            0.2501,
            quick=True,
            source="the best linear map says 1/2",
        ),
        Figure("loss on XOR with a ReLU between", at_most=1e-4, form=".1e"),
        Figure("difference between 20 layers and their product", at_most=1e-12, form=".1e", quick=True),
    ],
)
def main(run):
    an.dtypes.set_default_float("float64")
    depths, away = [2, 3, 5, 10, 20], []
    x = an.random.normal((64, 16))
    for depth in depths:
        layers = [nn.Linear(16, 16) for _ in range(depth)]
        weight, bias = collapsed(layers)
        y = nn.Sequential(*layers)(x)
        one = an.matmul(x, weight.mT) + bias
        away.append(an.max(an.abs(y - one)).item() / an.max(an.abs(y)).item())
        run.say(f"{depth:2} layers against one: largest difference {away[-1]:.1e} of the largest output")
    xor, wanted = (
        an.asarray([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]),
        an.asarray([[0.0], [1.0], [1.0], [0.0]]),
    )
    curves, last = [], {}
    for name, between in (("linear", nn.Identity), ("ReLU", nn.ReLU)):
        net = nn.Sequential(nn.Linear(2, 16), between(), nn.Linear(16, 16), between(), nn.Linear(16, 1))
        optimizer, losses = an.optim.Adam(net.parameters(), lr=0.01), []
        for _ in range(run.pick(2000, 500)):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(net(xor), wanted)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        curves.append(Series(name, range(1, len(losses) + 1), losses))
        last[name] = losses[-1]
        run.say(f"XOR, three layers with {name} between: loss {losses[-1]:.2e}")
    run.picture(
        lines(curves, title="XOR, mean squared error by step", log_y=True),
        bars([f"{d} layers" for d in depths], away, title="difference from one layer, relative"),
    )
    run.figure("loss of the best linear stack on XOR", last["linear"])
    run.figure("loss on XOR with a ReLU between", last["ReLU"])
    run.figure("difference between 20 layers and their product", away[-1])


if __name__ == "__main__":
    main()
