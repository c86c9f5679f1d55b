"""Repository rules as tests: exports, the exception tree, changelog form, help text, file sizes, words."""

import ast
import importlib
import re
import subprocess
from pathlib import Path

import pytest

from vde_vmnet import __version__, errors
from vde_vmnet.cli import share
from vde_vmnet.cli.verbs import VERBS
from vde_vmnet.config.arguments import build_parser
from vde_vmnet.control import reference

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "python" / "vde_vmnet"
MODULES = sorted(PACKAGE.rglob("*.py"))
#: A file past this holds more than one idea.
PYTHON_LINES, RUST_LINES = 400, 500


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_public_names_are_listed_and_exist(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "a module's head says what it owns"
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    public = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
    ]
    if not public:
        return
    module = importlib.import_module(".".join(part for part in parts if part != "__init__"))
    assert hasattr(module, "__all__"), "a module with public names has an __all__"
    assert set(public) <= set(module.__all__)
    for name in module.__all__:
        assert hasattr(module, name)


def all_errors() -> list[type[errors.VdeVmnetError]]:
    return [getattr(errors, name) for name in errors.__all__]


def test_every_error_is_drawn_at_the_head_of_its_file_with_its_status() -> None:
    drawing = errors.__doc__ or ""
    for error in all_errors():
        if error in (errors.VdeVmnetError, errors.PeerError):
            assert error.__name__ in drawing
        else:
            assert re.search(rf"{error.__name__} +{error.exit_code} ", drawing), error


def test_exit_statuses_are_distinct_and_documented() -> None:
    ending = [error for error in all_errors() if error not in (errors.VdeVmnetError, errors.PeerError)]
    codes = [error.exit_code for error in ending]
    assert len(set(codes)) == len(codes)
    help_text = build_parser().format_help()
    for code in codes:
        assert re.search(rf"[:;]\s+{code} ", help_text), f"--help does not say what {code} means"


def test_changelog_has_the_form_of_keep_a_changelog() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    releases = [line for line in lines if line.startswith("## ")]
    assert releases[0] == "## [Unreleased]"
    for line in releases[1:]:
        assert re.fullmatch(r"## \[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", line), line
    kinds = {line for line in lines if line.startswith("### ")}
    assert kinds <= {
        f"### {kind}" for kind in ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
    }


def test_documented_help_is_the_real_one() -> None:
    page = (ROOT / "docs" / "reference" / "cli.md").read_text()
    shown = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    parsers = (build_parser(), *(verb.build_parser() for verb in VERBS.values()))
    assert shown == [parser.format_help() for parser in parsers], "run `make docs`"


@pytest.mark.parametrize("name", ["control-protocol", "metrics"])
def test_reference_pages_are_those_of_the_program(name: str) -> None:
    page = (ROOT / "docs" / "reference" / f"{name}.md").read_text()
    assert "<!-- made by make docs" in page
    assert page == reference.rendered(page), "run `make docs`"


def test_manual_pages_and_completion_scripts_are_those_of_the_program() -> None:
    place = PACKAGE / "share"
    there = {str(path.relative_to(place)): path.read_text() for path in place.rglob("*") if path.is_file()}
    assert there == share.files(), "run `make docs`"


def test_every_command_is_in_the_help_of_the_program() -> None:
    listed = build_parser().format_help().split("first word:")[1].split("Environment:")[0]
    for name in VERBS:
        assert re.search(rf"(?:vde_vmnet|,) {name}\b", listed), name


def test_version_is_written_once() -> None:
    manifest = (ROOT / "Cargo.toml").read_text()
    assert f'version = "{__version__}"' in manifest
    assert "version" not in re.findall(r"^(\w+) =", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)


def test_files_hold_one_idea_each() -> None:
    def code_lines(path: Path) -> int:
        return len(path.read_text().split("#[cfg(test)]")[0].splitlines())

    python = [
        path for path in tracked("python/*.py", "bench/*.py", "tests/*.py") if code_lines(path) > PYTHON_LINES
    ]
    rust = [path for path in tracked("rust/*.rs") if code_lines(path) > RUST_LINES]
    assert not python + rust


def test_unsafe_stays_where_descriptors_are() -> None:
    for path in tracked("rust/engine/src/*.rs"):
        inside = path.relative_to(ROOT / "rust/engine/src").parts[0]
        if inside in ("port", "sys"):
            continue
        assert not re.search(r"\bunsafe\s*(\{|fn|impl)", path.read_text()), path


def test_nothing_is_left_unfinished_or_slept_on() -> None:
    words = re.compile(
        r"\b(TODO|FIXME)\b|(?<![.])\bXXX\b(?![.])|todo!\(|unimplemented!\(|NotImplementedError|time\.sleep\(|thread::sleep"
    )
    found = []
    for path in tracked("python/*.py", "rust/*.rs", "bench/*.py", "tests/*.py", "tools/*"):
        if path != Path(__file__):
            found += [f"{path}: {line}" for line in path.read_text().splitlines() if words.search(line)]
    assert not found


def test_ci_names_no_tool() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    commands = [line for line in script.splitlines() if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["exec make test"]


def test_links_in_documents_lead_somewhere() -> None:
    for page in tracked("*.md"):
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target and not target.startswith("mailto:"):
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"
