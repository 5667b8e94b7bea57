"""Implicit regularisation: of all solutions gradient descent takes that of least norm, of largest margin, of lowest rank.

(a) least squares with more unknowns than equations, from 0; (b) logistic regression on separable data (iris: setosa
against the rest; Soudry et al. 2018); (c) deep matrix factorisation (Gunasekar et al. 2017, Arora et al. 2019).
"""

import math

import anynet as an
import anynet.nn.functional as F
from anynet import methods
from anynet.gallery import Figure, Series, example, lines


def least_squares(run):
    """The distance from X⁺y, in shares of its norm."""
    x, y = an.random.normal((20, 50), dtype="float64"), an.random.normal((20,), dtype="float64")
    rate = 1 / an.linalg.svdvals(x)[0].item() ** 2
    w, steps, distances = an.zeros((50,), dtype="float64"), [0], [1.0]
    for step in range(1, run.pick(4000, 400) + 1):
        w = w - rate * (x.mT @ (x @ w - y))
        if step % 50 == 0:
            steps.append(step)
            distances.append(methods.minimum_norm_distance(w, x, y))
    return Series("distance", steps, distances)


def logistic(run):
    """The margin of plain and of normalised gradient descent, in shares of the largest."""
    columns = dict(run.data("iris", "all"))
    labels = columns.pop(next(key for key in columns if isinstance(columns[key][0], str)))
    x = an.asarray([list(row) for row in zip(*columns.values(), strict=True)], dtype="float64")
    x = (x - an.mean(x, axis=0)) / an.std(x, axis=0)
    y = an.asarray([1.0 if "setosa" in label else -1.0 for label in labels], dtype="float64")
    best, signed, curves = methods.max_margin(x, y).margin, x * an.expand_dims(y, axis=1), []
    for kind in ("plain", "normalised"):
        w, steps, shares = an.zeros((4,), dtype="float64"), [], []
        for step in range(1, run.pick(100_000, 1000) + 1):
            m = signed @ w  # margins; the gradient divided by the loss has the weights of a softmax
            weights = F.sigmoid(-m) / len(labels) if kind == "plain" else F.softmax(-F.softplus(m), dim=0)
            w = w + weights @ signed
            if step in (10, 100, 1000) or step % 5000 == 0:
                steps.append(step)
                shares.append(methods.normalized_margin(w, x, y) / best)
        run.say(f"{kind}: {shares[-1]:.4f} of the largest margin after {steps[-1]} steps")
        curves.append(Series(kind, steps, shares))
    return curves


def factorisation(run, target, seen, depth):
    """The error on entries that were not seen, by step; and the effective rank at the end."""
    n, steps = target.shape[0], run.pick(10_000, 300)
    net = methods.DeepMatrixFactorization(n, n, depth=depth, scale=1e-3, dtype="float64")
    optimizer = an.optim.SGD(net.parameters(), lr={1: 0.3, 2: 0.03, 3: 0.01}[depth])
    at, errors, unseen = [], [], an.sum(1.0 - seen).item()
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        rest = net() - target
        (0.5 * an.sum(seen * rest * rest)).backward()
        optimizer.step()
        if step % (steps // 50) == 0:
            at.append(step)
            errors.append(math.sqrt(an.sum((1.0 - seen) * rest * rest).item() / unseen))
    rank = methods.effective_rank(net())
    run.say(f"depth {depth}: error {errors[-1]:.4f} on unseen entries, effective rank {rank:.2f}")
    return Series(f"depth {depth}", at, errors), rank


@example(
    topic="research",
    figures=[
        Figure("distance from the solution of least norm", at_most=1e-12, form=".1e", source="2e-15"),
        Figure("share of the largest margin, normalised steps", at_least=0.998, source="0.999"),
        Figure("error on unseen entries, depth 3", at_most=0.01, source="0.0017 and 0.0030"),
        Figure("effective rank, depth 3", 1.9, 2.1, source="2.02; the truth has rank 2"),
        Figure("error on unseen entries, depth 1", at_least=0.5, source="1.01: nothing is learned of them"),
    ],
)
def main(run):
    norm, margins = least_squares(run), logistic(run)
    n = run.pick(30, 8)
    left, right = (an.random.normal(shape, dtype="float64") for shape in ((n, 2), (2, n)))
    target = left @ right / math.sqrt(2)
    order = an.argsort(an.random.uniform((n * n,), dtype="float64"))
    seen = an.reshape(an.astype(order < n * n // 3, an.float64), (n, n))
    made = {depth: factorisation(run, target, seen, depth) for depth in (1, 2, 3)}
    run.picture(
        lines([norm], title="(a) distance from the solution of least norm", log_y=True, x_label="step"),
        lines(margins, title="(b) margin, in shares of the largest", log_x=True, x_label="step"),
        lines([s for s, _ in made.values()], title="(c) error on unseen entries", log_y=True, x_label="step"),
    )
    run.figure("distance from the solution of least norm", norm.y[-1])
    run.figure("share of the largest margin, normalised steps", margins[1].y[-1])
    run.figure("error on unseen entries, depth 3", made[3][0].y[-1])
    run.figure("effective rank, depth 3", made[3][1])
    run.figure("error on unseen entries, depth 1", made[1][0].y[-1])


if __name__ == "__main__":
    main()
