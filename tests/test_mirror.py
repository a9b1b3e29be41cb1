"""Tests lie where the code that they test lies."""

from pathlib import Path

import pytest

import pyro_reparam_ext

from .distributions.registry import CLASSES

SOURCE = Path(pyro_reparam_ext.__file__).parent
TESTS = Path(__file__).parent

COVERED_BY = {
    "distributions/rules/near_ends.py": "distributions/mixins/test_log_tailed.py",
    "numerics/student_tails.py": "distributions/rules/test_inverse_cdf.py",
    "numerics/uniform_tail.py": "numerics/test_incomplete_gamma.py",
    "distributions/mixins/searched_quantile.py": "distributions/rules/test_inverse_cdf.py",
    "distributions/rules/mixture_parts.py": "estimators/test_stratified.py",
    "estimators/one_coordinate.py": "estimators/test_local_expectation.py",
    "testing/given.py": "testing/test_estimator.py",
    "testing/point.py": "testing/test_distribution.py",
    "distributions/supports/bounds.py": "distributions/test_mixture_same_family.py",
    "compiled/eager.py": "compiled/test_svi.py",
    "elbo_module.py": "test_parallel.py",
    "evaluation/analytic.py": "estimators/test_analytic_kl.py",
    "estimators/fitted.py": "estimators/test_taylor_control_variate.py",
    "estimators/joint.py": "estimators/test_taylor_control_variate.py",
    "estimators/gaussian_pathwise.py": "estimators/test_taylor_control_variate.py",
    "evaluation/joint.py": "estimators/test_taylor_control_variate.py",
    "evaluation/guide_run.py": "evaluation/test_program.py",
    "evaluation/model_run.py": "evaluation/test_program.py",
    "numerics/elimination.py": "estimators/test_combine.py",
    "evaluation/mean.py": "test_unbiased.py",
    "estimators/protocol.py": "test_registry.py",
    "evaluation/bound.py": "evaluation/test_objective.py",
    "evaluation/enumerated.py": "estimators/test_enumeration.py",
    "evaluation/evaluate.py": "evaluation/test_program.py",
    "evaluation/first_run.py": "test_programs.py",
    "evaluation/rerun.py": "evaluation/test_recorder.py",
    "evaluation/weights.py": "evaluation/test_kinds_of_branches.py",
    "distributions/rules/dispatch.py": "distributions/rules/test_tails.py",
    "distributions/rules/relaxation.py": "estimators/test_gumbel_softmax.py",
    "estimators/mixture_weights.py": "estimators/test_combine.py",
    "compiled/capture.py": "compiled/test_contract.py",
    "compiled/changes.py": "compiled/test_svi.py",
    "compiled/graph.py": "compiled/test_backends.py",
    "compiled/kinds.py": "compiled/test_svi.py",
    "compiled/optimizers.py": "compiled/test_contract.py",
    "compiled/program.py": "compiled/test_backends.py",
    "compiled/run.py": "compiled/test_svi.py",
    "compiled/steady.py": "compiled/test_svi.py",
    "compiled/surroundings.py": "compiled/test_svi.py",
    "compiled/together.py": "compiled/test_ranks.py",
    "compiled/trained.py": "compiled/test_watch.py",
    "contexts.py": "test_temperature.py",
    "inspection/row.py": "inspection/test_sites.py",
    "convergence/plot.py": "compiled/test_watch.py",
    "convergence/result.py": "compiled/test_watch.py",
    "convergence/rule.py": "compiled/test_watch.py",
    "diagnostics/advice.py": "diagnostics/test_check.py",
    "diagnostics/guide_check.py": "diagnostics/test_check.py",
    "diagnostics/held_parameters.py": "diagnostics/test_slope.py",
    "diagnostics/plot.py": "diagnostics/test_check.py",
    "diagnostics/sites.py": "diagnostics/test_check.py",
    "diagnostics/summaries.py": "diagnostics/test_marginals.py",
    "distributions/bartlett.py": "distributions/test_wishart.py",
    "distributions/mixins/directional.py": "distributions/test_von_mises_fisher.py",
    "distributions/mixins/held_score.py": "distributions/test_straight_through_in_elbos.py",
    "distributions/mixins/relaxed_discrete.py": "distributions/test_relaxed_bernoulli.py",
    "distributions/rules/discrete.py": "test_impossible.py",
    "distributions/rules/discrete_noise.py": "distributions/rules/test_coupling.py",
    "distributions/rules/count_noise.py": "distributions/rules/test_noise_map.py",
    "distributions/rules/gamma_noise.py": "distributions/rules/test_noise_map.py",
    "distributions/rules/logits.py": "distributions/mixins/test_probs_or_logits.py",
    "distributions/rules/quantile.py": "reparam/test_inverse_cdf.py",
    "distributions/rules/relaxed_noise.py": "distributions/rules/test_noise_map.py",
    "distributions/rules/standard.py": "reparam/test_standardize.py",
    "distributions/rules/wrappers.py": "test_elbo.py",
    "distributions/supports/k_hot.py": "distributions/test_conditional_bernoulli.py",
    "distributions/supports/permutation_matrices.py": "distributions/test_plackett_luce.py",
    "estimators/base.py": "test_registry.py",
    "estimators/baselines.py": "estimators/test_score_function.py",
    "estimators/default.py": "test_config.py",
    "estimators/relaxed.py": "estimators/test_gumbel_softmax.py",
    "estimators/relaxed_pair.py": "estimators/test_rebar.py",
    "estimators/control_variates.py": "estimators/test_double_cv.py",
    "estimators/snapshot.py": "test_snapshot.py",
    "estimators/support.py": "estimators/test_advice.py",
    "evaluation/at_once.py": "evaluation/test_crossing.py",
    "evaluation/costs.py": "test_unbiased.py",
    "evaluation/ordinary.py": "evaluation/test_control_flow.py",
    "evaluation/passes.py": "test_unbiased.py",
    "evaluation/alternatives_pass.py": "test_unbiased.py",
    "evaluation/surrogate.py": "test_unbiased.py",
    "evaluation/terms.py": "test_elbo.py",
    "nn/layers/affine.py": "nn/layers/test_contract.py",
    "nn/layers/convolution.py": "nn/layers/test_contract.py",
    "nn/layers/embedding.py": "nn/layers/test_contract.py",
    "nn/layers/inputs.py": "nn/layers/test_contract.py",
    "nn/layers/linear.py": "nn/layers/test_contract.py",
    "nn/layers/linear_map.py": "nn/layers/test_contract.py",
    "nn/layers/normalization.py": "nn/layers/test_contract.py",
    "nn/layers/weight.py": "nn/layers/test_run.py",
    "nn/layers/weight_noise_context.py": "nn/layers/test_run.py",
    "nn/side_by_side.py": "nn/test_bayesian.py",
    "numerics/bernoulli_sum.py": "distributions/test_conditional_bernoulli.py",
    "numerics/density_search.py": "distributions/test_implicit_univariate.py",
    "numerics/log_simplex.py": "distributions/supports/test_log_simplex.py",
    "numerics/multigamma.py": "distributions/test_wishart.py",
    "numerics/panels.py": "distributions/test_implicit_univariate.py",
    "numerics/real_line_map.py": "distributions/test_implicit_univariate.py",
    "numerics/relaxation.py": "distributions/test_relaxed_bernoulli.py",
    "numerics/standardised.py": "distributions/test_generalized_pareto.py",
    "numerics/straight_through.py": "distributions/mixins/test_straight_through.py",
    "parameters.py": "test_parallel.py",
    "reparam/image.py": "reparam/test_estimators_of_images.py",
    "reparam/strategy.py": "reparam/test_auto_relax.py",
    "replay.py": "reparam/test_noncentered.py",
    "study/again.py": "study/test_attribution.py",
    "study/conditions.py": "study/test_verdict.py",
    "study/elbo_call.py": "study/test_driver.py",
    "study/measured.py": "study/test_driver.py",
    "study/names.py": "study/test_driver.py",
    "study/pick_freeze.py": "study/test_attribution.py",
    "study/plot.py": "study/test_driver.py",
    "study/plot_attribution.py": "study/test_attribution.py",
    "study/result.py": "study/test_driver.py",
    "study/sampler.py": "study/test_driver.py",
    "study/streams.py": "study/test_attribution.py",
    "study/variant.py": "study/test_driver.py",
    "testing/draws.py": "testing/test_estimator.py",
    "study/pilot.py": "study/test_selection.py",
    "study/race.py": "study/test_selection.py",
    "estimators/states.py": "estimators/test_score_function.py",
    "evaluation/notes.py": "evaluation/test_modes.py",
    "monitoring/collapse.py": "monitoring/test_gradient_monitor.py",
    "monitoring/running.py": "monitoring/test_gradient_monitor.py",
}
"""Modules whose tests lie under another name than their own."""

BY_CONTRACT = {
    getattr(pyro_reparam_ext.distributions, name).__module__.replace(".", "/") for name in CLASSES
}
"""Distributions: the contract tests cover what the registry has."""


def modules() -> list[str]:
    names = (path.relative_to(SOURCE).as_posix() for path in SOURCE.glob("**/*.py"))
    return sorted(name for name in names if not name.endswith("__init__.py"))


def has_a_contract(module: str) -> bool:
    return f"{SOURCE.name}/{Path(module).with_suffix('')}" in BY_CONTRACT


@pytest.mark.parametrize("module", [module for module in modules() if not has_a_contract(module)])
def test_module_has_tests(module):
    path = Path(module)
    tests = COVERED_BY.get(module) or (path.parent / f"test_{path.name}").as_posix()
    assert (TESTS / tests).exists(), f"{module}: expected tests/{tests}"


def test_no_stale_mapping():
    assert set(COVERED_BY) <= set(modules())
