"""The exception classes of installed libraries: a review sheet for whoever judges them, and a check of the table.

How to renew the table of classes with it: tools/README.md.

The packages stand in `exception_packages.txt`. Each one is read by a process of its own, with a time limit, under the
Python where the packages are installed; that Python runs this very file, so the standard library is all it needs.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PACKAGES = HERE / "exception_packages.txt"
#: Names of older versions of a listed package, kept in the table for those who still run them.
PAST = HERE / "exception_past.txt"
#: Classes that somebody has judged to say nothing alone, or never to fail a task.
LEFT_OUT = HERE / "exception_left_out.txt"
RULES = HERE.parent / "src/regrow/rules"

_SECONDS = 90
# Enough for every listed package; what is over the limit is said.
_MODULES_LIMIT = 400
_DOC_LIMIT = 160

# Importing these does something: they run tests, start programs, or copy other packages.
_SKIPPED = re.compile(
    r"(?:^|\.)(?:tests?|testing|_testing|conftest|__main__|cli|bin|scripts?|examples?|benchmarks?|migrations|management"
    r"|vendored|_vendor|setup|idlelib|docs?|gui|pytest_plugin|ipython\w*|jupyter\w*)(?:\.|$)|(?:^|\.)test_|_tests?$"
)
_NAMED_FOR_ERRORS = re.compile(r"(?:^|[._])(?:errors?|exceptions?|exc|err|fault)\w*$")
_DEFINES_ERRORS = re.compile(
    r"^[ \t]*class[ \t]+\w+\([^)]*(?:Error|Exception|Exc\b|Fault|Timeout|Abort)"
    r"|^[ \t]*class[ \t]+\w*(?:Error|Exception)\b|new_exception|make_exc",
    re.MULTILINE,
)
_EXTENSION = re.compile(r"\.(?:abi3|cpython-\d+\w*(?:-[\w-]+)?|cp\d+-\w+)?\.?(?:so|pyd)$")
# Class attributes that tell what an error means. Source: kafka-python, grpcio, botocore, google-api-core, DRF.
_TELLING = (
    "code", "status_code", "status", "http_status", "errno", "sqlstate", "retriable", "retryable", "invalid_metadata",
    "grpc_status_code", "error_code", "reason", "description", "fmt", "default_detail", "default_code", "message",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ExceptionClass:
    """One class of the review sheet.

    Args:
        name: As a live exception shows it: `__module__` and `__qualname__`.
        package: The distribution that it belongs to.
        version: The distribution's version.
        bases: Names of the MRO behind it, up to `Exception`.
        doc: First line of its own docstring.
        facts: Telling class attributes, as text.
    """

    name: str
    package: str
    version: str
    bases: tuple[str, ...]
    doc: str
    facts: Mapping[str, str]


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line.

    Args:
        argv: Arguments; the process's own if None.
    """
    options = _options().parse_args(argv)
    if options.probe:
        options.sheet.write_text(json.dumps(_probe(options.probe)), "utf-8")
        return 0
    packages = options.only or list(_lines(PACKAGES))
    found = list(_read_all(options.python, [line.partition("==")[0] for line in packages]))
    if options.sheet:
        options.sheet.write_text(json.dumps([asdict(each) for each in found], indent=1, ensure_ascii=False), "utf-8")
        print(f"{len(found)} classes: {options.sheet}")
    return _check(options.python, found) if options.check else 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", help="the interpreter where the packages are installed")
    parser.add_argument("--sheet", type=Path, help="write the review sheet there, as JSON")
    parser.add_argument("--check", action="store_true", help="compare with src/regrow/rules/3*.toml")
    parser.add_argument("--only", action="append", metavar="PACKAGE", help="this package only; may be repeated")
    parser.add_argument("--probe", metavar="PACKAGE", help=argparse.SUPPRESS)
    return parser


# --- In the process that asks


