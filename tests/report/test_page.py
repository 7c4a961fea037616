"""The report as text: what is embedded is what was given, nothing given can act, every odd archive has a page."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html.parser
import io
import json
import re
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ainerd_hpc.report import page, pictures
from ainerd_hpc.report.content import REQUIRED, ReportData
from ainerd_hpc.report.summary import summarise
from tests.support.report_sample import report, table_of, thinned_report

HOSTILE = "</script><img src=x onerror=alert(1)>\u2028&amp;'\""


def payload_of(text: str) -> dict:
    payload = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])
    return payload | {key: json.loads(inflated(payload[key])) for key in ("mapIds", "scanIds")}


def inflated(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


def decoded(item: dict) -> np.ndarray:
    kind = np.dtype(item["dtype"]).newbyteorder("<")
    planes = np.frombuffer(inflated(item["data"]), np.uint8).reshape(kind.itemsize, -1)
    return np.ascontiguousarray(planes.T).view(kind)[:, 0]


def columns_of(payload: dict) -> dict[str, np.ndarray]:
    """Values of the maps with a thumbnail."""
    return {item["name"]: decoded(item["values"]) for item in payload["columns"]}


def points_of(payload: dict) -> dict[str, np.ndarray]:
    """Values of the other points, where they carry any."""
    return {item["name"]: uncoded(**item["points"]) for item in payload["columns"] if "points" in item}


def uncoded(codes: dict, levels: list | None = None, low=0.0, high=1.0, steps=1, log=False) -> np.ndarray:
    numbers = decoded(codes).astype(int)
    if levels is not None:
        return np.array([*levels, np.nan])[numbers]
    values = low + numbers * (high - low) / steps
    return np.where(numbers > steps, np.nan, np.exp(values) if log else values)


class Tags(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.seen.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def data() -> ReportData:
    return report()


@pytest.fixture(scope="module")
def text(data: ReportData) -> str:
    return page.render(data)


def with_table(data: ReportData, table: pd.DataFrame) -> ReportData:
    thumbnails = np.resize(data.thumbnails, (len(table), 32, 32))
    return dataclasses.replace(data, table=table, thumbnails=thumbnails)


def test_the_same_data_gives_the_same_bytes(text: str) -> None:
    assert page.render(report()) == text


def test_embedded_columns_decode_to_the_numbers_of_the_table(data: ReportData, text: str) -> None:
    columns, table = columns_of(payload_of(text)), data.table
    for name in table.select_dtypes("number"):
        span = np.nanmax(table[name]) - np.nanmin(table[name])
        np.testing.assert_allclose(columns[name], table[name], rtol=2e-7, atol=1e-5 * span, err_msg=name)
    np.testing.assert_array_equal(columns["label"], table["label"])
    np.testing.assert_array_equal(columns["age_stop"], table["age_stop"])
    np.testing.assert_allclose(
        columns["window"], (table["age_stop"] - table["age_start"]) * table["frame_time"], rtol=1e-6
    )


def test_epoch_seconds_keep_their_fractions() -> None:
    table = table_of(24).assign(time=1.7636e9 + 0.001 * np.arange(24))
    columns = columns_of(payload_of(page.render(with_table(report(24), table))))
    np.testing.assert_allclose(columns["time"] - 1.7636e9, 0.001 * np.arange(24), atol=1e-6)


def test_ids_and_scans_are_in_the_order_of_the_table(data: ReportData, text: str) -> None:
    payload = payload_of(text)
    scans = [payload["scanIds"][code] for code in decoded(payload["scan"])]
    assert payload["mapIds"] == list(data.table["map_id"])
    assert scans == list(data.table["scan_id"])


def test_thumbnails_are_tiles_with_time_rising_upward(data: ReportData, text: str) -> None:
    sprites = payload_of(text)["thumbnails"]
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(sprites["pages"][0]))).convert("L"), float)
    for row in (0, 63, 64, 599):
        top, left = 32 * (row // 64), 32 * (row % 64)
        tile = sheet[top : top + 32, left : left + 32]
        truth = data.thumbnails[row][::-1].astype(float)
        assert np.mean(np.abs(tile - truth)) < 12  # lossy, of 255
        assert np.mean(np.abs(tile - truth)) < 0.5 * np.mean(np.abs(tile[::-1] - truth))


def test_many_thumbnails_are_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_FULL_THUMBNAILS", 100)
    sprites = payload_of(page.render(report(120)))["thumbnails"]
    assert sprites["size"] == 16


def test_cluster_summary_against_plain_numpy(data: ReportData) -> None:
    rows = summarise(data.table, data.sample_columns)
    assert [row["label"] for row in rows] == [0, 1, 2, 3, 4, 5, 6, -1]
    for row in rows:
        maps = data.table[data.table["label"] == row["label"]]
        tau = np.sort(maps["tau"].to_numpy()[~np.isnan(maps["tau"])])
        assert row["maps"] == len(maps)
        assert row["scans"] == len(set(maps["scan_id"]))
        assert row["tau"][1] == pytest.approx(np.median(tau))
        assert row["tau"][0] <= row["tau"][1] <= row["tau"][2]
        assert np.mean(tau < row["tau"][0]) == pytest.approx(0.25, abs=0.03)
        assert row["q"] == [maps["q"].min(), maps["q"].max()]
        assert row["stress_Pa"][1] == np.median(maps["stress_Pa"])


def test_a_thinned_page_counts_all_maps() -> None:
    data = thinned_report(maps=3000, points=400)
    payload = payload_of(page.render(data))
    assert (payload["count"], payload["total"], payload["numScans"]) == (400, 3000, 250)
    assert payload["thinned"].startswith("400 of 3,000 maps are drawn: ")
    for item, truth in zip(payload["clusters"], summarise(data.whole, data.sample_columns), strict=True):
        assert item["maps"] == (data.whole["label"] == item["label"]).sum()
        assert item["tau"] == truth["tau"]
    assert decoded(payload["standsFor"]).sum() == 3000
    assert len(payload["mapIds"]) == len(columns_of(payload)["x"]) == 400


def test_a_page_of_all_maps_says_nothing_of_it(text: str) -> None:
    payload = payload_of(text)
    assert (payload["total"], payload["thinned"]) == (600, "")
    assert decoded(payload["standsFor"]).tolist() == [1] * 600


def test_g2_curves_decode(data: ReportData, text: str) -> None:
    curves = payload_of(text)["curves"]
    assert curves["lengths"] == [0 if one.curve is None else len(one.curve.delay) for one in data.details]
    known = [one.curve for one in data.details if one.curve]
    for key, name in (("delay", "delay"), ("g2", "g2"), ("error", "g2_err"), ("fit", "fit")):
        truth = np.concatenate([getattr(curve, name) for curve in known])
        np.testing.assert_allclose(decoded(curves[key]), truth, rtol=1e-6)


def test_units_are_read_from_sample_columns(text: str) -> None:
    described = {item["name"]: (item["text"], item["unit"], item["group"]) for item in payload_of(text)["columns"]}
    assert described["stress_Pa"] == ("stress", "Pa", "Sample log")
    assert described["tau"] == ("relaxation time τ", "s", "Dynamics")


def test_hostile_text_stays_text(data: ReportData) -> None:
    table = data.table.assign(scan_id=HOSTILE, map_id=[HOSTILE + str(i) for i in range(len(data.table))])
    table[HOSTILE] = 1.0
    hostile = dataclasses.replace(
        data,
        title=HOSTILE,
        subtitle=HOSTILE,
        table=table,
        sample_columns=(HOSTILE,),
        quarantine=[{"scan_id": HOSTILE, "stage": HOSTILE, "reason": HOSTILE}],
        doubts=[{"scan_id": HOSTILE, "q_bin": HOSTILE, "reason": HOSTILE}],
        notes=[{"scans": HOSTILE, "note": HOSTILE}],
        facts={HOSTILE: HOSTILE},
    )
    text = page.render(hostile)
    payload = payload_of(text)
    assert payload["scanIds"] == [HOSTILE]
    assert payload["quarantine"][0]["reason"] == payload["doubts"][0]["q_bin"] == payload["notes"][0]["note"] == HOSTILE
    plain, attacked = Tags(page.render(data)), Tags(text)
    assert [tag for tag, _ in attacked.seen] == [tag for tag, _ in plain.seen]
    assert not any(key.startswith("on") for _, attrs in attacked.seen for key in attrs)


def test_the_script_is_every_file_of_it_once_in_the_given_order(text: str) -> None:
    files = {path.stem: path.read_text(encoding="utf-8") for path in Path(page.__file__).parent.glob("assets/*.js")}
    script = re.search(r"<script>(.*?)</script>", text, re.S)[1]
    assert sorted(page.SCRIPTS) == sorted(files)
    assert script.split("\n", 2)[:2] == ['"use strict";', "(async () => {"]
    assert script.endswith("\n})();")
    assert [script.count(source) for source in files.values()] == [1] * len(files)
    places = [script.index(files[name]) for name in page.SCRIPTS]
    assert places == sorted(places)


def test_nothing_is_loaded_and_only_our_script_may_run(text: str) -> None:
    tags = Tags(text)
    policy = next(attrs["content"] for tag, attrs in tags.seen if attrs.get("http-equiv") == "Content-Security-Policy")
    script = re.findall(r"<script>(.*?)</script>", text, re.S)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert policy.startswith("default-src 'none'")
    assert f"script-src 'sha256-{digest}'" in policy
    links = [attrs.get("src") or attrs.get("href") for _, attrs in tags.seen]
    assert all(link.startswith(("#", "data:")) for link in links if link)
    for word in ("@import", "fetch(", "XMLHttpRequest", "WebSocket", "innerHTML", "eval("):
        assert word not in text, word


def test_placeholders_in_the_data_are_left_alone(data: ReportData) -> None:
    text = page.render(dataclasses.replace(data, title="{{data}} {{script}}", subtitle="{{style}}"))
    assert "<title>{{data}} {{script}}</title>" in text
    assert payload_of(text)["subtitle"] == "{{style}}"


@pytest.mark.parametrize("maps", [0, 1])
def test_tiny_archives(maps: int) -> None:
    payload = payload_of(page.render(report(maps)))
    assert payload["count"] == maps
    assert len(payload["clusters"]) == maps
    assert len(payload["thumbnails"]["pages"]) == maps


def test_an_empty_frame_without_types_has_a_page(data: ReportData) -> None:
    bare = with_table(data, pd.DataFrame(columns=list(REQUIRED)))
    payload = payload_of(page.render(bare))
    assert payload["count"] == 0
    assert {"x", "y", "label"} <= set(columns_of(payload))


def test_all_noise(data: ReportData) -> None:
    payload = payload_of(page.render(with_table(data, data.table.assign(label=-1))))
    assert [item["label"] for item in payload["clusters"]] == [-1]


def test_columns_without_a_value(data: ReportData) -> None:
    names = [name for name in data.table.select_dtypes("number") if name not in ("label", "q_bin")]
    payload = payload_of(page.render(with_table(data, data.table.assign(**dict.fromkeys(names, np.nan)))))
    assert all(item["tau"] is None and item["q"] is None for item in payload["clusters"])
    assert np.isnan(columns_of(payload)["tau"]).all()


def test_nullable_and_infinite_numbers(data: ReportData) -> None:
    table = data.table.assign(stress_Pa=pd.array([None, 5] * 300, dtype="Int64"))
    table.loc[3, "tau"] = np.inf
    columns = columns_of(payload_of(page.render(with_table(data, table))))
    np.testing.assert_array_equal(columns["stress_Pa"][:4], [np.nan, 5, np.nan, 5])
    assert np.isinf(columns["tau"][3])


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_column_is_named(data: ReportData, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        page.render(with_table(data, data.table.drop(columns=name)))


def test_thumbnails_must_match_the_table(data: ReportData) -> None:
    with pytest.raises(ValueError, match="expected 600 thumbnails, one a map, found 599"):
        page.render(dataclasses.replace(data, thumbnails=data.thumbnails[:-1]))


def test_a_hundred_thousand_maps_fit_a_file_that_opens() -> None:
    few = report(600)
    table = table_of(100_000)
    rows = np.resize(np.arange(600), 100_000)
    large = dataclasses.replace(few, table=table, thumbnails=few.thumbnails[rows])
    text = page.render(large)
    sprites = sum(map(len, payload_of(text)["thumbnails"]["pages"]))
    print(f"report of 100,000 maps: {len(text) / 1e6:.1f} MB, of which thumbnails {sprites / 1e6:.1f} MB")
    assert len(text) < 40e6
