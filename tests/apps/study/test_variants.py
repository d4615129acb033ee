import pytest

from aelab.apps.study.variants import Variant, parse_variants
from aelab.errors import UsageError


def refusal(*given):
    with pytest.raises(UsageError) as caught:
        parse_variants(given)
    return str(caught.value)


def test_several_flags_are_a_grid():
    found = parse_variants(["learning_rate=0.3,1", "--loss=bce,mse"])
    assert [variant.name for variant in found] == [
        "learning_rate=0.3,loss=bce",
        "learning_rate=0.3,loss=mse",
        "learning_rate=1.0,loss=bce",
        "learning_rate=1.0,loss=mse",
    ]
    assert found[2].flags == {"learning_rate": 1.0, "loss": "bce"}


def test_without_flags_there_is_one_variant():
    assert parse_variants([]) == [Variant("only", {})]


def test_characters_that_are_unsafe_in_a_path_are_replaced():
    (variant,) = parse_variants(["model=package.module:build"])
    assert variant.name == "model=package.module_build"
    assert variant.flags == {"model": "package.module:build"}


def test_a_file_names_its_variants(tmp_path):
    path = tmp_path / "variants.txt"
    path.write_text(
        "\ufeff# what to try\n"
        "plain:\n\n"
        "  adam: --optimizer=adam --optimizer_args=beta_1=0.9,epsilon=1e-6\n"
        "noisy: --corruption='gaussian,masking' --noise_stddev=25/255\n"
    )
    assert parse_variants([f"@{path}"]) == [
        Variant("plain", {}),
        Variant(
            "adam",
            {"optimizer": "adam", "optimizer_args": "beta_1=0.9,epsilon=1e-6"},
        ),
        Variant("noisy", {"corruption": "gaussian,masking", "noise_stddev": 25 / 255}),
    ]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["learning_rat=1"], "no flag --learning_rat; did you mean --learning_rate"),
        (["learning_rate"], "must be FLAG=VALUE,VALUE or @FILE"),
        (["learning_rate="], "must be FLAG=VALUE,VALUE or @FILE"),
        (["learning_rate=1,x"], "--learning_rate must be a number, not 'x'"),
        (["learning_rate=0"], "--learning_rate must be above 0"),
        (["loss=bce,l7"], "--loss must be one of"),
        (["seed=1,2"], "sets --seed itself: give --seeds=N"),
        (["run_dir=a"], "sets --run_dir itself"),
        (["loss=bce", "loss=mse"], "--loss is varied twice"),
        (["learning_rate=0.1,0.10"], "learning_rate=0.1 have equal values"),
        (["loss=bce,bce"], "have equal values"),
        (["@none"], "--vary=@none can't be read"),
        (["@none", "loss=bce"], "give no other --vary"),
        ([f"model=m:{'f' * 200}"], "is too long for a folder"),
    ],
)
def test_bad_variants_are_refused(given, words):
    assert words in refusal(*given)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no variants"),
        ("# nothing\n", "has no variants"),
        ("a --loss=mse", "line 1 must be NAME: --flag=value"),
        ("../a: --loss=mse", "line 1 must be NAME"),
        (".a: --loss=mse", "line 1 must be NAME"),
        ("a: loss=mse", "line 1: 'loss=mse' must be --flag=value"),
        ("a: --loss mse", "line 1: '--loss' must be --flag=value"),
        ("a: --loss='mse", "line 1: No closing quotation"),
        ("a:\nb: --los=mse", "line 2: there is no flag --los"),
        ("a:\nb: --loss=x", "line 2: --loss must be one of"),
        ("a: --seed=3", "sets --seed itself"),
        ("a: --loss=mse --loss=bce", "--loss is given twice"),
        ("a: --loss=mse\na: --loss=bce", "two variants have the name a"),
        ("a: --loss=mse\nb: --loss=mse", "the variants a and b have equal values"),
    ],
)
def test_a_bad_file_is_refused(tmp_path, text, words):
    path = tmp_path / "variants.txt"
    path.write_text(text)
    assert words in refusal(f"@{path}")
