"""The race of optimizers: how fast each lowers the loss, and what a step of each costs, on logistic regression of MNIST.

Kingma and Ba (2015), section 6.1: batches of 128, rates that fall as α/√t (Adagrad's own sum does that already). Of
each the best of three α is shown, by the training loss that is compared, as in the paper; a best at the edge of the
three is said.
"""

import math
import time

import anynet as an
from anynet import nn
from anynet.gallery import Figure, Series, bars, example, lines

OPTIMIZERS = {
    "Adam": (an.optim.Adam, {}, (0.03, 0.1, 0.3)),
    "Adagrad": (an.optim.Adagrad, {}, (0.03, 0.1, 0.3)),
    "Nesterov": (an.optim.SGD, {"momentum": 0.9, "nesterov": True}, (1.0, 1.5, 2.0)),
    "RMSprop": (an.optim.RMSprop, {}, (0.01, 0.03, 0.1)),
    "SGD": (an.optim.SGD, {}, (1.0, 3.0, 10.0)),
}

EDGE = "rates 0.1, 0.3 and 1.0 at first: 0.2759 with 1.0, the last of them; then larger ones (3.0: 0.2832)"


def trained(run, data, make, settings, rate, falls, epochs):
    """The mean training loss of each epoch, and microseconds a step."""
    net = nn.Sequential(nn.Linear(784, 10))
    nn.init.zeros_(net[0].weight)
    nn.init.zeros_(net[0].bias)
    start = time.perf_counter()
    history = an.fit(
        net, data, loss="cross_entropy", optimizer=lambda p: make(p, lr=rate, **settings), batch_size=128, epochs=epochs,
        scheduler=(lambda o: an.optim.LambdaLR(o, lambda t: 1 / math.sqrt(t + 1))) if falls else None, schedule_by="batch",
        device=run.device, seed=run.seed, progress=False,
    )  # fmt: skip
    steps = epochs * -(-len(data[0]) // 128)
    return [row["loss"] for row in history], (time.perf_counter() - start) / steps * 1e6


@example(
    topic="optimisation",
    figures=[
        Figure("training loss after 5 epochs, Adagrad", at_most=0.262, source=".257"),
        Figure("training loss after 5 epochs, Nesterov", at_most=0.275, source=".270", changed=EDGE),
        Figure("training loss after 5 epochs, RMSprop", at_most=0.29, source=".283"),
        Figure("training loss after 5 epochs, SGD"),
        Figure("training loss after 5 epochs, Adam", at_most=0.26, source=".256", quick=1.5),
    ],
)
def main(run):
    x, y = run.data("mnist", "train", scaled=True)
    count, epochs = run.pick(len(x), 3000), run.pick(5, 1)
    data, curves, costs, last = (x[:count].reshape(count, 784), y[:count]), [], {}, {}
    for name, (make, settings, rates) in OPTIMIZERS.items():
        rates = rates if not run.quick else rates[1:2]
        tries = [(*trained(run, data, make, settings, r, name != "Adagrad", epochs), r) for r in rates]
        losses, costs[name], rate = min(tries, key=lambda t: t[0][-1])
        last[name] = losses[-1]
        edge = " (at the edge of the three)" if rate in (rates[0], rates[-1]) else ""
        run.say(
            f"{name:9} {' '.join(f'{v:.3f}' for v in losses)}  α = {rate}{edge}, {costs[name]:.0f} µs a step"
        )
        curves.append(Series(f"{name}, {rate}", range(1, epochs + 1), losses))
    run.picture(
        lines(
            curves, title="convergence: mean training loss by epoch", x_label="epoch", whole=True, log_y=False
        ),
        bars(list(costs), list(costs.values()), title="cost: µs a step, all of training included"),
    )
    for figure in ("Adagrad", "Nesterov", "RMSprop", "SGD", "Adam"):
        run.figure(f"training loss after 5 epochs, {figure}", last[figure])


if __name__ == "__main__":
    main()
