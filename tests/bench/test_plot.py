#!/usr/bin/env python3
"""plot.py draws a result of bench.py as an SVG that is well formed and says what the result says."""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as tree

FOLDER = pathlib.Path(__file__).resolve().parent
SVG = "{http://www.w3.org/2000/svg}"
MODES = ("filtered", "conntrack", "sampled")


def sample():
    """A result with a ratio of its own for each bar: filtered 1.01, 1.04, ... of the relay."""
    medians, number = {}, 1
    for framing in ("dgram", "stream"):
        for load in (("up", 1400), ("up", 64), ("down", 1400), ("down", 64)):
            medians[f"{load[0]} relay {framing} {load[1]}"] = {"cpu_ns_per_packet": 1000}
            medians[f"{load[0]} naive {framing} {load[1]}"] = {"cpu_ns_per_packet": 8000}
            for mode in MODES:
                medians[f"{load[0]} {mode} {framing} {load[1]}"] = {"cpu_ns_per_packet": 1000 + 10 * number}
                number += 1
    return {"machine": {"cpus": 7, "kernel": "9.9'<&\"$(x)", "load": 0.5, "time": "2031-02-03T04:05:06Z"},
            "path": {"medians": medians}}


class Plot(unittest.TestCase):
    def _draw(self, text):
        """(exit code, what it said, the drawing or None) for a file with @text."""
        with tempfile.TemporaryDirectory() as folder:
            source, target = pathlib.Path(folder, "result.json"), pathlib.Path(folder, "plot.svg")
            source.write_text(text, encoding="utf-8")
            done = subprocess.run([sys.executable, FOLDER / "plot.py", source, target], capture_output=True, text=True, timeout=60,
                                  check=False)
            return done.returncode, done.stdout + done.stderr, target.read_text(encoding="utf-8") if target.exists() else None

    def _texts(self, svg):
        return ["".join(node.itertext()).strip() for node in tree.fromstring(svg).iter(f"{SVG}text")]

    def test_every_bar_is_there_with_its_ratio_and_its_mode_s_colour(self):
        code, said, svg = self._draw(json.dumps(sample()))
        self.assertEqual(0, code, said)
        texts = self._texts(svg)
        for number in range(1, 25):
            self.assertEqual(1, texts.count(f"{1 + number / 100:.2f}"), number)
        for mode in MODES:
            self.assertIn(mode, texts)
            bars = [node for node in tree.fromstring(svg).iter(f"{SVG}polygon") if node.get("style") == f"fill: var(--{mode})"]
            self.assertEqual(16 + 1, len(bars), f"{mode}: four panels of four bars, and the key")
        self.assertTrue(any("7 processors" in text and "2031-02-03" in text for text in texts), texts)

    def test_light_and_dark_have_a_colour_for_all(self):
        svg = self._draw(json.dumps(sample()))[2]
        light, dark = re.findall(r"svg \{ (--.*?) \}", svg)
        used = set(re.findall(r"var\((--\w+)\)", svg))
        self.assertGreaterEqual(len(used), 6)
        for colours in (light, dark):
            self.assertEqual(used, set(re.findall(r"(--\w+):", colours)))
        self.assertNotIn("rgb(  ", svg, "a colour that no page's scheme changes")

    def test_what_was_not_measured_is_left_out(self):
        result = sample()
        del result["path"]["medians"]["up filtered dgram 1400"]
        code, said, svg = self._draw(json.dumps(result))
        self.assertEqual(0, code, said)
        self.assertNotIn("1.01", self._texts(svg))
        self.assertIn("1.02", self._texts(svg))

    def test_a_file_that_is_no_result_is_refused_and_nothing_written(self):
        for text in ("", "{}", '{"machine": {}, "path": {"medians": {}}}'):
            code, said, svg = self._draw(text)
            self.assertEqual((1, None), (code, svg))
            self.assertIn("is no result of bench.py", said)

    def test_the_drawing_of_the_documents_is_one_of_these(self):
        svg = (FOLDER.parent.parent / "docs/bench.svg").read_text(encoding="utf-8")
        self.assertTrue(any(re.match(r"\d+ processors, Linux .*, \d{4}-\d\d-\d\d$", text) for text in self._texts(svg)))


if __name__ == "__main__":
    unittest.main()
