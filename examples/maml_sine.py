"""MAML on sine waves: first weights from which one step on ten points fits a new wave.

Tasks y = a sin(x + φ), a in [0.1, 5], φ in [0, π], x in [−5, 5]; 1-40-40-1, one step of 0.01 inside, 25 tasks outside, Adam 1e-3. The
gradient goes through the inner step; beside it the first-order form, and a network trained on all tasks together, which learns their
mean. All tasks of an iteration are one `vmap`, and the whole iteration, second derivatives included, is compiled.
"""

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, example, lines
from anynet.methods import DifferentiableOptimizer, adapt
from anynet.nn import functional as F


def tasks(n, generator):
    """n tasks: ten points to learn from, ten to be scored on, (n, 10, 1) each."""
    a = an.random.uniform((n, 1, 1), low=0.1, high=5.0, generator=generator)
    phase = an.random.uniform((n, 1, 1), low=0.0, high=an.pi, generator=generator)
    x = an.random.uniform((2, n, 10, 1), low=-5.0, high=5.0, generator=generator)
    y = a * an.sin(x + phase)
    return x[0, ...], y[0, ...], x[1, ...], y[1, ...]


def query_loss(net, rule, steps=1, first_order=False):
    """The loss of a task's second ten points after steps on its first ten, as a function of the task."""

    def loss(x, y, queries, truth):
        fast = adapt(net, lambda f: F.mse_loss(f(x), y), steps=steps, optimizer=rule, first_order=first_order)
        return F.mse_loss(nn.functional_call(net, fast, queries), truth)

    return loss


def inner_rule(net):
    return DifferentiableOptimizer(lambda p: an.optim.SGD(p, lr=0.01), dict(net.named_parameters()))


def train(run, kind, iterations):
    an.random.manual_seed(run.seed)
    net = nn.Sequential(nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1))
    optimizer, rule = an.optim.Adam(net.parameters(), lr=1e-3), inner_rule(net)
    task_loss = query_loss(net, rule, steps=0 if kind == "joint" else 1, first_order=kind == "first order")

    def step(*batch):
        optimizer.zero_grad()
        loss = an.mean(an.vmap(task_loss)(*batch))
        loss.backward()
        optimizer.step()
        return loss

    step, draws, curve = an.compile(step), an.random.Generator(run.seed + 1), []
    for i in range(1, iterations + 1):
        loss = step(*tasks(25, draws))
        if i % max(1, iterations // 40) == 0:
            curve.append((i, loss.item()))
        run.progress(i, iterations, f"{kind}: loss {loss.item():.3f}", times=4)
    return net, curve


def error(net, steps, n):
    """The mean squared error of n new tasks after so many steps."""
    batch = tasks(n, an.random.Generator(12345))
    return an.mean(an.vmap(query_loss(net, inner_rule(net), steps, True))(*batch)).item()


@example(
    topic="few-shot learning",
    figures=[
        Figure("error of joint training after 1 step", form=".2f", source="2.62 in PyTorch"),
        Figure("error of first-order MAML after 1 step", at_most=1.3, form=".2f", source="0.99 in PyTorch, 4,000 iterations"),
        Figure("error of MAML after 10 steps", at_most=0.45, form=".2f", source="0.29 in PyTorch, 4,000 iterations"),
        Figure("error of MAML after 1 step", at_most=0.9, form=".2f", source="0.72 in PyTorch, 4,000 iterations"),
    ],
)  # fmt: skip
def main(run):
    iterations, n = run.pick(4000, 10), run.pick(1000, 10)
    nets, drawn = {}, []
    for kind in ("joint", "first order", "MAML"):
        nets[kind], curve = train(run, kind, iterations)
        drawn.append(Series(kind, [i for i, _ in curve], [v for _, v in curve]))
    run.figure("error of joint training after 1 step", error(nets["joint"], 1, n))
    run.figure("error of first-order MAML after 1 step", error(nets["first order"], 1, n))
    run.figure("error of MAML after 10 steps", error(nets["MAML"], 10, n))
    run.figure("error of MAML after 1 step", error(nets["MAML"], 1, n))
    x, y, _, _ = (part[0, ...] for part in tasks(1, an.random.Generator(4)))
    order, grid = an.argsort(x[:, 0]), an.linspace(-5.0, 5.0, 81)
    fits = [Series("the ten points", an.take(x[:, 0], order).tolist(), an.take(y[:, 0], order).tolist())]
    for steps in (0, 1, 10):
        fast = adapt(nets["MAML"], lambda f: F.mse_loss(f(x), y), steps=steps, first_order=True)
        shown = nn.functional_call(nets["MAML"], fast, grid[:, None])
        fits.append(Series(f"after {steps} steps", grid.tolist(), shown[:, 0].tolist()))
    run.picture(lines(drawn, title="loss by iteration"), lines(fits, title="a new wave"))


if __name__ == "__main__":
    main()
