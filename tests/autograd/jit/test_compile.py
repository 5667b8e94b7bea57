"""A compiled step gives the same bits as the step itself, notices what has changed, and refuses what it cannot replay."""

import contextlib
import copy
import functools
import gc
import inspect
import threading
import weakref

import numpy as np
import pytest

import anynet as an
from anynet import nn, optim
from anynet.autograd.checkpoint import checkpoint
from anynet.autograd.debug.anomaly import anomaly
from anynet_backends import philox


def draw(*shape, dtype="float32"):
    return an.random.normal(shape, dtype=dtype)


def mlp():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def conv():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.3),
        nn.Flatten(), nn.Linear(4 * 3 * 3, 3),
    )  # fmt: skip


def normed():
    return nn.Sequential(
        nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Dropout(0.2), nn.Linear(8, 8), nn.BatchNorm1d(8),
        nn.LeakyReLU(), nn.Linear(8, 3),
    )  # fmt: skip


NETWORKS = {"mlp": (mlp, (5, 6)), "conv": (conv, (5, 2, 6, 6)), "normed": (normed, (5, 6))}
OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: optim.Adam(p, lr=0.01),
    "adamw": lambda p: optim.AdamW(p, lr=0.01, amsgrad=True),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "adagrad": lambda p: optim.Adagrad(p, lr=0.01),
}


def train(make, shape, make_optimizer, compiled, n=12, clip=None, schedule=None, set_to_none=True):
    an.random.manual_seed(3)
    net = make()
    optimizer = make_optimizer(net.parameters())
    scheduler = schedule(optimizer) if schedule else None
    batches = [(draw(*shape), an.asarray([0, 1, 2, 1, 0])) for _ in range(3)]

    def step(x, y):
        optimizer.zero_grad(set_to_none=set_to_none)
        loss = an.losses.cross_entropy(net(x), y)
        loss.backward()
        norm = optim.clip_grad_norm_(net.parameters(), clip) if clip else None
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        return loss, norm

    run = an.compile(step) if compiled else step
    bits = []
    for i in range(n):
        loss, norm = run(*batches[i % 3])
        bits.append(
            (loss.detach().numpy().tobytes(), None if norm is None else norm.detach().numpy().tobytes())
        )
    state = {k: v.detach().numpy().tobytes() for k, v in net.state_dict().items()}
    grads = [p.grad.detach().numpy().tobytes() for p in net.parameters()]
    rate = optimizer.param_groups[0]["lr"]
    return (bits, state, grads, rate, an.random.get_state()), run


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("network", NETWORKS)
def test_same_bits_as_eager(network, optimizer):
    eager, _ = train(*NETWORKS[network], OPTIMIZERS[optimizer], compiled=False)
    compiled, step = train(*NETWORKS[network], OPTIMIZERS[optimizer], compiled=True)
    assert compiled == eager
    assert step.recorded == 1


@pytest.mark.parametrize(
    "options",
    [
        {"clip": 0.05},
        {"schedule": lambda o: optim.OneCycleLR(o, 0.3, total_steps=20)},
        {"clip": 0.5, "schedule": lambda o: optim.StepLR(o, 3)},
        {"set_to_none": False},
    ],
    ids=["clip", "schedule", "both", "zeroed"],
)
def test_clipping_and_schedules(options):
    eager, _ = train(*NETWORKS["normed"], OPTIMIZERS["momentum"], compiled=False, **options)
    compiled, step = train(*NETWORKS["normed"], OPTIMIZERS["momentum"], compiled=True, **options)
    assert compiled == eager
    assert step.recorded <= 2  # with set_to_none=False the first step has no gradient to set to zero


