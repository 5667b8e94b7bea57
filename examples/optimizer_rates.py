"""How fast gradient descent and momentum converge on a quadratic of condition 100: the rates of theory, to five digits.

f(x) = ½ Σ λᵢ xᵢ², λ from 1 to κ = 100. Gradient descent with rate 2/(1 + κ) shrinks the error by (κ − 1)/(κ + 1) a
step; heavy ball (Polyak 1964) with its best rate and momentum by (√κ − 1)/(√κ + 1) in the limit. The rates are
measured over late steps.
"""

import math

import anynet as an
from anynet.gallery import Figure, Series, example, lines

KAPPA, N = 100.0, 50
ROOT = math.sqrt(KAPPA)


def distances(make, steps):
    """|x| after each step."""
    scales = an.asarray([1.0 + (KAPPA - 1.0) * i / (N - 1) for i in range(N)])
    x = an.Parameter(an.ones((N,)))
    optimizer, found = make([x]), []
    for _ in range(steps):
        optimizer.zero_grad()
        (0.5 * an.sum(scales * x * x)).backward()
        optimizer.step()
        found.append(an.linalg.vector_norm(x.detach()).item())
    return found


@example(
    topic="optimisation",
    figures=[
        Figure(
            "rate of heavy ball",
            0.81,
            0.83,
            form=".4f",
            quick=True,
            source="0.8182 = (√κ − 1)/(√κ + 1) in the limit; measured 0.821",
        ),
        Figure(
            "rate of gradient descent", 0.980197, 0.980199, form=".6f", quick=True, source="99/101 = 0.980198"
        ),
    ],
)
def main(run):
    an.dtypes.set_default_float("float64")
    steps = 300
    ways = {
        "gradient descent": (lambda p: an.optim.SGD(p, lr=2 / (1 + KAPPA)), (KAPPA - 1) / (KAPPA + 1)),
        "heavy ball": (
            lambda p: an.optim.SGD(p, lr=(2 / (1 + ROOT)) ** 2, momentum=((ROOT - 1) / (ROOT + 1)) ** 2),
            (ROOT - 1) / (ROOT + 1),
        ),
        "Nesterov": (
            lambda p: an.optim.SGD(p, lr=1 / KAPPA, momentum=(ROOT - 1) / (ROOT + 1), nesterov=True),
            math.sqrt(1 - 1 / ROOT),
        ),
        "Adam, lr 0.1": (lambda p: an.optim.Adam(p, lr=0.1), None),
    }
    curves, rates = [], {}
    for name, (make, theory) in ways.items():
        found = distances(make, steps)
        late = found[100], found[-1]
        rates[name] = (late[1] / late[0]) ** (1 / (steps - 101)) if late[0] > 0 else 0.0
        said = "" if theory is None else f" (theory{', at most' if name == 'Nesterov' else ''} {theory:.6f})"
        run.say(f"{name:17} {rates[name]:.6f} a step{said}")
        curves.append(Series(name, range(1, steps + 1), found))
    run.picture(lines(curves, title="distance from the minimum by step, κ = 100", log_y=True))
    run.figure("rate of heavy ball", rates["heavy ball"])
    run.figure("rate of gradient descent", rates["gradient descent"])


if __name__ == "__main__":
    main()
