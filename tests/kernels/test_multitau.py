"""Multi-tau g2 against the literal definition in loops, bit for bit where counts are integers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ainerd_hpc.kernels import lags, multitau
from ainerd_hpc.kernels.counts import Events, to_events

SCHEMES = ["boost_corr", "scikit-beam"]


def delays_truth(num_frames, scheme, delays_per_level):
    """Every (lag, level) of the scheme with x 2^L < floor(T / 2^L) 2^L, in the order of the levels."""
    last = 2 * delays_per_level if scheme == "boost_corr" else 2 * delays_per_level - 1
    allowed = []
    for level in range(30):
        for x in range(1, last + 1):
            in_scheme = x > last - delays_per_level or level == 0
            if in_scheme and x * 2**level < num_frames // 2**level * 2**level:
                allowed.append((x * 2**level, level))
    return allowed


def moments_truth(series, lag, level, valid):
    """G, IP, IF summed over all pairs of valid frames of one pixel, and their number; integers stay integers."""
    fold = 2**level
    frames, good = [], []
    for i in range(len(series) // fold):
        frames.append(sum(series[i * fold : (i + 1) * fold]))
        good.append(all(valid[i * fold : (i + 1) * fold]))
    pairs = [(i, i + lag // fold) for i in range(len(frames) - lag // fold)]
    pairs = [(frames[i], frames[j]) for i, j in pairs if good[i] and good[j]]
    return sum(a * b for a, b in pairs), sum(a for a, _ in pairs), sum(b for _, b in pairs), len(pairs)


def g2_truth(counts, static_labels, scheme, delays_per_level, weighting, valid, scale):
    """Pixel by pixel and pair by pair."""
    table = delays_truth(len(counts), scheme, delays_per_level)
    columns = [[v if scale is None else v * f for v, f in zip(c, scale or c, strict=True)] for c in counts.T.tolist()]
    g2s, errors = [], []
    for lag, level in table:
        moments = np.array([moments_truth(column, lag, level, valid) for column in columns], dtype=float)
        ratios, weights = [], []
        for label in sorted(set(static_labels.tolist()) - {0}):
            inside = static_labels == label
            product, past, future, num = moments[inside].mean(axis=0)
            if past * future > 0:
                ratios.append((product / num) / (past / num * future / num))
                weights.append(inside.sum() if weighting == "pixels" else 1)
        pixels = [g * n / (past * future) for g, past, future, n in moments[static_labels > 0] if past * future > 0]
        g2s.append(np.average(ratios, weights=weights) if ratios else np.nan)
        errors.append(np.std(pixels, ddof=1) / np.sqrt(len(pixels)) if len(pixels) > 1 else np.nan)
    return [lag for lag, _ in table], g2s, errors


def exact_moments(counts, lag, level, valid=None):
    """(lag, 3) Python integers, summed over all pixels of counts."""
    valid = np.ones(len(counts), bool) if valid is None else valid
    result = []
    for k, fold in zip(lag.tolist(), (2**level).tolist(), strict=True):
        num = len(counts) // fold
        good = valid[: num * fold].reshape(num, fold).all(axis=1)
        frames = counts[: num * fold].astype(np.int64).reshape(num, fold, -1).sum(axis=1)
        frames = np.where(good[:, np.newaxis], frames, 0).astype(object)
        past, future = frames[: num - k // fold], frames[k // fold :]
        pair = (good[: num - k // fold] & good[k // fold :])[:, np.newaxis].astype(int)
        result.append([int((past * future).sum()), int((past * pair).sum()), int((future * pair).sum())])
    return result


def split_events(counts, rng):
    """Events of integer counts (t, p), some of them in pieces."""
    pointer, time, pieces = [0], [], []
    for column in counts.T.tolist():
        for t, left in enumerate(column):
            while left > 0:
                piece = min(left, int(rng.integers(1, 256)))
                time.append(t)
                pieces.append(piece)
                left -= piece
        pointer.append(len(time))
    return Events(np.array(pointer), np.array(time, np.int32), np.array(pieces, np.uint8), len(counts))


def bits(result):
    """Of g2 in double, of its error in single precision."""
    lag, g2, g2_err = result
    return lag.tobytes(), g2.tobytes(), g2_err.astype(np.float32).tobytes()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("delays_per_level", [1, 2, 3, 4, 8])
def test_delays_follow_the_rule_of_the_scheme(scheme, delays_per_level):
    for num_frames in [*range(140), 1000, 1023, 1024, 100_000]:
        lag, level = lags.delays(num_frames, scheme, delays_per_level)
        assert lag.dtype == level.dtype == np.int64
        expected = delays_truth(num_frames, scheme, delays_per_level)
        assert list(zip(lag.tolist(), level.tolist(), strict=True)) == expected
        assert lag.tolist() == sorted(lag.tolist())


def test_delays_of_64_frames_by_hand():
    lag, level = lags.delays(64)
    assert lag.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56]
    assert level.tolist() == [0] * 8 + [1] * 4 + [2] * 4 + [3] * 3
    lag, level = lags.delays(64, "scikit-beam")
    assert lag.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56]
    assert level.tolist() == [0] * 7 + [1] * 4 + [2] * 4 + [3] * 4


def test_delays_per_level_are_at_least_one():
    with pytest.raises(ValueError, match="at least 1 delay per level, found 0"):
        lags.delays(64, "boost_corr", 0)


@st.composite
def cases(draw):
    dtype = draw(st.sampled_from([np.int8, np.uint16, np.int32, np.float32]))
    values = {np.int8: 127, np.uint16: 65534, np.int32: 2**31 - 1, np.float32: 0.3}
    elements = st.sampled_from([0, 0, 0, 1, 1, 2, 7, 45, 46, values[dtype]])
    shape = draw(st.tuples(st.integers(1, 45), st.integers(1, 7)))
    counts = draw(hnp.arrays(dtype, shape, elements=elements))
    labels = draw(hnp.arrays(np.int32, shape[1], elements=st.integers(0, 3)))
    valid = draw(st.none() | hnp.arrays(bool, shape[0], elements=st.sampled_from([True, True, True, False])))
    scale = draw(st.none() | st.lists(st.floats(0.1, 10), min_size=shape[0], max_size=shape[0]))
    return counts, labels, valid, scale


@given(cases(), st.sampled_from(SCHEMES), st.integers(1, 5), st.sampled_from(["bins", "pixels"]))
def test_g2_is_the_definition(case, scheme, delays_per_level, weighting):
    counts, labels, valid, scale = case
    counts.flags.writeable = labels.flags.writeable = False
    factor = None if scale is None else np.array(scale)
    lag, g2, g2_err = multitau.g2(counts, labels, scheme, delays_per_level, weighting, valid=valid, scale=factor)
    all_valid = [True] * len(counts)
    expected = g2_truth(
        counts, labels, scheme, delays_per_level, weighting, all_valid if valid is None else valid, scale
    )
    assert lag.tolist() == expected[0]
    np.testing.assert_allclose(g2, expected[1], rtol=1e-12)
    np.testing.assert_allclose(g2_err, expected[2], rtol=1e-9, atol=3e-8)


@given(cases(), st.integers(0, 9))
def test_order_blocks_and_form_of_the_counts_change_no_bit(case, seed):
    counts, labels, valid, _ = case
    rng = np.random.default_rng(seed)
    if counts.dtype != np.int8:
        counts = np.minimum(counts, 1000).astype(np.uint16)
    lag, level = lags.delays(len(counts))
    expected = bits(multitau.g2(counts, labels, valid=valid))

    order = rng.permutation(counts.shape[1])
    assert bits(multitau.g2(counts[:, order], labels[order], valid=valid)) == expected
    assert bits(multitau.g2(split_events(counts, rng), labels, valid=valid)) == expected

    cut, bins = int(rng.integers(counts.shape[1] + 1)), np.arange(1, 5)
    for form in (lambda part: part, to_events):
        pieces = [
            multitau.sums(form(counts[:, part]), labels[part], lag, level, static_bins=bins, valid=valid)
            for part in (slice(cut), slice(cut, None))
        ]
        assert bits((lag, *multitau.finish(multitau.add(*pieces)))) == expected


@pytest.mark.parametrize("mean", [0.0005, 0.004, 0.03, 0.3, 3.0, 30.0, 3000.0])
@pytest.mark.parametrize("bad", [0, 3, 200])
def test_sums_of_many_pixels_are_exact_whatever_the_path(mean, bad):
    rng = np.random.default_rng(int(mean * 1e4) + bad)
    counts = rng.poisson(mean, size=(1037, 450)).astype(np.uint16)
    counts[:, 5] = rng.poisson(min(2 * mean + 3, 3000), size=1037)  # a hot pixel
    labels, valid = rng.integers(0, 4, size=450), np.ones(1037, bool)
    valid[rng.choice(1037, size=bad, replace=False)] = False
    counts[~valid] = 65534
    lag, level = lags.delays(1037)
    dense = multitau.sums(counts, labels, lag, level, valid=valid)
    for j, label in enumerate([1, 2, 3]):
        expected = exact_moments(counts[:, labels == label], lag, level, valid)
        assert dense.moments[:, j].sum(axis=0).T.tolist() == expected
    assert dense.num_pixels.tolist() == [(labels == label).sum() for label in (1, 2, 3)]
    sparse = multitau.sums(to_events(counts), labels, lag, level, valid=valid)
    assert bits((lag, *multitau.finish(sparse))) == bits((lag, *multitau.finish(dense)))


@pytest.mark.parametrize("largest", [*range(1, 8), 22, 23, 44, 45, 46, 90, 127])
def test_small_integers_never_overflow(largest):
    counts = np.full((513, 3), largest, dtype=np.int8)
    lag, level = lags.delays(513, "scikit-beam", 7)
    moments = multitau.sums(counts, np.ones(3, int), lag, level).moments
    assert moments.sum(axis=0)[0].T.tolist() == exact_moments(counts, lag, level)


def test_sums_beyond_float64_are_exact():
    counts = np.random.default_rng(12).integers(60000, 65535, size=(640, 400)).astype(np.uint16)
    lag, level = lags.delays(640)
    total = multitau.sums(counts[:, :1], np.ones(1, int), lag, level)
    for part in (counts[:, 1:150], counts[:, 150:]):
        total = multitau.add(total, multitau.sums(part, np.ones(part.shape[1], int), lag, level))
    for j, expected in enumerate(exact_moments(counts, lag, level)):
        high, low = total.moments[:, 0, :, j]
        assert [int(h) + int(r) for h, r in zip(high, low, strict=True)] == expected
    assert max(expected[0] for expected in exact_moments(counts, lag, level)) > 2**53


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.float32])
def test_memory_layout_of_the_counts_does_not_matter(dtype):
    counts = np.random.default_rng(6).poisson(0.4, size=(130, 400)).astype(dtype)
    labels = np.random.default_rng(7).integers(1, 9, size=200)
    expected = bits(multitau.g2(counts[:, 100:300].copy(), labels))
    assert bits(multitau.g2(counts[:, 100:300], labels)) == expected
    assert bits(multitau.g2(np.asfortranarray(counts[:, 100:300]), labels)) == expected
    assert bits(multitau.g2(counts[:, 100:300].astype(counts.dtype.newbyteorder(">")), labels)) == expected
    assert bits(multitau.g2(counts[::-1, 100:300][::-1], labels)) == expected
    assert bits(multitau.g2(counts[::-1, 100:300].copy()[::-1], labels)) == expected


def test_g2_does_not_depend_on_the_scale_of_counts_or_frames():
    counts = np.random.default_rng(8).poisson(2.0, size=(200, 300)).astype(np.int8)
    labels = np.random.default_rng(9).integers(1, 9, size=300)
    _, g2, g2_err = multitau.g2(counts, labels)
    for other in (
        multitau.g2(3 * counts, labels),
        multitau.g2((counts / 1024).astype(np.float32), labels),
        multitau.g2(counts, labels, scale=np.full(200, 7.3)),
    ):
        np.testing.assert_allclose(other[1:], (g2, g2_err), rtol=1e-11)
    beam = np.random.default_rng(1).integers(64, 256, size=200) / 128
    scaled = multitau.g2(counts, labels, scale=beam)
    assert bits(multitau.g2((counts * beam[:, np.newaxis]).astype(np.float32), labels)) == bits(scaled)
    np.testing.assert_allclose(multitau.g2(to_events(counts), labels, scale=beam)[1:], scaled[1:], rtol=1e-11)


def test_what_bad_frames_hold_does_not_matter():
    counts = np.random.default_rng(10).poisson(0.3, size=(150, 260)).astype(np.float32)
    valid, scale = np.random.default_rng(11).random(150) > 0.1, np.ones(150)
    scale[~valid] = np.inf
    spoilt = np.where(valid[:, np.newaxis], counts, np.float32(np.nan))
    expected = bits(multitau.g2(counts, np.ones(260, int), valid=valid))
    assert bits(multitau.g2(spoilt, np.ones(260, int), valid=valid)) == expected
    whole = counts.astype(np.uint16)
    assert bits(multitau.g2(whole, np.ones(260, int), valid=valid, scale=scale)) == expected
    assert bits(multitau.g2(to_events(whole), np.ones(260, int), valid=valid, scale=scale)) == expected
    nothing = multitau.g2(whole, np.ones(260, int), valid=np.zeros(150, bool))
    assert np.isnan(nothing[1:]).all()


def test_g2_at_level_zero_is_every_lag_g2_of_the_whole_bin():
    counts = np.random.default_rng(5).poisson(1.5, size=(300, 400)).astype(np.uint16)
    lag, g2, _ = multitau.g2(counts, np.ones(400, dtype=np.int64))
    intensities = counts.astype(np.float64)
    for index in range(8):
        past, future = intensities[: -lag[index]], intensities[lag[index] :]
        expected = (past * future).mean() / (past.mean() * future.mean())
        assert g2[index] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("weighting", "expected"), [("bins", (1 + 2) / 2), ("pixels", (30 * 1 + 2 * 2) / 32)])
def test_static_bins_count_alike_or_by_their_pixels(weighting, expected):
    steady, blinking, dark = np.full((64, 30), 50), np.tile([[0], [2]], (32, 2)), np.zeros((64, 5), int)
    counts, labels = np.hstack([steady, blinking, dark]).astype(np.int8), np.array([4] * 30 + [2] * 2 + [9] * 5)
    _, g2, _ = multitau.g2(counts, labels, weighting=weighting)
    assert g2[1] == pytest.approx(expected)  # lag 2: steady pixels give 1, blinking ones 2, dark ones nothing


def test_g2_without_photons_pixels_or_pairs():
    dark = np.zeros((20, 4), dtype=np.uint16)
    for counts in (dark, to_events(dark)):
        lag, g2, g2_err = multitau.g2(counts, np.ones(4, dtype=int))
        assert len(lag) > 0
        assert np.isnan(g2).all()
        assert np.isnan(g2_err).all()
        assert np.isnan(multitau.g2(counts, np.zeros(4, dtype=int))[1]).all()
    assert np.isnan(multitau.g2(np.ones((20, 0), np.float32), np.zeros(0, dtype=int))[1]).all()
    assert multitau.g2(np.ones((1, 4), np.float32), np.ones(4, dtype=int))[1].size == 0
    assert multitau.g2(np.ones((2, 4), np.float32), np.ones(4, dtype=int))[1].tolist() == [1.0]
    assert multitau.g2(np.ones((2, 1), np.float32), np.ones(1, dtype=int))[1].tolist() == [1.0]


def test_what_is_wrong_is_refused():
    counts, labels = np.ones((20, 3), dtype=np.int8), np.array([1, 2, 5])
    lag, level = lags.delays(20)
    with pytest.raises(ValueError, match="among the static bins, found 5"):
        multitau.sums(counts, labels, lag, level, static_bins=np.array([1, 2, 7]))
    with pytest.raises(ValueError, match="multi-tau scheme"):
        multitau.sums(counts, labels, lag[[0, 2]], level[[0, 2]])
    with pytest.raises(ValueError, match="multi-tau scheme"):
        multitau.sums(counts[:10], labels, lag, level)
    with pytest.raises(ValueError, match="negative"):
        multitau.sums(-counts, labels, lag, level)
    one = multitau.sums(counts, labels, lag, level)
    with pytest.raises(ValueError, match="same static bins"):
        multitau.add(one, multitau.sums(counts[:, :2], labels[:2], lag, level))
    with pytest.raises(ValueError, match="valid frames"):
        multitau.add(one, multitau.sums(counts, labels, lag, level, valid=np.arange(20) > 3))


def test_error_is_the_scatter_of_repeated_simulations():
    rng = np.random.default_rng(8)
    results = [
        multitau.g2(rng.poisson(5.0, size=(64, 400)).astype(np.uint16), np.ones(400, dtype=int)) for _ in range(300)
    ]
    scatter = np.std([g2 for _, g2, _ in results], axis=0)
    stated = np.mean([g2_err for _, _, g2_err in results], axis=0)
    # 300 repeats know a scatter to 4 %; the pixel normalisation by its own few pairs adds some at the longest lags
    np.testing.assert_allclose(stated[:12], scatter[:12], rtol=0.2)
