"""The paper, reproduced and questioned: ``python -m examples.paper``, or ``make reproduce``.

Each study is a file of keys, ``NAME.toml``, and a module ``NAME.py`` that reads its runs: ``find`` returns
the numbers and tables of the document, ``draw`` its figures.  What has been run is kept in
``results/NAME.jsonl``, what was found in ``results/NAME.json``; ``docs/reproduction.md`` is ``template.md``
filled with the latter.
"""

STUDIES = (
    "direction",
    "learning_rate",
    "budget",
    "heterogeneity",
    "regression",
    "noise",
    "fine_tuning",
    "beyond",
)
"""In the order of the document."""
