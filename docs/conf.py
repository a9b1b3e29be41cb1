"""Sphinx configuration."""

import inspect
import sys
from importlib.metadata import distribution
from pathlib import Path
from types import ModuleType

import mpmath
import torch
from arviz import InferenceData
from pandas import DataFrame

import pyro_reparam_ext as package
from pyro_reparam_ext.diagnostics import calibration, guide_check, marginals
from pyro_reparam_ext.study import result

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.distributions.entry import tensors  # noqa: E402
from tests.distributions.exact_tails import EXACT  # noqa: E402
from tests.distributions.registry import BY_CLASS  # noqa: E402

project = "pyro_reparam_ext"
author = "The pyro_reparam_ext authors"
release = version = package.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "_generated", "*_measured.md", "examples/*/*.md"]
html_theme = "furo"

# MathJax in one file, of an installed package: the pages need no network.
mathjax = distribution("sphinx-mathjax-offline")
html_static_path = [str(mathjax.locate_file("sphinx-mathjax-offline/static/mathjax/tex-svg-full.js"))]
mathjax_path = "tex-svg-full.js"

myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"

# Types that the package imports for mypy alone; autodoc resolves annotations by the module's names.
result.InferenceData = InferenceData
for module in (calibration, guide_check, marginals, result):
    module.DataFrame = DataFrame


def api_page() -> str:
    """List every public name of the package, by kind."""
    groups: dict[str, list[str]] = {"Classes": [], "Functions": [], "Modules": [], "Data": []}
    public = {name: getattr(package, name) for name in package.__all__}
    described = {id(value) for value in public.values()}
    for name, value in public.items():
        if inspect.isclass(value):
            kind, group, options = "class", "Classes", []
        elif isinstance(value, ModuleType):
            repeated = [n for n, v in vars(value).items() if id(v) in described]
            kind, group = "module", "Modules"
            options = [f":exclude-members: {', '.join(repeated)}"] if repeated else []
        elif callable(value):
            kind, group, options = "function", "Functions", []
        else:
            kind, group, options = "data", "Data", [":no-value:"]
        lines = [f".. auto{kind}:: {package.__name__}.{name}", *(f"   {o}" for o in options)]
        groups[group].append("\n".join(["```{eval-rst}", *lines, "```"]))
    groups["Parts of estimators"] = [
        "\n".join(["```{eval-rst}", f".. autoclass:: {package.__name__}.estimators.{name}", "```"])
        for name in ("Estimator", "HardForward", "Site", "Draw", "Branch", "Evaluations", "Paper")
    ]
    return "\n\n".join(
        "\n\n".join([f"## {title}", *entries]) for title, entries in groups.items() if entries
    )


def distributions_table() -> str:
    """Every distribution of the tests' registry: sampler, gradients, and where others stand."""
    head = ("distribution", "sampler", "pathwise in", "compile", "torch", "Pyro", "TFP", "NumPyro")
    rows = [head, ("---",) * len(head)]
    for name, entry in sorted(BY_CLASS.items()):
        leaves = {k: x.requires_grad_() for k, x in tensors(entry.points[entry.typical]).items()}
        with torch.random.fork_rng(devices=[]):
            value = entry.make(**leaves).rsample((3,))
        gradients = torch.autograd.grad(value.sum(), list(leaves.values()), allow_unused=True)
        reached = [k for k, g in zip(leaves, gradients, strict=True) if g is not None]
        other = entry.elsewhere
        elsewhere = (other.torch, other.pyro, other.tfp, other.numpyro)
        rows.append((f"`{name}`", entry.sampler, ", ".join(reached), _compiles(entry), *elsewhere))
    lines = (" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows)
    return "\n".join(f"| {line} |" for line in lines)


def _compiles(entry) -> str:
    """As the tests of the contract find it, which take too long for a build; else the reason."""
    tests = "test_compiles_into_one_graph", "test_compiles_without_gradients"
    return ", ".join(dict.fromkeys(entry.exempt[t] for t in tests if t in entry.exempt)) or "yes"


def real_variables_table() -> str:
    """What each real variable knows besides its density, measured at a typical point."""
    tails = "relative error of the tails"
    head = ("distribution", "`cdf`", "`icdf`", tails, "moments", "half precision")
    rows = [head, ("---",) * len(head)]
    for name, entry in sorted(BY_CLASS.items()):
        parameters = entry.points[entry.typical]
        fn = entry.at(parameters, validate_args=False)
        if fn.event_shape:
            continue
        half = entry.make(**{k: x.bfloat16() for k, x in tensors(parameters).items()})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            x, short = fn.sample((1000,)), half.sample((100,))
        scored = short.dtype is torch.bfloat16 and bool(half.log_prob(short).isfinite().all())
        known = (f"`{name}`", _knows(fn.cdf, x), _knows(fn.icdf, torch.tensor(0.3).double()))
        moments = ", ".join(m for m in ("mean", "variance", "mode", "entropy") if _has(fn, m))
        error = _tail_error(name, fn, parameters, x)
        rows.append((*known, error, moments, "yes" if scored else "no"))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _knows(method, x) -> str:
    try:
        return "yes" if method(x).isfinite().all() else "no"
    except NotImplementedError:
        return "no"


def _has(fn, moment) -> bool:
    try:
        value = getattr(fn, moment)
        return bool((value() if callable(value) else value).isfinite())
    except NotImplementedError:
        return False


def _tail_error(name, fn, parameters, x) -> str:
    """The largest one up to 20 deviations out, against mpmath; empty where no digits are at hand."""
    if name not in EXACT:
        return ""
    low, middle, high = x.quantile(torch.tensor([0.16, 0.5, 0.84]).double())
    at = middle + torch.tensor([-20.0, -5.0, -1.0, 1.0, 5.0, 20.0]).double() * (high - low) / 2
    at = at[fn.log_prob(at) > -torch.inf]
    worst = 0.0
    with mpmath.workdps(60):
        numbers = {k: mpmath.mpf(v) for k, v in parameters.items()}
        found = zip(fn.log_cdf(at).tolist(), fn.log_survival_function(at).tolist(), strict=True)
        for value, logs in zip(at.tolist(), found, strict=True):
            for log_mass, mass in zip(logs, EXACT[name](numbers, mpmath.mpf(value)), strict=True):
                if mass > 1e-300:
                    worst = max(worst, float(abs(log_mass - mpmath.log(mass))))
    return f"{worst:.0e}"


def setup(app):
    generated = Path(app.srcdir) / "_generated"
    generated.mkdir(exist_ok=True)
    (generated / "api.md").write_text(api_page() + "\n", encoding="utf-8")
    (generated / "distributions.md").write_text(distributions_table() + "\n", encoding="utf-8")
    (generated / "real_variables.md").write_text(real_variables_table() + "\n", encoding="utf-8")
