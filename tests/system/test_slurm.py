"""Slurm, a scheduler that knows nothing of leases, places `omertad run` jobs: Debian's munge, slurmctld and slurmd on loopback."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess

from case import DaemonCase, wait_for
from daemon import ROOT, UID
from lab import CONSUMER
from netns import die_with_parent

HOME = pathlib.Path("/run/slurm-test")
LIMIT = 60.0
CONFIGURATION = """
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={home}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.pid
SlurmdSpoolDir={home}/spool
StateSaveLocation={home}/state
SlurmctldPort=46817
SlurmdPort=46818
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
KillWait=20
MinJobAge=300
NodeName=node0 NodeHostname={host} NodeAddr=127.0.0.1 CPUs=8 State=UNKNOWN
PartitionName=leases Nodes=node0 Default=YES MaxTime=INFINITE State=UP
"""


class Slurm(DaemonCase):
    """One node, one controller, three jobs."""

    settings = {"capacity": {"leases": 3}}

    @classmethod
    def setUpClass(cls):
        if os.geteuid() != 0 or not cls.lab.user.real_root:
            raise cls.skipTest(cls, "munge and slurmd want root")
        if not all(map(shutil.which, ("slurmctld", "slurmd", "munged", "sbatch"))):
            raise cls.skipTest(cls, "install slurmctld, slurmd, slurm-client and munge")
        super().setUpClass()
        cls._processes = []
        cls._ports = iter(range(53000, 54000))
        cls.addClassCleanup(cls._stop)
        for folder in (HOME, HOME / "spool", HOME / "state"):
            folder.mkdir(mode=0o755, exist_ok=True)
        cls.lab.append_to_etc({"passwd": f"lessor:x:{UID}:{UID}::{HOME}:/bin/sh", "group": f"lessor:x:{UID}:"},
                              cls.addClassCleanup)
        (HOME / "slurm.conf").write_text(CONFIGURATION.format(host=socket.gethostname().split(".")[0], home=HOME),
                                         encoding="ascii")
        key = HOME / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        cls._start("munged", "--foreground", "--force", f"--socket={HOME}/munge.socket", f"--key-file={key}",
                   f"--pid-file={HOME}/munge.pid", f"--seed-file={HOME}/munge.seed", f"--log-file={HOME}/munge.log")
        wait_for((HOME / "munge.socket").exists, LIMIT, "munge")
        cls._start("slurmctld", "-D", "-f", HOME / "slurm.conf")
        cls._start("slurmd", "-D", "-N", "node0", "-f", HOME / "slurm.conf")
        wait_for(lambda: "idle" in cls._call("sinfo", "-h", "-o", "%T"), LIMIT, "the node is idle")

    @classmethod
    def _start(cls, *argv):
        log = open(HOME / f"{argv[0]}.out", "wb")
        cls._processes.append((cls.lab.prov.start(*argv, stdout=log, stderr=log, env=cls._environment()), log))

    @classmethod
    def _stop(cls):
        for process, log in reversed(cls._processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            log.close()

    @classmethod
    def _environment(cls):
        return {"PATH": f"{cls.daemon.folder}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(HOME),
                "SLURM_CONF": str(HOME / "slurm.conf")}

    @classmethod
    def _call(cls, *argv):
        """A command of Slurm, as the ordinary user. Return: its output"""
        done = subprocess.run(cls.lab.prov.command(*cls.lab.user.command(*argv)), env=cls._environment(), text=True,
                              capture_output=True, timeout=30, preexec_fn=die_with_parent, cwd=cls.daemon.folder,
                              check=False)
        return done.stdout if done.returncode == 0 else done.stdout + done.stderr

    def _submit(self, request):
        """A job with this lease. Return: its id"""
        file = self.daemon.folder / f"lease-{next(self._ports)}.json"
        file.write_text(json.dumps(request), encoding="ascii")
        file.chmod(0o644)
        said = self._call("sbatch", "--parsable", "--export=ALL", ROOT / "deploy/slurm/lease.sbatch", "--config",
                          self.daemon.config_file, file)
        self.assertRegex(said, r"^\d+\n$")
        return said.strip()

    def _external(self, **changes):
        consumer = {"public_key": self.lab.consumer().public_key, "endpoint": f"{CONSUMER}:{next(self._ports)}",
                    "tunnel_ip": "10.99.0.1"}
        return {"attachment": "external", "resources": {"vcpus": 1, "memory_mib": 1, "disk_mib": 0},
                "consumer": consumer, "vm": {"tunnel_ip": "10.99.0.2"}, **changes}

    def _field(self, job, name):
        return re.search(rf"\b{name}=(\S+)", self._call("scontrol", "show", "job", job)).group(1)

    def _running(self):
        return self.client.items("/v1/leases?state=running")

    def test_jobs_are_leases_and_end_as_leases_do(self):
        released, machine = self._submit(self._external()), self._submit(self.lab.request(self.lab.consumer(0)))
        expired = self._submit(self._external(ttl_s=20))
        wait_for(lambda: len(self._running()) == 3, LIMIT, "three jobs are three leases")
        self.assertEqual({"RUNNING"}, {self._field(job, "JobState") for job in (released, machine, expired)})

        self._call("scancel", "--full", "--signal=TERM", released)
        wait_for(lambda: self._field(released, "JobState") == "COMPLETED", LIMIT, "the job has ended")
        self.assertEqual("0:0", self._field(released, "ExitCode"))
        wait_for(lambda: self._field(expired, "JobState") == "FAILED", LIMIT, "the other's time is up")
        self.assertEqual("4:0", self._field(expired, "ExitCode"))

        lines = (self.daemon.folder / f"omertad-lease-{released}.jsonl").read_text(encoding="utf-8").splitlines()
        self.assertIn('"run.ended"', lines[-1])
        self._call("scancel", machine)
        wait_for(lambda: self._field(machine, "JobState") == "CANCELLED", LIMIT, "the machine's job has ended")
        wait_for(lambda: not self._running(), LIMIT, "no lease is left")
        reasons = sorted(ended["reason"] for ended in self.client.items("/v1/terminations"))
        self.assertEqual(["lease_expired", "released", "released"], reasons)
        self.assert_nothing_left()
