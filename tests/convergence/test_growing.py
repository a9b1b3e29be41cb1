"""An array that grows."""

import torch

from pyro_reparam_ext.convergence.growing import Growing


def test_it_has_all_rows():
    rows, growing = torch.arange(46.0, dtype=torch.float64).view(23, 2), Growing()
    assert len(growing.rows) == 0
    for part in rows.split([1, 4, 0, 10, 8]):
        growing.extend(part)
    assert torch.equal(growing.rows, rows)
