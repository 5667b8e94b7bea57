"""A compiled function is what the function is, whatever is changed between two calls; or it is refused, with the line.

Each program is made twice. Both are called three times, changed in the same way, and called again: results, arguments,
parameters, buffers and gradients are the same bits."""

import copy
import functools
import itertools
import os
import pathlib
import pickle
import random
import types
import warnings

import numpy as np
import pytest

import anynet as an
from anynet import nn, optim
from anynet.autograd.pytree import flatten
from anynet.nn import functional as F
from anynet.tensor import Buffer, Parameter

FACTOR = 2.0
TABLE = {"k": 2.0}


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def tensor(*shape, seed=0):
    return an.asarray(numbers(*shape, seed=seed))


class Scaled(nn.Module):
    """A module of a user's, with all that such a module reads."""

    gain = 1.5

    def __init__(self):
        self.fc = nn.Linear(3, 3)
        self.parts = [nn.Linear(3, 3), nn.Tanh()]
        self.named = nn.ModuleDict({"a": nn.Linear(3, 3)})
        self.rows = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
        self.drop, self.norm, self.ln = nn.Dropout(0.5), nn.BatchNorm1d(3), nn.LayerNorm(3)
        self.extra = nn.Parameter(tensor(3))
        self.offset = nn.Buffer(tensor(3, seed=4))
        self.k, self.flag, self.act, self.sizes = 2.0, True, "relu", [1.0, 2.0]
        self.options = types.SimpleNamespace(shift=0.5, inner={"q": 1.0})

    def helper(self, x):
        return x * self.gain + FACTOR

    def forward(self, x):
        x = self.fc(x) * self.k + self.options.shift * self.options.inner["q"]
        for part in self.parts:
            x = part(x)
        for row in self.rows:
            x = row(x)
        x = self.named["a"](x) if self.flag else -x
        x = self.norm(self.drop(x)) + self.ln(x) * self.extra + self.offset
        x = x * self.sizes[0] + sum(self.sizes)
        return self.helper(getattr(F, self.act)(x))


def scaled():
    an.random.manual_seed(5)
    return Scaled()


def set_gain(net):
    type(net).gain = 7.0


def set_factor(net):
    global FACTOR
    FACTOR = -3.0


@pytest.fixture(autouse=True)
def as_before():
    global FACTOR
    yield
    FACTOR, TABLE["k"], Scaled.gain = 2.0, 2.0, 1.5
    an.dtypes.set_default_float("float32")


def on_weight(net, function):
    with an.no_grad():
        function(net.fc.weight)


CHANGES = {
    "a layer": lambda m: setattr(m, "fc", nn.Linear(3, 3)),
    "a layer in a list": lambda m: m.parts.__setitem__(1, nn.ReLU()),
    "one more in a list": lambda m: m.parts.append(nn.Sigmoid()),
    "one less in a list": lambda m: m.parts.pop(),
    "a layer of a ModuleList": lambda m: m.rows.__setitem__(0, nn.Linear(3, 3)),
    "one more in a ModuleList": lambda m: m.rows.append(nn.Linear(3, 3)),
    "one less in a ModuleList": lambda m: m.rows.pop(),
    "a layer of a ModuleDict": lambda m: m.named.__setitem__("a", nn.Linear(3, 3)),
    "a parameter": lambda m: setattr(m.fc, "weight", Parameter(tensor(3, 3, seed=8))),
    "a parameter's data": lambda m: setattr(m.fc.weight, "data", numbers(3, 3, seed=8)),
    "a parameter in place": lambda m: on_weight(m, lambda w: w.assign_(tensor(3, 3, seed=8))),
    "a parameter's elements": lambda m: on_weight(m, lambda w: w.__setitem__(0, 5.0)),
    "no bias": lambda m: setattr(m.fc, "bias", None),
    "a buffer": lambda m: setattr(m, "offset", Buffer(tensor(3, seed=8))),
    "hashable": lambda m: m.fc.requires_grad_(False),
    "Dropout.p": lambda m: setattr(m.drop, "p", 0.1),
    "BatchNorm.momentum": lambda m: setattr(m.norm, "momentum", 0.5),
    "BatchNorm.eps": lambda m: setattr(m.norm, "eps", 0.5),
    "LayerNorm.eps": lambda m: setattr(m.ln, "eps", 0.5),
    "eval": lambda m: m.eval(),
    "eval of one": lambda m: m.norm.eval(),
    "a number": lambda m: setattr(m, "k", 3.0),
    "an int for a float": lambda m: setattr(m, "k", 2),
    "a flag": lambda m: setattr(m, "flag", False),
    "a string": lambda m: setattr(m, "act", "tanh"),
    "a number in a list": lambda m: m.sizes.__setitem__(0, 4.0),
    "a list": lambda m: setattr(m, "sizes", [4.0]),
    "an attribute of an object": lambda m: setattr(m.options, "shift", 1.5),
    "an object": lambda m: setattr(m, "options", types.SimpleNamespace(shift=9.0, inner={"q": 2.0})),
    "an item of a dictionary of an object": lambda m: m.options.inner.__setitem__("q", 3.0),
    "a method": lambda m: setattr(m, "helper", lambda x: x - 1.0),
    "forward": lambda m: setattr(m.fc, "forward", lambda x: x - 1.0),
    "an attribute of the class": set_gain,
    "a global number": set_factor,
    "a forward hook": lambda m: m.fc.register_forward_hook(lambda mod, args, out: out * 2.0),
    "a pre-hook": lambda m: m.fc.register_forward_pre_hook(lambda mod, args: (args[0] * 2.0,)),
    "a gradient's hook": lambda m: m.fc.weight.register_hook(lambda g: g * 2.0),
    "float64": lambda m: m.double(),
    "the seed": lambda m: an.random.manual_seed(77),
    "the state": lambda m: m.load_state_dict(scaled().state_dict()),
}


