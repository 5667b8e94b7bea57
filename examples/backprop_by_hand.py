"""Backpropagation by hand: the well-known 2-2-2 network, every derivative of the chain rule beside autograd's.

    inputs (0.05, 0.10), targets (0.01, 0.99), sigmoid units, E = ½ Σ (t − o)², learning rate 0.5, biases held fixed.

Popular accounts of this example print E = 0.291027924 after one step. That number comes out when the output weights
are updated *before* the error is propagated through them. The gradient is the other one: 0.291027774.
"""

import anynet as an

an.dtypes.set_default_float("float64")
i = an.asarray([0.05, 0.10])
t = an.asarray([0.01, 0.99])
W1, b1 = [[0.15, 0.20], [0.25, 0.30]], 0.35  # row: receiving neuron
W2, b2 = [[0.40, 0.45], [0.50, 0.55]], 0.60


def sigmoid(z):
    return 1 / (1 + an.exp(-z))


def forward(w1, w2):
    """Hidden and output activations and the total error."""
    h = sigmoid(an.matmul(w1, i) + b1)
    o = sigmoid(an.matmul(w2, h) + b2)
    return h, o, an.sum((t - o) ** 2) / 2


def by_hand(w1, w2, *, propagate_through=None):
    """∂E/∂W1 and ∂E/∂W2 by the chain rule, and every factor on the way.

    `propagate_through` are the output weights through which the error goes back: W2 itself in the chain rule.
    """
    h, o, error = forward(w1, w2)
    back = w2 if propagate_through is None else propagate_through
    dE_do = o - t
    do_dnet = o * (1 - o)
    delta_o = dE_do * do_dnet
    dE_dW2 = an.expand_dims(delta_o, axis=1) * h
    dE_dh = an.matmul(back.mT, delta_o)
    dh_dnet = h * (1 - h)
    delta_h = dE_dh * dh_dnet
    dE_dW1 = an.expand_dims(delta_h, axis=1) * i
    factors = {
        "∂E/∂o": dE_do, "∂o/∂net_o": do_dnet, "∂E/∂net_o": delta_o, "∂E/∂W2": dE_dW2,
        "∂E/∂h": dE_dh, "∂h/∂net_h": dh_dnet, "∂E/∂net_h": delta_h, "∂E/∂W1": dE_dW1,
    }  # fmt: skip
    return error, dE_dW1, dE_dW2, factors


def by_autograd(w1, w2):
    """The same derivatives, from `backward()`."""
    w1, w2 = an.Parameter(w1.data), an.Parameter(w2.data)
    net_h = an.matmul(w1, i) + b1
    h = sigmoid(net_h)
    net_o = an.matmul(w2, h) + b2
    o = sigmoid(net_o)
    for kept in (net_h, h, net_o, o):
        kept.retain_grad()
    error = an.sum((t - o) ** 2) / 2
    error.backward()
    return error.detach(), {
        "∂E/∂o": o.grad, "∂E/∂net_o": net_o.grad, "∂E/∂W2": w2.grad,
        "∂E/∂h": h.grad, "∂E/∂net_h": net_h.grad, "∂E/∂W1": w1.grad,
    }  # fmt: skip


def train(steps, *, output_weights_first=False):
    """Gradient descent; with `output_weights_first` the popular mistake. Returns the error and the outputs."""
    w1, w2 = an.asarray(W1), an.asarray(W2)
    for _ in range(steps):
        _, g1, g2, _ = by_hand(w1, w2)
        if output_weights_first:
            _, g1, _, _ = by_hand(w1, w2, propagate_through=w2 - 0.5 * g2)
        w1, w2 = w1 - 0.5 * g1, w2 - 0.5 * g2
    _, o, error = forward(w1, w2)
    return error.item(), o


def main():
    w1, w2 = an.asarray(W1), an.asarray(W2)
    error, _, _, hand = by_hand(w1, w2)
    same, auto = by_autograd(w1, w2)
    print(f"E = {error.item():.16f} (autograd: {same.item():.16f})")
    for name, value in hand.items():
        print(f"{name:10} by hand {value.tolist()}")
        if name in auto:
            print(f"{'':10} autograd {auto[name].tolist()}")
    for label, first in (("the gradient", False), ("the popular account (output weights first)", True)):
        print(f"{label}: E after 1 step {train(1, output_weights_first=first)[0]:.9f}")
        end, o = train(10_000, output_weights_first=first)
        print(f"{'':4}after 10,000 steps {end:.9e}, outputs {o[0].item():.9f}, {o[1].item():.9f}")


if __name__ == "__main__":
    main()
