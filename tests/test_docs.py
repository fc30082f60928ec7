"""The documents name files and functions that are there."""

import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("kinetics_sounds", "pipelines", "train")
DOCUMENTS = ("CONTRIBUTING.md", "docs/architecture.md", "docs/extending.md")
NO_CODE = (".csv", ".json", ".jsonl", ".md", ".toml", ".txt", ".yaml")
"""How other names with a dot in them end."""


def named(document: str) -> list[str]:
    """What stands between backticks outside of code blocks."""
    text = re.sub(r"(?ms)^```.*?^```$", "", (ROOT / document).read_text())
    return re.findall(r"`([^`\n]+)`", text)


def modules() -> list[str]:
    paths = [path.relative_to(ROOT).with_suffix("") for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    return [".".join(path.parts).removesuffix(".__init__") for path in paths]


def found(name: str) -> list[object]:
    """All that a name such as `plan.plan` may mean: what a module holds whose own name ends like the name begins."""
    there: list[object] = []
    words = name.split(".")
    for count in range(1, len(words)):
        for module in modules():
            if f".{module}".endswith(f".{'.'.join(words[:count])}"):
                holder: object = load(module)
                for word in words[count:]:
                    holder = getattr(holder, word, None)
                there += [holder] if holder is not None else []
    return there


def load(module: str) -> ModuleType:
    return importlib.import_module(module if module.startswith(FOLDERS[0]) else f"{FOLDERS[0]}.{module}")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_exists(document: str) -> None:
    paths = [each for each in named(document) if re.fullmatch(r"[\w.]+/[\w./]*(/|\.py|\.md|\.yaml)", each)]

    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_function_exists(document: str) -> None:
    names = [each for each in named(document) if re.fullmatch(r"[a-z]\w*(\.\w+)+", each) and not each.endswith(NO_CODE)]

    assert [name for name in names if not found(name)] == []
    assert names or document == "CONTRIBUTING.md"


def test_a_name_that_is_not_there_is_noticed() -> None:
    assert found("plan.plan")
    assert found("writer.ShardWriter.write")
    assert not found("plan.plot")
    assert not found("ledger.Ledger.forget")
    assert not found("nowhere.plan")


@pytest.mark.parametrize(
    "document",
    ["CONTRIBUTING.md", "README.md", *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("docs/**/*.md")))],
)
def test_every_relative_link_leads_somewhere(document: str) -> None:
    path = ROOT / document
    text = re.sub(r"(?ms)^```.*?^```$", "", path.read_text())
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:|#", link)]

    assert [link for link in links if not (path.parent / link.partition("#")[0]).exists()] == []


MEASURED = (ROOT / "docs/measured.md").read_text()
ROWS = [row.strip("| ").split(" | ") for row in MEASURED.splitlines() if row.startswith("| `")]


def test_every_script_of_benchmarks_has_a_row_and_every_page_is_named() -> None:
    named = [name for row in ROWS for name in re.findall(r"`(\w+\.(?:py|c))`", row[0])]
    pages = re.findall(r"benchmarks/(\w+\.md)", MEASURED)

    assert sorted(named) == sorted(path.name for end in ("*.py", "*.c") for path in (ROOT / "benchmarks").glob(end))
    assert set(pages) == {path.name for path in (ROOT / "benchmarks").glob("*.md")}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_has_the_dates_of_its_page(row: list[str]) -> None:
    script, page = re.findall(r"\w+\.py", row[0])[0], re.findall(r"\((\.\./benchmarks/\w+\.md)\)", row[2])
    dates = re.findall(r"\d{4}-\d\d-\d\d", "".join(row[3:]))

    assert bool(page) == bool(dates)
    for name in page:
        text = (ROOT / "docs" / name).read_text()
        assert script in text
        assert [date for date in dates if date not in text] == []
