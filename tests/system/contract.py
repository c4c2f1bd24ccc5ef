"""Holds what the system tests send and get against openapi.yaml: status, headers, media type, and bodies by their schemas.

The schemas of OpenAPI 3.1 are JSON Schema 2020-12; jsonschema judges them. Only what the daemon accepted is held
against the schemas of requests: the tests send rubbish on purpose.
"""

import functools
import json

import jsonschema
import yaml

METHODS = ("get", "put", "post", "delete", "patch")


class ContractError(AssertionError):
    """An exchange that the contract does not know."""


class _Loader(yaml.CSafeLoader):
    """YAML as JSON knows it: a time is a string."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()}


class Contract:
    """openapi.yaml, read."""

    def __init__(self, path):
        self.tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
        self._fits = functools.lru_cache(maxsize=256)(self._judge)

    def resolve(self, node):
        """What a node means: the end of its references."""
        while isinstance(node, dict) and "$ref" in node:
            target = self.tree
            for name in node["$ref"].removeprefix("#/").split("/"):
                target = target[name]
            node = target
        return node

    def operations(self):
        """(method, path, operation) of each one, with the parameters of its path added to its own."""
        for path, item in self.tree["paths"].items():
            for method in METHODS:
                if method in item:
                    shared = item.get("parameters", []) + item[method].get("parameters", [])
                    yield method.upper(), path, {**item[method], "parameters": [self.resolve(one) for one in shared]}

    def operation(self, method, path):
        """The operation that a request means: None for an unknown path, {} for an unknown method."""
        segments = path.partition("?")[0].split("/")
        best = None
        for template, item in self.tree["paths"].items():
            parts = template.split("/")
            fits = len(parts) == len(segments) and all(
                part == segment or (part.startswith("{") and segment) for part, segment in zip(parts, segments))
            if fits and (best is None or "{" not in template):
                best = item
        return None if best is None else best.get("get" if method == "HEAD" else method.lower(), {})

    # ---- one exchange

    def check(self, method, path, status, headers, body, sent=None):
        """Raise ContractError unless this may be an answer to that.

        @headers: of the answer, a mapping that does not mind case
        @sent:    bytes of a JSON request body
        """
        what = f"{method} {path}: {status}"
        operation = self.operation(method, path)
        response = self._response(operation, method, status, what)
        for name, header in response.get("headers", {}).items():
            self._check_header(self.resolve(header), headers.get(name), f"{what}: {name}")
        content = response.get("content", {})
        if method == "HEAD" or not content:
            if body:
                raise ContractError(f"{what} has a body")
            return
        media_type = headers.get("Content-Type", "")
        if media_type not in content:
            raise ContractError(f"{what} with {media_type}, not {list(content)}: {body[:200]!r}")
        if media_type.endswith("json"):
            self.match(content[media_type]["schema"], body, what)
            if status >= 400 and json.loads(body)["status"] != status:
                raise ContractError(f"{what}, but the document says {json.loads(body)['status']}")
        if sent is not None and status < 300 and operation.get("requestBody"):
            wanted = self.resolve(operation["requestBody"])["content"]["application/json"]["schema"]
            self.match(wanted, sent, f"{what}: it was accepted")

    def _response(self, operation, method, status, what):
        """The documented response, with what belongs to no operation in itself."""
        if not operation:
            if method == "OPTIONS" and status == 204 and operation is not None:
                return {}
            if status < 400:
                raise ContractError(f"{what}: openapi.yaml has no such operation")
            return self.tree["components"]["responses"]["Problem"]
        response = self.resolve(operation["responses"].get(str(status)))
        if response is None and status in (408, 414, 431):  # about the request's form, before it has an operation
            response = self.tree["components"]["responses"]["Problem"]
        if response is None:
            raise ContractError(f"{what} is not in openapi.yaml")
        return response

    def _check_header(self, header, value, where):
        if value is None:
            if header.get("required"):
                raise ContractError(f"{where} is missing")
            return
        is_number = header["schema"].get("type") == "integer" and value.isdigit()
        self.match(header["schema"], (value if is_number else json.dumps(value)).encode(), where)

    # ---- one value

    def match(self, schema, body, where):
        """Raise ContractError unless the JSON in @body is valid by @schema, a part of this document."""
        complaint = self._fits(json.dumps(schema), body)
        if complaint:
            raise ContractError(f"{where}: {complaint}")

    def _judge(self, schema, body):
        # References begin at the root of the document, so the schema is put beside what they lead to.
        root = {"components": self.tree["components"], "allOf": [json.loads(schema)]}
        errors = jsonschema.Draft202012Validator(root).iter_errors(json.loads(body))
        worst = jsonschema.exceptions.best_match(errors)
        return worst and f"{worst.json_path}: {worst.message[:400]}"
