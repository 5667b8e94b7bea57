"""A mixture density network gives several answers where there are several: Bishop's inverse problem.

x = t + 0.3 sin 2πt + ε, ε uniform in ±0.1. To predict t from x is to choose between up to three branches: a network of one Gaussian puts
its mean between them, a mixture follows each (C. Bishop, "Mixture density networks", 1994).
"""

import math

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, example, heat_map, lines
from anynet.methods import GaussianHead, MixtureDensityHead, negative_log_likelihood


def pairs(n):
    t = an.random.uniform((n, 1))
    return t + 0.3 * an.sin(2 * math.pi * t) + an.random.uniform((n, 1), low=-0.1, high=0.1), t


@example(
    topic="probability",
    figures=[
        Figure("test −ln p, one Gaussian", form=".3f"),
        Figure("test −ln p, mixture", at_most=-0.9, form=".3f", quick=0.2),
        Figure("gain by the mixture", at_least=0.5, unit="nats", form=".3f"),
    ],
)
def main(run):
    (x, t), (test_x, test_t) = pairs(run.pick(1000, 200)), pairs(1000)
    epochs, scores, curves, nets = run.pick(600, 60), {}, [], {}
    for name, head in (
        ("one Gaussian", GaussianHead(32)),
        ("mixture", MixtureDensityHead(32, components=5, least=0.01)),
    ):
        net = nets[name] = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), head)
        optimizer = an.optim.Adam(net.parameters(), lr=0.01)
        schedule = an.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        losses = []
        for epoch in range(1, epochs + 1):
            loss = negative_log_likelihood(net(x), t)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            run.progress(epoch, epochs, f"{name}: −ln p {losses[-1]:.4f}", times=3)
        with an.no_grad():
            scores[name] = negative_log_likelihood(net(test_x), test_t).item()
        run.say(f"{name}: test −ln p {scores[name]:.4f}")
        run.figure(f"test −ln p, {name}", scores[name])
        curves.append(Series(name, list(range(1, epochs + 1)), losses))
    size = 24
    grid = an.linspace(0.0, 1.0, size)
    with an.no_grad():
        at = an.reshape(grid, (size, 1))
        drawn = {}
        for name, net in nets.items():
            logs = an.stack([net(at).log_prob(an.full((size, 1), v)) for v in reversed(grid.tolist())])
            drawn[name] = an.exp(logs - an.max(logs, axis=0)).tolist()  # of each x the likeliest t is 1
    names = [f"{v:.2f}" for v in grid.tolist()]
    run.picture(
        lines(curves, title="−ln p(t | x) by epoch", x_label="epoch"),
        *(
            heat_map(d, title=f"density of t (upwards) given x: {n}", rows=names[::-1], columns=names)
            for n, d in drawn.items()
        ),
    )
    run.figure("gain by the mixture", scores["one Gaussian"] - scores["mixture"])


if __name__ == "__main__":
    main()
