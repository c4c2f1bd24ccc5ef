#!/usr/bin/env python3
"""Draws what bench.py measured of the data path: plot.py RESULT.json OUTPUT.svg

One panel for each framing and baseline; in it the modes side by side for each load, as ratios to that baseline: figures of one
run compare with each other alone. gnuplot draws; the colours are put in its place afterwards, for light and for dark pages.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
from xml.sax.saxutils import escape

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from section_path import FRAMINGS, LOADS, MODES, figure  # noqa: E402

BASELINES = {"relay": "a bare relay", "naive": "a naive loop"}
FRAMING_WORDS = {"dgram": "datagrams", "stream": "stream"}
# What gnuplot is told, and the variable that takes its place; each is found nowhere else in what it writes.
COLOURS = {"#010101": "ink", "#020202": "line", "#010203": "filtered", "#020304": "conntrack", "#030405": "sampled", "#ffffff": "ground"}
STYLE = """<style>
  svg { --ground: #fff; --ink: #1c1f23; --line: #c4c7c2; --filtered: #1f4f9c; --conntrack: #c07a10; --sampled: #5f8f7d; }
  text { fill: var(--ink); font-family: system-ui, sans-serif; }
  @media (prefers-color-scheme: dark) {
    svg { --ground: #1a1d20; --ink: #e6e7e4; --line: #454b51; --filtered: #8fb8f6; --conntrack: #e4a452; --sampled: #8cc9b2; }
  }
</style>"""
DESCRIPTION = ("The modes filtered, conntrack and sampled side by side, for packets of 1400 and 64 bytes out of the VM and into it, over "
               "both framings; each as a ratio to a relay that checks nothing and to a loop that takes one packet a call.")
LIMIT_S = 30


def ratio(path, case, size, mode, framing, baseline):
    """Processor time of a mode for a packet, of its baseline's; None where one of both was not measured."""
    cost, base = (figure(path, f"{case} {who} {framing} {size}", "cpu_ns_per_packet") for who in (mode, baseline))
    return cost / base if cost and base else None


def note(machine):
    """One line: where and when. Kept to what gnuplot's quotes and markup leave as it is."""
    words = f"{machine['cpus']} processors, Linux {machine['kernel'].partition('-')[0]}, load {machine['load']:.1f} at the start, {machine['time'][:10]}"
    return re.sub(r"[^\w .,:+-]|_", " ", words)


def panel(path, framing, baseline):
    """One panel: gnuplot's lines."""
    rows = []
    for case, size in LOADS:
        cells = [ratio(path, case, size, mode, framing, baseline) for mode in MODES]
        rows.append(f'"{case} {size} B" ' + " ".join("NaN" if cell is None else f"{cell:.3f}" for cell in cells))
    name = f"${framing}_{baseline}"
    of = {word: colour for colour, word in COLOURS.items()}
    bars = [f"{name} using {at + 2}:xtic(1) title '{mode}' linecolor rgb '{of[mode]}'" for at, mode in enumerate(MODES)]
    values = [f"{name} using ($0 + {(at - 1) * 0.25}):{at + 2}:(sprintf('%.2f', ${at + 2})) with labels offset 0,0.6 "
              "font ',10' notitle" for at in range(len(MODES))]
    return [f"{name} << EOD", *rows, "EOD", f"set title '{FRAMING_WORDS[framing]}: of {BASELINES[baseline]}'",
            "plot " + ", ".join([*bars, *values, "1 with lines linecolor rgb '#010101' dashtype 2 notitle"])]


def script(result):
    """What gnuplot is to do."""
    lines = ["set terminal svg size 1000,680 dynamic font 'sans,13' background rgb 'white'", "set encoding utf8",
             "set style data histogram", "set style histogram clustered gap 1", "set style fill solid noborder",
             "set border 3 linecolor rgb '#010101'", "set tics nomirror", "set grid ytics linecolor rgb '#020202'",
             "set yrange [0:*]", "set xrange [-0.5:3.5]", "set key at screen 0.5,0.075 center horizontal",
             "set multiplot layout 2,2 margins 0.05,0.98,0.15,0.88 spacing 0.06,0.13 "
             "title 'Processor time of the NAT for a packet, as a ratio: less is better' font ',16'",
             f"set label 1 '{note(result['machine'])}' at screen 0.5,0.025 center font ',11'"]
    for framing in FRAMINGS:
        for baseline in BASELINES:
            lines += [*panel(result["path"], framing, baseline), "unset key", "unset label 1"]
    return "\n".join([*lines, "unset multiplot"]) + "\n"


def recolour(svg):
    """gnuplot's SVG with variables for its colours, and words for who cannot see it."""
    def variable(found):
        levels = [int(level) for level in found[2].split(",")]
        return f'style="{found[1]}: var(--{COLOURS["#" + bytes(levels).hex()]})"' if "#" + bytes(levels).hex() in COLOURS else found[0]

    svg = svg.replace('fill="#ffffff"', 'style="fill: var(--ground)"', 1)
    svg = re.sub(r"""(fill|stroke) ?= ?['"]rgb\(([\d, ]+)\)['"]""", variable, svg)
    svg = re.sub(r"<desc>.*?</desc>", lambda _: f"<desc>{escape(DESCRIPTION)}</desc>\n{STYLE}", svg, count=1)
    svg = re.sub(r"<filter.*?</filter>", "", svg, flags=re.DOTALL)
    return re.sub(r"[ \t]+$", "", svg.replace("<title>Gnuplot</title>", "<title>Processor time of the NAT for a packet</title>"), flags=re.MULTILINE)


def main():
    """Draw one file. Return: exit code"""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    options = parser.parse_args()
    try:
        result = json.loads(options.result.read_text(encoding="utf-8"))
        commands = script(result)
    except (OSError, ValueError, KeyError) as error:
        print(f"plot.py: {options.result} is no result of bench.py with its data path: {error}", file=sys.stderr)
        return 1
    done = subprocess.run(["gnuplot"], input=commands, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if done.returncode != 0 or done.stderr:
        print(f"plot.py: gnuplot failed: {done.stderr}", file=sys.stderr)
        return 1
    options.output.write_text(recolour(done.stdout), encoding="utf-8")
    print(f"drawn: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
