"""Properties of RetryPolicy: whatever is allowed gives a delay that is."""

from hypothesis import given
from hypothesis import strategies as st

from dj_queue.tasks import RetryPolicy

YEAR = 31_536_000


@st.composite
def policies(draw, *, most_jitter=1.0):
    ceiling = draw(st.floats(0, YEAR) | st.integers(0, YEAR))
    return RetryPolicy(
        draw(st.sampled_from(["constant", "linear", "exponential"])),
        seconds=draw(st.floats(0, ceiling)),
        ceiling=ceiling,
        jitter=draw(st.floats(0, most_jitter)),
    )


@given(policies(), st.integers(1, 32_767), st.floats(0, 1))
def test_a_delay_is_never_below_zero_nor_above_the_ceiling(policy, attempt, drawn):
    assert 0 <= policy.delay_seconds(attempt, draw=lambda: drawn) <= policy.ceiling


@given(policies(most_jitter=0.0), st.integers(1, 32_766))
def test_without_jitter_a_delay_is_never_shorter_than_the_one_before(policy, attempt):
    assert policy.delay_seconds(attempt) <= policy.delay_seconds(attempt + 1)


@given(policies(), st.integers(1, 1000), st.floats(0, 1))
def test_jitter_leaves_off_at_most_its_share(policy, attempt, drawn):
    longest = policy.delay_seconds(attempt, draw=lambda: 0.0)

    delay = policy.delay_seconds(attempt, draw=lambda: drawn)

    assert longest * (1 - policy.jitter) <= delay <= longest