def leaves(tree):
    return flatten(tree)[0]


def bits(tree):
    found, shape = flatten(tree)
    plain = [x.detach().numpy() if isinstance(x, an.Tensor) else x for x in found]
    return [(x.dtype, x.shape, x.tobytes()) if hasattr(x, "dtype") else x for x in plain], repr(shape)


def state(net):
    found = {k: v.numpy().tobytes() for k, v in net.state_dict().items()}
    grads = {k: None if p.grad is None else p.grad.numpy().tobytes() for k, p in net.named_parameters()}
    return found, grads


def outcome(function, *args):
    """The result, or the error."""
    try:
        return bits(function(*args))
    except an.CompileError:
        raise
    except Exception as error:
        return type(error), str(error).splitlines()[0]


def run_inference(net, compiled):
    return an.compile(lambda x: net(x).detach()) if compiled else (lambda x: net(x).detach())


def run_training(net, compiled):
    optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    def step(x):
        optimizer.zero_grad()
        loss = an.mean(net(x) ** 2)
        loss.backward()
        optimizer.step()
        return loss

    return an.compile(step) if compiled else step


@pytest.mark.parametrize("run", [run_inference, run_training])
@pytest.mark.parametrize("change", CHANGES)
def test_what_is_changed_is_seen(change, run):
    global FACTOR
    found = []
    for compiled in (False, True):
        FACTOR, Scaled.gain = 2.0, 1.5
        net = scaled()
        f = run(net, compiled)
        x = tensor(4, 3, seed=1)
        an.random.manual_seed(9)
        results = [outcome(f, x) for _ in range(3)]
        an.random.manual_seed(9)
        CHANGES[change](net)
        if change == "float64":
            x = an.astype(x, an.float64)
        results += [outcome(f, x) for _ in range(3)]
        found.append((results, state(net), an.random.get_state()))
    (one, kept, at), (other, kept_too, at_too) = found
    for i, (a, b) in enumerate(zip(one, other, strict=True)):
        assert a == b, i
    assert kept == kept_too
    assert at == at_too


# ----- what is written into arguments -----


def write_item(x):
    x[0] = 7.0
    return an.sum(x)


def scale(x):
    x *= 2.0
    return an.sum(x)


def assign(x):
    x.assign_(x * 3.0)
    return an.sum(x)


def write_all(x):
    x[...] = an.exp(x)


def data_in_place(x):
    x.data[...] = x.data * 2.0
    return x


def nested(x):
    first, second = x["a"], x["b"][0]
    second.assign_(first)
    first[1] = 5.0
    return x["a"] + second


def two_of_them(x, y):
    x.assign_(x * 2.0)
    return x + y


def of_numpy(x):
    x[0] = 5.0
    x *= 2.0
    return x


def returned(x):
    return x, [x], x * 1.0


def views(x):
    return x.T, x.detach(), an.reshape(x, (-1,)), an.expand_dims(x, axis=0)


def one():
    return (tensor(2, 2),)


def twice():
    x = tensor(2, 2)
    return x, x


def sharing():
    x = tensor(2, 2)
    return x, x.detach()


WRITES = {
    "an item": (write_item, one),
    "in place": (scale, one),
    "assign_": (assign, one),
    "everything": (write_all, one),
    "through data": (data_in_place, one),
    "in containers": (nested, lambda: ({"a": tensor(3), "b": [tensor(3, seed=1)]},)),
    "two": (two_of_them, lambda: (tensor(2, 2), tensor(2, 2, seed=1))),
    "one Tensor twice": (two_of_them, twice),
    "one array twice": (two_of_them, sharing),
    "an array of NumPy": (of_numpy, lambda: (numbers(3),)),
    "an argument returned": (returned, one),
    "views returned": (views, one),
}


@pytest.mark.parametrize("name", WRITES)
def test_what_is_written_into_arguments_is_there(name):
    function, make = WRITES[name]
    compiled = an.compile(function)
    for _ in range(3):
        mine, expected = make(), make()
        got, wanted = compiled(*mine), function(*expected)
        assert bits(got) == bits(wanted)
        assert bits(list(mine)) == bits(list(expected))
        for a, b in zip(leaves(got), leaves(wanted), strict=True):
            assert [a is x for x in mine] == [b is x for x in expected]
        for args in (mine, expected):  # what shares memory with an argument changes with it
            for x in leaves(list(args)):
                if isinstance(x, an.Tensor):
                    x.assign_(-1.0)
        assert bits(got) == bits(wanted)
    assert compiled.recorded == 1


