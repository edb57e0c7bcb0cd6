"""A histogram counts each value once, in the first bucket that holds it."""

from web.metrics.histogram import Histogram


def test_a_value_on_a_bound_is_within_it_and_the_last_bucket_holds_all() -> None:
    histogram = Histogram((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        histogram.add(value)
    assert histogram.buckets() == [("0.1", 2.0), ("1.0", 3.0), ("+Inf", 4.0)]
    assert histogram.sum == 7.65


def test_an_empty_one_is_all_zero() -> None:
    assert Histogram((1.0,)).buckets() == [("1.0", 0.0), ("+Inf", 0.0)]
