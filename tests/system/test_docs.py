"""README.md and docs/, run as they stand: every shell block of a page in one shell, in its order, with a real VM.

A block that is followed by one of text or JSON must print each of its lines. Where the page says `<!-- test: NAME -->` the
world does something that the operator does not do: the consumer admits the VM, the tenant breaks the rules. A block below
`<!-- not run: WHY -->` is not run. An indented block, or one of no language, says none of this and is refused.
"""

import os
import re
import select
import shutil
import subprocess
import time

import guest
from case import DaemonCase
from daemon import ROOT
from lab import STRANGER

# A block by its language, behind why it is not run; a mark of the test; a line that Markdown takes for code as well.
PART = re.compile(r"^(?:<!-- not run: (?P<why>[^\n]+) -->\n)?```(?P<kind>\w*)\n(?P<text>.*?)^```$"
                  r"|^<!-- test: (?P<mark>\w+) -->$|^(?P<loose>(?: {4}|\t)[^\n]+)$", re.MULTILINE | re.DOTALL)
KINDS = ("sh", "text", "json", "yaml")
LIMIT_S = 120
MOVED = (STRANGER, 51900)  # where the page's consumer goes
PAGES = {"README.md": 3, "docs/api.md": 18, "docs/guest-images.md": 3, "docs/networking.md": 2, "docs/operating.md": 5}  # blocks run


def parts(text):
    """(kind, text) of what a page has for the test, in its order: blocks by their language, "skipped" for one that is not
    run, "mark" for what the world does, "refused" for what nothing is said about."""
    for found in PART.finditer(text):
        if found["mark"]:
            yield "mark", found["mark"]
        elif found["loose"] or found["kind"] not in KINDS:
            yield "refused", found[0]
        else:
            yield "skipped" if found["why"] else found["kind"], found["text"]


