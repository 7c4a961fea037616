"""The report in headless Chromium: it loads nothing, draws every map, and does what the pointer and the keys say."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import ndimage

from ainerd_hpc.report import page
from ainerd_hpc.report.content import REQUIRED, ReportData
from tests.support.browser import browser, settled, show, state
from tests.support.report_sample import report, thinned_report

pytestmark = pytest.mark.browser

DATA = report()
THIN = "\u202f"
"""What stands between groups of three digits."""


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with browser() as driver:
        yield driver


def opened(driver: Any, folder: Path, data: ReportData = DATA) -> Any:
    """The browser with this report open and painted, its logs emptied before."""
    driver.get_log("browser"), driver.get_log("performance")
    path = folder / "index.html"
    path.write_text(page.render(data), encoding="utf-8")
    return show(driver, path)


def change(driver: Any, **changes: Any) -> None:
    driver.execute_script("window.ainerd.set(arguments[0])", changes)
    settled(driver)


def pixels(driver: Any, selector: str = "#points") -> np.ndarray:
    """The canvas as (h, w, 3) int."""
    script = "return document.querySelector(arguments[0]).toDataURL('image/png').split(',')[1]"
    picture = Image.open(io.BytesIO(base64.b64decode(driver.execute_script(script, selector)))).convert("RGB")
    return np.asarray(picture, int)


def num_blobs(driver: Any) -> int:
    """Points on the canvas, counted as islands of ink; they must not touch."""
    ink = np.abs(pixels(driver) - pixels(driver)[0, 0]).sum(axis=2) > 60
    return int(ndimage.label(ink, structure=np.ones((3, 3)))[1])


SPREADS = """return [...document.querySelectorAll(arguments[0])].map((canvas) => {
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    const green = [...data].filter((_, i) => i % 4 === 1);
    return Math.max(...green.slice(0, 16384)) - Math.min(...green.slice(0, 16384));
})"""


def spreads(driver: Any, selector: str) -> np.ndarray:
    """Greatest less least green value in the first pixels of every canvas: 0 where nothing is painted."""
    return np.array(driver.execute_script(SPREADS, selector))


def errors(driver: Any) -> list[str]:
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def point_at(driver: Any, map_id: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    driver.execute_script("document.getElementById('map').scrollIntoView({behavior: 'instant'})")
    place = driver.execute_script("return window.ainerd.locate(arguments[0])", map_id)
    actions = ActionChains(driver)
    actions.w3c_actions.pointer_action.move_to_location(round(place["x"]), round(place["y"]))
    actions.perform()


def texts(driver: Any, selector: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map((node) => node.textContent)"
    return driver.execute_script(script, selector)


def click(driver: Any, selector: str) -> None:
    driver.execute_script("document.querySelector(arguments[0]).click()", selector)
    settled(driver)


def lattice(maps: int = 600) -> ReportData:
    """The report with its points set 30 to a row, so that they can be counted on the picture."""
    row = np.arange(maps)
    return dataclasses.replace(DATA, table=DATA.table.assign(x=row % 30 * 1.5, y=row // 30 * 1.0))


def test_loads_nothing_and_complains_of_nothing(driver: Any, tmp_path: Path) -> None:
    opened(driver, tmp_path)
    for _ in range(12):
        driver.execute_script("window.scrollBy({top: 600, behavior: 'instant'})")
        settled(driver)
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    outside = [url for url in urls if not url.startswith(("data:", "blob:")) and url != driver.current_url]
    assert driver.current_url in urls, "the log of requests is not recorded"
    assert outside == []
    assert errors(driver) == []


def test_every_map_is_a_point_on_the_canvas(driver: Any, tmp_path: Path) -> None:
    opened(driver, tmp_path, lattice())
    assert num_blobs(driver) == 600
    assert state(driver)["drawn"] == state(driver)["total"] == 600


def test_hiding_a_cluster_takes_its_points_away(driver: Any, tmp_path: Path) -> None:
    opened(driver, tmp_path, lattice())
    click(driver, ".legend-item[data-label='2']")
    left = int((DATA.table["label"] != 2).sum())
    assert state(driver)["hidden"] == [2]
    assert state(driver)["drawn"] == num_blobs(driver) == left
    click(driver, ".legend-item[data-label='2']")
    assert state(driver)["drawn"] == num_blobs(driver) == 600


def test_a_point_has_the_colour_of_its_value(driver: Any, tmp_path: Path) -> None:
    opened(driver, tmp_path, lattice())
    before = pixels(driver)
    change(driver, colour="q")
    after = pixels(driver)
    assert np.mean(np.abs(after - before).sum(axis=2) > 30) > 0.005
    ramp = np.array(driver.execute_script("return window.ainerd.colours()"))
    q = DATA.table["q"].to_numpy()
    corner = driver.execute_script(
        "const b = document.getElementById('points').getBoundingClientRect(); return [b.x, b.y]"
    )
    for row in (100, 101, 102, 103):
        place = driver.execute_script("return window.ainerd.locate(arguments[0])", DATA.table["map_id"][row])
        found = after[round(place["y"] - corner[1]), round(place["x"] - corner[0])]
        wanted = ramp[round(255 * (q[row] - q.min()) / (q.max() - q.min()))]
        assert np.max(np.abs(found - wanted)) < 30, (row, found, wanted)


def test_the_colour_map_rises_evenly_in_lightness(driver: Any, tmp_path: Path) -> None:
    opened(driver, tmp_path)
    for which in ("light", "dark", "picture"):
        rgb = np.array(driver.execute_script("return window.ainerd.colours(arguments[0])", which)) / 255
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        lightness = 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16  # CIE L*
        steps = np.diff(lightness[::15])
        assert steps.min() > 0.4 * steps.mean(), which
        assert steps.max() < 2.0 * steps.mean(), which


def test_every_column_can_be_the_colour(driver: Any, tmp_path: Path) -> None:
    opened(driver, tmp_path)
    names = driver.execute_script("return [...document.querySelectorAll('#colour option')].map((o) => o.value)")
    wanted = {"label", "tau", "kww_exponent", "contrast", "q", "time", "novelty", "probability", "window"}
    assert wanted | set(DATA.sample_columns) <= set(names)
    for name in names[1:]:
        change(driver, colour=name)
        assert texts(driver, "#scale h3"), name
    assert errors(driver) == []


def test_the_tooltip_is_that_of_the_map_under_the_pointer(driver: Any, tmp_path: Path) -> None:
    opened(driver, tmp_path, lattice())
    for row in (0, 77, 411, 599):
        name = DATA.table["map_id"][row]
        point_at(driver, name)
        settled(driver)
        assert state(driver)["hovered"] == name
        assert texts(driver, "#tooltip .name") == [name]
        picture, words = (driver.find_element("css selector", f"#tooltip {part}").rect for part in ("canvas", "div"))
        assert picture["x"] + picture["width"] <= words["x"]
        shown = dict(zip(texts(driver, "#tooltip dt"), texts(driver, "#tooltip dd"), strict=True))
        assert float(shown["contrast"]) == pytest.approx(DATA.table["contrast"][row], rel=0.01)
        thumbnail = pixels(driver, "#tooltip canvas").sum(axis=2)[::-1]
        truth = DATA.thumbnails[row].astype(float)
        assert np.corrcoef(thumbnail.ravel(), truth.ravel())[0, 1] > 0.75


def test_click_pins_and_escape_lets_go(driver: Any, tmp_path: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    opened(driver, tmp_path, lattice())
    point_at(driver, DATA.table["map_id"][40])
    ActionChains(driver).click().perform()
    assert state(driver)["pinned"] == DATA.table["map_id"][40]
    assert DATA.table["scan_id"][40] in texts(driver, "#detail")[0]
    driver.find_element("id", "stage").send_keys("n")
    assert state(driver)["pinned"] == DATA.table["map_id"][41]
    driver.find_element("id", "stage").send_keys(Keys.ESCAPE)
    assert state(driver)["pinned"] is None
    assert not driver.find_element("id", "detail").is_displayed()


def test_wheel_zooms_about_the_pointer_and_reset_returns(driver: Any, tmp_path: Path) -> None:
    opened(driver, tmp_path, lattice())
    name = DATA.table["map_id"][77]
    home = state(driver)["view"]
    point_at(driver, name)
    before = driver.execute_script("return window.ainerd.locate(arguments[0])", name)
    wheel = """document.getElementById('stage').dispatchEvent(new WheelEvent('wheel',
        {deltaY: -120, clientX: arguments[0].x, clientY: arguments[0].y, cancelable: true}))"""
    driver.execute_script(wheel, before)
    after = driver.execute_script("return window.ainerd.locate(arguments[0])", name)
    assert state(driver)["view"]["k"] > 1.2 * home["k"]
    assert (after["x"], after["y"]) == pytest.approx((before["x"], before["y"]), abs=0.5)  # events carry whole pixels
    click(driver, "#reset")
    assert state(driver)["view"] == pytest.approx(home)


def test_shift_drag_selects_the_maps_in_the_box(driver: Any, tmp_path: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    opened(driver, tmp_path, lattice())
    point_at(driver, DATA.table["map_id"][31])
    here = driver.execute_script("return window.ainerd.locate(arguments[0])", DATA.table["map_id"][31])
    there = driver.execute_script("return window.ainerd.locate(arguments[0])", DATA.table["map_id"][93])
    width, height = there["x"] - here["x"], there["y"] - here["y"]
    drag = ActionChains(driver).move_by_offset(-6, 6).key_down(Keys.SHIFT).click_and_hold()
    drag.move_by_offset(round(width) + 12, round(height) - 12).release().key_up(Keys.SHIFT).perform()
    settled(driver)
    assert state(driver)["selected"] == 9  # columns 1 to 3 of rows 1 to 3
    assert texts(driver, "#selection h3")[0].startswith("Selected: 9 maps")


def test_search_counts_the_maps_of_a_scan(driver: Any, tmp_path: Path) -> None:
    opened(driver, tmp_path)
    scan = DATA.table["scan_id"][100]
    driver.find_element("id", "search").send_keys(scan)
    expected = int((DATA.table["scan_id"] == scan).sum())
    assert state(driver)["matches"] == expected
    assert texts(driver, "#search-status") == [f"{expected} maps of 1 scan"]


def test_the_name_of_a_tiny_cluster_does_not_cover_it(driver: Any, tmp_path: Path) -> None:
    is_far = (DATA.table["label"] == 4).to_numpy()
    row = int(np.flatnonzero(is_far)[0])
    table = DATA.table.assign(x=DATA.table["x"].mask(is_far, -60.0), y=DATA.table["y"].mask(is_far, 0.0))
    opened(driver, tmp_path, dataclasses.replace(DATA, table=table))
    script = """const place = window.ainerd.locate(arguments[0]), canvas = document.getElementById('overlay');
        const corner = canvas.getBoundingClientRect();
        const x = Math.round(place.x - corner.x), y = Math.round(place.y - corner.y);
        const ink = (top, size) => canvas.getContext('2d').getImageData(x - 6, top, 12, size).data.some((v) => v > 0);
        return [ink(y - 4, 8), ink(y - 30, 24)]"""
    assert driver.execute_script(script, DATA.table["map_id"][row]) == [False, True]


def test_every_exemplar_and_novel_map_is_painted(driver: Any, tmp_path: Path) -> None:
    opened(driver, tmp_path)
    assert len(texts(driver, ".card")) == len(DATA.exemplars)
    for selector in (".card canvas", "#novel-list canvas"):
        assert spreads(driver, selector).min() > 10
    novel = DATA.table.sort_values("novelty", ascending=False)["map_id"].head(20)
    assert texts(driver, "#novel-list .small") == list(novel)


@pytest.mark.parametrize("kind", ["count", "share", "tau"])
@pytest.mark.parametrize("against", ["time", "order"])
def test_history_is_drawn(driver: Any, tmp_path: Path, kind: str, against: str) -> None:
    opened(driver, tmp_path)
    for name, value in (("history-y", kind), ("history-x", against)):
        script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change'))"
        driver.execute_script(script, driver.find_element("id", name), value)
    fitted = int(DATA.table["tau"].notna().sum())
    assert len(texts(driver, "#history-chart path")) == fitted if kind == "tau" else True
    assert [text for text in texts(driver, "#history-chart .title") if "(Pa)" in text] == ["stress (Pa)"]
    assert errors(driver) == []


def test_dark_and_light_differ_and_narrow_does_not_scroll_sideways(driver: Any, tmp_path: Path) -> None:
    opened(driver, tmp_path)
    first = pixels(driver)[0, 0].sum()
    click(driver, "#theme")
    assert abs(int(pixels(driver)[0, 0].sum()) - int(first)) > 400
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    opened(driver, tmp_path)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= 390
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_on_paper_everything_is_there_at_once_and_light(driver: Any, tmp_path: Path) -> None:
    opened(driver, tmp_path)
    if state(driver)["theme"] == "light":
        click(driver, "#theme")
    printing = "window.dispatchEvent(new Event('beforeprint'));"
    script = printing + SPREADS.replace("return ", "return [window.ainerd.state().theme, ", 1).strip() + "]"
    theme, painted = driver.execute_script(script, "canvas.picture")
    assert theme == "light"
    assert len(painted) == (6 + 4) * len(DATA.exemplars) + 20  # in cards, in strips of the table, and the novel ones
    assert min(painted) > 10
    driver.execute_script("window.dispatchEvent(new Event('afterprint'))")
    assert state(driver)["theme"] == "dark"


def degenerate() -> dict[str, ReportData]:
    numbers = [name for name in DATA.table.select_dtypes("number") if name not in ("label", "q_bin")]
    bare = {"exemplars": {}, "details": [], "quarantine": [], "doubts": [], "notes": [], "facts": {}}
    return {
        "empty": report(0),
        "bare": dataclasses.replace(report(0), table=pd.DataFrame(columns=list(REQUIRED)), sample_columns=(), **bare),
        "one map": report(1),
        "all noise": dataclasses.replace(DATA, table=DATA.table.assign(label=-1), **bare),
        "one cluster": dataclasses.replace(DATA, table=DATA.table.assign(label=0)),
        "all NaN": dataclasses.replace(DATA, table=DATA.table.assign(**dict.fromkeys(numbers, np.nan))),
        "all the same": dataclasses.replace(DATA, table=DATA.table.assign(**dict.fromkeys(numbers, 1.0))),
        "forty clusters": dataclasses.replace(DATA, table=DATA.table.assign(label=np.arange(600) % 40)),
        "relative time": dataclasses.replace(DATA, table=DATA.table.assign(time=DATA.table["time"] - 1.7636e9)),
    }


@pytest.mark.parametrize("name", list(degenerate()))
def test_degenerate_archives_open_without_errors(driver: Any, tmp_path: Path, name: str) -> None:
    data = degenerate()[name]
    opened(driver, tmp_path, data)
    places = data.table[["x", "y"]].notna().all(axis=1).sum()
    assert state(driver)["drawn"] == places
    for column in ("tau", "label"):
        if column in data.table:
            change(driver, colour=column)
    assert errors(driver) == []
    if not data.quarantine:
        assert "None" in texts(driver, "#quarantine-table")[0]


def test_hostile_text_is_shown_and_does_nothing(driver: Any, tmp_path: Path) -> None:
    attack = "</script><img src=x onerror='window.hit=1'><svg onload='window.hit=1'>"
    table = DATA.table.assign(scan_id=attack, map_id=[attack + str(i) for i in range(600)])
    data = dataclasses.replace(
        DATA,
        title=attack,
        subtitle=attack,
        table=table,
        quarantine=[{"scan_id": attack, "stage": attack, "reason": attack}],
        facts={attack: attack},
    )
    opened(driver, tmp_path, data)
    change(driver, pinned=3)
    assert texts(driver, "h1") == [attack]
    assert texts(driver, "#quarantine-table td") == [attack] * 3
    assert driver.execute_script("return [window.hit, document.images.length]") == [None, 0]
    assert errors(driver) == []


def test_a_thinned_page_says_so_and_counts_all_maps(driver: Any, tmp_path: Path) -> None:
    data = thinned_report(maps=3000, points=400)
    opened(driver, tmp_path, data)
    sizes = data.whole["label"].value_counts()
    assert state(driver)["total"] == 400
    assert texts(driver, "#thinned") == [data.thinned]
    assert driver.execute_script("return document.getElementById('thinned').checkVisibility()")
    assert texts(driver, "#figures dd")[0].replace(THIN, "") == "3000"
    legend = {item: int(text.replace(THIN, "")) for item, text in zip(*legend_of(driver), strict=True)}
    assert legend == {str(label): size for label, size in sizes.items()}
    assert driver.execute_script(BIN_SUMS) == 3000
    assert not errors(driver)


BIN_SUMS = """const chart = document.querySelector('#history-chart svg');
const box = chart.getBoundingClientRect();
const bins = new Map();
for (let x = box.left; x < box.right; x += 2) {
  chart.dispatchEvent(new PointerEvent('pointermove', { clientX: x, clientY: box.top + 100 }));
  const tip = document.getElementById('history-tip');
  const words = [...tip.children].map((node) => node.textContent);
  const counts = words.map((text) => text.split(': ')[1]).filter((text) => text && !/[^0-9\\u202f]/.test(text));
  const sum = counts.reduce((a, b) => a + Number(b.replaceAll('\\u202f', '')), 0);
  if (!tip.hidden) bins.set(words[0], sum);
}
return [...bins.values()].reduce((a, b) => a + b, 0);"""
"""Numbers of maps that the history tells when the pointer goes over it, all bins together."""


def legend_of(driver: Any) -> tuple[list[str], list[str]]:
    labels = driver.execute_script(
        "return [...document.querySelectorAll('.legend-item')].map((one) => one.dataset.label)"
    )
    return labels, texts(driver, ".legend-item .count")


def test_doubts_are_listed(driver: Any, tmp_path: Path) -> None:
    opened(driver, tmp_path)
    assert texts(driver, "#doubts-table td") == list(DATA.doubts[0].values())
    assert texts(driver, "#notes-table td") == list(DATA.notes[0].values())
    opened(driver, tmp_path, dataclasses.replace(DATA, doubts=[], notes=[]))
    assert "None" in texts(driver, "#notes-table")[0]
    assert "None" in texts(driver, "#doubts-table")[0]
    assert driver.execute_script("return document.getElementById('thinned').hidden")


PICTURE = """const picture = document.querySelector('#detail canvas');
return [...picture.getContext('2d').getImageData(0, 0, picture.width, picture.height).data].join(' ');"""


def test_a_map_keeps_its_picture_after_a_search(driver: Any, tmp_path: Path) -> None:
    opened(driver, tmp_path)
    change(driver, pinned=37)
    before = driver.execute_script(PICTURE)
    change(driver, pinned=-1, query=DATA.table["scan_id"][37])
    change(driver, pinned=37)
    assert driver.execute_script(PICTURE) == before
    assert texts(driver, "#detail .name")[0] == DATA.table["map_id"][37]


def test_missing_values_of_any_kind_are_grey_and_counted(driver: Any, tmp_path: Path) -> None:
    flags = pd.array([True, None] * 300, dtype="boolean")
    phases = pd.Categorical([None, "gel", "glass"] * 200)
    table = DATA.table.assign(flag=flags, phase=phases, step=np.where(np.arange(600) % 3, np.nan, 1.0))
    opened(driver, tmp_path, dataclasses.replace(DATA, table=table, sample_columns=("flag", "phase", "step")))
    for name, missing in (("flag", 300), ("step", 400)):
        change(driver, colour=name)
        assert texts(driver, "#scale p") == [f"{missing} maps without a value in grey."]
    assert not [text for text in texts(driver, "#colour option") if "phase" in text]  # a text is no colour
    assert not errors(driver)
