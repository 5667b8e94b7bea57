"""Recurrent layers and attention: errors, options, and training."""

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.ops import recurrent


@pytest.mark.parametrize("layer", [nn.RNN, nn.LSTM, nn.GRU])
def test_wrong_arguments(layer):
    name = layer.__name__
    with pytest.warns(UserWarning, match="one layer"):
        layer(3, 4, dropout=0.5)
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\]"):
        layer(3, 4, num_layers=2, dropout=1.5)
    with pytest.raises(ValueError, match="num_layers must be ≥ 1"):
        layer(3, 0)
    with pytest.raises(TypeError, match="integer"):
        layer(3, 4.0)
    net = layer(3, 4)
    with pytest.raises(nn.ShapeError, match=rf"(?s){name} 3→4.*\(steps, batch, 3\)"):
        net(an.ones((5, 2, 7)))
    with pytest.raises(nn.ShapeError, match="expected at least one step"):
        net(an.ones((0, 2, 3)))
    state = an.ones((2, 2, 4))
    with pytest.raises(nn.ShapeError, match=r"got h_0 \(2, 2, 4\): expected \(1, 2, 4\)"):
        net(an.ones((5, 2, 3)), (state, state) if name == "LSTM" else state)


def test_lstm_wants_a_pair():
    with pytest.raises(TypeError, match="pair"):
        nn.LSTM(3, 4)(an.ones((5, 2, 3)), an.ones((1, 2, 4)))
    with pytest.raises(ValueError, match=r"proj_size must be in \[0, hidden_size\), got 4"):
        nn.LSTM(3, 4, proj_size=4)
    with pytest.raises(ValueError, match="nonlinearity"):
        nn.RNN(3, 4, nonlinearity="sigmoid")


def test_empty_batch():
    y, (h, c) = nn.LSTM(3, 4)(an.ones((5, 0, 3)))
    assert (y.shape, h.shape, c.shape) == ((5, 0, 4), (1, 0, 4), (1, 0, 4))


def test_dropout_between_layers_acts_in_training_alone():
    an.random.manual_seed(0)
    net = nn.GRU(3, 4, num_layers=2, dropout=0.5)
    x = an.ones((5, 2, 3))
    first, second = net(x)[0], net(x)[0]
    assert not an.all(first == second)
    net.eval()
    assert an.all(net(x)[0] == net(x)[0])


@pytest.mark.parametrize("device", ["cpu", "strict:device1"])
def test_packed_sizes_equal_the_sequences_alone(device):
    """With `sizes` each row of a batch gets what it gets by itself, forward and backward in time."""
    an.random.manual_seed(0)
    net = nn.LSTM(3, 4, num_layers=2, bidirectional=True, dtype="float64").to(device)
    lengths = (5, 3, 2)
    sizes = tuple(sum(t < n for n in lengths) for t in range(5))
    x = an.random.normal((5, 3, 3), dtype="float64", device=device)
    zeros = [an.zeros((4, 3, 4), dtype="float64", device=device)] * 2
    y, (h, c) = net._run(x, zeros, sizes)
    for i, n in enumerate(lengths):
        alone, (h1, c1) = net(x[:n, i : i + 1, :])
        assert float(an.max(an.abs(y[:n, i : i + 1, :] - alone))) < 1e-14
        assert float(an.max(an.abs(h[:, i : i + 1, :] - h1))) < 1e-14
        assert float(an.max(an.abs(c[:, i : i + 1, :] - c1))) < 1e-14


@pytest.mark.parametrize("layer", [nn.RNN, nn.LSTM, nn.GRU])
def test_learns_to_remember_the_first_bit(layer):
    an.random.manual_seed(1)
    net, head = layer(1, 16), nn.Linear(16, 2)
    optimizer = an.optim.Adam([*net.parameters(), *head.parameters()], lr=0.02)
    x = an.astype(an.random.uniform((6, 64, 1)) > 0.5, an.float32)
    y = an.astype(x[0, :, 0], an.int64)

    @an.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = an.losses.cross_entropy(head(net(x)[0][-1, ...]), y)
        loss.backward()
        optimizer.step()
        return loss

    losses = [step(x, y).item() for _ in range(120)]
    assert losses[-1] < 0.1 < losses[0]
    assert step.recorded == 1


