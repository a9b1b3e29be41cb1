"""Where a graph ends: at given nodes, and at leaves."""

import torch

from pyro_reparam_ext.numerics.graph_ends import graph_ends


def variables(nodes):
    return [node.variable for node in nodes if hasattr(node, "variable")]


def test_leaves():
    a, b, c = (torch.ones((), requires_grad=True) for _ in range(3))
    found = variables(graph_ends([a * b.exp(), a + 1]))
    assert len(found) == 2 and all(any(x is y for y in found) for x in (a, b))
    assert list(graph_ends([torch.ones(2)])) == []
    assert list(graph_ends([(c * 2).detach()])) == []


def test_it_is_not_followed_beyond_an_end():
    leaf = torch.ones((), requires_grad=True)
    middle = leaf.exp()
    assert list(graph_ends([middle.sin() + middle], {middle.grad_fn})) == [middle.grad_fn]
    both = list(graph_ends([middle * leaf], {middle.grad_fn}))
    assert middle.grad_fn in both and len(both) == 2
    assert list(graph_ends([middle], {middle.grad_fn})) == [middle.grad_fn]