def test_a_function_of_arrays():
    @an.compile
    def f(x, y, scale=1.0):
        return {"sum": an.sum(an.exp(x) * y, axis=0) * scale, "pair": (x + y, 3)}

    x, y = draw(4, 3), draw(4, 3)
    for scale in (1.0, 2.0, 1.0):
        for _ in range(2):
            out = f(x, y, scale=scale)
            assert an.all(out["sum"] == an.sum(an.exp(x) * y, axis=0) * scale)
            assert an.all(out["pair"][0] == x + y)
            assert out["pair"][1] == 3
    assert f.recorded == 2  # one for each scale
    plain = x.detach().numpy()
    kinds = [type(an.compile(lambda a: a * 2 + 1)(plain)) for _ in range(2)]
    assert kinds == [type(plain)] * 2


@pytest.mark.parametrize("through", ["a dictionary", "the gradient alone", "an adapted weight"])
def test_parameters_that_are_the_arguments_of_grad_get_gradients_in_a_compiled_step(through):
    """As MAML writes it: the loss after a step depends on the parameters through the argument of an inner `grad`."""

    def inner(net, p, x):
        return an.sum(nn.functional_call(net, p, (x,)) ** 2)

    def loss_of(net, x):
        if through == "the gradient alone":
            return an.sum(x @ an.grad(lambda w: an.sum((x @ w.mT) ** 2))(net.weight).mT)
        if through == "an adapted weight":
            return an.sum(x @ (net.weight - 0.01 * an.grad(lambda w: an.sum((x @ w.mT) ** 2))(net.weight)).mT)
        p = dict(net.named_parameters())
        g = an.grad(lambda p: inner(net, p, x))(p)
        return inner(net, {name: v - 0.01 * g[name] for name, v in p.items()}, x)

    def steps(compiled):
        an.random.manual_seed(0)
        net = nn.Linear(3, 2)
        optimizer = optim.SGD(net.parameters(), lr=0.01)

        def step(x):
            optimizer.zero_grad()
            loss = loss_of(net, x)
            loss.backward()
            optimizer.step()
            return loss

        run = an.compile(step) if compiled else step
        losses = [float(run(an.asarray(np.full((4, 3), i + 1.0, np.float32)))) for i in range(4)]
        return losses, [np.asarray(p.data) for p in net.parameters()]

    eager, compiled = steps(False), steps(True)
    assert eager[0] == compiled[0]
    assert all(np.array_equal(a, b) for a, b in zip(eager[1], compiled[1], strict=True))


def test_gradients_inside():
    def energy(x):
        return an.sum(an.tanh(x) ** 2 * x)

    @an.compile
    def f(x, v):
        return an.grad(energy)(x), an.grad(lambda z: an.vecdot(an.grad(energy)(z), v))(x)

    for _ in range(3):
        x, v = draw(7), draw(7)
        first, second = f(x, v)
        assert an.all(first == an.grad(energy)(x))
        assert an.all(second == an.grad(lambda z, v=v: an.vecdot(an.grad(energy)(z), v))(x))
    assert f.recorded == 1


def test_results_do_not_share_memory():
    f = an.compile(lambda x: x * 2)
    kept = [f(an.full((3,), float(i))) for i in range(4)]
    assert [float(k[0]) for k in kept] == [0.0, 2.0, 4.0, 6.0]


@pytest.mark.parametrize("several", [False, True])
def test_results_lie_in_memory_as_without_compiling(several):
    net = nn.Conv2d(8, 8, 3, padding=1)  # its result has the channels innermost where oneDNN computes it
    x = an.asarray(np.random.default_rng(0).standard_normal((2, 8, 6, 6)).astype("float32"))
    turned = an.permute_dims(x, (0, 2, 3, 1))

    def f(x, turned):
        return (net(x), turned * 2) if several else net(x)

    compiled = an.compile(f)
    for _ in range(3):
        expected, got = f(x, turned), compiled(x, turned)
        for a, b in zip(expected, got, strict=True) if several else [(expected, got)]:
            order = [np.argsort(t.numpy().strides, kind="stable").tolist() for t in (a, b)]
            assert order[0] == order[1]
            assert a.numpy().tobytes() == b.numpy().tobytes()


