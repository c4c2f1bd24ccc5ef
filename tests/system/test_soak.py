"""A short soak; `make soak` is the long one."""

import os

from case import LabCase
from soak import Soak

SECONDS = float(os.environ.get("OMERTAD_SOAK_S", "20"))


class LeasesComeAndGo(LabCase):
    """One run."""

    def test_all_that_the_daemon_holds_returns_to_the_start(self):
        soak = Soak(self.lab, SECONDS)
        self.daemon = soak.daemon
        self.assertEqual([], soak.run())
