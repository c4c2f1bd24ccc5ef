"""The judge of all answers itself: it must see what is wrong, or its silence says nothing."""

import json
import unittest

from contract import ContractError
from daemon import CONTRACT

ID = "018f0000-0000-7000-8000-000000000000"
JSON = "application/json"
PROBLEM = {"type": "/v1/problems/not-found", "title": "No", "status": 404, "detail": "No.", "retryable": False}


class Checks(unittest.TestCase):
    """Exchanges against openapi.yaml."""

    @staticmethod
    def check(method, path, status, body, kind=JSON, sent=None, **headers):
        """Judge one exchange."""
        headers = {"Content-Type": kind, **headers}
        CONTRACT.check(method, path, status, headers, json.dumps(body).encode(), sent and json.dumps(sent).encode())

    def refuses(self, *exchange, **more):
        """The contract refuses such an exchange."""
        with self.assertRaises(ContractError):
            self.check(*exchange, **more)

    def test_good_answers_pass(self):
        self.check("GET", "/healthz", 200, {"status": "ok"})
        self.check("GET", "/nowhere", 404, PROBLEM, "application/problem+json")
        CONTRACT.check("OPTIONS", "/v1/leases", 204, {}, b"")

    def test_bad_answers_do_not(self):
        self.refuses("GET", "/healthz", 200, {"status": "ok", "more": 1})
        self.refuses("GET", "/healthz", 200, {})
        self.refuses("GET", "/healthz", 200, {"status": "ok"}, "text/plain")
        self.refuses("GET", "/healthz", 201, {"status": "ok"})
        self.refuses("GET", "/healthz", 418, {**PROBLEM, "status": 418}, "application/problem+json")
        self.refuses("GET", "/nowhere", 404, PROBLEM)
        self.refuses("GET", "/nowhere", 403, PROBLEM, "application/problem+json")
        self.refuses("OPTIONS", "/nowhere", 204, {})
        self.refuses("GET", f"/v1/leases/{ID}", 200, {"id": ID})
        self.refuses("GET", "/v1/leases", 200, {"items": [{}], "next_cursor": None})

    def test_headers_are_judged(self):
        problem = {**PROBLEM, "status": 401}
        self.check("GET", "/v1/node", 401, problem, "application/problem+json", **{"WWW-Authenticate": "Bearer"})
        self.refuses("GET", "/v1/node", 401, problem, "application/problem+json", **{"WWW-Authenticate": "Basic"})
        self.refuses("GET", "/v1/node", 401, problem, "application/problem+json")

    def test_a_request_that_was_accepted_must_be_one_of_the_contract(self):
        schemas = CONTRACT.tree["components"]["schemas"]
        request, answer = schemas["LeaseRequest"]["examples"][0], schemas["Lease"]["examples"][0]
        headers = {"Location": f"/v1/leases/{ID}", "ETag": '"1"'}
        self.check("POST", "/v1/leases", 202, answer, sent=request, **headers)
        self.refuses("POST", "/v1/leases", 202, answer, sent={**request, "more": 1}, **headers)
        self.refuses("POST", "/v1/leases", 202, answer, sent=request, ETag='"1"')
