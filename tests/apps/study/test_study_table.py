import csv
import math

import pytest
from made_up import run, variant
from markdown_it import MarkdownIt
from scipy import stats

from aelab.apps.study.results import VariantResult
from aelab.apps.study.state import DIVERGED, STARTED
from aelab.apps.study.table import Column, Table, make_table
from aelab.apps.study.table_files import to_csv, to_latex, to_markdown
from aelab.errors import UsageError

BASE = [18.0, 18.5, 18.2]
GOOD = [18.31, 18.79, 18.5]
SAME = [18.1, 18.4, 18.25]


def grid():
    return [
        variant(f"loss={name}", values, {"loss": name})
        for name, values in (("bce", BASE), ("mse", GOOD), ("l1", SAME))
    ]


def columns(table):
    return {title: list(cells) for title, _, cells in table.columns}


def numbers(table):
    return list(csv.DictReader(to_csv(table).splitlines()))


def test_a_table_has_means_and_differences_in_words():
    found = columns(make_table(grid(), ["psnr"], "loss=bce", on_test=False))
    assert found == {
        "variant": ["loss=bce", "loss=mse", "loss=l1"],
        "n": ["3", "3", "3"],
        "PSNR, dB": ["18.23 ± 0.25", "18.53 ± 0.24", "18.25 ± 0.15"],
        "minutes": ["3.0"] * 3,
        "parameters": ["1,234,567"] * 3,
        "PSNR against the baseline": [
            "baseline",
            "better by 0.30 dB (0.28 to 0.32)",
            "no difference seen with 3 seeds (-0.24 to 0.28 dB)",
        ],
    }


def test_holm_decides_over_all_variants():
    """With p = 0.04 a claim holds if nothing else was compared."""
    values = [18.0 + 0.1 * i for i in range(3)]
    other = [value + d for value, d in zip(values, (0.1, 0.14, 0.22), strict=True)]
    p = stats.ttest_rel(other, values).pvalue
    assert 0.025 < p < 0.05
    base, tried, more = (
        variant("a", values),
        variant("b", other),
        variant("c", [v + d for v, d in zip(values, (0.1, -0.1, 0.05), strict=True)]),
    )
    title = "PSNR against the baseline"
    two = make_table([base, tried], ["psnr"], "a", False)
    assert columns(two)[title][1].startswith("better by 0.15 dB")
    assert "Holm" not in two.caption
    three = make_table([base, tried, more], ["psnr"], "a", False)
    text = "no difference seen with 3 seeds after correction (0.0"
    assert columns(three)[title][1].startswith(text)
    assert "Holm for 2 variants" in three.caption
    assert float(numbers(three)[1]["psnr_p"]) == pytest.approx(p)
    assert float(numbers(three)[1]["psnr_p_holm"]) == pytest.approx(2 * p)


def test_only_seeds_that_both_finished_are_compared():
    base = variant("a", BASE)
    runs = [run(0, DIVERGED, 70), run(1, psnr=19.0), run(2, psnr=18.8), run(3, STARTED)]
    table = make_table([base, VariantResult("b", {}, runs)], ["psnr"], "a", False)
    row = numbers(table)[1]
    assert columns(table)["n"][1] == "2 of 4 seeds; 1 of 4 diverged, at step 70"
    assert (row["psnr_n"], row["psnr_pairs"]) == ("2", "2")
    assert float(row["psnr_difference"]) == pytest.approx(0.55)


@pytest.mark.parametrize("kind", [DIVERGED, STARTED])
def test_a_baseline_without_finished_seeds_is_compared_with_nothing(kind):
    base = VariantResult("a", {}, [run(seed, kind, 70) for seed in range(2)])
    table = make_table([base, variant("b", [18.0, 18.1])], ["psnr"], "a", False)
    assert columns(table)["PSNR against the baseline"] == ["baseline", ""]
    assert "No variant has two seeds to compare with a." in table.caption
    assert columns(table)["minutes"] == ["", "2.5"]


def test_one_seed_makes_no_claim():
    table = make_table([variant("a", [18]), variant("b", [25])], ["psnr"], "a", False)
    assert columns(table)["PSNR, dB"] == ["18.00", "25.00"]
    assert columns(table)["PSNR against the baseline"] == ["baseline", ""]
    assert numbers(table)[1]["psnr_difference"] == "7.0"
    assert numbers(table)[1]["psnr_low"] == numbers(table)[1]["psnr_p"] == ""
    assert "One seed" in table.caption


def test_only_flags_that_differ_are_shown():
    first = {"loss": "bce", "epochs": 5, "augment": True}
    second = {"loss": "bce", "epochs": 9}
    variants = [variant("a", BASE, first), variant("b", SAME, second)]
    table = make_table(variants, ["psnr"], "b", False)
    assert columns(table)["flags"] == ["epochs=5, augment=true", "epochs=9"]
    assert columns(table)["PSNR against the baseline"][1] == "baseline"
    assert numbers(table)[0]["flags"] == "--loss=bce --epochs=5 --augment=true"
    assert "flags" not in columns(
        make_table([variant("only", BASE)], [], "only", False)
    )


def test_the_part_is_marked():
    tested = [run(seed, tested={"psnr": 17.0 + seed}, psnr=18.0) for seed in range(3)]
    variants = [VariantResult("a", {}, tested), variant("b", BASE)]
    table = make_table(variants, ["psnr"], "a", on_test=True)
    assert columns(table)["PSNR, dB (test)"] == ["18.00 ± 1.00", "not evaluated"]
    assert "on the test part:" in table.caption
    assert {row["part"] for row in numbers(table)} == {"test"}
    table = make_table(variants, ["psnr"], "a", on_test=False)
    assert "on the validation part:" in table.caption
    for on_test in (True, False):
        table = make_table(variants, ["psnr"], "a", on_test, chosen_on_test={"a", "b"})
        assert "on the test part, by which it was chosen:" in table.caption


