"""Double descent: the test error on digits rises to a peak where the fit becomes exact, and falls again far beyond it.

Least squares on random ReLU features, minimum-norm solution (Belkin et al. 2019); some ridge takes the peak away.
"""

import anynet as an
from anynet.gallery import Figure, Series, example, lines
from anynet.methods import double_descent


@example(
    topic="generalisation",
    figures=[
        Figure("width of the peak / samples", 0.9, 1.1, quick=True, source="1: the interpolation threshold"),
        Figure("error at the peak / error at the largest width", at_least=5.0, quick=2.0),
        Figure(
            "largest width / best width below the peak",
            at_most=1.0,
            source="Belkin et al.: below the classical best",
        ),
    ],
)
def main(run):
    (x, labels), (test_x, truth) = (
        run.data("digits", "train", scaled=True),
        run.data("digits", "test", scaled=True),
    )
    n = run.pick(200, 60)
    count = run.pick(355, 100)

    def columns(given):
        return an.nn.functional.one_hot(an.asarray(given, device=run.device), 10)

    x, test_x = (
        an.astype(an.reshape(an.asarray(p, device=run.device), (-1, 64)), an.float64)
        for p in (x[:n], test_x[:count])
    )
    y, test_y = (an.astype(columns(t), an.float64) for t in (labels[:n], truth[:count]))
    shares = run.pick(
        [0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.2, 1.5, 2, 3, 5, 10, 20],
        [0.2, 0.5, 1, 2, 8],
    )
    widths = [max(2, round(share * n)) for share in shares]
    curve = double_descent(x, y, test_x, test_y, widths, repeats=run.pick(5, 2))
    for point in curve:
        run.say(
            f"width {point.width:5}: train {point.train_error:.2e}, test {point.test_error:.4f}, norm {point.norm:.2f}"
        )
    ridge = double_descent(x, y, test_x, test_y, widths, ridge=0.3, repeats=run.pick(5, 2))
    errors = [point.test_error for point in curve]
    peak = max(range(len(errors)), key=errors.__getitem__)
    run.picture(
        lines(
            [Series("minimum norm", widths, errors), Series("with ridge", widths, [p.test_error for p in ridge])],
            title=f"test error by width, {n} samples", log_x=True, log_y=True, x_label="random features",
        ),
        lines([Series("training", widths, [max(p.train_error, 1e-12) for p in curve])], title="training error", log_x=True, log_y=True),
        lines([Series("‖u‖", widths, [p.norm for p in curve])], title="norm of the output weights", log_x=True, log_y=True),
    )  # fmt: skip
    run.figure("width of the peak / samples", widths[peak] / n)
    run.figure("error at the peak / error at the largest width", errors[peak] / errors[-1])
    run.figure("largest width / best width below the peak", errors[-1] / min(errors[:peak]))


if __name__ == "__main__":
    main()
