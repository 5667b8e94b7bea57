"""Nests of containers: they are taken apart and built again, and hold nothing afterwards."""

import gc
import weakref
from collections import namedtuple

import pytest

import anynet as an
from anynet.autograd.pytree import flatten, map_tree, unflatten

Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    "tree", [3, None, (), [1, 2], {"x": (1, [2, None])}, Pair(1, {"y": 2}), ((), [], {})], ids=repr
)
def test_there_and_back(tree):
    leaves, structure = flatten(tree)
    assert unflatten(structure, leaves) == tree
    assert map_tree(lambda x: x, tree) == tree


def test_leaves_are_freed_without_the_collector(no_collector):
    x = an.zeros((3,))
    seen = weakref.ref(x)
    map_tree(lambda a: a, {"x": [x]})
    del x
    assert seen() is None
    assert not gc.isenabled()
