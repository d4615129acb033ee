import pytest

from aelab.apps.evaluation.table import result_text, table


def figures(psnr, ssim=0.5, **setting):
    spread = {"psnr_median": psnr + 0.1, "psnr_worst_percent": psnr - 5}
    return {"psnr": psnr, "ssim": ssim, "mse": 0.1, "bce": 0.3} | spread | setting


def level(stddev, output, linear=17.2, **changes):
    return {
        "noise_stddev": stddev,
        "images": 1813,
        "corruption": f"gaussian (noise_stddev {stddev})",
        "search_images": 83,
        "training_images": 4443,
        "input": figures(9.3, 0.2),
        "output": output,
        "floors": {
            "blur": figures(13.27, sigma=1.42),
            "total_variation": figures(13.36, weight=0.57),
            "linear": figures(linear, 0.55, components=128),
        },
    } | changes


def result(output, **changes):
    """An evaluation with a sweep of two levels, of which 0.5 was trained."""
    trained = level(0.5, output)
    spread = {k: output[k] for k in ("psnr_median", "psnr_worst_percent")}
    return {
        "checkpoint": "best",
        "step": 6943,
        "examples": 1813,
        "data": {"as_in_training": True},
        "metrics": {k: output[k] for k in ("psnr", "ssim", "mse", "bce")},
        "input": figures(9.3, 0.2),
        "spread": {"input": {k: 1.0 for k in spread}, "output": spread},
        "trained": trained,
        "sweep": [level(0.1, figures(18.0, 0.56), 20.4), trained],
        "missing": [],
        "unlearned": [],
        "pictures": ["evaluation-worst.png", "evaluation-sweep.png"],
    } | changes


def line(text, start, number=0):
    return [n for n in text.splitlines() if n.startswith(start)][number]


@pytest.mark.parametrize(
    ("psnr", "said"),
    [
        (18.78, "1.58 dB above linear estimator"),
        (16.8, "0.40 dB BELOW linear estimator"),
        (float("nan"), "nan dB BELOW linear estimator"),
    ],
)
def test_the_output_is_compared_with_the_best_floor(psnr, said):
    assert result_text(level(0.5, figures(psnr)), "psnr") == said
    assert said in table(result(figures(psnr)))


def test_ssim_has_a_verdict_of_its_own():
    text = table(result(figures(18.78, 0.5)))
    assert "PSNR of the output: 1.58 dB above linear estimator." in text
    assert "SSIM of the output: 0.0500 BELOW linear estimator." in text


def test_the_noisy_input_is_a_floor_and_a_clean_one_is_not():
    found = level(0.5, figures(9.0), floors={})
    assert result_text(found, "psnr") == "0.30 dB BELOW input"
    clean = figures(100.0, 1.0) | {"mse": 0.0}
    assert result_text(found | {"input": clean}, "psnr") == ""


def test_rows_hold_floors_between_input_and_output():
    text = table(result(figures(18.78)))
    rows = text.splitlines()
    first = rows.index(line(text, "input"))
    names = [row[:21].strip() for row in rows[first : first + 5]]
    assert names == [
        *("input", "Gaussian blur", "total variation", "linear estimator", "output")
    ]
    assert line(text, "output").split() == [
        *("output", "18.78", "18.88", "13.78", "0.5000", "0.1000", "0.3000")
    ]
    assert line(text, "Gaussian blur").endswith("sigma 1.42")
    assert line(text, "linear estimator").endswith("128 numbers")
    assert "83 of the evaluated images" in text.replace("\n", " ")


def test_the_sweep_has_a_row_for_each_level():
    text = table(result(figures(18.78, 0.6)))
    for number, psnr in enumerate(("20.40", "0.5500")):
        row = line(text, "0.1 ", number).split()
        assert row[4] == psnr
    assert line(text, "0.1 ").endswith("2.40 dB BELOW linear estimator")
    assert line(text, "0.5*").endswith("1.58 dB above linear estimator")


def test_lines_are_short_and_end_in_no_space():
    text = table(result(figures(18.78), missing=["skimage", "sklearn"]))
    for row in text.splitlines():
        assert len(row) <= 88 and row == row.rstrip()


def test_fewer_images_than_there_are_are_told():
    text = table(result(figures(18.78), examples=10_000))
    assert "of the first 1,813 images" in text
    assert "of the first 1,813 images" not in table(result(figures(18.78)))


def test_other_images_than_in_training_are_told():
    heads = [
        " ".join(table(result(figures(18.78), data=data)).split("\n\n")[0].split())
        for data in ({"as_in_training": True}, {"as_in_training": False})
    ]
    assert "1,813 images that the model never saw" in heads[0]
    assert "may have seen them" not in heads[0]
    assert "1,813 images; other ones than the run was evaluated on" in heads[1]
    assert "so it may have seen them" in heads[1]
    assert "never saw" not in heads[1]
