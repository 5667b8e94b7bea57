"""L1 and L2: the lasso leaves three of ten causes of diabetes, ridge shrinks all of them.

The lasso by proximal steps (ISTA) on (1/2n)‖Xw − y‖² + α‖w‖₁, with the weights that scikit-learn finds for α = 1;
ridge by weight decay, which is gradient descent on ‖Xw − y‖² + ‖w‖² against its closed form (XᵀX + I)⁻¹Xᵀy.
"""

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, bars, example, lines

WANTED = {2: 367.7016, 3: 6.3097, 8: 307.6021}


def lasso(x, y, alpha, steps):
    """Proximal gradient steps: a step down the squares, then every weight α·rate nearer to 0. x and y are centred."""
    n, w = x.shape[0], an.zeros((x.shape[1],))
    rate = n / an.linalg.svdvals(x)[0].item() ** 2
    for _ in range(steps):
        w = w - rate / n * an.matmul(x.mT, an.matmul(x, w) - y)
        w = an.sign(w) * an.clip(an.abs(w) - alpha * rate, 0.0)
    return w


@example(
    topic="regularisation and normalisation",
    figures=[
        Figure("error of ridge against its closed form", at_most=1e-12, form=".1e", quick=True),
        Figure(
            "largest difference from the lasso's weights",
            at_most=1e-3,
            form=".1e",
            quick=True,
            source="scikit-learn",
        ),
    ],
)
def main(run):
    an.dtypes.set_default_float("float64")
    table = run.data("diabetes")
    y = an.asarray(table.pop("progression"), dtype=an.float64)
    x, names = (
        an.stack([an.asarray(column, dtype=an.float64) for column in table.values()], axis=1),
        list(table),
    )
    x, y = x - an.mean(x, axis=0), y - an.mean(y)
    x = x / an.sqrt(an.sum(x * x, axis=0))  # columns of length 1, as scikit-learn's
    weights = lasso(x, y, 1.0, 3000)
    run.say("lasso: " + ", ".join(f"{n} {w:.4f}" for n, w in zip(names, weights.tolist(), strict=True) if w))
    away = max(abs(w - WANTED.get(i, 0.0)) for i, w in enumerate(weights.tolist()))
    exact = an.linalg.solve(an.matmul(x.mT, x) + an.eye(10), an.matmul(x.mT, y))
    layer = nn.Linear(10, 1, bias=False)
    optimizer = an.optim.SGD(layer.parameters(), lr=0.09, weight_decay=2.0)  # of 2w, the gradient of ‖w‖²
    for _ in range(1000):
        optimizer.zero_grad()
        an.sum((layer(x)[:, 0] - y) ** 2).backward()
        optimizer.step()
    run.figure(
        "error of ridge against its closed form",
        an.max(an.abs(layer.weight[0] - exact)) / an.max(an.abs(exact)),
    )
    alphas = [3.0, 2.0, 1.5, 1.0, 0.5, 0.2, 0.1]
    path = [lasso(x, y, alpha, run.pick(1000, 100)).tolist() for alpha in alphas]
    run.picture(
        lines(
            [Series(n, alphas, [w[i] for w in path]) for i, n in enumerate(names)],
            title="lasso: weights by α",
            log_x=True,
        ),
        bars(names, exact.tolist(), title="ridge, λ = 1"),
    )
    run.figure("largest difference from the lasso's weights", away)


if __name__ == "__main__":
    main()