def test_arguments_that_overlap():
    memory = numbers(6)
    x, y = an.asarray(memory[:4]), an.asarray(memory[2:])
    with pytest.raises(an.CompileError, match=r"test_guards\.py:\d+: what is written here shares memory"):
        an.compile(two_of_them)(x, y)
    f = an.compile(two_of_them)
    f(tensor(4), tensor(4, seed=1))
    mine, expected = (
        numbers(6),
        numbers(6),
    )  # there is a program, which has copies: the function is called as it is
    got = f(an.asarray(mine[:4]), an.asarray(mine[2:]))
    assert bits(got) == bits(two_of_them(an.asarray(expected[:4]), an.asarray(expected[2:])))
    assert (mine == expected).all()
    read = an.compile(lambda a, b: a * b)  # what only reads takes them
    for _ in range(2):
        assert (read(an.asarray(memory[:4]), an.asarray(memory[2:])).numpy() == memory[:4] * memory[2:]).all()
    assert read.recorded == 1


def test_an_argument_that_the_function_holds_too():
    held = nn.Buffer(tensor(3))

    def f(x):
        held.assign_(held + 1.0)
        return x * 2.0

    with pytest.raises(an.CompileError, match=r"test_guards\.py:\d+: what is written here shares memory"):
        an.compile(f)(held.detach())
    compiled = an.compile(f)
    compiled(tensor(3))
    before = held.numpy().copy()
    assert (compiled(held.detach()).numpy() == (before + 1.0) * 2.0).all()


def test_read_only_arguments_are_refused_as_in_eager_mode():
    compiled = an.compile(assign)
    compiled(tensor(3))
    hashable = numbers(3)
    hashable.flags.writeable = False
    for f in (compiled, an.compile(assign), assign):
        with pytest.raises(ValueError, match="read-only"):
            f(an.asarray(hashable))


def test_the_layout_of_an_argument_decides_the_order_of_sums():
    f = an.compile(lambda x: an.sum(x))
    plain = numbers(300, 7)
    for x in (plain, plain.T, plain[:, ::2], np.asfortranarray(plain), plain[::-1]):
        for _ in range(2):
            assert bits(f(an.asarray(x))) == bits(an.sum(an.asarray(x)))


def test_what_is_made_inside_is_made_anew():
    def f(x):
        a, b, c = an.zeros(3), an.asarray([1.0, 2.0, 3.0]), an.full(3, 4.0)
        a.assign_(a + x)
        b += x
        c[0] = x[0]
        return a, b, c, an.ones(3)

    compiled = an.compile(f)
    for _ in range(3):
        got = compiled(tensor(3))
        assert bits(got) == bits(f(tensor(3)))
        got[3].assign_(9.0)


def test_functions_of_numpy():
    f = an.compile(lambda x: np.exp(x) + np.ones(3, np.float32) * x - np.float32(2.0) * x)
    x = numbers(3)
    for _ in range(3):
        assert (f(x) == np.exp(x) + np.ones(3, np.float32) * x - np.float32(2.0) * x).all()


# ----- what Python reads and writes besides -----


def counter():
    n = 0

    def f(x):
        nonlocal n
        n += 1  # here
        return x * n

    return f


def global_table(x):
    TABLE["k"] = TABLE["k"] * 2.0  # here
    return x * TABLE["k"]


def kept_in_a_list():
    kept = []

    def f(x):
        kept.append(x * 2.0)  # here
        return x

    return f


class Counting(nn.Module):
    def __init__(self):
        self.n = 0

    def forward(self, x):
        self.n += 1  # here
        return x * self.n


class Remembering(nn.Module):
    def __init__(self):
        self.last = None

    def forward(self, x):
        self.last = x if self.last is None else self.last * 0.5 + x  # here
        return self.last


def argument_list(xs):  # here
    xs.append(xs[0])  # here
    return xs[0] * 2.0


def branch(x):
    if an.sum(x) > 0:  # here
        return x
    return -x


def of_a_parameter():
    p = nn.Parameter(an.ones(3))

    def f(x):
        return x * float(p[0].detach())  # here

    return f


def of_python():
    def f(x):
        return x * random.random()  # here

    return f


def of_numpy_generator():
    rng = np.random.default_rng(0)
    return lambda x: x * float(rng.normal())  # here


def of_an_iterator():
    steps = itertools.count()
    return lambda x: x * next(steps)  # here


def of_a_generator():
    g = an.random.Generator(3)
    return lambda x: x * float(an.random.normal((1,), generator=g)[0])  # here


def seeding(x):
    an.random.manual_seed(1)  # here
    return x


def masked(x):
    return x[x > 0.0]  # here


def counted(x):
    return an.nonzero(x)  # here


def rebound():
    w = tensor(3)

    def f(x):
        w.data = x.data  # here
        return w * x

    return f


def own_array(x):
    made = an.asarray(np.ones(3, np.float32))
    made.assign_(made + x)  # here
    return made


def of_numpy_only(x):
    return np.modf(x)  # here


def into_an_array():
    kept = np.zeros(3, np.float32)

    def f(x):
        np.add(kept, x.data, out=kept)  # here
        return x

    return f


def optimizing(x):
    return optim.SGD([nn.Parameter(x)], lr=0.1)  # here


def an_object(x):
    return types.SimpleNamespace(x=x)


def printing(x):
    p = an.asarray([1.0], requires_grad=True) * an.sum(x)
    print(p)  # here
    return x


