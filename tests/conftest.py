"""A run fails that makes more statistical assertions than its false-alarm rate is divided by."""

import pytest

from . import statistics

WORKERS = pytest.StashKey[int]()
"""The assertions of the workers of pytest-xdist that have ended."""


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    made = getattr(node, "workeroutput", {}).get("statistical_assertions", 0)
    node.config.stash[WORKERS] = node.config.stash.get(WORKERS, 0) + made


def made(config):
    return statistics.Counter.made + config.stash.get(WORKERS, 0)


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["statistical_assertions"] = statistics.Counter.made
    elif made(session.config) > statistics.MAX_CASES:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    count = made(terminalreporter.config)
    if count > statistics.MAX_CASES:
        terminalreporter.line(
            f"{count} statistical assertions, more than MAX_CASES = {statistics.MAX_CASES}", red=True
        )
    elif count:
        terminalreporter.line(f"{count} statistical assertions")
