"""Why learning rates fall: with noisy gradients a constant rate stops at a distance from the minimum, 1/t goes on.

f(x) = ½x² with noise of variance 1 in the gradient, 20,000 runs at once. In the long run x has the variance η/(2 − η)
with a constant rate η, and 1/t with the rate 1/t (Robbins and Monro 1951): both exact. Below, the shapes of the
library's schedules.
"""

import anynet as an
from anynet.gallery import Figure, Series, example, lines
from anynet.optim import lr_scheduler as S


def variances(run, make, steps, count):
    """The mean of x² after each step."""
    x = an.Parameter(an.ones((count,)))
    optimizer, schedule = make([x])
    found, rates = [], []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        x.grad = x.detach() + an.random.normal((count,))
        optimizer.step()
        schedule.step()
        found.append(an.mean(x.detach() ** 2).item())
    return found, rates


@example(
    topic="optimisation",
    figures=[
        Figure(
            "variance with rate 0.2 over theory", 0.95, 1.05, form=".4f", quick=True, source="1: η/(2 − η)"
        ),
        Figure("variance with rate 1/t over theory", 0.95, 1.05, form=".4f", quick=True, source="1: 1/t"),
    ],
)
def main(run):
    an.dtypes.set_default_float("float64")
    steps, count = run.pick(1000, 200), 20_000
    decays = {
        "constant 0.2": lambda o: S.ConstantLR(o, factor=1.0),
        "1/t": lambda o: S.LambdaLR(o, lambda t: 5.0 / (t + 1)),
        "steps": lambda o: S.StepLR(o, steps // 4, gamma=0.3),
        "cosine": lambda o: S.CosineAnnealingLR(o, steps),
        "one cycle": lambda o: S.OneCycleLR(o, max_lr=0.5, total_steps=steps + 1),
        "exponential": lambda o: S.ExponentialLR(o, 0.01 ** (1 / steps)),
    }
    curves, shapes, last = [], [], {}
    for name, make in decays.items():

        def both(parameters, make=make):
            optimizer = an.optim.SGD(parameters, lr=0.2)
            return optimizer, make(optimizer)

        found, rates = variances(run, both, steps, count)
        at = range(1, steps + 1)
        curves.append(Series(name, at, found))
        shapes.append(Series(name, at, rates))
        last[name] = found[-1]
        run.say(f"{name:12} mean of x² after {steps} steps: {found[-1]:.6f}")
    run.picture(
        lines(curves, title="mean of x² by step", log_y=True, log_x=True),
        lines(shapes, title="learning rates by step", log_y=True),
    )
    run.figure("variance with rate 0.2 over theory", last["constant 0.2"] / (0.2 / 1.8))
    run.figure("variance with rate 1/t over theory", last["1/t"] * steps)


if __name__ == "__main__":
    main()
