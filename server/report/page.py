"""One HTML page that needs nothing else: its style, its pictures and its numbers are in it."""

from collections.abc import Mapping
from functools import cache

from jinja2 import DictLoader, Environment, StrictUndefined, Template
from markupsafe import Markup

from server.report.palette import DARK, LIGHT


def render(body: str, **values: object) -> str:
    """Return a page made of a template, which extends ``base``; every value is escaped.

    A template can call ``figure(picture, note)``.
    """
    return _template(body).render(light=_variables(LIGHT), dark=_variables(DARK), figure=_figure, **values)


@cache
def _template(body: str) -> Template:
    environment = Environment(
        loader=DictLoader({"base": BASE}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.from_string(body)


def _variables(colours: Mapping[str, str]) -> Markup:
    return Markup(";".join(f"--{name}:{colour}" for name, colour in colours.items()))


def _figure(svg: str, note: str) -> Markup:
    """Return a picture that `draw` has drawn, with words below it."""
    caption = Markup("<figcaption>{}</figcaption>").format(note) if note else ""
    return Markup("<figure>{}{}</figure>").format(Markup(svg), caption)


BASE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="localgd">
<link rel="icon" href="data:,">
<title>{{ title }}</title>
<style>
:root{ {{- light -}} ;--card:#f6f8fa;--good:#1a7f37;--bad:#b3261e}
@media (prefers-color-scheme:dark){:root{ {{- dark -}} ;--card:#1d2127;--good:#4ac26b;--bad:#ff8a80}}
*{box-sizing:border-box}
body{margin:0 auto;padding:20px 24px 48px;max-width:1160px;background:var(--paper);color:var(--ink);
 font:15px/1.5 system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif}
h1{font-size:24px;line-height:1.25;margin:8px 0 2px;overflow-wrap:anywhere}
h2{font-size:18px;margin:34px 0 10px}
p{margin:6px 0}
.quiet{color:var(--muted)}
.badge{display:inline-block;border:1px solid;border-radius:99px;padding:1px 11px;font-size:13px}
.good{color:var(--good)} .bad{color:var(--bad)}
.proof{border-left:4px solid var(--green);background:var(--card);padding:12px 16px;margin:18px 0;
 border-radius:4px}
.proof p:first-of-type{font-size:17px}
.none{border-color:var(--muted)}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(128px,1fr));gap:10px;margin:0}
.facts div{background:var(--card);border-radius:6px;padding:8px 12px}
.facts dt{color:var(--muted);font-size:13px}
.facts dd{margin:0;font-size:19px;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(460px,100%),1fr));gap:22px}
figure{margin:0;min-width:0}
figure svg{display:block;width:100%;height:auto;max-width:680px}
figcaption{color:var(--muted);font-size:13.5px;max-width:60ch}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums}
th{text-align:left;font-weight:600}
th,td{padding:4px 14px 4px 0;border-bottom:1px solid var(--grid);vertical-align:top}
td.n,th.n{text-align:right;white-space:nowrap}
td.words{overflow-wrap:anywhere;min-width:9em}
.bar{min-width:130px;width:30vw;max-width:340px}
.bar i{display:block;height:12px;margin-top:5px;background:var(--blue);border-radius:2px;min-width:1px}
pre{background:var(--card);padding:10px 12px;overflow:auto;max-height:340px;font:12.5px/1.45 ui-monospace,
 "SF Mono",Menlo,"DejaVu Sans Mono",monospace;border-radius:6px;margin:6px 0;
 user-select:all;-webkit-user-select:all}
code{font-family:ui-monospace,"SF Mono",Menlo,"DejaVu Sans Mono",monospace;
 font-size:.92em;overflow-wrap:anywhere}
summary{cursor:pointer}
a{color:var(--blue)}
.columns{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(330px,100%),1fr));gap:0 36px}
@media (max-width:500px){body{padding:12px 14px 32px} .facts dd{font-size:17px}}
@media print{body{max-width:none} pre{max-height:none}}
</style>
</head>
<body>
{% block content %}{% endblock %}
</body>
</html>
"""
