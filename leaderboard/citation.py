"""How to cite the board and the paper it grew out of, in BibTeX."""

from __future__ import annotations

from importlib import metadata

BIBTEX = """@software{{gendiv,
  title   = {{{{GenDiv}}: language models on the generalisation--diversity plane}},
  author  = {{{{The GenDiv developers}}}},
  version = {{{version}}},
  license = {{Apache-2.0}}
}}

@inproceedings{{kirk2024understanding,
  title     = {{Understanding the Effects of {{RLHF}} on {{LLM}} Generalisation and Diversity}},
  author    = {{Kirk, Robert and Mediratta, Ishita and Nalmpantis, Christoforos and Luketina, Jelena and Hambro, Eric
               and Grefenstette, Edward and Raileanu, Roberta}},
  booktitle = {{International Conference on Learning Representations}},
  year      = {{2024}},
  eprint    = {{2310.06452}},
  archivePrefix = {{arXiv}}
}}
"""


def bibtex() -> str:
    """Two entries: this software in its installed version, and the paper."""
    return BIBTEX.format(version=metadata.version("gendiv"))
