"""What goes on and for how long: on a terminal one line in its place, elsewhere a plain line for each thing."""

import sys
import threading
import time

TICK_S = 0.5
CLEAR = "\r\033[K"


class Progress:
    """Says lines, and between them what takes time. One thread speaks: its owner's; the clock has one of its own."""

    def __init__(self, out=None):
        self._out = out or sys.stdout
        self._terminal = self._out.isatty()
        self._stop, self._clock = None, None

    def doing(self, text):
        """It begins, and takes until the next line."""
        self.quiet()
        if not self._terminal:
            print(f"{text} ...", file=self._out, flush=True)
            return
        self._stop = threading.Event()
        self._clock = threading.Thread(target=self._tick, args=(text, time.monotonic(), self._stop), daemon=True)
        self._clock.start()

    def _tick(self, text, began, stop):
        while not stop.is_set():
            print(f"{CLEAR}{text} ... {time.monotonic() - began:.0f} s", end="", file=self._out, flush=True)
            stop.wait(TICK_S)

    def quiet(self):
        """End the line of what went on."""
        if self._clock:
            self._stop.set()
            self._clock.join()
            self._clock = None
            print(CLEAR, end="", file=self._out, flush=True)

    def say(self, text):
        """A line that stays."""
        self.quiet()
        print(text, file=self._out, flush=True)