class Shell:
    """One bash that reads what a person would paste; ends at the first command that fails."""

    def __init__(self, argv, environment, folder):
        self._process = subprocess.Popen(argv, env=environment, cwd=folder, stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._count = 0
        self.run("set -e")

    def run(self, text):
        """Run a block. Return: what it printed. Raise: AssertionError when a command of it failed"""
        self._count += 1
        mark = f"block-{self._count}-done"
        self._process.stdin.write(f"{text}\necho {mark}\n".encode())
        self._process.stdin.flush()
        output, until = b"", time.monotonic() + LIMIT_S
        while not output.endswith(f"{mark}\n".encode()):
            ready, _, _ = select.select([self._process.stdout], [], [], max(0, until - time.monotonic()))
            piece = os.read(self._process.stdout.fileno(), 65536) if ready else b""
            if not piece:
                raise AssertionError(f"the block failed or did not end:\n{text}\n{output.decode()}")
            output += piece
        return output.decode().removesuffix(f"{mark}\n")

    def close(self):
        """End it."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.kill()
        self._process.wait()


class Docs(DaemonCase):
    """What a reader pastes."""

    def setUp(self):
        for tool in ("jq", "sqlite3", "tshark", "bash"):
            self.assertTrue(shutil.which(tool), f"{tool} is missing: make deps")

    def start_shell(self, name):
        """A shell as the daemon's user would have it, in a folder where `make run` has been called."""
        folder = self.daemon.folder / name
        for link, target in (("run/omertad", self.daemon.runtime), ("build/run/runtime", self.daemon.runtime),
                             ("home/.local/share/omertad", self.daemon.data), ("bin/omertad", self.daemon.program),
                             ("home/.config/omertad/omertad.json", self.daemon.config_file)):
            (folder / link).parent.mkdir(parents=True)
            (folder / link).symlink_to(target)
        if not (self.daemon.data / "images").exists():
            (self.daemon.data / "images").symlink_to(self.daemon.images)
        (folder / "key.pub").write_bytes(self.lab.ssh_key.with_suffix(".pub").read_bytes())
        self.lab.user.give(folder)
        consumer = self.lab.consumer(0)
        environment = {**self.daemon.environment, "XDG_RUNTIME_DIR": str(folder / "run"), "HOME": str(folder / "home"),
                       "PATH": f"{folder / 'bin'}:{self.daemon.environment['PATH']}",
                       "SSH_KEY": str(folder / "key.pub"), "CONSUMER_KEY": consumer.public_key, "CONSUMER_ENDPOINT": consumer.endpoint,
                       "CONSUMER_MOVED": ":".join(map(str, MOVED)), "OMERTAD_TCP": f"http://127.0.0.1:{self.daemon.port}",
                       "OMERTAD": str(self.daemon.program), "OMERTAD_DATA": str(self.daemon.data),
                       "OMERTAD_IMAGES": str(self.daemon.images),
                       "OMERTAD_TOKEN_FILE": str(self.daemon.data / "token")}
        command = self.lab.prov.command(*self.lab.user.command("bash"))
        shell = Shell(command, environment, folder)
        self.addCleanup(shell.close)
        return shell

    def paste(self, page):
        """Run a page's blocks and compare what they print with what it says."""
        shell, printed, ran = self.start_shell(page.replace("/", "-")), "", 0
        for kind, text in parts((ROOT / page).read_text(encoding="utf-8")):
            self.assertNotEqual("refused", kind, f"{page}: neither run nor marked as not run:\n{text}")
            if kind == "sh":
                printed, ran = shell.run(text), ran + 1
            elif kind == "skipped":
                printed = ""
            elif kind == "text" or (kind == "json" and printed):
                for line in text.splitlines():
                    self.assertIn(line, [one.rstrip("\r") for one in printed.splitlines()], f"in:\n{printed}")
                printed = ""
            elif kind == "mark":
                getattr(self, f"do_{text}")()
        self.assertEqual(PAGES[page], ran)
        self.doCleanups()
        self.assert_nothing_left()

    def test_the_api_page_does_what_it_says(self):
        self.lab.rules.consumers.add(MOVED)
        self.addCleanup(self.lab.rules.consumers.discard, MOVED)
        self.paste("docs/api.md")

    def test_the_readme_s_session_does_what_it_says(self):
        self.paste("README.md")

    def test_the_page_of_images_does_what_it_says(self):
        self.paste("docs/guest-images.md")

    def test_the_page_of_networking_does_what_it_says(self):
        self.paste("docs/networking.md")

    def test_the_operator_s_page_does_what_it_says(self):
        self.paste("docs/operating.md")

    def test_there_is_no_other_page(self):
        self.assertEqual(sorted(PAGES), ["README.md", *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md"))])

    def test_what_is_neither_run_nor_marked_is_refused(self):
        kinds = {"```sh\ntrue\n```\n": ["sh"], "<!-- not run: minutes -->\n```sh\ntrue\n```\n": ["skipped"],
                 "```json\n{}\n```\n\n<!-- test: admit -->\n": ["json", "mark"],
                 "words\n\n    make\n": ["refused"], "words\n\n\tmake\n": ["refused"], "```\nmake\n```\n": ["refused"],
                 "```console\n$ make\n```\n": ["refused"], "<!-- not run: -->\n```sh\ntrue\n```\n": ["sh"],
                 "<!-- not run: minutes -->\n\n    make\n": ["refused"], "```sh\n    true\n```\n- word\n  word\n": ["sh"]}
        for text, expected in kinds.items():
            self.assertEqual(expected, [kind for kind, _ in parts(text)], text)

    def do_lease(self):
        """A lease runs."""
        lease = self.lease()
        lease.wait_state("running")
        return lease

    def do_break_rules(self):
        """A lease runs, and its tenant breaks the rules."""
        lease = self.do_lease()
        lease.wait_tunnel()
        self.vm = {"tunnel_ip": lease.vm_ip}
        self.do_violate()

    def do_admit(self):
        """The consumer admits the VM."""
        self.vm = self.client.get("/v1/leases")["items"][0]["vm"]
        self.lab.consumer(0).admit(self.vm["public_key"], self.vm["tunnel_ip"])
        self.addCleanup(self.lab.consumer(0).dismiss, self.vm["public_key"])

    def do_violate(self):
        """The tenant takes the guest's firewall down and tries to reach somebody else."""
        shell = guest.Shell(self.lab.world, self.vm["tunnel_ip"], self.lab.ssh_key, self.lab.ssh_log)
        self.addCleanup(shell.close)
        attack = next(one for one in self.lab.attacks(self.lab.consumer(0))
                      if one.code == guest.FOREIGN and one.ip == "8.8.8.8")
        guest.drop_firewall(shell, guest.detour_targets([attack]))
        self.assertEqual([], guest.run_attacks(shell, [attack]))
