"""The man pages are well-formed, and have what the programs know."""

import json
import re
import subprocess

import pytest

from harness import BUILD, ENVIRON

PAGES = ["man1/sandboxctl.1", "man5/sandboxd.yaml.5", "man8/sandboxd.8"]


def said(*args, **environ):
    """What a program prints, on both outputs."""
    return subprocess.run(args, check=True, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, env=ENVIRON | environ).stdout


@pytest.fixture
def man(tree):
    return tree / "usr/share/man"


@pytest.fixture
def read(man):
    """A page as a reader has it, with one blank for each space between words."""
    def read(page):
        text = said("man", "--local-file", man / page, MANWIDTH="1000", LC_ALL="C.UTF-8",
                    MAN_KEEP_FORMATTING="")
        return re.sub(r"\s+", " ", text)
    return read


@pytest.mark.parametrize("page", PAGES)
def test_no_formatter_complains(man, page):
    assert said("groff", "-ww", "-mdoc", "-z", "-Tutf8", man / page) == ""
    shown = subprocess.run(["man", "--warnings=w", "--local-file", man / page], check=True,
                           capture_output=True, text=True, env=ENVIRON)
    assert shown.stderr == ""


@pytest.mark.parametrize("page", PAGES)
def test_mandoc_finds_nothing(man, page):
    found = said("mandoc", "-Tlint", "-Wstyle", man / page,
                 MANPATH=f"{man}:/usr/share/man")
    # It would like an index of the pages that it may look for, and has them nevertheless.
    lines = [line for line in found.splitlines() if "outdated mandoc.db" not in line]
    assert lines == []


def test_sandboxctl_has_every_command_and_option(read):
    page = read("man1/sandboxctl.1")
    tables = json.loads(said(BUILD / "sandboxctl", "help", "--json"))
    assert len(tables["commands"]) > 15
    for command in tables["commands"]:
        assert f" {command['name']}{command['operands']} {command['help']}" in page
        for option in command["options"] + tables["options"]:
            letter = f"-{option['letter']}, " if option["letter"] else ""
            value = f" {option['argument']}" if option["argument"] else ""
            assert f"{letter}--{option['name']}{value} " in page, option


def test_sandboxd_has_every_option(read):
    page = read("man8/sandboxd.8")
    options = re.findall(r"^  (--[\w-]+)", said(BUILD / "sandboxd", "--help"), re.M)
    assert len(options) >= 5
    for option in options:
        assert f" {option}" in page


def test_sandboxd_yaml_has_every_key(read):
    page = read("man5/sandboxd.yaml.5")
    printed = said(BUILD / "sandboxd", "--print-config", "--config", "/dev/null")
    keys, section = [], ""
    for indent, key, value in re.findall(r"^( *)(?:# )?(\w+):(.*)$", printed, re.M):
        if not indent:
            section = "" if value else f"{key}."
        if value and len(indent) <= 2:
            keys.append(key if not indent else f"{section}{key}")
    assert {"runtime", "dns.servers", "log.format"} <= set(keys)
    for key in keys:
        assert f" {key} " in page, key


def test_the_date_is_the_version_s(man):
    changelog = said("dpkg-parsechangelog", "--file", "packaging/debian/changelog",
                     "--show-field", "Date")
    year = changelog.split()[3]
    for page in PAGES:
        assert re.search(rf"^\.Dd \w+ \d+, {year}$", (man / page).read_text(), re.M)
