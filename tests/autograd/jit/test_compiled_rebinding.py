"""A compiled step binds constants to new arrays, as the function does: the same bits for all who hold the old ones or the new."""

import copy

import numpy as np
import pytest

import anynet as an
from anynet import nn


class Averages(nn.Module):
    """A constant parameter and a buffer that each call gives other values, as averages of weights and code books have them."""

    def __init__(self):
        self.weight = nn.Parameter(an.asarray([1.0, -2.0]), requires_grad=False)
        self.count = nn.Buffer(an.asarray([3.0, 4.0]))

    def forward(self, x):
        y = x * self.weight + self.count
        old = self.weight.detach()
        with an.no_grad():
            self.weight *= 0.5
            self.weight += an.mean(y.detach(), axis=0)
            self.count[0] = self.weight[1]
        return y * self.weight, old


def bits(*tensors):
    return [t.detach().numpy().tobytes() for t in tensors]


def both(run):
    """What `run` gives with the function as it is, which must be what it gives with the compiled one; and that."""
    made = []

    def how(f):
        made.append(an.compile(f))
        return made[-1]

    assert run(how) == run(lambda f: f)
    return made[0]


def batches(n=5):
    return [an.asarray(np.random.default_rng(k).normal(size=(3, 2)), dtype=an.float32) for k in range(n)]


def test_constants_are_given_other_values():
    """What was computed from the old values before, or shows them, keeps them."""

    def run(how):
        net, w = Averages(), nn.Parameter(an.asarray([0.5, 0.25]))

        @how
        def step(x):
            w.grad = None
            y, old = net(x * w)
            an.sum(y).backward()
            return y, old

        found, held = [], []
        for x in batches():
            y, old = step(x)
            held.append(old)
            found += bits(y, old, net.weight, net.count, w.grad)
        return found + bits(*held)

    assert both(run).recorded == 1


def moved(b, x):
    b.data = (b * 0.9 + an.mean(x, axis=0)).data


def read_before(b, x):
    before = b.detach()
    b *= 2.0
    b.data = (before + b).data


MOVES = {
    "data": moved,
    "operators": lambda b, x: b.__imul__(0.5).__iadd__(an.mean(x, axis=0)),
    "an item": lambda b, x: b.__setitem__(0, an.sum(x)),
    "a slice": lambda b, x: b.__setitem__(slice(1, None), an.mean(x)),
    "values before": read_before,
}


@pytest.mark.parametrize("name", MOVES)
def test_who_holds_the_old_array_keeps_its_values(name):
    """Another Tensor over the array, a view, what was detached, an array of NumPy, and the state between calls."""

    def run(how):
        b = nn.Buffer(an.asarray([1.0, 2.0]))
        another, view, detached, plain = an.Tensor(b.data), b[1:], b.detach(), b.numpy()
        step = how(lambda x: (MOVES[name](b, x), b * 2)[1])
        found, states = [], []
        for x in batches():
            found += bits(step(x), b)
            states += [b.detach(), b.numpy()]
            found += [*bits(another, view, detached), plain.tobytes()]
        return found + [s.numpy().tobytes() if isinstance(s, an.Tensor) else s.tobytes() for s in states]

    assert both(run).recorded <= 2


def test_an_array_that_two_tensors_share():
    """Both are read by the step, and one is bound to another array: from then on they share nothing."""

    def run(how):
        a, b = nn.Buffer(an.asarray([1.0, 2.0])), nn.Buffer(an.zeros(2))
        b.data = a.data

        @how
        def step(x):
            moved(a, x)
            return a * b

        return [v for x in batches() for v in bits(step(x), a, b)]

    assert both(run).recorded == 2


def test_a_tensor_that_is_given_the_array_of_another_between_calls():
    def run(how):
        a, b, w = (nn.Buffer(an.asarray([v, 2.0])) for v in (1.0, 3.0, 5.0))

        @how
        def step(x):
            w.assign_(w * 2 + an.mean(x, axis=0))  # in place
            moved(a, x)
            return a + b + w

        found = []
        for k, x in enumerate(batches(6)):
            if k == 2:
                b.data = a.data
            if k == 4:
                a.data = w.data
            found += bits(step(x), a, b, w)
        return found

    both(run)


def test_weights_that_two_modules_share():
    def run(how):
        one = Averages()
        two = Averages()
        two.weight = one.weight
        both = nn.Sequential(one, two)

        @how
        def step(x):
            y, _ = one(x)
            return two(an.tanh(y))[0]

        return [v for x in batches() for v in bits(step(x), *both.state_dict().values())]

    assert both(run).recorded == 1


def test_values_of_constants_are_exchanged():
    def run(how):
        a, b = (nn.Parameter(an.asarray([k, k + 0.5]), requires_grad=False) for k in (1.0, 2.0))

        @how
        def step():
            a.data, b.data = (b + 0.0).data, (a * 1.0).data

        found = []
        for _ in range(3):
            step()
            found += bits(a, b)
        return found

    assert both(run).recorded == 1


def test_values_that_are_set_between_calls():
    def run(how):
        net = Averages()
        first = copy.deepcopy(net.state_dict())
        step = how(net)
        found = []
        for k, x in enumerate(batches(6)):
            if k == 2:
                net.load_state_dict(first)
            if k == 3:
                net.weight.data = np.asarray([7.0, 8.0], dtype=np.float32)
            if k == 4:
                net.weight = nn.Parameter(an.asarray([-1.0, 3.0]), requires_grad=False)
            found += bits(*step(x), net.weight, net.count)
        return found

    assert both(run).recorded == 2  # with another parameter


