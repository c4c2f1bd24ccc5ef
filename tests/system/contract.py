"""Holds every answer of the system tests against openapi.yaml: status, media type, and the body by its schema.

Reads the part of YAML that the file uses (block and flow collections, plain and quoted scalars, literal text) and the
part of JSON Schema that it uses; anything else is an error rather than overlooked.
"""

import json
import re

# What any operation may answer without listing it: the HTTP layer's own problems.
GENERAL = {400, 401, 403, 404, 405, 406, 408, 413, 414, 415, 421, 422, 429, 431, 500, 503}
ANNOTATIONS = {"description", "default", "writeOnly", "readOnly", "examples", "title", "format", "deprecated"}
KEY = re.compile(r"('[^']*'|\"[^\"]*\"|[^{\['\"].*?):(?:\s+(.*))?$")


class ContractError(AssertionError):
    """An answer that the contract does not know."""


def scalar(text):
    """The value of one scalar."""
    if text[:1] == "'":
        return text[1:-1].replace("''", "'")
    if text[:1] == '"':
        return json.loads(text)
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    if re.fullmatch(r"-?\d+\.\d+", text):
        return float(text)
    return {"true": True, "false": False, "null": None, "~": None}.get(text, text)


class Flow:
    """A flow collection, `{a: [b, c]}`, in one line."""

    def __init__(self, text):
        self._text, self._at = text, 0

    def value(self):
        """Read one value."""
        self._blanks()
        first = self._text[self._at]
        if first == "{":
            return dict(self._members("}", self._pair))
        if first == "[":
            return list(self._members("]", self.value))
        return scalar(self._word(r"'(?:[^']|'')*'|\"(?:[^\"\\]|\\.)*\"|[^,\]}]+"))

    def _pair(self):
        key = scalar(self._word(r"'[^']*'|\"[^\"]*\"|[^:,{}\[\]]+"))
        self._blanks()
        if self._text[self._at] != ":":
            raise ValueError(f"no colon after {key}: {self._text}")
        self._at += 1
        return key, self.value()

    def _members(self, end, read):
        self._at += 1
        self._blanks()
        while self._text[self._at] != end:
            yield read()
            self._blanks()
            if self._text[self._at] == ",":
                self._at += 1
                self._blanks()
        self._at += 1

    def _word(self, pattern):
        self._blanks()
        found = re.compile(pattern).match(self._text, self._at)
        self._at = found.end()
        return found.group().strip()

    def _blanks(self):
        while self._text[self._at] == " ":
            self._at += 1


class Block:
    """A YAML document of block collections."""

    def __init__(self, text):
        self._lines, self._at = text.split("\n"), 0

    def _peek(self):
        """(indent, text) of the next line that says something, None at the end."""
        while self._at < len(self._lines):
            line = self._lines[self._at]
            text = line.strip()
            if text and not text.startswith("#"):
                return len(line) - len(line.lstrip()), text
            self._at += 1
        return None

    def value(self, least=0):
        """The collection that begins at the next line, if that is indented by @least."""
        line = self._peek()
        if line is None or line[0] < least:
            return None
        return self._list(line[0]) if line[1].startswith("- ") else self._map(line[0])

    def _map(self, indent):
        result = {}
        while (line := self._peek()) and line[0] == indent and not line[1].startswith("- "):
            found = KEY.fullmatch(line[1])
            if not found:
                raise ValueError(f"line {self._at + 1}: {line[1]}")
            self._at += 1
            result[scalar(found.group(1))] = self._rest(found.group(2) or "", indent)
        return result

    def _list(self, indent):
        result = []
        while (line := self._peek()) and line[0] == indent and line[1].startswith("- "):
            rest = line[1][2:].strip()
            if rest[0] not in "{['\"" and KEY.fullmatch(rest):
                self._lines[self._at] = " " * (indent + 2) + rest
                result.append(self._map(indent + 2))
            else:
                self._at += 1
                result.append(self._rest(rest, indent))
        return result

    def _rest(self, text, indent):
        """What stands after `key:` or `-`."""
        if text == "":
            line = self._peek()
            return self.value(indent if line and line[1].startswith("- ") else indent + 1)
        if text == "|":
            return self._literal(indent)
        return Flow(text).value() if text[0] in "{[" else scalar(text)

    def _literal(self, indent):
        words = []
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if line.strip() and len(line) - len(line.lstrip()) <= indent:
                break
            words.append(line.strip())
            self._at += 1
        return "\n".join(words)


def is_type(value, name):
    """Whether a JSON value has this type of JSON Schema."""
    if name in ("integer", "number"):
        return isinstance(value, int if name == "integer" else (int, float)) and not isinstance(value, bool)
    return isinstance(value, {"string": str, "boolean": bool, "null": type(None), "object": dict, "array": list}[name])