REFUSED = {
    "a counter": counter,
    "a global dictionary": lambda: global_table,
    "a list": kept_in_a_list,
    "a module's counter": Counting,
    "a module's state": Remembering,
    "a list among the arguments": lambda: argument_list,
    "a branch": lambda: branch,
    "the value of a parameter": of_a_parameter,
    "Python's random numbers": of_python,
    "NumPy's random numbers": of_numpy_generator,
    "an iterator": of_an_iterator,
    "a stream of random numbers": of_a_generator,
    "a seed": lambda: seeding,
    "a mask": lambda: masked,
    "a shape that depends on values": lambda: counted,
    "a Tensor from outside": rebound,
    "an array made inside": lambda: own_array,
    "a function of NumPy's": lambda: lambda x: of_numpy_only(x.data),
    "into an array of NumPy": into_an_array,
    "an optimizer": lambda: optimizing,
    "an object as the result": lambda: an_object,
    "print with a gradient": lambda: printing,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_replayed_names_its_line(name):
    function = REFUSED[name]()
    compiled = an.compile(function)
    args = ([tensor(3)],) if function is argument_list else (tensor(3),)
    compared = vars(function).copy() if isinstance(function, nn.Module) else dict(TABLE)

    def three_times():
        for _ in range(3):
            compiled(*args)

    with pytest.raises(an.CompileError, match=r"^[^\n]*test_guards\.py:\d+: ") as caught:
        three_times()
    number = int(str(caught.value).split("test_guards.py:")[1].split(":")[0])
    with open(__file__) as file:
        line = file.read().splitlines()[number - 1]
    assert "# here" in line or name == "an object as the result", line
    assert (
        compared == (vars(function) if isinstance(function, nn.Module) else TABLE)
        or name == "a module's state"
    )
    assert bits(list(args)) == bits([[tensor(3)]] if function is argument_list else [tensor(3)])


def closure_of(value):
    return lambda x: x * value


class Config:
    scale = 1.0
    __slots__ = ("k",)

    def __init__(self):
        self.k = 2.0


class Proxy:
    def __init__(self, table):
        self.table = table

    def __getattr__(self, name):
        return self.table[name]  # a KeyError, where others raise an AttributeError


def reading():
    """(function, change) for what is read of Python's objects."""
    table, inner, few, k, box = {"k": 2.0}, {"a": [1.0, {"b": 2.0}]}, [2.0], np.array([2.0]), Config()
    space, chosen = types.SimpleNamespace(k=2.0), {"f": F.relu}
    partial = functools.partial(lambda x, c: x * c["k"], c=table)
    yield lambda x: x * table["k"], lambda: table.update(k=3.0)
    yield lambda x: x * inner["a"][1]["b"], lambda: inner["a"][1].update(b=3.0)
    yield lambda x: x * sum(few), lambda: few.append(3.0)
    yield lambda x: x * len(few), lambda: few.append(3.0)
    yield lambda x: x * float(k[0]), lambda: k.__setitem__(0, 3.0)
    yield lambda x: x * an.asarray(k), lambda: k.__setitem__(0, 4.0)
    yield lambda x: x * box.k, lambda: setattr(box, "k", 3.0)
    yield lambda x: x * box.scale, lambda: setattr(Config, "scale", Config.scale + 1.0)
    yield lambda x: x * space.k, lambda: setattr(space, "k", 3.0)
    yield lambda x: x * getattr(space, "other", 1.0), lambda: setattr(space, "other", 3.0)
    yield (
        lambda x: x * vars(space)["more"] if "more" in vars(space) else x,
        lambda: setattr(space, "more", 3.0),
    )
    yield lambda x: chosen["f"](x), lambda: chosen.update(f=F.tanh)
    yield partial, lambda: table.update(k=4.0)
    yield lambda x, c=table: x * c["k"], lambda: table.update(k=5.0)
    yield lambda x: x + an.zeros(3), lambda: an.dtypes.set_default_float("float64")
    yield lambda x: x * (1.0 if an.is_grad_enabled() else 2.0), lambda: None
    numbers, letters, proxy = np.arange(5000.0), bytearray(b"ab"), Proxy({"k": 2.0})
    yield lambda x: x * float(numbers[7]), lambda: numbers.__setitem__(7, 3.0)
    yield lambda x: x + an.asarray(numbers[:3] * 2.0), lambda: numbers.__setitem__(1, 4.0)
    yield lambda x: x * letters[0], lambda: letters.__setitem__(0, 3)
    yield (
        lambda x: x * float(os.environ.get("ANYNET_TEST_SCALE", "1")),
        lambda: os.environ.update(ANYNET_TEST_SCALE="2"),
    )
    yield lambda x: x * proxy.k, lambda: proxy.table.update(k=3.0)


@pytest.mark.parametrize("number", range(21))
def test_what_is_read_of_objects(number, monkeypatch):
    results = []
    for compiled in (False, True):
        an.dtypes.set_default_float("float32")
        function, change = list(reading())[number]
        f = an.compile(function) if compiled else function
        Config.scale = 1.0
        monkeypatch.setenv("ANYNET_TEST_SCALE", "1")
        found = [bits(f(tensor(3))) for _ in range(3)]
        change()
        found += [bits(f(tensor(3))) for _ in range(3)]
        with an.no_grad():
            found += [bits(f(tensor(3))) for _ in range(2)]
        results.append(found)
    assert results[0] == results[1]


def test_a_layers_class_that_gets_another_forward(monkeypatch):
    layer = nn.Linear(3, 3)
    compiled = an.compile(lambda x: layer(x))
    before = [bits(compiled(tensor(3))) for _ in range(3)]
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: F.linear(x, self.weight) * 2)
    after = [bits(compiled(tensor(3))) for _ in range(3)]
    assert before[0] == before[2] != after[0] == after[2] == bits(layer(tensor(3)))


