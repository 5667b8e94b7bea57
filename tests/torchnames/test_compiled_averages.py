"""Compiled steps of PyTorch's scripts that move constants: averages of weights, target networks, code books, in the usual spellings."""

import copy
import warnings

import pytest

import anynet as an
import anynet.torch as torch

F = torch.nn.functional


def by_names(p, t):
    old, up = t.data, p.data
    t.data = old * 0.9 + 0.1 * up


def each(move):
    def update(net, average):
        for p, t in zip(net.parameters(), average.parameters(), strict=True):
            move(p, t)

    return update


@torch.no_grad()
def copied(p, t):
    t.copy_(t * 0.9 + p * 0.1)


@torch.no_grad()
def in_place(p, t):
    t *= 0.9
    t += 0.1 * p


@torch.no_grad()
def items(p, t):
    t[:] = t * 0.9 + p * 0.1


def lists(net, average):
    with torch.no_grad():
        old, new = list(average.parameters()), list(net.parameters())
        torch._foreach_mul_(old, 0.9)
        torch._foreach_add_(old, new, alpha=0.1)


def interpolated(net, average):
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 0.1)


def of_states(net, average):
    """As in timm: of the states of both, buffers included."""
    with torch.no_grad():
        new = net.state_dict()
        for key, value in average.state_dict().items():
            value.copy_(value * 0.9 + 0.1 * new[key].detach())


def loaded(net, average):
    new, old = net.state_dict(), average.state_dict()
    average.load_state_dict({k: new[k] * 0.1 + old[k] * 0.9 for k in new})


SPELLINGS = {
    "data": each(lambda p, t: setattr(t, "data", t.data * 0.9 + 0.1 * p.data)),
    "data, by names": each(by_names),
    "data.mul_": each(lambda p, t: t.data.mul_(0.9).add_(p.data, alpha=0.1)),
    "data.lerp_": each(lambda p, t: t.data.lerp_(p.data, 0.1)),
    "data.copy_": each(lambda p, t: t.data.copy_(t * 0.9 + p.detach() * 0.1)),
    "detach": each(lambda p, t: t.detach().mul_(0.9).add_(0.1 * p.detach())),
    "copy_": each(copied),
    "operators": each(in_place),
    "items": each(items),
    "lists": lists,
    "lists, interpolated": interpolated,
    "states": of_states,
    "loaded": loaded,
}


def shown(*tensors):
    return [t.detach().numpy().tobytes() for t in tensors]


