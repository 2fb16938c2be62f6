"""The documentation: ``sphinx-build -W --keep-going -b html docs docs/_build/html`` (extra: docs).

``SDSCM_DOCS_EXECUTE=off`` leaves the notebooks of the tour unexecuted.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import version as installed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "sdscm-jax"
author = "the sdscm-jax contributors"
version = release = installed("sdscm-jax")
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "commands",
    "docstrings",
    "notebook_forms",
    "pictures_back",
    "repository_links",
]
# What the tour's notebooks write, and Sphinx itself.
exclude_patterns = ["_build", "extensions", "tour/run", "tour/pictures", "**/.ipynb_checkpoints", "**/README.md"]

# Pages. Notebooks are the pages of tour/, which say so in their first lines; all others are plain Markdown.
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "off" if os.environ.get("SDSCM_DOCS_EXECUTE") == "off" else "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_output_stderr = "remove"
# The pages print shell sessions and tables of tokens in blocks without a language.
highlight_language = "text"

# The reference.
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
add_module_names = False
# Every name that a page or a docstring refers to is there. What other libraries call their types is not looked up (that
# would need the network), and rooms that the reference does not show have no page.
nitpicky = True
nitpick_ignore_regex = [
    ("py:class", r"(np|numpy|pd|pandas|jax|pa|pyarrow|optax|flax|nx|networkx|xr|xarray|matplotlib|numpyro)\..*"),
    ("py:class", r"(collections\.abc|pathlib)\..*"),
    ("py:class", r"Array|Figure|Path|Adapter|OnStep|Template|sdscm_jax\.extend\.C"),
    ("py:class", r"sdscm_jax\.(dsl|models|effects|engine|families|bench|audit)\..*"),
]
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"sdscm-jax {version}"
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["phone.css"]
copybutton_exclude = ".linenos, .gp, .go"
