"""openapi.yaml before the tools of others: Redocly's rules, and a client in TypeScript whose types are made from it.

make contract puts the tools below build/contract and compiles the client; here they are asked, and each is shown a
fault that it has to find. The client itself leases a VM in tests/system/test_client.py.
"""

import pathlib
import re
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ROOT / "build" / "contract"
HERE = ROOT / "tests" / "contract"
LIMIT_S = 180


def lint(document):
    """Redocly's complaints about a document. Return: (exit code, text)"""
    done = subprocess.run(["node", TOOLS / "lint.mjs", document, HERE / "redocly.yaml"], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, cwd=TOOLS, timeout=LIMIT_S)
    return done.returncode, done.stdout


class Lint(unittest.TestCase):
    """Redocly."""

    def test_the_document_is_clean(self):
        code, text = lint(ROOT / "openapi.yaml")
        self.assertEqual(0, code, text)

    def test_a_fault_is_found(self):
        text = (ROOT / "openapi.yaml").read_text(encoding="utf-8")
        faults = {"operation-operationId-unique": text.replace("operationId: getNode", "operationId: getLease"),
                  "no-unresolved-refs": text.replace("schemas/LeasePage'", "schemas/LeasePages'"),
                  "no-invalid-schema-examples": text.replace("ttl_s: 3600", "ttl_s: soon")}
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "openapi.yaml"
            for rule, faulty in faults.items():
                self.assertNotEqual(text, faulty, rule)
                path.write_text(faulty, encoding="utf-8")
                code, said = lint(path)
                self.assertEqual(1, code, rule)
                self.assertIn(rule, said)


class Types(unittest.TestCase):
    """The client's types."""

    def test_types_and_client_are_those_of_the_document(self):
        made = TOOLS / "client.js"
        self.assertTrue(made.exists(), "run make contract")
        self.assertGreaterEqual(made.stat().st_mtime, (ROOT / "openapi.yaml").stat().st_mtime, "run make contract")

    def test_a_client_with_a_wrong_field_does_not_compile(self):
        source = (HERE / "client.ts").read_text(encoding="utf-8")
        wrong, count = re.subn(r"ended\.termination\?\.reason,", "ended.termination?.because,", source)
        self.assertEqual(1, count)
        config = (HERE / "tsconfig.json").read_text(encoding="utf-8")
        for name, text in (("wrong.ts", wrong), ("wrong.json", config.replace("client.ts", "wrong.ts"))):
            (TOOLS / name).write_text(text, encoding="utf-8")
        done = subprocess.run(["node_modules/.bin/tsc", "-p", "wrong.json"], cwd=TOOLS, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=LIMIT_S)
        self.assertNotEqual(0, done.returncode)
        self.assertIn("'because' does not exist", done.stdout)
        self.assertFalse((TOOLS / "wrong.js").exists())


if __name__ == "__main__":
    unittest.main()
