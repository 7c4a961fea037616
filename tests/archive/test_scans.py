"""A table of scans is the same as a list of them."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ainerd_hpc.archive.scans import Scans
from ainerd_hpc.types import Content, Scan

KINDS = {
    "str": st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
    "int": st.integers(0, 2**62),
    "float": st.floats(),
    "bool": st.booleans(),
    "Content": st.sampled_from(Content),
}
SCAN = st.builds(Scan, **{field.name: KINDS[str(field.type)] for field in fields(Scan)})


@settings(max_examples=30, deadline=None)
@given(st.lists(SCAN, max_size=6), st.data())
def test_any_choice_of_scans(scans: list[Scan], data: st.DataObject) -> None:
    scans = [replace(scan, scan_id=f"{number}-{scan.scan_id}") for number, scan in enumerate(scans)]
    table = Scans.of(scans)
    assert repr(list(table)) == repr(scans)  # NaN is like NaN there
    mask = np.array([data.draw(st.booleans()) for _ in scans], bool)
    chosen, expected = table.where(mask), [scan for scan, is_in in zip(scans, mask, strict=True) if is_in]
    assert Scans.of(chosen) is chosen
    assert len(chosen) == len(expected)
    assert repr(list(chosen[1:])) == repr(expected[1:])
    assert repr(list(chosen.alone())) == repr(expected)
    assert chosen.column("scan_id").tolist() == chosen.frame()["scan_id"].tolist() == [one.scan_id for one in expected]
    assert chosen.column("content").tolist() == [one.content.value for one in expected]
    np.testing.assert_array_equal(chosen.column("energy"), [one.energy for one in expected])
    assert chosen.among({one.scan_id for one in expected[:1]} | {"another"}).sum() == len(expected[:1])
    if expected:
        assert repr(chosen[-1]) == repr(expected[-1])