def test_another_form_is_recorded_anew():
    b = nn.Buffer(an.ones((2, 3)))

    @an.compile
    def step():
        b.data = (b * 2).data

    step()
    b.data = np.ones((3, 2), np.float32).T
    step()
    b.data = np.ones((2, 3))
    step()
    assert step.recorded == 3
    assert b.dtype == an.float64
    assert an.all(b == 2.0)


def test_a_call_on_the_host_finds_what_was_bound(capsys):
    class Reading(an.optim.SGD):
        def step(self):
            print(self.watched.numpy().tolist())
            super().step()

    def run(how):
        net, w = Averages(), nn.Parameter(an.asarray([0.5, 0.25]))
        optimizer = Reading([w], lr=0.1)
        optimizer.watched = net.weight

        @how
        def step(x):
            optimizer.zero_grad()
            an.sum(net(x * w)[0]).backward()
            optimizer.step()
            net.count *= 3.0
            optimizer.step()

        for x in batches():
            step(x)
        return [capsys.readouterr().out, *bits(net.weight, net.count, w)]

    assert both(run).recorded == 1


def test_what_the_host_has_written_is_not_overlooked():
    class Writing(an.optim.SGD):
        def step(self):
            super().step()
            self.watched.assign_(self.watched * 2.0)

    def run(how):
        b, w = nn.Buffer(an.asarray([3.0, 4.0])), nn.Parameter(an.asarray([0.5, 0.25]))
        optimizer = Writing([w], lr=0.1)
        optimizer.watched = b

        @how
        def step(x):
            optimizer.zero_grad()
            an.sum(x * w * b).backward()
            optimizer.step()
            b.data = (b + 1.0).data
            return b * x

        return [v for x in batches(12) for v in bits(step(x), b, w)]

    with pytest.warns(UserWarning, match="had to be recorded"):
        both(run)


def test_a_failure_leaves_everything_as_it_was():
    b = nn.Buffer(an.asarray([3.0, 4.0]))
    data = b.data

    @an.compile
    def step(x):
        b.data = (b + x).data
        return float(an.sum(b))

    with pytest.raises(an.CompileError, match="a value was read"):
        step(an.ones(2))
    assert b.data is data
    assert b.tolist() == [3.0, 4.0]


def test_check_every_looks_at_constants():
    net = Averages()
    step = an.compile(net, check_every=2)
    eager = Averages()
    for x in batches(6):
        assert bits(*step(x), net.weight, net.count) == bits(*eager(x), eager.weight, eager.count)


def test_the_program_names_them():
    net = Averages()
    step = an.compile(net)
    step(batches(1)[0])
    assert "weight" in str(step)
    assert "count" in str(step)


REFUSED = {
    "the array of another": lambda a, b, x: setattr(a, "data", b.data),
    "a view of another": lambda a, b, x: setattr(a, "data", b.data[::-1]),
    "an argument's array": lambda a, b, x: setattr(a, "data", x.data),
    "one array for two": lambda a, b, x: (setattr(a, "data", x.data * 2), setattr(b, "data", a.data)),
    "what is returned": lambda a, b, x: (setattr(a, "data", x.data * 2), a.data)[1],
    "a part of what is returned": lambda a, b, x: (setattr(a, "data", x.data * 2), a[:1])[1],
    "another shape": lambda a, b, x: setattr(a, "data", an.concat((x, x)).data),
    "gaps": lambda a, b, x: setattr(a, "data", an.concat((x, x)).data[::2]),
    "written and bound": lambda a, b, x: (a.assign_(x * 2), a.__imul__(2.0))[0],
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_program_cannot_bind(name):
    a, b = nn.Buffer(an.asarray([1.0, 2.0])), nn.Buffer(an.asarray([3.0, 4.0]))
    held = nn.Module()
    held.a, held.b = a, b

    @an.compile
    def step(x):
        return REFUSED[name](held.a, held.b, x)

    if name == "one array for two":  # this call can do it, and no replay
        step(an.ones(2))
        assert a.data is b.data
        step(an.ones(2) * 3)
        assert a.data is b.data
        assert step.recorded == 2
        return
    with pytest.raises(an.CompileError, match=r"bound to a new array|shares memory with what"):
        step(an.ones(2))
    if name != "written and bound":
        assert (a.tolist(), b.tolist()) == ([1.0, 2.0], [3.0, 4.0])


def test_a_variable_is_refused():
    p = nn.Parameter(an.ones(2))

    @an.compile
    def step(x):
        p.data = (p + x).detach().data

    with pytest.raises(an.CompileError, match=r"a Parameter of shape .* bound to a new array"):
        step(an.ones(2))


def test_an_argument_that_is_bound_and_shown():
    """A view of what the argument had is a view of that array."""

    def run(how):
        @how
        def step(x):
            y = x[:1]
            x.data = (x * 2).data
            return y

        found = []
        for k in range(3):
            x = an.full(2, k + 1.0)
            old = x.numpy()
            y = step(x)
            old[...] = 9.0
            found += bits(x, y)
        return found

    both(run)


def test_averages_of_models():
    def run(how):
        an.random.manual_seed(0)
        net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
        average = an.optim.swa_utils.AveragedModel(net, avg_fn=an.optim.swa_utils.get_ema_avg_fn(0.9))
        plain = an.optim.swa_utils.AveragedModel(net, use_buffers=True)
        optimizer = an.optim.Adam(net.parameters(), lr=0.01)

        @how
        def step(x):
            optimizer.zero_grad()
            loss = an.mean((net(x) - average(x).detach()) ** 2)
            loss.backward()
            optimizer.step()
            average.update_parameters(net)
            plain.update_parameters(net)
            return loss

        found = [v for x in batches(6) for v in bits(step(x))]
        return found + bits(*average.state_dict().values(), *plain.state_dict().values())

    assert both(run).recorded == 1
