"""Batch normalisation: the same network of sigmoids with it learns in hundreds of steps, without it in thousands.

Ioffe and Szegedy (2015), section 4.1: MNIST, three hidden layers of 100 sigmoids, batches of 60, W ~ N(0, 0.1²),
plain gradient descent with rate 0.1. Below: how the inputs of a last hidden unit move while the layers before it
learn (the paper's figure 1b).
"""

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, example, lines


def network(norm):
    """784-100-100-100-10, with or without batch normalisation before each sigmoid."""
    parts, width = [], 784
    for _ in range(3):
        parts += [nn.Linear(width, 100), *([nn.BatchNorm1d(100)] if norm else []), nn.Sigmoid()]
        width = 100
    net = nn.Sequential(*parts, nn.Linear(100, 10))
    for module in net:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.1)
            nn.init.zeros_(module.bias)
    return net


@example(
    topic="regularisation and normalisation",
    figures=[
        Figure("test accuracy after 1000 steps without", at_most=75.0, unit="%", source="53.7"),
        Figure("test accuracy after 250 steps with", at_least=86.0, unit="%", source="88.3"),
        Figure("test accuracy after 500 steps with", at_least=88.5, unit="%", source="89.8"),
        Figure("test accuracy after 1000 steps with", at_least=90.5, unit="%", source="91.8"),
    ],
)
def main(run):
    (x, y), (test_x, test_y) = run.data("mnist", "train", scaled=True), run.data("mnist", "test", scaled=True)
    n = run.pick(len(x), 3000)
    x, y = an.reshape(run.array(x[:n]), (n, 784)), run.array(y[:n])
    test_x, test_y = an.reshape(run.array(test_x[: n // 2]), (-1, 784)), run.array(test_y[: n // 2])
    steps, curves, moved = run.pick(3000, 100), [], []
    for name in ("with", "without"):
        net, at, accuracy, inputs = network(name == "with"), [], [], []
        optimizer = an.optim.SGD(net.parameters(), lr=0.1)
        for step in range(1, steps + 1):
            rows = an.random.integers(0, n, (60,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(an.take(x, rows, axis=0)), an.take(y, rows)).backward()
            optimizer.step()
            if step % (steps // 12) == 0:
                net.eval()
                with an.no_grad():
                    right = an.argmax(net(test_x), axis=1) == test_y
                    inputs.append(an.mean(net[:-2](test_x)[:, 0]).item())  # of the last sigmoid
                net.train()
                at.append(step)
                accuracy.append(100 * an.mean(an.astype(right, an.float32)).item())
                run.say(f"{name:7} step {step:4}: test accuracy {accuracy[-1]:.1f} %")
        curves.append(Series(f"{name} batch norm", at, accuracy))
        moved.append(Series(f"{name} batch norm", at, inputs))
        for step in (250, 500, 1000):
            nearest = min(range(len(at)), key=lambda i: abs(at[i] - step))
            if name == "with" or step == 1000:
                run.figure(f"test accuracy after {step} steps {name}", accuracy[nearest])
    run.picture(
        lines(curves, title="test accuracy in % by step", x_label="step"),
        lines(moved, title="mean input of a sigmoid of the last hidden layer, by step", x_label="step"),
    )


if __name__ == "__main__":
    main()
