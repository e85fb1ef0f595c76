"""Sphinx settings; `python3 dev.py docs` builds with them."""

import logging
from importlib.metadata import version as installed_version

project = "cachescope"
author = "The cachescope authors"
copyright = "The cachescope authors"
release = version = installed_version("cachescope")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
autodoc_typehints = "description"

html_theme = "furo"
html_title = f"cachescope {release}"

# The index lists folders by pattern, and a folder may have no page yet. That warning is the one that
# suppress_warnings can't name: it has a subtype, but no type.
logging.getLogger("sphinx.sphinx.directives.other").addFilter(
    lambda record: getattr(record, "subtype", None) != "empty_glob"
)
