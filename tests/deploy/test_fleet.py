#!/usr/bin/env python3
"""What runs and watches many daemons: Prometheus' configuration and alerts, the dashboard, jobs of schedulers.

Prometheus' own tool judges its files; names of metrics, options and exit codes are compared with the source, so that
nothing here can speak of what does not exist. Nomad's and Kubernetes' files are read, not run.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PROGRAM = pathlib.Path(os.environ.get("OMERTAD", ROOT / "build/host/omertad")).resolve()
METRIC = re.compile(r"\b((?:omertad|process)_[a-z_]+)\b")
SUFFIX = re.compile(r"_(bucket|sum|count)$")


def run(*argv, **keywords):
    """Run a command. Return: subprocess.CompletedProcess with text"""
    return subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False, timeout=120,
                          cwd=ROOT, **keywords)


def promtool(*arguments):
    """Run Prometheus' tool, as make fetched it or as it is installed. Return: (exit code, what it says)"""
    made = ROOT / "build/tools/promtool"
    done = run(made if made.exists() else shutil.which("promtool") or "promtool", *arguments)
    return done.returncode, done.stdout + done.stderr


def known_metrics():
    """Names that the daemon's source gives to Prometheus."""
    return set(METRIC.findall((ROOT / "api/resource/handle_metrics.c").read_text(encoding="utf-8")))


def expressions():
    """Every expression of the dashboard, with its panel's title."""
    board = json.loads((DEPLOY / "grafana/omertad.json").read_text(encoding="utf-8"))
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def exit_codes():
    """Exit codes of `omertad run` that its header has."""
    text = (ROOT / "api/command/run_exit.h").read_text(encoding="utf-8")
    return {int(code) for code in re.findall(r"RUN_\w+ = (\d+)", text)}


class Prometheus(unittest.TestCase):
    def test_the_scrape_configuration_is_good(self):
        text = (DEPLOY / "prometheus/prometheus.yml").read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            token = pathlib.Path(folder, "token")
            token.write_text("omt_x", encoding="ascii")
            shutil.copy(DEPLOY / "prometheus/alerts.yml", folder)
            config = pathlib.Path(folder, "prometheus.yml")
            config.write_text(re.sub(r"credentials_file: .*", f"credentials_file: {token}", text), encoding="utf-8")
            code, said = promtool("check", "config", config)
            self.assertEqual(0, code, said)

    def test_alerts_do_what_their_tests_say_and_each_has_one(self):
        code, said = promtool("test", "rules", "deploy/prometheus/alerts_test.yml")
        self.assertEqual(0, code, said)
        rules = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
        tests = yaml.safe_load((DEPLOY / "prometheus/alerts_test.yml").read_text(encoding="utf-8"))["tests"]
        fired = {check["alertname"] for test in tests for check in test["alert_rule_test"] if check["exp_alerts"]}
        self.assertEqual({rule["alert"] for rule in rules}, fired)

    def test_alerts_speak_of_metrics_and_labels_that_exist(self):
        text = (DEPLOY / "prometheus/alerts.yml").read_text(encoding="utf-8")
        names = {SUFFIX.sub("", name) for name in METRIC.findall(text)}
        self.assertGreater(len(names), 6)
        self.assertEqual(set(), names - known_metrics())
        reasons = set(re.findall(r'"([a-z_]+)"', (ROOT / "store/lease.c").read_text(encoding="utf-8")))
        for group in re.findall(r'reason=~?"([a-z_|]+)"', text):
            self.assertEqual(set(), set(group.split("|")) - reasons)


