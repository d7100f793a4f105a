"""Hooks of mkdocs: pages that are made from the repository, and links that work there and on the site."""

import argparse
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import rnn_lightning
from rnn_lightning.cli.arguments import Request
from rnn_lightning.cli.lightning_cli import CommandLine
from rnn_lightning.cli.main import short_help

ROOT = Path(__file__).parent.parent
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
COPIED = ("benchmarks/results/*.md", "configs/*.yaml", "examples/*", "data/*", "LICENSE", "CITATION.cff")
COMMANDS = ("fit", "validate", "test", "predict")
GROUPS = ("data", "model", "trainer", "forecast", "backtest", "optimizer", "lr_scheduler")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that stand outside of docs/ or are made."""
    made = {"index.md": (ROOT / "README.md").read_text(), "commands.md": "\n".join(command_reference())}
    made |= {name: (ROOT / name).read_text() for name in PAGES}
    for uri, text in made.items():
        files.append(File.generated(config, uri, content=text))
    for pattern in COPIED:
        for path in sorted(ROOT.glob(pattern)):
            uri = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let links that hold in the repository hold on the site, whose root is docs/."""
    markdown = re.sub(r"^\[!\[.*\n", "", markdown, flags=re.MULTILINE)  # badges
    if page.file.src_uri.startswith("benchmarks/"):
        return markdown.replace("](../../docs/", "](../../")
    return re.sub(r"(\]\(|src=\")(\.\./|docs/)", r"\1", markdown)


def command_reference() -> Iterator[str]:
    """Yield the lines of the page of all commands and options."""
    yield "# Commands\n\nThis page is made from the parser. `rnn-lightning COMMAND -h` shows the main options"
    yield "of a command in the terminal, `--help` all of them.\n"
    yield f"```text\n{short_help()}```\n"
    for command in ("fit", "test", "predict", "export"):
        yield f"## {command}\n\n```text\n{short_help(command)}```\n"
    parsers = {command: parser_of(command) for command in COMMANDS}
    yield "## All options\n\nWithout a remark, an option belongs to fit, validate, test and predict.\n"
    for group in ("general", *GROUPS):
        yield from option_table(group, parsers)
    yield "## Options of the series\n\n`--data.series CLASS` chooses the source, `--data.series.NAME` its"
    yield "options; a file after the command is a `TableSeries` or an `ArraySeries`.\n"
    for kind in ("TableSeries", "ArraySeries", "SineSeries", "RandomSeries", "LinearSeries", "LorenzSeries"):
        parser = class_parser(kind)
        yield f"### {kind}\n"
        yield from rows({f"--data.series.{name}": text for name, text in options_of(parser).items()})


def option_table(group: str, parsers: dict[str, Any]) -> Iterator[str]:
    """Yield the options of one group, and which commands have them."""
    texts: dict[str, str] = {}
    owners: dict[str, list[str]] = {}
    for command, parser in parsers.items():
        for name, text in options_of(parser).items():
            prefix = name.partition(".")[0]
            if group == (prefix if prefix in GROUPS else "general"):
                texts.setdefault(f"--{name}", text)
                owners.setdefault(f"--{name}", []).append(command)
    for option, commands in owners.items():
        if len(commands) < len(parsers):
            texts[option] += f" *Only {', '.join(commands)}.*"
    yield f"### {group}\n"
    yield from rows(texts)


def rows(texts: dict[str, str]) -> Iterator[str]:
    """Yield a table of options."""
    yield "| option | |\n|---|---|"
    for option, text in texts.items():
        yield f"| `{option}` | {text} |"
    yield ""


def options_of(parser: Any) -> dict[str, str]:
    """Return the help of each option with its type and default, as it is printed."""
    formatter, texts = parser._get_formatter(), {}
    for action in parser._actions:
        if action.help in (None, argparse.SUPPRESS) or action.dest == "help":
            continue
        text = " ".join(formatter._expand_help(action).split())
        option = next((name for name in action.option_strings if name.startswith("--")), action.dest)
        texts[option.removeprefix("--")] = (
            text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("``", "`")
        )
    return texts


class _Made(Exception):
    """Carries the parser of a command out of Lightning's command line."""


class _Reading(CommandLine):
    def parse_arguments(self, parser: Any, args: Any) -> None:
        raise _Made(parser)


def parser_of(command: str) -> Any:
    """Return the parser of a command."""
    with contextlib.ExitStack() as cleanup:
        try:
            _Reading(Request.read([command, "--help"]), {}, cleanup)
        except _Made as made:
            return made.args[0]
    raise RuntimeError(f"{command} made no parser")


def class_parser(name: str) -> Any:
    """Return a parser of the arguments of a series."""
    parser = ArgumentParser()
    parser.add_class_arguments(getattr(rnn_lightning, name))
    return parser
