"""What the examples stand on: their flags, data, figures to reach, pictures and records; and how the examples are found.

An example is a file of at most 100 lines whose `main` is declared by `example`:

    @example(topic="images", figures=[Figure("test accuracy", at_least=97.0, unit="%")])
    def main(run):
        train, test = run.data("mnist", "train", scaled=True), run.data("mnist", "test", scaled=True)
        ...
        run.picture(lines(...))
        run.figure("test accuracy", 100 * accuracy)

    if __name__ == "__main__":
        main()
"""

from anynet.gallery.example import Example, ExampleRun, Unavailable, example
from anynet.gallery.figure import Figure
from anynet.gallery.listing import Entry, entries, find, folder
from anynet.gallery.picture import compose, history_lines, text_block, tiles
from anynet.reports.charts import Series, bars, heat_map, histogram, lines, radar, scatter

__all__ = [
    "Entry", "Example", "ExampleRun", "Figure", "Series", "Unavailable", "bars", "compose", "entries", "example", "find", "folder",
    "heat_map", "histogram", "history_lines", "lines", "radar", "scatter", "text_block", "tiles",
]  # fmt: skip