def test_new_shapes_and_modes_record_anew():
    net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.BatchNorm1d(4))
    f = an.compile(lambda x: net(x).detach())
    for rows in (4, 4, 6, 4, 6):
        f(draw(rows, 3))
    assert f.recorded == 2
    net.eval()
    x = draw(4, 3)
    assert an.all(f(x) == net(x))
    assert f.recorded == 3
    f(draw(4, 3))
    assert f.recorded == 3


def test_programs_are_bounded():
    f = an.compile(lambda x: x + 1, cache_size=2)
    for n in (1, 2, 3, 1):
        f(an.ones(n))
    assert f.recorded == 4
    assert len(f.steps) == 2


def test_rebinding_outside_records_anew():
    p = nn.Parameter(an.ones(3))
    f = an.compile(lambda x: x * p.detach())
    assert float(an.sum(f(an.ones(3)))) == 3.0
    p.data = an.full((3,), 2.0).data
    assert float(an.sum(f(an.ones(3)))) == 6.0
    p.assign_(an.full((3,), 5.0))  # in place: the program sees it
    assert float(an.sum(f(an.ones(3)))) == 15.0
    assert f.recorded == 2


def test_load_state_dict_between_calls():
    net = mlp()
    f = an.compile(lambda x: net(x).detach())
    x = draw(5, 6)
    f(x)
    other = mlp()
    net.load_state_dict(other.state_dict())
    assert an.all(f(x) == other(x))


def line_of(function, text):
    lines, first = inspect.getsourcelines(function)
    return first + next(i for i, line in enumerate(lines) if text in line)


READS = {
    "float": lambda x: float(an.sum(x)),
    "item": lambda x: an.sum(x).item(),
    "branch": lambda x: x if an.sum(x) > 0 else -x,
    "loop": lambda x: [row for row in x.numpy()],
}


@pytest.mark.parametrize("name", READS)
def test_reading_a_value_names_the_line(name):
    function = READS[name]
    line = line_of(function, "lambda")
    with pytest.raises(an.CompileError, match=rf"test_compile\.py:{line}: a value was read"):
        an.compile(function)(an.ones(3))


def test_refusals():
    x = an.ones(3)
    with pytest.raises(an.CompileError, match="requires a gradient"):
        an.compile(lambda a: a * 2)(nn.Parameter(x))
    with pytest.raises(an.CompileError, match="hashable"):
        an.compile(lambda a, b: a)(x, {1, 2})
    with pytest.raises(an.CompileError, match=r"random\.normal"):
        an.compile(lambda a: a + an.random.normal(3))(x)
    with pytest.raises(TypeError, match="takes a function"):
        an.compile(3)
    with pytest.raises(ValueError, match="check_every"):
        an.compile(lambda a: a, check_every=-1)


def test_rebinding_inside_is_refused_and_undone():
    p = nn.Parameter(an.ones(3))

    def f(x):
        p.data = (p.detach() + x).data

    with pytest.raises(an.CompileError, match="bound to a new array"):
        an.compile(f)(an.ones(3))
    assert an.all(p == an.ones(3))


def test_gradients_without_an_optimizer():
    p = nn.Parameter(an.asarray([1.0, 2.0]))

    @an.compile
    def f(x):
        p.grad = None
        an.sum(p * p * x).backward()

    for value in (1.0, 3.0, 2.0):
        f(an.full((2,), value))
        assert an.all(p.grad == 2 * p.detach() * value)
    assert f.recorded == 1
    with pytest.raises(an.CompileError, match="added up"):
        an.compile(lambda x: an.sum(p * x).backward())(an.ones(2))


