"""Hooks of states, extra states, hooks of all modules, places without a module: as in PyTorch, side by side."""

import pytest

import anynet as an
from anynet.nn import hooks as ours_hooks

torch = pytest.importorskip("torch")
from torch.nn.modules import module as theirs_hooks  # noqa: E402 - after the skip


def net_with_extra(library):
    class Counter(library.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = library.nn.Linear(2, 1)
            self.count = 3

        def get_extra_state(self):
            return {"count": self.count}

        def set_extra_state(self, state):
            self.count = state["count"]

        def forward(self, x):
            return self.inner(x)

    return Counter()


def test_extra_states():
    ours, theirs = net_with_extra(an), net_with_extra(torch)
    assert set(ours.state_dict()) == set(theirs.state_dict())
    assert ours.state_dict()["_extra_state"] == {"count": 3}
    outer = an.nn.Sequential(net_with_extra(an))
    state = outer.state_dict()
    state["0._extra_state"] = {"count": 9}
    keys = outer.load_state_dict(state)
    assert (keys.missing_keys, keys.unexpected_keys, outer[0].count) == ([], [], 9)
    del state["0._extra_state"]
    with pytest.raises(an.nn.StateError, match=r"missing 0\._extra_state"):
        outer.load_state_dict(state)
    assert outer.load_state_dict(state, strict=False).missing_keys == ["0._extra_state"]


def recorded(library):
    """What the hooks of one library see."""
    seen = []
    net = library.nn.Sequential(library.nn.Linear(2, 2), library.nn.Linear(2, 1))
    net[0].register_state_dict_pre_hook(lambda m, prefix, keep: seen.append(("pre", prefix, keep)))
    net[0].register_state_dict_post_hook(lambda m, state, prefix, meta: state.__setitem__(f"{prefix}more", 1))
    net.register_state_dict_post_hook(
        lambda m, state, prefix, meta: seen.append(("post", sorted(state), prefix))
    )

    def rename(m, state, prefix, meta, strict, missing, unexpected, errors):
        state[f"{prefix}weight"] = state.pop(f"{prefix}old")
        seen.append(("load", prefix, strict))

    state = net.state_dict()
    state["1.old"] = state.pop("1.weight")
    del state["0.more"]
    net[1].register_load_state_dict_pre_hook(rename)
    net.register_load_state_dict_post_hook(lambda m, keys: seen.append(("loaded", keys.missing_keys)))
    net.load_state_dict(state)
    assert "1.old" in state  # the caller's is as it was
    return seen


def test_hooks_of_states():
    assert recorded(an) == recorded(torch)


def calls(library, hooks, ones):
    seen = []
    net = library.nn.Sequential(library.nn.Linear(2, 2), library.nn.ReLU())
    net(ones)
    handles = [
        hooks.register_module_forward_pre_hook(lambda m, args: seen.append(("before", type(m).__name__))),
        hooks.register_module_forward_hook(lambda m, args, out: seen.append(("after", type(m).__name__))),
        hooks.register_module_full_backward_hook(
            lambda m, gi, go: seen.append(("backward", type(m).__name__))
        ),
    ]
    y = net(ones.requires_grad_())
    y.sum().backward() if library is torch else an.sum(y).backward()
    for handle in handles:
        handle.remove()
    net(ones)
    return seen


def test_hooks_of_all_modules():
    assert calls(an, ours_hooks, an.ones((1, 2))) == calls(torch, theirs_hooks, torch.ones(1, 2))


def with_keywords(library, ones):
    class Scale(library.nn.Module):
        def forward(self, x, by=1.0):
            return x * by

    net, seen = Scale(), []
    net.register_forward_pre_hook(lambda m, args, kwargs: (args, {"by": kwargs["by"] + 1}), with_kwargs=True)
    net.register_forward_hook(lambda m, args, out: seen.append("second"))
    net.register_forward_hook(
        lambda m, args, kwargs, out: seen.append(kwargs["by"]) or out + 1, with_kwargs=True, prepend=True
    )
    return net(ones, by=2.0).tolist(), seen


def test_hooks_with_keywords():
    assert with_keywords(an, an.ones(2)) == with_keywords(torch, torch.ones(2))


def test_places_without_a_module():
    for library in (an, torch):
        blocks = library.nn.ModuleList([None, library.nn.Linear(1, 1)])
        blocks.append(None)
        assert (len(blocks), blocks[0], blocks[2]) == (3, None, None)
        assert list(blocks.state_dict()) == ["1.weight", "1.bias"]
        assert library.nn.ModuleDict({"a": None})["a"] is None
    assert "(0): None" in repr(an.nn.ModuleList([None]))
    with pytest.raises(TypeError, match="items must be modules, got int"):
        an.nn.ModuleList([3])


def test_lists_of_lists_of_parameters():
    names = []
    for library, ones in ((an, an.ones(1)), (torch, torch.ones(1))):
        inner = library.nn.ParameterList([library.nn.Parameter(ones)])
        nested = library.nn.ParameterList([inner])
        nested.append(library.nn.ParameterList([library.nn.Parameter(ones), library.nn.Parameter(ones)]))
        names.append([name for name, _ in nested.named_parameters()])
    assert names[0] == names[1] == ["0.0", "1.0", "1.1"]
