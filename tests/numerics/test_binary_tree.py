import pytest
import torch

from pyro_reparam_ext.numerics.binary_tree import leaf, node_logits, path

CLASSES = (1, 2, 3, 4, 5, 8, 11)


def log_probs(logits):
    """Of each class, by the turns on its way."""
    classes = logits.shape[-1]
    reached, turns = path(torch.arange(classes), classes)
    alpha = node_logits(logits).unsqueeze(-2)
    taken = torch.where(turns, alpha, -alpha)
    return torch.where(reached, torch.nn.functional.logsigmoid(taken), 0.0).sum(-1)


@pytest.mark.parametrize("classes", CLASSES)
def test_probabilities_of_classes(classes):
    logits = torch.randn(6, classes, generator=torch.Generator().manual_seed(0)).double() * 3
    torch.testing.assert_close(log_probs(logits), logits.log_softmax(-1))


@pytest.mark.parametrize("classes", CLASSES)
def test_the_way_leads_to_the_class(classes):
    place = torch.arange(classes)
    reached, turns = path(place, classes)
    for elsewhere in (False, True):  # what lies beside the way doesn't count
        assert torch.equal(leaf(torch.where(reached, turns, elsewhere)), place)


def test_classes_that_are_impossible_are_never_reached():
    logits = torch.tensor([-torch.inf, 0.3, -torch.inf, -torch.inf, 1.0], requires_grad=True)
    alpha = node_logits(logits)
    assert alpha.isfinite().all()
    uniform = torch.rand(1000, 7, generator=torch.Generator().manual_seed(0))
    assert leaf(uniform < alpha.sigmoid()).unique().tolist() == [1, 4]
    (gradient,) = torch.autograd.grad(alpha.sum(), logits)
    assert gradient.isfinite().all() and (gradient[logits == -torch.inf] == 0).all()


def test_small_probabilities_in_single_precision():
    logits = torch.tensor([1e-6, 1e-6, 1 - 3e-6, 1e-6]).log()
    torch.testing.assert_close(log_probs(logits).exp(), logits.exp(), rtol=1e-5, atol=0)
