"""MkDocs hooks: pages from elsewhere in the repository, generated tables, and a check for foreign hosts.

The site has no second copy of any text. `README.md`, `CHANGELOG.md`, `CONTRIBUTING.md`, the examples and each bundle's
`docs/` enter it as they are; links between them are resolved as on disk.
"""

from __future__ import annotations

import importlib
import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

from fire.helptext import HelpText
from fire.trace import FireTrace
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

from mrsynth.__main__ import COMMANDS
from mrsynth.settings import settings_table

ROOT = Path(__file__).resolve().parents[1]
ROOT_PAGES = {
    "README.md": "index.html",
    "CHANGELOG.md": "changelog/index.html",
    "CONTRIBUTING.md": "contributing/index.html",
}
BUNDLES = sorted(path.parents[1].name for path in (ROOT / "bundles").glob("*/docs/README.md"))
EXAMPLES = [ROOT / "examples" / "transplant.ipynb", ROOT / "examples" / "compare_folders.py"]
PACKAGE = ROOT / "tools" / "mrsynth"
ROOMS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
MODULES = ["loading", "errors"]
"""Modules beside the rooms that users import from."""


def on_config(config):
    """Fill the navigation's lists of bundles, examples and rooms."""
    for entry in config.nav:
        if "Bundles" in entry:
            entry["Bundles"] = [{name: f"bundles/{name}/docs/README.md"} for name in BUNDLES]
        elif "Examples" in entry:
            entry["Examples"] = [f"examples/{path.stem}.md" for path in EXAMPLES]
        elif "Reference" in entry:
            pages = ["command-line", *MODULES, *ROOMS]
            entry["Reference"] = [{name.replace("-", " "): f"reference/{name}.md"} for name in pages]
    return config


def on_files(files: Files, config) -> Files:
    """Add the repository's own pages with their pictures, and the pages of the reference."""

    def add(source: str, destination: str, **content: str | bytes) -> None:
        file = File.generated(config, source, **content)
        file.dest_uri = file.url = destination
        file.url = re.sub(r"(^|/)index\.html$", r"\1", destination) or "./"
        files.append(file)

    for name, destination in ROOT_PAGES.items():
        add(name, destination, abs_src_path=str(ROOT / name))
    for bundle in BUNDLES:
        for path in sorted((ROOT / "bundles" / bundle / "docs").iterdir()):
            target = "index.html" if path.name == "README.md" else path.name
            add(path.relative_to(ROOT).as_posix(), f"bundles/{bundle}/{target}", abs_src_path=str(path))
    for path in EXAMPLES:
        page, pictures = example(path)
        add(f"examples/{path.stem}.md", f"examples/{path.stem}/index.html", content=page)
        for name, picture in pictures.items():
            add(f"examples/{name}", f"examples/{path.stem}/{name}", content=picture)
    reference = {"command-line": commands(), **{name: symbols(name) for name in [*MODULES, *ROOMS]}}
    for name, content in reference.items():
        add(f"reference/{name}.md", f"reference/{name}/index.html", content=content)
    return files


def example(path: Path) -> tuple[str, dict[str, bytes]]:
    """The page of an example, and its pictures by file name. A notebook shows the outputs stored in it."""
    where = f"*This page is `{path.relative_to(ROOT)}`.*"
    if path.suffix == ".py":
        code = path.read_text(encoding="utf-8")
        intro, rest = re.fullmatch(r'"""(.+?)"""\n(.+)', code, re.DOTALL).groups()
        title, body = intro.split("\n", 1)
        return f"# {path.stem.replace('_', ' ').capitalize()}\n\n{title}\n{body}\n{where}\n\n```python\n{rest}```\n", {}
    text, resources = MarkdownExporter().from_filename(str(path))
    text = text.replace("![png]", "![Output of the code above]")
    return text.replace("\n\n", f"\n\n{where}\n\n", 1), resources["outputs"]


def symbols(name: str) -> str:
    """The reference page of a room or module.

    A function with the name of its module is listed by its full path: for mkdocstrings `mrsynth.metrics.realism` is the
    module.
    """
    hidden = ""
    if (PACKAGE / name).is_dir():
        public = importlib.import_module(f"mrsynth.{name}").__all__
        same = [symbol for symbol in public if (PACKAGE / name / f"{symbol}.py").is_file()]
        hidden = "".join(
            f"\n::: mrsynth.{name}.{symbol}.{symbol}\n    options:\n      heading: mrsynth.{name}.{symbol}\n"
            for symbol in same
        )
    return f"# {name}\n\n::: mrsynth.{name}\n{hidden}"


def commands() -> str:
    """The reference page of the command line: what `mrsynth COMMAND --help` prints."""
    sections = []
    for name, command in COMMANDS.items():
        trace = FireTrace(COMMANDS, name="mrsynth")
        trace.AddAccessedProperty(command, name, [name], None, None)
        sections.append(f"## {name}\n\n```text\n{HelpText(command, trace).strip()}\n```")
    intro = "`mrsynth COMMAND` and `python -m mrsynth COMMAND` are the same. `mrsynth` alone lists the commands."
    return "\n\n".join(["# Command line", intro, *sections])