class Grafana(unittest.TestCase):
    def test_the_dashboard_shows_metrics_that_exist(self):
        shown = {SUFFIX.sub("", name) for _, text in expressions() for name in METRIC.findall(text)}
        self.assertGreater(len(shown), 15)
        self.assertEqual(set(), shown - known_metrics())

    def test_every_expression_is_one(self):
        rules = [{"record": f"panel:{number}", "expr": text.replace("$__rate_interval", "5m").replace("$instance", ".*")}
                 for number, (_, text) in enumerate(expressions())]
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}, file)
            file.flush()
            code, said = promtool("check", "rules", file.name)
        self.assertEqual(0, code, said)

    def test_panels_have_their_own_place(self):
        board = json.loads((DEPLOY / "grafana/omertad.json").read_text(encoding="utf-8"))
        taken = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            cells = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
            self.assertFalse(taken & cells, panel["title"])
            self.assertLessEqual(place["x"] + place["w"], 24)
            taken |= cells
        self.assertEqual(len(board["panels"]), len({panel["id"] for panel in board["panels"]}))


class Kubernetes(unittest.TestCase):
    def setUp(self):
        self.job = yaml.safe_load((DEPLOY / "kubernetes/lease-job.yaml").read_text(encoding="utf-8"))
        self.pod = self.job["spec"]["template"]["spec"]
        self.container = self.pod["containers"][0]

    def test_the_pod_has_no_rights_beyond_the_socket(self):
        self.assertEqual(("batch/v1", "Job", "Never"), (self.job["apiVersion"], self.job["kind"], self.pod["restartPolicy"]))
        self.assertTrue(self.pod["securityContext"]["runAsNonRoot"])
        self.assertFalse(self.container["securityContext"]["allowPrivilegeEscalation"])
        self.assertTrue(self.container["securityContext"]["readOnlyRootFilesystem"])
        self.assertEqual(["ALL"], self.container["securityContext"]["capabilities"]["drop"])
        self.assertFalse(self.pod["automountServiceAccountToken"])
        self.assertNotIn("hostNetwork", self.pod)

    def test_its_command_and_exit_codes_are_the_program_s(self):
        words = self.container["command"]
        self.assertEqual(["omertad", "run"], words[:2])
        known = run(PROGRAM, "run", "--help").stdout
        for option in (word for word in words if word.startswith("--")):
            self.assertIn(option, known)
        for rule in self.job["spec"]["podFailurePolicy"]["rules"]:
            self.assertLessEqual(set(rule["onExitCodes"]["values"]), exit_codes())

    def test_kustomize_takes_it(self):
        self.assertEqual((DEPLOY / "examples/lease.json").read_bytes(), (DEPLOY / "kubernetes/lease.json").read_bytes())
        if not shutil.which("kubectl"):
            self.skipTest("no kubectl")
        done = run("kubectl", "kustomize", DEPLOY / "kubernetes")
        self.assertEqual(0, done.returncode, done.stderr)
        kinds = [document["kind"] for document in yaml.safe_load_all(done.stdout)]
        self.assertEqual(["ConfigMap", "Job"], sorted(kinds))


class Nomad(unittest.TestCase):
    def test_jobs_call_the_program_as_it_is(self):
        for name, command in (("omertad.nomad.hcl", "serve"), ("lease.nomad.hcl", "run")):
            text = (DEPLOY / "nomad" / name).read_text(encoding="utf-8")
            plain = re.sub(r"#.*|\"[^\"]*\"", "", text)
            self.assertEqual(plain.count("{"), plain.count("}"), name)
            words = re.findall(r'"([^"]*)"', re.search(r"args\s*=\s*\[(.*?)\]", text).group(1))
            self.assertEqual(command, words[0])
            known = run(PROGRAM, command, "--help").stdout
            for option in (word for word in words if word.startswith("--")):
                self.assertIn(option, known)

    def test_the_health_check_is_a_route(self):
        text = (DEPLOY / "nomad/omertad.nomad.hcl").read_text(encoding="utf-8")
        path = re.search(r'path\s*=\s*"([^"]+)"', text).group(1)
        self.assertIn(f'"{path}"', (ROOT / "api/resource/route_table.c").read_text(encoding="utf-8"))


if __name__ == "__main__":
    unittest.main()
