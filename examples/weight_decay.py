"""Weight decay against overfitting: a polynomial of degree 15 through 20 noisy points, wild without and tame with it.

The decay is chosen by 20 other noisy points; the figure is the error on the curve itself, sin 3x.
"""

import math

import anynet as an
from anynet.gallery import Figure, Series, bars, example, lines


def polynomial(run):
    """Errors on the curve for each weight decay, and which the validation part chooses."""
    points = an.random.uniform((40,), low=-1.0, high=1.0)
    powers = lambda t: an.stack([t**k for k in range(1, 16)], axis=1)  # noqa: E731
    noisy = an.sin(3.0 * points) + 0.3 * an.random.normal((40,))
    grid = an.linspace(-1.0, 1.0, 200)
    decays, found = [0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0], []
    for decay in decays:
        a = an.concat([an.ones((20, 1)), powers(points[:20])], axis=1)
        w = an.linalg.solve(an.matmul(a.mT, a) + (decay + 1e-12) * an.eye(16), an.matmul(a.mT, noisy[:20]))
        said = lambda t, w=w: w[0] + an.matmul(powers(t), w[1:])  # noqa: E731
        held_out = an.mean((said(points[20:]) - noisy[20:]) ** 2).item()
        found.append(
            (held_out, math.sqrt(an.mean((said(grid) - an.sin(3.0 * grid)) ** 2).item()), said(grid).tolist())
        )
        run.say(f"degree 15, weight decay {decay:g}: error on the curve {found[-1][1]:.3f}")
    best = min(range(len(decays)), key=lambda i: found[i][0])
    return grid, found, decays, best


@example(
    topic="regularisation and normalisation",
    figures=[
        Figure(
            "error without decay / error with",
            at_least=1.5,
            form=".2f",
            quick=True,
            source="the curve is found again",
        )
    ],
)
def main(run):
    an.dtypes.set_default_float("float64")
    grid, found, decays, best = polynomial(run)
    x = grid.tolist()
    curves = [Series(f"decay {decays[i]:g}", x, found[i][2]) for i in (0, best)]
    run.picture(
        lines(
            [*curves, Series("sin 3x", x, an.sin(3.0 * grid).tolist(), dash=1)],
            title="degree 15, 20 points",
            y_range=(-2, 2),
        ),
        bars(
            [f"decay {d:g}" for d in decays],
            [f[0] for f in found],
            title="mean squared error on the points held out",
            log=True,
        ),
    )
    run.say(f"chosen by the points held out: {decays[best]:g}")
    run.figure("error without decay / error with", found[0][1] / found[best][1])


if __name__ == "__main__":
    main()