def test_the_default_device():
    compiled = an.compile(lambda: an.zeros(3))
    assert [compiled().device for _ in range(3)] == ["cpu"] * 3
    an.set_default_device("strict")
    try:
        with pytest.warns(
            UserWarning, match=r"called as it is.*an array of strict .*NumPy arrays, on the cpu"
        ):
            assert compiled().device == an.zeros(3).device
    finally:
        an.set_default_device(None)
    assert compiled().device == "cpu"


def test_a_large_array_is_read_by_the_program_or_refused():
    large = np.ones(100_000)
    view = an.compile(lambda x: x + an.asarray(large[:3]))
    for k in range(4):  # the program reads it
        large[0] = k
        assert view(tensor(3)).tolist() == (tensor(3) + an.asarray(large[:3])).tolist()
    for function in (lambda x: x * float(large[0]), lambda x: x + an.asarray(large[:3] * 2.0)):
        with pytest.raises(
            an.CompileError,
            match=r"test_guards\.py:\d+: the function can read large, an array of 800000 bytes",
        ):
            an.compile(function)(tensor(3))
    large.flags.writeable = False
    assert an.compile(lambda x: x * float(large[0]))(tensor(3)).tolist() == (tensor(3) * 3.0).tolist()


def test_a_tensor_as_an_array_of_numpy_is_refused_with_its_line():
    with pytest.raises(an.CompileError, match=r"test_guards\.py:\d+: a value was read"):
        an.compile(lambda x: an.asarray(np.asarray(x)))(tensor(3))


def test_arguments_that_are_no_arrays():
    def f(x, n=1, *, name="a", flag=None):
        return (x * n if flag is None else x - n) + len(name)

    compiled = an.compile(f)
    calls = [
        ((2,), {}),
        ((3,), {}),
        ((2.0,), {}),
        ((True,), {}),
        ((), {"name": "abc"}),
        ((), {"flag": False}),
        ((-0.0,), {}),
        ((0.0,), {}),
    ]
    for _ in range(2):
        for args, kwargs in calls:
            assert bits(compiled(tensor(3), *args, **kwargs)) == bits(f(tensor(3), *args, **kwargs))
    assert compiled.recorded == len(calls)


def test_gradients_recorded_or_not():
    p = nn.Parameter(tensor(3))

    def f(x):
        p.grad = None
        an.sum(p * x).backward()
        return x

    compiled = an.compile(f)
    compiled(tensor(3))
    for run in (f, compiled):
        with an.no_grad(), pytest.raises(Exception, match=r"recorded|require"):
            run(tensor(3))
    compiled(tensor(3))
    assert compiled.recorded == 1


def test_a_tensor_in_an_attribute_is_set_by_each_replay():
    class Keeping(nn.Module):
        def forward(self, x):
            self.seen = an.exp(x)
            return self.seen * 2.0

    net, eager = Keeping(), Keeping()
    f = an.compile(net)
    for i in range(3):
        assert bits(f(tensor(3, seed=i))) == bits(eager(tensor(3, seed=i)))
        assert bits(net.seen) == bits(eager.seen)
    assert f.recorded == 2  # without the attribute, and with it
    net.seen = None
    f(tensor(3))
    assert bits(net.seen) == bits(an.exp(tensor(3)))


def test_print_happens_at_each_call(capsys):
    def f(x):
        y = x * 2.0
        print("y is", y, x, sep="|")
        return y

    compiled = an.compile(f)
    for run in (f, compiled):
        for i in range(3):
            run(an.full(2, float(i)))
    said = capsys.readouterr().out.splitlines()
    assert said[:3] == said[3:]
    assert said[5] == "y is|Tensor([4., 4.])|Tensor([2., 2.])"


def test_a_function_that_is_recorded_each_time_is_called_as_it_is():
    net = nn.Linear(3, 3)
    net.k = 0.0
    f = an.compile(lambda x: net(x).detach() * net.k)

    def call(i):
        net.k = float(i)
        assert bits(f(tensor(2, 3))) == bits(net(tensor(2, 3)).detach() * net.k)

    for i in range(8):
        call(i)
    with pytest.warns(UserWarning, match=r"recorded at each of 8 calls, since net \(k\) was another"):
        call(8)
    call(9)
    assert f.recorded == 8
    f(tensor(4, 3))
    assert f.recorded == 9


# ----- values that eager mode refuses -----

