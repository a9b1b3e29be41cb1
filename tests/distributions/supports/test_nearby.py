import pytest
import torch

from pyro_reparam_ext.distributions.supports.nearby import (
    near_corr_cholesky,
    near_positive_definite,
    near_sphere,
)

MATRIX = torch.tensor([[2.0, 0.3], [0.3, 1.0]], dtype=torch.float64)
DIRECTION = torch.tensor([0.6, -0.8], dtype=torch.float64)
FACTOR = torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.float64)
CASES = {
    "sphere": (near_sphere, DIRECTION),
    "corr_cholesky": (near_corr_cholesky, FACTOR),
    "positive_definite": (near_positive_definite, MATRIX),
}
every_case = pytest.mark.parametrize(("constraint", "value"), CASES.values(), ids=CASES)


@every_case
def test_a_rounded_value_is_inside(constraint, value):
    rounded = (value * (1 + 5e-8)).float().double()
    assert constraint.check(torch.stack([value, rounded])).all()


@every_case
def test_another_value_is_outside(constraint, value):
    wrong = [value * -1.01, value * float("nan"), value * 0]
    if value.dim() == 2:
        wrong.append(value + torch.tensor([[0.0, 1e-3], [0.0, 0.0]]))
    assert not constraint.check(torch.stack(wrong)).any()


@every_case
def test_vmap(constraint, value):
    values = torch.stack([value, -1.01 * value])
    assert torch.func.vmap(constraint.check)(values).tolist() == [True, False]
