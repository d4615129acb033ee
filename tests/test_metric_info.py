from aelab.metric_info import METRICS, format_value


def test_every_metric_has_a_title_and_a_sentence():
    titles = [row.title for row in METRICS.values()]
    assert len(set(titles)) == len(titles)
    for row in METRICS.values():
        assert row.description.endswith(".")
        assert row.better in ("lower", "higher", "")
        assert row.scale in ("linear", "log")


def test_values_are_shown_in_the_digits_of_their_metric():
    assert format_value("psnr", 18.766) == "18.77"
    assert format_value("images_per_second", 12345.6) == "12,346"
    assert format_value("learning_rate", 0.00123) == "0.0012"
    assert format_value("nonesuch", 0.5) == "0.5000"
