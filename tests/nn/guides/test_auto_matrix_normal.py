"""Against a regression whose posterior is matrix normal, by its exact evidence."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from torch.distributions import MultivariateNormal

from pyro_reparam_ext.distributions import MatrixNormal
from pyro_reparam_ext.nn import AutoMatrixNormal

from ...sampling import losses
from ...statistics import assert_mean

OUT, IN, N = 3, 2, 6


class Regression:
    """y_n ~ Normal(W x_n, R), W ~ MatrixNormal(0, R, V): the posterior's rows have R, too."""

    def __init__(self):
        def covariance(size):
            x = torch.randn(size, size, dtype=torch.float64)
            return x @ x.mT + 0.2 * torch.eye(size, dtype=torch.float64)

        self.rows, self.columns = covariance(OUT), covariance(IN)
        # Correlated inputs.
        self.x = torch.randn(N, 1, dtype=torch.float64) + 0.4 * torch.randn(N, IN, dtype=torch.float64)
        self.y = torch.randn(N, OUT, dtype=torch.float64)
        self.precision = self.columns.inverse() + self.x.mT @ self.x
        self.mean = self.y.mT @ self.x @ self.precision.inverse()

    def model(self):
        row_tril = torch.linalg.cholesky(self.rows)
        prior = MatrixNormal(torch.zeros_like(self.mean), row_tril, torch.linalg.cholesky(self.columns))
        weight = pyro.sample("weight", prior)
        with pyro.plate("data", N):
            mean = (weight @ self.x[:, :, None])[..., 0]
            pyro.sample("y", dist.MultivariateNormal(mean, scale_tril=row_tril), obs=self.y)

    @property
    def log_evidence(self):
        among = torch.eye(N, dtype=torch.float64) + self.x @ self.columns @ self.x.mT
        law = MultivariateNormal(torch.zeros(N * OUT).double(), torch.kron(among, self.rows))
        return law.log_prob(self.y.flatten())

    def set_exact(self, guide):
        guide()
        factors = {"row": self.rows, "column": self.precision.inverse()}
        for side, covariance in factors.items():
            tril = torch.linalg.cholesky(covariance)
            scale = tril.diagonal()
            getattr(guide, f"{side}_scales").weight = scale
            getattr(guide, f"{side}_trils").weight = tril / scale[:, None]
        guide.locs.weight = self.mean
        pyro.clear_param_store()


def test_exact_posterior_has_the_evidence_at_every_draw():
    regression = Regression()
    guide = AutoMatrixNormal(regression.model)
    regression.set_exact(guide)
    values = -losses(Trace_ELBO(), regression.model, guide, 20)
    torch.testing.assert_close(values, regression.log_evidence.expand(20), rtol=1e-6, atol=1e-6)


def test_the_best_mean_field_guide_has_not():
    """Its scales are those of an element given all others."""
    regression = Regression()
    guide = AutoNormal(regression.model)
    guide()
    precision = torch.kron(regression.rows.inverse(), regression.precision)
    guide.locs.weight = regression.mean
    guide.scales.weight = precision.diagonal().rsqrt().reshape(OUT, IN)
    pyro.clear_param_store()
    gap = 0.5 * (precision.diagonal().log().sum() - precision.logdet())
    values = -losses(Trace_ELBO(), regression.model, guide, 400)
    assert_mean(values[:, None], (regression.log_evidence - gap)[None])
    assert gap > 0.5


def divergence(regression, guide):
    """What the ELBO falls short of the evidence by."""
    law = poutine.trace(guide).get_trace().nodes["weight_unconstrained"]["fn"]
    fitted = MultivariateNormal(
        law.mean.flatten(), scale_tril=torch.kron(law.row_tril, law.column_tril)
    )
    precision = torch.kron(regression.rows.inverse(), regression.precision)
    exact = MultivariateNormal(regression.mean.flatten(), precision_matrix=precision)
    return torch.distributions.kl_divergence(fitted, exact).detach()


def test_training_approaches_the_evidence():
    regression = Regression()
    guide = AutoMatrixNormal(regression.model)
    regression.set_exact(guide)
    assert divergence(regression, guide) < 1e-6
    with torch.no_grad():
        for x in guide.parameters():
            x.add_(0.3 * torch.randn_like(x))
    assert divergence(regression, guide) > 0.3
    elbo = Trace_ELBO(num_particles=20, vectorize_particles=True, max_plate_nesting=1)
    steps = 200
    optim = {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.05}, "gamma": 1e-3 ** (1 / steps)}
    schedule = pyro.optim.ExponentialLR(optim)
    svi = SVI(regression.model, guide, schedule, elbo)
    for _ in range(steps):
        svi.step()
        schedule.step()
    assert divergence(regression, guide) < 0.03


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 2, 2)], ids=["linear", "convolution"])
def test_start_is_independent_normals(shape):
    """The density of AutoNormal at the same values."""

    def model():
        zeros = torch.zeros(shape, dtype=torch.float64)
        pyro.sample("weight", dist.LogNormal(zeros, 1.0).to_event(len(shape)))

    guide = AutoMatrixNormal(model, init_scale=0.2)
    trace = poutine.trace(guide).get_trace()
    value = trace.nodes["weight_unconstrained"]["value"]
    loc = guide.locs.weight
    expected = dist.Normal(loc, 0.2).log_prob(value).sum() - value.sum()
    torch.testing.assert_close(trace.log_prob_sum(), expected)


def test_a_convolution_is_a_matrix_of_its_outputs():
    def model():
        pyro.sample("kernel", dist.Normal(torch.zeros(3, 2, 2, 2).double(), 1.0).to_event(4))

    guide = AutoMatrixNormal(model)
    guide()
    with torch.no_grad():
        for x in guide.parameters():
            x.add_(torch.randn_like(x))
    trace = poutine.trace(guide).get_trace()
    value = trace.nodes["kernel"]["value"]
    assert value.shape == (3, 2, 2, 2)
    factors = (guide._factor(side, "kernel") for side in ("row", "column"))
    exact = MultivariateNormal(guide.locs.kernel.flatten(), scale_tril=torch.kron(*factors))
    torch.testing.assert_close(trace.log_prob_sum(), exact.log_prob(value.flatten()))
