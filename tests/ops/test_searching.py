"""Sorting: gradients."""

import anynet as an


def test_sort_sends_the_gradient_back_to_each_element():
    x = an.asarray([3.0, 1.0, 2.0], requires_grad=True)
    an.sum(an.sort(x) * an.asarray([1.0, 2.0, 3.0])).backward()
    assert x.grad.tolist() == [3.0, 1.0, 2.0]
