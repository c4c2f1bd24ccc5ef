"""The house rules that a compiler does not know: which folder may include what, and that every header stands alone."""

import os
import pathlib
import re
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

# The build that is judged: run.py names it.
BUILD = pathlib.Path(os.environ.get("OMERTAD", ROOT / "build" / "host" / "omertad")).resolve().parent

# folder -> folders that it may include from; base is everybody's
MAY_INCLUDE = {
    "base": set(),
    "nat": set(),
    "store": set(),
    "vmm": {"nat"},
    "api": {"nat", "vmm", "store"},
}
# Inside of api/: folder -> those of its folders that it may include from. main.c sees the subcommands.
API_MAY_INCLUDE = {
    "json": set(),
    "host": set(),
    "http": {"json"},
    "lease": {"json", "host"},
    "config": {"json", "http", "lease"},
    "resource": {"json", "host", "http", "lease", "config"},
    "command": {"json", "host", "http", "lease", "config", "resource"},
    "main.c": {"command", "host"},
}
# What a folder shows to others; base shows all of its headers.
PUBLIC = {"nat/nat.h", "vmm/vmm.h", "store/store.h", "store/lease.h"}
# Only these may see a library.
LIBRARY_OWNERS = {"microhttpd.h": {"api/http/http.c"}, "sqlite3.h": {"store"}, "libisofs/libisofs.h": {"vmm/volume.c"},
                  "seccomp.h": {"base/confine.c"}}

# Sections whose contents may change; .data.rel.ro is constant once the loader has filled in addresses.
WRITABLE = re.compile(r"(\.data(?!\.rel\.ro)|\.bss|\.tdata|\.tbss|\*COM\*)")

INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]', re.MULTILINE)


def sources():
    """Every C file and header of the five folders, as paths from the root."""
    for folder in MAY_INCLUDE:
        yield from sorted(path.relative_to(ROOT) for path in (ROOT / folder).rglob("*.[ch]"))


def includes(path):
    """(quote, name) of each include in a file."""
    return INCLUDE.findall((ROOT / path).read_text())


def api_complaint(path, name):
    """As complaint(), for an include from api/ into api/."""
    here, there = path.parts[1], name.split("/")[1]
    if here == there or there in API_MAY_INCLUDE[here]:
        return None
    return f"api/{here} must not see api/{there}"


def complaint(path, quote, name):
    """Why this include is against the rules, or None."""
    folder = path.parts[0]
    owners = LIBRARY_OWNERS.get(name)
    if owners is not None and not (str(path) in owners or folder in owners):
        return f"{name} is for {', '.join(sorted(owners))} alone"
    if quote == "<" or name == "embed.h":
        return None
    target = name.split("/")[0]
    if target not in MAY_INCLUDE:
        return f"{name} is not named from the root"
    if target == folder == "api":
        return api_complaint(path, name)
    if target in (folder, "base"):
        return None
    if target not in MAY_INCLUDE[folder]:
        return f"{folder} must not see {target}"
    if name not in PUBLIC:
        return f"{name} is {target}'s own"
    return None


class Layers(unittest.TestCase):
    def test_includes_run_one_way(self):
        found = [f"{path}: {why}" for path in sources() for quote, name in includes(path)
                 if (why := complaint(path, quote, name))]
        self.assertEqual(found, [])

    def test_a_wrong_include_is_noticed(self):
        wrong = [("nat/x.c", '"', "store/store.h"), ("store/x.c", '"', "vmm/vmm.h"), ("vmm/x.c", '"', "store/store.h"),
                 ("api/lease/x.c", '"', "nat/worker.h"), ("base/x.c", '"', "nat/nat.h"), ("api/lease/x.c", "<", "microhttpd.h"),
                 ("nat/x.c", '"', "packet.h"), ("api/http/x.c", '"', "api/lease/journal.h"),
                 ("api/lease/x.c", '"', "api/http/request.h"), ("api/json/x.c", '"', "api/host/notify.h")]
        for path, quote, name in wrong:
            self.assertIsNotNone(complaint(pathlib.PurePath(path), quote, name), (path, name))

    def test_every_folder_has_files(self):
        for folder in MAY_INCLUDE:
            self.assertTrue(list((ROOT / folder).glob("*.c")), folder)
        self.assertEqual({path.name for path in (ROOT / "api").iterdir()}, set(API_MAY_INCLUDE))

    def test_own_header_comes_first(self):
        for path in sources():
            if path.suffix == ".c" and (ROOT / path.with_suffix(".h")).exists():
                self.assertEqual(includes(path)[0][1], str(path.with_suffix(".h")), path)

    def test_every_header_compiles_alone_with_its_guard(self):
        for path in sources():
            if path.suffix != ".h":
                continue
            guard = str(path).upper().replace("/", "_").replace(".", "_")
            self.assertIn(f"#ifndef {guard}\n#define {guard}\n", (ROOT / path).read_text(), path)
            done = subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I.",
                                   f"-I{BUILD}/embed", "-fsyntax-only", "-x", "c", "-include", str(path), "/dev/null"], cwd=ROOT,
                                  capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, f"{path}: {done.stderr}")

    def test_a_verdict_is_decided_at_one_place(self):
        callers = [str(path) for path in sources() if path.suffix == ".c"
                   and re.search(r"\bverdict_decide\(", (ROOT / path).read_text()) and path.name != "verdict.c"]
        self.assertEqual(callers, ["nat/judge.c"])
        # ... from which the data path and the evaluation of a described packet have it, and nobody else.
        users = [str(path) for path in sources() if path.suffix == ".c"
                 and re.search(r"\bjudge_packet\(", (ROOT / path).read_text()) and path.name != "judge.c"]
        self.assertEqual(users, ["nat/worker.c"])

    def test_json_text_is_freed_by_the_one_file_that_knows_how(self):
        """jansson allocates with what main() gives it, so free() would be wrong for what json_dumps() returns."""
        users = [str(path) for path in sources() if re.search(r"\bjson_dumps\(", (ROOT / path).read_text())]
        self.assertEqual(users, ["api/http/response.c"])

    def test_there_are_no_mutable_globals(self):
        """Objects built from the five folders put nothing into a section that can be written once the program runs."""
        found = []
        objects = [path for folder in MAY_INCLUDE for path in sorted((BUILD / folder).rglob("*.o"))]
        self.assertGreater(len(objects), len(MAY_INCLUDE))
        for path in objects:
            symbols = subprocess.run(["objdump", "-t", str(path)], capture_output=True, text=True, check=True).stdout
            for line in symbols.splitlines():
                entry = re.match(r"[0-9a-f]+ .{6}O (\S+)\s+[0-9a-f]+ (?:\.hidden )?(\S+)", line)
                if entry and WRITABLE.match(entry.group(1)):
                    found.append(f"{path.parent.name}/{path.stem}: {entry.group(2)}")
        self.assertEqual(found, [])


if __name__ == "__main__":
    unittest.main()
