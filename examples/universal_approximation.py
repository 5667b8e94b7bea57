"""Universal approximation: one hidden layer of tanh units comes as near to sin 3x as one likes, the more units the nearer.

Fitted by L-BFGS in float64 on 200 points of [-π, π]; the figure is the largest error on them (Cybenko 1989; Hornik
1991). Random first weights matter much: the best of three starts by the training loss is taken, which is what is
fitted.
"""

import math

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, bars, example, lines


def fitted(units, x, y, steps, starts):
    """The largest error of the best of three networks, and what it says."""
    found = []
    for _ in range(starts):
        net = nn.Sequential(nn.Linear(1, units), nn.Tanh(), nn.Linear(units, 1))
        optimizer = an.optim.LBFGS(
            net.parameters(), max_iter=steps, history_size=20, line_search_fn="strong_wolfe"
        )

        def closure(net=net, optimizer=optimizer):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(net(x), y)
            loss.backward()
            return loss

        optimizer.step(closure)
        said = net(x).detach()
        found.append((nn.functional.mse_loss(said, y).item(), an.max(an.abs(said - y)).item(), said))
    return min(found, key=lambda f: f[0])[1:]


@example(
    topic="what non-linearity buys",
    figures=[
        Figure("largest error with 2 units", at_least=0.5, source="1.00: two units cannot"),
        Figure("largest error with 8 units", at_most=0.1, source="0.044"),
        Figure("largest error with 32 units", at_most=0.05, quick=0.5, source="0.042"),
        Figure("largest error with 128 units", at_most=0.02, source="0.018"),
    ],
)
def main(run):
    an.dtypes.set_default_float("float64")
    x = an.reshape(an.linspace(-math.pi, math.pi, 200), (-1, 1))
    y = an.sin(3.0 * x)
    widths, errors, curves = [2, 8, 32, 128], [], []
    points = x[:, 0].tolist()
    for units in widths:
        error, said = fitted(units, x, y, run.pick(1000, 150), run.pick(3, 1))
        errors.append(error)
        curves.append(Series(f"{units} units", points, said[:, 0].tolist()))
        run.say(f"{units:3} units: largest error {error:.3f}")
    run.picture(
        lines([Series("sin 3x", points, y[:, 0].tolist(), dash=1), *curves], title="sin 3x and the networks"),
        bars([f"{units} units" for units in widths], errors, title="largest error", log=True),
    )
    for units, error in zip(widths, errors, strict=True):
        run.figure(f"largest error with {units} units", error)


if __name__ == "__main__":
    main()
