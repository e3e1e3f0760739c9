"""Templates that try to take all time or memory there is, and what they read; tests and the benchmark share them."""

from __future__ import annotations

LONG = "a" * 16_000
VALUES = {
    "y": LONG,
    "z": "a" * 7_999 + "b",
    "d": {f"k{number}": "v" * 100 for number in range(500)},
    "a": list(range(400)),
    "b": list(range(400)),
}
_HUNDRED = "{% for i in (1..100) %}"
_THOUSAND = "{% for i in (1..1000) %}"
_END = "{% endfor %}"
_NUMBERS = ",".join(map(str, range(400)))

HOSTILE = {
    "loop": "{% for i in (1..100000000) %}x{% endfor %}",
    "loops_in_loops": _HUNDRED * 5 + "x" + _END * 5,
    "small_loops": "{% for i in (1..60) %}{% for j in (1..60) %}{{i}}{% endfor %}{% endfor %}",
    "doubling": "{% assign x = 'ab' %}" + _HUNDRED + "{% assign x = x | append: x %}" + _END + "{{x}}",
    "replace": "{% assign x = '" + "a" * 1000 + "' %}{% assign y = x | replace: 'a', x %}{{ y | replace: 'a', y }}",
    "replace_nothing": "{{ y | replace: '', y }}",
    "capture": "{% capture x %}" + "{{y}}" * 150 + "{% endcapture %}" + _HUNDRED + "{{x}}" + _END,
    "join_range": "{{ (1..100000000) | join: ',' }}",
    "assign_range": "{% assign x = (1..100000000) %}{{ x | size }}",
    "join_long": "{{ a | join: y }}",
    "numbers": "{% assign x = 9999999999 %}" + _HUNDRED + "{% assign x = x | times: x %}" + _END + "{{x}}",
    "digits": "{% assign x = '" + "9" * 1900 + "' %}{{ x | times: x }}",
    "divide": "{{ 1 | divided_by: 0 }}",
    "date_width": "{{ 'now' | date: '%100000000d' }}",
    "date_form": "{{ 'now' | date: y }}",
    "html": "{{ y | replace: 'a', '<' | strip_html }}",
    "filters": "{{ y " + "| upcase | escape " * 50 + "}}",
    "encodings": "{{ y " + "| base64_encode " * 50 + "}}",
    "uniq": "{% assign a = y | split: '' %}{{ a | uniq }}",
    "uniq_often": f"{{% assign q = '{_NUMBERS}' | split: ',' %}}{_HUNDRED}{{% assign r = q | uniq %}}{_END}",
    "sort_often": f"{{% assign q = '{_NUMBERS}' | split: ',' %}}{_THOUSAND}{{% assign r = q | sort %}}{_END}",
    "contains": "{% for i in (1..900) %}{% if y contains z %}x{% endif %}{% endfor %}",
    "concat": "{% assign q = y | split: 'zz' %}" + _HUNDRED + "{% assign q = q | concat: q %}" + _END + "{{ q }}",
    "conditions": "{% if " + " or ".join(["a"] * 500) + " %}x{% endif %}",
    "brackets": "{{ " + "a[" * 500 + "b" + "]" * 500 + " }}",
    "names": "".join(f"{{% assign v{number} = y %}}" for number in range(150)),
    "cases": _THOUSAND + "{% case y %}" + "".join(f"{{% when 'a{n}' %}}x" for n in range(20)) + "{% endcase %}" + _END,
    "case_of_many": "{% for i in (1..600) %}{% case y %}{% when " + ",".join(["z"] * 400) + " %}{% endcase %}" + _END,
    "output": _THOUSAND + "{{y}}" + _END,
    "objects": _THOUSAND + "{{d}}" + _END,
    "unclosed": "{{" + " " * 60_000 + "x",
    "blanks": "{{ a" + " " * 1_900 + "}}",
    "blanks_often": ("{{" + " " * 64 + "}}") * 190,
    "pieces": "{{ a }}" * 5_000,
    "openings": "{{ " * 30_000,
    "raws": "{% raw %}" * 190,
    "comments": "{% comment %}" * 190,
    "blocks": "{% if a %}" * 190,
    "percents": "{%" * 20_000 + "%}",
    "backslashes": "{{ '" + "\\" * 1_900 + "' }}",
    "long_filters": "{{ a | default: 'b' | upcase | truncate: 10 }}" * 190,
    "long_range": _THOUSAND + "{{ (1..9999999999999999999) }}" + _END,
    "words": _HUNDRED + "{{ y | truncatewords: 3 }}" + _END,
    "entities": _HUNDRED + "{% assign q = y | escape_once %}" + _END,
    "include": "{% include 'a' %}",
    "render": "{% render 'a' %}",
    "too_long": "a" * 70_000 + "{{ a }}",
}
