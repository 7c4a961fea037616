"""The index of all maps that takes rows of the one before is the same as one that is made of all products."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ainerd_hpc.archive.layout import Archive
from ainerd_hpc.archive.map_index import gather, note
from ainerd_hpc.archive.tables import table_bytes, write_table


class Products:
    """An archive of scans with few columns: some have one that others have not, and it holds whole numbers there."""

    def __init__(self, root: Path) -> None:
        self.archive, self.digests, self.read = Archive(root), dict[str, str](), list[str]()
        for number in range(5):
            self.write(f"scan{number}", number)

    def write(self, scan_id: str, number: int) -> None:
        """Publish a product; its content is one number, by which its rows are known."""
        path = self.archive.maps_path(scan_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(number))
        os.utime(path, ns=(number, number))
        self.digests[scan_id] = f"digest{number}"

    def rows(self, scan_id: str) -> pd.DataFrame:
        """Rows of a scan, as its product has them."""
        self.read.append(scan_id)
        number = int(self.archive.maps_path(scan_id).read_text())
        rows = pd.DataFrame({"row": np.arange(2), "tau": [number / 7, np.nan]})
        damaged = {"damaged_frames": number} if number % 2 else {}
        return rows.assign(**damaged, scan_id=scan_id)

    def index(self) -> bytes:
        """The index as bytes, after it is published."""
        self.read.clear()
        scan_ids, digests = np.array(list(self.digests), object), np.array(list(self.digests.values()), object)
        rows, sources = gather(self.archive, scan_ids, digests, self.rows)
        rows.insert(0, "map_id", rows["scan_id"] + ":" + rows["row"].astype(str))
        write_table(self.archive.map_index_path, rows)
        note(self.archive, sources)
        return table_bytes(rows)

    def anew(self) -> bytes:
        """The same without what was there before."""
        self.archive.map_index_path.unlink()
        return self.index()


@pytest.fixture
def products(tmp_path: Path) -> Products:
    found = Products(tmp_path)
    plain = pd.concat([found.rows(scan_id) for scan_id in found.digests], ignore_index=True)
    plain.insert(0, "map_id", plain["scan_id"] + ":" + plain["row"].astype(str))
    assert found.index() == table_bytes(plain)
    assert found.read == list(found.digests)
    return found


def test_one_changed_scan_is_read_alone(products: Products) -> None:
    products.write("scan3", 14)
    found = products.index()
    assert products.read == ["scan3"]
    assert found == products.anew()


def test_columns_and_types_are_those_of_the_products(products: Products) -> None:
    for scan_id, number in (("scan0", 101), ("scan2", 103), ("scan4", 105)):
        products.write(scan_id, number)  # now all have the column, which is one of whole numbers then
    found = products.index()
    assert sorted(products.read) == ["scan0", "scan2", "scan4"]
    assert found == products.anew()
    for scan_id, number in zip(list(products.digests), range(200, 210, 2), strict=True):
        products.write(scan_id, number)  # now none has it
        assert products.index() == products.anew()


def test_scans_come_and_go(products: Products) -> None:
    del products.digests["scan1"]
    products.digests = {"new": "digest8", **products.digests}
    products.write("new", 8)
    found = products.index()
    assert products.read == ["new"]
    assert found == products.anew()


def test_a_product_that_was_replaced_is_read_again(products: Products) -> None:
    path = products.archive.maps_path("scan2")
    path.write_text("6")  # of the same size, under the same digest
    products.index()
    assert products.read == ["scan2"]


def test_an_index_that_was_replaced_is_made_anew(products: Products) -> None:
    os.utime(products.archive.map_index_path)
    products.index()
    assert products.read == list(products.digests)
