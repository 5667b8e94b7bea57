"""Backpropagation by hand: the well-known 2-2-2 network, every derivative of the chain rule beside autograd's.

    inputs (0.05, 0.10), targets (0.01, 0.99), sigmoid units, E = ½ Σ (t − o)², learning rate 0.5, biases held fixed.

Popular accounts of this example print E = 0.291027924 after one step. That number comes out when the output weights
are updated *before* the error is propagated through them. The gradient is the other one: 0.291027774.
"""

import anynet as an
from anynet.gallery import Figure, Series, example, lines, text_block

INPUTS, TARGETS = [0.05, 0.10], [0.01, 0.99]
W1, b1 = [[0.15, 0.20], [0.25, 0.30]], 0.35  # row: receiving neuron
W2, b2 = [[0.40, 0.45], [0.50, 0.55]], 0.60


def sigmoid(z):
    return 1 / (1 + an.exp(-z))


def forward(w1, w2):
    """Hidden and output activations and the total error."""
    i, t = an.asarray(INPUTS), an.asarray(TARGETS)
    h = sigmoid(an.matmul(w1, i) + b1)
    o = sigmoid(an.matmul(w2, h) + b2)
    return h, o, an.sum((t - o) ** 2) / 2


def by_hand(w1, w2, *, propagate_through=None):
    """∂E/∂W1, ∂E/∂W2 and every factor on the way; the error goes back through W2, or `propagate_through`."""
    h, o, error = forward(w1, w2)
    delta_o = (o - an.asarray(TARGETS)) * o * (1 - o)
    dE_dW2 = an.expand_dims(delta_o, axis=1) * h
    dE_dh = an.matmul((w2 if propagate_through is None else propagate_through).mT, delta_o)
    delta_h = dE_dh * h * (1 - h)
    dE_dW1 = an.expand_dims(delta_h, axis=1) * an.asarray(INPUTS)
    factors = {
        "∂E/∂o": o - an.asarray(TARGETS), "∂o/∂net_o": o * (1 - o), "∂E/∂net_o": delta_o, "∂E/∂W2": dE_dW2,
        "∂E/∂h": dE_dh, "∂h/∂net_h": h * (1 - h), "∂E/∂net_h": delta_h, "∂E/∂W1": dE_dW1,
    }  # fmt: skip
    return error, dE_dW1, dE_dW2, factors


def by_autograd(w1, w2):
    """The same derivatives, from `backward()`."""
    w1, w2, i, t = an.Parameter(w1.data), an.Parameter(w2.data), an.asarray(INPUTS), an.asarray(TARGETS)
    h = sigmoid(net_h := an.matmul(w1, i) + b1)
    o = sigmoid(net_o := an.matmul(w2, h) + b2)
    for kept in (net_h, h, net_o, o):
        kept.retain_grad()
    (error := an.sum((t - o) ** 2) / 2).backward()
    return error.detach(), {
        "∂E/∂o": o.grad, "∂E/∂net_o": net_o.grad, "∂E/∂W2": w2.grad,
        "∂E/∂h": h.grad, "∂E/∂net_h": net_h.grad, "∂E/∂W1": w1.grad,
    }  # fmt: skip


def train(steps, *, output_weights_first=False):
    """The error and the outputs after gradient descent; with `output_weights_first` the popular mistake."""
    w1, w2 = an.asarray(W1), an.asarray(W2)
    for _ in range(steps):
        _, g1, g2, _ = by_hand(w1, w2)
        if output_weights_first:
            _, g1, _, _ = by_hand(w1, w2, propagate_through=w2 - 0.5 * g2)
        w1, w2 = w1 - 0.5 * g1, w2 - 0.5 * g2
    _, o, error = forward(w1, w2)
    return error.item(), o


@example(
    topic="backpropagation",
    figures=[
        Figure("largest difference between hand and autograd", at_most=1e-16, form=".1e", quick=True),
        Figure("popular account's E after 1 step", 0.2910279235, 0.2910279245, form=".10f", quick=True),
        Figure("E after 1 step", 0.29102777369, 0.2910277737, form=".11f", quick=True),
        Figure("E after 10,000 steps", 3.51018778e-05, 3.51018779e-05, form=".9e"),
    ],
)
def main(run):
    an.dtypes.set_default_float("float64")
    error, _, _, hand = by_hand(an.asarray(W1), an.asarray(W2))
    same, auto = by_autograd(an.asarray(W1), an.asarray(W2))
    rows = [f"E = {error.item():.16f} (autograd: {same.item():.16f})"]
    for name, value in hand.items():
        rows.append(f"{name:11} by hand {value.tolist()}")
        rows += [f"{'':11} autograd {auto[name].tolist()}"] if name in auto else []
    away = max(float(an.max(an.abs(hand[k] - value))) for k, value in auto.items())
    run.figure("largest difference between hand and autograd", away)
    run.figure("popular account's E after 1 step", train(1, output_weights_first=True)[0])
    run.figure("E after 1 step", train(1)[0])
    steps = run.pick([0, 1, 10, 100, 1000, 10_000], [0, 1, 10])
    errors = [train(n)[0] for n in steps]
    run.figure("E after 10,000 steps", errors[-1])
    curve = Series("E", [max(n, 0.5) for n in steps], errors)
    run.say(chain := "\n".join(rows))
    run.picture(lines([curve], title="E by step", log_x=True), text_block(chain, title="chain rule"))


if __name__ == "__main__":
    main()
