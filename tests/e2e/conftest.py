"""Each test has a daemon of its own, on the OCI engine. On Docker Engine too run, of the tests that are
not marked `oci_only`, those that are marked `docker`, and with LONG=1 all."""

from harness import LONG

pytest_plugins = ["daemon_fixtures", "ctl_fixtures", "lab"]


def pytest_configure(config):
    config.addinivalue_line("markers", "docker: on Docker Engine in the short form too; enough of "
                            "these to see each promise kept there")
    config.addinivalue_line("markers", "docker_only: on Docker Engine, and not on the other")
    config.addinivalue_line("markers", "oci_only(why): not on Docker Engine")


def pytest_generate_tests(metafunc):
    test = metafunc.definition
    # A shim stands in front of the runtime's program, which the daemon itself runs on one engine only.
    one_only = "shimmed" in metafunc.fixturenames or test.get_closest_marker("oci_only") \
        or test.get_closest_marker("docker_only")
    if "engine" in metafunc.fixturenames and not one_only:
        if LONG or test.get_closest_marker("docker"):
            metafunc.parametrize("engine", ["oci", "docker"], indirect=True)


def pytest_collection_modifyitems(items):
    # The demo last: it is the longest.
    items.sort(key=lambda item: "test_demo" in item.nodeid)