def _lines(path: Path) -> Iterator[str]:
    """What stands in a list file: one entry a line, or `module: Name Name`; `#` begins a remark."""
    for line in path.read_text("utf-8").splitlines():
        entry = line.partition("#")[0].strip()
        module, colon, names = entry.partition(": ")
        if colon:
            yield from (f"{module}.{name}" for name in names.split())
        elif entry:
            yield entry


def _read_all(python: str, packages: Iterable[str]) -> Iterator[ExceptionClass]:
    """The classes of all packages; what cannot be read is said and passed over."""
    for package in packages:
        answer = _ask(python, package)
        for remark in answer["remarks"]:
            print(f"{package}: {remark}", file=sys.stderr)
        for values in answer["classes"]:
            yield ExceptionClass(**{**values, "bases": tuple(values["bases"])})


def _ask(python: str, package: str) -> Mapping[str, Any]:
    """What a process of its own finds out about a package, in an empty home, with nothing to read."""
    with tempfile.TemporaryDirectory() as folder:
        sheet = Path(folder) / "sheet.json"
        command = [python, str(Path(__file__).resolve()), python, "--probe", package, "--sheet", str(sheet)]
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": folder, "PYTHONWARNINGS": "ignore"}
        try:
            done = subprocess.run(
                command, cwd=folder, env=environment, timeout=_SECONDS, check=False,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return {"classes": [], "remarks": [f"took longer than {_SECONDS} s"]}
        if not sheet.exists():
            last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
            return {"classes": [], "remarks": [f"could not be read: {''.join(last)}"]}
        answer: Mapping[str, Any] = json.loads(sheet.read_text("utf-8"))
        return answer


def _check(python: str, found: Sequence[ExceptionClass]) -> int:
    """Print what the table and the packages disagree about; 1 if the table names what is gone."""
    live = {each.name for each in found}
    tops = {name.partition(".")[0] for name in live}
    judged = dict(_judged())
    asked = [name for name in judged if "." in name and name.partition(".")[0] in tops and name not in live]
    past = set(_lines(PAST))
    there = _importable(python, asked)
    gone = [name for name in asked if name not in there and name not in past]
    for name in gone:
        print(f"gone: {name} ({judged[name]})")
    for name in (name for name in asked if name in there and name not in past):
        print(f"alias: {name} ({judged[name]}); a live exception shows {there[name]}")
    left_out = list(_lines(LEFT_OUT))
    unjudged = [
        each
        for each in found
        if each.name not in judged and not any(fnmatch.fnmatchcase(each.name, pattern) for pattern in left_out)
    ]
    for each in unjudged:
        print(f"nobody has judged: {each.name} ({each.package}) {each.doc}")
    print(f"{len(gone)} gone, {len(unjudged)} not judged, of {len(found)} classes")
    return 1 if gone else 0


def _judged() -> Iterator[tuple[str, str]]:
    """Every class name of the table, and the rule that holds it."""
    for path in sorted(RULES.glob("3*.toml")):
        for entry in tomllib.loads(path.read_text("utf-8")).get("classes", []):
            for name in entry["names"]:
                yield name, entry["id"]


def _importable(python: str, names: Sequence[str]) -> dict[str, str]:
    """Which names can be imported all the same, and what their classes call themselves."""
    program = (
        "import importlib, json, sys\n"
        "found = {}\n"
        "for name in json.load(sys.stdin):\n"
        "    parts = name.split('.')\n"
        "    for cut in range(len(parts) - 1, 0, -1):\n"
        "        try:\n"
        "            thing = importlib.import_module('.'.join(parts[:cut]))\n"
        "            for part in parts[cut:]:\n"
        "                thing = getattr(thing, part)\n"
        "            found[name] = thing.__module__ + '.' + thing.__qualname__\n"
        "            break\n"
        "        except Exception:\n"
        "            continue\n"
        "print()\n"
        "print(json.dumps(found))\n"
    )
    done = subprocess.run(
        [python, "-W", "ignore", "-c", program],
        input=json.dumps(names), capture_output=True, text=True, timeout=_SECONDS * 4, check=True,
    )  # fmt: skip
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


# --- In the process that is asked


def _probe(package: str) -> dict[str, Any]:
    """The exception classes of one installed distribution, and what went wrong."""
    try:
        distribution = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return {"classes": [], "remarks": ["is not installed"]}
    modules = _modules(distribution)
    wanted = sorted((name for name in modules if _is_wanted(name, modules[name])), key=_urgency)
    remarks = [_import(name) for name in wanted[:_MODULES_LIMIT]]
    if len(wanted) > _MODULES_LIMIT:
        remarks.append(f"{len(wanted) - _MODULES_LIMIT} modules left out")
    own = {cls for cls in _tree(BaseException) if _belongs(cls, modules)}
    classes = [_described(cls, package, distribution.version) for cls in own if not issubclass(cls, Warning)]
    named = {each.name: each for each in classes if "<" not in each.name}
    return {
        "classes": [asdict(named[name]) for name in sorted(named)],
        "remarks": [remark for remark in remarks if remark],
    }


def _modules(distribution: metadata.Distribution) -> dict[str, Path]:
    """Dotted name to file, of every module that the distribution brings."""
    found = {}
    for file in distribution.files or ():
        inside = str(file).replace(os.sep, "/")
        if inside.startswith("..") or ".dist-info/" in inside:
            continue
        stem = _EXTENSION.sub("", inside) if _EXTENSION.search(inside) else inside.removesuffix(".py")
        if stem != inside:
            name = stem.replace("/", ".").removesuffix(".__init__")
            if all(part.isidentifier() for part in name.split(".")):
                found[name] = Path(str(distribution.locate_file(file)))
    return found


def _is_wanted(name: str, path: Path) -> bool:
    if _SKIPPED.search(name):
        return False
    if path.suffix != ".py" or _NAMED_FOR_ERRORS.search(name):
        return True
    if path.name == "__init__.py" and name.count(".") <= 1:
        return True
    return bool(_DEFINES_ERRORS.search(path.read_text("utf-8", "replace")))


def _urgency(name: str) -> tuple[bool, int, str]:
    return not _NAMED_FOR_ERRORS.search(name), name.count("."), name


def _import(name: str) -> str:
    """'' if the module could be imported, else why not."""
    try:
        importlib.import_module(name)
    except BaseException as error:  # noqa: BLE001 - modules of others do what they like, SystemExit among it
        return f"{name} not imported: {type(error).__name__}: {error}".partition("\n")[0][:200]
    return ""


def _tree(top: type[BaseException]) -> Iterator[type[BaseException]]:
    """Every living subclass; also those of extension modules and those made by a function."""
    seen = {top}
    waiting = [top]
    while waiting:
        cls = waiting.pop()
        yield cls
        fresh = [each for each in type.__subclasses__(cls) if each not in seen]
        seen.update(fresh)
        waiting.extend(fresh)


def _belongs(cls: type, modules: Mapping[str, Path]) -> bool:
    parts = str(cls.__module__).split(".")
    return any(".".join(parts[:length]) in modules for length in range(len(parts), 0, -1))


def _described(cls: type[BaseException], package: str, version: str) -> ExceptionClass:
    bases = [_name(base) for base in cls.__mro__[1:] if base not in (object, BaseException)]
    lines = str(vars(cls).get("__doc__") or "").strip().splitlines()
    facts = {key: text for key in _TELLING if (text := _told(getattr(cls, key, None)))}
    return ExceptionClass(_name(cls), package, version, tuple(bases), lines[0][:_DOC_LIMIT] if lines else "", facts)


def _name(cls: type) -> str:
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def _told(value: object) -> str:
    """A plain value, or the name of an enum's member; '' for a method, a property and what else there is."""
    name = getattr(value, "name", None)
    if isinstance(name, str):
        return name
    return str(value)[:_DOC_LIMIT] if isinstance(value, (str, int)) else ""


if __name__ == "__main__":
    raise SystemExit(main())