def test_the_test_part_may_validate_some_variants():
    variants = [variant("a", BASE), variant("b", BASE)]
    table = make_table(variants, ["psnr"], "a", on_test=False, chosen_on_test={"b"})
    assert "part that validates, in some variants the test part:" in table.caption
    assert [row["part"] for row in numbers(table)] == ["validation", "test"]
    table = make_table(variants, ["psnr"], "a", on_test=True, chosen_on_test={"b"})
    assert (
        "test part, which for some variants also chose the checkpoint:" in table.caption
    )


def test_the_baseline_of_a_search_may_not_have_begun():
    variants = [variant("trial-000", BASE), variant("trial-001", GOOD)]
    table = make_table(variants, ["psnr"], "trial-005", False, is_search=True)
    assert columns(table)["PSNR against the baseline"] == ["", ""]
    assert "No variant has two seeds to compare with trial-005." in table.caption


def test_a_baseline_that_is_not_a_variant_is_refused():
    with pytest.raises(UsageError, match=r"--baseline=x is not .* loss=bce, loss=mse"):
        make_table(grid(), ["psnr"], "x", False)


def test_a_single_tested_variant_is_compared_with_nothing():
    best = [run(seed, tested={"psnr": 18.0 + seed}, psnr=19.0) for seed in range(2)]
    variants = [variant("trial-000", BASE), VariantResult("trial-001", {}, best)]
    table = make_table(variants, ["psnr"], "trial-000", on_test=True, is_search=True)
    assert columns(table)["PSNR, dB (test)"] == ["not evaluated", "18.50 ± 0.71"]
    assert "PSNR against the baseline" not in columns(table)
    assert "compare" not in table.caption


def test_csv_has_the_numbers_as_they_are():
    table = make_table(grid(), ["psnr", "ssim"], "loss=bce", False)
    rows = numbers(table)
    differences = [a - b for a, b in zip(GOOD, BASE, strict=True)]
    low, high = stats.t.interval(0.95, 2, sum(differences) / 3, stats.sem(differences))
    assert float(rows[1]["psnr_mean"]) == pytest.approx(sum(GOOD) / 3, abs=1e-12)
    assert float(rows[1]["psnr_low"]) == pytest.approx(low, abs=1e-12)
    assert float(rows[1]["psnr_high"]) == pytest.approx(high, abs=1e-12)
    assert rows[1]["ssim_n"] == "0" and rows[1]["ssim_mean"] == ""
    assert rows[0]["psnr_difference"] == ""
    assert math.isclose(float(rows[0]["minutes"]), 3.0)


ODD = r"a|b_*[x]&c\d<e>~`f` _g_ #h $i ^j {k} 100% ± -1"


def odd_table():
    columns = [Column("_t_", "l", [ODD, "short"]), Column("n", "r", ["1", "22"])]
    return Table(f"Compared with {ODD}.", columns, [{}, {}])


def test_markdown_shows_every_character_and_lines_up():
    text = to_markdown(odd_table())
    page = MarkdownIt("commonmark").enable("table").parse(text)
    shown = [
        "".join(child.content for child in token.children).replace("\n", " ")
        for token in page
        if token.type == "inline"
    ]
    assert shown == ["_t_", "n", ODD, "1", "short", "22", f"Compared with {ODD}."]
    tags = {c.type for token in page for c in token.children or []}
    assert tags <= {"text", "text_special", "softbreak"}
    rows = text.splitlines()[:4]
    assert len({len(row) for row in rows}) == 1
    assert rows[3].endswith(" 22 |") and "style" in str(page[6].attrs)


def test_one_variant_is_compared_with_nothing():
    table = make_table([variant("only", BASE)], ["psnr"], "only", False)
    assert list(columns(table)) == ["variant", "n", "PSNR, dB", "minutes", "parameters"]
    assert table.caption.endswith("3 seeds per variant.")


def test_names_of_flags_stay_readable_in_a_terminal():
    base = variant("learning_rate=0.3", BASE, {"learning_rate": 0.3})
    table = make_table([base], ["psnr"], "learning_rate=0.3", False)
    assert "| learning_rate=0.3 |" in to_markdown(table)
    assert max(map(len, to_markdown(table).splitlines())) <= 88


def test_latex_is_escaped():
    lines = to_latex(odd_table()).splitlines()
    (row,) = [line for line in lines if line.endswith(r"& 1 \\")]
    assert row == (
        r"a|b\_*[x]\&c\textbackslash{}d$<$e$>$\textasciitilde{}`f` \_g\_ \#h \$i "
        r"\textasciicircum{}j \{k\} 100\% $\pm$ $-$1 & 1 \\"
    )
    wrapped = r">{\raggedright\arraybackslash}p{42mm}"
    assert rf"\begin{{tabular}}{{{wrapped}r}}" in lines and r"\toprule" in lines
    for name, end in (("table", ""), ("tabular", "}")):
        begins = [line for line in lines if line.startswith(rf"\begin{{{name}}}")]
        assert len(begins) == lines.count(rf"\end{{{name}}}{end}") == 1
    assert to_latex(odd_table()).count("{") == to_latex(odd_table()).count("}")


def test_a_name_that_cannot_be_printed_is_escaped():
    table = make_table(
        [variant("a", BASE, {"data_dir": "x\udc80\n"}), *grid()], [], "a", False
    )
    assert columns(table)["flags"][0] == r"data_dir=x\udc80\n"
    to_markdown(table).encode()
