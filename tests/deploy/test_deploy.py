#!/usr/bin/env python3
"""What reaches an operator's machine beside the program: manual, completions, service files, examples, installation.

The program is asked for its options and the source for its keys, so that none of these can fall behind.
"""

import json
import os
import pathlib
import plistlib
import re
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PROGRAM = pathlib.Path(os.environ.get("OMERTAD", ROOT / "build/host/omertad")).resolve()
MANUALS = sorted((DEPLOY / "man").iterdir())


def run(*argv, **keywords):
    """Run a command. Return: subprocess.CompletedProcess with text"""
    return subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False, timeout=120,
                          cwd=ROOT, **keywords)


def commands():
    """The subcommands that the program's usage names."""
    usage = run(PROGRAM, "--help").stdout
    return ["serve"] + [word for word in re.findall(r"^ +omertad ([a-z]+)", usage, re.MULTILINE)]


def options_of(command):
    """The options that a command's own help names."""
    return set(re.findall(r"--[a-z][a-z-]*", run(PROGRAM, command, "--help").stdout))


def configuration_keys():
    """Every key that the configuration's reader knows."""
    text = (ROOT / "api/config/config.c").read_text(encoding="utf-8")
    lists = re.findall(r"static const char \*const keys\[\] = \{(.*?)NULL\}", text, re.DOTALL)
    return {key for words in lists for key in re.findall(r'"(\w+)"', words)}


def with_bindir(path, folder):
    """A service file as it is installed, with the program in @folder."""
    return path.read_text(encoding="utf-8").replace("@BINDIR@", str(folder))


class Manual(unittest.TestCase):
    def test_pages_are_well_formed(self):
        for page in MANUALS:
            done = run("mandoc", "-Tlint", "-W", "warning", page)
            self.assertEqual((0, ""), (done.returncode, done.stdout + done.stderr))

    def test_page_1_names_every_command_and_option(self):
        page = (DEPLOY / "man/omertad.1").read_text(encoding="utf-8")
        self.assertGreater(len(commands()), 3)
        for command in commands():
            self.assertIn(f".Ss {command}\n", page)
            section = page.partition(f".Ss {command}\n")[2]
            for option in options_of(command) - {"--help"}:
                self.assertIn(f"Fl -{option[2:]}", page if command in ("doctor", "image") else section,
                              f"{command} {option}")

    def test_page_5_names_every_key(self):
        page = (DEPLOY / "man/omertad.json.5").read_text(encoding="utf-8")
        keys = configuration_keys()
        self.assertGreater(len(keys), 20)
        known = set(re.findall(r"^\.(?:It Cm|Ss) (\w+)", page, re.MULTILINE))
        self.assertEqual(set(), keys - known)