def test_check_every_notices_what_no_guard_sees(tmp_path):
    file = tmp_path / "factor"
    file.write_text("1.0")
    f = an.compile(lambda x: x * float(file.read_text()), check_every=3)
    for _ in range(2):
        f(an.ones(2))
    file.write_text("2.0")
    with pytest.raises(an.CompileError, match="no longer computes"):
        f(an.ones(2))


def test_check_every_agrees_on_a_step():
    an.random.manual_seed(0)
    net = conv()
    optimizer = optim.Adam(net.parameters())

    def step(x, y):
        optimizer.zero_grad()
        loss = an.losses.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    x, y = draw(5, 2, 6, 6), an.asarray([0, 1, 2, 1, 0])
    checked = an.compile(step, check_every=2)
    got = [checked(x, y).item() for _ in range(6)]
    an.random.manual_seed(0)
    net = conv()
    optimizer = optim.Adam(net.parameters())
    draw(5, 2, 6, 6)
    assert got == [step(x, y).item() for _ in range(6)]


def test_other_devices_run_the_function():
    pytest.importorskip("array_api_strict", reason="the strict backend needs it")
    f = an.compile(lambda x: x * 2)
    out = f(an.ones(3, device="strict"))
    assert out.device == "strict"
    assert f.recorded == 0


def test_compiled_inside_compiled():
    inner = an.compile(lambda x: x * 2)
    outer = an.compile(lambda x: inner(x) + 1)
    assert an.all(outer(an.ones(2)) == 3.0)
    assert inner.recorded == 0
    assert outer.recorded == 1


def test_the_program_can_be_read():
    net = mlp()
    f = an.compile(lambda x: net(x).detach())
    f(draw(2, 6))
    text = str(f)
    assert "argument0" in text
    assert "0.weight" in text
    assert "program of" in text


def test_what_nobody_reads_is_left_out():
    def f(x):
        an.exp(x)
        return an.sin(x) + 1

    g = an.compile(f)
    x = draw(4)
    assert an.all(g(x) == f(x))
    assert an.all(g(x) == f(x))
    text = str(g)
    assert "sin" in text
    assert "exp" not in text


def test_zero_size_and_read_only_arguments():
    f = an.compile(lambda x: an.sum(x * 2, axis=0))
    for _ in range(2):
        assert f(an.zeros((0, 3))).shape == (3,)
    plain = copy.copy(an.ones((2, 2)).numpy())
    plain.flags.writeable = False
    for _ in range(2):
        assert an.all(f(an.Tensor(plain)) == 4 / 1 * an.ones(2))


def test_what_is_computed_twice_is_computed_once():
    x = an.asarray(np.linspace(0, 1, 5))

    @an.compile
    def f(x):
        a, b = an.exp(x * 2.0), an.exp(x * 2.0)
        c = an.exp(x * 3.0)
        y = x * 1.0
        d = y + 1.0
        y += 5.0  # from here on another value
        return a * b + c, d, y + 1.0, b

    expected = [
        np.exp(2 * x.numpy()) ** 2 + np.exp(3 * x.numpy()),
        x.numpy() + 1,
        x.numpy() * 1.0 + 5 + 1,
        np.exp(2 * x.numpy()),
    ]
    for _ in range(3):
        for got, wanted in zip(f(x), expected, strict=True):
            np.testing.assert_array_equal(got.numpy(), wanted)
    text = str(f)
    assert text.count("exp(") == 2
    assert text.count("(a view)") == 0


def test_a_program_is_written_out_once_whatever_comes_between():
    run = an.compile(lambda x: an.tanh(x) * 2.0)
    short, long = an.ones(3), an.ones(5)
    found = []
    for x in (short, short, long, long, short, long, short):
        assert run(x).shape == x.shape
        found.append(run.direct)
    assert found[1] is found[4] is found[6]
    assert found[3] is found[5]
    assert run.recorded == 2


