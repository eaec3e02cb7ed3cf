"""What the page runs in a reader's browser: Vega and DataTables as their packages carry them, and what starts them.

Nothing is fetched: `vl-convert-python` brings Vega, Vega-Lite and Vega-Embed, `itables` brings DataTables.
"""

from __future__ import annotations

import functools
from importlib import metadata, resources

import vl_convert

NAMES = ("assets/vega.js", "assets/tables.js", "assets/tables.css", "assets/page.js")
GLOBALS = "window.vegaEmbed = vegaEmbed;"
VEGA_NOTICE = """/*! Vega, Vega-Lite and Vega-Embed, as bundled by vl-convert {version}.
Copyright (c) 2015-2026, University of Washington Interactive Data Lab and contributors. BSD-3-Clause:
https://github.com/vega/vega/blob/main/LICENSE */
"""
TABLES_NOTICE = """/*! DataTables and its extensions, as bundled by itables {version}; jQuery. MIT: https://datatables.net/license/mit
Copyright notices of each part stand at the end. */
"""


@functools.cache
def assets() -> dict[str, bytes]:
    """Scripts and styles by file name below the board's folder; the packages' versions decide their bytes."""
    tables = metadata.version("itables")
    files = {
        "assets/vega.js": VEGA_NOTICE.format(version=metadata.version("vl-convert-python"))
        + vl_convert.javascript_bundle(GLOBALS),
        "assets/tables.js": TABLES_NOTICE.format(version=tables) + as_script(_of_itables("dt_bundle.js")),
        "assets/tables.css": TABLES_NOTICE.format(version=tables) + _of_itables("dt_bundle.css"),
        "assets/page.js": resources.files("leaderboard").joinpath("templates/page.js").read_text(encoding="utf-8"),
    }
    return {name: text.encode() for name, text in files.items()}


def as_script(module: str) -> str:
    """Turn the ES module of itables into a classic script, which sets ``window.jQuery``.

    A browser loads no module from a page that lies on disk.

    Raises
    ------
    ValueError
        If the module does not export jQuery as it does in the versions that are known.
    """
    code, mark, rest = module.rpartition("export{")
    names, closing, notices = rest.partition("};")
    exported: dict[str, str] = {}
    for pair in names.split(","):
        own, _, called = pair.partition(" as ")
        exported[called] = own
    if not mark or not closing or "jQuery" not in exported:
        raise ValueError("itables' bundle does not end in an export of jQuery")
    return f"(()=>{{{code}\nwindow.jQuery={exported['jQuery']};}})();\n{notices.lstrip()}"


def _of_itables(name: str) -> str:
    return resources.files("itables").joinpath("html", name).read_text(encoding="utf-8")
