"""The contract's own reader: it must see what is wrong, or its silence says nothing."""

import json
import unittest

from contract import Block, ContractError
from daemon import CONTRACT

ID = "018f0000-0000-7000-8000-000000000000"


class Reader(unittest.TestCase):
    """The part of YAML that openapi.yaml is written in."""

    def test_collections_and_scalars(self):
        lines = ["a:", "  - {b: [1, 'x: y'], c: null}", "  - d: |", "      one", "      two", "    e: true", "# no",
                 'f: "q\\n"', "g: -2"]
        value = {"a": [{"b": [1, "x: y"], "c": None}, {"d": "one\ntwo", "e": True}], "f": "q\n", "g": -2}
        self.assertEqual(value, Block("\n".join(lines)).value())

    def test_what_is_not_understood_is_an_error(self):
        with self.assertRaises(ValueError):
            Block("a: b\nplain text that goes on\n").value()


class Checks(unittest.TestCase):
    """Answers against openapi.yaml."""

    def refuses(self, method, path, status, body, kind="application/json"):
        """The contract refuses such an answer."""
        with self.assertRaises(ContractError):
            CONTRACT.check(method, path, status, kind, json.dumps(body).encode())

    def test_good_answers_pass(self):
        CONTRACT.check("GET", "/healthz", 200, "application/json", b'{"status": "ok"}')
        problem = {"type": "/v1/problems/not-found", "title": "No", "status": 404, "detail": "No.", "retryable": False}
        CONTRACT.check("GET", "/nowhere", 404, "application/problem+json", json.dumps(problem).encode())

    def test_bad_answers_do_not(self):
        problem = {"type": "/v1/problems/not-found", "title": "No", "status": 404, "detail": "No.", "retryable": False}
        self.refuses("GET", "/healthz", 200, {"status": "ok", "more": 1})
        self.refuses("GET", "/healthz", 200, {})
        self.refuses("GET", "/healthz", 200, {"status": "ok"}, "text/plain")
        self.refuses("GET", "/healthz", 201, {"status": "ok"})
        self.refuses("GET", "/nowhere", 404, problem)
        self.refuses("GET", "/nowhere", 403, problem, "application/problem+json")
        self.refuses("GET", f"/v1/leases/{ID}", 200, {"id": ID})
        self.refuses("GET", "/v1/leases", 200, {"items": [{}], "next_cursor": None})
