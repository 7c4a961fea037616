"""Bins of q and phi from geometry: scalar formulas, a pixel-by-pixel search, pyFAI; symmetry, ties, empty bins."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ainerd_hpc.kernels.partitioning import (
    RING,
    Bins,
    axis_over,
    azimuth,
    bin_numbers,
    centres,
    edges_around,
    even_axis,
    fold,
    given_axis,
    label_bins,
    scattering_vector,
)

GEOMETRY = {"beam_center_x": 14.0, "beam_center_y": 9.5, "pixel_size": 75e-6, "distance": 5.0, "energy": 10.0}


def test_q_and_phi_of_a_pixel():
    q = scattering_vector(20, 30, **GEOMETRY)
    phi = azimuth(20, 30, GEOMETRY["beam_center_x"], GEOMETRY["beam_center_y"])
    for y, x in [(0, 0), (3, 25), (19, 29), (19, 2)]:
        alpha = math.atan(75e-6 * math.hypot(y - 9.5, x - 14.0) / 5.0)
        assert q[y, x] == pytest.approx(2 * (2 * math.pi * 10.0 / 12.39841984) * math.sin(alpha / 2), rel=1e-13)
        assert phi[y, x] == pytest.approx(-math.degrees(math.atan2(y - 9.5, x - 14.0)), rel=1e-13)


def test_phi_is_0_to_the_right_and_90_upwards():
    phi = azimuth(5, 5, 2.0, 2.0)
    assert [phi[2, 4], phi[0, 2], phi[4, 2], abs(phi[2, 0])] == [0.0, 90.0, -90.0, 180.0]


def test_agrees_with_pyfai_for_an_untilted_detector():
    """pyFAI counts pixels from the corner of the first: its point of normal incidence is half a pixel further."""
    azimuthal = pytest.importorskip("pyFAI.integrator.azimuthal")
    detector = pytest.importorskip("pyFAI.detectors").Detector(75e-6, 75e-6, max_shape=(64, 90))
    integrator = azimuthal.AzimuthalIntegrator(
        dist=5.0, poni1=(9.5 + 0.5) * 75e-6, poni2=(14.0 + 0.5) * 75e-6, detector=detector, wavelength=1.239841984e-10
    )
    q = integrator.center_array((64, 90), unit="q_A^-1")
    phi = -np.degrees(integrator.center_array((64, 90), unit="chi_rad", scale=False))
    np.testing.assert_allclose(scattering_vector(64, 90, **GEOMETRY), q, rtol=1e-9)
    np.testing.assert_allclose(azimuth(64, 90, 14.0, 9.5), phi, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("spacing", ["linear", "log"])
def test_axes(spacing):
    even = even_axis(1.0, 16.0, 2, 2, spacing)
    assert even.static_edges == pytest.approx([1, 4.75, 8.5, 12.25, 16] if spacing == "linear" else [1, 2, 4, 8, 16])
    np.testing.assert_array_equal(even.edges, even.static_edges[[0, 2, 4]])
    expected = [4.75, 12.25] if spacing == "linear" else [2, 8]
    assert centres(even.edges, spacing) == pytest.approx(expected)
    given_edges = given_axis(np.array([1.0, 4.0, 64.0]), 2, spacing)
    assert given_edges.static_edges == pytest.approx([1, 2.5, 4, 34, 64] if spacing == "linear" else [1, 2, 4, 16, 64])
    assert list(given_edges.edges) == [1.0, 4.0, 64.0]


def test_an_axis_over_pixels_reaches_from_the_smallest_to_the_largest():
    q = np.array([[0.0, 0.1, 0.2], [0.3, np.nan, 0.5]])
    mask = np.array([[True, True, True], [True, True, False]])
    assert list(axis_over(q, mask, 3).edges) == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert list(axis_over(q, mask, 1, spacing="log").edges) == pytest.approx([0.1, 0.3])
    with pytest.raises(ValueError, match="found none"):
        axis_over(q, ~mask & np.isnan(q), 3)


@given(st.floats(1e-4, 10), st.floats(1e-3, 10), st.integers(3, 30), st.sampled_from(["linear", "log"]))
def test_edges_around_the_centres_of_even_bins(low, width, num, spacing):
    edges = even_axis(low, low + width, num, 1, spacing).edges
    np.testing.assert_allclose(edges_around(centres(edges, spacing)), edges, rtol=1e-6)


@pytest.mark.parametrize("middle", [[0.1], [0.1, 0.2], [0.1, 0.2, 0.7], [-1.0, 2.0, 3.0], [0.1, np.nan, 0.3]])
def test_edges_around_uneven_centres_are_unknown(middle):
    edges = edges_around(np.array(middle))
    assert edges.size == len(middle) + 1
    assert np.isnan(edges).all()


def test_fold():
    phi = np.array([-180.0, -91.0, -90.0, -1e-15, 0.0, 89.0, 90.0, 180.0])
    np.testing.assert_allclose(fold(phi, 4, 0.0), [0, 89, 0, 0, 0, 89, 0, 0], atol=1e-12)
    np.testing.assert_allclose(fold(phi, 1, -180.0), [0, 89, 90, 180, 180, 269, 270, 0], atol=1e-12)
    np.testing.assert_allclose(fold(phi, 2, -45.0), [45, 134, 135, 45, 45, 134, 135, 45], atol=1e-12)
    assert fold(np.array([30.0 - 1e-14]), 7, 30.0) == 0.0


@given(st.floats(-179, 100), st.floats(0.1, 79))
def test_sectors_reach_to_both_of_their_edges(low, width):
    """The largest phi lies in the last bin, whatever digits it has."""
    phi = np.array([[low, low + width / 3, low + width]])
    labels = label_bins(phi > -180, np.full(phi.shape, 0.5), phi, even_axis(0, 1, 1), even_axis(low, low + width, 2))
    assert labels.dynamic_roi_map.tolist() == [[1, 1, 2]]


def test_the_last_edge_belongs_to_the_last_bin():
    numbers = bin_numbers(np.array([-0.1, 0.0, 0.5, 1.0, 1.5, 2.0, 2.1, np.nan]), np.array([0.0, 1.0, 2.0]))
    assert list(numbers) == [-1, 0, 0, 1, 1, 1, -1, -1]


def test_values_are_rounded_to_12_decimals():
    edge = 0.0015398376679056109
    assert bin_numbers(np.array([0.0015398376679056104]), np.array([edge, 1.0])) == [0]
    assert bin_numbers(np.array([0.3 - 1e-10]), np.array([0.3, 1.0])) == [-1]


def test_lists_follow_the_natural_index():
    bins = Bins(np.array([0.1, 0.2]), np.array([-60.0, 0.0, 60.0]), np.array([0, 2, 3, 5]))
    assert list(bins.q_list) == [0.1, 0.1, 0.2, 0.2]
    assert list(bins.phi_list) == [-60.0, 60.0, -60.0, 60.0]
    assert np.isnan(Bins(np.array([0.1, 0.2]), np.array([0.0]), np.array([0, 1])).phi_list).all()


def _slow_bin(value: float, edges: np.ndarray) -> int:
    """Edge by edge, as the rule says."""
    value, rounded = round(value, 12), [round(float(edge), 12) for edge in edges]
    for number in range(len(rounded) - 1):
        is_last = number == len(rounded) - 2
        if rounded[number] <= value < rounded[number + 1] or (is_last and value == rounded[-1]):
            return number
    return -1


@st.composite
def divisions(draw):
    """A mask, and axes of q and phi with their symmetry."""
    height, width = draw(st.integers(2, 12)), draw(st.integers(2, 12))
    mask = np.random.default_rng(draw(st.integers(0, 9))).random((height, width)) < draw(st.floats(0.3, 1.0))
    mask[0, 0] = True
    center = draw(st.floats(-3, 15)), draw(st.floats(-3, 15))
    symmetry = draw(st.integers(1, 4))
    spacing = draw(st.sampled_from(["linear", "log"]))
    q = scattering_vector(height, width, *center, 75e-6, 5.0, 10.0)
    low = max(1e-6, q[0, 0] * draw(st.floats(0.2, 1.0)))
    high = low + max(1e-6, q[0, 0] * draw(st.floats(0.8, 3.0)))
    q_axis = even_axis(low, high, draw(st.integers(1, 5)), draw(st.integers(1, 3)), spacing)
    phi_axis = even_axis(0.0, 360.0 / symmetry, draw(st.integers(1, 6)), draw(st.integers(1, 3)))
    return mask, q, azimuth(height, width, *center), q_axis, phi_axis, symmetry


@settings(max_examples=50)
@given(divisions())
def test_every_pixel_has_the_label_of_the_bin_that_a_search_finds(division):
    mask, q, phi, q_axis, phi_axis, symmetry = division
    truth = {}
    for y, x in zip(*np.nonzero(mask), strict=True):
        turned = round(phi[y, x], 12) % (360.0 / symmetry)
        i_q, i_phi = _slow_bin(q[y, x], q_axis.static_edges), _slow_bin(turned, phi_axis.static_edges)
        if i_q >= 0 and i_phi >= 0:
            truth[y, x] = i_q, i_phi
    if not truth:
        with pytest.raises(ValueError, match="found none"):
            label_bins(*division)
        return
    labels = label_bins(*division)
    assert set(zip(*np.nonzero(labels.static_roi_map), strict=True)) == set(truth)
    num_phi = phi_axis.edges.size - 1
    for place, (i_q, i_phi) in truth.items():
        dynamic = i_q // q_axis.per_bin * num_phi + i_phi // phi_axis.per_bin
        assert labels.dynamic.index_mapping[labels.dynamic_roi_map[place] - 1] == dynamic
        static = i_q * num_phi * phi_axis.per_bin + i_phi
        assert labels.static.index_mapping[labels.static_roi_map[place] - 1] == static


@settings(max_examples=50)
@given(divisions())
def test_labels_are_compact_ordered_nested_and_within_the_mask(division):
    try:
        labels = label_bins(*division)
    except ValueError:
        return
    for label_map, bins in ((labels.dynamic_roi_map, labels.dynamic), (labels.static_roi_map, labels.static)):
        np.testing.assert_array_equal(np.unique(label_map[label_map > 0]), np.arange(1, bins.index_mapping.size + 1))
        assert (np.diff(bins.index_mapping) > 0).all()
        np.testing.assert_array_equal(label_map > 0, labels.mask)
    assert not (labels.mask & ~division[0]).any()
    np.testing.assert_array_equal(labels.blemish, division[0])
    for label in range(1, labels.static.index_mapping.size + 1):
        assert np.unique(labels.dynamic_roi_map[labels.static_roi_map == label]).size == 1


@settings(max_examples=30)
@given(st.integers(2, 10), st.integers(1, 5), st.integers(1, 5), st.sampled_from([2, 4]))
def test_a_folded_map_looks_the_same_when_turned(edge, num_q, num_phi, symmetry):
    center = (edge - 1) / 2.0
    q, phi = scattering_vector(edge, edge, center, center, 75e-6, 5.0, 10.0), azimuth(edge, edge, center, center)
    mask = q > 0.0  # the centre has no phi
    phi_axis = even_axis(0.0, 360.0 / symmetry, num_phi, 2)
    labels = label_bins(mask, q, phi, axis_over(q, mask, num_q), phi_axis, symmetry)
    turned = np.rot90(labels.dynamic_roi_map, 4 // symmetry)
    np.testing.assert_array_equal(turned, labels.dynamic_roi_map)
    np.testing.assert_array_equal(np.rot90(labels.static_roi_map, 4 // symmetry), labels.static_roi_map)


def test_empty_bins_have_no_label():
    q = np.array([[0.1, 0.1, 0.9, 0.9]])
    phi = np.array([[-100.0, 100.0, 100.0, 100.0]])
    labels = label_bins(np.ones((1, 4), bool), q, phi, even_axis(0, 1, 2), even_axis(-180, 180, 2))
    assert labels.dynamic_roi_map.tolist() == [[1, 2, 3, 3]]
    assert labels.dynamic.index_mapping.tolist() == [0, 1, 3]
    assert labels.dynamic.phi_list.tolist() == [-90.0, 90.0, 90.0]


def test_rings_take_every_phi():
    q, phi = scattering_vector(20, 30, **GEOMETRY), azimuth(20, 30, 14.0, 9.5)
    labels = label_bins(np.ones((20, 30), bool), q, phi, axis_over(q, np.ones((20, 30), bool), 4), RING)
    assert labels.mask.all()
    assert np.isnan(labels.dynamic.phi_list).all()
