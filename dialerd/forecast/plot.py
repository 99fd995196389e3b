"""A forecast as a picture: calls by the hour as bars, slots in use as a line over them. SVG, light and dark."""

from __future__ import annotations

from datetime import timedelta
from math import ceil, log10
from xml.etree import ElementTree as ET  # nosec B405

from dialerd.forecast.tally import Hour

_WIDTH, _HEIGHT = 960, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 60, 40, 50
_STYLE = """
text { font: 12px sans-serif; fill: #444 } .title { font-size: 14px } .grid { stroke: #ddd } .calls { fill: #4a90d9 }
.slots { stroke: #d9622b; fill: none; stroke-width: 2 } .slots-text { fill: #d9622b }
@media (prefers-color-scheme: dark) { text { fill: #ccc } .grid { stroke: #444 } }
"""


def svg(hours: list[Hour], title: str) -> str:
    """Draw the hours of a forecast, closed ones too, one beside the other."""
    shown = _without_gaps(hours)
    calls, slots = _round_up(max(each.calls for each in shown)), _round_up(max(each.peak for each in shown))
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    step = wide / len(shown)
    root = ET.Element("svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img")
    ET.SubElement(root, "title").text = title
    ET.SubElement(root, "style").text = _STYLE
    _text(root, _LEFT, 20, title, "start", "title")
    for part in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _TOP + high * (1 - part)
        ET.SubElement(
            root,
            "line",
            {"class": "grid", "x1": f"{_LEFT}", "x2": f"{_WIDTH - _RIGHT}", "y1": f"{y:g}", "y2": f"{y:g}"},
        )
        _text(root, _LEFT - 6, y + 4, f"{calls * part:,.0f}", "end")
        _text(root, _WIDTH - _RIGHT + 6, y + 4, f"{slots * part:,.0f}", "start", "slots-text")
    line = []
    for index, hour in enumerate(shown):
        x, bar = _LEFT + index * step, high * hour.calls / calls
        if hour.calls:
            rect = ET.SubElement(
                root, "rect", {"class": "calls", "x": f"{x + step * 0.1:.1f}", "y": f"{_TOP + high - bar:.1f}"}
            )
            rect.attrib |= {"width": f"{step * 0.8:.1f}", "height": f"{bar:.1f}"}
            told = (
                f"{hour.begins:%a %d %b %H:%M}: {hour.calls:,} calls, {hour.answered:,} answered, {hour.peak:,} slots"
            )
            ET.SubElement(rect, "title").text = told
        line.append(f"{x + step / 2:.1f},{_TOP + high * (1 - hour.peak / slots):.1f}")
    ET.SubElement(root, "polyline", {"class": "slots", "points": " ".join(line)})
    every = ceil(len(shown) / 10)
    for index in range(0, len(shown), every):
        _text(root, _LEFT + (index + 0.5) * step, _HEIGHT - 30, f"{shown[index].begins:%a %d %b}", "middle")
        _text(root, _LEFT + (index + 0.5) * step, _HEIGHT - 14, f"{shown[index].begins:%H:%M}", "middle")
    _text(root, _LEFT, _TOP - 8, "calls in the hour", "start")
    _text(root, _WIDTH - _RIGHT, _TOP - 8, "slots in use at most", "end", "slots-text")
    return ET.tostring(root, encoding="unicode")


def _without_gaps(hours: list[Hour]) -> list[Hour]:
    """Every hour from the first to the last with calls: those in which nothing was counted are empty."""
    busy = [hour for hour in hours if hour.calls or hour.call_seconds] or hours[:1]
    found: list[Hour] = []
    for hour in busy:
        while found and (gap := found[-1].begins + timedelta(hours=1)) < hour.begins:
            found.append(Hour(gap))
        found.append(hour)
    return found


def _round_up(most: int) -> float:
    """A round number at or above, for an axis of four parts."""
    if most <= 4:
        return 4.0
    size = 10.0 ** int(log10(most))
    return float(next(size * each for each in (1, 1.2, 1.6, 2, 4, 6, 8, 10) if size * each >= most))


def _text(root: ET.Element, x: float, y: float, text: str, anchor: str, kind: str = "") -> None:
    given = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, **({"class": kind} if kind else {})}
    ET.SubElement(root, "text", given).text = text