def on_page_markdown(markdown: str, page, **_: object) -> str:
    """Append what is generated (settings, dataset cards), and resolve links as on disk."""
    source = page.file.src_uri
    if source == "datasets.md":
        markdown = f"{markdown}\n\n{dataset_cards()}\n"
    elif bundle := re.fullmatch(r"bundles/(\w+)/docs/README\.md", source):
        table = settings_table(str(ROOT / "bundles" / bundle[1]))
        markdown = f'{markdown}\n\n## All settings\n\n<div class="settings" markdown>\n\n{table}\n\n</div>\n'
    if page.file.abs_src_path is None:
        return markdown
    folder = Path(page.file.abs_src_path).parent

    def resolved(match: re.Match[str]) -> str:
        if match["fence"]:
            return match[0]
        path = (folder / match["link"]).resolve()
        if not path.exists():
            raise PluginError(f"{source}: the link to {match['link']} leads nowhere")
        if path in EXAMPLES:
            path = path.with_suffix(".md")
        elif path.parent.parent == PACKAGE and path.name == "__init__.py":
            path = ROOT / "reference" / f"{path.parent.name}.md"
        elif path == ROOT / "data_manifest":
            path = ROOT / "docs" / "datasets.md"
        inside = ROOT / "docs" if path.is_relative_to(ROOT / "docs") else ROOT
        target = path.relative_to(inside)
        return f"]({os.path.relpath(target, Path(source).parent)}{match['anchor']})"

    fenced, link = r"^ *(?P<fence>`{3,}).*?^ *(?P=fence)$", r"\]\((?P<link>[^)#\s:]+)(?P<anchor>(?:#[^)\s]*)?)\)"
    return re.sub(f"{fenced}|{link}", resolved, markdown, flags=re.DOTALL | re.MULTILINE)


def on_page_content(html: str, **_: object) -> str:
    """Mark short inline code, which is not broken across lines: a browser breaks options after their hyphens."""
    return re.sub(r"<code>(?=[^<]{1,30}</code>)", '<code class="short">', html)


def dataset_cards() -> str:
    """One section for each dataset: where it is found, its license, its layout, and what to cite."""
    sections = []
    for path in sorted((ROOT / "data_manifest").glob("*.json")):
        card = json.loads(path.read_text(encoding="utf-8"))
        license_ = card["license"]
        forbids = "".join(f"\n    - {line}" for line in license_.get("forbids", []))
        labels = ", ".join(v if k == "note" else f"{k} {v}" for k, v in card.get("labels", {}).items())
        facts = [
            f"**Where to get it:** {card['route']}",
            f"**Registration:** {card['registration']}",
            f"**License:** {license_['name']}" + (f". It forbids:\n{forbids}\n" if forbids else ""),
            f"**Layout:** `{card['folders']}`" if card.get("folders") else "",
            f"**Labels:** {labels}" if labels else "",
            "**Cite:**\n\n" + "\n".join(f"    - {line}" for line in card["citation"]) if card["citation"] else "",
        ]
        notes = "\n".join(f"- {line}" for line in facts if line)
        remarks = "\n\n".join(card.get("notes", []))
        sections.append(f"## `{card['id']}`: {card['name']}\n\n{notes}\n\n{remarks}")
    return "\n\n".join(sections)


class Loads(HTMLParser):
    """The addresses that a browser loads by itself when it shows a page; links to click are not among them."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.in_style = tag == "style"
        self.addresses += [given[name] for name in ("src", "poster", "data", "background") if name in given]
        self.addresses += [part.split()[0] for part in given.get("srcset", "").split(",") if part.strip()]
        if tag == "link" and given.get("rel") not in ("canonical", "prev", "next", "alternate"):
            self.addresses.append(given.get("href", ""))
        if tag in ("image", "use"):
            self.addresses += [given[name] for name in ("href", "xlink:href") if name in given]
        self.addresses += in_css(given.get("style", ""))

    def handle_data(self, data: str) -> None:
        if self.in_style:
            self.addresses += in_css(data)


def in_css(text: str) -> list[str]:
    """The addresses that a style sheet loads."""
    found = re.findall(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)", text)
    return [first or second for first, second in found]


def foreign_loads(site: Path) -> list[str]:
    """`page: address` of whatever the built pages and style sheets load from another host."""
    found = []
    for path in sorted(site.rglob("*")):
        if path.suffix in (".html", ".svg"):
            parser = Loads()
            parser.feed(path.read_text(encoding="utf-8"))
            addresses = parser.addresses
        elif path.suffix == ".css":
            addresses = in_css(path.read_text(encoding="utf-8"))
        else:
            continue
        found += [f"{path.relative_to(site)}: {address}" for address in addresses if urlsplit(address).netloc]
    return found


def on_post_build(config, **_: object) -> None:
    """Fail the build where a page would ask another host for anything."""
    if found := foreign_loads(Path(config.site_dir)):
        raise PluginError("Expected pages that load nothing from another host. Found:\n" + "\n".join(found))
