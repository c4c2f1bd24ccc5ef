"""What openapi.yaml has to say that no linter knows of: which errors, which examples, which headers."""

import pathlib
import sys
import unittest

import jsonschema

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "system"))

from contract import Contract, ContractError  # noqa: E402

CONTRACT = Contract(ROOT / "openapi.yaml")
# What any operation may answer, and the component that says it best.
EVERY_ERROR = {
    "400": "BadRequest", "401": "Unauthorized", "403": "Forbidden", "404": "NotFound", "405": "MethodNotAllowed",
    "406": "NotAcceptable", "413": "BodyTooLarge", "415": "UnsupportedMediaType", "421": "Misdirected",
    "422": "Unprocessable", "429": "TooManyRequests", "500": "InternalError", "503": "Unavailable"}


def bodies():
    """(where, media type object) of every JSON body, of requests and of responses."""
    for method, path, operation in CONTRACT.operations():
        parts = {"request": operation.get("requestBody", {}), **operation["responses"]}
        for name, part in parts.items():
            for kind, media in CONTRACT.resolve(part).get("content", {}).items():
                if kind.endswith("json"):
                    yield f"{method} {path}: {name}", media


def values_of(media):
    """The examples of a body: its own, or else those of its schema."""
    own = [CONTRACT.resolve(example)["value"] for example in media.get("examples", {}).values()]
    return own or CONTRACT.resolve(media["schema"]).get("examples", [])


def objects(node):
    """Every schema of an object with members of its own, in a part of the document."""
    if isinstance(node, dict):
        if node.get("type") == "object" and "properties" in node:
            yield node
        for child in node.values():
            yield from objects(child)
    elif isinstance(node, list):
        for child in node:
            yield from objects(child)


class Document(unittest.TestCase):
    """openapi.yaml by itself."""

    def test_schemas_are_json_schemas(self):
        for name, schema in CONTRACT.tree["components"]["schemas"].items():
            with self.subTest(name):
                jsonschema.Draft202012Validator.check_schema(schema)

    def test_every_operation_lists_what_every_operation_may_answer(self):
        lines = []
        for method, path, operation in CONTRACT.operations():
            is_open = operation.get("security") == []
            lines += [f"{method} {path} lacks   '{code}': {{$ref: '#/components/responses/{name}'}}"
                      for code, name in EVERY_ERROR.items()
                      if code not in operation["responses"] and not (is_open and code == "401")]
        self.assertEqual([], lines, "\n" + "\n".join(lines))

    def test_every_json_body_has_examples_and_they_are_valid(self):
        for where, media in bodies():
            values = values_of(media)
            self.assertTrue(values, f"{where} has no example: give its schema `examples`")
            validator = jsonschema.Draft202012Validator(
                {"components": CONTRACT.tree["components"], "allOf": [media["schema"]]})
            for value in values:
                faults = [f"{fault.json_path}: {fault.message[:200]}" for fault in validator.iter_errors(value)]
                self.assertEqual([], faults, where)

    def test_objects_are_closed(self):
        """additionalProperties is what makes the judge of answers see a field that nobody wrote down."""
        known = list(objects(CONTRACT.tree["components"]["schemas"]))
        self.assertGreater(len(known), 20)
        for schema in known:
            self.assertIn("additionalProperties", schema, sorted(schema["properties"]))

    def test_members_that_are_required_are_defined(self):
        for schema in objects(CONTRACT.tree["components"]["schemas"]):
            self.assertEqual([], sorted(set(schema.get("required", [])) - set(schema["properties"])))

    def test_what_may_be_tried_again_says_when(self):
        for method, path, operation in CONTRACT.operations():
            for code in {"429", "503"} & set(operation["responses"]):
                headers = CONTRACT.resolve(operation["responses"][code]).get("headers", {})
                header = CONTRACT.resolve(headers.get("Retry-After"))
                self.assertTrue(header and header.get("required"), f"{method} {path}: {code} without Retry-After")

    def test_every_problem_type_stands_in_an_answer(self):
        told = " ".join(CONTRACT.resolve(response).get("description", "") for _, _, operation in CONTRACT.operations()
                        for response in operation["responses"].values())
        slugs = CONTRACT.tree["components"]["schemas"]["ProblemSlug"]["enum"]
        self.assertEqual([], [slug for slug in slugs if f"`{slug}`" not in told])

    def test_path_parameters_are_declared(self):
        for method, path, operation in CONTRACT.operations():
            declared = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
            wanted = {part[1:-1] for part in path.split("/") if part.startswith("{")}
            self.assertEqual(wanted, declared, f"{method} {path}")

    def test_a_wrong_example_would_be_seen(self):
        with self.assertRaises(ContractError):
            CONTRACT.match({"$ref": "#/components/schemas/Lease"}, b"{}", "here")


if __name__ == "__main__":
    unittest.main()
