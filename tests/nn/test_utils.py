"""nn.utils, the two rarer initialisers, averages of weights: as PyTorch's."""

import numpy as np
import pytest

import anynet as an
from torch_oracle import torch

nn, utils, T = an.nn, an.nn.utils, torch.nn
rng = np.random.default_rng(0)


def test_parameters_as_a_vector():
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    vector = utils.parameters_to_vector(net.parameters())
    assert vector.shape == (11,)
    an.sum(vector**2).backward()
    assert (net[0].weight.grad.numpy() == 2 * net[0].weight.numpy()).all()
    utils.vector_to_parameters(an.arange(11.0), net.parameters())
    assert net[0].weight.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert net[1].bias.tolist() == [10.0]
    with pytest.raises(ValueError, match=r"expected \(11,\)"):
        utils.vector_to_parameters(an.zeros(10), net.parameters())
    with pytest.raises(ValueError, match="no parameters"):
        utils.parameters_to_vector([])


@pytest.mark.parametrize("norm", [1.0, 2.0, float("inf")])
def test_clipping_in_two_steps(norm):
    ours = [an.Parameter(rng.normal(size=s)) for s in ((3, 2), (4,))]
    theirs = [T.Parameter(torch.tensor(p.numpy())) for p in ours]
    for p, q in zip(ours, theirs, strict=True):
        g = rng.normal(size=p.shape)
        p.grad, q.grad = an.asarray(g), torch.tensor(g)
    total = utils.get_total_norm([p.grad for p in ours], norm)
    wanted = T.utils.get_total_norm([q.grad for q in theirs], norm)
    assert total.item() == pytest.approx(wanted.item(), rel=1e-12)
    utils.clip_grads_with_norm_(ours, 0.5, total)
    T.utils.clip_grads_with_norm_(theirs, 0.5, wanted)
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-12)
    assert utils.get_total_norm([]).item() == 0.0
    with pytest.raises(RuntimeError, match="the norm of the gradients must be finite, got nan"):
        utils.get_total_norm([an.asarray([float("nan")])], error_if_nonfinite=True)


@pytest.mark.parametrize(
    ("layer", "norm", "shape", "transpose"),
    [
        (lambda: nn.Conv1d(3, 4, 3, bias=False), lambda: nn.BatchNorm1d(4), (2, 3, 8), False),
        (lambda: nn.Conv2d(4, 4, 3, groups=2), lambda: nn.BatchNorm2d(4, affine=False), (2, 4, 8, 8), False),
        (lambda: nn.ConvTranspose2d(3, 4, 3), lambda: nn.BatchNorm2d(4), (2, 3, 5, 5), True),
    ],
)
def test_fusing_with_batch_norm(layer, norm, shape, transpose):
    conv, bn = layer().double(), norm().double()
    x = an.asarray(rng.normal(size=shape))
    for _ in range(3):
        bn(conv(x * 2 + 1))
    conv.eval()
    with pytest.raises(RuntimeError, match="evaluation"):
        utils.fuse_conv_bn_eval(conv, bn, transpose)
    bn.eval()
    before = conv.weight.numpy().copy()
    fused = utils.fuse_conv_bn_eval(conv, bn, transpose)
    np.testing.assert_allclose(fused(x).numpy(), bn(conv(x)).numpy(), rtol=1e-10, atol=1e-12)
    assert (conv.weight.numpy() == before).all()


def test_fusing_linear_with_batch_norm():
    linear, bn = nn.Linear(3, 4).double(), nn.BatchNorm1d(4).double()
    x = an.asarray(rng.normal(size=(8, 3)))
    bn(linear(x) * 3 + 1)
    linear.eval(), bn.eval()
    np.testing.assert_allclose(
        utils.fuse_linear_bn_eval(linear, bn)(x).numpy(), bn(linear(x)).numpy(), rtol=1e-10
    )
    with pytest.raises(ValueError, match="got 4 and 5"):
        utils.fuse_linear_bn_eval(linear, nn.BatchNorm1d(5).eval())
    with pytest.raises(ValueError, match="no running statistics"):
        utils.fuse_linear_bn_eval(linear, nn.BatchNorm1d(4, track_running_stats=False).eval())


def test_dirac_and_sparse():
    for shape, groups in (((4, 4, 3), 1), ((6, 2, 3, 3), 2), ((2, 3, 2, 2, 3), 1)):
        ours, theirs = an.zeros(shape), torch.empty(shape)
        assert (nn.init.dirac_(ours, groups).numpy() == T.init.dirac_(theirs, groups).numpy()).all()
    with pytest.raises(ValueError, match="3 to 5 axes"):
        nn.init.dirac_(an.zeros((2, 2)))
    w = nn.init.sparse_(an.zeros((50, 20)), 0.3, std=2.0).numpy()
    assert ((w == 0).sum(axis=0) == 15).all()
    assert 1.5 < w[w != 0].std() < 2.5
    with pytest.raises(ValueError, match="a matrix"):
        nn.init.sparse_(an.zeros(3), 0.1)


