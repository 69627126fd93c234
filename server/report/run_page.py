"""The page about one run."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from common.config import defaults
from server.report.page import render
from server.report.reading import Row, Run
from server.report.scales import thin
from server.report.words import STOPPED, degrees, is_certified, number, proved

MOST_ROWS = 1000
COLUMNS = (
    "round", "loss", "errors", "margin", "margin_bound", "certified_angle_deg", "true_angle_deg",
    "reference_distance", "test_accuracy", "test_r2", "weight_norm", "turn_deg", "drift_deg", "clients",
)  # fmt: skip
"""Of the rounds as text; those that a run has nothing in are left out."""


def page(run: Run, figures: Mapping[str, str]) -> str:
    """Return the page about a run, with pictures, each with the words to put below it."""
    strategy, solver, dataset = (run.config[key] for key in ("strategy", "solver", "dataset"))
    where = run.config["data-dir"] or "the clients' own files" if dataset == "file" else dataset
    return render(
        BODY,
        title=f"{strategy} with {solver} on {where}",
        directory=run.path.resolve().name,
        stopped=STOPPED.get(run.stopped_by, run.stopped_by),
        ended_well=run.stopped_by in ("rounds", "certified-angle"),
        sentences=proved(run),
        certified=is_certified(run),
        facts=facts(run),
        figures=figures,
        phases=phases(run),
        clients=clients(run),
        chosen=settings(run, usual=False),
        usual=settings(run, usual=True),
        versions=run.summary.get("versions", {}),
        handshake=run.handshake,
        rounds=len(run.rows),
        text=(text := as_text(run)),
        shown=text.count("\n"),
        number=number,
        degrees=degrees,
    )


def facts(run: Run) -> dict[str, str]:
    """Return the numbers to see first, by name."""
    found = {"rounds": str(run.rows[-1]["round"]) if run.rows else "0"}
    if run.rows:
        last = run.rows[-1]
        sent = sum(row["bytes"]["received"] / max(row["clients"], 1) for row in run.rows) / 1e6
        score = last.get("test_accuracy")
        found |= {
            "certified": degrees(last["certified_angle_deg"]) if is_certified(run) else "–",
            "true angle": degrees(last["true_angle_deg"]),
            "margin": number(last["margin"]),
            "bound": number(last["margin_bound"]),
            "loss": number(last["loss"]),
            "errors": "–" if last["errors"] is None else str(last["errors"]),
            "held-out accuracy": "–" if score is None else f"{100 * score:.1f}%",
            "held-out R²": number(last.get("test_r2")),
            "MB sent by a client": f"{sent:.3g}",
        }
    found["seconds"] = number(run.summary.get("seconds"), 3)
    return {name: value for name, value in found.items() if value != "–"}


def phases(run: Run) -> list[tuple[str, float, float]]:
    """Return where the seconds went: what for, how many, which share of all."""
    total, answering, combining = (
        sum(row["seconds"][key] for row in run.rows) for key in ("total", "clients", "combine")
    )
    whole = max(float(run.summary.get("seconds", total)), total)
    spent = {
        "clients: messages, local solves, replies": answering,
        "combining their solutions": combining,
        "choosing centres, packing, checking": max(total - answering - combining, 0.0),
        "between rounds: log, checkpoints, last evaluation": whole - total,
    }
    return [(what, seconds, seconds / whole) for what, seconds in spent.items()] if whole else []


def clients(run: Run) -> list[Mapping[str, Any]]:
    """Return what is known of each client, and how many rounds it was missing in."""
    absent = Counter(name for row in run.rows for name in {*row["missing"], *row.get("without", ())})
    drifts, refused = run.drifts(), run.summary.get("refused", {})
    return [
        {
            **client,
            "missing": absent[name],
            "refused": refused.get(name, 0),
            "drift": drifts[name][-1] if name in drifts else None,
        }
        for client in run.handshake.get("clients", ())
        for name in (client["name"],)
    ]


def settings(run: Run, usual: bool) -> list[tuple[str, object]]:
    """Return the keys of the configuration that are as by default, or the others, with their values."""
    known = defaults()
    return [(key, value) for key, value in run.config.items() if (value == known.get(key)) == usual]


def as_text(run: Run) -> str:
    """Return the rounds as a table with tabs, ready for a spreadsheet; of very many, some."""
    names = [name for name in COLUMNS if run.known(name)]
    rounds = run.column("round")
    kept = [run.rows[k] for k in thin(rounds, MOST_ROWS, log=True)] if rounds else []
    return "\n".join(["\t".join(names), *("\t".join(_cells(row, names)) for row in kept)])


def _cells(row: Row, names: Sequence[str]) -> list[str]:
    values = [row.get(name) for name in names]
    return ["" if v is None else f"{v:.6g}" if isinstance(v, float) else str(v) for v in values]


BODY = """\
{% extends "base" %}
{% macro table(pairs) %}
<table>
{% for key, value in pairs %}
<tr><td><code>{{ key }}</code></td><td class="words">{{ value }}</td></tr>
{% endfor %}
</table>
{% endmacro %}
{% block content %}
<p class="quiet">localgd · <code>{{ directory }}</code></p>
<h1>{{ title }}</h1>
<p><span class="badge {{ 'good' if ended_well else 'bad' }}">{{ stopped }}</span></p>
<section class="proof{{ '' if certified else ' none' }}" aria-label="What is proved">
{% for sentence in sentences %}
<p>{{ sentence }}</p>
{% endfor %}
{% if certified %}
<p class="quiet">A proof rests on clients that report their margins and sums truthfully.
Rounding is counted in.</p>
{% endif %}
</section>
<dl class="facts">
{% for name, value in facts.items() %}
<div><dt>{{ name }}</dt><dd>{{ value }}</dd></div>
{% endfor %}
</dl>
{% if figures %}
<h2>Round by round</h2>
<div class="figures">
{% for picture, note in figures.items() %}
{{ figure(picture, note) }}
{% endfor %}
</div>
{% endif %}
{% if phases %}
<h2>Where the seconds went</h2>
<div class="wide"><table>
<tr><th>what for</th><th class="n">seconds</th><th class="n">share</th><th></th></tr>
{% for what, seconds, share in phases %}
<tr><td class="words">{{ what }}</td><td class="n">{{ number(seconds, 3) }}</td>
<td class="n">{{ "%.1f" | format(100 * share) }}%</td>
<td class="bar"><i style="width:{{ "%.1f" | format(100 * share) }}%"></i></td></tr>
{% endfor %}
</table></div>
{% endif %}
{% if clients %}
<h2>Clients</h2>
<p class="quiet">Missing in: rounds whose model a client did not measure, or that was made without its answer.
Refused: answers that it cannot have computed from its rows.</p>
<div class="wide"><table>
<tr><th>client</th><th class="n">examples</th><th class="n">largest row</th><th class="n">β</th>
<th class="n">last drift</th><th class="n">missing in</th><th class="n">refused</th><th>fingerprint</th></tr>
{% for client in clients %}
<tr><td class="words">{{ client.name }}</td><td class="n">{{ client.count }}</td>
<td class="n">{{ number(client.max_norm) }}</td><td class="n">{{ number(client.beta) }}</td>
<td class="n">{{ degrees(client.drift) }}</td><td class="n">{{ client.missing }}</td>
<td class="n">{{ client.refused }}</td>
<td><code>{{ client.fingerprint }}</code></td></tr>
{% endfor %}
</table></div>
{% endif %}
<div class="columns">
<section>
<h2>Configuration</h2>
{{ table(chosen) }}
<details><summary>{{ usual | length }} keys as they are by default</summary>
{{ table(usual) }}
</details>
</section>
<section>
{% if handshake %}
<h2>Agreed before round 1</h2>
<table>
<tr><td>classes</td><td class="words">{{ handshake.classes | join(", ") }}</td></tr>
<tr><td>columns</td><td>{{ handshake.dimension }}{{ ", one of them 1" if handshake.intercept else "" }}
</td></tr>
<tr><td>largest row norm</td><td>{{ number(handshake.norm) }}</td></tr>
<tr><td>smoothness β</td><td>{{ number(handshake.beta) }}</td></tr>
<tr><td>learning rate η</td><td>{{ number(handshake.learning_rate) }}</td></tr>
<tr><td>regularization λ</td><td>{{ number(handshake.regularization) }}</td></tr>
</table>
{% endif %}
{% if versions %}
<h2>Versions</h2>
<table>
{% for package, version in versions.items() %}
<tr><td>{{ package }}</td><td>{{ version }}</td></tr>
{% endfor %}
</table>
{% endif %}
</section>
</div>
{% if rounds %}
<h2>Rounds as text</h2>
<details><summary>{{ shown }} of {{ rounds }} rounds; a click marks them all for copying</summary>
<pre tabindex="0">{{ text }}</pre></details>
<p class="quiet">All rounds with all digits are in <code>rounds.jsonl</code>,
the pictures in <code>plots</code>.</p>
{% endif %}
{% endblock %}
"""