@pytest.mark.parametrize("function", [lambda x: an.tanh(x) * 2.0, lambda x: {"y": an.tanh(x), "n": 3}])
def test_a_program_goes_with_its_function(function, no_collector):
    run = an.compile(function)
    for _ in range(3):
        run(an.ones(4))
    step = next(iter(run.steps.values()))[0]
    gone = weakref.ref(step)
    assert run.direct is step.direct
    del run, step
    assert gone() is None


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_slices_and_what_is_joined(axis):
    def f(x):
        x = an.Tensor(x.data, requires_grad=True)
        a, b, *_ = an.unstack(x, axis=axis)
        y = an.concat([an.stack([a, b * 2.0], axis=axis), an.sin(x)], axis=axis)
        y.backward(an.cos(y))
        return y.detach(), x.grad, a.detach()

    compiled = an.compile(f)
    for seed in range(3):
        x = an.asarray(np.random.default_rng(seed).normal(size=(3, 4, 2)).astype(np.float32))
        for mine, expected in zip(compiled(x), f(x), strict=True):
            assert mine.shape == expected.shape
            np.testing.assert_array_equal(mine.numpy(), expected.numpy())
    assert "(views)" in str(compiled)


@pytest.mark.parametrize(
    ("body", "straight"),
    [
        ("y = x * 2.0; a.assign_(y)", 1),
        ("y = x * 2.0; z = a + 1.0; a.assign_(y)", 0),  # the old numbers are read before
        ("y = x * 2.0; z = b + 1.0; a.assign_(y)", 0),  # b shares memory with a
        ("y = x * 2.0; z = c + 1.0; a.assign_(y)", 1),
        ("y = x * 2.0; b.assign_(x - 1.0); a.assign_(y)", 1),  # b only: they share memory
        ("y = x * 2.0; z = y + a; a.assign_(y)", 0),
        ("y = x * 2.0; a.assign_(y); z = y + 1.0", 0),
        ("y = a * 2.0; a.assign_(y)", 0),
        ("y = x * 2.0; a.assign_(y); a.assign_(a + 1.0)", 1),
        ("y = x * 2.0; a.assign_(y); c.assign_(y)", 0),
        ("y = an.broadcast_to(an.sum(x), (4,)); a.assign_(y)", 0),  # one number for many
        ("y = an.sum(x); d.assign_(y)", 1),
        ("y = x * 2.0; a.assign_(an.flip(y))", 0),
        ("y = x * 2.0; a.assign_(an.astype(y, an.float64))", 1),
    ],
)
def test_results_are_written_where_they_belong(body, straight):
    def run(compiled):
        memory = np.arange(10, dtype=np.float32)
        a, b, c = an.Tensor(memory[:4]), an.Tensor(memory[2:6]), an.Tensor(memory[6:])
        scope = {"a": a, "b": b, "c": c, "d": an.Tensor(memory[9:].reshape(())), "an": an, "z": None}
        lines = body.split("; ")
        exec("def f(x):\n z = x + 0.0\n " + "\n ".join(lines) + "\n return z", scope)
        f = an.compile(scope["f"]) if compiled else scope["f"]
        found = [f(an.asarray(np.float32([1, 2, 3, 4]) * k)).numpy().copy() for k in range(1, 5)]
        return [*found, memory], str(f)

    (mine, text), (expected, _) = run(True), run(False)
    for x, y in zip(mine, expected, strict=True):
        np.testing.assert_array_equal(x, y)
    written = [line for line in text.splitlines() if line.lstrip().startswith("outside")]
    assert sum("(" in line.partition(" = ")[2] for line in written) == straight, text


def test_assigning_another_shape_is_refused_as_in_eager():
    a = an.asarray(np.zeros(4, np.float32))
    with pytest.raises(ValueError, match=r"assign_ of shape \(\) to a Tensor of shape \(4,\)"):
        an.compile(lambda x: a.assign_(an.sum(x)))(an.ones(4))
    assert a.tolist() == [0.0] * 4


