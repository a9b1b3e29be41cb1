"""Every test and doctest starts from one seed and an empty parameter store, and leaves nothing."""

import pyro
import pytest
import torch


@pytest.fixture(autouse=True)
def isolated():
    validation = torch.distributions.Distribution._validate_args
    with torch.random.fork_rng(devices=[]), pyro.validation_enabled(True):
        torch.manual_seed(0)
        pyro.clear_param_store()
        yield
        pyro.clear_param_store()
    torch.distributions.Distribution.set_default_validate_args(validation)
