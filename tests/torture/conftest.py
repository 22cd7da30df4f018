"""What no crash, no stuck thing and no damage may break; what was measured is printed at the end."""

import pytest

from form import LONG, SEED

pytest_plugins = ["daemon_fixtures"]

TABLE = {}  # (operation, failpoint): {column: outcome}
FIGURES = []


def pytest_report_header():
    return f"{'long' if LONG else 'short'} form; SEED={SEED}"


@pytest.fixture
def figure(request):
    """Prints something measured, at the end."""
    return lambda text: FIGURES.append(f"{request.node.name}: {text}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        item.user_properties.append(("failed", True))
    for mark in item.iter_markers("crash_point"):
        operation, failpoint, column = mark.args
        cell = TABLE.setdefault((operation, failpoint), {})
        if report.failed:
            cell[column] = "FAILED"
        elif report.when == "call" and report.passed:
            came_by = dict(item.user_properties).get("came_by", True)
            cell.setdefault(column, "ok" if came_by else "ok (once)")


def pytest_configure(config):
    config.addinivalue_line("markers", "crash_point(operation, failpoint, column): a cell of the "
                            "table that is printed at the end")


def pytest_terminal_summary(terminalreporter):
    write = terminalreporter.write_line
    if FIGURES:
        terminalreporter.section("figures")
        for text in FIGURES:
            write(text)
    if not TABLE:
        return
    terminalreporter.section("crash points")
    columns = sorted({column for cells in TABLE.values() for column in cells})
    write(f"{'operation':16} {'failpoint':22}" + "".join(f" {c:14}" for c in columns))
    for (operation, failpoint), cells in TABLE.items():
        shown = "".join(f" {cells.get(column, '-'):14}" for column in columns)
        write(f"{operation:16} {failpoint:22}{shown}")
    outcomes = [outcome for cells in TABLE.values() for outcome in cells.values()]
    failed = outcomes.count("FAILED")
    write(f"{len(outcomes) - failed} ok, {failed} FAILED; once: the recovery did not come by there")
