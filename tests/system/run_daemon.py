#!/usr/bin/env python3
"""Serve until Ctrl-C, for `make run`: run_daemon.py [options of `omertad serve`]

As root the daemon is started as an ordinary user (a numeric uid). Its folders are in build/run; if that user cannot
reach them, or their path is too long for a unix socket, in a temporary folder that is removed at the end.
"""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from daemon import ROOT, UID, User, wait_for  # noqa: E402
from lab import image_folder, program  # noqa: E402
from netns import die_with_parent  # noqa: E402
from progress import Progress  # noqa: E402

RUNTIME_BYTES = 50  # leaves room for a lease's id and a socket's name in the 108 bytes of sun_path
DEFAULT_LISTEN = "127.0.0.1:8470"


def as_user(*argv):
    """The argv that runs @argv as the ordinary user; as it is when we are one."""
    return User(0).command(*argv) if os.geteuid() == 0 else [str(word) for word in argv]


def may_use(folder):
    """Whether the ordinary user can work in a folder of ours."""
    if len(os.fsencode(folder)) > RUNTIME_BYTES:
        return False
    return subprocess.run(as_user("test", "-w", folder), check=False).returncode == 0


def prepare(folder):
    """Make the folders, the user's own, with a copy of program and image. Return: the copied program"""
    for name in ("data", "runtime", "images"):
        (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copy(program(), folder / "omertad")
    shutil.rmtree(folder / "images/micro", ignore_errors=True)
    shutil.copytree(image_folder(), folder / "images/micro")
    if os.geteuid() == 0:
        User(0).give(folder)
    return folder / "omertad"


def listen_option(options):
    """Where the page will be."""
    if "--listen" in options[:-1]:
        return options[options.index("--listen") + 1]
    return DEFAULT_LISTEN


def answers(control):
    """Whether somebody listens at a unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as handle:
        return handle.connect_ex(str(control)) == 0


def announce(folder, control, listen):
    """What one needs to know to use it."""
    print(f"\n  page    http://{listen}/\n  token   {folder / 'data/token'}\n  socket  {control}\n\n"
          f"  curl --unix-socket {control} http://localhost/v1/node\n\n"
          "  Ctrl-C ends it and every machine.\n", flush=True)


def serve(folder, options):
    """Run the daemon to its end. Return: its exit code"""
    progress = Progress()
    progress.doing("the daemon starts")
    copy = prepare(folder)
    argv = as_user(copy, "serve", "--data", folder / "data", "--runtime", folder / "runtime", "--images",
                   folder / "images", *options)
    process = subprocess.Popen(argv, cwd=folder, env={**os.environ, "HOME": str(folder)},
                               preexec_fn=die_with_parent)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C reaches the daemon by itself
    try:
        control = folder / "runtime/omertad.sock"
        wait_for(lambda: process.poll() is not None or answers(control), 30, "the daemon listens")
        progress.quiet()
        if process.poll() is None:
            announce(folder, control, listen_option(options))
        return process.wait()
    finally:
        progress.quiet()
        if process.poll() is None:
            process.terminate()
            process.wait()


def main():
    """Serve from build/run, or from a temporary folder. Return: exit code"""
    for path, target in ((program(), "make"), (image_folder() / "manifest.json", "make image")):
        if not path.exists():
            print(f"run_daemon.py: {path.name} is missing: run {target}", file=sys.stderr)
            return 3
    options, folder = sys.argv[1:], ROOT / "build/run"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(folder, UID, UID)
    if may_use(folder):
        return serve(folder, options)
    with tempfile.TemporaryDirectory(prefix="omertad-run-") as temporary:
        os.chmod(temporary, 0o711)
        home = pathlib.Path(temporary) / "run"
        home.mkdir(mode=0o700)
        print(f"serving from {home}, which is removed at the end", flush=True)
        return serve(home, options)


if __name__ == "__main__":
    sys.exit(main())
