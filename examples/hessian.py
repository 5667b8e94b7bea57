"""The Hessian in training: gradient descent goes to the edge of stability, where the largest eigenvalue is 2 / learning rate.

Full-batch gradient descent on digits with a tanh network and squared error (Cohen et al. 2021). Eigenvalues by
Lanczos's method on Hessian-vector products; the Hessian itself is never made.
"""

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, bars, example, lines
from anynet.methods import hessian_eigenvalues


@example(
    topic="optimisation",
    figures=[
        Figure(
            "largest eigenvalue · learning rate at the end, larger rate",
            1.8,
            2.4,
            source="2: the edge of stability",
        ),
        Figure(
            "largest eigenvalue · learning rate, smaller rate",
            at_most=1.9,
            source="below 2: it is not there yet",
        ),
        Figure("largest error bound of the last eigenvalues", at_most=0.05, form=".1e"),
    ],
)
def main(run):
    images, labels = run.data("digits", "train", scaled=True)
    count = run.pick(500, 100)
    x = an.reshape(an.asarray(images[:count], device=run.device), (-1, 64))
    y = an.astype(nn.functional.one_hot(an.asarray(labels[:count], device=run.device), 10), an.float32)
    steps, every, rates = run.pick(2000, 60), run.pick(100, 20), run.pick((0.25, 0.05), (0.25,))
    sharpness, losses = [], []
    for rate in rates:
        an.random.manual_seed(run.seed)
        net = nn.Sequential(nn.Linear(64, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 10))
        optimizer = an.optim.SGD(net.parameters(), lr=rate)
        at, largest, values = [], [], []

        def loss(output, target):
            return 0.5 * an.sum((output - target) ** 2) / target.shape[0]

        for step in range(steps + 1):
            optimizer.zero_grad()
            value = loss(net(x), y)
            if step % every == 0:
                found = hessian_eigenvalues(net, loss, x, y, count=6, iterations=25)
                at.append(step)
                largest.append(found.values[0])
                values.append(value.item())
                run.say(
                    f"rate {rate:g}, step {step:5}: loss {value.item():.5f}, largest eigenvalue {found.values[0]:.3f}"
                )
            value.backward()
            optimizer.step()
        sharpness.append(Series(f"rate {rate:g}", at, largest))
        losses.append(Series(f"rate {rate:g}", at, values))
        if rate == rates[0]:
            first = found
    edge = [Series(f"2 / {rate:g}", [0, steps], [2 / rate, 2 / rate]) for rate in rates]
    run.picture(
        lines([*sharpness, *edge[:1]], title="largest eigenvalue of the Hessian", x_label="step"),
        lines(losses, title="loss", x_label="step", log_y=True),
        bars(
            [f"λ{i + 1}" for i in range(6)],
            first.values,
            title=f"largest eigenvalues at the end, rate {rates[0]:g}",
        ),
    )
    tail = sharpness[0].y[-5:]
    run.figure("largest eigenvalue · learning rate at the end, larger rate", rates[0] * sum(tail) / len(tail))
    run.figure("largest eigenvalue · learning rate, smaller rate", rates[-1] * sharpness[-1].y[-1])
    run.figure("largest error bound of the last eigenvalues", max(first.bounds[:3]))


if __name__ == "__main__":
    main()
