"""docs/results.md, docs/denoising.md and the README show what the JSON files have."""

import json

import picture_results
import pytest
import results
from common.result_page import BEGIN, END
from conftest import ROOT

PAGE, PHOTOS = ROOT / "docs" / "results.md", ROOT / "docs" / "denoising.md"
each_page = pytest.mark.parametrize(
    ("page", "tool"), [(PAGE, results), (PHOTOS, picture_results)]
)


def rows_of(page):
    """The rows of the JSON file next to a page."""
    return json.loads(page.with_suffix(".json").read_text())["results"]


ROWS = rows_of(PAGE)
CONFIGS = {path.stem for path in (ROOT / "configs").glob("*.flags")}
OF_CONFIGS = {
    dataset: [
        row
        for row in ROWS
        if row["study"] in CONFIGS and row["config"]["dataset"] == dataset
    ]
    for dataset in ("fashion_mnist", "idx")
}


def between_markers(path):
    """The lines between the two markers of a document."""
    text = path.read_text().partition(BEGIN)[2].partition(END)[0]
    return [line for line in text.splitlines() if line]


@each_page
def test_the_page_is_made_of_the_json_file(page, tool):
    made = tool.tables(rows_of(page))
    assert between_markers(page) == [line for line in made.splitlines() if line]


def test_the_table_of_the_readme_is_a_part_of_the_page():
    shown, page = between_markers(ROOT / "README.md"), between_markers(PAGE)
    places = [page.index(line) for line in shown]
    assert places == sorted(places)
    # The README says in its own words what the letters mean.
    assert "(b) AMD EPYC (family 26, model 2)" in "".join(page[: places[0]])
    names = {row["study"] for row in OF_CONFIGS["fashion_mnist"]}
    assert names >= {"dense", "dense_best", "codec_low"}
    for name in names:
        assert any(line.startswith(f"| `{name}`") for line in shown), name


def test_the_recipes_have_the_parts_and_seeds_that_the_page_promises():
    for dataset, validate in (("fashion_mnist", 5_000), ("idx", 0)):
        for row in OF_CONFIGS[dataset]:
            parts = row["config"]["validation_examples"], row["test_examples"]
            assert parts == (validate, 10_000), row["study"]
            seeds = 2 if row["study"].startswith("codec_") else 3
            assert len(row["metrics"]["psnr"]["each"]) == seeds, row["study"]


def test_the_denoisers_of_photographs_keep_to_the_protocol():
    """At most 1.1 million parameters and 12 billion pixels; noise is not clipped."""
    assert rows_of(PHOTOS)
    for row in rows_of(PHOTOS):
        config = row["config"]
        assert row["parameters"] <= 1_100_000
        assert row["steps"] * config["batch_size"] * config["image_size"] ** 2 <= 12e9
        # With corruption=none the reported pictures themselves train.
        if config["corruption"] != "none":
            assert (config["validation_examples"], config["test_share"]) == (20, 0)
        assert row["results"]
        for result in row["results"]:
            assert not result["clip"]  # None for pairs


@each_page
def test_no_path_of_a_machine_is_in_the_results(page, tool):
    assert "/" not in page.with_suffix(".json").read_text()
