"""Sphinx settings; `python3 dev.py docs` builds with them."""

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
suppress_warnings = ["toc.empty_glob"]  # the index lists folders by pattern, and a folder may have no page yet

autodoc_typehints = "description"

html_theme = "furo"
html_title = f"cachescope {release}"