@pytest.mark.parametrize("kind", ["swa", "ema", "function", "multi"])
@pytest.mark.parametrize("use_buffers", [False, True])
def test_averaged_model_as_pytorch(kind, use_buffers):
    if kind == "multi" and use_buffers:
        return  # PyTorch fails on the count of batches, an integer
    an.random.manual_seed(0)
    ours = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()
    theirs = T.Sequential(T.Linear(3, 4), T.BatchNorm1d(4)).double()
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in ours.state_dict().items()})
    made = []
    for home, net in ((an.optim.swa_utils, ours), (torch.optim.swa_utils, theirs)):
        options = {
            "swa": {}, "ema": {"multi_avg_fn": home.get_ema_multi_avg_fn(0.9)},
            "function": {"avg_fn": lambda a, new, n: 0.5 * a + 0.5 * new}, "multi": {"multi_avg_fn": home.get_swa_multi_avg_fn()},
        }[kind]  # fmt: skip
        made.append(home.AveragedModel(net, use_buffers=use_buffers, **options))
    for _ in range(4):
        x = rng.normal(size=(6, 3))
        ours(an.asarray(x)), theirs(torch.tensor(x))
        change = [rng.normal(size=p.shape) for p in ours.parameters()]
        with an.no_grad(), torch.no_grad():
            for p, q, c in zip(ours.parameters(), theirs.parameters(), change, strict=True):
                p.assign_(p + an.asarray(c))
                q += torch.tensor(c)
        made[0].update_parameters(ours)
        made[1].update_parameters(theirs)
    assert sorted(made[0].state_dict()) == sorted(made[1].state_dict())
    for name, value in made[1].state_dict().items():
        if use_buffers and name.endswith("num_batches_tracked"):
            continue  # PyTorch averages the integer; here it is the model's
        # PyTorch rounds 1 / (n + 1) to float32, so that numbers which nearly cancel are as far off as those that they come from
        np.testing.assert_allclose(
            made[0].state_dict()[name].numpy(), value.numpy(), rtol=1e-6, atol=1e-7, err_msg=name
        )
    x = rng.normal(size=(5, 3))
    np.testing.assert_allclose(
        made[0].eval()(an.asarray(x)).numpy(),
        made[1].eval()(torch.tensor(x)).detach().numpy(),
        rtol=1e-6,
        atol=1e-7,
    )


def test_update_bn_and_refusals():
    swa = an.optim.swa_utils
    ours, theirs = nn.Sequential(nn.BatchNorm1d(3)).double(), T.Sequential(T.BatchNorm1d(3)).double()
    batches = [rng.normal(size=(4, 3)) * (i + 1) for i in range(3)]
    swa.update_bn([(an.asarray(b), 0) for b in batches], ours.eval())
    torch.optim.swa_utils.update_bn([(torch.tensor(b), 0) for b in batches], theirs.eval())
    assert not ours.training
    assert ours[0].momentum == 0.1
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name].numpy(), value.numpy(), rtol=1e-10)
    with pytest.raises(ValueError, match="got both avg_fn and multi_avg_fn"):
        swa.AveragedModel(ours, avg_fn=swa.get_swa_avg_fn(), multi_avg_fn=swa.get_swa_multi_avg_fn())
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\]"):
        swa.get_ema_avg_fn(2.0)
    with pytest.raises(ValueError, match="other shapes"):
        swa.AveragedModel(ours).update_parameters(nn.Linear(2, 2))
    optimizer = an.optim.SGD([an.Parameter([1.0])], lr=0.1)
    for options, message in (
        ({"anneal_strategy": "up"}, "'cos' or 'linear'"), ({"anneal_epochs": -1}, "anneal_epochs must be an integer ≥ 0"),
        ({"swa_lr": [1.0, 2.0]}, "2 rates for 1"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            swa.SWALR(optimizer, **({"swa_lr": 0.01} | options))


@pytest.mark.parametrize(
    "options", [{}, {"anneal_strategy": "linear", "anneal_epochs": 4}, {"anneal_epochs": 0}], ids=str
)
def test_swalr_as_pytorch(options):
    p, q = an.Parameter([1.0]), T.Parameter(torch.ones(1))
    a, b = an.optim.SGD([p], lr=0.5), torch.optim.SGD([q], lr=0.5)
    ours = an.optim.swa_utils.SWALR(a, 0.05, **options)
    theirs = torch.optim.swa_utils.SWALR(b, 0.05, **options)
    for _ in range(15):
        assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr(), rel=1e-12)
        b.step()
        ours.step()
        theirs.step()
