"""How the site is built: `make docs`."""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "fedhq"
author = "the authors of fedhq"
release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
copyright = author

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "mathml",
    "public_names",
    "command_help",
]
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3

nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!fedhq\b).*")]  # other projects: no network, no inventories
default_role = "public"  # of docstrings: `name` links where it is public, else it is code
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_type_aliases = {  # else written out, in ten lines
    "ArrayLike": "ArrayLike",
    "FloatArray": "NDArray[float64]",
    "IntArray": "NDArray[int64]",
    "BoolArray": "NDArray[bool]",
    "Weights": "dict[str, NDArray[float32]]",
}
autodoc_class_signature = "mixed"
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_rtype = False
add_module_names = False

html_theme = "furo"
html_title = "fedhq"
html_static_path = ["_static"]
html_css_files = ["fedhq.css"]
html_show_sphinx = False
html_copy_source = False
html_math_renderer = "mathml"
html_theme_options = {"navigation_with_keys": False}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
pygments_style = "friendly"
pygments_dark_style = "github-dark"
