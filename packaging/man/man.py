#!/usr/bin/python3
"""Makes the man pages: the prose stands in the *.in files beside this one, what programs say of
themselves is put in place of @WORDS@.

usage: man.py PAGE VERSION DATE BUILD >PAGE

PAGE is a file's name without .in; DATE is as in mails and in debian/changelog; BUILD is where the
programs are. The language is mdoc(7).
"""

import json
import re
import subprocess
import sys
import textwrap
from email.utils import parsedate_to_datetime
from pathlib import Path

HERE = Path(__file__).parent
PLACE = re.compile(r"^@(\w+)@\n", re.M)


def escape(text):
    """Text that is what it looks like: a dash is one that can be copied, and no dot or quote at the
    beginning of a line, and no word of mdoc(7) as an argument, is taken for a command."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"(?m)^(?=[.'])", r"\\&", text)


def argument(text):
    """One argument of a macro."""
    return '"' + re.sub(r"^(?=\w{2}$)", r"\\&", escape(text)).replace('"', '""') + '"'


def prose(text):
    """Each sentence begins a line, as roff wants it, and no line is long."""
    text = " ".join(text.split())
    return escape("\n".join(textwrap.fill(sentence, 72, break_long_words=False,
                                          break_on_hyphens=False)
                            for sentence in re.split(r"(?<=\S\S\.) ", text)))


def paragraphs(text):
    """Empty lines stand between them; what is indented stays as it is."""
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        yield ".Pp"
        if re.match(r"\s", block):
            yield from [".Bd -literal", escape(block), ".Ed"]
        elif block:
            yield prose(block)


def macro_of_option(option):
    flags = [f"Fl {escape(option['letter'])}"] if option["letter"] else []
    flags.append(f"Fl Fl {escape(option['name'])}")
    value = option["argument"]
    if value.startswith("[="):
        return f".It {' , '.join(flags)} Ns Op = Ns Ar {argument(value[2:-1])}"
    return f".It {' , '.join(flags)}" + (f" Ar {argument(value)}" if value else "")


def list_of_options(options):
    yield ".Bl -tag -width Ds"
    for option in options:
        help = option["help"]
        yield macro_of_option(option)
        yield prose(help[0].upper() + help[1:] + ".")
    yield ".El"


def list_of_commands(commands):
    for command in commands:
        yield f".Ss {command['name']}{escape(command['operands'])}\\&"
        yield prose(command["help"])
        if command["details"]:
            yield from paragraphs(command["details"])
        if command["options"]:
            yield from list_of_options(command["options"])


def sandboxctl(build):
    tables = json.loads(run(build / "sandboxctl", "help", "--json"))
    return {"OPTIONS": list_of_options(tables["options"]),
            "COMMANDS": list_of_commands(tables["commands"])}


def sandboxd(build):
    """Its options are the lines of --help that begin with two blanks and a dash; further lines of
    each are indented more. "--name VALUE" or "--name[=VALUE]"."""
    said = run(build / "sandboxd", "--help")
    found = re.findall(r"^  --([\w-]+)( [A-Z=]+|\[=\w+\])? {2,}(.+(?:\n {4,}.+)*)", said, re.M)
    options = [{"letter": "", "name": name, "argument": value.strip(), "help": help}
               for name, value, help in found]
    return {"OPTIONS": list_of_options(options)}


def keys():
    """The rows of the table, each a dictionary by the names of the columns."""
    text = (HERE.parents[1] / "docs/configuration.md").read_text()
    table = re.search(r"(?:^\|.*\n)+", text[text.index("## Keys"):], re.M).group()
    cells = [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines()]
    return [dict(zip(cells[0], row)) for row in cells[2:]]


def plain(markdown):
    return markdown.replace("`", "").replace("\\|", "|")


def list_of_keys():
    yield ".Bl -tag -width Ds"
    for key in keys():
        name, meaning = plain(key.pop("key")), plain(key.pop("meaning"))
        yield f".It Cm {argument(name)}"
        yield prose(meaning)
        facts = [f"{what}: {plain(value)}" for what, value in key.items() if value]
        yield ".br"
        yield prose("; ".join(facts) + ".")
    yield ".El"


def sandboxd_yaml(build):
    del build
    return {"KEYS": list_of_keys()}


PAGES = {"sandboxctl.1": sandboxctl, "sandboxd.8": sandboxd, "sandboxd.yaml.5": sandboxd_yaml}


def run(*args):
    return subprocess.run(args, check=True, capture_output=True, text=True).stdout


def main(page, version, date, build):
    when = parsedate_to_datetime(date)
    filled = {name: "\n".join(lines) for name, lines in PAGES[page](Path(build)).items()}
    text = (HERE / f"{page}.in").read_text()
    text = text.replace("@DATE@", f"{when:%B} {when.day}, {when.year}").replace("@VERSION@", version)
    sys.stdout.write(PLACE.sub(lambda place: filled[place.group(1)] + "\n", text))


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
