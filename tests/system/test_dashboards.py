"""What the dashboard and the alerts ask for is what a daemon at work gives to Prometheus."""

import re
import sys

from case import wait_for
from daemon import ROOT
from test_external import ExternalCase

sys.path.insert(0, str(ROOT / "tests/deploy"))
import test_fleet  # noqa: E402

RARE = {"omertad_violations_total"}  # there with the first violation; tests/system/test_metrics.py sees it


class Dashboards(ExternalCase):
    """One lease, begun and ended."""

    def test_every_metric_that_is_shown_is_there(self):
        lease_id, _ = self.open()
        self.open(port=52999)
        self.client.request("DELETE", f"/v1/leases/{lease_id}")
        wait_for(lambda: self.client.get(f"/v1/leases/{lease_id}")["termination"], 20, "the lease's end")
        given = set(re.findall(r"^([a-z_]+)", self.client.request("GET", "/metrics").body.decode(), re.MULTILINE))
        wanted = {name for _, text in test_fleet.expressions() for name in test_fleet.METRIC.findall(text)}
        wanted |= set(test_fleet.METRIC.findall((ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8")))
        self.assertEqual(set(), wanted - given - RARE)