SCORES, FOUR = tensor(2, 3), tensor(4, 3)
VALUES = {  # a function, arguments, others that it refuses
    "class": (F.cross_entropy, (SCORES, [0, 2]), (SCORES, [0, 3])),
    "class -1": (F.nll_loss, (SCORES, [0, 2]), (SCORES, [-1, 0])),
    "embedding": (lambda w, i: F.embedding(i, w), (FOUR, [0, 3]), (FOUR, [0, 4])),
    "take": (lambda x, i: an.take(x, i, axis=0), (FOUR, [0, -4]), (FOUR, [0, -5])),
    "int32": (lambda x, i: an.take(x, i, axis=0), (FOUR, np.int32([1])), (FOUR, np.int32([4]))),
    "indexing": (lambda x, i: x[i], (tensor(4), [1, 2]), (tensor(4), [1, 4])),
    "probabilities": (F.binary_cross_entropy, ([0.5, 0.5], [1.0, 0.0]), ([1.5, 0.5], [1.0, 0.0])),
    "NaN": (F.binary_cross_entropy, ([0.5, 0.5], [1.0, 0.0]), ([float("nan"), 0.5], [1.0, 0.0])),
    "variance": (
        lambda x, v: F.gaussian_nll_loss(x, x * 0.5, v),
        (tensor(2), [1.0, 1.0]),
        (tensor(2), [1.0, -1.0]),
    ),
    "margin": (F.multi_margin_loss, (SCORES, [0, 2]), (SCORES, [0, 3])),
    "dtype": (F.linear, (SCORES, FOUR), (an.astype(SCORES, an.float64), FOUR)),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_are_checked_in_each_replay(name):
    function, good, bad = VALUES[name]
    compiled = an.compile(function)
    good, bad = ([an.asarray(x) for x in args] for args in (good, bad))
    with pytest.raises(Exception) as wanted:  # noqa: PT011 - which one is the question
        function(*bad)
    for _ in range(2):
        for _ in range(2):
            assert bits(compiled(*good)) == bits(function(*good))
        with pytest.raises(type(wanted.value)) as got:
            compiled(*bad)
        assert str(got.value) == str(wanted.value)


def test_a_refused_replay_leaves_everything_as_it_was():
    an.random.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3))
    optimizer = optim.Adam(net.parameters())

    @an.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    x, y = tensor(5, 3), an.asarray([0, 1, 2, 1, 0])
    for _ in range(3):
        step(x, y)
    before = state(net), an.random.get_state(), copy.deepcopy(optimizer.state_dict())
    with pytest.raises(IndexError, match="class index 3 is out of range"):
        step(x, an.asarray([0, 1, 2, 3, 0]))
    assert state(net) == before[0]
    assert an.random.get_state() == before[1]
    assert repr(optimizer.state_dict()) == repr(before[2])
    step(x, y)
    assert step.recorded == 1


# ----- copies, pickles, methods, other functions -----


@an.compile
def by_name(x):
    return x * 3.0


class Trainer:
    def __init__(self):
        self.k = 2.0
        self.step = an.compile(self.plain)

    def plain(self, x):
        return x * self.k

    @an.compile
    def method(self, x):
        return x + self.k


def test_copies_and_pickles():
    x = tensor(3)
    assert pickle.loads(pickle.dumps(by_name)) is by_name
    again = pickle.loads(pickle.dumps(an.compile(write_item, check_every=5, cache_size=3)))
    assert (again.function, again.check_every, again.cache_size) == (write_item, 5, 3)
    assert bits(again(tensor(3))) == bits(write_item(tensor(3)))
    f = an.compile(closure_of(2.0))
    f(x)
    for copied in (copy.copy(f), copy.deepcopy(f)):
        assert bits(copied(x)) == bits(x * 2.0)
        assert copied.recorded == 1
    trainer = Trainer()
    trainer.step(x)
    for other in (copy.deepcopy(trainer), pickle.loads(pickle.dumps(trainer))):
        other.k = 5.0
        assert bits(other.step(x)) == bits(x * 5.0)
        assert bits(trainer.step(x)) == bits(x * 2.0)


def test_methods():
    one, two = Trainer(), Trainer()
    two.k = 7.0
    for _ in range(3):
        assert bits(one.method(tensor(3))) == bits(tensor(3) + 2.0)
        assert bits(two.method(tensor(3))) == bits(tensor(3) + 7.0)
    one.k = 4.0
    assert bits(one.method(tensor(3))) == bits(tensor(3) + 4.0)


def test_functions_that_call_themselves_and_each_other():
    @an.compile
    def power(x, n):
        return x if n == 0 else x * power(x, n - 1)

    outer = an.compile(lambda x: power(x, 2) + by_name(x))
    for _ in range(3):
        assert bits(power(tensor(3), 3)) == bits(power.function(tensor(3), 3))
        assert bits(outer(tensor(3))) == bits(tensor(3) * (tensor(3) * tensor(3)) + tensor(3) * 3.0)


def test_a_thread_changes_what_another_one_calls(in_threads):
    net = nn.Linear(3, 3)
    net.k = 1.0
    f = an.compile(lambda x: net(x).detach() * net.k, cache_size=4)
    x = tensor(2, 3)
    plain = net(x).detach()
    allowed = [bits(plain * 1.0), bits(plain * 2.0)]
    wrong = []

    def call():
        for _ in range(200):
            if bits(f(x)) not in allowed:
                wrong.append(1)

    def change():
        for i in range(50):
            net.k = 1.0 + i % 2

    in_threads(call, call, change)
    assert not wrong
    net.k = 2.0
    assert bits(f(x)) == allowed[1]


# ----- training loops as they are written -----


def scheduled(step_of):
    """A schedule inside the function, whose number is read there; the momentum is changed on the way."""
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    schedule = optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    y = an.asarray([0, 1, 0, 1, 0, 1])

    def step(x):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y) * optimizer.param_groups[0]["lr"]
        loss.backward()
        optimizer.step()
        schedule.step()
        return loss, optimizer.param_groups[0]["lr"]

    run = step_of(step)
    for i in range(6):
        yield run(tensor(6, 4, seed=i))
        if i == 3:
            optimizer.param_groups[0]["momentum"] = 0.5
    yield [p.detach() for p in net.parameters()]


