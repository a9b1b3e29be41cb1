"""What an example leaves in its results folder: a picture, and tables to read and to compute with."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm


class Report:
    """Writes into one folder, and says what was written."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder

    def table(self, frame: pd.DataFrame, title: str, name: str = "table") -> None:
        """Prints a table, and writes it as ``name.csv`` and, for the documentation, ``name.md``."""
        shown = frame.astype(object).where(frame.notna(), None)
        text = shown.to_markdown(index=False, floatfmt=".3g", missingval="")
        print(f"\n{title}\n\n{text}\n")
        content = f"{title}\n\n{text}\n"
        self.save(f"{name}.md", lambda path: path.write_text(content, encoding="utf-8"))
        self.save(f"{name}.csv", lambda path: frame.to_csv(path, index=False))

    def picture(self, figure: Figure, name: str = "picture") -> None:
        """Writes the figure as ``name.png`` and closes it."""
        self.save(f"{name}.png", lambda path: figure.savefig(path, dpi=150))
        plt.close(figure)

    def save(self, name: str, write: Callable[[Path], object]) -> None:
        """Has that file of the folder written by a function of its path, and says so."""
        path = self.folder / name
        write(path)
        print(f"wrote {path}")


def progress(iterable, description: str, **options):
    """A progress bar, where there is a terminal to show it."""
    return tqdm(iterable, desc=description, disable=not sys.stderr.isatty(), **options)
