import pyro.distributions as dist
import pytest
import torch

from pyro_reparam_ext.distributions.rules.peak import mode_of


class Sharper(dist.Logistic):
    """With another mode, which the rule of its base does not know."""

    @property
    def mode(self):
        return self.loc + 1


def test_by_rule_and_by_method():
    loc = torch.tensor(0.5, requires_grad=True)
    assert mode_of(dist.Logistic(loc, 2.0)) is loc
    assert mode_of(dist.Normal(loc, 2.0)) == 0.5
    assert mode_of(Sharper(loc, 2.0)) == 1.5


def test_says_what_is_missing():
    mixture = dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Normal(torch.zeros(2), 1.0))
    with pytest.raises(NotImplementedError, match="mode of MixtureSameFamily .* subclass"):
        mode_of(mixture)
