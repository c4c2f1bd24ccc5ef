"""A client in TypeScript, its types made from openapi.yaml (tests/contract), leases a VM over TCP."""

import json
import shutil
import subprocess

from case import DaemonCase, wait_for
from daemon import ROOT

CLIENT = ROOT / "build" / "contract" / "client.js"


class TypedClient(DaemonCase):
    """What an orchestrator's programmer gets from the contract alone."""

    def setUp(self):
        if not (CLIENT.exists() and shutil.which("node")):
            self.skipTest("run make contract (needs nodejs and npm)")

    def test_a_lease_from_its_request_to_its_end(self):
        consumer = self.lab.consumer(0)
        request = self.daemon.folder / "request.json"
        body = self.lab.request(consumer, labels={"by": "typescript"}, heartbeat_timeout_s=600)
        request.write_text(json.dumps(body), encoding="ascii")
        client = self.lab.prov.start("node", CLIENT, f"http://127.0.0.1:{self.daemon.port}",
                                     self.daemon.data / "token", request, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE)
        self.admit_the_lease(consumer)
        output, errors = client.communicate(timeout=120)
        self.assertEqual(0, client.returncode, errors.decode())
        seen = json.loads(output)
        self.assertEqual("/v1/problems/lease-not-found", seen["missing"])
        self.assertEqual(["/image"], seen["refused"])
        self.assertEqual((202, True, 202), (seen["created"], seen["location"], seen["released"]))
        self.assertEqual((True, [201, 7200], 204), (seen["once"], seen["renewed"], seen["heartbeat"]))
        self.assertEqual(("enforcing", True, True), (seen["enforcement"], seen["forwarded"], seen["listed"]))
        self.assertEqual("released", seen["reason"])
        for kind in ("lease.created", "filter.armed", "tunnel.established", "lease.terminated"):
            self.assertIn(kind, seen["events"])
        self.assert_nothing_left()

    def admit_the_lease(self, consumer):
        """The consumer lets in the VM that the client asked for, once there is one."""
        lease = wait_for(lambda: self.client.get("/v1/leases?limit=1")["items"], 30, "the client's lease")[0]
        consumer.admit(lease["vm"]["public_key"], consumer.vm_ip(0))
        self.addCleanup(consumer.dismiss, lease["vm"]["public_key"])
