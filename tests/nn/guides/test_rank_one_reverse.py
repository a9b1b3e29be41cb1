"""The reverse model is a density, and close to the conditional law: by quadrature."""

import pyro.distributions as dist
import pytest
import torch

from pyro_reparam_ext.nn.guides.rank_one_reverse import log_reverse

from ...statistics import assert_mean


def parameters(*shape):
    loc = torch.randn(shape, dtype=torch.float64)
    scale, row, column = (0.05 + 0.4 * torch.rand(s).double() for s in (shape, shape[:1], shape[1:]))
    return loc, scale, row, column


def draw(number, loc, scale, row, column):
    rows = 1 + row * torch.randn(number, len(row), dtype=loc.dtype)
    columns = 1 + column * torch.randn(number, len(column), dtype=loc.dtype)
    mean = loc * rows[..., None] * columns[..., None, :]
    return rows, columns, mean + scale * torch.randn(mean.shape, dtype=loc.dtype)


def log_joint(rows, columns, weight, loc, scale, row, column):
    mean = loc * rows[..., None] * columns[..., None, :]
    return (
        dist.Normal(1.0, row).log_prob(rows).sum(-1)
        + dist.Normal(1.0, column).log_prob(columns).sum(-1)
        + dist.Normal(mean, scale).log_prob(weight).sum((-2, -1))
    )


def grid():
    axis = torch.linspace(-2, 4, 501, dtype=torch.float64)
    cell = (axis[1] - axis[0]) ** 2
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    return rows.reshape(-1, 1), columns.reshape(-1, 1), cell


@pytest.mark.parametrize("weight", [-1.0, 0.2, 0.8, 3.0])
def test_integrates_to_one(weight):
    """At any weight, likely or not: what makes the bound one."""
    rows, columns, cell = grid()
    given = (torch.full((1, 1), x, dtype=torch.float64) for x in (weight, 0.9, 0.15))
    spreads = (torch.tensor([x], dtype=torch.float64) for x in (0.2, 0.3))
    total = log_reverse(rows, columns, *given, *spreads).exp().sum() * cell
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-6, atol=0)


@pytest.mark.parametrize("shape", [(3, 2), (2, 3), (1, 4)])
def test_integrates_to_one_where_there_are_more(shape):
    """By importance sampling from the noise's own law, which is wider."""
    given = parameters(*shape)
    weight = draw(1, *given)[2]
    rows, columns, _ = draw(50_000, *given)
    log_law = log_joint(rows, columns, weight, *given) - dist.Normal(
        given[0] * rows[..., None] * columns[..., None, :], given[1]
    ).log_prob(weight).sum((-2, -1))
    ratio = (log_reverse(rows, columns, weight, *given) - log_law).exp()
    assert_mean(ratio[:, None], torch.ones(1))


def test_close_to_the_conditional_law():
    """Of one element: the mean divergence, which the bound loses, is hundredths of a nat."""
    loc, scale, row, column = (torch.tensor(x).double() for x in ([[0.9]], [[0.1]], [0.1], [0.2]))
    rows, columns, cell = grid()
    lost = []
    for weight in draw(5, loc, scale, row, column)[2]:
        joint = log_joint(rows, columns, weight, loc, scale, row, column)
        conditional = joint - (joint.logsumexp(0) + cell.log())
        reverse = log_reverse(rows, columns, weight, loc, scale, row, column)
        lost.append((conditional.exp() * (conditional - reverse)).sum() * cell)
    assert all(-1e-6 < x < 0.1 for x in lost)
    assert sum(lost) / len(lost) < 0.02


def test_exact_where_one_side_has_no_noise():
    """Then W is jointly normal with the noise: joint density over reverse is the marginal one."""
    loc, scale, row, _ = parameters(4, 3)
    column = torch.full((3,), 1e-5, dtype=torch.float64)
    rows, columns, weight = draw(5, loc, scale, row, column)
    factor, diagonal = (loc * row[:, None])[..., None], scale.square()
    exact = dist.LowRankMultivariateNormal(loc, factor, diagonal).log_prob(weight).sum(-1)
    joint = log_joint(rows, columns, weight, loc, scale, row, column)
    reverse = log_reverse(rows, columns, weight, loc, scale, row, column)
    torch.testing.assert_close(joint - reverse, exact, rtol=1e-4, atol=1e-3)


def test_ratio_to_the_joint_density_is_constant():
    """Where the noise is small the model is nearly linear, and what is left the density of W."""
    loc, scale = torch.linspace(0.5, 2.0, 12).double().reshape(4, 3), torch.full((4, 3), 0.05).double()
    given = loc, scale, torch.full((4,), 0.03).double(), torch.full((3,), 0.04).double()
    weight = draw(1, *given)[2]
    rows, columns, _ = draw(50, *given)
    joint = log_joint(rows, columns, weight, *given)
    ratio = joint - log_reverse(rows, columns, weight, *given)
    assert ratio.std() < 0.4 and joint.std() > 5


def test_more_steps_hardly_matter(monkeypatch):
    loc, scale = torch.linspace(0.5, 2.0, 12).double().reshape(4, 3), torch.full((4, 3), 0.1).double()
    given = loc, scale, torch.full((4,), 0.3).double(), torch.full((3,), 0.3).double()
    noise = draw(2000, *given)
    two = log_reverse(*noise, *given)
    monkeypatch.setattr("pyro_reparam_ext.nn.guides.rank_one_reverse.STEPS", 20)
    many = log_reverse(*noise, *given)
    lost = (many - two).mean()
    assert lost.abs() < 0.05


def test_sides_may_be_swapped():
    loc, scale, row, column = parameters(4, 3)
    rows, columns, weight = draw(5, loc, scale, row, column)
    direct = log_reverse(rows, columns, weight, loc, scale, row, column)
    swapped = log_reverse(columns, rows, weight.mT, loc.mT, scale.mT, column, row)
    torch.testing.assert_close(direct, swapped)


@pytest.mark.parametrize("scale", [1e-2, 1e-3, 1e-4, 1e-5])
def test_float32(scale):
    """What a common factor of r and s is known by is tiny beside what is known of the rest."""
    loc = torch.randn(50, 30)
    given = loc, torch.full((50, 30), scale), torch.full((50,), 0.1), torch.full((30,), 0.1)
    noise = draw(1, *given)
    leaves = [x.clone().requires_grad_() for x in (*noise, *given)]
    value = log_reverse(*leaves)
    gradients = torch.autograd.grad(value.sum(), leaves)
    expected = log_reverse(*(x.double() for x in (*noise, *given)))
    assert value.dtype == torch.float32 and all(x.isfinite().all() for x in gradients)
    torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hardly_any_noise_of_its_own(dtype):
    """Where float64 is at its end the density is not a good one, but one."""
    given = (
        torch.randn(8, 50, 30),
        torch.full((50, 30), 1e-10),
        torch.full((50,), 0.1),
        torch.full((30,), 0.1),
    )
    given = [x.to(dtype) for x in given]
    leaves = [x.requires_grad_() for x in (*draw(1, *given), *given)]
    value = log_reverse(*leaves)
    assert value.isfinite().all()
    assert all(x.isfinite().all() for x in torch.autograd.grad(value.sum(), leaves))