def a_training(compiled, seed, steps=12):
    """Losses of a small training."""
    rng = np.random.default_rng(seed)
    x, y = (an.asarray(rng.normal(size=s).astype(np.float32)) for s in ((16, 5), (16, 3)))
    an.random.manual_seed(3)
    net = an.nn.Sequential(an.nn.Linear(5, 8), an.nn.Tanh(), an.nn.Linear(8, 3))
    optimizer = an.optim.Adam(net.parameters(), lr=0.01)

    def step(x, y):
        optimizer.zero_grad()
        loss = an.losses.mse_loss(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    run = an.compile(step) if compiled else step
    return lambda: [run(x, y).item() for _ in range(steps)]


def test_steps_are_compiled_and_run_in_many_threads(in_threads):
    expected = {seed: a_training(False, seed)() for seed in range(3)}
    for _ in range(3):
        trainings = [(seed, a_training(compiled, seed)) for seed in range(3) for compiled in (True, False)]
        found = []

        def work(seed, run, found=found):
            found.append((seed, run()))

        in_threads(*(functools.partial(work, *each) for each in trainings))
        assert len(found) == 6
        for seed, losses in found:
            assert losses == expected[seed]


def test_one_compiled_function_in_many_threads(in_threads):
    weight = an.asarray(np.random.default_rng(0).normal(size=(40, 40)).astype(np.float32))
    grown = an.asarray(np.zeros(3, np.float32))

    @an.compile
    def count(x):
        grown.assign_(grown + x)
        return grown + 0.0

    compiled = an.compile(lambda x: (an.sum(an.tanh(x @ weight), axis=1), an.exp(-x * x)))
    wrong = []

    def work(seed):
        x = an.asarray(np.random.default_rng(seed).normal(size=(30, 40)).astype(np.float32))
        expected = an.sum(an.tanh(x @ weight), axis=1).numpy(), an.exp(-x * x).numpy()
        for _ in range(60):
            found = compiled(x)
            wrong.extend(seed for a, b in zip(found, expected, strict=True) if not (a.numpy() == b).all())
            count(an.ones(3))

    in_threads(*(functools.partial(work, seed) for seed in range(4)))
    assert not wrong
    np.testing.assert_array_equal(grown.numpy(), np.full(3, 240.0, np.float32))


@pytest.mark.parametrize("watch", [an.profile, anomaly])
def test_what_watches_one_thread_sees_no_other(watch, in_threads):
    inside, leave = threading.Event(), threading.Event()
    seen = []

    def watched():
        with watch() as p:
            an.vmap(lambda v: an.sin(v) * 2.0)(an.ones((2, 3)))
            inside.set()
            leave.wait(60)
        if watch is an.profile:
            seen.extend(e.name for e in p.events)

    def other():
        inside.wait(60)
        try:
            with np.errstate(invalid="ignore"):
                y = an.log(an.asarray([-1.0]))
        finally:
            leave.set()
        assert np.isnan(y.numpy()).all()

    in_threads(watched, other)
    if watch is an.profile:
        assert "sin" in seen
        assert "log" not in seen


@contextlib.contextmanager
def drawing(count=3):
    """Draws from the streams of masks and weights that all threads share."""
    an.nn.functional.dropout(an.ones((4,)), 0.5)
    for _ in range(count):
        an.nn.Linear(3, 2)
    yield


def test_what_other_threads_draw_is_not_a_functions_own(while_another):
    """While it is recorded: neither is it refused for that, nor do its masks depend on it."""
    x = an.ones((50,))

    def masked(x):
        y = an.nn.functional.dropout(x, 0.5)
        with while_another(drawing()):
            pass
        return y * an.nn.functional.dropout(x, 0.5)

    an.random.manual_seed(3)
    expected = [an.nn.functional.dropout(x, 0.5) * an.nn.functional.dropout(x, 0.5) for _ in range(2)]
    an.random.manual_seed(3)
    compiled = an.compile(masked)
    assert compiled(x).tolist() == expected[0].tolist()
    assert an.random.get_state() == {"seed": 3, "weights": 6, "masks": 3}


def test_what_other_threads_draw_while_a_checkpoint_computes_again(while_another):
    x = an.asarray([1.0] * 50, requires_grad=True)

    def masked(x):
        y = an.nn.functional.dropout(x, 0.5)
        with while_another(drawing(0)):
            pass
        return y * an.nn.functional.dropout(x, 0.5)

    an.random.manual_seed(3)
    y = checkpoint(masked, x)
    an.sum(y).backward()
    assert x.grad.tolist() == (2 * y.detach()).tolist()
    assert an.random.get_state() == {"seed": 3, "weights": 0, "masks": 4}


def test_draws_of_a_replay_and_of_other_threads_are_apart(in_threads, monkeypatch):
    """Each mask is drawn once."""
    steps = []
    original = philox.philox_words

    def noted(key, stream, step, n):
        steps.append(step)
        return original(key, stream, step, n)

    compiled = an.compile(lambda x: an.nn.functional.dropout(an.nn.functional.dropout(x, 0.5), 0.5))
    compiled(an.ones((40,)))
    monkeypatch.setattr(philox, "philox_words", noted)

    def replay():
        for _ in range(50):
            compiled(an.ones((40,)))

    def eager():
        for _ in range(100):
            an.nn.functional.dropout(an.ones((40,)), 0.5)

    in_threads(replay, eager, eager)
    assert len(steps) == len(set(steps)) == 300


def test_a_replay_holds_what_it_reads():
    """A thread may be in it when another one has made so many programs that this one is let go."""
    w = nn.Parameter(an.asarray([[1.0, 2.0], [3.0, 4.0]]))
    compiled = an.compile(lambda x: (an.exp(an.matmul(x, w)) * 2.0, an.tanh(x) + 1.0))
    x = an.asarray([[0.5, 1.5]])
    with an.no_grad():
        expected = [y.tolist() for y in compiled(x)]
        compiled(x)
        replay = compiled.direct
        compiled.steps.clear()
        compiled.direct = None
        gc.collect()
        rubbish = [np.full(n, 1e9) for n in range(1, 100) for _ in range(20)]
        assert [y.tolist() for y in replay((x,))] == expected
    del rubbish


def test_the_program_says_what_each_line_is_for():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    optimizer = an.optim.Adam(net.parameters(), lr=0.01)

    @an.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = an.losses.mse_loss(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    step(an.ones((5, 3)), an.ones((5, 1)))
    lines = str(step).splitlines()
    headings = [line.strip() for line in lines if line.startswith("    ") and not line.startswith("      ")]
    phases = [line.strip() for line in lines if line.startswith("  ") and not line.startswith("    ")]
    assert phases == ["forward", "backward", "update"]
    at = {h: i for i, h in enumerate(headings)}
    assert at["linear in Sequential.0"] < at["tanh in Sequential.1"] < at["linear in Sequential.2"]
    backward = [h for h in headings if h.startswith("derivative of")]
    assert backward[-2].endswith("= tanh in Sequential.1")
    assert backward[-1].endswith("= linear in Sequential.0")
    forward = next(line for line in lines if "= tanh(" in line).split("=")[0].strip()
    assert backward[-2] == f"derivative of {forward} = tanh in Sequential.1"
    assert "Adam of 0.weight, 0.bias, 2.weight, 2.bias" in headings
    assert any(line.strip().startswith("∂L/∂0.weight") for line in lines)
    assert repr(step) == "<compiled step: 1 calls, 1 programs; print shows them>"


def test_the_program_shows_indices_as_they_are_written():
    step = an.compile(lambda x: x[1:3] * x[::2])
    step(an.ones(4))
    text = str(step)
    assert "[1:3]" in text
    assert "[::2]" in text
    assert "getitem(" not in text
