"""Convex against trained: the exact optimum of a two-layer ReLU network, with a proof, beside what Adam finds.

½‖f(X) − y‖² + (β/2)‖θ‖² over networks of any width is a convex program (Pilanci and Ergen 2020). Its dual gives a number
below which no network of the kind can come, however it is trained.
"""

import numpy as np

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, bars, example, lines, scatter
from anynet.methods import certificate, convex_two_layer


def trained(x, y, beta, width, steps):
    net = nn.Sequential(nn.Linear(2, width, bias=False), nn.ReLU(), nn.Linear(width, 1, bias=False)).to(
        "float64"
    )
    optimizer = an.optim.Adam(net.parameters(), lr=0.05)
    schedule = an.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        rest = net(x)[:, 0] - y
        (0.5 * an.sum(rest * rest) + beta / 2 * sum(an.sum(p * p) for p in net.parameters())).backward()
        optimizer.step()
        schedule.step()
    return net


def with_ones(values):
    return an.stack([values, an.ones_like(values)], axis=1)


@example(
    topic="research",
    figures=[
        Figure("optimum of 5 points", 0.010116825, 0.010116835, form=".8f", quick=True, source="cvxpy"),
        Figure("gap that the proof leaves", at_most=1e-8, form=".1e", quick=True),
        Figure("optimum of 20 points", 0.8631, 0.8632, form=".6f", source="0.863112"),
        Figure("best trained above the bound", 0.0, 0.005, form=".1e", source="0.86325 − 0.863112"),
        Figure("trained networks below the bound", 0, 0, quick=True),
    ],
)
def main(run):
    an.dtypes.set_default_float("float64")
    five = with_ones(an.asarray([-2.0, -1.0, 0.0, 1.0, 2.0])), an.asarray([1.0, -1.0, 1.0, 1.0, -1.0]), 1e-3
    places, noise = (an.asarray(row) for row in np.random.default_rng(0).normal(size=(2, 20)).tolist())
    twenty = with_ones(places), an.sin(3 * places) + 0.1 * noise, 0.05
    found, objectives, below, drawn = {}, {}, 0, []
    for name, (x, y, beta), widths in (
        ("5 points", five, [2, 5, 20]),
        ("20 points", twenty, run.pick([5, 50], [5])),
    ):
        found[name] = exact = convex_two_layer(x, y, beta, tolerance=1e-9)
        run.say(
            f"{name}: {exact.patterns} patterns, optimum in [{exact.bound:.8f}, {exact.objective:.8f}], {len(exact.signs)} neurons"
        )
        for width in widths:
            for _ in range(run.pick(3, 1)):
                net = trained(x, y, beta, width, run.pick(3000, 100))
                said = certificate(net, x, y, beta)
                below += said.objective < said.bound
                key = f"{name}, width {width}"
                if said.objective < objectives.get(key, (float("inf"),))[0]:
                    objectives[key] = said.objective, net
            run.say(f"{key}: best trained {objectives[key][0]:.6f}")
        grid = an.linspace(an.min(x[:, 0]).item() - 0.3, an.max(x[:, 0]).item() + 0.3, 200)
        curves = [
            ("convex", exact.network()),
            *((f"Adam, width {w}", objectives[f"{name}, width {w}"][1]) for w in widths),
        ]
        made = [
            Series(label, grid.tolist(), net.to(run.device)(with_ones(grid))[:, 0].tolist())
            for label, net in curves
        ]
        drawn.append(lines(made, title=f"{name}: the functions"))
        drawn.append(
            scatter(x[:, 0].tolist(), y.tolist(), title=f"{name}: the data", x_label="x", y_label="y")
        )
    ratios = {key: value / found[key.split(",")[0]].bound for key, (value, _) in objectives.items()}
    drawn.append(bars(list(ratios), list(ratios.values()), title="best trained / bound", log=True))
    run.picture(*drawn)
    best = min(value for key, (value, _) in objectives.items() if key.startswith("20"))
    run.figure("optimum of 5 points", found["5 points"].objective)
    run.figure("gap that the proof leaves", max(f.gap for f in found.values()))
    run.figure("optimum of 20 points", found["20 points"].objective)
    run.figure("best trained above the bound", best - found["20 points"].bound)
    run.figure("trained networks below the bound", below)


if __name__ == "__main__":
    main()
