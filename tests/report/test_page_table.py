"""The table of clusters in headless Chromium: it sorts, selects, and stays readable with many sample columns."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ainerd_hpc.report.content import ReportData
from tests.report import test_page_browser
from tests.report.test_page_browser import DATA, change, click, opened, pixels, state, texts

pytestmark = pytest.mark.browser
driver = test_page_browser.driver


def rheology(num_columns: int = 8) -> ReportData:
    """The report with q unknown and this many columns from the sample log, the last of them empty."""
    names = [f"channel_{i}_Pa" for i in range(num_columns)]
    row = np.arange(len(DATA.table))
    channels = {name: np.cos(row * (i + 1)) for i, name in enumerate(names)} | {names[-1]: np.nan}
    return dataclasses.replace(DATA, table=DATA.table.assign(q=np.nan, **channels), sample_columns=tuple(names))


def headings(driver: Any) -> list[str]:
    return texts(driver, "#cluster-table th")


def strips(driver: Any) -> list[str]:
    return [text for text in texts(driver, "#history-chart .title") if text.startswith("channel")]


def test_cluster_table_has_a_row_a_cluster_sorts_and_selects(driver: Any, tmp_path: Path) -> None:
    opened(driver, tmp_path)
    rows = "#cluster-table tbody tr"
    num_clusters = DATA.table["label"][DATA.table["label"] >= 0].nunique()
    assert len(texts(driver, rows)) == num_clusters
    click(driver, "#cluster-table [data-key='tau']")
    order = driver.execute_script(f"return [...document.querySelectorAll('{rows}')].map((row) => +row.dataset.label)")
    medians = DATA.table.groupby("label")["tau"].median().drop(-1)
    assert order == list(medians.sort_values().index)
    before = pixels(driver)
    click(driver, "#cluster-table tr[data-label='3']")
    assert state(driver)["focus"] == 3
    assert state(driver)["drawn"] == 600
    assert np.any(pixels(driver) != before)


def test_what_the_maps_of_a_cluster_have_in_common_stands_beside_it(driver: Any, tmp_path: Path) -> None:
    opened(driver, tmp_path)
    assert "In common" not in headings(driver)
    words = ["still within a window", "echoes", "<b>fringes</b>", "no common kind"]
    kind = DATA.table["label"].map(lambda label: words[label % 4] if label >= 0 else None).astype("string")
    opened(driver, tmp_path, dataclasses.replace(DATA, table=DATA.table.assign(kind=kind)))
    assert headings(driver)[3] == "In common"
    assert texts(driver, "#cluster-table tbody tr[data-label='2'] td:nth-child(4)") == ["<b>fringes</b>"]
    assert texts(driver, "#cluster-table tfoot td:nth-child(4)") == ["–"]
    assert "echoes" in texts(driver, ".card[data-label='1'] header p")[0]
    click(driver, "#cluster-table [data-key='kind']")
    assert texts(driver, "#cluster-table tbody td:nth-child(4)")[:2] == ["<b>fringes</b>", "<b>fringes</b>"]
    click(driver, "#cluster-table [data-key='kind']")
    assert texts(driver, "#cluster-table tbody td:nth-child(4)")[0] == "still within a window"


def test_a_column_without_a_value_is_shown_nowhere(driver: Any, tmp_path: Path) -> None:
    opened(driver, tmp_path)
    assert "q" in headings(driver)
    assert texts(driver, ".chooser:not([hidden])") == []
    opened(driver, tmp_path, rheology(3))
    change(driver, pinned=3)
    assert headings(driver)[-4:] == ["contrast", "novelty", "channel 0", "channel 1"]
    assert not {"q", "channel 2"} & set(texts(driver, "#detail dt"))
    assert texts(driver, "#colour option:disabled") == ["q (no values)", "channel 2 (no values)"]


def test_of_many_sample_columns_four_are_shown_and_the_others_can_be_chosen(driver: Any, tmp_path: Path) -> None:
    opened(driver, tmp_path, rheology())
    four = [f"channel {i}" for i in range(4)]
    assert headings(driver)[-4:] == four
    assert strips(driver) == [f"{name} (Pa)" for name in four]
    assert texts(driver, ".chooser summary") == ["Sample log: 4 of 7 columns"] * 2
    click(driver, "#history .chooser input[value='channel_6_Pa']")
    click(driver, "#clusters .chooser input[value='channel_1_Pa']")
    assert state(driver)["samples"] == [f"channel_{i}_Pa" for i in (0, 2, 3, 6)]
    assert headings(driver)[-4:] == ["channel 0", "channel 2", "channel 3", "channel 6"]
    assert strips(driver) == [f"channel {i} (Pa)" for i in (0, 2, 3, 6)]
    ticked = "return [...document.querySelectorAll('#clusters .chooser input')].map((box) => box.checked)"
    assert driver.execute_script(ticked) == [True, False, True, True, False, False, True]


def test_the_table_forgets_a_sort_by_a_column_that_is_taken_away(driver: Any, tmp_path: Path) -> None:
    opened(driver, tmp_path, rheology())
    rows = "return [...document.querySelectorAll('#cluster-table tbody tr')].map((row) => +row.dataset.label)"
    labels = sorted(set(DATA.table["label"]) - {-1})
    click(driver, "#cluster-table [data-key='channel_2_Pa']")
    medians = rheology().table.groupby("label")["channel_2_Pa"].median().drop(-1)
    assert driver.execute_script(rows) == list(medians.sort_values().index) != labels
    click(driver, "#clusters .chooser input[value='channel_2_Pa']")
    assert driver.execute_script(rows) == labels
    assert state(driver)["sort"] == {"key": "label", "down": False}


def test_a_wide_table_scrolls_under_the_names_of_its_clusters(driver: Any, tmp_path: Path) -> None:
    opened(driver, tmp_path, rheology(30))
    for box in driver.execute_script("return [...document.querySelectorAll('#clusters .chooser input')]")[4:]:
        driver.execute_script("arguments[0].click()", box)
    script = """const table = document.getElementById('cluster-table');
        const left = (selector) => table.querySelector(selector).getBoundingClientRect().left;
        return [table.scrollWidth > table.clientWidth, table.scrollLeft, left('td'), left('td:nth-child(2)')]"""
    wide, _, name, maps = driver.execute_script(script)
    driver.execute_script("document.getElementById('cluster-table').scrollLeft = 500")
    assert wide
    assert driver.execute_script(script) == [True, 500, name, maps - 500]
    click(driver, "#cluster-table tr[data-label='3']")
    assert driver.execute_script(script) == [True, 500, name, maps - 500]
    assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