class Completion(unittest.TestCase):
    def _bash(self, *words):
        script = ('source deploy/completion/omertad.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _omertad; '
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        return set(run("bash", "-c", script, "bash", "omertad", *words).stdout.split())

    def test_bash_completes_every_command_and_option(self):
        self.assertLessEqual(set(commands()), self._bash(""))
        for command in commands():
            self.assertEqual(options_of(command) | {"--help"}, {word for word in self._bash(command, "--")}, command)

    def test_bash_completes_values(self):
        self.assertEqual({"filtered", "conntrack", "sampled"}, self._bash("nat", "--mode", ""))
        self.assertEqual({"terminate"}, self._bash("nat", "--on-violation", "t"))
        self.assertIn("deploy", self._bash("serve", "--data", "dep"))
        self.assertEqual(set(), self._bash("nat", "--mtu", ""))

    def test_zsh_completion_parses_and_names_every_option(self):
        self.assertEqual("", run("zsh", "-n", DEPLOY / "completion/_omertad").stderr)
        text = (DEPLOY / "completion/_omertad").read_text(encoding="utf-8")
        for command in commands():
            for option in options_of(command):
                self.assertRegex(text, f"'\\*?{option}\\[", f"{command} {option}")


class Service(unittest.TestCase):
    def test_systemd_takes_the_unit(self):
        with tempfile.TemporaryDirectory() as folder:
            unit = pathlib.Path(folder, "omertad.service")
            unit.write_text(with_bindir(DEPLOY / "systemd/omertad.service.in", PROGRAM.parent), encoding="ascii")
            environment = {**os.environ, "XDG_RUNTIME_DIR": folder}
            done = run("systemd-analyze", "--user", "--man=no", "verify", unit, env=environment)
            self.assertEqual((0, ""), (done.returncode, done.stdout + done.stderr))
            unit.write_text(unit.read_text(encoding="ascii") + "\n[Service]\nNoNewPrivilege=yes\n", encoding="ascii")
            done = run("systemd-analyze", "--user", "--man=no", "verify", unit, env=environment)
            self.assertIn("NoNewPrivilege", done.stderr, "a wrong key is noticed")

    def test_the_unit_is_hardened_as_far_as_leases_allow(self):
        with tempfile.TemporaryDirectory() as folder:
            unit = pathlib.Path(folder, "omertad.service")
            unit.write_text(with_bindir(DEPLOY / "systemd/omertad.service.in", PROGRAM.parent), encoding="ascii")
            done = run("systemd-analyze", "security", "--offline=true", "--json=short", unit,
                       env={**os.environ, "XDG_RUNTIME_DIR": folder})
            found = {row["json_field"]: row["set"] for row in json.loads(done.stdout)}
        for field in ("NoNewPrivileges", "RestrictSUIDSGID", "RestrictRealtime", "LockPersonality",
                      "SystemCallFilter_raw_io", "SystemCallFilter_module", "SystemCallFilter_reboot",
                      "SystemCallArchitectures", "RestrictAddressFamilies_AF_PACKET", "UMask"):
            self.assertIs(found.get(field), True, field)

    def test_launchd_gets_a_property_list(self):
        agent = plistlib.loads(with_bindir(DEPLOY / "launchd/omertad.plist.in", "/opt/bin").encode())
        self.assertEqual("omertad", agent["Label"])
        self.assertIn('exec "/opt/bin/omertad" serve', agent["ProgramArguments"][2])
        self.assertEqual(0o077, agent["Umask"])
        self.assertEqual(run("sh", "-n", "-c", agent["ProgramArguments"][2]).returncode, 0)


class Examples(unittest.TestCase):
    def test_every_configuration_is_taken(self):
        files = sorted(set((DEPLOY / "examples").glob("*.json")) - {DEPLOY / "examples/lease.json"})
        self.assertGreaterEqual(len(files), 2)
        for file in files:
            with tempfile.TemporaryDirectory() as folder:
                done = run(PROGRAM, "image", "list", "--config", file, "--data", folder, "--images", folder)
            self.assertNotEqual(2, done.returncode, done.stderr)  # 2: the configuration is wrong

    def test_a_wrong_one_is_refused(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write('{"network": {"mod": "filtered"}}')
            file.flush()
            done = run(PROGRAM, "doctor", "--config", file.name)
        self.assertEqual(2, done.returncode)
        self.assertIn("network.mod", done.stderr)


class Documents(unittest.TestCase):
    PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))]

    def test_commands_in_them_are_the_program_s(self):
        known = {command: options_of(command) | {"--help"} for command in commands()}
        seen = 0
        for name in self.PAGES:
            for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
                for command, rest in re.findall(r"\bomertad ([a-z]+)((?: --?[a-z-]+(?: [^-` #|;]\S*)?)*)", line):
                    if command in known:
                        seen += 1
                        self.assertLessEqual(set(re.findall(r"--[a-z-]+", rest)), known[command], f"{name}: {line}")
        self.assertGreater(seen, 12)

    def test_files_that_they_name_are_there(self):
        for name in self.PAGES:
            for path in re.findall(r"\bdeploy/[\w./-]*\w", (ROOT / name).read_text(encoding="utf-8")):
                self.assertTrue((ROOT / path).exists(), f"{name}: {path}")

    def test_what_they_link_to_is_there(self):
        seen = 0
        for name in self.PAGES:
            for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / name).read_text(encoding="utf-8")):
                seen += 1
                self.assertTrue(((ROOT / name).parent / target).exists(), f"{name}: {target}")
        self.assertGreater(seen, 15)

    def test_targets_that_they_name_are_the_makefile_s(self):
        targets = set(re.search(r"^\.PHONY:(.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[1].split())
        seen = 0
        for name in self.PAGES:
            for target in re.findall(r"(?:^ *|`)make ([a-z][a-z0-9-]*)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE):
                seen += 1
                self.assertIn(target, targets, name)
        self.assertGreater(seen, 8)


class Install(unittest.TestCase):
    WANTED = {
        "bin/omertad", "share/man/man1/omertad.1", "share/man/man5/omertad.json.5",
        "share/bash-completion/completions/omertad", "share/zsh/site-functions/_omertad",
        "lib/systemd/user/omertad.service", "share/doc/omertad/README.md", "share/doc/omertad/openapi.yaml",
        "share/doc/omertad/examples/strict.json", "share/omertad/guest/build-micro.sh",
        "share/omertad/guest/micro/init",
    }

    def test_everything_arrives_below_destdir_and_names_its_prefix(self):
        with tempfile.TemporaryDirectory() as folder:
            done = run("make", "--no-print-directory", "install", f"DESTDIR={folder}", "PREFIX=/opt/o")
            self.assertEqual(0, done.returncode, done.stdout + done.stderr)
            base = pathlib.Path(folder, "opt/o")
            there = {str(path.relative_to(base)) for path in base.rglob("*") if path.is_file()}
            self.assertEqual(set(), self.WANTED - there)
            self.assertEqual(["opt"], os.listdir(folder))
            self.assertIn("ExecStart=/opt/o/bin/omertad serve",
                          (base / "lib/systemd/user/omertad.service").read_text(encoding="ascii"))
            self.assertTrue(os.access(base / "share/omertad/guest/build-micro.sh", os.X_OK))


if __name__ == "__main__":
    unittest.main()