def adversarial(step_of):
    make, judge = nn.Linear(2, 3), nn.Linear(3, 1)
    first, second = optim.Adam(make.parameters()), optim.Adam(judge.parameters())

    def step(z, real):
        second.zero_grad()
        found = an.mean(judge(real)) - an.mean(judge(make(z).detach()))
        found.backward()
        second.step()
        first.zero_grad()
        fooled = -an.mean(judge(make(z)))
        fooled.backward()
        first.step()
        return found, fooled

    run = step_of(step)
    for i in range(4):
        yield run(tensor(5, 2, seed=i), tensor(5, 3, seed=i + 9))
    yield [p.detach() for p in (*make.parameters(), *judge.parameters())]


def accumulated(step_of):
    net = nn.Linear(2, 3)
    optimizer = optim.Adam(net.parameters())

    def add(x):
        loss = an.mean(net(x) ** 2)
        loss.backward()
        return loss

    run = step_of(add)
    for i in range(6):
        yield run(tensor(5, 2, seed=i))
        if i % 2:
            optimizer.step()
            optimizer.zero_grad()
    yield [p.detach() for p in net.parameters()]


def by_hand(step_of):
    """Descent and averages without an optimizer, in the ways that people write them."""
    net, mean = nn.Linear(2, 3), nn.Linear(2, 3)

    def step(x):
        net.zero_grad()
        loss = an.mean(net(x) ** 2)
        loss.backward()
        with an.no_grad():
            net.bias -= 0.1 * net.bias.grad
        net.weight.data -= 0.1 * net.weight.grad.data
        with an.no_grad():
            for p, q in zip(net.parameters(), mean.parameters(), strict=True):
                q.assign_(0.9 * q + 0.1 * p)
        return loss

    run = step_of(step)
    for i in range(4):
        yield run(tensor(5, 2, seed=i))
    yield [p.detach() for p in (*net.parameters(), *mean.parameters())]


class Checkpointed(nn.Module):
    def __init__(self):
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Tanh())

    def forward(self, x):
        return an.checkpoint(self.inner, x)


LAYERS = {
    "weight_norm": (lambda: nn.utils.weight_norm(nn.Linear(4, 3)), (5, 4)),
    "spectral_norm": (lambda: nn.utils.spectral_norm(nn.Linear(4, 3)), (5, 4)),
    "parametrized": (lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)), (5, 4)),
    "checkpoint": (Checkpointed, (5, 4)),
    "LSTM": (lambda: nn.LSTM(4, 3, num_layers=2, dropout=0.5), (6, 2, 4)),
    "GRU": (lambda: nn.GRU(4, 3, bidirectional=True), (6, 2, 4)),
    "attention": (lambda: nn.TransformerEncoderLayer(4, 2, 8), (6, 2, 4)),
    "batch norm": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)),
        (2, 2, 8, 8),
    ),
    "instance norm": (lambda: nn.InstanceNorm1d(3, affine=True, track_running_stats=True), (2, 3, 5)),
    "group norm": (lambda: nn.GroupNorm(2, 4), (2, 4, 5)),
    "noise": (lambda: nn.Sequential(nn.Linear(4, 4), nn.RReLU(), nn.AlphaDropout(0.3)), (5, 4)),
}


def of_a_layer(name, step_of):
    make, shape = LAYERS[name]
    net = make()
    optimizer = optim.SGD(net.parameters(), lr=0.05)

    def step(x):
        optimizer.zero_grad()
        y = net(x)
        y = y[0] if isinstance(y, tuple) else y
        loss = an.mean(y**2)
        loss.backward()
        norm = optim.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        return loss, y, norm

    run = step_of(step)
    for i in range(4):
        yield run(tensor(*shape, seed=i))
    yield {k: v.detach() for k, v in net.state_dict().items()}


LOOPS = {
    **{f.__name__: f for f in (scheduled, adversarial, accumulated, by_hand)},
    **{name: functools.partial(of_a_layer, name) for name in LAYERS},
}


@pytest.mark.parametrize("name", LOOPS)
def test_training_loops(name):
    found = []
    for step_of in (lambda f: f, an.compile):
        an.random.manual_seed(4)
        found.append([bits(x) for x in LOOPS[name](step_of)])
    assert found[0] == found[1]


def test_packages_of_another_environment_are_no_code_of_the_user(tmp_path, monkeypatch):
    """As those that `venv --system-site-packages` or a .pth file adds: what they hold is not looked through."""
    folder = tmp_path / "lib" / "site-packages"
    folder.mkdir(parents=True)
    (folder / "package_of_another.py").write_text(
        "counter = iter([1, 2])\ndef f(x):\n    return x, counter\n"
    )
    (tmp_path / "code_of_mine.py").write_text("def f(x):\n    return x\n")
    from anynet.autograd.jit.user_code import is_library_file

    assert is_library_file(str(folder / "package_of_another.py"))
    assert not is_library_file(str(tmp_path / "code_of_mine.py"))
    monkeypatch.syspath_prepend(folder)
    import package_of_another

    compiled = an.compile(lambda x: package_of_another.f(x)[0] * 2.0)
    for _ in range(3):
        assert compiled(an.ones(2)).tolist() == [2.0, 2.0]


