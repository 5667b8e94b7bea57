"""Dynamic time warping: series whose events come earlier or later are told apart, and averaged, after the best alignment.

Cylinder, bell and funnel (Saito 1994), made from their formula: 30 to learn from. One nearest neighbour, by Euclidean
distance and by DTW; and the average of funnels, by the point and by soft-DTW (Cuturi and Blondel 2017).
"""

import anynet as an
from anynet.gallery import Figure, Series, bars, example, lines
from anynet.methods import DTWNeighbors, soft_dtw

KINDS = ("cylinder", "bell", "funnel")


def series(kind, length):
    """A plateau, a rise or a fall of height 6 + η from a to b, in noise of deviation 1, standardised."""
    a = an.random.integers(length // 8, length // 4).item()
    b = min(a + an.random.integers(length // 4, 3 * length // 4).item(), length - 2)
    t = an.arange(length, dtype="float64")
    inside = an.astype(an.logical_and(t >= a, t <= b), an.float64)
    shape = {"cylinder": an.ones_like(t), "bell": (t - a) / (b - a), "funnel": (b - t) / (b - a)}[kind]
    height = 6 + an.random.normal((), dtype="float64")
    x = height * inside * shape + an.random.normal((length,), dtype="float64")
    return (x - an.mean(x)) / an.std(x)


def draw(count, length):
    labels = [KINDS[i % 3] for i in range(count)]
    return an.stack([series(kind, length) for kind in labels]), labels


def euclidean_error(x, labels, test_x, truth):
    squares = an.sum(test_x**2, axis=1)[:, None] + an.sum(x**2, axis=1) - 2 * test_x @ x.mT
    near = an.argmin(squares, axis=1).tolist()
    return sum(labels[i] != t for i, t in zip(near, truth, strict=True)) / len(truth)


def barycenter(x, gamma, steps, run):
    """The series with the least mean soft-DTW divergence from all of x."""
    z = an.Parameter(an.mean(x, axis=0).data)
    optimizer = an.optim.Adam([z], lr=0.05)
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        loss = soft_dtw(an.broadcast_to(z, x.shape), x, gamma)
        loss.backward()
        optimizer.step()
        run.progress(step, steps, f"soft-DTW {loss.item():.3f}", times=4)
    return z.detach()


@example(
    topic="sequences",
    figures=[
        Figure("error of 1-NN, DTW", at_most=0.02, source="0.000 to 0.007 (UCR 0.003)"),
        Figure("error of 1-NN, Euclidean", at_least=0.05, source="0.15 to 0.31 (UCR 0.148)"),
    ],
)
def main(run):
    length, draws = run.pick(128, 40), run.pick(3, 1)
    errors = {"Euclidean": [], "DTW": []}
    for _ in range(draws):
        x, labels = draw(run.pick(30, 15), length)
        test_x, truth = draw(run.pick(300, 30), length)
        errors["Euclidean"].append(euclidean_error(x, labels, test_x, truth))
        errors["DTW"].append(1 - DTWNeighbors().fit(x, labels).score(test_x, truth))
        run.say(", ".join(f"{name} {found[-1]:.4f}" for name, found in errors.items()))
    means = {name: sum(found) / draws for name, found in errors.items()}
    funnels = an.stack([series("funnel", length) for _ in range(run.pick(10, 4))])
    center = barycenter(funnels, 1.0, run.pick(30, 5), run)
    at = range(length)
    run.picture(
        lines([Series(kind, at, series(kind, length).tolist()) for kind in KINDS], title="one of each kind"),
        bars(list(means), list(means.values()), title="error of one nearest neighbour"),
        lines([Series(f"funnel {i}", at, funnels[i].tolist()) for i in range(4)], title="funnels to average"),
        lines(
            [Series("mean", at, an.mean(funnels, axis=0).tolist()), Series("soft-DTW", at, center.tolist())],
            title="their average: point by point, and by soft-DTW",
        ),
    )
    run.figure("error of 1-NN, DTW", means["DTW"])
    run.figure("error of 1-NN, Euclidean", means["Euclidean"])


if __name__ == "__main__":
    main()
