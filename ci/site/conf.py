"""How Sphinx builds the site (`python -m ci.site`)."""

import anynet

project = "anynet"
version = release = anynet.__version__
extensions = ["myst_parser", "ci.site.mathml"]
html_math_renderer = "mathml"
html_theme = "furo"
html_title = "anynet"
html_static_path: list[str] = []
html_css_files: list[str] = []
html_show_copyright = False
html_copy_source = False
myst_enable_extensions = ["dollarmath", "amsmath", "attrs_inline", "deflist"]
myst_heading_anchors = 4
exclude_patterns = ["_build"]
nitpicky = False
maximum_signature_line_length = 100
python_use_unqualified_type_names = True
pygments_style = "default"