def test_parameters_that_are_constants_for_a_part_of_the_step():
    """As in actor-critic methods: the critic is frozen while the actor is updated."""

    def train(how):
        an.random.manual_seed(0)
        critic, actor = nn.Linear(2, 1), nn.Linear(2, 2)
        optimizers = [optim.Adam(net.parameters(), lr=0.1) for net in (critic, actor)]

        @how
        def step(x):
            optimizers[0].zero_grad()
            an.mean(critic(x) ** 2).backward()
            optimizers[0].step()
            for p in critic.parameters():
                p.requires_grad = False
            optimizers[1].zero_grad()
            an.mean(critic(actor(x))).backward()
            optimizers[1].step()
            for p in critic.parameters():
                p.requires_grad = True

        for _ in range(12):
            step(an.random.normal((3, 2)))
        tensors = [a for net in (critic, actor) for p in net.parameters() for a in (p.detach(), p.grad)]
        return [a.numpy().tobytes() for a in tensors], step

    found, step = train(an.compile)
    assert found == train(lambda f: f)[0]
    assert step.recorded == 1


def sampled(how, put_back=True, steps=8):
    """As networks are trained that give energies: samples are drawn by gradients, from the network in eval mode and frozen."""
    an.random.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5), nn.BatchNorm1d(4), nn.Linear(4, 1))
    optimizer = optim.Adam(net.parameters(), lr=0.1)

    @how
    def step(x):
        was = net.training
        net.eval()
        for p in net.parameters():
            p.requires_grad = False
        y = x * 1.0
        y.requires_grad_()
        an.sum(net(y)).backward()
        y = x - 0.1 * y.grad
        for p in net.parameters():
            p.requires_grad = True
        if put_back:
            net.train(was)
        loss = an.mean(net(x)) - an.mean(net(y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach(), y

    found = []
    for k in range(steps):
        if k == 5:
            net.eval()
        found += [v.numpy().tobytes() for v in step(tensor(3, 2, seed=k))]
    return found + [v.numpy().tobytes() for v in net.state_dict().values()], step


def test_modes_that_are_put_back():
    found, step = sampled(an.compile)
    assert found == sampled(lambda f: f)[0]
    assert step.recorded == 2  # in train mode, and in eval mode


def test_a_mode_that_stays_changed_is_refused():
    with pytest.raises(an.CompileError, match=r"the attribute training of .* is changed"):
        sampled(an.compile, put_back=False)


def test_a_mode_that_is_another_during_a_call_on_the_host_is_refused():
    net = nn.Linear(2, 1)
    optimizer = optim.SGD(net.parameters(), lr=0.1)

    @an.compile
    def step(x):
        net.eval()
        an.sum(net(x)).backward()
        optimizer.step()
        net.train()

    with pytest.raises(an.CompileError, match=r"the attribute training of .* is changed"):
        step(tensor(3, 2))
    assert net.training


def test_a_variable_that_is_made_one_inside():
    """It was a constant at the beginning of the first call alone."""
    w = an.ones(2)

    @an.compile
    def step(x):
        w.requires_grad_()
        w.grad = None
        an.sum(w * x).backward()
        return w.grad

    for k in range(3):
        assert step(an.full(2, float(k))).tolist() == [k, k]


@pytest.mark.parametrize("make", [optim.LBFGS, lambda p: optim.SGD(p, lr=0.1)])
def test_the_closure_of_a_step_is_no_part_of_a_program(make):
    net = nn.Linear(2, 1)
    optimizer = make(net.parameters())

    @an.compile
    def step(x):
        def closure():
            optimizer.zero_grad()
            loss = an.mean(net(x) ** 2)  # closure
            loss.backward()
            return loss

        return optimizer.step(closure)

    with pytest.raises(
        an.CompileError, match=rf"test_guards.py:{marked('closure')}: .* closure of an optimizer's step"
    ):
        step(tensor(3, 2))


def marked(word):
    lines = pathlib.Path(__file__).read_text().splitlines()
    return next(i for i, line in enumerate(lines, 1) if line.endswith(f"# {word}"))


def test_counts_have_a_length_that_is_given():
    """Without it their number is that of the largest, and no program's."""

    def counts(x, w):
        w.grad = None
        sums = an.bincount(x, w, minlength=4)
        an.sum(sums**2).backward()
        return an.bincount(x, minlength=4), sums.detach(), w.grad

    rows = [[0, 3, 1], [2, 2, 2], [1, 0, 1]]
    w = an.asarray([0.5, 0.25, 2.0], requires_grad=True)
    step = an.compile(lambda x: counts(x, w))
    for row in rows:
        assert [v.tolist() for v in step(an.asarray(row))] == [v.tolist() for v in counts(an.asarray(row), w)]
    assert step.recorded == 1
    with pytest.raises(ValueError, match="x must be less than minlength=4, got 5"):
        step(an.asarray([0, 5, 1]))
    with pytest.raises(ValueError, match="x must not be negative, got -1"):
        step(an.asarray([0, -1, 1]))
    with pytest.raises(an.CompileError, match="a value was read"):
        an.compile(an.bincount)(an.asarray([0, 1]))
    assert step.recorded == 1


def test_a_value_that_is_infinite_is_recorded_without_a_warning():
    """`log_softmax` of masked scores: the numbers with which gradients are tried out are nobody's."""
    x = an.asarray([[0.5, -np.inf, 1.0], [-np.inf, 2.0, 0.0]], requires_grad=True)
    with warnings.catch_warnings(record=True) as said:  # an error would only stop what is tried out
        warnings.simplefilter("always")
        for _ in range(40):
            x.grad = None
            an.sum(F.log_softmax(x, dim=1)[:, 2]).backward()
            assert np.isfinite(x.grad.numpy()).all()
    assert said == []
