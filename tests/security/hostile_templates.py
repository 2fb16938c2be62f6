"""Chat templates that never end, or fill the memory, each in another way. Every one of them is a valid template."""

from __future__ import annotations

_DOUBLED = "{% set ns = namespace(t=START) %}{% for a in range(60) %}{% set ns.t = NEXT %}{% endfor %}"
_LISTS = _DOUBLED.replace("START", "[1]").replace("NEXT", "[ns.t, ns.t]")
_LOOP = "{% for a in range(99999) %}BODY{% endfor %}"


def nested(body: str, depth: int = 3) -> str:
    return _LOOP.replace("BODY", nested(body, depth - 1)) if depth else body


HOSTILE = {
    "loops in loops": nested("x"),
    "loops that write nothing": nested(""),
    "a loop whose test never holds": "{% for a in range(99999) if (range(99999) | sum) < 0 %}x{% endfor %}",
    "many letters": "{{ 'x' * 10000000000 }}",
    "many items": "{{ ([0] * 10000000000) | length }}",
    "a text that doubles": _DOUBLED.replace("START", "'xy'").replace("NEXT", "ns.t ~ ns.t") + "{{ ns.t }}",
    "a list that doubles": _LISTS + "{{ ns.t }}",
    "a list that doubles as JSON": _LISTS + "{{ ns.t | tojson }}",
    "a great power": "{{ (10 ** 1000000000) % 7 }}",
    "powers of powers": "{{ (9 ** (9 ** (9 ** 9))) > 1 }}",
    "a wide field": "{{ '%9999999999d' % 1 }}",
    "a wide format": "{{ '{:>9999999999}'.format('x') }}",
    "centred": "{{ 'x' | center(9999999999) }}",
    "filled": "{{ 'x'.zfill(9999999999) }}",
    "tabs": "{{ ('\t' * 1000).expandtabs(99999999) }}",
    "replaced": "{% set t = 'x' * 100000 %}{{ t.replace('x', t).replace('x', t) }}",
    "joined": "{% set t = 'x' * 100000 %}{{ range(99999) | join(t) }}",
    "indented": "{% set t = 'a\n' * 100000 %}{{ t | indent(1000000) }}",
    "batched": "{{ [1] | batch(9999999999, 0) | list | length }}",
    "sliced": "{{ [1] | slice(9999999999) | list | length }}",
    "rounded": "{{ 1.5 | round(999999999, 'ceil') }}",
    "JSON far to the right": "{{ [[[1]]] | tojson(indent=9999999999) }}",
    "filler text": "{{ lipsum(n=999999999) }}",
    "macros": (
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}"
    ),
    "a loop that calls itself": (
        "{% for a in range(99999) recursive %}{% if loop.depth < 40 %}{{ loop(range(99999)) }}{% endif %}{% endfor %}"
    ),
    "sums of lists": "{{ ([[0]] * 99999) | sum(start=[]) | length }}" * 9,
    "filters without end": nested("{{ range(99999) | map('string') | join }}", 2),
}  # fmt: skip
HOSTILE["nested lists"] = "{{ " + "[" * 99999 + "]" * 99999 + " }}"
HOSTILE["nested conditions"] = "{% if true %}" * 9999 + "{% endif %}" * 9999
HOSTILE["a macro that calls itself"] = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"
HOSTILE["the object's classes"] = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
HOSTILE["attributes by a filter"] = "{{ ('' | attr('__class__')).__mro__ }}"
HOSTILE["another file"] = "{% include '/etc/passwd' %}"
HOSTILE["a module"] = "{% import 'os' as os %}{{ os.system('true') }}"