class Contract:
    """openapi.yaml, read."""

    def __init__(self, path):
        self._tree = Block(path.read_text(encoding="utf-8")).value()

    def _resolve(self, node):
        while isinstance(node, dict) and "$ref" in node:
            target = self._tree
            for name in node["$ref"].removeprefix("#/").split("/"):
                target = target[name]
            node = target
        return node

    def operation(self, method, path):
        """The operation that a request means: None for an unknown path, {} for an unknown method."""
        segments = path.partition("?")[0].split("/")
        best = None
        for template, item in self._tree["paths"].items():
            parts = template.split("/")
            fits = len(parts) == len(segments) and all(
                part == segment or (part.startswith("{") and segment) for part, segment in zip(parts, segments))
            if fits and (best is None or "{" not in template):
                best = item
        return None if best is None else best.get("get" if method == "HEAD" else method.lower(), {})

    def check(self, method, path, status, media_type, body):
        """Raise ContractError unless this may be an answer to that."""
        operation = self.operation(method, path)
        documented = (operation or {}).get("responses", {})
        response = self._resolve(documented.get(str(status)))
        what = f"{method} {path}: {status}"
        if response is None:
            if status not in GENERAL and not (method == "OPTIONS" and status == 204):
                raise ContractError(f"{what} is not in openapi.yaml")
            response = self._tree["components"]["responses"]["Problem"] if status >= 400 else {}
        content = response.get("content", {})
        if method == "HEAD" or not content:
            if body:
                raise ContractError(f"{what} has a body")
            return
        if media_type not in content:
            raise ContractError(f"{what} with {media_type}, not {list(content)}: {body[:200]!r}")
        if media_type.endswith("json"):
            value = json.loads(body)
            self.match(content[media_type]["schema"], value, what)
            if status >= 400 and value["status"] != status:
                raise ContractError(f"{what}, but the document says {value['status']}")

    def match(self, schema, value, where):
        """Raise ContractError unless @value is valid by @schema."""
        schema = self._resolve(schema)
        for keyword, argument in schema.items():
            if keyword not in ANNOTATIONS:
                getattr(self, "_" + keyword)(schema, argument, value, where)

    def _fits(self, schema, value):
        try:
            self.match(schema, value, "")
            return True
        except ContractError:
            return False

    @staticmethod
    def _require(condition, where, text):
        if not condition:
            raise ContractError(f"{where}: {text}")

    # One method a keyword. Those about another type than the value's say nothing.

    def _type(self, _, names, value, where):
        names = names if isinstance(names, list) else [names]
        self._require(any(is_type(value, name) for name in names), where, f"{value!r} is not {names}")

    def _enum(self, _, choices, value, where):
        self._require(value in choices, where, f"{value!r} is not one of {choices}")

    def _const(self, _, wanted, value, where):
        self._require(value == wanted, where, f"{value!r} is not {wanted!r}")

    def _pattern(self, _, pattern, value, where):
        self._require(not isinstance(value, str) or re.search(pattern, value), where, f"{value!r} is not {pattern}")

    def _minimum(self, _, least, value, where):
        self._require(not is_type(value, "number") or value >= least, where, f"{value} is below {least}")

    def _maximum(self, _, most, value, where):
        self._require(not is_type(value, "number") or value <= most, where, f"{value} is above {most}")

    def _minLength(self, _, least, value, where):
        self._require(not isinstance(value, str) or len(value) >= least, where, f"{value!r} is too short")

    def _maxLength(self, _, most, value, where):
        self._require(not isinstance(value, str) or len(value) <= most, where, f"{value!r} is too long")

    def _minItems(self, _, least, value, where):
        self._require(not isinstance(value, list) or len(value) >= least, where, "too few items")

    def _maxItems(self, _, most, value, where):
        self._require(not isinstance(value, list) or len(value) <= most, where, "too many items")

    def _maxProperties(self, _, most, value, where):
        self._require(not isinstance(value, dict) or len(value) <= most, where, "too many members")

    def _items(self, _, schema, value, where):
        for number, item in enumerate(value if isinstance(value, list) else []):
            self.match(schema, item, f"{where}/{number}")

    def _required(self, _, names, value, where):
        missing = [name for name in names if name not in value] if isinstance(value, dict) else []
        self._require(not missing, where, f"{missing} missing")

    def _properties(self, _, schemas, value, where):
        for name in set(schemas) & set(value) if isinstance(value, dict) else ():
            self.match(schemas[name], value[name], f"{where}/{name}")

    def _additionalProperties(self, schema, allowed, value, where):
        extra = set(value) - set(schema.get("properties", {})) if isinstance(value, dict) else set()
        for name in extra:
            self._require(allowed is not False, where, f"{name} is not in the contract")
            if isinstance(allowed, dict):
                self.match(allowed, value[name], f"{where}/{name}")

    def _propertyNames(self, _, schema, value, where):
        for name in value if isinstance(value, dict) else ():
            self.match(schema, name, where)

    def _oneOf(self, _, schemas, value, where):
        self._require(sum(self._fits(schema, value) for schema in schemas) == 1, where, f"{value!r} fits not just one")

    def _not(self, _, schema, value, where):
        self._require(not self._fits(schema, value), where, f"{value!r} is forbidden")
