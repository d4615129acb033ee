"""Run directories to report on, and a parser of report pages."""

import json
import re
import struct
import zlib
from html.parser import HTMLParser

import numpy as np
from hypothesis import strategies as st

from aelab.apps.report import write_report
from aelab.config import Config
from aelab.runs.directory import RunDirectory

DATA = {"train": "50 images, sha256 a", "eval": "21 images, sha256 b"}
DATA |= {"image_shape": [12, 16, 1]}
LINES = [
    {"step": 10, "epoch": 0.5, "split": "train", "loss": 0.5, "gradient_norm": 2.0},
    {"step": 20, "epoch": 1.0, "split": "train", "loss": 0.4, "gradient_norm": None},
    {"step": 20, "epoch": 1.0, "split": "eval", "loss": 0.45, "psnr": 9.5, "ssim": 0.1},
    {"step": 30, "epoch": 1.5, "split": "train", "loss": 0.3, "gradient_norm": 1.0},
    {"step": 40, "epoch": 2.0, "split": "train", "loss": 0.2, "gradient_norm": 3.0},
    {
        "step": 40,
        "epoch": 2.0,
        "split": "eval",
        "loss": 0.25,
        "psnr": 12.345,
        "ssim": 0,
    },
]
METRICS = {"psnr": 18.5678, "ssim": 0.71236, "mse": 0.0139, "bce": 0.29}
INPUT = {"psnr": 9.3, "ssim": 0.2, "mse": 0.117, "bce": 0.9}
EVALUATION = {
    **{"checkpoint": "best", "step": 1234, "examples": 1813},
    "data": {"fingerprint": "21 images", "as_in_training": True},
    **{"metrics": METRICS, "input": INPUT},
}
# Any JSON value.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
)
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """A parsed page; fails if elements are not closed in order.

    Attributes:
      elements: (name, attributes) in order.
      tables: a list of rows per table, a list of cell texts per row.
      texts: all text outside `style`, joined.
    """

    def __init__(self, html):
        super().__init__()
        self.elements, self.tables, self.texts, self._open = [], [], "", []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open:
            self.texts += data
        if self._open and self._open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def table(self, *columns):
        """The rows, by name, of the only table that begins with these columns."""
        (table,) = [t for t in self.tables if t[0][: len(columns)] == list(columns)]
        head, *rows = table
        return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


def png(gray):
    """A gray PNG file of 3 x 1 pixels."""

    def chunk(kind, data):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", 3, 1, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" + bytes([gray] * 3))
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def make_run(folder, lines=LINES[:1], config=None, evaluation=None, panels=()):
    """Writes a run directory without checkpoints."""
    run = RunDirectory(str(folder))
    run.write(config or Config(), DATA, {"replicas": 1, "devices": ["CPU:0"]})
    write_lines(folder / "metrics.jsonl", lines)
    if evaluation is not None:
        (folder / "evaluation.json").write_text(json.dumps(evaluation))
    for step in panels:
        path = folder / "images" / f"panel-{step:08d}.png"
        path.write_bytes(png(step % 256))
    return folder


def report(*runs, axis="epoch", curves=""):
    """Writes a page on some runs next to the first run, and returns it."""
    output = runs[0].parent / "report.html"
    write_report(list(map(str, runs)), str(output), axis, curves)
    return output.read_text(encoding="utf-8")


def path_of(svg, group):
    """The connected parts of a drawn line, an array of points each."""
    inside = svg[svg.index(f'<g id="{group}">') :]
    data = re.search(r'<path d="([^"]*)"[^>]*clip-path', inside)[1]
    parts = []
    for command, x, y in re.findall(r"([ML]) (\S+) (\S+)", data):
        if command == "M":
            parts.append([])
        parts[-1].append((float(x), float(y)))
    return [np.array(part) for part in parts]


def is_affine(drawn, values):
    """True if coordinates equal the values up to origin and scale."""
    slope, offset = np.polyfit(values, drawn, 1)
    return np.allclose(drawn, slope * np.array(values) + offset, atol=0.02)
