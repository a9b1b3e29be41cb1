"""Uses the package where it is installed: a step of SVI, and a study that is shown and saved."""

import sys
from importlib.metadata import version
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch

import pyro_reparam_ext as pre


def model() -> None:
    z = pyro.sample("z", dist.Bernoulli(0.3))
    pyro.sample("x", dist.Normal(z, 1.0), obs=torch.tensor(1.0))


def guide() -> None:
    pyro.sample("z", dist.Bernoulli(logits=pyro.param("logit", torch.tensor(0.0))))


assert Path(pre.__file__).is_relative_to(sys.prefix), pre.__file__
assert version("pyro-reparam-ext") == pre.__version__

elbo = pre.TraceEstimator_ELBO(estimators={"z": pre.DisARM()})
loss = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), elbo).step()
study = pre.gradient_study(model, guide, estimators={"DisARM": pre.DisARM()}, num_draws=20)
study.plot()
study.save("study.nc")
print(
    f"{pre.__name__} {pre.__version__}: a loss of {loss:.2f}, a study of {len(study.summary())} label"
)
