"""53 families (JSON, TOML) and audits (YAML) that are built to run code, hang, fill the memory or be believed."""

from __future__ import annotations

import json

from sdscm_jax.audit import audit_spec
from sdscm_jax.families import family

_DEEP = 100_000


def _json() -> dict[str, bytes]:
    whole = family("school").to_json()
    content = json.loads(whole)
    first, *rest = content["variables"]

    def changed(**how: object) -> bytes:
        return json.dumps(content | how).encode()

    return {
        "deep list": b"[" * _DEEP + b"]" * _DEEP,
        "deep mapping": b'{"a":' * _DEEP + b"1" + b"}" * _DEEP,
        "deep, never closed": b"[" * _DEEP,
        "integer of 5,000 digits": whole.replace("{", '{"outcome": ' + "9" * 5000 + ", ", 1).encode(),
        "float of 5,000 digits": whole.replace("{", '{"outcome": ' + "9" * 5000 + ".5, ", 1).encode(),
        "infinite": whole.replace("{", '{"outcome": 1e999, ', 1).encode(),
        "NaN": whole.replace("{", '{"outcome": NaN, ', 1).encode(),
        "a key twice": whole.replace("{", '{"outcome": "a", "outcome": "b", ', 1).encode(),
        "a variable twice": changed(variables=[*content["variables"], first]),
        "no variables": changed(variables=[]),
        "variables are a mapping": changed(variables={"a": 1}),
        "10,000 variables": changed(variables=[{**first, "name": f"v{i}"} for i in range(10_000)]),
        "one of its own parents": changed(variables=[{**first, "parents": [first["name"]]}, *rest]),
        "200,000 options": changed(variables=[{**first, "options": [f"o{i}" for i in range(200_000)]}]),
        "an option of 10 MB": changed(variables=[{**first, "options": ["a", "b" * 10_000_000]}, *rest]),
        "lone surrogate": whole.replace("{", '{"description": "\\ud800", ', 1).encode(),
        "control characters": changed(name="\x00\x1b]0;owned\x07", description="\x1b[2J"),
        "format strings": changed(description="{0.__class__.__init__.__globals__} %(x)s ${HOME}"),
        "a template of 100,000 blanks": json.dumps(content).replace("{}", "{}" * 100_000, 1).encode(),
        "a template that formats": json.dumps(content).replace("{}", "{0.__class__}", 1).encode(),
        "no UTF-8": b"\xff\xfe" + whole.encode("utf-16-le"),
        "a mark before it": b"\xef\xbb\xbf" + whole.encode(),
        "empty": b"",
        "a number": b"7",
        "NUL": b"\x00" * 100,
        "Python": b"__import__('os').system('touch PWNED')",
        "a pickle": b"cos\nsystem\n(S'touch PWNED'\ntR.",
        "a class to be made": changed(__class__="os.system", __reduce__=["touch PWNED"]),
    }  # fmt: skip


def _toml() -> dict[str, bytes]:
    return {
        "deep array": b"a = " + b"[" * _DEEP + b"]" * _DEEP,
        "deep tables": b"a = " + b"{a = " * _DEEP + b"1" + b"}" * _DEEP,
        "deep dotted key": b".".join([b"a"] * _DEEP) + b" = 1",
        "integer of 5,000 digits": b"a = " + b"9" * 5000,
        "a key twice": b"a = 1\na = 2",
        "NaN": b"name = nan\nvariables = inf",
        "an impossible date": b"name = 2024-99-99",
        "never closed": b'name = """' + b"a" * 1_000_000,
    }


def _yaml() -> dict[str, bytes]:
    whole = audit_spec("hiring").to_yaml()
    laughs = "\n".join(
        [
            f"a0: &a0 [{', '.join(['lol'] * 9)}]",
            *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)),
        ]
    )
    merges = "\n".join(
        ["m0: &m0 {a: 1}", *(f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 9)}]}}" for i in range(1, 12))]
    )
    tags = {
        "python/object/apply": "!!python/object/apply:os.system ['touch PWNED']",
        "python/object/new": "!!python/object/new:os.system ['touch PWNED']",
        "python/name": "!!python/name:os.system",
        "python/module": "!!python/module:os",
        "python/object": "!!python/object:subprocess.Popen {args: touch PWNED}",
        "another tag": "!include /etc/passwd",
        "binary": "!!binary gANjb3MKc3lzdGVtCg==",
    }
    found = {f"tag {name}": f"title: {tag}\n{whole.replace('title:', 'source:', 1)}" for name, tag in tags.items()}
    found |= {
        "a billion laughs": laughs + "\n" + whole,
        "laughs as the variables": laughs + "\nvariables: *a11\n",
        "a bomb of merges": merges + "\nvariables: *m11\n",
        "itself": "&a [*a]",
        "itself as a key": "? &a {*a : 1}\n: 2",
        "deep list": "[" * _DEEP + "]" * _DEEP,
        "deep blocks": "\n".join(f"{' ' * i}a:" for i in range(3000)),
        "integer of 5,000 digits": whole + "\nlicence: " + "9" * 5000,
        "sexagesimal": whole + "\nlicence: " + ":".join(["59"] * 20_000),
        "a key twice": whole + "\nname: again\n",
    }  # fmt: skip
    return {name: text.encode() for name, text in found.items()}


def specifications() -> dict[str, bytes]:
    """Content by the name of a file, whose ending says which kind it is."""
    kinds = {"json": _json(), "toml": _toml(), "yaml": _yaml()}
    return {f"{name.replace('/', '∕')}.{kind}": made for kind, all_ in kinds.items() for name, made in all_.items()}
