"""Each test has a daemon of its own."""

pytest_plugins = ["daemon_fixtures", "ctl_fixtures", "lab"]


def pytest_collection_modifyitems(items):
    # The demo last: it is the longest.
    items.sort(key=lambda item: "test_demo" in item.nodeid)
