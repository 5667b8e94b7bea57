"""Hooks around an optimizer's step."""

import pytest

import anynet as an


@pytest.mark.parametrize(
    "make", [lambda p: an.optim.SGD(p, lr=0.5), lambda p: an.optim.LBFGS(p, lr=0.5, max_iter=1)]
)
def test_hooks_around_a_step(make):
    p = an.nn.Parameter(an.asarray([2.0]))
    optimizer, seen = make([p]), []

    def closure():
        optimizer.zero_grad()
        loss = an.sum(p * p)
        loss.backward()
        return loss

    removers = [
        optimizer.register_step_pre_hook(
            lambda o, args, kwargs: seen.append(("pre", o is optimizer, len(args)))
        ),
        optimizer.register_step_pre_hook(lambda o, args, kwargs: ((closure,), {})),
        optimizer.register_step_post_hook(
            lambda o, args, kwargs: seen.append(("post", args[0] is closure, p.tolist()))
        ),
    ]
    optimizer.step()
    assert seen[0] == ("pre", True, 0)
    assert seen[1][:2] == ("post", True)
    assert seen[1][2] != [2.0]
    for remove in removers:
        remove()
    optimizer.step(closure)
    assert len(seen) == 2