def test_wrong_masks():
    net = nn.MultiheadAttention(4, 2)
    x = an.ones((3, 2, 4))
    with pytest.raises(ValueError, match="attn_mask must have shape"):
        net(x, x, x, attn_mask=an.zeros((2, 2)))
    with pytest.raises(ValueError, match="key_padding_mask must have shape"):
        net(x, x, x, key_padding_mask=an.zeros((3, 2), dtype="bool"))
    with pytest.raises(TypeError, match="boolean or of floating"):
        net(x, x, x, attn_mask=an.zeros((3, 3), dtype="int64"))
    with pytest.raises(ValueError, match="give attn_mask too"):
        net(x, x, x, is_causal=True)
    with pytest.raises(nn.ShapeError, match="key"):
        net(x, an.ones((3, 2, 5)), x)
    with pytest.raises(ValueError, match="multiple"):
        nn.MultiheadAttention(5, 2)
    sdpa = nn.functional.scaled_dot_product_attention
    with pytest.raises(ValueError, match="attn_mask must be None with is_causal"):
        sdpa(x, x, x, an.zeros((2, 2)), is_causal=True)
    with pytest.raises(ValueError, match="same width"):
        sdpa(x, an.ones((3, 2, 5)), x)
    with pytest.raises(ValueError, match="same number of heads"):
        sdpa(an.ones((3, 2, 4)), an.ones((2, 2, 4)), an.ones((2, 2, 4)), enable_gqa=True)
    with pytest.raises(ValueError, match=r"dropout_p must be in \[0, 1\]"):
        sdpa(x, x, x, dropout_p=-1)


def test_dropout_of_weights():
    an.random.manual_seed(0)
    net = nn.MultiheadAttention(4, 2, dropout=0.5)
    x = an.random.normal((6, 2, 4))
    for weights in (True, False):
        assert not an.all(net(x, x, x, need_weights=weights)[0] == net(x, x, x, need_weights=weights)[0])
    net.eval()
    a, b = net(x, x, x)[0], net(x, x, x, need_weights=False)[0]
    assert float(an.max(an.abs(a - b))) < 1e-6


def test_a_mean_of_dropped_attention_is_unbiased():
    an.random.manual_seed(0)
    q, k, v = (an.random.normal((4, 3), dtype="float64") for _ in range(3))
    sdpa = nn.functional.scaled_dot_product_attention
    total = sum(sdpa(q, k, v, dropout_p=0.3) for _ in range(4000)) / 4000
    assert float(an.max(an.abs(total - sdpa(q, k, v)))) < 0.05


def cells_in_a_loop(kind, steps=3):
    """A loss of all the states of a cell that goes over a sequence, its arguments, and the parameters."""
    cell = kind(5, 4)
    x = an.asarray(np.random.default_rng(0).normal(size=(8, steps, 5)).astype(np.float32))
    first = an.asarray(np.random.default_rng(1).normal(size=(8, 4)).astype(np.float32))

    def loss(x, first):
        state, total = (first, first) if kind is nn.LSTMCell else first, 0.0
        for t in range(x.shape[1]):
            state = cell(x[:, t, :], state)
            for part in state if isinstance(state, tuple) else (state,):
                total = total + an.sum(part * part * 0.5)
        return total

    return cell, loss, (x, first)


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
def test_a_loop_over_cells_is_the_layer_over_the_sequence(kind):
    cell, loss, (x, first) = cells_in_a_loop(kind)
    layer = {nn.RNNCell: nn.RNN, nn.LSTMCell: nn.LSTM, nn.GRUCell: nn.GRU}[kind](5, 4, batch_first=True)
    layer.load_state_dict({f"{name}_l0": p for name, p in cell.state_dict().items()})
    total = loss(x, first)
    total.backward()
    if kind is nn.LSTMCell:  # of the layer's cell states only the last is a result
        c = first
        states = []
        for t in range(x.shape[1]):
            y, (_, c) = layer(x[:, t : t + 1, :], ((first if t == 0 else states[-2])[None], c[None]))
            states += [y[:, 0, :], c := c[0]]
        expected = an.sum(an.stack(states) ** 2) * 0.5
    else:
        expected = an.sum(layer(x, first[None])[0] ** 2) * 0.5
    expected.backward()
    np.testing.assert_allclose(total.item(), expected.item(), rtol=1e-5)
    for name, p in cell.named_parameters():
        like = getattr(layer, f"{name}_l0").grad.numpy()
        np.testing.assert_allclose(p.grad.numpy(), like, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
def test_cells_in_a_loop_have_the_same_bits_compiled(kind):
    cell, loss, data = cells_in_a_loop(kind)

    def step(x, first):
        cell.zero_grad()
        y = loss(x, first)
        y.backward()
        return y, {name: p.grad for name, p in cell.named_parameters()}

    compiled = an.compile(step)
    for _ in range(30):  # operations become machine code on the way
        y, grads = step(*data)
    grads = {name: g.numpy().copy() for name, g in grads.items()}
    for _ in range(3):
        z, others = compiled(*data)
    assert z.item() == y.item()
    for name, g in grads.items():
        np.testing.assert_array_equal(others[name].numpy(), g)


@pytest.mark.parametrize("name", ["gru_cell", "lstm_cell"])
def test_cells_under_vmap(name):
    function = getattr(recurrent, name)
    gates = 3 if name == "gru_cell" else 4
    rng = np.random.default_rng(0)
    a, b, h = (an.asarray(rng.normal(size=s)) for s in ((6, 2, gates * 3), (2, gates * 3), (6, 2, 3)))
    mapped = an.vmap(function, in_axes=(0, None, 0))(a, b, h)
    for i in range(6):
        np.testing.assert_allclose(mapped[i].numpy(), function(a[i], b, h[i]).numpy(), rtol=1e-12)
