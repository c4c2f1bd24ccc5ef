"""Machines that boot nothing: an image of a few bytes, for the fake hypervisor of the unit tests."""

import base64
import hashlib
import json
import os
import shutil

from daemon import process_arguments
from lab import program

# Speaks QMP and ends when it is told to; nothing makes it end by itself.
OBEDIENT = "fake=obedient go=/nonexistent"
SSH_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g"


def install(folder, name="fake_qemu", binary="test_adopt"):
    """Put the fake hypervisor into @folder: any test binary with it in becomes one by that name. Return: its path"""
    path = folder / name
    shutil.copy(program().parent / "tests" / "vmm" / binary, path)
    return path


def make_image(folder, command_line=OBEDIENT):
    """An image that takes no time to verify, called as its folder, which is made."""
    folder.mkdir()
    manifest = {"name": folder.name, "description": "boots nothing", "architecture": "x86_64", "boot": "kernel",
                "command_line": command_line, "min_memory_mib": 16, "ready_line": "ready"}
    for part in ("kernel", "initrd"):
        text = f"not a {part}".encode()
        (folder / part).write_bytes(text)
        manifest[part] = {"file": part, "sha256": hashlib.sha256(text).hexdigest(), "bytes": len(text)}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="ascii")


def settings(hypervisor, leases=40):
    """The configuration of a daemon whose machines are fake ones."""
    return {"capacity": {"leases": leases, "vcpus": leases, "memoryMib": 65536, "diskMib": 4096},
            "hypervisor": {"qemu": str(hypervisor), "kvmDevice": "/nonexistent"}}


def processes(lab, hypervisor):
    """Lease id of each of an installation's hypervisors, by pid."""
    found = {}
    for pid, _ in lab.prov.processes():
        words = process_arguments(pid)
        if words and words[0] == str(hypervisor) and "-name" in words:
            found[pid] = words[words.index("-name") + 1]
    return found


def request(image, endpoint, /, **changes):
    """A lease request of a consumer that nobody else has; a change of None leaves the member out."""
    body = {
        "image": image, "resources": {"vcpus": 1, "memory_mib": 16, "disk_mib": 1},
        "consumer": {"public_key": base64.b64encode(os.urandom(32)).decode(), "endpoint": endpoint,
                     "tunnel_ip": "10.99.0.1"},
        "vm": {"tunnel_ip": "10.99.0.2"},
        "ssh": {"user": "root", "authorized_keys": [SSH_KEY]},
    }
    body.update(changes)
    return {key: value for key, value in body.items() if value is not None}