def train(update, how, between=lambda k, net, average: [], n=6):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    average = copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)

    @how
    def step(x):
        loss = ((net(x) - average(x) - 1) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        update(net, average)
        return loss

    found, held = [], []
    for k in range(n):
        found += shown(step(torch.tensor([[k, 1.0], [2.0, -k]])))
        held.append(between(k, net, average))
        found += [v for views in held for v in shown(*views)]
    return found + shown(*average.parameters(), *net.parameters()), step


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_constant_average_is_moved(name):
    found, step = train(SPELLINGS[name], an.compile)
    assert found == train(SPELLINGS[name], lambda f: f)[0]
    assert step.recorded == 1


def states(k, net, average):
    return [*average.state_dict().values(), *net.state_dict().values()]


def views(k, net, average):
    return [v for p in average.parameters() for v in (p.data, p[0], p.view(-1), p.detach()[:1], p.clone())]


def one_state(k, net, average):
    return states(k, net, average) if k == 1 else []


def arrays(k, net, average):
    return [torch.from_numpy(p.numpy()) for p in average.parameters()]


def parted(k, net, average):
    for p in average.parameters():
        p.data = p.data.clone()
    return states(k, net, average) if k % 2 else []


@pytest.mark.parametrize("between", [states, views, one_state, arrays, parted])
@pytest.mark.parametrize("name", SPELLINGS)
def test_what_shows_an_average_shows_it_as_without_compiling(name, between):
    """State that is taken between steps, views, what was detached, and arrays of NumPy, all of which are kept."""
    found, step = train(SPELLINGS[name], an.compile, between)
    assert found == train(SPELLINGS[name], lambda f: f, between)[0]
    # what `load_state_dict` writes into in place is another array each time, if it is bound to one between the steps
    assert step.recorded == (6 if (name, between) == ("loaded", parted) else 1)


def test_views_that_were_there_before():
    def run(how):
        buffer = torch.tensor([1.0, 2.0, 3.0])
        views = [buffer[1:], buffer.data, buffer.detach(), buffer.view(3, 1)]

        @how
        def step(x):
            buffer.mul_(0.5).add_(x)
            y = buffer * 2
            buffer.data = y + x
            return y

        found = []
        for k in range(5):
            found += shown(step(torch.tensor([k, 1.0, -1.0])), buffer, *views)
            if k == 2:
                views.append(buffer[:2])
        return found

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(an.compile) == run(lambda f: f)


def test_weights_that_two_networks_share():
    def run(how):
        torch.manual_seed(0)
        one, two = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
        two.weight = one.weight
        for m in (one, two):
            m.requires_grad_(False)

        @how
        def step(x):
            y = two(x)
            one.weight.data.mul_(0.9).add_(y.mean(), alpha=0.1)
            two.bias.data = two.bias.data + one.bias.data
            return one(y)

        found = []
        for k in range(5):
            found += shown(step(torch.tensor([[k, 1.0]])), *two.parameters(), *one.parameters())
        return found, step

    found, step = run(an.compile)
    assert found == run(lambda f: f)[0]
    assert step.recorded == 1


def test_a_parameter_takes_the_array_of_another():
    """They share it from then on, also where the optimizer writes: that is no result of a program."""
    net = torch.nn.Linear(2, 1)
    average = copy.deepcopy(net).requires_grad_(False)

    @an.compile
    def step():
        average.weight.data = net.weight.data

    with pytest.raises(an.CompileError, match=r"a Parameter of shape .* bound to a new array"):
        step()


def test_what_is_returned_shares_memory():
    average = torch.nn.Linear(2, 1).requires_grad_(False)

    @an.compile
    def step():
        average.weight.data.mul_(0.5)
        return average.weight.data

    with pytest.raises(an.CompileError, match="a result shares memory with what a Tensor"):
        step()


def test_a_code_book():
    """As in VQ-VAE with averages: buffers in place, and the weights of an embedding by `copy_`."""

    def run(how):
        torch.manual_seed(0)
        book = torch.nn.Embedding(4, 2)
        book.weight.requires_grad = False
        size, sums = torch.zeros(4), book.weight.data.clone()
        layer = torch.nn.Linear(2, 2)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)

        @how
        def step(x):
            z = layer(x)
            near = torch.argmin(torch.cdist(z, book.weight), dim=1)
            chosen = F.one_hot(near, 4).to(z.dtype)
            q = chosen @ book.weight
            with torch.no_grad():
                size.mul_(0.9).add_(chosen.sum(0), alpha=0.1)
                sums.mul_(0.9).add_(chosen.t() @ z, alpha=0.1)
                book.weight.data.copy_(sums / (size + 0.1)[:, None])
            loss = F.mse_loss(z, q)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        found = []
        for k in range(6):
            found += shown(step(torch.tensor([[k, 1.0], [0.5, -k]])), size, sums, book.weight, layer.weight)
        return found, step

    found, step = run(an.compile)
    assert found == run(lambda f: f)[0]
    assert step.recorded == 1


def test_running_statistics_that_are_written_through_a_state_that_is_held():
    """Which binds them to new arrays between the steps."""

    def run(how):
        norm = torch.nn.BatchNorm1d(2)
        step = how(lambda x: norm(x).detach())
        found = []
        for k in range(5):
            step(torch.tensor([[k, 1.0], [2.0, -k]]))
            held = norm.state_dict() if k == 1 else {}
            for v in held.values():
                v.mul_(2)
            found += shown(norm.running_mean, norm.running_var)
        return found

    with torch.no_grad():
        assert run(an.compile) == run(lambda f: f)


def test_what_is_printed_is_what_is_there(capsys):
    def run(how):
        average = torch.tensor([1.0, 2.0])

        @how
        def step(x):
            old = average.detach()
            print(old, average)
            average.mul_(0.5).add_(x)
            print(old, average, average.data)
            return average * 2

        found = [v for k in range(4) for v in shown(step(torch.tensor([k, 1.0])))]
        return found, capsys.readouterr().out, step

    *found, step = run(an.compile)
    assert found == list(run(lambda f: f)[:2])
    assert step.recorded == 1
